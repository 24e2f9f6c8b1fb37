"""Products of bytes that were made floats: exact sums of integers, scaled once.

Static quantisation writes `((q.astype(f32) - zero) * s) @ (p.astype(f32) * t)` with constant zero
points and scales, s for all rows or each and t for all columns or each. The sums of integers are
exact in 32 bits, which instructions for bytes form several times as fast, and are rounded when they
are scaled: closer to the real numbers than any order of adding up floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.dtypes import f32, i8, i32, u8
from graphmill.ir.graph import Function, Op, Value
from graphmill.passes.absorb import evaluated
from graphmill.passes.dce import remove_dead
from graphmill.passes.manager import register_pass
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count
from graphmill.records import record

Array = np.ndarray[Any, Any]

# less leaves the instructions for bytes idle
FEWEST_ROWS, FEWEST_COLUMNS, SHALLOWEST, LEAST_WORK = 8, 16, 32, 1 << 14
FURTHEST = 255  # that a zero point is from 0
TINY, HUGE = 1e-30, 1e37  # between them nothing overflows or loses digits, whatever the order


@register_pass("exact")
def exact(function: Function) -> Function:
    """Multiplies bytes as integers where a product makes them f32 with constant scales.

    After it a product of `cast(bytes) - zero points`, times scales that are constant, finite and
    positive, on both sides is an i32 product that cannot overflow, less what the zero points add,
    times the scales.
    """
    if not any(_bytes_below(op) for op in function.walk()):
        return function
    function = function.clone()
    rewrite(function.block, _visit)
    remove_dead(function.block)
    return function


@record
class _Bytes:
    """`(source - zero) * scale`; zero points and scales are one for all or one for each."""

    source: Value
    zero: Array
    scale: Array

    @property
    def most(self) -> float:
        """The largest magnitude of `source - zero`."""
        info = np.iinfo(self.source.tensor.dtype.numpy)
        return float(max((info.max - self.zero).max(), (self.zero - info.min).max()))


def _bytes_below(op: Op) -> bool:
    return op.name == "cast" and op.result.tensor.dtype is f32 and _is_bytes(op.operands[0])


def _is_bytes(value: Value) -> bool:
    return value.tensor.dtype in (i8, u8)


def _visit(op: Op, b: Builder) -> Replacement:
    if op.name != "dot_general" or op.attrs["dtype"] is not f32:
        return None
    x, y = op.operands
    summed = op.attrs["x_contract"] + op.attrs["y_contract"]
    if len(summed) != 2 or x.tensor.rank != 2 or y.tensor.rank != 2:
        return None
    left, right = (_found(v, 1 - k) for v, k in zip((x, y), summed, strict=True))
    if left is None or right is None:
        return None
    depth = x.shape[summed[0]]
    if not isinstance(depth, int) or not _is_worth(op, depth) or not _fits(left, right, depth):
        return None
    count("products of bytes")
    return _scaled(op, _sums(op, left, right, depth, b), left.scale, right.scale, b)


def _is_worth(op: Op, depth: int) -> bool:
    """Whether the product is large enough; an unknown number of rows is, by constant weights."""
    rows, columns = op.result.shape
    if not isinstance(columns, int) or columns < FEWEST_COLUMNS or depth < SHALLOWEST:
        return False
    if not isinstance(rows, int):
        return evaluated(op.operands[1]) is not None
    return rows >= FEWEST_ROWS and rows * columns * depth >= LEAST_WORK


def _fits(left: _Bytes, right: _Bytes, depth: int) -> bool:
    """Whether no sum leaves 32 bits, and floats would neither overflow nor lose digits."""
    most = left.most * right.most * depth
    scales = [f(v.scale) for v in (left, right) for f in (np.min, np.max)]
    low, high = scales[0] * scales[2], scales[1] * scales[3]
    return most < 2**31 and min(*scales[::2], low) > TINY and max(*scales, high) * most < HUGE


def _found(value: Value, free: int) -> _Bytes | None:
    """The bytes that a matrix is made of, where zero points and scales vary along one axis."""
    scale, zero = np.ones(1), np.zeros(1)
    op = value.op
    if op is not None and op.name == "mul":
        numbers = [_numbers(v, free) for v in op.operands]
        at = 1 if numbers[1] is not None else 0
        if numbers[at] is None:
            return None
        scale, value = numbers[at], op.operands[1 - at]  # type: ignore[assignment]
    op = value.op
    if op is not None and op.name in ("sub", "add"):
        found = _numbers(op.operands[1], free)
        if found is None:
            return None
        zero, value = found if op.name == "sub" else -found, op.operands[0]
    if value.op is None or not _bytes_below(value.op):
        return None
    whole = bool((zero == np.rint(zero)).all() and (np.abs(zero) <= FURTHEST).all())
    return _Bytes(value.op.operands[0], zero, scale) if whole else None


def _numbers(value: Value, free: int) -> Array | None:
    """The constants that a value repeats along all axes but one, in f64; None for others."""
    op = value.op
    if op is None or op.name not in ("broadcast", "constant"):
        return None
    axes = op.attrs["axes"] if op.name == "broadcast" else range(value.tensor.rank)
    array = evaluated(op.operands[0] if op.name == "broadcast" else value)
    if array is None or not np.isfinite(array).all():
        return None
    long = [axis for axis, size in zip(axes, array.shape, strict=True) if size != 1]
    return array.astype(np.float64).reshape(-1) if long in ([], [free]) else None


def _sums(op: Op, left: _Bytes, right: _Bytes, depth: int, b: Builder) -> Value:
    """The i32 sums of `(q - z) * (p - y)`, of which q p is the product."""
    shape = op.result.shape
    q, p = (b.cast(v.source, i32) for v in (left, right))
    sums = b.op("dot_general", q, p, **(op.attrs | {"dtype": i32}))
    for own, other, name, axis in ((left, right, "y", 1), (right, left, "x", 0)):
        if own.zero.any():
            total = _total(other.source, op.attrs[f"{name}_contract"][0], b)
            spread = b.broadcast(total, shape, (axis,))
            sums = b.op("sub", sums, b.op("mul", spread, _spread(b, own.zero, shape, 1 - axis)))
    if left.zero.any() and right.zero.any():
        both = b.op(
            "mul", _spread(b, left.zero * depth, shape, 0), _spread(b, right.zero, shape, 1)
        )
        sums = b.op("add", sums, both)
    return sums


def _total(source: Value, axis: int, b: Builder) -> Value:
    """The sums of bytes along an axis; the product may then read a transpose where it lies."""
    if source.op is not None and source.op.name == "transpose":
        axis = source.op.attrs["perm"][axis]
        (source,) = source.op.operands
    return b.reduce(b.cast(source, i32), (axis,), "sum")


def _spread(b: Builder, numbers: Array, shape: Any, axis: int) -> Value:
    array = numbers.astype(np.int32)
    if array.size == 1:
        return b.broadcast(b.constant(array.reshape(())), shape, ())
    return b.broadcast(b.constant(array), shape, (axis,))


def _scaled(op: Op, sums: Value, rows: Array, columns: Array, b: Builder) -> Value:
    """The sums times the scales, of which numbers for all go with the others."""
    value, shape = b.cast(sums, f32), op.result.shape
    if rows.size == 1 or columns.size == 1:
        scales = [(rows * columns, 0 if columns.size == 1 else 1)]
    else:
        scales = [(rows, 0), (columns, 1)]
    for numbers, axis in scales:
        array = numbers.astype(np.float32)
        given = b.constant(array if array.size > 1 else array.reshape(()))
        value = b.op("mul", value, b.broadcast(given, shape, (axis,) if array.size > 1 else ()))
    return value
