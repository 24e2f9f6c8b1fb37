"""Solving and factoring matrices: solve, inv, det, slogdet, cholesky.

Matrices are in the last two axes, floats or complex numbers (integers become f64); sizes may be
symbolic. A singular matrix gives infinities or NaN, where NumPy raises.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_shapes,
    broadcast_to,
    emit,
    emit_many,
    promote_args,
    scope,
)
from graphmill.frontend.creation import identity_matrix
from graphmill.frontend.describe import failure
from graphmill.frontend.selecting import where
from graphmill.frontend.shaping import diagonal_of, iota, reshaped, swapaxes
from graphmill.ir.dtypes import f64


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


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Tracer:
    """x such that a @ x = b, by elimination with partial pivoting."""
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
    square, right = broadcast_to(square, (*lead, n, n)), broadcast_to(right, (*lead, n, m))
    result = emit("solve", square, right)
    return reshaped(result, (*lead, n)) if vector else result


@implements(np.linalg.inv)
def inv(a: Any) -> Tracer:
    """The inverse, by elimination with partial pivoting."""
    square = _square("inv", a)
    return solve(square, astype(identity_matrix(square.dims[-1]), square.element))


def _pivots(name: str, a: Any) -> tuple[Any, Any]:
    """The pivots of elimination and the sign of the row exchanges."""
    factors, swaps = emit_many("lu", _square(name, a))
    pivots = diagonal_of(factors, 0, -2, -1)
    stayed = emit("eq", swaps, broadcast_to(iota(swaps.dims[-1]), swaps.dims))
    one, other = (as_tracer(sign, pivots.element.real) for sign in (1, -1))
    return pivots, _product(where(stayed, one, other))


def _product(x: Any) -> Any:
    return emit("reduce", x, axes=(x.ndim - 1,), monoid="prod")


@implements(np.linalg.det)
def det(a: Any) -> Any:
    """The product of the pivots of Gaussian elimination."""
    with scope("det"):
        pivots, sign = _pivots("det", a)
        return _product(pivots) * sign


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Determinant:
    """Sign and logarithm of the absolute determinant, from the pivots of elimination."""
    with scope("slogdet"):
        pivots, sign = _pivots("slogdet", a)
        signs = _product(np.sign(pivots))
        return Determinant(signs * sign, np.sum(np.log(np.abs(pivots)), axis=pivots.ndim - 1))


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """L with L @ conj(L.T) = a, of which the lower half is read, or U with conj(U.T) @ U = a, of
    which the upper one is; NaN where a is not positive definite."""
    x: Any = _square("cholesky", a)
    if upper:
        return emit("cholesky", x)
    with scope("cholesky"):
        return _turned(emit("cholesky", _turned(x)))


def _turned(x: Any) -> Any:
    return np.conjugate(swapaxes(x, -1, -2))
