"""Tests of whole arrays, and differences."""

from __future__ import annotations

import numpy as np

from graphmill.frontend.numpy.arrays import Array
from graphmill.frontend.numpy.statistical import Axes


def all(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """Whether all elements along axes hold."""
    return np.all(x, axis=axis, keepdims=keepdims)


def any(x: Array, /, *, axis: Axes = None, keepdims: bool = False) -> Array:
    """Whether an element along axes holds."""
    return np.any(x, axis=axis, keepdims=keepdims)


def diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array = None, append: Array = None
) -> Array:
    """The n-th differences of neighbours along an axis."""
    ends = {"prepend": prepend, "append": append}
    return np.diff(x, axis=axis, n=n, **{k: v for k, v in ends.items() if v is not None})
