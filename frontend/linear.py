"""Products of vectors, matrices and tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    apply,
    as_tracer,
    astype,
    broadcast_shapes,
    broadcast_to,
    emit,
    promote_args,
)
from graphmill.frontend.describe import failure, name_of
from graphmill.frontend.reductions import reduce
from graphmill.ir.dtypes import DType


def dot_general(
    x: Tracer, y: Tracer, contract: tuple[Sequence[int], Sequence[int]],
    batch: tuple[Sequence[int], Sequence[int]] = ((), ()), dtype: DType | None = None,
) -> Tracer:  # fmt: skip
    """Sum of products over axis pairs: batch axes, then x's free, then y's; x, y of one dtype."""
    return emit(
        "dot_general", x, y, x_batch=tuple(batch[0]), y_batch=tuple(batch[1]),
        x_contract=tuple(contract[0]), y_contract=tuple(contract[1]), dtype=dtype or x.element,
    )  # fmt: skip


def _no_match(name: str, a: Any, b: Any, x: Tracer, y: Tracer, i: int, j: int) -> Exception:
    hint = "check the shapes above; np.einsum spells out which axes are summed."
    if x.ndim == y.ndim == 2 and x.dims[-1] == y.dims[-1]:
        hint = f"transpose the second operand: {name_of(a)} @ {name_of(b)}.T"
    elif x.ndim == y.ndim == 2 and x.dims[0] == y.dims[0]:
        hint = f"transpose the first operand: {name_of(a)}.T @ {name_of(b)}"
    texts = [f"[{', '.join(map(str, t.dims))}]" for t in (x, y)]
    return failure(
        "GM014",
        f"{texts[0]} {name} {texts[1]}",
        [a, b],
        why=f"axis {i} of {name_of(a)} ({x.dims[i]}) is summed against axis {j} of "
        f"{name_of(b)} ({y.dims[j]}); they must be equal.",
        hint=hint,
    )


def _need_axes(name: str, rank: int, *args: Any) -> None:
    for a in args:
        if as_tracer(a).ndim < rank:
            raise failure(
                "GM014",
                f"{name} of a value with fewer than {rank} axes",
                args,
                hint="for scalars use *.",
            )


@implements(np.linalg.matmul)
def matmul(a: Any, b: Any) -> Tracer:
    """`a @ b`: matrix products of the last two axes, other axes broadcast; vectors as NumPy."""
    _need_axes("@", 1, a, b)
    x, y = promote_args(a, b)
    j = 0 if y.ndim == 1 else y.ndim - 2
    if x.dims[-1] != y.dims[j]:
        raise _no_match("@", a, b, x, y, x.ndim - 1, j)
    if x.ndim == 1 or y.ndim <= 2:
        result = dot_general(x, y, ((x.ndim - 1,), (j,)))
        return result
    if x.ndim == 2:
        swapped = dot_general(y, x, ((j,), (1,)))
        rank = swapped.ndim
        return emit("transpose", swapped, perm=(*range(rank - 2), rank - 1, rank - 2))
    batch = broadcast_shapes(x.dims[:-2], y.dims[:-2], args=[a, b])
    x = broadcast_to(x, (*batch, *x.dims[-2:]))
    y = broadcast_to(y, (*batch, *y.dims[-2:]))
    lead = tuple(range(len(batch)))
    return dot_general(x, y, ((x.ndim - 1,), (y.ndim - 2,)), (lead, lead))


@implements(np.dot)
def dot(a: Any, b: Any) -> Tracer:
    """Sums over the last axis of a and the second to last (or only) axis of b."""
    x, y = promote_args(a, b)
    if not x.ndim or not y.ndim:
        return apply("mul", x, y)
    j = 0 if y.ndim == 1 else y.ndim - 2
    if x.dims[-1] != y.dims[j]:
        raise _no_match("dot", a, b, x, y, x.ndim - 1, j)
    return dot_general(x, y, ((x.ndim - 1,), (j,)))


@implements(np.inner)
def inner(a: Any, b: Any) -> Tracer:
    """Sums over the last axes of both."""
    x, y = promote_args(a, b)
    if not x.ndim or not y.ndim:
        return apply("mul", x, y)
    if x.dims[-1] != y.dims[-1]:
        raise _no_match("inner", a, b, x, y, x.ndim - 1, y.ndim - 1)
    return dot_general(x, y, ((x.ndim - 1,), (y.ndim - 1,)))


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Tracer:
    x, y = promote_args(a, b)
    flat = [emit("reshape", t, shape=(t.type.size,)) for t in (x, y)]
    first = emit("conj", flat[0]) if x.element.is_complex else flat[0]
    return inner(first, flat[1])


@implements(np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: Any = -1) -> Tracer:
    x, y = promote_args(x1, x2)
    _need_axes("vecdot", 1, x, y)
    i, j = ax.axis(axis, x.ndim, x1), ax.axis(axis, y.ndim, x2)
    x = emit("transpose", x, perm=(*(k for k in range(x.ndim) if k != i), i))
    y = emit("transpose", y, perm=(*(k for k in range(y.ndim) if k != j), j))
    if x.dims[-1] != y.dims[-1]:
        raise _no_match("vecdot", x1, x2, x, y, x.ndim - 1, y.ndim - 1)
    if x.element.is_complex:
        x = emit("conj", x)
    batch = broadcast_shapes(x.dims[:-1], y.dims[:-1], args=[x1, x2])
    x, y = (broadcast_to(t, (*batch, t.dims[-1])) for t in (x, y))
    lead = tuple(range(len(batch)))
    return dot_general(x, y, ((len(batch),), (len(batch),)), (lead, lead))


def matvec(x1: Any, x2: Any) -> Tracer:
    """Matrices times vectors, the leading axes broadcast."""
    _need_axes("matvec", 1, x2)
    y = as_tracer(x2)
    result = matmul(x1, emit("reshape", y, shape=(*y.dims, 1)))
    return emit("reshape", result, shape=result.dims[:-1])


def vecmat(x1: Any, x2: Any) -> Tracer:
    """Conjugated vectors times matrices, the leading axes broadcast."""
    _need_axes("vecmat", 1, x1)
    x = as_tracer(x1)
    x = emit("conj", x) if x.element.is_complex else x
    result = matmul(emit("reshape", x, shape=(*x.dims[:-1], 1, x.dims[-1])), x2)
    return emit("reshape", result, shape=(*result.dims[:-2], result.dims[-1]))


GUFUNCS: dict[np.ufunc, Callable[..., Tracer]] = {np.matmul: matmul, np.vecdot: vecdot}
for _name, _function in (("matvec", matvec), ("vecmat", vecmat)):
    if hasattr(np, _name):
        GUFUNCS[getattr(np, _name)] = _function


@implements(np.outer, np.linalg.outer)
def outer(a: Any, b: Any) -> Tracer:
    x, y = promote_args(a, b)
    x = emit("reshape", x, shape=(x.type.size, 1))
    y = emit("reshape", y, shape=(1, y.type.size))
    return apply("mul", x, y)


@implements(np.tensordot, np.linalg.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Tracer:
    x, y = promote_args(a, b)
    left: Any
    right: Any
    if isinstance(axes, int):
        left, right = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    else:
        left, right = (v if isinstance(v, tuple | list) else (v,) for v in axes)
        left = tuple(ax.axis(i, x.ndim, a) for i in left)
        right = tuple(ax.axis(i, y.ndim, b) for i in right)
    if len(left) != len(right) or (isinstance(axes, int) and axes > min(x.ndim, y.ndim)):
        raise failure(
            "GM016", f"tensordot axes {axes}", [a, b], hint="name as many axes of a as of b."
        )
    for i, j in zip(left, right, strict=True):
        if x.dims[i] != y.dims[j]:
            raise _no_match("tensordot", a, b, x, y, i, j)
    return dot_general(x, y, (left, right))


@implements(np.kron)
def kron(a: Any, b: Any) -> Tracer:
    x, y = promote_args(a, b)
    rank = max(x.ndim, y.ndim)
    x = emit("reshape", x, shape=(1,) * (rank - x.ndim) + x.dims)
    y = emit("reshape", y, shape=(1,) * (rank - y.ndim) + y.dims)
    left = emit("reshape", x, shape=tuple(d for n in x.dims for d in (n, 1)))
    right = emit("reshape", y, shape=tuple(d for n in y.dims for d in (1, n)))
    pairs = zip(x.dims, y.dims, strict=True)
    return emit("reshape", apply("mul", left, right), shape=tuple(m * n for m, n in pairs))


@implements(np.linalg.trace)
def last_trace(x: Any, /, *, offset: Any = 0, dtype: Any = None) -> Tracer:
    """Sums along the diagonals of the last two axes."""
    return trace(x, offset, -2, -1, dtype)


@implements(np.trace)
def trace(
    a: Any, offset: Any = 0, axis1: Any = None, axis2: Any = None, dtype: Any = None
) -> Tracer:
    from graphmill.frontend import shaping
    from graphmill.frontend.reductions import sum_dtype

    x = as_tracer(a)
    line = shaping.diagonal_of(x, offset, 0 if axis1 is None else axis1,
                               1 if axis2 is None else axis2)  # fmt: skip
    line = astype(line, sum_dtype(line.element) if dtype is None else dtype)
    return reduce(line, "sum", (line.ndim - 1,))


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Any]) -> Any:
    """The product of all, in the order of multiplication that costs least."""
    from graphmill.frontend.einsum import einsum

    if len(arrays) < 2:
        raise failure("GM025", "multi_dot of fewer than two arrays", arrays)
    letters = "abcdefghijklmnopqrstuvwxyz"
    ranks = [as_tracer(a).ndim for a in arrays]
    subscripts, at = [], 0
    for rank in ranks:
        subscripts.append(letters[at : at + rank])
        at += rank - 1
    ends = (subscripts[0][:-1] if ranks[0] == 2 else "") + (
        subscripts[-1][1:] if ranks[-1] == 2 else ""
    )
    return einsum(",".join(subscripts) + "->" + ends, *arrays)


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: Any) -> Tracer:
    """Products of squares; n is a known number of 0 or more."""
    x, power = as_tracer(a), ax.number(n, "n")
    if power < 0:
        raise failure("GM025", f"n = {power}", [a], hint="n must be 0 or more.")
    if x.ndim < 2 or x.dims[-1] != x.dims[-2]:
        raise failure("GM014", "matrix_power needs square matrices", [a])
    if power == 0:
        from graphmill.frontend.creation import identity_matrix

        return broadcast_to(astype(identity_matrix(x.dims[-1]), x.element), x.dims)
    result: Tracer | None = None
    while power:
        if power & 1:
            result = x if result is None else matmul(result, x)
        power >>= 1
        x = matmul(x, x) if power else x
    assert result is not None
    return result
