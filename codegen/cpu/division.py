"""Dividing many numbers by one: a reciprocal in two words, made once, and a multiply-add each.

x / d = x (high + low) with high + low = 1/d to twice the precision, after Brisebarre, Muller and
Raina (Accelerating correctly rounded floating-point division when the divisor is known in advance,
IEEE Transactions on Computers, 2004). Both words have the sign of d and `low` is not zero, so that
infinities and NaN come out as from a division.
"""

from __future__ import annotations

from graphmill.codegen.cpu.expr import Num, exact_fma, where
from graphmill.ir.graph import Value

# divisors beyond 2^±near are scaled by 2^∓by first, and so is what they divide
_NEAR = {32: 100, 64: 900}
_BY = {32: 64, 64: 512}
# of the first word: a second one that changes no result that is a normal number
_TINY = {32: 2.0**-26, 64: 2.0**-60}


def divided(x: Num, divisor: Num, moderate: bool = False) -> Num:
    """The lanes of `x` over the scalar `divisor`, on a target that fuses multiply-add.

    Correctly rounded but for quotients within 2^-20 ulp of the middle between two floats; within
    1 ulp where the quotient is close to the subnormal numbers. A `moderate` divisor has a
    magnitude that needs no scaling, or is 0, infinite or NaN.
    """
    scale, high, low = _reciprocal(divisor)
    if not moderate:
        x = x * _splat(scale, x)
    return exact_fma(x, _splat(high, x), x * _splat(low, x))


def _reciprocal(divisor: Num) -> tuple[Num, Num, Num]:
    """A power of two `scale`, and the reciprocal of `divisor * scale` in two words."""
    near, by = 2.0 ** _NEAR[divisor.bits], 2.0 ** _BY[divisor.bits]
    size = divisor.abs()
    scale = where(size > near, 1 / by, where(size < 1 / near, by, divisor.const(1.0)))
    d = divisor * scale
    nearest = 1.0 / d
    missing = exact_fma(-d, nearest, d.const(1.0))
    toward_zero = (nearest.as_int() - 1).as_float()
    high = where(missing < 0.0, toward_zero, nearest)
    low = exact_fma(-d, high, d.const(1.0)) * nearest
    # not a subnormal number, with which Intel's cores multiply a hundred times slower
    low = where(low.abs() > 0.0, low, high * _TINY[d.bits])
    return scale, high, where(size.eq(float("inf")), d.const(0.0).copysign(d), low)


def is_moderate(value: Value) -> bool:
    """Whether a divisor is surely 0, infinite, NaN or far from the ends of the floats' range: a
    square root, or a softmax's sum, of which one term is 1."""
    op = value.op
    while op is not None and op.name in ("broadcast", "reshape"):
        op = op.operands[0].op
    if op is None or op.name == "sqrt":
        return op is not None
    power = op.operands[0].op if op.name == "reduce" and op.attrs["monoid"] == "sum" else None
    gap = power.operands[0].op if power is not None and power.name == "exp" else None
    if gap is None or gap.name != "sub":
        return False
    x, largest = gap.operands[0], gap.operands[1].op
    while largest is not None and largest.name in ("broadcast", "reshape"):
        largest = largest.operands[0].op
    return (
        largest is not None and largest.name == "reduce" and largest.operands[0] is x
        and largest.attrs == {**largest.attrs, "monoid": "max", "axes": op.attrs["axes"]}
    )  # fmt: skip


def _splat(value: Num, like: Num) -> Num:
    return Num(value.scope, value.scope.code.splat(value.val, like.lanes))
