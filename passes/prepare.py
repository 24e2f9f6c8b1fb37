"""Constants that are put into another form when the code is loaded, not while it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphmill.ir.builder import Builder, region
from graphmill.ir.graph import Op, Value
from graphmill.ir.ops.control import is_constant

MOVING = frozenset({"reshape", "transpose", "slice", "reverse", "pad"})
MOST_GROWTH = 2  # by padding

Array = np.ndarray[Any, Any]


def prepared(b: Builder, constants: Sequence[Value], body: Callable[..., Value]) -> Value:
    """What `body(builder, *constants)` makes of constants, in a `prepare`.

    So a cache entry holds none of a large array, and compiling does not touch it. Code
    generation takes `MOVING` ops, that pad with zeros behind the end, and products with a
    broadcast constant.
    """
    made: Op = b.emit("prepare", constants, regions=[region([v.type for v in constants], body)])
    return made.result


def moved_on_loading(op: Op, b: Builder) -> Value | None:
    """An op that moves the elements of a large constant, as a `prepare`; None for others."""
    if op.name not in MOVING or not is_constant(op.operands[0]):
        return None
    x, attrs = op.operands[0], op.attrs
    before, size = x.tensor.nbytes, op.result.tensor.nbytes
    assert isinstance(before, int)
    if not isinstance(size, int) or size > MOST_GROWTH * before:
        return None
    if op.name != "pad":
        return prepared(b, [x], lambda b, x: b.emit(op.name, [x], attrs).result)
    fill = op.operands[1].op
    if fill is None or fill.name != "constant" or fill.attrs["value"] != 0:
        return None
    if any((*attrs["low"], *attrs["interior"])) or min(attrs["high"]) < 0:
        return None
    kind = x.tensor.dtype
    return prepared(b, [x], lambda b, x: b.emit("pad", [x, b.constant(0, kind)], attrs).result)


def array_of(value: Value) -> Array | None:
    """The array behind a constant or a `prepare`, a view where NumPy has one; None for others."""
    op = value.op
    if op is None or op.name not in ("constant", "prepare"):
        return None
    if op.name == "constant":
        return np.asarray(op.attrs["value"])
    block = op.regions[0].block
    found = dict(zip(block.args, map(array_of, op.operands), strict=True))
    for inner in block.ops[:-1]:
        assert inner.definition.reference is not None
        given = [found[v] for v in inner.operands]
        found[inner.result] = np.asarray(inner.definition.reference(*given, **inner.attrs))
    return found[block.yielded[0]]
