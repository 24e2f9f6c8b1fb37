"""Float operations that are exact or correctly rounded: signs, order, remainders, neighbours."""

from __future__ import annotations

from graphmill.codegen.cpu.calls import Call
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.expr import Num, fma, libm, where
from graphmill.codegen.cpu.half import narrow, widen


def sign(x: Num) -> Num:
    """-1, 0 or 1; NaN stays."""
    one = x.const(1.0).copysign(x)
    return where((x < 0.0) | (x > 0.0), one, x + 0.0)


def maximum(a: Num, b: Num) -> Num:
    """The greater; NaN when either is; of zeros of both signs either."""
    return _order("arith.maximumf", a, b)


def minimum(a: Num, b: Num) -> Num:
    """The smaller; NaN when either is; of zeros of both signs either."""
    return _order("arith.minimumf", a, b)


def _order(name: str, a: Num, b: Num) -> Num:
    """Without a promise on the sign of zero x86 takes one instruction and a blend for NaN."""
    text = f"{name} {a.val}, {b.val} fastmath<nsz> : {a.val.type}"
    return Num(a.scope, a.scope.code.op(text, a.val.type))


def clamp(x: Num, low: Num, high: Num) -> Num:
    """`minimum(maximum(x, low), high)`."""
    return minimum(maximum(x, low), high)


def is_nan(x: Num) -> Num:
    """Whether NaN."""
    return x.is_nan()


def is_inf(x: Num) -> Num:
    """Whether plus or minus infinity."""
    return x.abs().eq(float("inf"))


def is_finite(x: Num) -> Num:
    """Neither infinite nor NaN."""
    return x.abs() < float("inf")


def signbit(x: Num) -> Num:
    """Whether the sign bit is set, of zeros and NaN too."""
    return x.as_int() < 0


def logical_not(x: Num) -> Num:
    """Whether zero."""
    return x.eq(0.0)


def reciprocal(x: Num) -> Num:
    """`1 / x`."""
    return 1.0 / x


def square(x: Num) -> Num:
    """`x * x`."""
    return x * x


def rem(a: Num, b: Num) -> Num:
    """C's `fmod`, exact: has the sign of `a`.

    While |a / b| fits the significand, one rounded quotient is off by at most one and the
    remainder is exact in one fused multiply-add; the C library does the rest.
    """
    symbol = "fmod" if a.bits == 64 else "fmodf"
    if not a.scope.fused:
        return libm(symbol, [a, b], a.const(0.0).eq(0.0), a)
    x, y = a.abs(), b.abs()
    ratio = x / y
    quotient = ratio.unary("math.trunc")
    remainder = fma(-quotient, y, x)
    remainder = where(remainder < 0.0, remainder + y, remainder)
    remainder = where(y.eq(float("inf")) & (x < float("inf")), x, remainder)
    far = ~(ratio < 2.0 ** (52 if a.bits == 64 else 23)) & ~y.eq(float("inf"))
    return libm(symbol, [a, b], far, remainder.copysign(a))


def mod(a: Num, b: Num) -> Num:
    """Python's remainder, exact but for one rounding: has the sign of `b`."""
    return _divmod(a, b)[1]


def floordiv(a: Num, b: Num) -> Num:
    """Division rounded down, as NumPy computes it: consistent with `mod`."""
    return _divmod(a, b)[0]


def _divmod(a: Num, b: Num) -> tuple[Num, Num]:
    """NumPy's `npy_divmod`."""
    remainder, ratio = rem(a, b), a / b
    quotient = (a - remainder) / b
    adjust = remainder.ne(0.0) & ((remainder < 0.0) ^ (b < 0.0)) & ~remainder.is_nan()
    quotient = where(adjust, quotient - 1.0, quotient)
    down = quotient.unary("math.floor")
    down = where(quotient - down > 0.5, down + 1.0, down)
    down = where(quotient.eq(0.0), quotient.const(0.0).copysign(ratio), down)
    modulus = where(adjust, remainder + b, remainder)
    modulus = where(remainder.eq(0.0), modulus.const(0.0).copysign(b), modulus)
    return where(b.eq(0.0), ratio, down), where(b.eq(0.0), remainder, modulus)


def next_after(call: Call) -> Elem:
    """The float of the dtype after `a` towards `b`."""
    a, b = call.nums()
    code, dtype = call.scope.code, call.out
    if dtype.bits > 16:
        moved = _next_bits(a.as_int(), b.as_int(), a, b).as_float()
    else:
        low, high = (Num(call.scope, narrow(code, x.val, dtype)) for x in (a, b))
        moved = Num(call.scope, widen(code, _next_bits(low, high, a, b).val, dtype))
    return where(a.is_nan() | b.is_nan(), a + b, where(a.eq(b), b, moved)).val


def _next_bits(bits: Num, towards: Num, a: Num, b: Num) -> Num:
    """The bits of the neighbour of `a` (not NaN, not `b`); the least step away from zero."""
    away = (b > a) ^ (bits < 0)
    least = (towards & (1 << (bits.bits - 1))) | 1
    return where(a.eq(0.0), least, where(away, bits + 1, bits - 1))
