"""Logarithms with tables in registers (AVX-512), and the inverse hyperbolic functions by them.

x = 2^k m, 0.75 <= m < 1.5, and with r close to 1/m, looked up by the first bits of m behind the
point (five for f32, four for f64), m r = 1 + f with |f| < 1/31 or 1/15:
log x = k log 2 - log r + log1p(f). P. T. P. Tang, Table-driven implementation of the logarithm
function in IEEE floating-point arithmetic, ACM TOMS 16, 1990. As in S. Gal's accurate tables (An
accurate elementary mathematical library for the IEEE floating point standard, ACM TOMS 17, 1991),
each r was searched for a logarithm that is short to within 2^-30 (f32; 2^-33 close to 1) or 2^-63
(f64), so that the first sum is exact. r is 1 about 1. The instructions make -inf of 0, and NaN
below, of themselves.
"""

from __future__ import annotations

import functools
import math

from graphmill.codegen.cpu.expr import Num, fast_two_sum, fma, poly, two_product, two_sum, where
from graphmill.codegen.cpu.math_root import inverse_root_estimate, reciprocal
from graphmill.codegen.cpu.registers import (
    FROM_1,
    FROM_3_4,
    exponent,
    looked_up,
    scaled,
    significand,
)
from graphmill.records import record

INF, NAN = float("inf"), float("nan")
_FIRST = {32: 18, 64: 48}  # bits behind those that look up
_FAR = {32: 2.0**30, 64: 2.0**60}  # from where sqrt(x² ± 1) is x
_TINY = {32: 2.0**-12, 64: 2.0**-27}  # below it atanh(x) is x


@record
class _Base:
    """Of a base: log 2 and 1 / ln(base) in two words each, bits of short logarithms, the table of
    r, and (log1p(f) - f) / f² in that base.

    The last is minimax to 2^-26.7 (2^-33 for base 10) in f32 and 2^-61 in f64, of log1p(f).
    """

    two: tuple[float, float]
    one: tuple[float, float]
    places: int
    near: tuple[float, ...]
    series: tuple[float, ...]


# fmt: off
_E: dict[int, _Base] = {
    32: _Base((0.693145751953125, 1.4286068203094173e-06), (1.0, 0.0), 17, (
        1.0, 0.9567434787750244, 0.9292551875114441, 0.9011942744255066, 0.8793112635612488,
        0.8538001179695129, 0.832038938999176, 0.8121201395988464, 0.7880772352218628,
        0.7697920799255371, 0.755646288394928, 0.7354323267936707, 0.7168849110603333,
        0.7055983543395996, 0.6858854293823242, 0.674566924571991, 1.3137834072113037,
        1.2879695892333984, 1.2672181129455566, 1.2427363395690918, 1.224963903427124,
        1.2013626098632812, 1.1691362857818604, 1.152935266494751, 1.131463885307312,
        1.1174376010894775, 1.0942955017089844, 1.0719025135040283, 1.0568392276763916,
        1.0420830249786377, 1.0265533924102783, 1.0,
    ), (-0.5000011920928955, 0.33337879180908203, -0.24440866708755493)),
    64: _Base((0.6931471805598903, 5.497923018708371e-14), (1.0, 0.0), 42, (
        1.0, 0.9142857112736085, 0.8648648630633103, 0.8205128155345188, 0.780487800020006,
        0.7441860443298262, 0.7111111084850744, 0.6808510609119962, 1.3001534677077347,
        1.254901957916744, 1.2075471628008347, 1.1636363564544636, 1.120819641231462,
        1.0847457592541865, 1.0485088433127028, 1.0,
    ), (-0.49999999999999994, 0.3333333333333342, -0.2500000000004816, 0.19999999999940596,
        -0.16666666534160562, 0.14285713002689446, -0.12500132596873845, 0.1111357606573178,
        -0.09964894622323771, 0.0790725527691174)),
}
_TWO: dict[int, _Base] = {
    32: _Base((1.0, 0.0), (1.4426950216293335, 1.9259629911266175e-08), 16, (
        1.0, 0.9596818089485168, 0.9284319281578064, 0.8984086513519287, 0.8733375072479248,
        0.8567233085632324, 0.8331678509712219, 0.8128178715705872, 0.7905615568161011,
        0.7752678394317627, 0.7501340508460999, 0.73160320520401, 0.7164112329483032,
        0.7071815729141235, 0.6884800791740417, 0.677693784236908, 0.659995436668396,
        0.646495521068573, 0.6336402297019958, 0.6192041039466858, 0.6102191209793091,
        0.5954405665397644, 0.5876139998435974, 0.5767402648925781, 0.5657086372375488,
        0.5563218593597412, 0.5453230738639832, 0.5389527082443237, 0.5300715565681458,
        0.5178964138031006, 0.5092275738716125, 0.5,
    ), (-0.72134929895401, 0.48096391558647156, -0.3526071608066559)),
    64: _Base((1.0, 0.0), (1.4426950408889634, 2.0355273740931033e-17), 42, (
        1.0, 0.9210148570641372, 0.8648648646623682, 0.8240656409478468, 0.7804878044492204,
        0.7441860461009107, 0.7116942217841763, 0.6808510634032527, 0.6530612241231962,
        0.6274509800093252, 0.6037735847084875, 0.581818181758061, 0.5614035087096054,
        0.5423728813469604, 0.5245901639335728, 0.5,
    ), (-0.7213475204444816, 0.4808983469629891, -0.3606737602229356, 0.2885390081769357,
        -0.24044917156983492, 0.20609927304543044, -0.18033879307964373, 0.16033501076573514,
        -0.14376304054607603, 0.11407757975043654)),
}
_TEN: dict[int, _Base] = {
    32: _Base((0.301025390625, 4.605038981195214e-06),
              (0.4342944920063019, -1.0103050052231683e-08), 18, (
        1.0, 0.956141471862793, 0.9273489713668823, 0.900530219078064, 0.8774262070655823,
        0.855380654335022, 0.8320598602294922, 0.8110686540603638, 0.7941356897354126,
        0.7727696895599365, 0.7561712265014648, 0.7322096824645996, 0.7205974459648132,
        0.7015179991722107, 0.6911388039588928, 0.6746265292167664, 1.3190526962280273,
        1.287561297416687, 1.2608908414840698, 1.249446988105774, 1.2197030782699585,
        1.1952253580093384, 1.170889139175415, 1.1473406553268433, 1.132681131362915,
        1.1114717721939087, 1.0908032655715942, 1.0709799528121948, 1.05768620967865,
        1.0380725860595703, 1.021654486656189, 1.0,
    ), (-0.21714724600315094, 0.1447654813528061, -0.10858793556690216, 0.08447225391864777)),
    64: _Base((0.30102999566383914, 1.42050232272661e-13),
              (0.4342944819032518, 1.098319650216765e-17), 42, (
        1.0, 0.9142857138710804, 0.8648648647439685, 0.8205128198623667, 0.7804878033567328,
        0.7483237200484589, 0.7111111103724674, 0.6808510626761227, 1.3061224478569788,
        1.2549019582627614, 1.2075471693079678, 1.1636014543830728, 1.122807017122313,
        1.0847457615763079, 1.0491803259870955, 1.0,
    ), (-0.21714724095162588, 0.14476482730108434, -0.1085736204760221, 0.08685889638039238,
        -0.07238241307507527, 0.0620420632712156, -0.05428738609881276, 0.04826564759559363,
        -0.04327698747222602, 0.034340773337631386)),
}
# (log1p(f) - f + f²/2 - f³/3) / f⁴, 2^-66 of log1p(f)
_QUARTIC = (
    -0.2500000000000023, 0.20000000000032675, -0.16666666665912172, 0.1428571416660234,
    -0.12499999714792394, 0.11111246057317924, -0.10001984601706539, 0.09050330250676783,
    -0.07188607759651036,
)
_THIRD = (0.3333333333333333, 1.850371707708594e-17)
# log2(1+f) / f, 2^-34
_SHORT = (
    1.4426950408702572, -0.7213475111391893, 0.4808984706044, -0.36070062354060933,
    0.2886235597217759, -0.22387689836760413,
)
# fmt: on


@functools.cache
def _logarithms(near: tuple[float, ...], places: int, base: float) -> tuple[float, ...]:
    """-log r, to the bits that it has."""
    return tuple(round(-math.log(r) / base * 2**places) / 2**places for r in near)


@record
class _Split:
    """x = 2^-down m, and log m = table + log1p(f) + rest, `rest` being below an ulp of f."""

    down: Num
    table: Num
    f: Num
    rest: Num

    def doubled(self, condition: Num) -> _Split:
        """The split of 2x where that holds."""
        down = where(condition, self.down - 1.0, self.down)
        return _Split(down, self.table, self.f, self.rest)


def _split(x: Num, base: _Base, log_base: float) -> _Split:
    """Split `x`: the product m r, which is f + 1, in two words."""
    m = significand(x, FROM_3_4)
    down = exponent(m) - exponent(x)
    table, f, rest = _near(m, base, log_base)
    return _Split(down, table, f, rest)


def _near(m: Num, base: _Base, log_base: float) -> tuple[Num, Num, Num]:
    """-log r, f and `rest` for a significand."""
    place = m.as_int().shr(_FIRST[m.bits])
    product, cut = two_product(m, looked_up(place, base.near))
    f = product - 1.0
    table = looked_up(place, _logarithms(base.near, base.places, log_base))
    return table, f, fma(-f, cut, cut)


def _split_sum(x: Num, low: Num) -> _Split:
    """Split x + `low` for the natural logarithm; `low` is below an ulp of x, and 0 where x is."""
    base, m = _E[x.bits], significand(x, FROM_3_4)
    down = exponent(m) - exponent(x)
    place = m.as_int().shr(_FIRST[x.bits])
    r = looked_up(place, base.near)
    f, rest = fast_two_sum(fma(m, r, -1.0), scaled(low, down.min(1000.0)) * r)
    return _Split(down, looked_up(place, _logarithms(base.near, base.places, 1.0)), f, rest)


def log(x: Num) -> Num:
    """Natural logarithm within 0.9 ulp."""
    base = _E[x.bits]
    s = _split(x, base, 1.0)
    tail = fma(s.f * s.f, poly(s.f, base.series), fma(s.down, -base.two[1], s.rest))
    return fma(s.down, -base.two[0], s.table) + (tail + s.f)


def log2(x: Num) -> Num:
    """Base-2 logarithm within 0.9 ulp; exact for powers of two."""
    base, m = _TWO[x.bits], significand(x, FROM_1)  # r is 1 or 1/2 about 1
    table, f, rest = _near(m, base, math.log(2))
    return (exponent(x) + table) + _curve(f, rest, base)


def log10(x: Num) -> Num:
    """Base-10 logarithm within 0.9 ulp."""
    base = _TEN[x.bits]
    s = _split(x, base, math.log(10))
    tail = fma(s.down, -base.two[1], _curve(s.f, s.rest, base))
    return fma(s.down, -base.two[0], s.table) + tail


def _curve(f: Num, rest: Num, base: _Base) -> Num:
    """log1p(f) + rest in the base."""
    bend = fma(f, fma(f, poly(f, base.series), base.one[1]), rest * base.one[0])
    return fma(f, base.one[0], bend)


def _log_of(s: _Split) -> Num:
    """The logarithm, with one rounding less."""
    base = _E[s.f.bits]
    first = fma(s.down, -base.two[0], s.table)
    total = first + s.f
    missing = ((first - total) + s.f).min(1.0)  # not NaN where it is infinite
    tail = fma(s.down, -base.two[1], s.rest) + missing
    return total + fma(s.f * s.f, poly(s.f, base.series), tail)


def log1p(x: Num) -> Num:
    """log(1 + x) within 0.9 ulp."""
    total, error = two_sum(x.const(1.0), x)
    result = _log_of(_split_sum(total, error))
    return where(x < INF, result.copysign(x), x)


def asinh(x: Num) -> Num:
    """Inverse hyperbolic sine within 1 ulp: log(a + sqrt(a² + 1)), the sum in two words."""
    a = x.abs()
    large = a > _FAR[x.bits]
    square, square_low = two_product(a, a)
    total, low = two_sum(square.const(1.0), square)
    root, root_low = _root(total, total, low + square_low)
    y, y_low = fast_two_sum(root, a)
    s = _split_sum(where(large, a, y), where(large, 0.0, y_low + root_low))
    return _log_of(s.doubled(large)).copysign(x)


def acosh(x: Num) -> Num:
    """Inverse hyperbolic cosine within 1 ulp: log(x + sqrt(x² - 1)), the sum in two words."""
    large = x > _FAR[x.bits]
    square, square_low = two_product(x, x)
    total, low = fast_two_sum(square, square.const(-1.0))
    root, root_low = _root(total, total.const(1e-30).max(total), low + square_low)
    y, y_low = fast_two_sum(x, root)
    s = _split_sum(where(large, x, y), where(large, 0.0, y_low + root_low))
    return where(x < 1.0, NAN, _log_of(s.doubled(large)))


def _root(x: Num, safe: Num, low: Num) -> tuple[Num, Num]:
    """sqrt(x + low) in two words; `safe` is x, but not 0."""
    r = inverse_root_estimate(safe)
    assert r is not None
    near, half = x * r, r * 0.5
    for _ in range(x.bits // 32):
        error = fma(-near, half, 0.5)
        near, half = fma(near, error, near), fma(half, error, half)
    return near, (fma(-near, near, x) + low) * half


def atanh(x: Num) -> Num:
    """Inverse hyperbolic tangent within 1 ulp: log((1+a) / (1-a)) / 2, the ratio in two words."""
    a = x.abs()
    top, top_low = fast_two_sum(a.const(1.0), a)
    bottom, bottom_low = fast_two_sum(a.const(1.0), -a)
    inverse = reciprocal(bottom)
    ratio = top * inverse
    missing = fma(-ratio, bottom_low, fma(-ratio, bottom, top) + top_low)
    result = _log_of(_split_sum(ratio, missing * inverse)) * 0.5
    result = where(a < _TINY[x.bits], a, result)
    return where(a.eq(1.0), INF, result).copysign(x)


def log_pair(x: Num) -> tuple[Num, Num]:
    """log(x) of positive finite f64 to a relative error of about 2^-64, as a sum of two floats."""
    base = _E[64]
    m = significand(x, FROM_3_4)
    down = exponent(m) - exponent(x)
    place = m.as_int().shr(_FIRST[64])
    product, cut = two_product(m, looked_up(place, base.near))
    f = product - 1.0
    square, square_low = two_product(f, f)
    first = fma(down, -base.two[0], looked_up(place, _logarithms(base.near, 42, 1.0)))
    high, rest = fast_two_sum(first, f)
    high, more = fast_two_sum(high, square * -0.5)
    cube, third = square * f, square * f * _THIRD[0]
    high, most = fast_two_sum(high, third)
    cube_low = fma(square_low, f, fma(square, f, -cube))
    third_low = fma(cube_low, _THIRD[0], fma(cube, _THIRD[1], fma(cube, _THIRD[0], -third)))
    tail = fma(down, -base.two[1], fma(-f, cut, cut) - square_low * 0.5) + third_low
    quartic = poly(f, _QUARTIC) * (square * square)
    return fast_two_sum(high, (rest + more) + (most + (tail + quartic)))


def short_log2(x: Num) -> Num:
    """log2(x) of positive finite f64 to 2^-34."""
    base, m = _TWO[64], significand(x, FROM_1)
    place = m.as_int().shr(_FIRST[64])
    whole = exponent(x) + looked_up(place, _logarithms(base.near, base.places, math.log(2)))
    f = fma(m, looked_up(place, base.near), -1.0)
    return fma(poly(f, _SHORT), f, whole)
