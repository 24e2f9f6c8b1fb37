"""Sums, means, extremes and running totals."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend.numpy.arrays import Array

Axes = int | tuple[int, ...] | None


def cumulative_prod(
    x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    """Running products along an axis, with a leading 1 if `include_initial`."""
    return np.cumulative_prod(x, axis=axis, dtype=dtype, include_initial=include_initial)


def cumulative_sum(
    x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Array:
    """Running sums along an axis, with a leading 0 if `include_initial`."""
    return np.cumulative_sum(x, axis=axis, dtype=dtype, include_initial=include_initial)


def max(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """The largest element along axes; NaN if there is one."""
    return np.max(x, axis=axis, keepdims=keepdims)


def mean(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """The arithmetic mean along axes; float64 for integers."""
    return np.mean(x, axis=axis, keepdims=keepdims)


def min(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """The smallest element along axes; NaN if there is one."""
    return np.min(x, axis=axis, keepdims=keepdims)


def prod(x: Array, /, *, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """The product along axes; small integers and bools in 64 bits."""
    return np.prod(x, axis=axis, dtype=dtype, keepdims=keepdims)


def std(
    x: Array, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False
) -> Array:
    """The square root of `var`."""
    return np.std(x, axis=axis, correction=correction, keepdims=keepdims)


def sum(x: Array, /, *, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """The sum along axes; small integers and bools in 64 bits."""
    return np.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


def var(
    x: Array, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False
) -> Array:
    """The mean squared distance to the mean, divided by n - correction."""
    return np.var(x, axis=axis, correction=correction, keepdims=keepdims)
