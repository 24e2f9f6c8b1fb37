"""Places of elements, choosing, and the functions whose result sizes depend on the values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from graphmill.frontend.numpy.arrays import Array
from graphmill.frontend.numpy.statistical import Axes


def argmax(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """The first index (int64) of the largest element; NaN counts as the largest."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


def argmin(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """The first index (int64) of the smallest element; NaN counts as the smallest."""
    return np.argmin(x, axis=axis, keepdims=keepdims)


def count_nonzero(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """How many elements along axes are not 0."""
    return np.count_nonzero(x, axis=axis, keepdims=keepdims)


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """Indices of the elements that are not 0; GM010 for a traced x (the size is not known)."""
    return np.nonzero(x)


def searchsorted(
    x1: Array, x2: Array, /, *, side: Literal["left", "right"] = "left", sorter: Array = None
) -> Array:
    """Where each of x2 would go into the sorted 1-d x1 (int64)."""
    return np.searchsorted(x1, x2, side=side, sorter=sorter)


def where(condition: Array, x1: Array, x2: Array, /) -> Array:
    """x1 where the condition holds, else x2."""
    return np.where(condition, x1, x2)


# ---- sets: their results' sizes depend on the values


def unique_all(x: Array, /) -> Any:
    """Distinct values, first indices, inverse, counts; GM010 for a traced x."""
    return np.unique_all(x)


def unique_counts(x: Array, /) -> Any:
    """Distinct values and how often they occur; GM010 for a traced x."""
    return np.unique_counts(x)


def unique_inverse(x: Array, /) -> Any:
    """Distinct values and the inverse; GM010 for a traced x."""
    return np.unique_inverse(x)


def unique_values(x: Array, /) -> Array:
    """Distinct values; GM010 for a traced x."""
    return np.unique_values(x)
