"""Elements at integer indices."""

from __future__ import annotations

import numpy as np

from graphmill.frontend import core
from graphmill.frontend.describe import failure
from graphmill.frontend.numpy.arrays import Array, is_traced


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """The elements of x at `indices` along an axis, which only a 1-d x may leave out."""
    if axis is None and np.ndim(x) > 1:
        raise failure(
            "GM016",
            f"take without axis= from an array of {np.ndim(x)} axes",
            [x, indices],
            why="the standard asks for the axis of an array of several.",
            hint="pass axis=0 for rows; reshape(x, (-1,)) first takes from all elements.",
        )
    return np.take(core.as_tracer(x) if is_traced(indices) else x, indices, axis=axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """x[…, indices[…, j, …], …]: one index array of x's rank, other axes broadcast."""
    return np.take_along_axis(core.as_tracer(x) if is_traced(indices) else x, indices, axis=axis)
