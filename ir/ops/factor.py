"""Factoring and solving systems of linear equations; matrices are in the last two axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import i64
from graphmill.ir.graph import Op, Region
from graphmill.ir.ops.base import Cost, OpDef, TypeRuleError, check_count, register, tensors
from graphmill.ir.types import TensorType, Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]
Array = np.ndarray[Any, Any]


def _check_square(name: str, type: TensorType) -> None:
    if type.rank < 2 or type.shape[-1] != type.shape[-2]:
        raise TypeRuleError(f"{name}: {type} is no square matrix")
    if type.dtype.is_float and type.dtype.bits < 32:
        raise TypeRuleError(f"{name}: not defined for {type.dtype}")


def _work(each: float) -> Callable[[Op], Cost]:
    """Cost of `each` · n³ operations for a matrix, and 2 · n² for each right side."""

    def cost(op: Op) -> Cost:
        types = [v.tensor for v in (*op.operands, *op.results)]
        n, scale = types[0].shape[-1], 4 if types[0].dtype.is_complex else 1
        flops: DimLike = types[0].size * n * round(6 * each) * scale // 6
        if len(op.operands) == 2:
            flops = flops + types[1].size * n * 2 * scale
        moved: DimLike = 0
        for type in types:
            moved = moved + type.nbytes
        return Cost(flops, moved)

    return cost


# ---- solve


def _infer_solve(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(SOLVE, types)
    a, b = tensors("solve", types)
    _check_square("solve", a)
    if a.dtype != b.dtype or b.shape[:-1] != a.shape[:-1]:
        raise TypeRuleError(f"solve: {a} and {b} do not fit")
    return [b.with_shape(b.shape)]


def _each(a: Array, *rest: Array) -> list[tuple[Array, ...]]:
    """The matrices of a batch beside those of the other arrays."""
    count = math.prod(a.shape[:-2])
    arrays = [x.reshape(count, *x.shape[a.ndim - 2 :]) for x in (a, *rest)]
    return list(zip(*arrays, strict=True))


def _eliminated(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """L below and U above the diagonal of a matrix, the exchanges, and L⁻¹Pb."""
    a, b, swaps = a.copy(), b.copy(), np.arange(len(a))
    for k in range(len(a)):
        sizes = np.abs(a[k:, k].real) + np.abs(a[k:, k].imag)
        other = swaps[k] = k + int(np.argmax(sizes))
        for x in (a, b):
            x[[k, other]] = x[[other, k]]
        a[k + 1 :, k] /= a[k, k] if a[k, k] != 0 else 1
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
        b[k + 1 :] -= np.outer(a[k + 1 :, k], b[k])
    return a, swaps, b


@np.errstate(all="ignore")
def _solve(a: Array, b: Array) -> Array:
    results = np.empty_like(b)
    for matrix, right, x in _each(a, b, results):
        u, _, x[:] = _eliminated(matrix, right)
        for k in reversed(range(len(u))):
            x[k] = (x[k] - u[k, k + 1 :] @ x[k + 1 :]) / u[k, k]
    return results


SOLVE = register(
    OpDef(
        "solve", "factor", ("a", "b"),
        "x of a @ x = b, by elimination with row exchanges; a 0 as pivot gives infinities or NaN",
        _infer_solve, _solve, kinds="fc", cost=_work(2 / 3),
    )
)  # fmt: skip


# ---- lu


def _infer_lu(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(LU, types)
    (a,) = tensors("lu", types)
    _check_square("lu", a)
    return [a.with_shape(a.shape), TensorType(i64, a.shape[:-1])]


@np.errstate(all="ignore")
def _lu(a: Array) -> tuple[Array, Array]:
    factors, swaps = np.empty_like(a), np.empty(a.shape[:-1], np.int64)
    for matrix, f, s in _each(a, factors, swaps):
        f[:], s[:], _ = _eliminated(matrix, matrix[:, :0])
    return factors, swaps


LU = register(
    OpDef(
        "lu", "factor", ("a",),
        "L below (with a diagonal of 1) and U on and above the diagonal; the row that each step "
        "exchanged with its own",
        _infer_lu, _lu, kinds="fc", cost=_work(2 / 3),
    )
)  # fmt: skip


# ---- cholesky


def _infer_cholesky(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(CHOLESKY, types)
    (a,) = tensors("cholesky", types)
    _check_square("cholesky", a)
    return [a.with_shape(a.shape)]


@np.errstate(all="ignore")
def _cholesky(a: Array) -> Array:
    factors = np.zeros_like(a)
    for matrix, u in _each(a, factors):
        rest = matrix.copy()
        for k in range(len(rest)):
            u[k, k:] = rest[k, k:] / np.sqrt(rest[k, k].real)
            u[k, k] = np.sqrt(rest[k, k].real)
            rest[k + 1 :] -= np.outer(np.conj(u[k, k + 1 :]), u[k])
    return factors


CHOLESKY = register(
    OpDef(
        "cholesky", "factor", ("a",),
        "The upper triangular u with conj(u.T) @ u = a, of which the upper half is read; NaN where "
        "a is not positive definite",
        _infer_cholesky, _cholesky, kinds="fc", cost=_work(1 / 3),
    )
)  # fmt: skip
