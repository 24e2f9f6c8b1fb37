"""Elements between memory and registers: widening loads and narrowing of finished sums."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.ir.dtypes import DType


def memory_element(dtype: DType) -> str:
    """The MLIR type of one element in memory (a bool is a byte)."""
    return dtype.name if dtype.is_float else f"i{dtype.bits}"


def widen(code: Code, value: Val, dtype: DType, element: str) -> Val:
    """`value`, loaded as `dtype`, as `element`; integers may also narrow, which wraps."""
    have = value.element
    if have == element:
        return value
    if dtype.is_float:
        return code.convert("arith.extf", value, element)
    if int(have[1:]) > int(element[1:]):
        return code.convert("arith.trunci", value, element)
    return code.convert("arith.extsi" if dtype.kind == "i" else "arith.extui", value, element)


def narrow(code: Code, value: Val, dtype: DType) -> Val:
    """A finished sum as stored in memory; a value of that type already passes unchanged."""
    element = memory_element(dtype)
    if value.element == element:
        return value
    if element == "bf16":
        return _round_bf16(code, value)
    if dtype.is_float:
        wider = dtype.bits > int(value.element[1:])
        return code.convert("arith.extf" if wider else "arith.truncf", value, element)
    wider = dtype.bits > int(value.element[1:])
    return code.convert("arith.extsi" if wider else "arith.trunci", value, element)


def _round_bf16(code: Code, value: Val) -> Val:
    """f32 to bf16, to nearest even, in integers: few CPUs convert by themselves."""
    lanes = value.lanes
    kind = vector("i32", lanes)
    bits = code.op(f"arith.bitcast {value} : {value.type} to {kind}", kind)
    high = code.binary("arith.shrui", bits, code.const(16, kind))
    odd = code.binary("arith.andi", high, code.const(1, kind))
    half = code.binary("arith.addi", odd, code.const(0x7FFF, kind))
    rounded = code.binary("arith.addi", bits, half)
    rounded = code.binary("arith.shrui", rounded, code.const(16, kind))
    quiet = code.binary("arith.ori", high, code.const(0x40, kind))
    nan = code.compare("arith.cmpf", "uno", value, value)
    short = code.convert("arith.trunci", code.select(nan, quiet, rounded), "i16")
    result = vector("bf16", lanes)
    return code.op(f"arith.bitcast {short} : {short.type} to {result}", result)


def load_wide(
    code: Code, base: Val, index: Val | int, dtype: DType, element: str, lanes: int = 0
) -> Val:
    """Element `index` of `base` (or `lanes` from there on) as `element`."""
    memory = memory_element(dtype)
    address = code.at(base, index, memory)
    loaded = code.load(address, vector(memory, lanes), dtype.itemsize)
    return widen(code, loaded, dtype, element)


def least(code: Code, a: Val, b: Val) -> Val:
    """The smaller of two i64."""
    return code.binary("arith.minsi", a, b)


def ceil_div(code: Code, a: Val, by: int) -> Val:
    """`ceil(a / by)` for `a >= 0`."""
    return code.binary("arith.divui", code.add(a, by - 1), code.i64(by))
