"""Comparing, differencing, norms, order statistics, and what NumPy tells about an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import indexing, joining, reductions, selecting, shaping
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_args,
    broadcast_to,
    dims_of,
    emit,
    promote_args,
    result_type,
)
from graphmill.frontend.describe import failure
from graphmill.frontend.elementwise import is_close
from graphmill.frontend.shaping import reshaped, sliced
from graphmill.frontend.sizes import of
from graphmill.frontend.ufuncs import constant_like, copied, evaluate
from graphmill.ir.dtypes import bool_, f64

# ---- comparing


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Tracer:
    x, y = broadcast_args(*promote_args(a, b))
    if not x.element.is_inexact:
        x, y = astype(x, f64), astype(y, f64)
    return is_close(x, y, rtol, atol, equal_nan)


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Tracer:
    return reductions.all(isclose(a, b, rtol, atol, equal_nan))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Tracer:
    x, y = as_tracer(a1), as_tracer(a2)
    if x.dims != y.dims:
        return as_tracer(np.bool_(False))
    same = evaluate(np.equal, x, y)
    if equal_nan and x.element.is_inexact and y.element.is_inexact:
        both = emit("and", emit("isnan", x), emit("isnan", y))
        same = emit("or", same, both)
    return reductions.all(same)


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Tracer:
    return reductions.all(evaluate(np.equal, a1, a2))


@implements(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Tracer:
    a = as_tracer(x)
    if not copy:
        a[...] = nan_to_num(a, True, nan, posinf, neginf)
        return a
    if a.element.is_complex:
        parts = [nan_to_num(emit(p, a), copy, nan, posinf, neginf) for p in ("real", "imag")]
        return emit("complex", *parts)
    if not a.element.is_float:
        return copied(a)
    limits = np.finfo(a.dtype) if a.element.name != "bf16" else None
    top = float(limits.max) if limits is not None else 3.3895313892515355e38
    high = constant_like(a, top if posinf is None else posinf)
    low = constant_like(a, -top if neginf is None else neginf)
    infinite = emit("isinf", a)
    positive = emit("gt", a, constant_like(a, 0))
    bounded = emit("select", infinite, emit("select", positive, high, low), a)
    return emit("select", emit("isnan", a), constant_like(a, nan), bounded)


def _infinite(x: Any, sign: int) -> Tracer:
    a = as_tracer(x)
    compared = evaluate(np.greater if sign > 0 else np.less, a, 0)
    return evaluate(np.logical_and, evaluate(np.isinf, a), compared)  # type: ignore[no-any-return]


@implements(np.isposinf)
def isposinf(x: Any) -> Tracer:
    return _infinite(x, 1)


@implements(np.isneginf)
def isneginf(x: Any) -> Tracer:
    return _infinite(x, -1)


# ---- rounding and parts


@implements(np.round, np.around)
def around(a: Any, decimals: Any = 0) -> Tracer:
    """To even at the given decimals, by scaling as NumPy does."""
    x, digits = as_tracer(a), ax.number(decimals, "decimals")
    if not x.element.is_inexact:
        if digits >= 0:
            return copied(astype(x, np.float16) if x.element is bool_ else x)
        tens = astype(around(evaluate(np.true_divide, x, 10.0**-digits), 0), f64)
        return astype(emit("mul", tens, constant_like(tens, 10.0**-digits)), x.element)
    if digits == 0:
        return emit("round", x)
    scale = constant_like(x, 10.0 ** abs(digits))
    first, last = ("mul", "div") if digits > 0 else ("div", "mul")
    return emit(last, emit("round", emit(first, x, scale)), scale)


@implements(np.fix)
def fix(x: Any) -> Any:
    return evaluate(np.trunc, x)


@implements(np.real)
def real(val: Any) -> Tracer:
    x = as_tracer(val)
    if not x.element.is_complex:
        return x
    return shaping.read_only_view(x, lambda base: emit("real", base))


@implements(np.imag)
def imag(val: Any) -> Tracer:
    x = as_tracer(val)
    if not x.element.is_complex:
        return constant_like(x, 0)
    return shaping.read_only_view(x, lambda base: emit("imag", base))


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    x = as_tracer(z)
    parts = (imag(x), real(x)) if x.element.is_complex else (constant_like(x, 0), x)
    result = evaluate(np.arctan2, *parts)
    return evaluate(np.degrees, result) if deg else result


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    return evaluate(np.not_equal, imag(x), 0)


@implements(np.isreal)
def isreal(x: Any) -> Any:
    return evaluate(np.equal, imag(x), 0)


@implements(np.sinc)
def sinc(x: Any) -> Any:
    a = as_tracer(x)
    y = evaluate(np.multiply, np.pi, selecting.where(evaluate(np.equal, a, 0), 1e-20, a))
    return evaluate(np.true_divide, evaluate(np.sin, y), y)


# ---- differences


@implements(np.diff)
def diff(a: Any, n: Any = 1, axis: Any = -1, prepend: Any = None, append: Any = None) -> Any:
    x, order = as_tracer(a), ax.number(n, "n")
    along = ax.axis(axis, x.ndim, x)
    parts = []
    for extra in (prepend, x, append):
        if extra is None or extra is np._NoValue:
            continue
        part = as_tracer(extra)
        if not part.dims:
            part = broadcast_to(part, [1 if i == along else d for i, d in enumerate(x.dims)])
        parts.append(part)
    x = joining.concatenate(parts, along) if len(parts) > 1 else x
    lead = tuple(slice(None) for _ in range(along))
    for _ in range(order):
        ends = [indexing.get(x, (*lead, key)) for key in (slice(1, None), slice(None, -1))]
        x = evaluate(np.not_equal if x.element is bool_ else np.subtract, *ends)
    return x


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Tracer:
    x = as_tracer(ary)
    if x.element is bool_:
        raise failure("GM015", "np.ediff1d of bool", [x], hint="cast to integers first.")
    middle = diff(reshaped(x, (x.type.size,)))
    ends = [as_tracer(e) if e is not None else None for e in (to_begin, to_end)]
    flat = [None if e is None else reshaped(e, (e.type.size,)) for e in ends]
    parts = [p for p in (flat[0], middle, flat[1]) if p is not None]
    return joining.concatenate([astype(p, x.element) for p in parts])


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Central differences of even spacing; one-sided at the ends (first order)."""
    x = as_tracer(f)
    if x.element is bool_:
        raise failure("GM015", "np.gradient of bool", [x], hint="cast to integers first.")
    if edge_order != 1 or any(dims_of(v) for v in varargs):
        raise failure(
            "GM011",
            "np.gradient with coordinates or edge_order=2",
            [f],
            hint="pass the spacing as a number.",
        )
    x = x if x.element.is_inexact else astype(x, f64)
    axes = ax.axes(axis, x.ndim, x)
    steps = list(varargs) * (len(axes) if len(varargs) == 1 else 1) or [1.0] * len(axes)
    found = [_gradient(x, along, step) for along, step in zip(axes, steps, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _gradient(x: Tracer, axis: int, step: Any) -> Tracer:
    size = x.dims[axis]
    if isinstance(size, int) and size < 2:
        raise failure(
            "GM017", f"np.gradient along {size} elements", [x], hint="at least 2 are needed."
        )
    if not isinstance(size, int):
        raise failure(
            "GM005",
            f"np.gradient along the dim {size}",
            [x],
            hint="take differences of slices: (x[2:] - x[:-2]) / 2.",
        )
    inner = (sliced(x, axis, 2, size) - sliced(x, axis, 0, size - 2)) / (2.0 * step)
    first = (sliced(x, axis, 1, 2) - sliced(x, axis, 0, 1)) / step
    last = (sliced(x, axis, size - 1, size) - sliced(x, axis, size - 2, size - 1)) / step
    return joining.concatenate([first, inner, last], axis)


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: Any = -1) -> Any:
    values = as_tracer(y)
    along = ax.axis(axis, values.ndim, values)
    lead = tuple(slice(None) for _ in range(along))
    ends = [indexing.get(values, (*lead, k)) for k in (slice(1, None), slice(None, -1))]
    width: Any = dx
    if x is not None:
        points = as_tracer(x)
        width = diff(points) if points.ndim == 1 else diff(points, 1, along)
        if points.ndim == 1:
            width = reshaped(width, [width.dims[0] if i == along else 1
                                     for i in range(values.ndim)])  # fmt: skip
    areas = width * (ends[0] + ends[1]) / 2.0
    return reductions.sum(areas, along)


@implements(np.cross, np.linalg.cross)
def cross(
    a: Any, b: Any, axisa: Any = -1, axisb: Any = -1, axisc: Any = -1, axis: Any = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = as_tracer(a), as_tracer(b)
    x = shaping.moveaxis(x, axisa, -1)
    y = shaping.moveaxis(y, axisb, -1)
    if x.dims[-1:] != (3,) or y.dims[-1:] != (3,):
        raise failure(
            "GM014",
            "np.cross of vectors that have not 3 elements",
            [a, b],
            hint="move the axis of 3 elements with axisa=, axisb=.",
        )
    p, q = ([indexing.get(t, (Ellipsis, i)) for i in range(3)] for t in (x, y))
    parts = [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]]
    return joining.stack(parts, axisc)


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Tracer:
    x, w = as_tracer(a), as_tracer(v)
    lengths = x.dims[:1], w.dims[:1]
    if all(isinstance(d, int) for length in lengths for d in length) and lengths[0] < lengths[1]:
        x, w = w, x
    x, w = promote_args(x, joining.flip(w))
    return _slid(x, w, mode)


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: str = "valid") -> Tracer:
    x, w = promote_args(a, v)
    if w.element.is_complex:
        w = emit("conj", w)
    n, k = x.dims[:1], w.dims[:1]
    if all(isinstance(d, int) for d in (*n, *k)) and n < k:
        return joining.flip(_slid(w, x, mode))
    return _slid(x, w, mode)


def _slid(x: Tracer, w: Tracer, mode: str) -> Tracer:
    """Sums of products of x and a window w at each place: a convolution of one channel."""
    if x.ndim != 1 or w.ndim != 1 or mode not in ("full", "same", "valid"):
        raise failure(
            "GM025", f"mode {mode!r} of {x.ndim} and {w.ndim} axes", [x, w],
            hint='pass 1-d arrays and mode "full", "same" or "valid".',
        )  # fmt: skip
    n, k = x.dims[0], w.dims[0]
    if not isinstance(k, int):
        raise failure(
            "GM005",
            f"a window of the symbolic length {k}",
            [x, w],
            hint="give the window a known length.",
        )
    if x.element.kind == "b":
        raise failure("GM015", "np.convolve of bool", [x, w], hint="cast to integers first.")
    if x.element.is_complex:
        parts = [(emit(p, x), emit(q, w)) for p in ("real", "imag") for q in ("real", "imag")]
        rr, ri, ir, ii = (_slid(p, q, mode) for p, q in parts)
        return emit("complex", emit("sub", rr, ii), emit("add", ri, ir))
    low = {"full": k - 1, "valid": 0, "same": k // 2}[mode]
    high = {"full": k - 1, "valid": 0, "same": k - 1 - low}[mode]
    result = emit(
        "conv", reshaped(x, (1, 1, n)), reshaped(w, (1, 1, k)), strides=(1,), low=(low,),
        high=(high,), dilation=(1,), input_dilation=(1,), groups=1,
    )  # fmt: skip
    return reshaped(result, (result.dims[-1],))


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    """Horner's rule."""
    coefficients = as_tracer(p)
    if not isinstance(coefficients.dims[0], int):
        raise failure("GM005", "np.polyval with a symbolic number of coefficients", [p, x])
    y: Any = constant_like(astype(as_tracer(x), result_type(coefficients, x)), 0)
    for i in range(coefficients.dims[0]):
        y = y * x + indexing.get(coefficients, i)
    return y


# ---- what NumPy tells about an array


@implements(np.shape)
def shape(a: Any) -> tuple[Any, ...]:
    return as_tracer(a).shape


@implements(np.ndim)
def ndim(a: Any) -> int:
    return as_tracer(a).ndim


@implements(np.size)
def size(a: Any, axis: Any = None) -> Any:
    x = as_tracer(a)
    if axis is None:
        return x.size
    return of(ax.count(x, ax.axes(axis, x.ndim, x)))


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return as_tracer(x).element.is_complex


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return not as_tracer(x).element.is_complex


@implements(np.result_type)
def numpy_result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    from graphmill.ir.dtypes import dtype

    args = [
        dtype(a) if isinstance(a, np.dtype | type | str) else a for a in arrays_and_dtypes
    ]  # fmt: skip
    return result_type(*args).numpy


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not isinstance(dst, Tracer):
        raise failure(
            "GM004",
            "np.copyto into a NumPy array",
            [dst, src],
            hint="make it traced first: gm.numpy.asarray(a).",
        )
    plain = isinstance(src, bool | int | float | complex) and not isinstance(src, np.generic)
    value = as_tracer(src, result_type(dst, src) if plain else None)
    if not np.can_cast(value.dtype, dst.dtype, casting):  # type: ignore[arg-type]
        raise failure(
            "GM018",
            f"{value.element} to {dst.element} with casting={casting!r}",
            [dst, src],
            hint='cast with .astype, or pass casting="unsafe".',
        )
    value = astype(value, dst.element)
    dst[...] = value if where is True else selecting.where(where, value, dst)


@implements(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    if not isinstance(a, Tracer) or a.ndim != 2:
        raise failure(
            "GM011",
            "np.fill_diagonal needs a traced matrix",
            [a],
            hint="np.where(np.eye(n, dtype=bool), value, a)",
        )
    from graphmill.frontend import creation

    rows, columns = a.shape
    mask = creation.eye(rows, columns, 0, "bool")
    value = as_tracer(val)
    if value.ndim:
        value = reshaped(value, (value.dims[0], 1))
    a[...] = astype(selecting.where(mask, astype(value, a.element), a), a.element)
