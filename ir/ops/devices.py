"""Moving data between devices, collectives over a group of devices, and foreign calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphmill.ir.dims import floordiv
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import OpDef, TypeRuleError, check_axes, check_count, register, tensors
from graphmill.ir.ops.reduce import MONOIDS
from graphmill.ir.types import Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]
Array = np.ndarray[Any, Any]


def _infer_transfer(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(TRANSFER, types)
    (type,) = tensors("transfer", types)
    return [replace(type, layout=None, device=attrs["device"])]


TRANSFER = register(
    OpDef(
        "transfer", "devices", ("x",), "A copy of x on another device", _infer_transfer,
        lambda x, device: x, attrs={"device": "str"},
    )
)  # fmt: skip


def _alone(name: str, size: int) -> None:
    if size != 1:
        raise ValueError(f"{name}: the reference evaluator is a group of one, not of {size}")


def _infer_all_reduce(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(ALL_REDUCE, types)
    (type,) = tensors("all_reduce", types)
    if attrs["monoid"] not in MONOIDS:
        raise TypeRuleError(f"all_reduce: {attrs['monoid']!r} is none of {list(MONOIDS)}")
    return [type.with_shape(type.shape)]


def _all_reduce(x: Array, monoid: str, size: int) -> Array:
    _alone("all_reduce", size)
    return x


ALL_REDUCE = register(
    OpDef(
        "all_reduce", "devices", ("x",), "Combines x over `size` devices, the result on each",
        _infer_all_reduce, _all_reduce, attrs={"monoid": "str", "size": "int"},
        effect="communicates",
    )
)  # fmt: skip


def _infer_all_gather(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(ALL_GATHER, types)
    (type,) = tensors("all_gather", types)
    check_axes("all_gather", [attrs["axis"]], type.rank)
    shape = list(type.shape)
    shape[attrs["axis"]] = shape[attrs["axis"]] * attrs["size"]
    return [type.with_shape(tuple(shape))]


def _all_gather(x: Array, axis: int, size: int) -> Array:
    _alone("all_gather", size)
    return x


ALL_GATHER = register(
    OpDef(
        "all_gather", "devices", ("x",), "Concatenates x of `size` devices along `axis`",
        _infer_all_gather, _all_gather, attrs={"axis": "int", "size": "int"},
        effect="communicates",
    )
)  # fmt: skip


def _infer_reduce_scatter(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(REDUCE_SCATTER, types)
    (type,) = tensors("reduce_scatter", types)
    check_axes("reduce_scatter", [attrs["axis"]], type.rank)
    if attrs["monoid"] not in MONOIDS:
        raise TypeRuleError(f"reduce_scatter: {attrs['monoid']!r} is none of {list(MONOIDS)}")
    shape = list(type.shape)
    shape[attrs["axis"]] = floordiv(shape[attrs["axis"]], attrs["size"])
    return [type.with_shape(tuple(shape))]


def _reduce_scatter(x: Array, monoid: str, axis: int, size: int) -> Array:
    _alone("reduce_scatter", size)
    return x


REDUCE_SCATTER = register(
    OpDef(
        "reduce_scatter", "devices", ("x",),
        "Combines x over `size` devices and leaves each its part along `axis`",
        _infer_reduce_scatter, _reduce_scatter,
        attrs={"monoid": "str", "axis": "int", "size": "int"}, effect="communicates",
    )
)  # fmt: skip


def _infer_custom(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    return list(attrs["types"])


CUSTOM_CALL = register(
    OpDef(
        "custom_call", "devices", ("*xs",),
        "Calls the C function `target`: void target(void **args), inputs then outputs",
        _infer_custom, None, attrs={"target": "str", "types": "types"}, effect="communicates",
    )
)  # fmt: skip
