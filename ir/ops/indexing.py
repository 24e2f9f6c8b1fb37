"""Indexing by values: gather, scatter, dynamic slices.

Indices are integers of any dtype and follow NumPy: -n … n-1 along an axis of size n. Outside that
range a gather or slice reads the nearest element and a scatter drops the update: memory stays
safe without a check, and `check="bounds"` reports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import OpDef, TypeRuleError, check_axes, register, tensors
from graphmill.ir.types import TensorType, Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]
Array = np.ndarray[Any, Any]


def _index_shape(name: str, indices: Sequence[TensorType], axes: Any) -> tuple[DimLike, ...]:
    if len(indices) != len(axes) or not indices:
        raise TypeRuleError(f"{name}: {len(indices)} index arrays for axes {list(axes)}")
    for index in indices:
        if not index.dtype.is_integer:
            raise TypeRuleError(f"{name}: indices are {index.dtype}, not integers")
        if index.shape != indices[0].shape:
            raise TypeRuleError(f"{name}: index shapes differ", "broadcast them first")
    return indices[0].shape


def _infer_gather(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    operand, *indices = tensors("gather", types)
    check_axes("gather", attrs["axes"], operand.rank)
    shape = _index_shape("gather", indices, attrs["axes"])
    rest = [d for i, d in enumerate(operand.shape) if i not in attrs["axes"]]
    return [operand.with_shape((*shape, *rest))]


def _normal(index: Array, size: int) -> Array:
    index = np.where(index < 0, index.astype(np.int64) + size, index.astype(np.int64))
    return index


def _gather(x: Array, *indices: Array, axes: Sequence[int]) -> Array:
    rest = [i for i in range(x.ndim) if i not in axes]
    front = np.transpose(x, [*axes, *rest])
    shape = np.shape(indices[0])
    if 0 in front.shape[: len(axes)]:
        return np.zeros((*shape, *front.shape[len(axes) :]), x.dtype)
    at = [np.clip(_normal(i, x.shape[a]), 0, x.shape[a] - 1)
          for i, a in zip(indices, axes, strict=True)]  # fmt: skip
    return np.asarray(front[tuple(at)])


GATHER = register(
    OpDef(
        "gather", "indexing", ("x", "*indices"),
        "x at the index arrays along `axes`; the index shape comes first, the other axes after",
        _infer_gather, _gather, attrs={"axes": "ints"}, fusion="index",
    )
)  # fmt: skip

_COMBINE = {
    "set": None, "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
}  # fmt: skip


def _infer_scatter(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    operand, updates, *indices = tensors("scatter", types)
    check_axes("scatter", attrs["axes"], operand.rank)
    if attrs["mode"] not in _COMBINE:
        raise TypeRuleError(f"scatter: mode {attrs['mode']!r} is none of {list(_COMBINE)}")
    shape = _index_shape("scatter", indices, attrs["axes"])
    rest = [d for i, d in enumerate(operand.shape) if i not in attrs["axes"]]
    wanted = operand.with_shape((*shape, *rest))
    if updates.shape != wanted.shape or updates.dtype is not wanted.dtype:
        raise TypeRuleError(f"scatter: updates are {updates}, not {wanted}")
    return [operand.with_shape(operand.shape)]


def _scatter(x: Array, updates: Array, *indices: Array, axes: Sequence[int], mode: str) -> Array:
    rest = [i for i in range(x.ndim) if i not in axes]
    perm = [*axes, *rest]
    result = np.transpose(x, perm).copy()
    at = [_normal(i, x.shape[a]).reshape(-1) for i, a in zip(indices, axes, strict=True)]
    inside = np.ones(at[0].shape, bool)
    for index, axis in zip(at, axes, strict=True):
        inside &= (index >= 0) & (index < x.shape[axis])
    rows = updates.reshape(at[0].size, *result.shape[len(axes) :])[inside]
    where = tuple(index[inside] for index in at)
    combine = _COMBINE[mode]
    with np.errstate(all="ignore"):
        if combine is None:
            for n, row in enumerate(rows):  # in order: the last of equal indices wins
                result[tuple(index[n] for index in where)] = row
        elif result.size:
            combine.at(result, where, rows)
    return np.transpose(result, np.argsort(perm))


SCATTER = register(
    OpDef(
        "scatter", "indexing", ("x", "updates", "*indices"),
        "x with `updates` stored (or combined: mode) at the index arrays along `axes`",
        _infer_scatter, _scatter, attrs={"axes": "ints", "mode": "str"},
    )
)  # fmt: skip


def _check_starts(name: str, operand: TensorType, starts: Sequence[TensorType]) -> None:
    if len(starts) != operand.rank:
        raise TypeRuleError(f"{name}: {len(starts)} starts for rank {operand.rank}")
    if any(s.shape or not s.dtype.is_integer for s in starts):
        raise TypeRuleError(f"{name}: starts must be integer scalars")


def _infer_dynamic_slice(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    operand, *starts = tensors("dynamic_slice", types)
    _check_starts("dynamic_slice", operand, starts)
    if len(attrs["sizes"]) != operand.rank:
        raise TypeRuleError("dynamic_slice: sizes need one entry per axis")
    for size, dim in zip(attrs["sizes"], operand.shape, strict=True):
        if isinstance(size, int) and isinstance(dim, int) and not 0 <= size <= dim:
            raise TypeRuleError(f"dynamic_slice: size {size} is larger than the axis, {dim}")
    return [operand.with_shape(tuple(attrs["sizes"]))]


def _window(x: Array, starts: Sequence[Array], sizes: Sequence[int]) -> tuple[slice, ...]:
    at = []
    for start, size, dim in zip(starts, sizes, x.shape, strict=True):
        first = int(start) + (dim if int(start) < 0 else 0)
        first = min(max(first, 0), dim - size)
        at.append(slice(first, first + size))
    return tuple(at)


def _dynamic_slice(x: Array, *starts: Array, sizes: Sequence[int]) -> Array:
    return x[_window(x, starts, sizes)]


DYNAMIC_SLICE = register(
    OpDef(
        "dynamic_slice", "indexing", ("x", "*starts"),
        "A window of the given sizes at run-time starts, moved to lie inside x",
        _infer_dynamic_slice, _dynamic_slice, attrs={"sizes": "dims"}, fusion="index",
    )
)  # fmt: skip


def _infer_dynamic_update(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    operand, update, *starts = tensors("dynamic_update_slice", types)
    _check_starts("dynamic_update_slice", operand, starts)
    if update.rank != operand.rank or update.dtype is not operand.dtype:
        raise TypeRuleError(f"dynamic_update_slice: {update} does not fit into {operand}")
    for size, dim in zip(update.shape, operand.shape, strict=True):
        if isinstance(size, int) and isinstance(dim, int) and size > dim:
            raise TypeRuleError(f"dynamic_update_slice: {update} is larger than {operand}")
    return [operand.with_shape(operand.shape)]


def _dynamic_update(x: Array, update: Array, *starts: Array) -> Array:
    result = np.array(x)
    result[_window(x, starts, update.shape)] = update
    return result


DYNAMIC_UPDATE_SLICE = register(
    OpDef(
        "dynamic_update_slice", "indexing", ("x", "update", "*starts"),
        "x with a window at run-time starts replaced", _infer_dynamic_update, _dynamic_update,
    )
)  # fmt: skip
