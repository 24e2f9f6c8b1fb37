"""Random bits inside kernels: Philox4x32-10 on vectors, one counter block per lane."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.emit import Code, Val
from graphmill.ir.ops.random import MULTIPLIERS, ROUNDS, WEYL

MASK = 0xFFFFFFFF


def random_bits(code: Code, key: Val, base: Val, element: Val, bits: int) -> Val:
    """Random bits for element numbers `element` (i64 lanes) as i64 lanes.

    `key` and `base` (the counter's high half) are scalars; `bits` is 32 or 64.
    """
    kind = element.type
    per_block = 4 if bits == 32 else 2

    def wide(value: Val) -> Val:
        return code.splat(value, element.lanes)

    shift, mask = code.const(32, kind), code.const(MASK, kind)
    block = code.binary("arith.divui", element, code.const(per_block, kind))
    word = code.binary("arith.remui", element, code.const(per_block, kind))
    counter = [*_halves(code, block, shift, mask), *_halves(code, wide(base), shift, mask)]
    words = _rounds(code, counter, _halves(code, wide(key), shift, mask))
    if bits == 64:
        words = [
            code.binary("arith.ori", low, code.binary("arith.shli", high, shift))
            for low, high in (words[:2], words[2:])
        ]
    result = words[0]
    for number, value in enumerate(words[1:], 1):
        chosen = code.compare("arith.cmpi", "eq", word, code.const(number, kind))
        result = code.select(chosen, value, result)
    return result


def _halves(code: Code, value: Val, shift: Val, mask: Val) -> list[Val]:
    return [code.binary("arith.andi", value, mask), code.binary("arith.shrui", value, shift)]


def _rounds(code: Code, x: Sequence[Val], k: Sequence[Val]) -> list[Val]:
    kind = x[0].type
    mask, shift = code.const(MASK, kind), code.const(32, kind)
    x, k = list(x), list(k)
    for _ in range(ROUNDS):
        a = code.binary("arith.muli", x[0], code.const(MULTIPLIERS[0], kind))
        b = code.binary("arith.muli", x[2], code.const(MULTIPLIERS[1], kind))
        low_a, high_a = _halves(code, a, shift, mask)
        low_b, high_b = _halves(code, b, shift, mask)
        first = code.binary("arith.xori", code.binary("arith.xori", high_b, x[1]), k[0])
        third = code.binary("arith.xori", code.binary("arith.xori", high_a, x[3]), k[1])
        x = [first, low_b, third, low_a]
        k = [
            code.binary("arith.andi", code.add(v, code.const(w, kind)), mask)
            for v, w in zip(k, WEYL, strict=True)
        ]
    return x
