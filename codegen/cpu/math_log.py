"""Logarithms and the inverse hyperbolic functions, as inlined vector code.

x = 2^k (1+f), sqrt(1/2) <= 1+f < sqrt(2). log(1+f) = f - f²/2 + tail(f), where the tail is small:
what is added to it may be rounded. The forms are those of FDLIBM and FreeBSD's msun. AVX-512 has
better ones (`math_lookup`).
"""

from __future__ import annotations

from graphmill.codegen.cpu import math_lookup
from graphmill.codegen.cpu import polynomials as fit
from graphmill.codegen.cpu.expr import Num, fma, two_product, two_sum, where
from graphmill.codegen.cpu.math_exp import BIAS, SIGNIFICAND, exp
from graphmill.codegen.cpu.reals import maximum
from graphmill.records import record

INF, NAN = float("inf"), float("nan")
_LN2 = {
    32: (6.9313812256e-01, 9.0580006145e-06),
    64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
_SQRT_HALF = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}
_LEAST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}


@record
class Reduced:
    """x = 2^k (1+f) and log(1+f) = f - half_square + tail."""

    k: Num
    f: Num
    half_square: Num
    tail: Num


def split_exponent(x: Num) -> tuple[Num, Num]:
    """(k, m) with x = 2^k m and sqrt(1/2) <= m < sqrt(2), for positive finite x; k is a float."""
    width = SIGNIFICAND[x.bits]
    offset = x.const(2.0**width + BIAS[x.bits])
    small = x < _LEAST_NORMAL[x.bits]
    x = where(small, x * 2.0**54, x)
    offset = where(small, offset.const(2.0**width + BIAS[x.bits] + 54), offset)
    one = BIAS[x.bits] << width
    bits = x.as_int() + (one - _SQRT_HALF[x.bits])
    mantissa = (bits & ((1 << width) - 1)) + _SQRT_HALF[x.bits]
    unit = (BIAS[x.bits] + width) << width  # the bits of 2^width, whose low bits count ones
    return (bits.shr(width) | unit).as_float() - offset, mantissa.as_float()


def reduce(x: Num) -> Reduced:
    """Reduce positive finite `x`; anything else gives garbage without trapping."""
    k, mantissa = split_exponent(x)
    f = mantissa - 1.0
    square = f * f
    half_square = square * 0.5
    if x.bits == 32:
        return Reduced(k, f, half_square, fit.fitted(fit.LOG, f) * (square * f))
    s = f / (f + 2.0)
    z = s * s
    return Reduced(k, f, half_square, s * fma(fit.fitted(fit.LOG, z), z, half_square))


def _with_limits(x: Num, result: Num) -> Num:
    """`result` for positive finite x; -inf for 0, NaN below, inf and NaN for themselves."""
    result = where(x < INF, result, x)
    return where(x < 0.0, NAN, where(x.eq(0.0), -INF, result))


def _natural(r: Reduced, correction: Num | None = None) -> Num:
    """k ln2 + log(1+f) + correction, smallest terms first."""
    high, low = _LN2[r.f.bits]
    tail = fma(r.k, low, r.tail)
    if correction is not None:
        tail = tail + correction
    return fma(r.k, high, r.f - (r.half_square - tail))


def log(x: Num) -> Num:
    """Natural logarithm within 1 ulp."""
    if x.scope.looks_up:
        return math_lookup.log(x)
    return _with_limits(x, _natural(reduce(x)))


def _in_base(x: Num, base: tuple[float, float], exponent: tuple[float, float]) -> Num:
    """log(x) in another base: `base` is 1/log(base), `exponent` log2 in that base; high, low."""
    r = reduce(x)
    clear = -1 << (32 if x.bits == 64 else 12)
    high = ((r.f - r.half_square).as_int() & clear).as_float()
    low = ((r.f - high) - r.half_square) + r.tail
    main, whole = high * base[0], r.k * exponent[0]
    rest = fma(low, base[0], fma(low + high, base[1], r.k * exponent[1]))
    total = whole + main
    return _with_limits(x, rest + ((whole - total) + main) + total)


def log2(x: Num) -> Num:
    """Base-2 logarithm within 1 ulp; exact for powers of two."""
    if x.scope.looks_up:
        return math_lookup.log2(x)
    base = {
        32: (1.4428710938e00, -1.7605285393e-04),
        64: (1.44269504072144627571e00, 1.67517131648865118353e-10),
    }[x.bits]
    return _in_base(x, base, (1.0, 0.0))


def log10(x: Num) -> Num:
    """Base-10 logarithm within 1.5 ulp."""
    if x.scope.looks_up:
        return math_lookup.log10(x)
    if x.bits == 32:
        base, two = (4.3432617188e-01, -3.1689971365e-05), (3.0102920532e-01, 7.9034151668e-07)
    else:
        base = (4.34294481878168880939e-01, 2.50829467116452752298e-11)
        two = (3.01029995663611771306e-01, 3.69423907715893078616e-13)
    return _in_base(x, base, two)


def _log1p_of_sum(x: Num, low: Num | None = None) -> Num:
    """log(1 + x + low): the error of rounding 1 + x comes back as a correction."""
    u, error = two_sum(x.const(1.0), x)
    error = error if low is None else error + low
    return _with_limits(u, _natural(reduce(u), error / u))


def log1p(x: Num) -> Num:
    """log(1 + x) within 1.5 ulp."""
    if x.scope.looks_up:
        return math_lookup.log1p(x)
    return where(x.eq(0.0), x, _log1p_of_sum(x))


def logaddexp(a: Num, b: Num) -> Num:
    """log(e^a + e^b), within 2 ulp of its larger term."""
    top = maximum(a, b)
    rest = log1p(exp(-(a - b).abs()))
    return top + where(a.eq(b), rest.const(0.6931471805599453), rest)


def _doubled(x: Num) -> Num:
    """log(2x) for large x, where x + sqrt(x² ± 1) is 2x."""
    r = reduce(x)
    return _with_limits(x, _natural(Reduced(r.k + 1.0, r.f, r.half_square, r.tail)))


def asinh(x: Num) -> Num:
    """Inverse hyperbolic sine within 2 ulp: log1p(a + a² / (1 + sqrt(a² + 1)))."""
    if x.scope.looks_up:
        return math_lookup.asinh(x)
    a = x.abs()
    large = a > 2.0**28
    safe = where(large, 1.0, a)
    square = safe * safe
    y, low = two_sum(safe, square / ((square + 1.0).sqrt() + 1.0))
    result = where(large, _doubled(a), _log1p_of_sum(y, low))
    return where(x.eq(0.0), x, result.copysign(x))


def acosh(x: Num) -> Num:
    """Inverse hyperbolic cosine within 2 ulp: log1p(t + sqrt(2t + t²)), t = x - 1."""
    if x.scope.looks_up:
        return math_lookup.acosh(x)
    large = x > 2.0**28
    t = where(large, 1.0, x - 1.0)
    product, error = two_product(t, t)
    square, rest = two_sum(t + t, product)
    root = square.sqrt()
    again, more = two_product(root, root)
    root_low = (((square - again) - more) + (rest + error)) / (root + root)
    y, low = two_sum(root, t)
    near = _log1p_of_sum(y, low + where(root.eq(0.0), 0.0, root_low))
    return where(x < 1.0, NAN, where(large, _doubled(x), where(x.eq(1.0), 0.0, near)))


def atanh(x: Num) -> Num:
    """Inverse hyperbolic tangent within 2 ulp: log1p(2a / (1-a)) / 2."""
    if x.scope.looks_up:
        return math_lookup.atanh(x)
    a = x.abs()
    bottom, bottom_low = two_sum(a.const(1.0), -a)
    top = a + a
    y = top / bottom
    product, error = two_product(y, bottom)
    low = (((top - product) - error) - y * bottom_low) / bottom
    low = where(y < INF, low, 0.0)
    result = _log1p_of_sum(y, low) * 0.5
    return where(x.eq(0.0), x, result.copysign(x))
