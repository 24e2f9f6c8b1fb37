"""Solving and factoring matrices by loops over their columns: solve, inv, det, slogdet, cholesky.

Matrices are in the last two axes, floats or complex numbers (integers become f64). One loop step
handles all matrices of a batch and all rows at once; sizes may be symbolic. A singular matrix
gives infinities or NaN, where NumPy raises.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphmill.frontend import control
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_shapes,
    broadcast_to,
    emit,
    promote_args,
    scope,
)
from graphmill.frontend.creation import identity_matrix
from graphmill.frontend.describe import failure
from graphmill.frontend.joining import concatenate
from graphmill.frontend.selecting import take, take_along_axis, where
from graphmill.frontend.shaping import iota, reshaped, sliced, swapaxes
from graphmill.frontend.sizes import of
from graphmill.ir.dtypes import f64, i64

PANEL = 64  # columns of a factor between two matrix products, at least
PANELS = 6  # at most: each has kernels of its own


class Determinant(NamedTuple):
    """What `slogdet` returns: the sign (or phase) and the logarithm of the absolute value."""

    sign: Any
    logabsdet: Any


def _square(name: str, a: Any) -> Tracer:
    x = as_tracer(a)
    if x.ndim < 2 or x.dims[-1] != x.dims[-2]:
        raise failure(
            "GM014", f"{name} of [{', '.join(map(str, x.dims))}]", [a],
            why="the last two axes have to be a square matrix.", hint="check the shape above.",
        )  # fmt: skip
    return _inexact(name, x)


def _inexact(name: str, x: Tracer) -> Tracer:
    if x.element.is_float and x.element.bits == 16:
        raise failure("GM015", f"{name} of {x.element}", [x], hint="cast to float32 first.")
    return x if x.element.is_inexact else astype(x, f64)


def _eliminated(a: Any, full: bool) -> tuple[Any, Any, Any]:
    """Gaussian elimination with partial pivoting of a [..., n, n + m].

    Returns the reduced rows, the pivots [..., n] and the sign of the row exchanges [...]. `full`
    clears columns above the diagonal too and scales pivots to 1 (Gauss-Jordan).
    """
    rows = a.dims[-2]
    at: Any = iota(rows)
    lead = a.dims[:-2]
    pivots = broadcast_to(as_tracer(1, a.element), (*lead, rows))
    swaps = broadcast_to(as_tracer(1, a.element.real), lead)

    if rows == 0:
        return a, pivots, swaps

    def step(k: Any, state: Any) -> Any:
        a, pivots, sign = state
        column = take(a, k, -1)
        best = emit("argreduce", where(at >= k, np.abs(column), -1.0), axis=len(lead), kind="max")
        chosen = reshaped(best, (*lead, 1))
        order = where(at == k, chosen, where(at == chosen, k, at))
        a = take_along_axis(a, reshaped(order, (*order.dims, 1)), -2)
        row, column = take(a, k, -2), take(a, k, -1)
        pivot = reshaped(take(row, k, -1), (*lead, 1))
        # below a pivot of 0 there is nothing to clear
        scaled = row / (pivot if full else where(pivot == 0, 1, pivot))
        others = where(at != k if full else at > k, column, 0)
        a = a - reshaped(others, (*others.dims, 1)) * reshaped(scaled, (*lead, 1, row.dims[-1]))
        if full:
            here = reshaped(at, (rows, 1)) == k
            a = where(here, reshaped(scaled, (*lead, 1, row.dims[-1])), a)
        return a, where(at == k, pivot, pivots), where(best == k, sign, -sign)

    made = control.fori_loop(0, of(rows), step, (a, pivots, swaps))
    return made[0], made[1], made[2]


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Tracer:
    """x such that a @ x = b, by Gauss-Jordan elimination with partial pivoting."""
    square, right = promote_args(_square("solve", a), _inexact("solve", as_tracer(b)))
    vector = right.ndim == 1
    if vector:
        right = reshaped(right, (right.type.size, 1))
    if right.ndim < 2 or right.dims[-2] != square.dims[-1]:
        raise failure(
            "GM014", f"solve with {square.type} and {as_tracer(b).type}", [a, b],
            why="the right side has as many rows as the matrix.", hint="check the shapes above.",
        )  # fmt: skip
    n, m = right.dims[-2:]
    lead = broadcast_shapes(square.dims[:-2], right.dims[:-2], args=[a, b])
    with scope("solve"):
        both = [broadcast_to(square, (*lead, n, n)), broadcast_to(right, (*lead, n, m))]
        done, _, _ = _eliminated(concatenate(both, -1), True)
        result = sliced(done, done.ndim - 1, n, n + m)
    return reshaped(result, (*lead, n)) if vector else result


@implements(np.linalg.inv)
def inv(a: Any) -> Tracer:
    """The inverse, by Gauss-Jordan elimination with partial pivoting."""
    square = _square("inv", a)
    return solve(square, astype(identity_matrix(square.dims[-1]), square.element))


@implements(np.linalg.det)
def det(a: Any) -> Any:
    """The product of the pivots of Gaussian elimination."""
    with scope("det"):
        _, pivots, sign = _eliminated(_square("det", a), False)
        total = emit("reduce", pivots, axes=(pivots.ndim - 1,), monoid="prod")
        return total * sign


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Determinant:
    """Sign and logarithm of the absolute determinant, from the pivots of elimination."""
    with scope("slogdet"):
        _, pivots, sign = _eliminated(_square("slogdet", a), False)
        last = pivots.ndim - 1
        signs = emit("reduce", np.sign(pivots), axes=(last,), monoid="prod")
        return Determinant(signs * sign, np.sum(np.log(np.abs(pivots)), axis=last))


def _factored(a: Any) -> Any:
    """L of one real matrix below the diagonal, panel by panel, row by row: sums of products of what
    is left of a panel are a matrix product. What is above the diagonal is neither read nor changed.
    """
    rows = a.dims[-1]
    if not isinstance(rows, int) or rows <= 2 * PANEL:
        return _panel(a, 0, of(rows), of(rows))
    width = max(PANEL, -(-rows // PANELS))
    for start in range(0, rows, width):
        end = min(start + width, rows)
        if start:
            left = a[start:, :start]
            a = _stored(a, start, a[start:, start:end] - left @ left[: end - start].T)
        a = _panel(a, start, end, rows)
    return a


def _stored(a: Any, start: int, part: Any) -> Any:
    at = [as_tracer(start, i64)] * 2
    return emit("dynamic_update_slice", a, part, *at)


def _panel(a: Any, start: int, end: Any, rows: Any) -> Any:
    """The columns from `start` to `end` of the factor, once what is left of them is taken off."""

    def column(i: Any) -> Any:
        def step(j: Any, a: Any) -> Any:
            a[i, j] = (a[i, j] - (a[i, start:j] * a[j, start:j]).sum()) / a[j, j]
            return a

        return step

    def diagonal(i: Any, a: Any) -> Any:
        a = control.fori_loop(start, i, column(i), a)
        a[i, i] = np.sqrt(a[i, i] - (a[i, start:i] * a[i, start:i]).sum())
        return a

    def below(i: Any, a: Any) -> Any:
        return control.fori_loop(start, end, column(i), a)

    return control.fori_loop(end, rows, below, control.fori_loop(start, end, diagonal, a))


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """L with L @ conj(L.T) = a, column by column; NaN where a is not positive definite."""
    x: Any = _square("cholesky", a)
    rows, lead = x.dims[-1], x.dims[:-2]
    at: Any = iota(rows)

    def step(k: Any, state: Any) -> Any:
        rest, factor = state
        column = take(rest, k, -1)
        root = np.sqrt(reshaped(take(column, k, -1), (*lead, 1)))
        column = where(at >= k, column / root, 0)
        tall = reshaped(column, (*lead, rows, 1))
        rest = rest - tall * np.conjugate(reshaped(column, (*lead, 1, rows)))
        return rest, where(at == k, tall, factor)

    with scope("cholesky"):
        start = broadcast_to(as_tracer(0, x.element), x.dims)
        if lead or x.element.is_complex or rows == 0:
            _, factor = control.fori_loop(0, of(rows), step, (x, start))
        else:
            factor = where(reshaped(at, (rows, 1)) >= at, _factored(x), start)
        return np.conjugate(swapaxes(factor, -1, -2)) if upper else factor
