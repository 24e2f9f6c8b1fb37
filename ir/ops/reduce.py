"""Reductions: along axes, arg-reductions, cumulative scans, sliding windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike, floordiv
from graphmill.ir.dtypes import DType, i64
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import (
    OpDef,
    TypeRuleError,
    check_axes,
    check_count,
    register,
    tensors,
)
from graphmill.ir.types import TensorType, Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]
Array = np.ndarray[Any, Any]

MONOIDS: dict[str, tuple[Any, str]] = {
    "sum": (np.add, "iufc"),
    "prod": (np.multiply, "iufc"),
    "max": (np.maximum, "biuf"),
    "min": (np.minimum, "biuf"),
    "all": (np.logical_and, "b"),
    "any": (np.logical_or, "b"),
}


def identity(monoid: str, dtype: DType) -> Any:
    """The neutral element of a monoid: 0, 1, the least or greatest value, True or False."""
    if monoid in ("sum", "prod"):
        return dtype.numpy.type(0 if monoid == "sum" else 1)
    if monoid in ("all", "any"):
        return np.bool_(monoid == "all")
    least = monoid == "max"
    if dtype.kind == "b":
        return np.bool_(not least)
    if dtype.is_float:
        return dtype.numpy.type(-np.inf if least else np.inf)
    info = np.iinfo(dtype.numpy)
    return dtype.numpy.type(info.min if least else info.max)


def _check_monoid(name: str, monoid: str, type: TensorType) -> None:
    if monoid not in MONOIDS:
        raise TypeRuleError(f"{name}: {monoid!r} is none of {list(MONOIDS)}")
    if type.dtype.kind not in MONOIDS[monoid][1]:
        raise TypeRuleError(f"{name}: {monoid} is not defined for {type.dtype}")


def _wide(x: Array) -> Array:
    """f16 and bf16 accumulate in f32."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


def _infer_reduce(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(REDUCE, types)
    (type,) = tensors("reduce", types)
    check_axes("reduce", attrs["axes"], type.rank)
    _check_monoid("reduce", attrs["monoid"], type)
    return [type.with_shape(tuple(d for i, d in enumerate(type.shape) if i not in attrs["axes"]))]


def _reduce(x: Array, axes: Sequence[int], monoid: str) -> Array:
    with np.errstate(all="ignore"):
        function = MONOIDS[monoid][0]
        wide = _wide(x)
        start = np.asarray(identity_of(monoid, x.dtype)).astype(wide.dtype)
        result = function.reduce(wide, axis=tuple(axes), dtype=wide.dtype, initial=start)
        return np.asarray(result).astype(x.dtype)


def identity_of(monoid: str, numpy_dtype: np.dtype[Any]) -> Any:
    """`identity` by NumPy dtype."""
    from graphmill.ir.dtypes import dtype

    return identity(monoid, dtype(numpy_dtype))


REDUCE = register(
    OpDef(
        "reduce", "reduce", ("x",), "Combines along `axes`: sum, prod, max, min, all, any",
        _infer_reduce, _reduce, attrs={"axes": "ints", "monoid": "str"}, fusion="reduce", flops=1.0,
    )
)  # fmt: skip


def _infer_argreduce(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(ARGREDUCE, types)
    (type,) = tensors("argreduce", types)
    axis = attrs["axis"]
    check_axes("argreduce", [axis], type.rank)
    if attrs["kind"] not in ("max", "min") or type.dtype.is_complex:
        raise TypeRuleError(f"argreduce: {attrs['kind']!r} of {type.dtype} is not defined")
    if type.shape[axis] == 0:
        raise TypeRuleError("argreduce: an empty axis has no largest or smallest element")
    return [TensorType(i64, tuple(d for i, d in enumerate(type.shape) if i != axis))]


ARGREDUCE = register(
    OpDef(
        "argreduce", "reduce", ("x",),
        "The first index (i64) of the largest or smallest element along `axis`; NaN counts as both",
        _infer_argreduce,
        lambda x, axis, kind: np.asarray((np.argmax if kind == "max" else np.argmin)(
            _wide(x), axis=axis)),
        attrs={"axis": "int", "kind": "str"}, flops=1.0,
    )
)  # fmt: skip


def _infer_cumulative(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(CUMULATIVE, types)
    (type,) = tensors("cumulative", types)
    check_axes("cumulative", [attrs["axis"]], type.rank)
    _check_monoid("cumulative", attrs["monoid"], type)
    return [type.with_shape(type.shape)]


def _cumulative(x: Array, axis: int, monoid: str, reverse: bool) -> Array:
    with np.errstate(all="ignore"):
        wide = _wide(np.flip(x, axis) if reverse else x)
        result = MONOIDS[monoid][0].accumulate(wide, axis=axis, dtype=wide.dtype)
        return np.asarray(np.flip(result, axis) if reverse else result).astype(x.dtype)


CUMULATIVE = register(
    OpDef(
        "cumulative", "reduce", ("x",), "Running sum, prod, max or min along `axis`",
        _infer_cumulative, _cumulative, attrs={"axis": "int", "monoid": "str", "reverse": "bool"},
        flops=1.0,
    )
)  # fmt: skip


def window_sizes(
    shape: Sequence[DimLike], window: Sequence[int], attrs: Attrs, name: str
) -> list[DimLike]:
    """Output sizes of a sliding window with strides, padding and dilation along each axis."""
    strides, low, high = attrs["strides"], attrs["low"], attrs["high"]
    dilation = attrs["dilation"]
    if not len(shape) == len(window) == len(strides) == len(low) == len(high) == len(dilation):
        raise TypeRuleError(f"{name}: window attributes need one entry per axis")
    if any(s < 1 for s in (*strides, *dilation)) or any(w < 1 for w in window):
        raise TypeRuleError(f"{name}: window, strides and dilation must be positive")
    result: list[DimLike] = []
    for n, w, s, a, b, d in zip(shape, window, strides, low, high, dilation, strict=True):
        room = n + a + b - ((w - 1) * d + 1)
        if isinstance(room, int) and room < 0:
            span = (w - 1) * d + 1
            raise TypeRuleError(f"{name}: a window of {span} does not fit into {n + a + b}")
        result.append(floordiv(room, s) + 1)
    return result


def _infer_window(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(WINDOW_REDUCE, types)
    (type,) = tensors("window_reduce", types)
    _check_monoid("window_reduce", attrs["monoid"], type)
    sizes = window_sizes(type.shape, attrs["window"], attrs, "window_reduce")
    return [type.with_shape(tuple(sizes))]


def _window_reduce(
    x: Array, window: Any, strides: Any, low: Any, high: Any, dilation: Any, monoid: str
) -> Array:
    wide = _wide(x)
    start = np.asarray(identity_of(monoid, x.dtype)).astype(wide.dtype)
    pads = list(zip(low, high, strict=True))
    padded = np.pad(wide, pads, constant_values=start) if x.ndim else wide
    spans = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(padded, spans)
    steps = tuple(slice(None, None, s) for s in strides)
    view = view[(*steps, *(slice(None, None, d) for d in dilation))]
    axes = tuple(range(x.ndim, 2 * x.ndim))
    with np.errstate(all="ignore"):
        result = MONOIDS[monoid][0].reduce(view, axis=axes, dtype=wide.dtype, initial=start)
        return np.asarray(result).astype(x.dtype)


WINDOW_REDUCE = register(
    OpDef(
        "window_reduce", "reduce", ("x",), "Combines a sliding window; padding is neutral",
        _infer_window, _window_reduce,
        attrs={"window": "ints", "strides": "ints", "low": "ints", "high": "ints",
               "dilation": "ints", "monoid": "str"},
        flops=1.0,
    )
)  # fmt: skip
