"""What integers a value can be, from what it is made of: places that need no look at their bounds.

The counters of loops, sizes and sums of them stay between bounds that are dims themselves: the
places `k + 1` of a loop from `i` to `n - 1` are below `n` whatever `i` is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike, at_most
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.types import TensorType

Range = tuple[DimLike, DimLike]

MOST_ELEMENTS = 4096  # of a constant that is looked through
DEPTH = 24  # ops that are looked through
_SAME = ("broadcast", "reshape", "slice", "reverse", "transpose", "copy")


def is_inside(value: Value, room: DimLike, turns: Mapping[str, DimLike]) -> bool:
    """Whether all elements of `value` are from 0 to `room`; `turns` are the last turns of the loops
    around, outermost first."""
    found = range_of(value)
    if found is None:
        return False
    low, above = found[0], room - found[1]
    for name in reversed(list(turns)):
        low = -at_most(-low, {name: turns[name]})
        above = -at_most(-above, {name: turns[name]})
    return isinstance(low, int) and isinstance(above, int) and low >= 0 and above >= 0


def range_of(value: Value, depth: int = DEPTH) -> Range | None:
    """The least and the greatest that an element can be, if there is any."""
    type = value.type
    if not isinstance(type, TensorType) or type.dtype.kind not in "iu" or not depth:
        return None
    op = value.op
    if op is None:
        given = _given(value)
        return None if given is None else range_of(given, depth - 1)
    if op.name == "constant":
        return _of_array(op.attrs["value"])
    if op.name == "dim":
        return op.attrs["value"], op.attrs["value"]
    if op.name == "iota" and type.dtype.bits == 64:  # narrow ones wrap around
        return 0, type.shape[op.attrs["axis"]] - 1
    if op.name in _SAME:
        return range_of(op.operands[0], depth - 1)
    if op.name == "fusion":
        return range_of(op.regions[0].block.yielded[value.index], depth - 1)
    return _of_sum(op, depth) if type.dtype.name == "i64" else None


def _of_array(array: np.ndarray[Any, Any]) -> Range | None:
    if not 0 < array.size <= MOST_ELEMENTS:
        return None
    return int(array.min()), int(array.max())


def _of_sum(op: Op, depth: int) -> Range | None:
    if op.name not in ("add", "sub"):
        return None
    a, b = (range_of(operand, depth - 1) for operand in op.operands)
    if a is None or b is None:
        return None
    return (a[0] + b[0], a[1] + b[1]) if op.name == "add" else (a[0] - b[1], a[1] - b[0])


def _given(arg: Value) -> Value | None:
    """What a region's argument is bound to in every turn."""
    region = arg.owner.region if isinstance(arg.owner, Block) else None
    owner = region.owner if region is not None else None
    if not isinstance(owner, Op):
        return None
    if owner.name == "fusion" or (owner.name == "scan" and arg.index >= owner.attrs["carry"]):
        return owner.operands[arg.index]
    return None
