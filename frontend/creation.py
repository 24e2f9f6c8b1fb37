"""Making arrays inside a trace: like another array, ramps, triangles, grids."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import shaping
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_dtype,
    as_tracer,
    astype,
    broadcast_to,
    dim_value,
    emit,
    promote_args,
    result_type,
)
from graphmill.frontend.describe import failure
from graphmill.frontend.shaping import reshaped
from graphmill.frontend.ufuncs import copied, evaluate
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, f64, i64


def full(shape: Any, value: Any, dtype: Any = None) -> Tracer:
    """`value` repeated over a shape of ints and symbolic sizes."""
    of = None if dtype is None else as_dtype(dtype)
    plain = isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)
    v = as_tracer(value, of if plain else None)
    v = v if of is None else astype(v, of)
    return copied(broadcast_to(astype(v, v.element), ax.shape(shape)))


def _like(a: Any, value: Any, dtype: Any, shape: Any) -> Tracer:
    x = as_tracer(a)
    dims: Any = x.shape if shape is None else shape
    return full(dims, value, x.element if dtype is None else dtype)


@implements(np.zeros_like)
def zeros_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
    device: Any = None,
) -> Tracer:  # fmt: skip
    return _like(a, 0, dtype, shape)


@implements(np.ones_like)
def ones_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
    device: Any = None,
) -> Tracer:  # fmt: skip
    return _like(a, 1, dtype, shape)


@implements(np.empty_like)
def empty_like(
    prototype: Any, /, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None,
    *, device: Any = None,
) -> Tracer:  # fmt: skip
    return _like(prototype, 0, dtype, shape)


@implements(np.full_like)
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True,
    shape: Any = None, *, device: Any = None,
) -> Tracer:  # fmt: skip
    return _like(a, fill_value, dtype, shape)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Tracer:
    """start, start + step, … below stop; sizes known or symbolic (then in steps of a number)."""
    if stop is None:
        start, stop = 0, start
    of = result_type(start, stop, step) if dtype is None else as_dtype(dtype)
    known = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (start, stop, step))
    if known:
        return as_tracer(np.arange(start, stop, step, dtype=of.numpy))
    first, last, by = ax.dim(start, "start"), ax.dim(stop, "stop"), ax.number(step, "step")
    if by == 0:
        raise failure("GM025", "arange with step 0", [], hint="give a step other than 0.")
    from graphmill.frontend import sizes
    from graphmill.ir.dims import floordiv

    room = (last - first) if by > 0 else (first - last)
    count = floordiv(sizes.maximum(room, 0) + abs(by) - 1, abs(by))
    ramp = emit("iota", shape=(count,), axis=0, dtype=i64)
    if by != 1:
        ramp = evaluate(np.multiply, ramp, by)
    return astype(evaluate(np.add, ramp, dim_value(first)) if first != 0 else ramp, of)


@implements(np.linspace)
def linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: Any = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    count = ax.number(num, "num")
    if count < 0:
        raise failure("GM025", f"num = {count}", [start, stop], hint="num is 0 or more.")
    of = f64 if not (r := result_type(start, stop)).is_inexact else r
    first, last = (astype(t, of) for t in promote_args(start, stop))
    first, last = np.broadcast_arrays(first, last)  # type: ignore[assignment]
    gaps = count - 1 if endpoint else count
    ramp = np.arange(count, dtype=of.real.numpy).reshape(-1, *(1 for _ in first.dims))
    step = (last - first) / gaps if gaps > 0 else (last - first) * np.nan
    result = ramp * step + first if gaps > 0 else first + ramp * (last - first)
    if endpoint and count > 1:
        result[-1] = last
    place = ax.axis(axis, result.ndim, result)
    result = result if place == 0 else shaping.moveaxis(result, 0, place)
    if dtype is not None and as_dtype(dtype).is_integer:
        result = np.floor(result)
    result = astype(result, of if dtype is None else dtype)
    return (result, step) if retstep else result


@implements(np.logspace)
def logspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0,
    dtype: Any = None, axis: Any = 0,
) -> Tracer:  # fmt: skip
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    result = evaluate(np.power, base, exponents)
    return result if dtype is None else astype(result, dtype)


@implements(np.geomspace)
def geomspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: Any = 0
) -> Tracer:
    first, last = (evaluate(np.log10, t) for t in (start, stop))
    return logspace(first, last, num, endpoint, 10.0, dtype, axis)


def _square_mask(rows: DimLike, columns: DimLike, k: int) -> Tracer:
    """Where the column is at most the row plus k."""
    down = emit("iota", shape=(rows, columns), axis=0, dtype=i64)
    across = emit("iota", shape=(rows, columns), axis=1, dtype=i64)
    return evaluate(np.greater_equal, evaluate(np.add, down, k), across)  # type: ignore[no-any-return]


def identity_matrix(size: DimLike) -> Tracer:
    """Ones on the diagonal, as bool."""
    down = emit("iota", shape=(size, size), axis=0, dtype=i64)
    across = emit("iota", shape=(size, size), axis=1, dtype=i64)
    return emit("eq", down, across)


def eye(rows: Any, columns: Any = None, k: Any = 0, dtype: Any = None) -> Tracer:
    """Ones on the k-th diagonal."""
    n = ax.dim(rows)
    m = n if columns is None else ax.dim(columns)
    down = emit("iota", shape=(n, m), axis=0, dtype=i64)
    across = emit("iota", shape=(n, m), axis=1, dtype=i64)
    same = evaluate(np.equal, evaluate(np.add, down, ax.number(k, "k")), across)
    return astype(same, f64 if dtype is None else dtype)


def _triangle(m: Any, k: Any, lower: bool) -> Tracer:
    x = as_tracer(m)
    if x.ndim == 1:
        x = broadcast_to(x, (x.dims[0], x.dims[0]))
    if x.ndim == 0:
        raise failure("GM016", "a triangle of a 0-d value", [m])
    offset = ax.number(k, "k")
    mask = _square_mask(x.dims[-2], x.dims[-1], offset if lower else offset - 1)
    mask = broadcast_to(mask, x.dims)
    zero = full(x.shape, 0, x.element)
    return emit("select", mask, x, zero) if lower else emit("select", mask, zero, x)


@implements(np.tril)
def tril(m: Any, k: Any = 0) -> Tracer:
    return _triangle(m, k, True)


@implements(np.triu)
def triu(m: Any, k: Any = 0) -> Tracer:
    return _triangle(m, k, False)


def tri(rows: Any, columns: Any = None, k: Any = 0, dtype: Any = None) -> Tracer:
    """Ones at and below the k-th diagonal."""
    n = ax.dim(rows)
    m = n if columns is None else ax.dim(columns)
    return astype(_square_mask(n, m, ax.number(k, "k")), f64 if dtype is None else dtype)


@implements(np.diag)
def diag(v: Any, k: Any = 0) -> Tracer:
    x = as_tracer(v)
    if x.ndim == 2:
        return shaping.diagonal(x, k)
    if x.ndim != 1:
        raise failure("GM014", f"np.diag of {x.ndim} axes", [v], hint="pass 1 or 2 axes.")
    return diagflat(x, k)


@implements(np.diagflat)
def diagflat(v: Any, k: Any = 0) -> Tracer:
    x = as_tracer(v)
    x = reshaped(x, (x.type.size,))
    offset = ax.number(k, "k")
    size = x.dims[0] + abs(offset)
    low, high = (max(-offset, 0), max(offset, 0))
    column = emit(
        "pad", x, as_tracer(0, x.element), low=(low,), high=(high,), interior=(0,)
    )  # fmt: skip
    spread = emit("broadcast", column, shape=(size, size), axes=(0,))
    mask = eye(size_of(size), None, offset, "bool")
    return emit("select", mask, spread, full((size_of(size), size_of(size)), 0, x.element))


def size_of(dim: DimLike) -> Any:
    """A dim as users see it."""
    from graphmill.frontend import sizes

    return sizes.of(dim)


@implements(np.meshgrid)
def meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Tracer, ...]:
    made = [as_tracer(x) for x in xi]
    made = [reshaped(m, (m.type.size,)) for m in made]
    rank = len(made)
    order = list(range(rank))
    if indexing == "xy" and rank > 1:
        order[0], order[1] = 1, 0
    shape: list[DimLike] = [1] * rank
    for axis, m in zip(order, made, strict=True):
        shape[axis] = m.dims[0]
    result = []
    for axis, m in zip(order, made, strict=True):
        if sparse:
            result.append(reshaped(m, [d if i == axis else 1 for i, d in enumerate(shape)]))
        else:
            result.append(emit("broadcast", m, shape=tuple(shape), axes=(axis,)))
    return tuple(result)


@implements(np.vander)
def vander(x: Any, N: Any = None, increasing: bool = False) -> Tracer:
    column = as_tracer(x)
    count = ax.number(column.shape[0] if N is None else N, "N")
    powers: list[Any] = [full(column.shape, 1, promoted(column))]
    for _ in range(count - 1):
        powers.append(evaluate(np.multiply, powers[-1], column))
    listed = powers[:count] if increasing else powers[:count][::-1]
    return np.stack(listed, axis=1)  # type: ignore[return-value]


def promoted(x: Tracer) -> DType:
    """What NumPy multiplies the dtype with an int in."""
    return i64 if x.element.kind == "b" else result_type(x.element, i64)


# ---- NumPy's functions with `like=` a traced array, which also take symbolic sizes


@implements(np.asarray, np.array, np.asanyarray, np.ascontiguousarray)
def asarray(
    a: Any, dtype: Any = None, *args: Any, copy: Any = None, order: Any = None, subok: Any = None,
    ndmin: int = 0, device: Any = None,
) -> Tracer:  # fmt: skip
    from graphmill.frontend.ufuncs import copied

    x = as_tracer(_strong(a)) if isinstance(a, list | tuple) else as_tracer(a)
    x = copied(x) if copy else x
    x = x if dtype is None else astype(x, dtype)
    return reshaped(x, (*(1 for _ in range(ndmin - x.ndim)), *x.dims))


def _strong(value: Any) -> Any:
    """Nested lists with each Python number as an array of its own dtype, as np.array takes it."""
    if isinstance(value, list | tuple):
        return [_strong(v) for v in value]
    x = as_tracer(value)
    return astype(x, x.element)


@implements(np.zeros, np.empty)
def zeros(shape: Any, dtype: Any = float, order: str = "C", *, device: Any = None) -> Tracer:
    return full(shape, 0, dtype)


@implements(np.ones)
def ones(shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None) -> Tracer:
    return full(shape, 1, float if dtype is None else dtype)


@implements(np.full)
def numpy_full(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *, device: Any = None
) -> Tracer:
    return full(shape, fill_value, dtype)


@implements(np.arange)
def numpy_arange(
    start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, *, device: Any = None
) -> Tracer:
    return arange(start, stop, step, dtype)


@implements(np.eye)
def numpy_eye(
    N: Any, M: Any = None, k: Any = 0, dtype: Any = float, order: str = "C", *, device: Any = None
) -> Tracer:
    return eye(N, M, k, dtype)


@implements(np.identity)
def identity(n: Any, dtype: Any = None) -> Tracer:
    return eye(n, None, 0, float if dtype is None else dtype)


@implements(np.tri)
def numpy_tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = float) -> Tracer:
    return tri(N, M, k, dtype)
