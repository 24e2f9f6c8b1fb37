"""Norms, averages, quantiles and covariances."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import joining, reductions, selecting, shaping
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_to,
    emit,
    result_type,
)
from graphmill.frontend.describe import failure
from graphmill.frontend.shaping import reshaped, transposed
from graphmill.frontend.sizes import of
from graphmill.frontend.ufuncs import constant_like, evaluate
from graphmill.ir.dtypes import DType, f64

# ---- norms


def _absolute(x: Tracer) -> Tracer:
    y: Tracer = evaluate(np.absolute, x)
    return y if y.element.is_inexact else astype(y, f64)


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Any:
    a = _absolute(as_tracer(x))
    if ord == np.inf:
        return reductions.max(a, axis, keepdims)
    if ord == -np.inf:
        return reductions.min(a, axis, keepdims)
    if ord == 0:
        return astype(reductions.count_nonzero(a, axis, keepdims=keepdims), a.element)
    if ord == 1:
        return reductions.sum(a, axis, None, keepdims)
    if ord in (2, None):
        return evaluate(np.sqrt, reductions.sum(emit("square", a), axis, None, keepdims))
    total = reductions.sum(evaluate(np.power, a, ord), axis, None, keepdims)
    return evaluate(np.power, total, 1.0 / ord)


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: Any = False, ord: Any = "fro") -> Any:
    return norm(x, ord, (-2, -1), keepdims)


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    a = as_tracer(x)
    if axis is None and ord is None:
        result = vector_norm(reshaped(a, (a.type.size,)))
        return reshaped(result, (1,) * a.ndim) if keepdims else result
    given = tuple(range(a.ndim)) if axis is None else axis
    listed = tuple(given) if isinstance(given, tuple | list) else (given,)
    if len(listed) == 1:
        return vector_norm(a, axis=listed[0], keepdims=keepdims, ord=2 if ord is None else ord)
    i, j = (ax.axis(k, a.ndim, a) for k in listed)
    size = _absolute(a)
    if ord in (None, "fro", "f"):
        return evaluate(np.sqrt, reductions.sum(emit("square", size), (i, j), None, keepdims))
    if ord not in (1, -1, np.inf, -np.inf):
        raise failure(
            "GM011",
            f"np.linalg.norm(ord={ord!r}) of matrices",
            [x],
            why="it needs singular values, which Graphmill does not compute.",
            hint='ord "fro", 1, -1, inf and -inf work.',
        )
    summed, chosen = (i, j) if ord in (1, -1) else (j, i)
    sums = reductions.sum(size, summed, None, True)
    pick = reductions.max if ord in (1, np.inf) else reductions.min
    result = pick(sums, chosen, True)
    return result if keepdims else shaping.squeeze(result, (i, j))


# ---- order statistics


@implements(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    x = as_tracer(a)
    keep = bool(keepdims) and keepdims is not reductions.UNSET
    if weights is None:
        mean = reductions.mean(x, axis, None, keep)
        total = reductions.count(x, ax.axes(axis, x.ndim, x), True, mean.element, keep)
        return (mean, broadcast_to(total, mean.dims)) if returned else mean
    w = as_tracer(weights)
    if w.dims != x.dims:
        along = ax.axis(axis, x.ndim, x)
        w = reshaped(w, [d if i == along else 1 for i, d in enumerate(x.dims)])
    kind = result_type(x, w) if result_type(x, w).is_inexact else f64
    x, w = astype(x, kind), broadcast_to(astype(w, kind), x.dims)
    total = reductions.sum(w, axis, None, keep)
    mean = emit("div", reductions.sum(emit("mul", x, w), axis, None, keep), total)
    return (mean, total) if returned else mean


def _quantile(a: Any, q: Any, axis: Any, method: str, keepdims: Any, skip_nan: bool) -> Any:
    """Linear between the two nearest of the sorted elements; NaN if there is one."""
    if method != "linear":
        raise failure("GM011", f"method={method!r}", [a], hint='method="linear" works.')
    if skip_nan:
        raise failure("GM010", "np.nanquantile", [a], hint="replace NaN before the call.")
    x = as_tracer(a)
    kind = x.element if x.element.is_float else f64
    over = ax.axes(axis, x.ndim, x)
    rest = [i for i in range(x.ndim) if i not in over]
    flat = transposed(astype(x, kind), (*rest, *over))
    size = ax.count(x, over)
    flat = reshaped(flat, (*(x.dims[i] for i in rest), size))
    fractions, kind = _fractions(q, kind)
    exact = fractions.element
    last = astype(evaluate(np.subtract, selecting.as_tracer_dim(flat, len(rest)), 1), exact)
    place = evaluate(np.multiply, fractions, last)
    below = evaluate(np.floor, place)
    weight = evaluate(np.subtract, place, below)
    lower = astype(below, np.int64)
    upper = evaluate(np.minimum, evaluate(np.add, lower, 1), astype(last, np.int64))
    ordered = _ordered(flat, lower, upper)
    rows = [transposed(ordered, (len(rest), *range(len(rest))))] * 2
    low, high = (selecting.take(r, i, 0) for r, i in zip(rows, (lower, upper), strict=True))
    weight = reshaped(astype(weight, kind), (*weight.dims, *(1 for _ in rest)))
    result = _lerp(low, high, weight)
    missing = reductions.any(emit("isnan", flat), len(rest))
    if not isinstance(size, int) or size == 0:
        # nothing lies in the middle of no elements
        none = evaluate(np.equal, selecting.as_tracer_dim(flat, len(rest)), 0)
        missing = evaluate(np.logical_or, missing, none)
    missing = broadcast_to(missing, result.dims)
    result = emit("select", missing, constant_like(result, np.nan), result)
    if keepdims is True:
        result = reshaped(result, (*fractions.dims, *ax.kept(x, over)))
    return result


def _ordered(x: Tracer, lower: Tracer, upper: Tracer) -> Tracer:
    """x in order along its last axis, where one quantile is wanted only from `lower` to `upper`."""
    last = x.ndim - 1
    if lower.dims:
        return emit("sort", x, axis=last, descending=False)
    return emit("partition", x, lower, upper, axis=last)


def _fractions(q: Any, kind: DType) -> tuple[Tracer, DType]:
    """The fractions in their own precision, and the result's dtype: weak for a Python number."""
    weak = q.weak if isinstance(q, Tracer) else type(q) in (int, float)
    if not isinstance(q, Tracer):
        q = np.asarray(q)
        if not ((q >= 0) & (q <= 1)).all():
            raise failure(
                "GM025", f"a quantile of {q}", [],
                hint="fractions lie between 0 and 1, percentages between 0 and 100.",
            )  # fmt: skip
    found = as_tracer(q)
    found = found if found.element.is_float and not weak else astype(found, f64)
    return found, kind if weak else result_type(kind, found)


def _lerp(a: Tracer, b: Tracer, t: Tracer) -> Tracer:
    """a + (b - a) t, from b's side beyond the middle (as NumPy, to be exact at the ends)."""
    gap = astype(emit("sub", b, a), t.element)
    a, b, t = astype(a, t.element), astype(b, t.element), broadcast_to(t, gap.dims)
    near = emit("add", a, emit("mul", gap, t))
    one = constant_like(t, 1)
    far = emit("sub", b, emit("mul", gap, emit("sub", one, t)))
    late = emit("ge", t, constant_like(t, 0.5))
    result = emit("select", late, far, near)
    return emit("select", emit("eq", a, b), a, result)


@implements(np.quantile)
def quantile(
    a: Any, q: Any, axis: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, **options: Any,
) -> Any:  # fmt: skip
    return _quantile(_ordered_numbers(a, "np.quantile"), q, axis, method, keepdims, False)


@implements(np.percentile)
def percentile(
    a: Any, q: Any, axis: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, **options: Any,
) -> Any:  # fmt: skip
    fraction = evaluate(np.true_divide, q, 100.0) if isinstance(q, Tracer) else _hundredth(q)
    a = _ordered_numbers(a, "np.percentile")
    return _quantile(a, fraction, axis, method, keepdims, False)


def _ordered_numbers(a: Any, name: str) -> Tracer:
    x = as_tracer(a)
    if x.element.kind in "bc":
        raise failure("GM015", f"{name} of {x.element}", [x], hint="cast to numbers with an order.")
    return x


def _hundredth(q: Any) -> Any:
    return q / 100 if type(q) in (int, float) else np.true_divide(q, 100)


@implements(np.median)
def median(a: Any, axis: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    """The mean of the two middle elements, as NumPy; not a quantile, whose rounding differs."""
    return _quantile(a, 0.5, axis, "linear", keepdims, False)


@implements(np.cov)
def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None,
) -> Any:  # fmt: skip
    x = shaping.atleast_2d(m)
    x = x if rowvar or as_tracer(m).ndim == 1 else shaping.transpose(x)
    if y is not None:
        other = shaping.atleast_2d(y)
        x = joining.concatenate([x, other if rowvar else shaping.transpose(other)], 0)
    x = astype(x, np.result_type(x.element.numpy, np.float64))
    less = ddof if ddof is not None else (0 if bias else 1)
    centred = evaluate(np.subtract, x, reductions.mean(x, 1, keepdims=True))
    turned = shaping.transpose(centred)
    turned = evaluate(np.conjugate, turned)
    result = np.matmul(centred, turned) / (of(x.dims[1]) - less)
    return shaping.squeeze(result) if 1 in result.dims else result


@implements(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Any:
    c: Any = cov(x, y, rowvar)
    if not c.dims:
        return c / c
    spread = np.sqrt(np.real(np.diagonal(c)))
    return c / spread[:, None] / spread[None, :]
