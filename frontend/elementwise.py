"""Ufuncs that are several IR ops; operands have one dtype (the loop's) and one shape."""

from __future__ import annotations

import math

import numpy as np

from graphmill.frontend.core import as_tracer, astype, emit
from graphmill.frontend.describe import failure
from graphmill.frontend.tracer import Tracer
from graphmill.frontend.ufuncs import constant_like, copied
from graphmill.ir.dtypes import bool_, f64, i32, i64


def select(condition: Tracer, x: Tracer, y: Tracer) -> Tracer:
    """x where the condition holds, else y; all of one shape, x and y of one dtype."""
    return emit("select", condition, x, y)


def absolute(x: Tracer) -> Tracer:
    return copied(x) if x.element.kind in "bu" else emit("abs", x)


def sign(x: Tracer) -> Tracer:
    if x.element.kind == "u":
        return astype(astype(x, bool_), x.element)
    return emit("sign", x)


def conjugate(x: Tracer) -> Tracer:
    return emit("conj", x) if x.element.is_complex else copied(x)


def exp2(x: Tracer) -> Tracer:
    if not x.element.is_complex:
        return emit("exp2", x)
    return emit("exp", emit("mul", x, constant_like(x, math.log(2))))


def expm1(x: Tracer) -> Tracer:
    if not x.element.is_complex:
        return emit("expm1", x)
    return emit("sub", emit("exp", x), constant_like(x, 1))


def log2(x: Tracer) -> Tracer:
    return emit("log2", x) if x.element.is_float else _log_to_base(x, 2)


def log10(x: Tracer) -> Tracer:
    return emit("log10", x) if x.element.is_float else _log_to_base(x, 10)


def _log_to_base(x: Tracer, base: int) -> Tracer:
    return emit("mul", emit("log", x), constant_like(x, 1 / math.log(base)))


def log1p(x: Tracer) -> Tracer:
    if x.element.is_float:
        return emit("log1p", x)
    return emit("log", emit("add", x, constant_like(x, 1)))


def bit_count(x: Tracer) -> Tracer:
    """The one bits of |x|, as NumPy counts them."""
    return emit("popcount", absolute(x))


def reciprocal(x: Tracer) -> Tracer:
    """1 / x; for integers rounded towards zero, so 0 beyond ±1."""
    if x.element.is_inexact:
        return emit("reciprocal", x)
    zero = constant_like(x, 0)
    unit = emit("eq", emit("abs", x) if x.element.kind == "i" else x, constant_like(x, 1))
    return select(unit, x, zero)


def fmax(x: Tracer, y: Tracer) -> Tracer:
    return _ignoring_nan("max", x, y)


def fmin(x: Tracer, y: Tracer) -> Tracer:
    return _ignoring_nan("min", x, y)


def _ignoring_nan(name: str, x: Tracer, y: Tracer) -> Tracer:
    if not x.element.is_inexact:
        return emit(name, x, y)
    both = emit(name, x, y)
    return select(emit("isnan", x), y, select(emit("isnan", y), x, both))


def degrees(x: Tracer) -> Tracer:
    return emit("mul", x, constant_like(x, 180.0 / math.pi))


def radians(x: Tracer) -> Tracer:
    return emit("mul", x, constant_like(x, math.pi / 180.0))


def heaviside(x: Tracer, at_zero: Tracer) -> Tracer:
    zero, one = constant_like(x, 0), constant_like(x, 1)
    step = select(emit("lt", x, zero), zero, select(emit("eq", x, zero), at_zero, one))
    return select(emit("isnan", x), x, step)


def logaddexp2(x: Tracer, y: Tracer) -> Tracer:
    """log2(2**x + 2**y) by the larger plus a correction; equal infinities give themselves."""
    larger = emit("max", x, y)
    gap = emit("neg", emit("abs", emit("sub", x, y)))
    correction = emit("mul", emit("log1p", emit("exp2", gap)), constant_like(x, 1 / math.log(2)))
    same = emit("eq", x, y)
    one = constant_like(x, 1)
    return select(same, emit("add", x, one), emit("add", larger, correction))


def ldexp(x: Tracer, exponent: Tracer) -> Tracer:
    """x * 2**exponent, rounded once: f32 and narrower by one product in f64, f64 by three."""
    if x.element.bits < 64:
        power = _power_of_two(_clipped(exponent, -400, 400))
        return astype(emit("mul", astype(x, f64), power), x.element)
    left = _clipped(exponent, -2300, 2300)
    for _ in range(2):  # steps that leave a result below the normal numbers to the last
        some = select(
            emit("lt", left, constant_like(left, -1022)), constant_like(left, -969),
            emit("min", emit("max", left, constant_like(left, 0)), constant_like(left, 1023)),
        )  # fmt: skip
        x, left = emit("mul", x, _power_of_two(some)), emit("sub", left, some)
    return emit("mul", x, _power_of_two(_clipped(left, -1022, 1023)))


def _clipped(x: Tracer, low: int, high: int) -> Tracer:
    """An integer within bounds that its dtype may not hold, as i64."""
    wide = astype(x, i64)
    return emit("max", emit("min", wide, constant_like(wide, high)), constant_like(wide, low))


def _power_of_two(exponent: Tracer) -> Tracer:
    """2**exponent as f64, where that is a normal number."""
    biased = emit("add", exponent, constant_like(exponent, 1023))
    return emit("bitcast", emit("shl", biased, constant_like(biased, 52)), dtype=f64)


def modf(x: Tracer) -> tuple[Tracer, Tracer]:
    """The fractional and the whole part, both with the sign of x."""
    whole = emit("trunc", x)
    part = select(emit("isinf", x), constant_like(x, 0), emit("sub", x, whole))
    return emit("copysign", part, x), whole


def frexp(x: Tracer) -> tuple[Tracer, Tracer]:
    """Mantissa in [0.5, 1) and exponent, by the bits."""
    if x.element.bits == 16:
        raise failure("GM015", f"np.frexp of {x.element}", [x], hint="cast to float32 first.")
    info, word = np.finfo(x.dtype), i32 if x.element.bits == 32 else i64
    bias, above = info.maxexp - 1, (1 << (x.element.bits - 1 - info.nmant)) - 1
    tiny = emit("lt", emit("abs", x), constant_like(x, info.tiny))
    shift = info.nmant + 2
    normal = select(tiny, emit("mul", x, constant_like(x, 2.0**shift)), x)
    bits = emit("bitcast", normal, dtype=word)
    biased = emit("and", emit("shr", bits, constant_like(bits, info.nmant)),
                  constant_like(bits, above))  # fmt: skip
    rest = emit("and", bits, constant_like(bits, ~(above << info.nmant)))
    half = emit("or", rest, constant_like(bits, (bias - 1) << info.nmant))
    least = select(tiny, constant_like(bits, bias - 1 + shift), constant_like(bits, bias - 1))
    special = emit("or", emit("eq", x, constant_like(x, 0)), emit("not", emit("isfinite", x)))
    exponent = select(special, constant_like(bits, 0), emit("sub", biased, least))
    return select(special, x, emit("bitcast", half, dtype=x.element)), astype(exponent, i32)


def spacing(x: Tracer) -> Tracer:
    """The distance to the next float away from zero, with the sign of x."""
    size = emit("abs", x)
    gap = emit("sub", emit("nextafter", size, constant_like(x, math.inf)), size)
    return select(emit("isinf", x), constant_like(x, math.nan), emit("copysign", gap, x))


def gcd(x: Tracer, y: Tracer) -> Tracer:
    """Euclid's algorithm on all elements at once, until every remainder is 0."""
    from graphmill.frontend import control

    def unfinished(state: tuple[Tracer, Tracer]) -> Tracer:
        zero = constant_like(state[1], 0)
        axes = tuple(range(len(state[1].dims)))
        return emit("reduce", emit("ne", state[1], zero), axes=axes, monoid="any")

    def step(state: tuple[Tracer, Tracer]) -> tuple[Tracer, Tracer]:
        a, b = state
        zero, one = constant_like(b, 0), constant_like(b, 1)
        done = emit("eq", b, zero)
        rest = emit("rem", a, select(done, one, b))
        return select(done, a, b), select(done, zero, rest)

    return absolute(control.while_loop(unfinished, step, (absolute(x), absolute(y)))[0])


def lcm(x: Tracer, y: Tracer) -> Tracer:
    """|x| / gcd(x, y) * |y|; 0 where both are 0."""
    divisor = gcd(x, y)
    zero, one = constant_like(x, 0), constant_like(x, 1)
    safe = select(emit("eq", divisor, zero), one, divisor)
    return absolute(emit("mul", emit("floordiv", absolute(x), safe), absolute(y)))


def is_close(x: Tracer, y: Tracer, rtol: float, atol: float, equal_nan: bool) -> Tracer:
    """|x - y| <= atol + rtol * |y|, with equal infinities close."""
    near = emit("abs", emit("sub", x, y))
    size = emit("abs", y)
    kind = near.element
    limit = emit("mul", size, constant_like(size, rtol))
    limit = emit("add", limit, constant_like(limit, atol))
    close = emit("and", emit("le", near, limit), emit("isfinite", y))
    close = emit("or", close, emit("eq", x, y))
    assert kind is limit.element
    if not equal_nan:
        return close
    both = emit("and", emit("isnan", x), emit("isnan", y))
    return emit("or", close, both)


def erf_like(name: str, x: object) -> Tracer:
    """`erf`, `erfc`, `logistic`, `rsqrt`: float functions that NumPy has no ufunc for."""
    traced = as_tracer(x)
    if not traced.element.is_float:
        traced = astype(traced, np.float64)
    return emit(name, traced)
