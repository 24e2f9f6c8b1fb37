"""Integer arithmetic with NumPy's meaning: wraps, and never traps on any lane.

Division by zero gives 0, the most negative number divided by -1 wraps, and shifts by the width
or more give 0 (or the sign). Vectors of up to 32 bits divide in floating point, which is exact
for them and which machines, unlike integer division, do on vectors.
"""

from __future__ import annotations

from graphmill.codegen.cpu.expr import Num, where


def _quotient(a: Num, b: Num, signed: bool) -> Num:
    """`a / b` towards zero for `b` that is neither 0 nor, with the least `a`, -1."""
    letter = "s" if signed else "u"
    if a.lanes and a.bits <= 32:
        wide = "f64" if a.bits == 32 else "f32"
        up, down = f"arith.{letter}itofp", f"arith.fpto{letter}i"
        return (a.convert(up, wide) / b.convert(up, wide)).convert(down, f"i{a.bits}")
    return a.binary(f"arith.div{letter}i", b)


def _least(a: Num) -> Num:
    return a.const(1 << (a.bits - 1))


def _divide(a: Num, b: Num, signed: bool) -> tuple[Num, Num, Num]:
    """Quotient and remainder towards zero, and where `b` is zero (both are then of `a / 1`)."""
    zero = b.eq(0)
    unsafe = zero | (b.eq(-1) & a.eq(_least(a))) if signed else zero
    safe = where(unsafe, 1, b)
    quotient = _quotient(a, safe, signed)
    return quotient, a - quotient * safe, zero


def floordiv(a: Num, b: Num) -> Num:
    """Signed division rounded down."""
    quotient, remainder, zero = _divide(a, b, True)
    down = remainder.ne(0) & ((remainder ^ b) < 0)
    return where(zero, 0, where(down, quotient - 1, quotient))


def mod(a: Num, b: Num) -> Num:
    """The remainder of `floordiv`: has the sign of `b`."""
    _, remainder, zero = _divide(a, b, True)
    adjusted = where(remainder.ne(0) & ((remainder ^ b) < 0), remainder + b, remainder)
    return where(zero, 0, adjusted)


def floordiv_by(a: Num, divisor: int, signed: bool) -> Num:
    """`a` divided by a constant that is not 0, rounded down: by a multiplication.

    Of a quotient below 0 the bits of -1 - it are computed, so that nothing has to be set right
    afterwards.
    """
    if not signed:
        return _unsigned_by(a, divisor, a.bits)
    if divisor > 0:
        sign = a >> (a.bits - 1)
        return _unsigned_by(a ^ sign, divisor, a.bits - 1) ^ sign
    below = a > 0
    size = where(below, a - 1, -a)
    return _unsigned_by(size, -divisor, a.bits) ^ where(below, size.const(-1), 0)


def _unsigned_by(a: Num, divisor: int, width: int) -> Num:
    """An unsigned number of `width` bits divided by a positive constant.

    LLVM makes the multiplication, but for vectors of 64 bits does it lane by lane. T. Granlund and
    P. L. Montgomery, Division by invariant integers using multiplication, PLDI 1994.
    """
    if a.bits < 64 or not a.lanes or divisor & (divisor - 1) == 0:
        return a.binary("arith.divui", divisor)
    places = (divisor - 1).bit_length()
    if width < 64:
        return _high_product(a, -(-(1 << (63 + places)) // divisor)).shr(places - 1)
    part = _high_product(a, -(-(1 << (64 + places)) // divisor) - (1 << 64))
    return ((a - part).shr(1) + part).shr(places - 1)


def _high_product(a: Num, factor: int) -> Num:
    """The upper 64 bits of an unsigned product, from products of 32 bits."""
    word = (1 << 32) - 1
    low, high = a & word, a.shr(32)
    factor_low, factor_high = factor & word, factor >> 32
    middle = high * factor_low + (low * factor_low).shr(32)
    other = low * factor_high + (middle & word)
    return high * factor_high + middle.shr(32) + other.shr(32)


def mod_by(a: Num, divisor: int, signed: bool) -> Num:
    """The remainder of `floordiv_by`."""
    return a - floordiv_by(a, divisor, signed) * divisor


def rem(a: Num, b: Num) -> Num:
    """The remainder of division towards zero: has the sign of `a`."""
    _, remainder, zero = _divide(a, b, True)
    return where(zero, 0, remainder)


def truncdiv(a: Num, b: Num) -> Num:
    """Signed division towards zero."""
    quotient, _, zero = _divide(a, b, True)
    return where(zero, 0, quotient)


def unsigned_div(a: Num, b: Num) -> Num:
    """Unsigned division."""
    quotient, _, zero = _divide(a, b, False)
    return where(zero, 0, quotient)


def unsigned_rem(a: Num, b: Num) -> Num:
    """The remainder of unsigned division."""
    _, remainder, zero = _divide(a, b, False)
    return where(zero, 0, remainder)


def shl(a: Num, count: Num) -> Num:
    """Shift left; 0 when `count` is negative or at least the width."""
    inside = count.ult(a.bits)
    return where(inside, a << where(inside, count, 0), 0)


def shr(a: Num, count: Num) -> Num:
    """Arithmetic shift right; all sign when `count` is negative or at least the width."""
    return a >> where(count.ult(a.bits), count, a.bits - 1)


def unsigned_shr(a: Num, count: Num) -> Num:
    """Logical shift right; 0 when `count` is at least the width."""
    inside = count.ult(a.bits)
    return where(inside, a.shr(where(inside, count, 0)), 0)


def sign(a: Num) -> Num:
    """-1, 0 or 1."""
    return where(a > 0, a.const(1), where(a < 0, a.const(-1), a.const(0)))


def unsigned_sign(a: Num) -> Num:
    """0 or 1."""
    return where(a.eq(0), a.const(0), a.const(1))


def absolute(a: Num) -> Num:
    """The magnitude; the least number stays."""
    return where(a < 0, -a, a)


def popcount(a: Num) -> Num:
    """The bits set in the magnitude, as NumPy counts."""
    return absolute(a).unary("math.ctpop")


def reciprocal(a: Num) -> Num:
    """`1 / a` towards zero, as NumPy has it for integers; 0 for 0."""
    return where(a.eq(1) | a.eq(-1), a, 0)


def unsigned_reciprocal(a: Num) -> Num:
    """1 for 1, else 0."""
    return where(a.eq(1), a, 0)


def power(base: Num, exponent: Num) -> Num:
    """`base ** exponent` by squaring, wrapping; a negative exponent gives `1 // base ** -e`.

    (NumPy raises for negative exponents, which a kernel cannot.)
    """
    result = unsigned_power(base, absolute(exponent))
    return where(exponent < 0, reciprocal(result), result)


def unsigned_power(base: Num, exponent: Num) -> Num:
    """`base ** exponent` by squaring, wrapping."""
    scope, code = base.scope, base.scope.code
    with code.repeat([base.const(1).val, base.val, exponent.val]) as loop:
        result, square, left = (Num(scope, value) for value in loop.carried)
        odd = (left & 1).ne(0)
        rest = left.shr(1)
        loop.next = [where(odd, result * square, result).val, (square * square).val, rest.val]
        code.again(loop, rest.ne(0).any().val)
    return Num(scope, loop.results[0])
