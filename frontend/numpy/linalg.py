"""The linear algebra extension.

What needs singular or eigenvalues, or orthogonal factors, is NumPy's outside of a traced function
and an error of code GM010 inside (GM011 for the norms 2, -2 and "nuc"). A singular matrix is an
error of NumPy's outside; inside it gives infinities or NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend.numpy.arrays import Array
from graphmill.frontend.numpy.manipulation import matrix_transpose
from graphmill.frontend.numpy.products import matmul, tensordot, vecdot

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm",
    "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve",
    "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip


def cholesky(x: Array, /, *, upper: bool = False) -> Array:
    """The lower (or upper) triangular factor of symmetric positive definite matrices."""
    return np.linalg.cholesky(x, upper=upper)


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Cross products of the vectors of 3 elements along an axis."""
    return np.linalg.cross(x1, x2, axis=axis)


def det(x: Array, /) -> Array:
    """Determinants of the matrices in the last two axes."""
    return np.linalg.det(x)


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """The diagonals of the matrices in the last two axes."""
    return np.linalg.diagonal(x, offset=offset)


def eigh(x: Array, /) -> Any:
    """Eigenvalues and eigenvectors of Hermitian matrices; GM010 for a traced x."""
    return np.linalg.eigh(x)


def eigvalsh(x: Array, /) -> Array:
    """Eigenvalues of Hermitian matrices; GM010 for a traced x."""
    return np.linalg.eigvalsh(x)


def inv(x: Array, /) -> Array:
    """Inverses of the matrices in the last two axes."""
    return np.linalg.inv(x)


def matrix_norm(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    """Norms of the matrices in the last two axes: "fro", 1, -1, inf, -inf."""
    return np.linalg.matrix_norm(x, keepdims=keepdims, ord=ord)


def matrix_power(x: Array, n: int, /) -> Array:
    """The n-th powers of square matrices."""
    return np.linalg.matrix_power(x, n)


def matrix_rank(x: Array, /, *, rtol: Any = None) -> Array:
    """Ranks of matrices; GM010 for a traced x."""
    return np.linalg.matrix_rank(x, rtol=rtol)


def outer(x1: Array, x2: Array, /) -> Array:
    """All products of the elements of two vectors."""
    return np.linalg.outer(x1, x2)


def pinv(x: Array, /, *, rtol: Any = None) -> Array:
    """Pseudo-inverses; GM010 for a traced x."""
    return np.linalg.pinv(x, rtol=rtol)


def qr(x: Array, /, *, mode: Any = "reduced") -> Any:
    """Orthogonal and upper triangular factors; GM010 for a traced x."""
    return np.linalg.qr(x, mode=mode)


def slogdet(x: Array, /) -> Any:
    """Signs and logarithms of the absolute determinants."""
    return np.linalg.slogdet(x)


def solve(x1: Array, x2: Array, /) -> Array:
    """y such that x1 @ y = x2; x2 is a vector or matrices."""
    return np.linalg.solve(x1, x2)


def svd(x: Array, /, *, full_matrices: bool = True) -> Any:
    """Singular value decomposition; GM010 for a traced x."""
    return np.linalg.svd(x, full_matrices=full_matrices)


def svdvals(x: Array, /) -> Array:
    """Singular values; GM010 for a traced x."""
    return np.linalg.svdvals(x)


def trace(x: Array, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """Sums along the diagonals of the matrices in the last two axes."""
    return np.linalg.trace(x, offset=offset, dtype=dtype)


def vector_norm(x: Array, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Array:
    """Norms of vectors along axes (None: of all elements): any order, 0, inf and -inf too."""
    return np.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
