"""Requantisation, `clip(round(x), low, high).astype(uint8)`: one conversion that rounds.

Rounding, the clipping and the cast's own saturation would each take their instructions, though one
converts to the nearest integer and whole limits may as well be kept before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphmill.codegen.cpu.convert import mangled
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.special import known
from graphmill.ir.dtypes import f32
from graphmill.ir.graph import Op, Value
from graphmill.records import record


@record
class Quantised:
    """A cast to an integer of 8 or 16 bits: what is rounded, and the whole limits of the result."""

    value: Value
    low: float
    high: float


def quantised(op: Op, bound: Callable[[Value], bool]) -> Quantised | None:
    """A cast of an f32 that was rounded and perhaps clipped, None for any other op; what is
    `bound` to something else than its op's result is taken as it is."""
    dst = op.result.tensor.dtype
    if op.name != "cast" or dst.kind not in "iu" or dst.bits > 16:
        return None
    value, rounded, limits = op.operands[0], False, []
    while value.op is not None and value.tensor.dtype is f32 and not bound(value):
        inner = value.op
        if inner.name == "round":
            rounded, value = True, inner.operands[0]
            continue
        if inner.name not in ("max", "min"):
            break
        numbers = [known(operand) for operand in inner.operands]
        at = next((i for i, n in enumerate(numbers) if n is not None and n == math.floor(n)), None)
        if at is None:
            break
        limits.append((inner.name, float(numbers[at] or 0)))
        value = inner.operands[1 - at]
    if not rounded or value.tensor.dtype is not f32:
        return None
    whole = np.iinfo(dst.numpy)
    low, high = -math.inf, math.inf
    for kind, number in (*reversed(limits), ("max", whole.min), ("min", whole.max)):
        choose = max if kind == "max" else min
        low, high = choose(low, float(number)), choose(high, float(number))
    return Quantised(value, low, high)


def converted(code: Code, value: Val, of: Quantised, bits: int) -> Val:
    """The nearest integers, ties to even, between the limits; NaN gives 0."""
    low, high = (code.const(limit, value.type) for limit in (of.low, of.high))
    inside = code.select(code.compare("arith.cmpf", "ogt", value, low), value, low)
    inside = code.select(code.compare("arith.cmpf", "olt", inside, high), inside, high)
    kind = vector("i32", value.lanes)
    name = f"llvm.lrint.{mangled(kind)}.{mangled(value.type)}"
    result = code.op(f'llvm.call_intrinsic "{name}"({inside}) : ({value.type}) -> {kind}', kind)
    nan = code.compare("arith.cmpf", "uno", value, value)
    result = code.select(nan, code.const(0, kind), result)
    return code.convert("arith.trunci", result, f"i{bits}")
