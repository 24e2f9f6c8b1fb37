"""Rules that compute less: on what is repeated, before a reshape, along fewer axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Op, Value
from graphmill.passes.movement import unit_axes
from graphmill.passes.rewrite import ELEMENTWISE, Replacement, structural
from graphmill.passes.terms import splat_of


def emit_like(op: Op, operands: Sequence[Value], builder: Builder) -> Value:
    """The same op on other operands."""
    return builder.emit(op.name, operands, op.attrs).result


# ---- elementwise ops of repeated values


@structural(ELEMENTWISE)
def compute_before_broadcast(op: Op, builder: Builder) -> Replacement:
    """f(repeat(x), repeat(y)) = repeat(f(x, y)) when both are repeated along the same axes."""
    widest: Op | None = None
    for operand in op.operands:
        source = operand.op
        if source is None:
            return None
        if source.name == "constant" and source.attrs["value"].size == 1:
            continue
        if source.name != "broadcast":
            return None
        if source.operands[0].tensor.rank == 0:
            continue
        if widest is not None and widest.attrs["axes"] != source.attrs["axes"]:
            return None
        if widest is not None and widest.operands[0].shape != source.operands[0].shape:
            return None
        widest = source
    shape = tuple(widest.operands[0].shape) if widest is not None else ()
    axes = widest.attrs["axes"] if widest is not None else ()
    if shape == tuple(op.result.shape):
        return None
    small = [_unrepeated(operand, shape, builder) for operand in op.operands]
    return builder.broadcast(emit_like(op, small, builder), op.result.shape, axes)


def _unrepeated(operand: Value, shape: tuple[DimLike, ...], builder: Builder) -> Value:
    source = operand.op
    assert source is not None
    scalar = builder.reshape(operand, ()) if source.name == "constant" else source.operands[0]
    return builder.broadcast(scalar, shape, ()) if scalar.tensor.rank == 0 else scalar


# ---- elementwise ops and reshapes


@structural(ELEMENTWISE)
def reshape_after(op: Op, builder: Builder) -> Replacement:
    """f(reshape(x), y) = reshape(f(x, reshape(y))) where that needs no copy of y.

    Reshapes sink to where values leave the chain, so that the chain is one kernel.
    """
    inner = next((v.op for v in op.operands if v.op is not None and _computed_view(v.op)), None)
    if inner is None:
        return None
    shape = tuple(inner.operands[0].shape)
    if shape == tuple(op.result.shape):
        return None
    if not all(_can_reshape(v, shape) for v in op.operands):
        return None
    operands = [_reshaped(v, shape, builder) for v in op.operands]
    return builder.reshape(emit_like(op, operands, builder), op.result.shape)


def _computed_view(op: Op) -> bool:
    """A reshape of something that a kernel computes."""
    source = op.operands[0].op if op.name == "reshape" else None
    return source is not None and source.definition.fusion not in ("none", "view")


def _can_reshape(value: Value, shape: tuple[DimLike, ...]) -> bool:
    op = value.op
    if op is None:
        return value.tensor.layout is None
    if op.name == "reshape":
        return True
    if op.name == "constant":
        return True
    if op.name != "broadcast":
        return False
    if op.operands[0].tensor.rank == 0:
        return True
    return _axes_in(op, shape) is not None


def _axes_in(op: Op, shape: tuple[DimLike, ...]) -> list[int] | None:
    """The axes of a broadcast in another shape: those that have as much before them, and size."""
    old = tuple(op.result.shape)
    places = {
        (product(shape[:i]), dim): i for i, dim in reversed(list(enumerate(shape))) if dim != 1
    }
    found = [places.get((product(old[:a]), old[a])) for a in op.attrs["axes"]]
    axes = [axis for axis in found if axis is not None]
    return axes if len(axes) == len(found) and axes == sorted(set(axes)) else None


def _reshaped(value: Value, shape: tuple[DimLike, ...], builder: Builder) -> Value:
    op = value.op
    if op is not None and op.name == "broadcast":
        axes = [] if op.operands[0].tensor.rank == 0 else _axes_in(op, shape)
        assert axes is not None
        return builder.broadcast(op.operands[0], shape, axes)
    if op is not None and op.name == "reshape":
        return builder.reshape(op.operands[0], shape)
    return builder.reshape(value, shape)


@structural("reshape")
def reshape_before(op: Op, builder: Builder) -> Replacement:
    """reshape(f(x)) = f(reshape(x)) when all of f's operands lie in memory already."""
    inner = op.operands[0].op
    if inner is None or inner.definition.fusion != "elementwise" or len(inner.result.uses) != 1:
        return None
    shape = tuple(op.result.shape)
    if not all(_in_memory(v) and _can_reshape(v, shape) for v in inner.operands):
        return None
    operands = [_reshaped(v, shape, builder) for v in inner.operands]
    return emit_like(inner, operands, builder)


def _in_memory(value: Value) -> bool:
    op = value.op
    if op is None or op.name == "constant":
        return True
    if op.name == "broadcast":
        return _in_memory(op.operands[0])
    return op.name == "reshape" and op.operands[0].op is None


# ---- casts


@structural("cast")
def compose_casts(op: Op, builder: Builder) -> Replacement:
    """A cast to the dtype it has; a cast of a cast that lost nothing."""
    x, to = op.operands[0], op.attrs["dtype"]
    if x.tensor.dtype is to:
        return x
    inner = x.op
    if inner is None or inner.name != "cast":
        return None
    start, middle = inner.operands[0].tensor.dtype, inner.attrs["dtype"]
    if not holds(middle, start) or not _cast_is_plain(start, middle, to):
        return None
    return builder.cast(inner.operands[0], to)


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is one of `wide`."""
    if wide is narrow:
        return True
    if "b" in (wide.kind, narrow.kind):
        return narrow.kind == "b"
    digits = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53, "c64": 24, "c128": 53}
    if wide.kind in "iu":
        if narrow.kind == "u":
            return wide.bits > narrow.bits
        return narrow.kind == "i" and wide.kind == "i" and wide.bits > narrow.bits
    if narrow.kind in "iu":
        return digits[wide.name] >= narrow.bits and wide.name != "f16"
    if wide.name in ("f16", "bf16"):
        return False
    return digits[wide.name] >= digits[narrow.name] and (wide.is_complex or not narrow.is_complex)


def _cast_is_plain(start: DType, middle: DType, to: DType) -> bool:
    """Saturation from float to integer is not wrap-around from integer to integer."""
    if start.is_integer and middle.is_inexact and to.is_integer:
        return holds(to, start)
    return not (middle.is_complex and not to.is_complex)


# ---- selection by a constant


@structural("select")
def select_by_constant(op: Op, builder: Builder) -> Replacement:
    """A condition that is the same everywhere chooses one operand."""
    chosen = splat_of(op.operands[0])
    if chosen is None:
        return None
    return op.operands[1] if bool(chosen) else op.operands[2]


@structural("div")
def divide_by_power_of_two(op: Op, builder: Builder) -> Replacement:
    """x / c = x * (1 / c) with the same bits when c is a power of two."""
    divisor = splat_of(op.operands[1])
    if divisor is None or divisor.dtype.kind == "c" or splat_of(op.operands[0]) is not None:
        return None
    value = float(divisor)
    mantissa, exponent = np.frexp(abs(value))
    if mantissa != 0.5 or abs(int(exponent)) > 13:
        return None
    x = op.operands[0]
    inverse = builder.full(x.shape, 1.0 / value, x.tensor.dtype)
    return builder.op("mul", x, inverse)


# ---- reductions


@structural("reduce")
def reduce_of_unit_axes(op: Op, builder: Builder) -> Replacement:
    """No axes, or axes of size 1 only: nothing to combine."""
    x = op.operands[0]
    if all(x.shape[axis] == 1 for axis in op.attrs["axes"]):
        if x.tensor.layout is not None:
            return None
        return builder.reshape(x, op.result.shape)
    return None


@structural("reduce")
def reduce_without_unit_axes(op: Op, builder: Builder) -> Replacement:
    """Axes of size 1 among the reduced ones are dropped first, by a reshape."""
    x, axes = op.operands[0], op.attrs["axes"]
    units = [axis for axis in axes if x.shape[axis] == 1]
    if not units or x.tensor.layout is not None:
        return None
    kept = [i for i in range(x.tensor.rank) if i not in units]
    small = builder.reshape(x, [x.shape[i] for i in kept])
    rest = tuple(kept.index(axis) for axis in axes if axis not in units)
    return builder.op("reduce", small, axes=rest, monoid=op.attrs["monoid"])


@structural("reduce")
def reduce_of_reduce(op: Op, builder: Builder) -> Replacement:
    """Reducing twice by the same monoid is reducing once along more axes."""
    inner = op.operands[0].op
    if inner is None or inner.name != "reduce" or len(inner.result.uses) != 1:
        return None
    if inner.attrs["monoid"] != op.attrs["monoid"]:
        return None
    rank, taken = inner.operands[0].tensor.rank, inner.attrs["axes"]
    left = [i for i in range(rank) if i not in taken]
    axes = tuple(sorted([*taken, *(left[axis] for axis in op.attrs["axes"])]))
    return builder.op("reduce", inner.operands[0], axes=axes, monoid=op.attrs["monoid"])


@structural("reduce")
def reduce_of_transpose(op: Op, builder: Builder) -> Replacement:
    """Reduce along the axes where they were; transpose what is left."""
    inner = op.operands[0].op
    if inner is None or inner.name != "transpose":
        return None
    perm = inner.attrs["perm"]
    axes = tuple(sorted(perm[axis] for axis in op.attrs["axes"]))
    kept = [i for i in range(len(perm)) if i not in axes]
    order = [kept.index(perm[i]) for i in range(len(perm)) if i not in op.attrs["axes"]]
    small = builder.op("reduce", inner.operands[0], axes=axes, monoid=op.attrs["monoid"])
    return builder.transpose(small, order)


@structural("reduce")
def reduce_before_reshape(op: Op, builder: Builder) -> Replacement:
    """Reduce what was reshaped when only axes of size 1 changed, or all axes are reduced."""
    inner = op.operands[0].op
    if inner is None or not _computed_view(inner):
        return None
    x, monoid = inner.operands[0], op.attrs["monoid"]
    if len(op.attrs["axes"]) == op.operands[0].tensor.rank:
        return builder.reduce(x, range(x.tensor.rank), monoid)
    kept = unit_axes(inner.result.shape, x.shape)
    if kept is None:
        return None
    axes = tuple(sorted(kept[a] for a in op.attrs["axes"] if a in kept))
    return builder.reshape(builder.reduce(x, axes, monoid), op.result.shape)


@structural("reduce")
def reduce_of_broadcast(op: Op, builder: Builder) -> Replacement:
    """The largest of equal values is the value."""
    inner = op.operands[0].op
    if inner is None or inner.name != "broadcast":
        return None
    if op.attrs["monoid"] not in ("max", "min", "all", "any"):
        return None
    shape, axes = op.operands[0].shape, inner.attrs["axes"]
    x = inner.operands[0]
    repeated = [a for a in op.attrs["axes"] if a not in axes]
    never_empty = all(isinstance(shape[a], int) and shape[a] > 0 for a in repeated)
    if not repeated or not never_empty or any(d == 1 for d in x.shape):
        return None
    inside = tuple(i for i, axis in enumerate(axes) if axis in op.attrs["axes"])
    small = builder.reduce(x, inside, op.attrs["monoid"])
    left = [i for i in range(len(shape)) if i not in op.attrs["axes"]]
    where = [left.index(axis) for axis in axes if axis not in op.attrs["axes"]]
    return builder.broadcast(small, op.result.shape, where)
