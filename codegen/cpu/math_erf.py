"""The error function and its complement, as inlined vector code."""

from __future__ import annotations

from graphmill.codegen.cpu import polynomials as fit
from graphmill.codegen.cpu.expr import Num, fma, poly, two_product, where
from graphmill.codegen.cpu.math_exp import exp_normal, exp_of_sum

# -log(1 - erf(x)) for x > 0.98. f32: N. Juffa's, as (…) x + x; f64: minimax, 2^-58
_LOG_ERFC = (
    (-1.28717512e-1, -6.34846687e-1, -1.06777877e-1, 2.42546219e-2, -3.88396438e-3,
     3.83197126e-4, -1.72853470e-5),
    (1.5291521300384182e-07, 1.1283775876527473, 0.6366273242944764, 0.10275050064684985,
     -0.019084437869994416, -0.00027154341603781803, 0.0017592832397104925,
     -0.000632938684896511, 3.930587049625919e-05, 7.331065596779934e-05,
     -4.629178309967557e-05, 1.6939666245720545e-05, -4.441274515680979e-06,
     8.74479273403143e-07, -1.2952066949518955e-07, 1.407497677103893e-08,
     -1.062200987234175e-09, 4.9798522948982575e-11, -1.0927105316832797e-12),
)  # fmt: skip
_BOUND = {32: (0.927734375, 4.0), 64: (1.0, 6.0)}


def _small(x: Num) -> Num:
    """erf(x) for |x| <= 1."""
    return fma(fit.fitted(fit.ERF, x * x), x, x)


def erf(x: Num) -> Num:
    """The error function within 2 ulp: a polynomial to 1, from there 1 - e^polynomial."""
    start, end = _BOUND[x.bits]
    size = x.const(end).min(x.abs())
    if x.bits == 32:
        exponent = fma(poly(size, _LOG_ERFC[0]), size, -size)
    else:
        exponent = -poly(size, _LOG_ERFC[1])
    return where(size > start, (1.0 - exp_normal(exponent)).copysign(x), _small(x))


def erfc(x: Num) -> Num:
    """1 - erf(x) within 4 ulp, far into the tail: e^(-x²) P((x-4)/(x+4)) / (1 + 2x)."""
    if x.bits == 32:
        return erfc(x.convert("arith.extf", "f64")).convert("arith.truncf", "f32")
    size = x.const(28.0).min(x.abs())
    high, low = two_product(size, size)
    shape = poly((size - 4.0) / (size + 4.0), fit.ERFCX) / (size + size + 1.0)
    far = shape * exp_of_sum(-high, -low)
    far = where(x < 0.0, 2.0 - far, far)
    return where(x.abs() < 0.75, 1.0 - _small(x), far)
