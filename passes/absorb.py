"""Scales and shifts of channels that a convolution's constant weights can take over."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Function, Op, Value
from graphmill.passes.dce import remove_dead
from graphmill.passes.fold import constant_of
from graphmill.passes.manager import register_pass
from graphmill.passes.prepare import array_of, prepared
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count
from graphmill.records import record

MOST_ELEMENTS = 1 << 16  # of a vector worth evaluating here
DEEPEST = 12  # ops between constants and a channel's number
ARITHMETIC = ("add", "sub", "mul", "div")

Array = np.ndarray[Any, Any]


@register_pass("absorb")
def absorb(function: Function) -> Function:
    """Multiplies constant scales of channels into the convolution's constant weights before them.

    After it `conv(x, w) * s + t` with constants is `conv(x, w * s) + t`, a chain of shifts and
    scales (batch normalisation in inference) at most one shift. Scales and shifts are combined in
    f64 and rounded once, weights are multiplied when the code is loaded; sums may differ in their
    last places, and where the unscaled ones would overflow.
    """
    if not any(op.name == "conv" for op in function.walk()):
        return function
    function = function.clone()
    rewrite(function.block, _visit)
    remove_dead(function.block)
    return function


@record(frozen=False)
class _Affine:
    """`conv * scale + shift`, per channel; `end` is the value that has it."""

    end: Value
    scale: Array
    shift: Array


def _visit(op: Op, b: Builder) -> Replacement:
    """Looks at the last op of a chain of shifts and scales behind a convolution."""
    if op.name not in ARITHMETIC or _next(op.result) is not None:
        return None
    chain = [op]
    while (source := _previous(chain[-1])) is not None and source.name in ARITHMETIC:
        chain.append(source)
    conv = _previous(chain[-1])
    if conv is None or conv.name != "conv":
        return None
    w = array_of(conv.operands[1])
    if w is None or w.dtype.kind != "f" or w.itemsize < 4:
        return None
    found = _affine(conv, chain[::-1], w.shape[0])
    if found is None:
        return None
    with np.errstate(all="ignore"):
        scale, shift = found.scale.astype(w.dtype), found.shift.astype(w.dtype)
    if not (_stays_finite(w, scale) and np.isfinite(shift).all()):
        return None
    count("scales and shifts absorbed", len(chain))
    y = b.emit("conv", [conv.operands[0], _scaled(conv.operands[1], scale, b)], conv.attrs).result
    if not shift.any():
        return y
    return b.op("add", y, b.broadcast(b.constant(shift), y.shape, (1,)))


def _stays_finite(w: Array, scale: Array) -> bool:
    """Whether weights, those of each filter times its scale, are finite numbers."""
    if not w.size:
        return True
    filters = w.reshape(len(w), -1)
    most = np.maximum(filters.max(1), -filters.min(1))  # NaN where a weight is
    with np.errstate(all="ignore"):
        return bool(np.isfinite(most * scale).all())


def _scaled(w: Value, scale: Array, b: Builder) -> Value:
    if (scale == 1).all():
        return w

    def body(b: Builder, w: Value, scale: Value) -> Value:
        return b.op("mul", w, b.broadcast(scale, w.shape, (0,)))

    return prepared(b, [w, b.constant(scale)], body)


def _affine(conv: Op, chain: list[Op], channels: int) -> _Affine | None:
    """What the chain does to each channel; None where it is one shift already, or unknown."""
    found = _Affine(conv.result, np.ones(channels), np.zeros(channels))
    with np.errstate(all="ignore"):
        for op in chain:
            first = op.operands[0] is found.end
            numbers = _per_channel(op.operands[1 if first else 0], channels)
            if numbers is None or not _apply(op.name, first, numbers, found):
                return None
            found.end = op.result
    return None if len(chain) == 1 and (found.scale == 1).all() else found


def _apply(name: str, first: bool, numbers: Array, to: _Affine) -> bool:
    if name == "add":
        to.shift = to.shift + numbers
    elif name == "sub":
        sign = 1 if first else -1
        to.scale, to.shift = sign * to.scale, sign * (to.shift - numbers)
    elif name == "mul":
        to.scale, to.shift = to.scale * numbers, to.shift * numbers
    elif not first:
        return False  # a constant divided by sums is no scale
    else:
        to.scale, to.shift = to.scale / numbers, to.shift / numbers
    return bool(np.isfinite(to.scale).all() and np.isfinite(to.shift).all())


def _next(value: Value) -> Op | None:
    """The only reader of a value, if that shifts or scales its channels by constants."""
    users = value.users
    if len(users) != 1 or len(value.uses) != 1 or users[0].name not in ARITHMETIC:
        return None
    other = next(v for v in users[0].operands if v is not value)
    if users[0].name == "div" and users[0].operands[1] is value:
        return None
    return (
        users[0]
        if _per_channel(other, value.shape[1] if len(value.shape) > 1 else 0) is not None
        else None
    )


def _previous(op: Op) -> Op | None:
    """The op before in a chain, whose result nothing else reads."""
    for operand in op.operands:
        source = operand.op
        if source is None or source.name not in (*ARITHMETIC, "conv"):
            continue
        if len(operand.uses) == 1 and _next(operand) is op:
            return source
    return None


def _per_channel(value: Value, channels: int) -> Array | None:
    """The constants by which a broadcast repeats one number per channel, or one for all."""
    op = value.op
    if op is None or op.name != "broadcast" or not isinstance(channels, int):
        return None
    array = evaluated(op.operands[0])
    if array is None or array.dtype.kind != "f":
        return None
    long = [axis for axis, n in zip(op.attrs["axes"], array.shape, strict=True) if n != 1]
    if long not in ([], [1]):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))


def evaluated(value: Value, depth: int = DEEPEST) -> Array | None:
    """The array a small value made from constants alone has; None for others."""
    known = constant_of(value)
    if known is not None:
        return known
    op, size = value.op, value.tensor.size
    if op is None or not isinstance(size, int) or size > MOST_ELEMENTS or not depth:
        return None
    definition = op.definition
    if not definition.pure or definition.reference is None or op.regions or not op.operands:
        return None
    arrays = [evaluated(operand, depth - 1) for operand in op.operands]
    if any(array is None for array in arrays):
        return None
    with np.errstate(all="ignore"):
        found = definition.reference(*arrays, **op.attrs)
    return (
        np.asarray(found, dtype=value.tensor.dtype.numpy) if not isinstance(found, tuple) else None
    )
