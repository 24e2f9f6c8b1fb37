"""Instructions that work on whole registers, applied to vectors of any length and to scalars.

AVX-512 looks lanes up in tables of one or two registers, and splits numbers into exponent and
significand. There are no such ops in MLIR, so these are calls of LLVM's intrinsics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.expr import Num

_WIDE = 512
_NEAREST = 4  # the rounding mode as it is set
FROM_1, FROM_3_4 = 0, 3  # significands from 1 to 2, from 0.75 to 1.5
_NAN_BELOW_0 = 2 << 2  # what becomes of negative numbers' significands


def intrinsic(code: Code, symbol: str, args: Sequence[Val], kind: str = "") -> Val:
    """A call of LLVM's x86 intrinsic, with a result of type `kind` or that of the first operand."""
    operands, types = ", ".join(map(str, args)), ", ".join(arg.type for arg in args)
    kind = kind or args[0].type
    return code.op(
        f'llvm.call_intrinsic "llvm.x86.{symbol}"({operands}) : ({types}) -> {kind}', kind
    )


def per_register(
    code: Code, function: Callable[..., Val], widest: int, *args: Val, least: int = 128
) -> Val:
    """`function` of vectors of one register or several, or of scalars as lanes of such.

    Registers have `least` to `widest` bits; the result has elements as wide as the operands'.
    """
    like = args[0]
    bits = int(like.element[1:])
    if not like.lanes:
        value = function(*(code.splat(arg, least // bits) for arg in args))
        return code.op(
            f"vector.extract {value}[0] : {value.element} from {value.type}", value.element
        )
    if like.lanes * bits < least:
        order = [i % like.lanes for i in range(least // bits)]
        value = function(*(shuffled(code, arg, arg, order) for arg in args))
        return shuffled(code, value, value, range(like.lanes))
    if like.lanes * bits <= widest:
        return function(*args)
    half = like.lanes // 2
    parts = []
    for start in (0, half):
        some = [shuffled(code, v, v, range(start, start + half)) for v in args]
        parts.append(per_register(code, function, widest, *some, least=least))
    return shuffled(code, parts[0], parts[1], range(like.lanes))


def shuffled(code: Code, a: Val, b: Val, order: Sequence[int]) -> Val:
    """The lanes of `a` and `b` that `order` names, one after another."""
    text = f"vector.shuffle {a}, {b} {list(order)} : {a.type}, {b.type}"
    return code.op(text, vector(a.element, len(order)))


def _wide(function: Callable[..., Val], *args: Num) -> Num:
    code = args[0].scope.code
    value = per_register(code, function, _WIDE, *(arg.val for arg in args), least=_WIDE)
    return Num(args[0].scope, value)


def exponent(x: Num) -> Num:
    """floor(log2 |x|) as a float; -inf for 0, inf and NaN for themselves. AVX-512."""
    code = x.scope.code

    def get(x: Val) -> Val:
        rest = [x, code.const(-1, f"i{x.lanes}"), code.const(_NEAREST, "i32")]
        return intrinsic(code, f"avx512.mask.getexp.p{_letter(x)}.512", [x, *rest])

    return _wide(get, x)


def significand(x: Num, interval: int) -> Num:
    """m of |x| = 2^k m in the interval; 1 for 0 and infinity, NaN below 0. AVX-512."""
    code = x.scope.code

    def get(x: Val) -> Val:
        how = code.const(interval | _NAN_BELOW_0, "i32")
        rest = [how, x, code.const(-1, f"i{x.lanes}"), code.const(_NEAREST, "i32")]
        return intrinsic(code, f"avx512.mask.getmant.p{_letter(x)}.512", [x, *rest])

    return _wide(get, x)


def scaled(x: Num, k: Num) -> Num:
    """x 2^floor(k), rounded once. AVX-512."""
    code = x.scope.code

    def scale(x: Val, k: Val) -> Val:
        rest = [x, code.const(-1, f"i{x.lanes}"), code.const(_NEAREST, "i32")]
        return intrinsic(code, f"avx512.mask.scalef.p{_letter(x)}.512", [x, k, *rest])

    return _wide(scale, x, k)


def looked_up(place: Num, table: Sequence[float]) -> Num:
    """The floats of a table of one or two registers at the low bits of integers. AVX-512."""
    code, kind = place.scope.code, vector(f"f{place.bits}", _WIDE // place.bits)
    lanes = _WIDE // place.bits
    rows = [code.const_lanes(table[i : i + lanes], kind) for i in range(0, len(table), lanes)]
    letter = "s" if place.bits == 32 else "d"

    def look(place: Val) -> Val:
        if len(rows) == 1:
            symbol = f"avx512.permvar.{letter}f.512"
            return intrinsic(code, symbol, [rows[0], place], kind)
        symbol = f"avx512.vpermi2var.p{letter}.512"
        return intrinsic(code, symbol, [rows[0], place, rows[1]], kind)

    return _wide(look, place)


def _letter(x: Val) -> str:
    return "s" if x.element == "f32" else "d"
