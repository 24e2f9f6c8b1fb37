"""Constants, and ops that move elements without computing: each result element is one operand's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike, floordiv, maximum, total
from graphmill.ir.dtypes import DType, dtype
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import (
    OpDef,
    TypeRuleError,
    check_axes,
    check_count,
    is_known,
    register,
    tensors,
)
from graphmill.ir.types import TensorType, Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]
Array = np.ndarray[Any, Any]


def _infer_constant(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    value: Array = attrs["value"]
    return [TensorType(dtype(value.dtype), value.shape)]


CONSTANT = register(
    OpDef(
        "constant", "shape", (), "A fixed array", _infer_constant, lambda value: value,
        attrs={"value": "array"}, fusion="index",
    )
)  # fmt: skip


def _infer_iota(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_axes("iota", [attrs["axis"]], len(attrs["shape"]))
    return [TensorType(attrs["dtype"], attrs["shape"])]


def _iota(shape: Sequence[int], axis: int, dtype: DType) -> Array:
    ramp = np.arange(shape[axis]).astype(dtype.numpy)
    return np.broadcast_to(ramp.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


IOTA = register(
    OpDef(
        "iota", "shape", (), "The index along `axis`", _infer_iota, _iota,
        attrs={"shape": "dims", "axis": "int", "dtype": "dtype"}, fusion="index",
    )
)  # fmt: skip


def _infer_dim(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    return [TensorType(attrs["dtype"])]


DIM = register(
    OpDef(
        "dim", "shape", (), "The value of a dim expression as a scalar: `batch`, `2*n + 1`",
        _infer_dim, lambda value, dtype: np.asarray(value).astype(dtype.numpy),
        attrs={"value": "dim", "dtype": "dtype"}, fusion="index",
    )
)  # fmt: skip


def _infer_broadcast(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(BROADCAST, types)
    (type,) = tensors("broadcast", types)
    shape, axes = attrs["shape"], attrs["axes"]
    if len(axes) != type.rank or list(axes) != sorted(set(axes)):
        raise TypeRuleError(f"broadcast: axes {list(axes)} must ascend, one per operand axis")
    check_axes("broadcast", axes, len(shape))
    for dim, axis in zip(type.shape, axes, strict=True):
        if dim not in (1, shape[axis]):
            raise TypeRuleError(
                f"broadcast: {list(type.shape)} does not go to {list(shape)}: "
                f"{dim} is neither 1 nor {shape[axis]}"
            )
    return [type.with_shape(tuple(shape))]


def _broadcast(x: Array, shape: Sequence[int], axes: Sequence[int]) -> Array:
    expanded = [1] * len(shape)
    for dim, axis in zip(np.shape(x), axes, strict=True):
        expanded[axis] = dim
    return np.broadcast_to(np.reshape(x, expanded), shape)


BROADCAST = register(
    OpDef(
        "broadcast", "shape", ("x",), "Repeats x; operand axis i becomes result axis axes[i]",
        _infer_broadcast, _broadcast, attrs={"shape": "dims", "axes": "ints"}, fusion="index",
    )
)  # fmt: skip


def _infer_reshape(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(RESHAPE, types)
    (type,) = tensors("reshape", types)
    result = type.with_shape(tuple(attrs["shape"]))
    if type.size != result.size:
        raise TypeRuleError(
            f"reshape: {list(type.shape)} has {type.size} elements, "
            f"{list(result.shape)} has {result.size}"
        )
    return [result]


RESHAPE = register(
    OpDef(
        "reshape", "shape", ("x",), "The same elements in row-major order, in another shape",
        _infer_reshape, lambda x, shape: np.reshape(x, shape), attrs={"shape": "dims"},
        fusion="view",
    )
)  # fmt: skip


def _infer_transpose(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(TRANSPOSE, types)
    (type,) = tensors("transpose", types)
    perm = attrs["perm"]
    if sorted(perm) != list(range(type.rank)):
        raise TypeRuleError(f"transpose: {list(perm)} is no permutation of {type.rank} axes")
    return [type.with_shape(tuple(type.shape[axis] for axis in perm))]


TRANSPOSE = register(
    OpDef(
        "transpose", "shape", ("x",), "Result axis i is operand axis perm[i]", _infer_transpose,
        lambda x, perm: np.transpose(x, perm), attrs={"perm": "ints"}, fusion="index",
    )
)  # fmt: skip


def _infer_pad(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(PAD, types)
    type, value = tensors("pad", types)
    if value.shape or value.dtype is not type.dtype:
        raise TypeRuleError(f"pad: the padding is a {value}, not a {type.dtype}[]")
    low, high, interior = attrs["low"], attrs["high"], attrs["interior"]
    if not len(low) == len(high) == len(interior) == type.rank:
        raise TypeRuleError("pad: low, high and interior need one entry per axis")
    if any(isinstance(d, int) and d < 0 for d in (*low, *high, *interior)):
        raise TypeRuleError("pad: widths must not be negative", "slice instead")
    shape = []
    for dim, a, b, inner in zip(type.shape, low, high, interior, strict=True):
        if inner and not isinstance(dim, int):
            raise TypeRuleError("pad: interior padding needs a fixed size along its axis")
        shape.append(a + b + dim + (maximum(dim - 1, 0) * inner if inner else 0))
    return [type.with_shape(tuple(shape))]


def _pad(x: Array, value: Array, low: Any, high: Any, interior: Any) -> Array:
    sizes = [a + b + n + max(n - 1, 0) * g
             for n, a, b, g in zip(x.shape, low, high, interior, strict=True)]  # fmt: skip
    result = np.full(sizes, value, x.dtype)
    at = tuple(
        slice(a, a + (n - 1) * (g + 1) + 1 if n else a, g + 1)
        for n, a, g in zip(x.shape, low, interior, strict=True)
    )
    result[at] = x
    return result


PAD = register(
    OpDef(
        "pad", "shape", ("x", "value"),
        "Puts `value` before, after and (interior) between the elements along each axis",
        _infer_pad, _pad, attrs={"low": "dims", "high": "dims", "interior": "ints"},
        fusion="index",
    )
)  # fmt: skip


def _infer_slice(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(SLICE, types)
    (type,) = tensors("slice", types)
    start, stop, step = attrs["start"], attrs["stop"], attrs["step"]
    if not len(start) == len(stop) == len(step) == type.rank:
        raise TypeRuleError("slice: start, stop and step need one entry per axis")
    shape: list[DimLike] = []
    for axis, (dim, a, b, by) in enumerate(zip(type.shape, start, stop, step, strict=True)):
        if by < 1:
            raise TypeRuleError(f"slice: step {by} along axis {axis} is not positive")
        if is_known(a, b, dim) and not 0 <= a <= b <= dim:
            raise TypeRuleError(f"slice: [{a}:{b}] is outside 0..{dim} along axis {axis}")
        shape.append(floordiv(b - a + by - 1, by))
    return [type.with_shape(tuple(shape))]


def _slice(x: Array, start: Any, stop: Any, step: Any) -> Array:
    return x[tuple(slice(a, b, c) for a, b, c in zip(start, stop, step, strict=True))]


SLICE = register(
    OpDef(
        "slice", "shape", ("x",), "The elements start, start + step, … below stop, per axis",
        _infer_slice, _slice, attrs={"start": "dims", "stop": "dims", "step": "ints"},
        fusion="index",
    )
)  # fmt: skip


def _infer_reverse(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(REVERSE, types)
    (type,) = tensors("reverse", types)
    check_axes("reverse", attrs["axes"], type.rank)
    return [type.with_shape(type.shape)]


REVERSE = register(
    OpDef(
        "reverse", "shape", ("x",), "Turns the order round along `axes`", _infer_reverse,
        lambda x, axes: np.flip(x, tuple(axes)), attrs={"axes": "ints"}, fusion="index",
    )
)  # fmt: skip


def _infer_concat(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    operands = tensors("concat", types)
    axis = attrs["axis"]
    if not operands:
        raise TypeRuleError("concat: no operands")
    first = operands[0]
    check_axes("concat", [axis], first.rank)
    for other in operands[1:]:
        same = [d for i, d in enumerate(other.shape) if i != axis]
        if other.dtype is not first.dtype or same != [
            d for i, d in enumerate(first.shape) if i != axis
        ]:
            raise TypeRuleError(f"concat: {first} and {other} differ beyond axis {axis}")
    size = total(operand.shape[axis] for operand in operands)
    return [first.with_shape((*first.shape[:axis], size, *first.shape[axis + 1 :]))]


CONCAT = register(
    OpDef(
        "concat", "shape", ("*xs",), "One after the other along `axis`", _infer_concat,
        lambda *xs, axis: np.concatenate(xs, axis), attrs={"axis": "int"}, fusion="index",
    )
)  # fmt: skip


def _infer_copy(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(COPY, types)
    (type,) = tensors("copy", types)
    return [type.with_shape(type.shape)]


COPY = register(
    OpDef(
        "copy", "shape", ("x",), "x in memory of its own, contiguous", _infer_copy,
        lambda x: np.array(x),
    )
)  # fmt: skip
