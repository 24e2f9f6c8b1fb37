"""Elementary functions in NumPy's extended precision, and errors in units in the last place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Wide = np.longdouble


def wide(x: Array) -> Array:
    """f32 as f64, f64 as the 64-bit significand of x87."""
    return x.astype(np.float64 if x.dtype == np.float32 else Wide)


def erf(x: Array) -> Array:
    """erf by its series without cancellation: 2/sqrt(pi) e^(-x²) sum 2^n x^(2n+1) / (2n+1)!!."""
    y = np.minimum(np.abs(x).astype(Wide), Wide(6.5))
    total, term = y.copy(), y.copy()
    for n in range(1, 260):
        term = term * (2 * y * y) / (2 * n + 1)
        total = total + term
    return np.copysign(total * np.exp(-y * y) * 2 / _root_pi(), x)


def erfc(x: Array) -> Array:
    """erfc by its continued fraction from 2, below by `erf`."""
    a = np.abs(x).astype(Wide)
    y = np.maximum(a, Wide(2))
    fraction = np.zeros_like(y)
    for k in range(220, 0, -1):
        fraction = Wide(k) / 2 / (y + fraction)
    far = np.where(a < 2, 1 - erf(a), np.exp(-y * y) / _root_pi() / (y + fraction))
    return np.where(x < 0, 2 - far, far)


def _root_pi() -> np.longdouble:
    return np.sqrt(Wide(np.pi) + Wide(1.2246467991473532e-16))


def logistic(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    e = np.exp(-np.abs(wide(x)))
    return np.where(x < 0, e, 1) / (1 + e)


def on_wide(function: Callable[..., Array]) -> Callable[..., Array]:
    """`function` computed in the wider type."""
    return lambda *args: function(*(wide(a) for a in args))


def ulps(got: Array, want: Array) -> Array:
    """|got - want| in units of the last place of `want`; infinite where a special value differs.

    `want` is of a wider type than `got`; subnormal results count in the smallest subnormal.
    """
    near = want.astype(got.dtype)
    special = ~np.isfinite(near) | ~np.isfinite(got)
    agree = (np.isnan(got) & np.isnan(near)) | (got == near)
    agree &= (got != 0) | (np.signbit(got) == np.signbit(near)) | np.isnan(near)
    unit = np.spacing(np.abs(np.where(special, 1, near))).astype(want.dtype)
    error = np.abs(np.where(special, 0, got).astype(want.dtype) - np.where(special, 0, want)) / unit
    return np.where(special, np.where(agree, 0.0, np.inf), error).astype(np.float64)
