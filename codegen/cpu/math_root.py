"""Powers that square roots make.

x^-½ and x^-1.5 start from the instruction that estimates 1/sqrt(x), where there is one: with r the
estimate and e = 1 - x r², x^-½ is r (1-e)^-½ and x^-1.5 is r³ (1-e)^-1.5, of which three terms are
enough. What that gives for zeros, infinities, NaN and negative numbers is set right by one more
instruction, or, where there is none, computed by a root and a division.
"""

from __future__ import annotations

from collections.abc import Callable

from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.expr import Num, fma, where
from graphmill.codegen.cpu.registers import intrinsic, per_register

INF = float("inf")
# where the widest register has so many bits: the instruction by element width
_ESTIMATES = {512: {32: "avx512.rsqrt14.ps", 64: "avx512.rsqrt14.pd"}, 256: {32: ""}}
_CUT = {32: 12, 64: 27}  # low bits that an estimate loses, for its square to be exact

# what becomes of a result, for each class of x: kept, x as a quiet NaN, NaN, ∞, ∞ signed as x, 0
_KEPT, _QUIET, _NAN, _INF, _SIGNED, _ZERO = 0, 2, 3, 5, 6, 8
_Classes = tuple[int, ...]  # of NaN, signalling NaN, ±0, 1, -∞, ∞, negative x, positive x
_ROOT: _Classes = (_QUIET, _QUIET, _SIGNED, _KEPT, _NAN, _ZERO, _NAN, _KEPT)
_POWER: _Classes = (_QUIET, _QUIET, _INF, _KEPT, _ZERO, _ZERO, _NAN, _KEPT)


def rsqrt(x: Num) -> Num:
    """`1 / sqrt(x)` within 1.5 ulp."""
    return _estimated(x, _inverse_root, _ROOT, lambda x: 1.0 / x.sqrt())


def half_power(x: Num, exponent: float) -> Num:
    """x^exponent within 1.6 ulp for exponents of ±0.5 and ±1.5, whose NumPy meaning it has."""
    if exponent > 0:
        x = _plain(x)
        return x.sqrt() if exponent == 0.5 else x.sqrt() * x
    if exponent == -0.5:
        return _estimated(x, _inverse_root, _POWER, lambda x: 1.0 / _plain(x).sqrt())
    return _estimated(x, _inverse_cube, _POWER, lambda x: 1.0 / _plain(x).sqrt() / _plain(x))


def _plain(x: Num) -> Num:
    return where(x.eq(-INF), INF, x + 0.0)  # -inf^p is inf^p, and -0^p is 0^p


def _inverse_root(x: Num, r: Num) -> Num:
    e = fma(-(x * r), r, 1.0)  # x r² might overflow
    return fma(r * e, fma(e, 0.375, 0.5), r)


def _inverse_cube(x: Num, r: Num) -> Num:
    square = r * r
    e = fma(-x, square, 1.0)
    return square * r * fma(e, fma(e, 1.875, 1.5), 1.0)  # infinite where r³ is


def _estimated(
    x: Num, by: Callable[[Num, Num], Num], classes: _Classes, slow: Callable[[Num], Num]
) -> Num:
    """`by(x, estimate of 1/sqrt(x))` where that is meant, else `slow(x)`."""
    r = _estimate(x)
    if r is None:
        return slow(x)
    result, code = by(x, r), x.scope.code
    if x.scope.estimates == 512:
        return Num(x.scope, per_register(code, _fixed(code, classes), 512, result.val, x.val))
    finite = result < INF
    with code.choose((~finite).any().val, [result.val]) as this:
        this.next = [where(finite, result, slow(x)).val]
    return Num(x.scope, this.results[0])


def reciprocal(x: Num) -> Num:
    """1 / x within 0.6 ulp where both are normal numbers and x is not near the largest."""
    if not x.scope.looks_up:
        return 1.0 / x
    code = x.scope.code

    def estimate(x: Val) -> Val:
        symbol = f"avx512.rcp14.p{'s' if x.element == 'f32' else 'd'}.512"
        return intrinsic(code, symbol, [x, x, _all(code, x)])

    r = Num(x.scope, per_register(code, estimate, 512, x.val, least=512))
    for _ in range(x.bits // 32):
        r = fma(fma(-x, r, 1.0), r, r)
    return r


def root_for_half(x: Num) -> Num:
    """sqrt(x) of f64, not negative nor infinite, to 2^-38: for what is then rounded to f32."""
    r = inverse_root_estimate(x)
    if r is None:
        return x.sqrt()
    near = x * r
    e = fma(-near, r, 1.0)
    return where(x > 0.0, fma(near * e, fma(e, 0.375, 0.5), near), x)


def root_of_sum(x: Num, low: Num) -> Num | None:
    """sqrt(x + low) of f32 within 0.51 ulp, for normal x and a correction `low` below an ulp of it.

    None where no instruction estimates 1/sqrt.
    """
    r = inverse_root_estimate(x)
    if r is None:
        return None
    r = fma(r * 0.5, fma(-(x * r), r, 1.0), r)
    root = x * r
    return fma(fma(-root, root, x) + low, r * 0.5, root)


def _estimate(x: Num) -> Num | None:
    """1 / sqrt(x) to 10 bits of f32 or 24 of f64, cut; None where no instruction estimates it."""
    r = inverse_root_estimate(x)
    if r is None:
        return None
    if x.bits == 64:
        r = _inverse_root(x, r)
    return (r.as_int() & (-1 << _CUT[x.bits])).as_float()


def inverse_root_estimate(x: Num) -> Num | None:
    """1 / sqrt(x) to 11 bits or more; None where no instruction estimates it."""
    scope = x.scope
    names = _ESTIMATES.get(scope.estimates, {})
    if x.bits not in names or not scope.fused:
        return None
    estimate = _estimator(scope.code, names[x.bits])
    return Num(scope, per_register(scope.code, estimate, scope.estimates, x.val))


def _estimator(code: Code, name: str) -> Callable[[Val], Val]:
    def estimate(x: Val) -> Val:
        bits = x.lanes * int(x.element[1:])
        if name:
            return intrinsic(code, f"{name}.{bits}", [x, x, _all(code, x)])
        return intrinsic(code, "avx.rsqrt.ps.256" if bits == 256 else "sse.rsqrt.ps", [x])

    return estimate


def _fixed(code: Code, classes: _Classes) -> Callable[[Val, Val], Val]:
    """What is left of a result for x by the class of x."""
    word = sum(response << (4 * n) for n, response in enumerate(classes))

    def fix(result: Val, x: Val) -> Val:
        bits = int(x.element[1:])
        size, letter = x.lanes * bits, "s" if bits == 32 else "d"
        table = code.const(word, vector(f"i{bits}", x.lanes))
        args = [result, x, table, code.const(0, "i32"), _all(code, x)]
        args += [code.const(4, "i32")] if size == 512 else []  # round as usual
        return intrinsic(code, f"avx512.mask.fixupimm.p{letter}.{size}", args)

    return fix


def _all(code: Code, x: Val) -> Val:
    return code.const(-1, f"i{max(x.lanes, 8)}")
