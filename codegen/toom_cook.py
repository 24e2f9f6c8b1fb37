"""The matrices of Winograd's minimal filtering F(m, 3): m results of a filter with three taps.

`y = A.T @ ((G @ w) * (B.T @ x))` for m + 2 neighbours x: the Toom-Cook algorithm at the points 0,
±p … and infinity (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
Symmetric points halve the work of the transforms. For m = 4 they are ±1/√2 and ±√2, close to
each other and to 1: with ±1 and ±2 the error is three times as large (the choice of points is
that of Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks", 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

TAPS = 3
SQUARES = {2: (1.0,), 4: (0.5, 2.0)}  # of the points other than 0 and infinity, by m


def size(tile: int) -> int:
    """Neighbours that `tile` results are computed from."""
    return tile + TAPS - 1


def points(tile: int) -> list[float]:
    """All finite points, in the order of the transforms' rows."""
    return [0.0, *(sign * s**0.5 for s in SQUARES[tile] for sign in (1.0, -1.0))]


def even_polynomial(squares: Sequence[float]) -> list[float]:
    """The coefficients of prod(x² - s) for the powers 0, 2, 4 … of x."""
    found = [1.0]
    for s in squares:
        found = [high - s * low for high, low in zip([0.0, *found], [*found, 0.0], strict=True)]
    return found


def filter_matrix(tile: int) -> Array:
    """G, of shape (tile + 2, 3), in f64."""
    rows = []
    for p in points(tile):
        others = [q for q in points(tile) if q != p]
        rows.append(np.power(p, np.arange(TAPS)) / np.prod(np.subtract(p, others)))
    return np.array([*rows, [0.0, 0.0, 1.0]])


def transformed(filters: Array, tile: int) -> Array:
    """Filters `(3, 3, …)` as `(tile + 2, tile + 2, …)`: computed in f64, each rounded once.

    Part by part of the third axis, so that what is read of a transposed array stays in caches.
    """
    matrix = np.kron(filter_matrix(tile), filter_matrix(tile))
    result = np.empty((len(matrix), *filters.shape[2:]), filters.dtype)
    for part in range(filters.shape[2]):
        taps = np.array(filters[:, :, part], np.float64, order="C").reshape(TAPS * TAPS, -1)
        result[:, part] = (matrix @ taps).reshape(result[:, part].shape)
    return result.reshape(size(tile), size(tile), *filters.shape[2:])
