"""Shapes and orders: reshape, transpose, expand, flip, roll, repeat, pad, diagonals, stacking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import multiples, sizes
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    broadcast_shapes,
    emit,
    promote_args,
)
from graphmill.frontend.core import broadcast_to as core_broadcast_to
from graphmill.frontend.describe import failure
from graphmill.frontend.views import view
from graphmill.ir.dims import Dim, DimLike, floordiv, product

# ---- plain forms, without the meaning of a view


def reshaped(x: Tracer, shape: Sequence[DimLike]) -> Tracer:
    """x in another shape of as many elements."""
    shape = tuple(shape)
    if x.dims == shape:
        return x
    result = emit("reshape", x, shape=shape)
    result._weak = x.weak
    return result


def transposed(x: Tracer, perm: Sequence[int]) -> Tracer:
    """x with axes permuted."""
    perm = tuple(perm)
    return x if perm == tuple(range(x.ndim)) else emit("transpose", x, perm=perm)


def reversed_along(x: Tracer, axes: Sequence[int]) -> Tracer:
    """x with the order of some axes turned round."""
    return emit("reverse", x, axes=tuple(axes)) if axes else x


def sliced(x: Tracer, axis: int, start: DimLike, stop: DimLike) -> Tracer:
    """The elements start … stop - 1 along one axis."""
    if start == 0 and stop == x.dims[axis]:
        return x
    return emit(
        "slice", x,
        start=tuple(start if i == axis else 0 for i in range(x.ndim)),
        stop=tuple(stop if i == axis else d for i, d in enumerate(x.dims)),
        step=(1,) * x.ndim,
    )  # fmt: skip


def permuted_view(base: Tracer, perm: Sequence[int]) -> Tracer:
    """A transpose that shares memory with `base`."""
    perm = tuple(perm)
    back = tuple(int(i) for i in np.argsort(perm))

    def read(x: Tracer) -> Tracer:
        return transposed(x, perm)

    def write(x: Tracer, value: Tracer) -> None:
        from graphmill.frontend import views

        views.write(x, transposed(value, back))

    return view(base, read(base), read, write, ("transpose", perm))


def reshaped_view(base: Tracer, shape: Sequence[DimLike]) -> Tracer:
    """A reshape that only adds or drops axes of size 1, which always shares memory."""
    shape = tuple(shape)

    def read(x: Tracer) -> Tracer:
        return reshaped(x, shape)

    def write(x: Tracer, value: Tracer) -> None:
        from graphmill.frontend import views

        views.write(x, reshaped(value, x.dims))

    return view(base, read(base), read, write, ("reshape", shape))


def read_only_view(base: Tracer, read: Callable[[Tracer], Tracer]) -> Tracer:
    """A view that NumPy does not let be written."""
    return view(base, read(base), read)


# ---- NumPy's functions


def wanted_shape(x: Tracer, given: Any) -> tuple[DimLike, ...]:
    """The shape that `reshape` is asked for, with -1 worked out."""
    listed = given if isinstance(given, tuple | list) else (given,)
    entries = [-1 if type(d) is int and d == -1 else ax.dim(d) for d in listed]
    free = [i for i, d in enumerate(entries) if isinstance(d, int) and d < 0]
    total = x.type.size
    problem = ""
    if len(free) > 1 or any(isinstance(d, int) and d < -1 for d in entries):
        problem = "only one size may be -1."
    elif free:
        rest = product(d for i, d in enumerate(entries) if i not in free)
        found = floordiv(total, rest) if rest != 0 else 0
        entries[free[0]] = found
        if found * rest != total or rest == 0:
            multiples.need(total, rest)
            problem = f"{total} elements do not divide by {rest}."
    elif product(entries) != total:
        multiples.need_exact(entries)
        problem = f"{total} elements do not fill {product(entries)} places."
    if problem:
        raise failure(
            "GM017", f"[{', '.join(map(str, x.dims))}] into [{', '.join(map(str, listed))}]", [x],
            why=problem, hint="sizes must multiply to the number of elements; -1 once is worked "
            "out.",
        )  # fmt: skip
    return tuple(entries)


@implements(np.reshape)
def reshape(
    a: Any, /, shape: Any = None, order: str = "C", *, copy: Any = None, newshape: Any = None
) -> Tracer:
    x = as_tracer(a)
    given = newshape if shape is None else shape
    if order == "F":
        listed = given if isinstance(given, tuple | list) else (given,)
        turned = transposed(x, tuple(reversed(range(x.ndim))))
        return transposed(
            reshaped(turned, wanted_shape(turned, tuple(reversed(listed)))),
            tuple(reversed(range(len(listed)))),
        )
    if order not in ("C", "A"):
        raise failure("GM011", f"reshape(order={order!r})", [a], hint='use order="C" or "F".')
    result = reshaped(x, wanted_shape(x, given))
    return result if copy else view(x, result, None)


@implements(np.ravel)
def ravel(a: Any, order: str = "C") -> Tracer:
    return reshape(
        a, -1 if _known_size(a) else (as_tracer(a).size,), "C" if order == "K" else order
    )


def _known_size(a: Any) -> bool:
    x = as_tracer(a)
    return bool(x.ndim) and 0 not in x.dims


def flatten(a: Any, order: str = "C") -> Tracer:
    """A copy in one axis."""
    x = ravel(a, order)
    x._view = None
    return x


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Tracer:
    x = as_tracer(a)
    if axes is None:
        return permuted_view(x, tuple(reversed(range(x.ndim))))
    perm = tuple(ax.axis(i, x.ndim, x) for i in axes)
    if sorted(perm) != list(range(x.ndim)):
        raise failure(
            "GM016",
            f"axes {list(axes)} are no permutation of {x.ndim} axes",
            [a],
            hint="name each axis once.",
        )
    return permuted_view(x, perm)


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x: Any, /) -> Tracer:
    traced = as_tracer(x)
    if traced.ndim < 2:
        raise failure(
            "GM016", "matrix transpose of fewer than 2 axes", [x], hint="x.T turns all axes round."
        )
    return swapaxes(traced, -1, -2)


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: Any, axis2: Any) -> Tracer:
    x = as_tracer(a)
    i, j = ax.axis(axis1, x.ndim, x), ax.axis(axis2, x.ndim, x)
    perm = list(range(x.ndim))
    perm[i], perm[j] = j, i
    return permuted_view(x, perm)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Tracer:
    x = as_tracer(a)
    given = [v if isinstance(v, tuple | list) else (v,) for v in (source, destination)]
    source, destination = ([ax.axis(i, x.ndim, x) for i in v] for v in given)
    if len(set(source)) != len(set(destination)) or len(set(source)) != len(source):
        raise failure(
            "GM016",
            f"moveaxis from {given[0]} to {given[1]}",
            [a],
            hint="name each axis once, as many sources as destinations.",
        )
    order = [i for i in range(x.ndim) if i not in source]
    for to, come in sorted(zip(destination, source, strict=True)):
        order.insert(to, come)
    return permuted_view(x, order)


@implements(np.rollaxis)
def rollaxis(a: Any, axis: Any, start: Any = 0) -> Tracer:
    x = as_tracer(a)
    come = ax.axis(axis, x.ndim, x)
    to = ax.number(start, "start")
    to += x.ndim if to < 0 else 0
    if not 0 <= to <= x.ndim:
        raise failure("GM016", f"start {start} for {x.ndim} axes", [a])
    return moveaxis(x, come, to - 1 if come < to else to)


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Tracer:
    x = as_tracer(a)
    listed = axis if isinstance(axis, tuple | list) else (axis,)
    rank = x.ndim + len(listed)
    new = {ax.axis(i, rank, x) for i in listed}
    if len(new) != len(listed):
        raise failure("GM016", f"axes {list(listed)} repeat", [a])
    old = iter(x.dims)
    return reshaped_view(x, [1 if i in new else next(old) for i in range(rank)])


@implements(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Tracer:
    x = as_tracer(a)
    if axis is None:
        gone = {i for i, d in enumerate(x.dims) if d == 1}
    else:
        gone = set(ax.axes(axis, x.ndim, x))
        for i in gone:
            if x.dims[i] != 1:
                raise failure(
                    "GM017",
                    f"axis {i} has {x.dims[i]} elements, not 1",
                    [a],
                    hint="index it (x[..., 0]) or reduce it.",
                )
    return reshaped_view(x, [d for i, d in enumerate(x.dims) if i not in gone])


def _at_least(rank: int, a: Any) -> Tracer:
    x = as_tracer(a)
    if x.ndim >= rank:
        return x
    if rank == 3:
        shape = [(1, 1, 1), (1, *x.dims, 1), (*x.dims, 1)][x.ndim]
    else:
        shape = (1,) * (rank - x.ndim) + x.dims
    return reshaped_view(x, shape)


def _each_at_least(rank: int, arrays: Sequence[Any]) -> Any:
    found = tuple(_at_least(rank, a) for a in arrays)
    return found[0] if len(found) == 1 else found


@implements(np.atleast_1d)
def atleast_1d(*arrays: Any) -> Any:
    return _each_at_least(1, arrays)


@implements(np.atleast_2d)
def atleast_2d(*arrays: Any) -> Any:
    return _each_at_least(2, arrays)


@implements(np.atleast_3d)
def atleast_3d(*arrays: Any) -> Any:
    return _each_at_least(3, arrays)


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Tracer:
    x, wanted = as_tracer(array), ax.shape(shape)
    return read_only_view(x, lambda base: core_broadcast_to(base, wanted))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Tracer, ...]:
    shape = broadcast_shapes(*(as_tracer(a).dims for a in args), args=args)
    return tuple(broadcast_to(a, tuple(sizes.of(d) for d in shape)) for a in args)


@implements(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Tracer:
    from graphmill.frontend.ufuncs import copied

    return copied(as_tracer(a))


# ---- diagonals


def diagonal_of(x: Tracer, offset: Any, axis1: Any, axis2: Any) -> Tracer:
    """The diagonal of two axes, put last: a gather at equal indices."""
    i, j = ax.axis(axis1, x.ndim, x), ax.axis(axis2, x.ndim, x)
    k = ax.number(offset, "offset")
    if i == j:
        raise failure("GM016", "diagonal of one axis", [x], hint="name two axes.")
    rows, columns = x.dims[i], x.dims[j]
    size = sizes.maximum(sizes.minimum(rows + min(k, 0), columns - max(k, 0)), 0)
    down = iota(size, offset=max(-k, 0))
    across = iota(size, offset=max(k, 0))
    picked = emit("gather", x, down, across, axes=(i, j))
    return transposed(picked, (*range(1, picked.ndim), 0))


def iota(size: DimLike, offset: int = 0) -> Tracer:
    """offset, offset + 1, … as i64."""
    from graphmill.frontend.core import apply
    from graphmill.ir.dtypes import i64

    ramp = emit("iota", shape=(size,), axis=0, dtype=i64)
    return apply("add", ramp, offset) if offset else ramp


@implements(np.linalg.diagonal)
def last_diagonal(x: Any, /, *, offset: Any = 0) -> Tracer:
    """The diagonals of the last two axes."""
    return diagonal(x, offset, -2, -1)


@implements(np.diagonal)
def diagonal(a: Any, /, offset: Any = 0, axis1: Any = None, axis2: Any = None) -> Tracer:
    x = as_tracer(a)
    first, second = 0 if axis1 is None else axis1, 1 if axis2 is None else axis2
    return read_only_view(x, lambda base: diagonal_of(base, offset, first, second))


def stack(arrays: Sequence[Any]) -> Tracer:
    """Arrays of one shape along a new first axis, promoted."""
    made = promote_args(*arrays)
    shape = broadcast_shapes(*(m.dims for m in made), args=arrays)
    rows = [reshaped(core_broadcast_to(m, shape), (1, *shape)) for m in made]
    return emit("concat", *rows, axis=0)


def is_symbolic(dim: DimLike) -> bool:
    """Whether a dim has no number."""
    return isinstance(dim, Dim)
