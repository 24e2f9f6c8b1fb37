"""Products of vectors, matrices and tensors (the linear algebra of the main namespace)."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend.numpy.arrays import Array


def matmul(x1: Array, x2: Array, /) -> Array:
    """`x1 @ x2`: products of the last two axes, the others broadcast; vectors as NumPy."""
    return np.matmul(x1, x2)


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Array:
    """Sums of products over the last `axes` of x1 and first of x2, or over pairs of axes."""
    return np.tensordot(x1, x2, axes=axes)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sums of conj(x1) * x2 along an axis, the others broadcast."""
    return np.linalg.vecdot(x1, x2, axis=axis)  # type: ignore[call-overload]
