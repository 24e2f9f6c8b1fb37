"""Exponentials and what is made of them, as inlined vector code.

x = k ln2 + r, |r| <= ln(2)/2 (Cody and Waite), exp(x) = 2^k (1 + r + r² P(r)). The rounding to k
is the addition of a magic number whose low bits then hold k: no conversion to integer, which
vectors of 64 bits do not have.
"""

from __future__ import annotations

from graphmill.codegen.cpu import polynomials as fit
from graphmill.codegen.cpu.expr import Num, fast_two_sum, fma, where
from graphmill.codegen.cpu.piecewise import TANH, piecewise
from graphmill.codegen.cpu.registers import scaled
from graphmill.records import record

LOG2E = 1.4426950408889634
_LN2 = {  # high part with trailing zeros, so that k times it is exact; FDLIBM
    32: (0.693359375, -2.12194440e-4),
    64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
_MAGIC = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
SIGNIFICAND = {32: 23, 64: 52}
BIAS = {32: 127, 64: 1023}
_LARGE = 2.0**1000
_RANGE = {32: (-104.0, 89.0), 64: (-746.0, 710.0)}  # below it is 0, above it is infinite


@record
class _Reduced:
    """x = k ln2 + r, `tail` = exp(r) - 1; the low bits of `bits` are those of k."""

    tail: Num
    bits: Num
    k: Num

    def power(self, shift: int = 0) -> Num:
        """2^(k+shift), which must be a normal number."""
        return _power(self.bits + shift if shift else self.bits)

    def scaled(self, shift: int = 0, gone: Num | None = None) -> Num:
        """exp(x) 2^shift, rounded once more where it is subnormal; any k of the range.

        0 where it is `gone`: without that, Intel's cores take a hundred cycles to underflow.
        """
        value = self.tail + 1.0
        if gone is not None:
            value = where(gone, 0.0, value)
        if value.scope.looks_up:
            return scaled(value, self.k + float(shift) if shift else self.k)
        bits = self.bits + shift if shift else self.bits
        half = bits.shr(1)
        return value * _power(half) * _power(bits - half)

    def normal(self) -> Num:
        """exp(x) where that is a normal number: k is added to the exponent. NaN gives garbage."""
        width = self.tail.bits
        return ((self.tail + 1.0).as_int() + (self.bits << SIGNIFICAND[width])).as_float()


def _power(bits: Num) -> Num:
    """2^k from an integer whose low bits are those of k."""
    return ((bits + BIAS[bits.bits]) << SIGNIFICAND[bits.bits]).as_float()


def _reduce(x: Num, low: Num | None = None, offset: int = 0) -> _Reduced:
    """Reduce `x` (or `x + low`), which must be in or near the range; bits hold k + offset."""
    k, r, bits = _split(x, offset)
    if low is not None:
        r = r + low
    return _Reduced(fma(fit.fitted(fit.EXP, r), r * r, r), bits, k)


def _split(x: Num, offset: int) -> tuple[Num, Num, Num]:
    """k and r of x = k ln2 + r, and an integer whose low bits are those of k + offset."""
    high_ln2, low_ln2 = _LN2[x.bits]
    magic = _MAGIC[x.bits] + offset
    shifted = fma(x, LOG2E, magic)
    k = shifted - magic
    return k, fma(k, -low_ln2, fma(k, -high_ln2, x)), shifted.as_int()


def exp(x: Num) -> Num:
    """e^x within 1 ulp; the halves of k come with the exponent's bias in them."""
    low, high = _RANGE[x.bits]
    k, r, bits = _split(_limited(x, low, high), 2 * BIAS[x.bits])
    power = where(x < low, 0.0, fma(fma(fit.fitted(fit.EXP, r), r, 1.0), r, 1.0))
    if x.scope.looks_up:
        return scaled(power, k)
    half = bits.shr(1)
    first = (half << SIGNIFICAND[x.bits]).as_float()
    return power * first * ((bits - half) << SIGNIFICAND[x.bits]).as_float()


def _limited(x: Num, low: float, high: float) -> Num:
    """`x` not above `high`, nor below `low` unless nothing comes of that; NaN stays NaN."""
    return x.const(high).min(x) if x.scope.looks_up else x.clamp(low, high)


def exp_of_sum(x: Num, low: Num) -> Num:
    """e^(x + low) for a correction `low` below one ulp of `x`."""
    least, most = _RANGE[x.bits]
    return _reduce(x.clamp(least, most), low).scaled(gone=x < least)


def exp_normal(x: Num) -> Num:
    """e^x where the caller knows that the result is a normal number; garbage for NaN."""
    return _reduce(x).normal()


def exp_falling(x: Num) -> Num:
    """e^x within 1 ulp for x <= 0; 0 where it is no normal number; NaN stays NaN."""
    lowest = {32: -88.0, 64: -709.0}[x.bits]  # its k is -BIAS, whose power of two comes out as 0
    return _biased(_reduce(x.const(lowest).max(x), offset=BIAS[x.bits]))


def exp2_falling(x: Num) -> Num:
    """2^x within 1.5 ulp for x <= 0; 0 where it is no normal number; NaN stays NaN."""
    x, magic = x.const(-BIAS[x.bits]).max(x), _MAGIC[x.bits] + BIAS[x.bits]
    shifted = x + magic
    r = (x - (shifted - magic)) * 0.6931471805599453
    return _biased(_Reduced(fma(fit.fitted(fit.EXP, r), r * r, r), shifted.as_int(), shifted))


def _biased(reduced: _Reduced) -> Num:
    """exp(x) from bits that hold k + BIAS."""
    power = (reduced.bits << SIGNIFICAND[reduced.bits.bits]).as_float()
    return fma(reduced.tail, power, power)


def exp2(x: Num) -> Num:
    """2^x within 1.5 ulp: the fraction is exact, then e^(fraction ln2)."""
    low, high = {32: (-151.0, 129.0), 64: (-1076.0, 1025.0)}[x.bits]
    gone, x = x < low, _limited(x, low, high)
    shifted = x + _MAGIC[x.bits]
    k = shifted - _MAGIC[x.bits]
    r = (x - k) * 0.6931471805599453
    return _Reduced(fma(fit.fitted(fit.EXP, r), r * r, r), shifted.as_int(), k).scaled(gone=gone)


def expm1(x: Num) -> Num:
    """e^x - 1 within 1.5 ulp: 2 (2^(k-1) tail + (2^(k-1) - 1/2))."""
    low = -20.0 if x.bits == 32 else -40.0
    reduced = _reduce(x.clamp(low, _RANGE[x.bits][1]))
    half = reduced.power(-1)
    return (fma(half, reduced.tail, half - 0.5) * 2.0).copysign(x)


def logistic(x: Num) -> Num:
    """1 / (1 + e^-x) within 2 ulp, subnormal results included; the sum's rounding is put back."""
    size = x.const(-_RANGE[x.bits][0]).min(x.abs())
    e = _reduce(-size).scaled(gone=size >= -_RANGE[x.bits][0])
    negative = x < 0.0
    total, error = fast_two_sum(e.const(1.0), e)
    ratio = where(negative, e, 1.0) / total
    inverse = where(negative, 1.0 - ratio, ratio)
    return fma(ratio * error, -inverse, ratio)


def _half_exp(x: Num) -> Num:
    """e^|x| / 2, which overflows later than e^|x|."""
    return _reduce(x.abs().clamp(0.0, _RANGE[x.bits][1] + 1.0)).scaled(-1)


def sinh(x: Num) -> Num:
    """Hyperbolic sine within 2 ulp."""
    e = _half_exp(x)
    square = x * x
    small = fma(fit.fitted(fit.SINH, square), square * x, x)
    return where(x.abs() < 1.0, small, (e - 0.25 * _inverse(e)).copysign(x))


def cosh(x: Num) -> Num:
    """Hyperbolic cosine within 2 ulp."""
    e = _half_exp(x)
    return e + 0.25 * _inverse(e)


def tanh(x: Num) -> Num:
    """Hyperbolic tangent within 1.4 ulp: a polynomial to 0.625, from there 1 - 2 / (e^2x + 1)."""
    if x.scope.looks_up and x.bits == 32:
        return piecewise(x.const(9.02).min(x.abs()), TANH).copysign(x)
    bound = 10.0 if x.bits == 32 else 22.0
    size = x.const(bound).min(x.abs())
    square = x * x
    small = fma(fit.fitted(fit.TANH, square), square * x, x)
    large = fma(_inverse(exp_normal(size + size) + 1.0), -2.0, 1.0)
    return where(size >= 0.625, large, small).copysign(x)


def _inverse(x: Num) -> Num:
    """1 / x of a normal number: f32 divides sixteen in half the time that eight f64 take."""
    if x.bits == 32:
        return 1.0 / x
    from graphmill.codegen.cpu.math_root import reciprocal

    return reciprocal(x.const(_LARGE).min(x))
