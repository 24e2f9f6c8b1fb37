"""Powers, roots and lengths, as inlined vector code.

x^y = exp(y log x): for f64 the logarithm is computed to about 100 bits as an unevaluated sum of
two floats, for f32 in f64. C99's special cases hold.
"""

from __future__ import annotations

import struct

from graphmill.codegen.cpu import math_lookup
from graphmill.codegen.cpu.expr import (
    Num,
    corrected,
    fast_two_sum,
    fma,
    poly,
    two_product,
    two_sum,
    where,
)
from graphmill.codegen.cpu.math_exp import exp_of_sum
from graphmill.codegen.cpu.math_log import split_exponent
from graphmill.codegen.cpu.math_root import root_for_half, root_of_sum
from graphmill.codegen.cpu.reals import maximum, minimum
from graphmill.codegen.cpu.registers import scaled

INF, NAN = float("inf"), float("nan")
_LARGEST = {32: 0x7F7FFFFF, 64: 0x7FEFFFFFFFFFFFFF}  # the largest number's bits
_LEAST = {
    32: 27 << 23,
    64: 63 << 52,
}  # those of 2^-100 and 2^-960, whose roots' residues are normal
# (2 atanh(s) - 2s - 2/3 s³) / s⁵ in s², |s| <= 0.1716: minimax
_TAIL = (
    0.3999999999999998,
    0.2857142857144511,
    0.22222222217536558,
    0.18181818870303693,
    0.15384556871700442,
    0.13336317393958352,
    0.11674818975694595,
    0.11989009586556701,
)
# ((1-e)^(-1/3) - 1) / e for the steps to x^(-1/3), the first |e| <= 0.1022: minimax, 2^-18; 2^-23
_THIRD = {
    32: ((0.33332764615489635, 0.22347611740842177, 0.17469800938316862),),
    64: (
        (0.333329160319016, 0.22221426542368072, 0.17446792109913187, 0.14596333335894346),
        (0.3333333333333333, 0.2222222222222222),
    ),
}
# log2(1+f) / f, sqrt(1/2) <= 1+f < sqrt(2): interpolated at Chebyshev's nodes, 2^-35
_LOG2 = (
    1.4426950408708794,
    -0.7213475209631551,
    0.4808983601762459,
    -0.3606736553159396,
    0.28853739437873954,
    -0.24045433696411997,
    0.20617283226751987,
    -0.1802710257711494,
    0.15878356832510718,
    -0.14349039375280995,
    0.14495052999815844,
    -0.1414478821058739,
    0.07553790398013412,
)
# (2^r - 1) / r, |r| <= 1/2: minimax, 2^-29 of 2^r
_EXP2 = (
    0.6931472028520592,
    0.2402264791291474,
    0.05550332471521692,
    0.009618437421363746,
    0.0013398874885499094,
    0.00015353348848577217,
)
_WHOLE = 1.5 * 2.0**52  # added to a number, leaves the nearest whole one in the low bits
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)

Pair = tuple[Num, Num]


def _product(a: Pair, b: Pair) -> Pair:
    high, low = two_product(a[0], b[0])
    return fast_two_sum(high, fma(a[0], b[1], fma(a[1], b[0], low)))


def _log_pair(x: Num) -> Pair:
    """log(x) of positive finite f64 to a relative error of about 2^-65."""
    k, mantissa = split_exponent(x)
    f = mantissa - 1.0
    bottom, bottom_low = two_sum(f.const(2.0), f)
    s = f / bottom
    product, error = two_product(s, bottom)
    s_pair = (s, (((f - product) - error) - s * bottom_low) / bottom)
    square = _product(s_pair, s_pair)
    factor = fast_two_sum(
        s.const(_TWO_THIRDS[0]), fma(poly(square[0], _TAIL), square[0], _TWO_THIRDS[1])
    )
    cubic = _product(_product(square, s_pair), factor)
    high, low = fast_two_sum(s + s, cubic[0])
    low = low + (cubic[1] + (s_pair[1] + s_pair[1]))
    total, rest = two_sum(k * _LN2[0], high)
    return fast_two_sum(total, rest + fma(k, _LN2[1], low))


def _magnitude(x: Num, y: Num) -> Num:
    """|x|^y without the special cases."""
    if x.bits == 32:
        return _short_power(x.abs(), y)
    high, low = (math_lookup.log_pair if x.scope.looks_up else _log_pair)(x.abs())
    power, error = two_product(high, y)
    error = where(power.abs() < 2000.0, fma(low, y, error), 0.0)
    return exp_of_sum(power, error)


def _short_power(x: Num, y: Num) -> Num:
    """x^y of positive finite f32 within 0.51 ulp: 2^(y log2 x) in f64, to what f32 can tell."""
    y = y.convert("arith.extf", "f64")
    exponent = y * _short_log2(x)
    if x.scope.looks_up:
        r = exponent - exponent.rint()
        fraction = fma(poly(r, _EXP2), r, 1.0)
        return scaled(fraction, exponent.rint()).convert("arith.truncf", "f32")
    exponent = exponent.clamp(-200.0, 200.0)
    shifted = exponent + _WHOLE
    r = exponent - (shifted - _WHOLE)
    fraction = fma(poly(r, _EXP2), r, 1.0)
    result = (fraction.as_int() + (shifted.as_int() << 52)).as_float()
    return result.convert("arith.truncf", "f32")


def _short_log2(x: Num) -> Num:
    """log2 of positive finite f32, as f64."""
    if x.scope.looks_up:
        return math_lookup.short_log2(x.convert("arith.extf", "f64"))
    k, mantissa = (v.convert("arith.extf", "f64") for v in split_exponent(x))
    f = mantissa - 1.0
    return fma(poly(f, _LOG2), f, k)


def power(x: Num, y: Num) -> Num:
    """x^y within 1 ulp."""
    result = _magnitude(x, y)
    ordinary = (x.as_int() - 1).ult(_LARGEST[x.bits]) & (y.abs() < INF)
    return corrected(result, ~ordinary, lambda: _special(x, y, result))


def _special(x: Num, y: Num, magnitude: Num) -> Num:
    """x^y where any of C99's special cases may hold."""
    size = x.abs()
    limit = where(size.eq(0.0) ^ (y < 0.0), size.const(0.0), size.const(INF))
    edge = size.eq(0.0) | size.eq(INF)
    result = where(edge, limit, magnitude)
    result = where(y.abs().eq(INF) & ~edge & size.ne(1.0), _to_infinity(size, y), result)
    whole = y.unary("math.floor").eq(y)
    odd = whole & (y * 0.5).unary("math.floor").ne(y * 0.5)
    result = where(odd & (x.as_int() < 0), -result, result)
    result = where((x < 0.0) & ~edge & ~whole, NAN, result)
    result = where(x.is_nan() | y.is_nan(), x + y, result)
    one = y.eq(0.0) | x.eq(1.0) | (size.eq(1.0) & y.abs().eq(INF))
    return where(one, 1.0, result)


def _to_infinity(size: Num, y: Num) -> Num:
    return where((size > 1.0) ^ (y < 0.0), size.const(INF), size.const(0.0))


def cbrt(x: Num) -> Num:
    """Cube root within 0.6 ulp: x^(-2/3) x by a division-free iteration, then one exact step."""
    a = x.abs()
    least = _LEAST[x.bits]
    unusual = ~(a.as_int() - least).ult(_LARGEST[x.bits] + 1 - least)

    def slow() -> Num:
        root = _normal_cbrt(a * 2.0**54) * 2.0**-18
        return where(a.eq(0.0) | ~(a < INF), a, root)

    return corrected(_normal_cbrt(a), unusual, slow).copysign(x)


def _normal_cbrt(a: Num) -> Num:
    t = _inverse_cbrt_guess(a)
    for row in _THIRD[a.bits]:
        error = fma(-(a * t) * t, t, 1.0)
        t = fma(t * error, poly(error, row), t)
    square = t * t
    root = a * square
    high, low = two_product(root, root)
    cube, cube_low = two_product(high, root)
    residue = ((a - cube) - cube_low) - low * root
    return fma(residue, square * 0.3333333333333333, root)


def _inverse_cbrt_guess(a: Num) -> Num:
    """a^(-1/3) within 3.5 %, as the bits of a number are about linear in its logarithm."""
    bits = a.as_int()
    if a.bits == 32:
        third = fma(bits.to_float(), -0.3333333333333333, 1419900316.0)
        return third.convert("arith.fptosi", "i32").as_float()
    unit = 2.0**52  # whose last bits count ones: 64-bit integers need not convert
    whole = (bits.shr(11) | _bits(unit)).as_float() - unit
    third = fma(whole, -0.3333333333333333, float(0x553EE95B6199B800 >> 11)) + unit
    return (third.as_int() << 11).as_float().abs()


def _bits(x: float) -> int:
    return int.from_bytes(struct.pack("<d", x), "little")


def hypot(x: Num, y: Num) -> Num:
    """sqrt(x² + y²) within 1 ulp, without overflow on the way."""
    infinite = x.abs().eq(INF) | y.abs().eq(INF)
    if x.bits == 32:
        return _short_hypot(x, y, infinite)
    a, b = maximum(x.abs(), y.abs()), minimum(x.abs(), y.abs())
    large, small = a > 2.0**500, a < 2.0**-400
    scale = where(large, 2.0**-600, where(small, 2.0**600, a.const(1.0)))
    back = where(large, 2.0**600, where(small, 2.0**-600, a.const(1.0)))
    a, b = a * scale, b * scale
    a2, a2_low = two_product(a, a)
    b2, b2_low = two_product(b, b)
    high, low = fast_two_sum(a2, b2)
    root = high.sqrt()
    square, square_low = two_product(root, root)
    rest = ((high - square) - square_low) + (low + (a2_low + b2_low))
    root = where(root.eq(0.0), root, root + rest / (root + root))
    return where(infinite, INF, root * back)


def _short_hypot(x: Num, y: Num, infinite: Num) -> Num:
    """sqrt(x² + y²) of f32: in two words of it where squares neither overflow nor vanish."""

    def wide() -> Num:
        c, d = (v.convert("arith.extf", "f64") for v in (x, y))
        root = root_for_half(fma(c, c, d * d))
        return where(infinite, INF, root.convert("arith.truncf", "f32"))

    p, q = x.abs(), y.abs()
    a, b = p.max(q), p.min(q)
    a2, b2 = a * a, b * b
    total, low = fast_two_sum(a2, b2)
    root = root_of_sum(total, low + (fma(a, a, -a2) + fma(b, b, -b2)))
    if root is None:
        return wide()
    return corrected(root, ~((p < 2.0**60) & (q < 2.0**60) & (a > 2.0**-50)), wide)
