"""Sorting and selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dtypes import i64
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import OpDef, TypeRuleError, check_axes, check_count, register, tensors
from graphmill.ir.types import TensorType, Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]
Array = np.ndarray[Any, Any]


def _infer_sort(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    operands = tensors("sort", types)
    if not operands:
        raise TypeRuleError("sort: no operands")
    check_axes("sort", [attrs["axis"]], operands[0].rank)
    if any(other.shape != operands[0].shape for other in operands):
        raise TypeRuleError("sort: the operands' shapes differ")
    return [type.with_shape(type.shape) for type in operands]


def _order(key: Array, axis: int, descending: bool) -> Array:
    """The stable order of `key`; NaN comes last in both directions."""
    key = key.astype(np.float32) if key.dtype.itemsize == 2 and key.dtype.kind in "fV" else key
    if not descending:
        return np.argsort(key, axis=axis, kind="stable")
    _, rank = np.unique(key, return_inverse=True, equal_nan=False)
    rank = rank.reshape(key.shape).astype(np.int64)
    missing = np.isnan(key) if key.dtype.kind in "fc" else np.zeros(key.shape, bool)
    return np.argsort(np.where(missing, 1, -rank), axis=axis, kind="stable")


def _sort(*xs: Array, axis: int, descending: bool) -> tuple[Array, ...]:
    order = _order(xs[0], axis, descending)
    return tuple(np.take_along_axis(x, order, axis) for x in xs)


SORT = register(
    OpDef(
        "sort", "order", ("*xs",),
        "Stable sort along `axis` by the first operand, the others moved alike; NaN last",
        _infer_sort, _sort, attrs={"axis": "int", "descending": "bool"}, flops=10.0,
    )
)  # fmt: skip


def _check_places(name: str, types: Types, attrs: Attrs) -> TensorType:
    """The type of x beside places along an axis of it."""
    type, *places = tensors(name, types)
    check_axes(name, [attrs["axis"]], type.rank)
    if type.dtype.is_complex:
        raise TypeRuleError(f"{name}: not defined for {type}")
    if any(place.rank or place.dtype != i64 for place in places):
        raise TypeRuleError(f"{name}: the places are i64 scalars")
    return type


def _infer_partition(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(PARTITION, types)
    type = _check_places("partition", types, attrs)
    return [type.with_shape(type.shape)]


def _partition(x: Array, first: Array, last: Array, axis: int) -> tuple[Array, ...]:
    return _sort(x, axis=axis, descending=False)


PARTITION = register(
    OpDef(
        "partition", "order", ("x", "first", "last"),
        "Like sort at places `first` … `last`; smaller elements before them, larger ones behind",
        _infer_partition, _partition, attrs={"axis": "int"}, flops=4.0,
    )
)  # fmt: skip


def _infer_argpartition(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(ARGPARTITION, types)
    return [TensorType(i64, _check_places("argpartition", types, attrs).shape)]


def _argpartition(x: Array, first: Array, last: Array, axis: int) -> tuple[Array, ...]:
    return _argsort(x, axis=axis, descending=False)


ARGPARTITION = register(
    OpDef(
        "argpartition", "order", ("x", "first", "last"),
        "Like argsort at places `first` … `last`; those of smaller elements before them, of larger "
        "ones behind",
        _infer_argpartition, _argpartition, attrs={"axis": "int"}, flops=4.0,
    )
)  # fmt: skip


def _infer_argsort(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(ARGSORT, types)
    (type,) = tensors("argsort", types)
    check_axes("argsort", [attrs["axis"]], type.rank)
    return [TensorType(i64, type.shape)]


def _argsort(x: Array, axis: int, descending: bool) -> tuple[Array]:
    return (_order(x, axis, descending).astype(np.int64),)


ARGSORT = register(
    OpDef(
        "argsort", "order", ("x",),
        "The stable order of the elements along `axis`, as indices; NaN last",
        _infer_argsort, _argsort, attrs={"axis": "int", "descending": "bool"}, flops=10.0,
    )
)  # fmt: skip


def _infer_top_k(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(TOP_K, types)
    (type,) = tensors("top_k", types)
    k = attrs["k"]
    if type.rank == 0 or type.dtype.is_complex:
        raise TypeRuleError(f"top_k: not defined for {type}")
    last = type.shape[-1]
    if k < 0 or (isinstance(last, int) and k > last):
        raise TypeRuleError(f"top_k: k = {k} for {last} elements")
    result = type.with_shape((*type.shape[:-1], k))
    return [result, TensorType(i64, result.shape)]


def _top_k(x: Array, k: int) -> tuple[Array, Array]:
    order = _order(x, -1, True)[..., :k].astype(np.int64)
    return np.take_along_axis(x, order, -1), order


TOP_K = register(
    OpDef(
        "top_k", "order", ("x",),
        "The k largest along the last axis, largest first, and their indices; NaN last",
        _infer_top_k, _top_k, attrs={"k": "int"}, flops=4.0,
    )
)  # fmt: skip
