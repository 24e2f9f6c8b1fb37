"""Contraction and convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Region
from graphmill.ir.ops.base import (
    Cost,
    OpDef,
    TypeRuleError,
    check_axes,
    check_count,
    register,
    tensors,
)
from graphmill.ir.ops.reduce import window_sizes
from graphmill.ir.types import TensorType, Type

if TYPE_CHECKING:
    from graphmill.ir.graph import Op

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]
Array = np.ndarray[Any, Any]


def free_axes(rank: int, *used: Sequence[int]) -> list[int]:
    """The axes in none of `used`, ascending."""
    taken = {axis for axes in used for axis in axes}
    return [axis for axis in range(rank) if axis not in taken]


def _infer_dot(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(DOT_GENERAL, types)
    x, y = tensors("dot_general", types)
    if x.dtype is not y.dtype:
        raise TypeRuleError(f"dot_general: dtypes {x.dtype} and {y.dtype} differ")
    for type, names in ((x, ("x_batch", "x_contract")), (y, ("y_batch", "y_contract"))):
        check_axes("dot_general", [*attrs[names[0]], *attrs[names[1]]], type.rank)
    for kind in ("batch", "contract"):
        a, b = attrs[f"x_{kind}"], attrs[f"y_{kind}"]
        if len(a) != len(b):
            raise TypeRuleError(f"dot_general: {kind} axes {list(a)} and {list(b)} do not pair up")
        for i, j in zip(a, b, strict=True):
            if x.shape[i] != y.shape[j]:
                raise TypeRuleError(
                    f"dot_general: axis {i} of the first operand has {x.shape[i]} elements, "
                    f"axis {j} of the second has {y.shape[j]}"
                )
    batch = [x.shape[i] for i in attrs["x_batch"]]
    rows = [x.shape[i] for i in free_axes(x.rank, attrs["x_batch"], attrs["x_contract"])]
    columns = [y.shape[i] for i in free_axes(y.rank, attrs["y_batch"], attrs["y_contract"])]
    return [TensorType(attrs["dtype"], (*batch, *rows, *columns))]


def _dot(
    x: Array, y: Array, x_batch: Any, y_batch: Any, x_contract: Any, y_contract: Any, dtype: DType
) -> Array:
    x_free = free_axes(x.ndim, x_batch, x_contract)
    y_free = free_axes(y.ndim, y_batch, y_contract)
    wide = np.float32 if dtype.bits == 16 and dtype.is_float else dtype.numpy
    batch = [x.shape[i] for i in x_batch]
    depth = int(np.prod([x.shape[i] for i in x_contract], dtype=int))
    rows = [x.shape[i] for i in x_free]
    columns = [y.shape[i] for i in y_free]
    a = np.transpose(x, [*x_batch, *x_free, *x_contract]).astype(wide)
    b = np.transpose(y, [*y_batch, *y_contract, *y_free]).astype(wide)
    a = a.reshape(*batch, int(np.prod(rows, dtype=int)), depth)
    b = b.reshape(*batch, depth, int(np.prod(columns, dtype=int)))
    with np.errstate(all="ignore"):
        result = np.matmul(a, b).reshape([*batch, *rows, *columns])
    return np.asarray(result.astype(dtype.numpy))


def _dot_cost(op: Op) -> Cost:
    x, y, result = op.operands[0].tensor, op.operands[1].tensor, op.result.tensor
    depth = product(x.shape[i] for i in op.attrs["x_contract"])
    factor = 8 if result.dtype.is_complex else 2
    return Cost(result.size * depth * factor, x.nbytes + y.nbytes + result.nbytes)


DOT_GENERAL = register(
    OpDef(
        "dot_general", "contract", ("x", "y"),
        "Sums products over the contract axes: batch axes first, then x's free, then y's free; "
        "accumulates in `dtype` (f32 for 16-bit floats)",
        _infer_dot, _dot,
        attrs={"x_batch": "ints", "y_batch": "ints", "x_contract": "ints", "y_contract": "ints",
               "dtype": "dtype"},
        kinds="biufc", fusion="contract", cost=_dot_cost,
    )
)  # fmt: skip


def _infer_conv(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(CONV, types)
    x, w = tensors("conv", types)
    groups = attrs["groups"]
    if x.dtype is not w.dtype:
        raise TypeRuleError(f"conv: dtypes {x.dtype} and {w.dtype} differ")
    if x.rank != w.rank or x.rank < 3:
        raise TypeRuleError(
            f"conv: x {x} must be [batch, channels, *spatial] and w {w} "
            "[out_channels, channels / groups, *spatial]"
        )
    out = w.shape[0]
    if x.shape[1] != w.shape[1] * groups:
        raise TypeRuleError(
            f"conv: x has {x.shape[1]} channels, w takes {w.shape[1]} in {groups} groups"
        )
    if isinstance(out, int) and out % groups:
        raise TypeRuleError(f"conv: {out} output channels do not split into {groups} groups")
    spread = attrs["input_dilation"]
    if len(spread) != x.rank - 2 or any(s < 1 for s in spread):
        raise TypeRuleError("conv: input_dilation needs one positive entry per spatial axis")
    spatial: list[DimLike] = []
    for dim, by in zip(x.shape[2:], spread, strict=True):
        spatial.append(dim if by == 1 else (dim - 1) * by + 1)
    window = []
    for dim in w.shape[2:]:
        if not isinstance(dim, int):
            raise TypeRuleError("conv: the window must have a fixed size")
        window.append(dim)
    sizes = window_sizes(spatial, window, attrs, "conv")
    return [TensorType(x.dtype, (x.shape[0], out, *sizes))]


def _conv(
    x: Array, w: Array, strides: Any, low: Any, high: Any, dilation: Any, input_dilation: Any,
    groups: int,
) -> Array:  # fmt: skip
    rank = x.ndim - 2
    wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x.dtype
    shape = [max((n - 1) * by + 1, 0) for n, by in zip(x.shape[2:], input_dilation, strict=True)]
    spread = np.zeros((*x.shape[:2], *shape), wide)
    spread[(slice(None), slice(None), *(slice(None, None, by) for by in input_dilation))] = x
    padded = np.pad(spread, [(0, 0), (0, 0), *zip(low, high, strict=True)])
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + rank)))
    every = (slice(None), slice(None))
    view = view[(*every, *(slice(None, None, s) for s in strides),
                 *(slice(None, None, d) for d in dilation))]  # fmt: skip
    places, taps = view.shape[2 : 2 + rank], w.shape[2:]
    view = view.reshape(x.shape[0], groups, w.shape[1], *places, *taps)
    kernel = w.astype(wide).reshape(groups, w.shape[0] // groups, w.shape[1], *taps)
    p, t = "pqr"[:rank], "uvw"[:rank]
    result = np.einsum(f"ngc{p}{t},goc{t}->ngo{p}", view, kernel, optimize=True)
    return np.asarray(result.reshape(x.shape[0], w.shape[0], *places).astype(x.dtype))


def _conv_cost(op: Op) -> Cost:
    x, w, result = op.operands[0].tensor, op.operands[1].tensor, op.result.tensor
    taps = product(w.shape[1:])
    return Cost(result.size * taps * 2, x.nbytes + w.nbytes + result.nbytes)


CONV = register(
    OpDef(
        "conv", "contract", ("x", "w"),
        "Cross-correlation of x [n, c, *spatial] with w [o, c/groups, *window]",
        _infer_conv, _conv,
        attrs={"strides": "ints", "low": "ints", "high": "ints", "dilation": "ints",
               "input_dilation": "ints", "groups": "int"},
        kinds="iufc", fusion="contract", cost=_conv_cost,
    )
)  # fmt: skip
