"""Trigonometric functions and their inverses, as inlined vector code.

Arguments are reduced by Cody and Waite: x - n pi in parts of pi, the first step exact. Beyond
`_MODERATE` (rare in practice) the C library is called lane by lane, behind one branch.
"""

from __future__ import annotations

import functools
from math import ldexp

from graphmill.codegen.cpu import polynomials as fit
from graphmill.codegen.cpu.expr import Num, fast_two_sum, fma, libm, two_product, where

_PI = 0x3243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89452821E638D0
_BITS = 304  # of it that are behind the point
_MAGIC = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
_MODERATE = {(32, True): 3e4, (32, False): 8e3, (64, True): 2.0**29, (64, False): 1e6}


@functools.cache
def pi_parts(bits: int, fused: bool, halvings: int = 0) -> tuple[float, ...]:
    """pi / 2^halvings as a sum of floats of `bits`.

    Whole significands where multiplication and addition fuse; else short ones, whose products
    with the moderate integers are exact.
    """
    width = {(32, True): 24, (64, True): 53, (32, False): 11, (64, False): 33}[bits, fused]
    parts: list[float] = []
    rest = _PI
    for left in range(2 if fused else 3, -1, -1):
        part = _rounded(rest, width if left or fused else (53 if bits == 64 else 24))
        parts.append(ldexp(part, -_BITS - halvings))
        rest -= part
    return tuple(parts)


def _rounded(value: int, bits: int) -> int:
    """`value` rounded to a significand of `bits`."""
    unit = 1 << max(abs(value).bit_length() - bits, 0)
    return (value + unit // 2) // unit * unit


def _subtract(x: Num, n: Num, parts: tuple[float, ...]) -> Num:
    for part in parts:
        x = fma(n, -part, x)
    return x


def _subtract_exactly(x: Num, n: Num, parts: tuple[float, ...]) -> tuple[Num, Num]:
    """`_subtract` as a float and what its rounding left out."""
    x, low = fma(n, -parts[0], x), n * -parts[-1]
    for part in parts[1:-1]:
        product, error = two_product(n, n.const(part))
        x, rest = fast_two_sum(x, -product)
        low = low + (rest - error)
    return x, low


def _is_huge(x: Num) -> Num:
    return ~(x.abs() < _MODERATE[x.bits, x.scope.fused])


def _symbol(name: str, x: Num) -> str:
    return name if x.bits == 64 else name + "f"


def _sine(r: Num, turn: Num) -> Num:
    """sin(r) for |r| <= pi/2, negated where the low bit of the integer `turn` is set."""
    square = r * r
    value = fma(fit.fitted(fit.SIN, square), square * r, r)
    return (value.as_int() ^ (turn << (r.bits - 1))).as_float()


def sin(x: Num) -> Num:
    """Sine of radians within 2 ulp."""
    shifted = fma(x, 0.3183098861837907, _MAGIC[x.bits])
    r = _subtract(x, shifted - _MAGIC[x.bits], pi_parts(x.bits, x.scope.fused))
    value = where(x.eq(0.0), x, _sine(r, shifted.as_int()))
    return libm(_symbol("sin", x), [x], _is_huge(x), value)


def cos(x: Num) -> Num:
    """Cosine of radians within 2 ulp: the sine of the distance to the nearest odd half turn."""
    shifted = fma(x, 0.3183098861837907, -0.5) + _MAGIC[x.bits]
    n = (shifted - _MAGIC[x.bits]) + 0.5
    r = _subtract(x, n, pi_parts(x.bits, x.scope.fused))
    return libm(_symbol("cos", x), [x], _is_huge(x), _sine(r, shifted.as_int() + 1))


def tan(x: Num) -> Num:
    """Tangent of radians within 1.6 ulp: of the reduced argument, inverted at odd quarter turns."""
    from graphmill.codegen.cpu.math_root import reciprocal

    shifted = fma(x, 0.6366197723675814, _MAGIC[x.bits])
    n = shifted - _MAGIC[x.bits]
    r, r_low = _subtract_exactly(x, n, pi_parts(x.bits, x.scope.fused, 1))
    square = r * r
    cubic, curve = square * r, fit.fitted(fit.TAN, square)
    near = fma(cubic, curve, r)
    tangent, low = fast_two_sum(r, fma(cubic, curve, fma(near * near, r_low, r_low)))
    inverse = reciprocal(tangent)
    inverse = fma(inverse, fma(-inverse, low, fma(-inverse, tangent, 1.0)), inverse)
    odd = (shifted.as_int() & 1).ne(0)
    value = where(x.eq(0.0), x, where(odd, -inverse, tangent))
    return libm(_symbol("tan", x), [x], _is_huge(x), value)


def _halves(x: Num, halvings: int) -> tuple[float, float]:
    high, low, *_ = pi_parts(x.bits, True, halvings)
    return high, low


def _arc_tangent(t: Num, steep: Num) -> Num:
    """atan(t) for 0 <= t <= 1, or pi/2 - atan(t) where `steep`; the tail is added last."""
    high, low = _halves(t, 1)
    square = t * t
    tail = fit.fitted(fit.ATAN, square) * (square * t)
    return where(steep, (high - t) - (tail - low), t + tail)


def atan(x: Num) -> Num:
    """Arc tangent within 2 ulp."""
    size = x.abs()
    steep = size > 1.0
    ratio = where(steep, 1.0, size) / where(steep, size, 1.0)
    return _arc_tangent(ratio, steep).copysign(x)


def atan2(y: Num, x: Num) -> Num:
    """The angle of the point (x, y) within 2 ulp, with C99's special cases."""
    ax, ay = x.abs(), y.abs()
    steep = ay > ax
    top, bottom = where(steep, ax, ay), where(steep, ay, ax)
    ratio = where(bottom.eq(0.0), 0.0, where(top.eq(bottom), 1.0, top / bottom))
    angle = _arc_tangent(ratio, steep)
    high, low = _halves(x, 0)
    angle = where(x.as_int() < 0, (high - angle) + low, angle)
    return where(x.is_nan() | y.is_nan(), x + y, angle).copysign(y)


def asin(x: Num) -> Num:
    """Arc sine within 2 ulp; from 1/2 by pi/2 - 2 asin(sqrt((1-x)/2))."""
    high, low = _halves(x, 1)
    size = x.abs()
    outer = size >= 0.5
    square = where(outer, (1.0 - size) * 0.5, x * x)
    root = where(outer, square.sqrt(), size)
    tail = fit.fitted(fit.ASIN, square) * (square * root)
    far, error = fast_two_sum(root.const(high), root * -2.0)
    far = far + ((error + low) - (tail + tail))
    return where(outer, far, root + tail).copysign(x)


def acos(x: Num) -> Num:
    """Arc cosine within 2 ulp."""
    high, low = _halves(x, 1)
    size = x.abs()
    outer = size >= 0.5
    square = where(outer, (1.0 - size) * 0.5, x * x)
    root = where(outer, square.sqrt(), x)
    tail = fit.fitted(fit.ASIN, square) * (square * root)
    double = (root + tail) * 2.0
    high_pi, low_pi = _halves(x, 0)
    far = where(x < 0.0, (high_pi - double) + low_pi, double)
    return where(outer, far, (high - root) + (low - tail))
