"""Reductions along axes: sums, means, extremes, counts, running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import sizes
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    apply,
    as_dtype,
    as_tracer,
    astype,
    broadcast_shapes,
    broadcast_to,
    dim_value,
    emit,
    emit_op,
)
from graphmill.frontend.describe import failure
from graphmill.frontend.state import current
from graphmill.frontend.ufuncs import constant_like, copied, evaluate, truth
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType, bool_, f32, f64, i64, u64
from graphmill.ir.ops.reduce import identity

UNSET: Any = np._NoValue


def reduce(x: Tracer, monoid: str, over: tuple[int, ...], keepdims: bool = False) -> Tracer:
    """Combine along axes: `sum prod max min all any`; x has the monoid's dtype."""
    if not over:
        return copied(x)
    result = emit("reduce", x, axes=over, monoid=monoid)
    return emit("reshape", result, shape=ax.kept(x, over)) if keepdims else result


def masked(x: Tracer, where: Any, neutral: Any) -> Tracer:
    """x where the mask holds, else the neutral element."""
    if where is True or where is UNSET:
        return x
    mask = astype(where, bool_)
    shape = broadcast_shapes(x.dims, mask.dims, args=[x, where])
    x = broadcast_to(x, shape)
    return emit("select", broadcast_to(mask, shape), x, constant_like(x, neutral))


def _combine(monoid: str, x: Tracer, axis: Any, keepdims: Any, initial: Any, where: Any) -> Tracer:
    x = masked(x, where, identity(monoid, x.element))
    over = ax.axes(axis, x.ndim, x)
    result = reduce(x, monoid, over, bool(keepdims) and keepdims is not UNSET)
    if initial is UNSET or initial is None:
        return result
    names = {"sum": "add", "prod": "mul", "all": "and", "any": "or"}
    start = constant_like(result, initial) if not isinstance(initial, Tracer) else initial
    return emit(names.get(monoid, monoid), result, broadcast_to(astype(start, x.element),
                                                                result.dims))  # fmt: skip


def sum_dtype(of: DType) -> DType:
    """What NumPy sums in: small integers and bools in 64 bits."""
    if of.kind in "bi":
        return i64
    return u64 if of.kind == "u" else of


@implements(np.sum)
def sum(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = UNSET,
    where: Any = True,
) -> Tracer:  # fmt: skip
    x = as_tracer(a)
    x = astype(x, sum_dtype(x.element) if dtype is None else dtype)
    if x.element is bool_:
        return _combine("any", x, axis, keepdims, initial, where)
    return _combine("sum", x, axis, keepdims, initial, where)


@implements(np.prod)
def prod(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, initial: Any = UNSET,
    where: Any = True,
) -> Tracer:  # fmt: skip
    x = as_tracer(a)
    x = astype(x, sum_dtype(x.element) if dtype is None else dtype)
    if x.element is bool_:
        return _combine("all", x, axis, keepdims, initial, where)
    return _combine("prod", x, axis, keepdims, initial, where)


def require_some(x: Tracer, over: Sequence[int]) -> None:
    """Let the call fail (GM062) if the symbolic axes `over` turn out empty; a choice needs one."""
    for axis in over:
        require_least(x, axis, 1)


def require_least(x: Tracer, axis: int, least: DimLike) -> bool:
    """Let the call fail (GM062) if an axis turns out shorter; False where it is known to be."""
    enough = sizes.compare(x.dims[axis] - least, ">", -1, current().trace.bounds)
    if enough is None:
        emit_op("require", (), {"size": x.dims[axis], "least": least})
    return enough is not False


def _extreme(monoid: str, a: Any, axis: Any, keepdims: Any, initial: Any, where: Any) -> Tracer:
    x = as_tracer(a)
    if x.element.is_complex:
        raise failure(
            "GM015",
            f"np.{monoid} of {x.element}",
            [a],
            why="complex numbers have no order.",
            hint="compare np.abs(x).",
        )
    unbounded = initial is UNSET or initial is None
    if unbounded and 0 in [x.dims[i] for i in ax.axes(axis, x.ndim, x)]:
        raise failure(
            "GM017",
            f"np.{monoid} of no elements",
            [a],
            why="an empty axis has no largest or smallest element.",
            hint="pass initial=.",
        )
    if unbounded and where is not True and where is not UNSET:
        raise failure(
            "GM011",
            f"np.{monoid}(where=…) without initial=",
            [a],
            hint="pass initial=, the value where the mask holds nowhere.",
        )
    if unbounded:
        require_some(x, ax.axes(axis, x.ndim, x))
    return _combine(monoid, x, axis, keepdims, initial, where)


@implements(np.max, np.amax)
def max(
    a: Any, axis: Any = None, keepdims: Any = False, initial: Any = UNSET, where: Any = True
) -> Tracer:
    return _extreme("max", a, axis, keepdims, initial, where)


def largest(x: Tracer, axis: Any) -> Tracer:
    """The maximum along axes, which stay with size 1; the least value along an empty axis."""
    return reduce(x, "max", ax.axes(axis, x.ndim, x), True)


@implements(np.min, np.amin)
def min(
    a: Any, axis: Any = None, keepdims: Any = False, initial: Any = UNSET, where: Any = True
) -> Tracer:
    return _extreme("min", a, axis, keepdims, initial, where)


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, keepdims: Any = False) -> Tracer:
    return emit("sub", max(a, axis, keepdims), min(a, axis, keepdims))


@implements(np.all)
def all(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Tracer:
    return _combine("all", truth(as_tracer(a)), axis, keepdims, UNSET, where)


@implements(np.any)
def any(a: Any, axis: Any = None, keepdims: Any = False, *, where: Any = True) -> Tracer:
    return _combine("any", truth(as_tracer(a)), axis, keepdims, UNSET, where)


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Tracer:
    return sum(truth(as_tracer(a)), axis, None, keepdims)


# ---- means and spreads


def _inner(x: Tracer, dtype: Any) -> tuple[DType, DType]:
    """The dtype that a mean is computed in, and its result's: f16 and bf16 through f32."""
    if dtype is not None:
        to = as_dtype(dtype)
        return to, to
    if not x.element.is_inexact:
        return f64, f64
    return (f32 if x.element.is_float and x.element.bits == 16 else x.element), x.element


def count(x: Tracer, over: tuple[int, ...], where: Any, to: DType, keepdims: bool) -> Tracer:
    """How many elements each result combines, as `to` (real)."""
    if where is True or where is UNSET:
        return dim_value(product(x.dims[i] for i in over), to.real)
    mask = broadcast_to(astype(where, bool_), x.dims)
    return astype(reduce(astype(mask, i64), "sum", over, keepdims), to.real)


def _over_count(total: Tracer, n: Tracer) -> Tracer:
    return emit("div", total, broadcast_to(astype(n, total.element), total.dims))


@implements(np.mean)
def mean(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, *, where: Any = True
) -> Tracer:
    x = as_tracer(a)
    inner, outer = _inner(x, dtype)
    x = astype(x, inner)
    over = ax.axes(axis, x.ndim, x)
    keep = bool(keepdims) and keepdims is not UNSET
    total = reduce(masked(x, where, 0), "sum", over, keep)
    return astype(_over_count(total, count(x, over, where, inner, keep)), outer)


@implements(np.var)
def var(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = UNSET, correction: Any = UNSET,
) -> Tracer:  # fmt: skip
    x = as_tracer(a)
    inner, outer = _inner(x, dtype)
    x = astype(x, inner)
    over = ax.axes(axis, x.ndim, x)
    keep = bool(keepdims) and keepdims is not UNSET
    if mean is UNSET:
        total = reduce(masked(x, where, 0), "sum", over, True)
        centre = _over_count(total, count(x, over, where, inner, True))
    else:
        centre = astype(mean, inner)
    gap = emit("sub", x, broadcast_to(centre, x.dims))
    if inner.is_complex:
        parts = emit("real", gap), emit("imag", gap)
        square = emit("add", emit("square", parts[0]), emit("square", parts[1]))
    else:
        square = emit("square", gap)
    total = reduce(masked(square, where, 0), "sum", over, keep)
    n = count(x, over, where, inner, keep)
    less = correction if correction is not UNSET else ddof
    if isinstance(less, Tracer) or less != 0:
        n = emit("max", apply("sub", n, astype(less, n.element)), constant_like(n, 0))
    return astype(_over_count(total, n), outer.real)


@implements(np.std)
def std(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = UNSET, correction: Any = UNSET,
) -> Any:  # fmt: skip
    x = as_tracer(a)
    return evaluate(
        np.sqrt,
        var(x, axis, dtype, ddof, keepdims, where=where, mean=mean, correction=correction),
    )


# ---- places and running totals


def _arg(kind: str, a: Any, axis: Any, keepdims: Any) -> Tracer:
    x = as_tracer(a)
    shape: tuple[DimLike, ...] = ax.kept(x, range(x.ndim))
    if axis is None:
        require_some(x, range(x.ndim))
        flat = emit("reshape", x, shape=(x.type.size,))
        result = emit("argreduce", flat, axis=0, kind=kind)
    else:
        along = ax.axis(axis, x.ndim, x)
        require_some(x, (along,))
        shape = ax.kept(x, (along,))
        result = emit("argreduce", x, axis=along, kind=kind)
    keep = bool(keepdims) and keepdims is not UNSET
    return emit("reshape", result, shape=shape) if keep else result


@implements(np.argmax)
def argmax(a: Any, axis: Any = None, *, keepdims: Any = False) -> Tracer:
    return _arg("max", a, axis, keepdims)


@implements(np.argmin)
def argmin(a: Any, axis: Any = None, *, keepdims: Any = False) -> Tracer:
    return _arg("min", a, axis, keepdims)


def cumulative(a: Any, monoid: str, axis: Any, dtype: Any = None) -> Tracer:
    """A running combination along an axis, or over all elements for axis None."""
    x = as_tracer(a)
    if monoid in ("sum", "prod"):
        x = astype(x, sum_dtype(x.element) if dtype is None else dtype)
    if axis is None:
        x = emit("reshape", x, shape=(x.type.size,))
        axis = 0
    return emit("cumulative", x, axis=ax.axis(axis, x.ndim, x), monoid=monoid, reverse=False)


@implements(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None) -> Tracer:
    return cumulative(a, "sum", axis, dtype)


@implements(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None) -> Tracer:
    return cumulative(a, "prod", axis, dtype)


@implements(np.cumulative_sum)
def cumulative_sum(
    x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False
) -> Tracer:
    return _cumulative_with_initial(x, "sum", axis, dtype, include_initial)


@implements(np.cumulative_prod)
def cumulative_prod(
    x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False
) -> Tracer:
    return _cumulative_with_initial(x, "prod", axis, dtype, include_initial)


def _cumulative_with_initial(
    a: Any, monoid: str, axis: Any, dtype: Any, include_initial: bool
) -> Tracer:
    x = as_tracer(a)
    if axis is None and x.ndim != 1:
        raise failure(
            "GM016", "axis= is needed", [a], why="the array is not 1-d.", hint="pass axis=."
        )
    along = 0 if axis is None else ax.axis(axis, x.ndim, x)
    result = cumulative(x, monoid, along, dtype)
    if not include_initial:
        return result
    low = tuple(int(i == along) for i in range(x.ndim))
    zeros = (0,) * x.ndim
    start = as_tracer(0 if monoid == "sum" else 1, result.element)
    return emit("pad", result, start, low=low, high=zeros, interior=zeros)


# ---- ignoring NaN


def _without_nan(a: Any, neutral: Any) -> tuple[Tracer, Any]:
    """The array with NaN replaced, and the mask of what was none (True when there can be none)."""
    x = as_tracer(a)
    if not x.element.is_inexact:
        return x, True
    missing = emit("isnan", x)
    filled = emit("select", missing, constant_like(x, neutral), x)
    return filled, emit("not", missing)


def _nan_free(name: str, function: Callable[..., Any], neutral: Any) -> Callable[..., Any]:
    def ours(a: Any, axis: Any = None, **options: Any) -> Any:
        return function(_without_nan(a, neutral)[0], axis, **options)

    ours.__name__ = name
    return ours


for _numpy, _function, _neutral in (
    (np.nansum, sum, 0), (np.nanprod, prod, 1), (np.nancumsum, cumsum, 0),
    (np.nancumprod, cumprod, 1), (np.nanargmax, argmax, -np.inf), (np.nanargmin, argmin, np.inf),
):  # fmt: skip
    implements(_numpy)(_nan_free(_numpy.__name__, _function, _neutral))


def _nan_extreme(a: Any, axis: Any, function: Callable[..., Any], worst: float,
                 options: Any) -> Any:  # fmt: skip
    """The extreme of the numbers; NaN where there is none."""
    x, present = _without_nan(a, worst)
    result = function(x, axis, **options)
    if present is True:
        return result
    keep = {"keepdims": options["keepdims"]} if "keepdims" in options else {}
    found = any(present, axis, **keep)
    return emit("select", found, result, constant_like(result, np.nan))


@implements(np.nanmax)
def nanmax(a: Any, axis: Any = None, **options: Any) -> Any:
    return _nan_extreme(a, axis, max, -np.inf, options)


@implements(np.nanmin)
def nanmin(a: Any, axis: Any = None, **options: Any) -> Any:
    return _nan_extreme(a, axis, min, np.inf, options)


def _both(mask: Any, where: Any) -> Any:
    if mask is True or where is True or where is UNSET:
        return where if mask is True else mask
    return evaluate(np.logical_and, mask, where)


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False, *, where: Any = True
) -> Tracer:
    x, present = _without_nan(a, 0)
    return mean(x, axis, dtype, keepdims, where=_both(present, where))


@implements(np.nanvar)
def nanvar(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True,
) -> Tracer:  # fmt: skip
    x, present = _without_nan(a, 0)
    return var(x, axis, dtype, ddof, keepdims, where=_both(present, where))


@implements(np.nanstd)
def nanstd(
    a: Any, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True,
) -> Any:  # fmt: skip
    return evaluate(np.sqrt, nanvar(a, axis, dtype, ddof, keepdims, where=where))
