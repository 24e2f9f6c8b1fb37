"""Integers that sort as values do, and the values back from them."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.ir.dtypes import DType


def key_bits(dtype: DType) -> int:
    """The width of a real dtype's keys."""
    return 64 if dtype.bits == 64 else 32


def key_of(code: Code, value: Val, dtype: DType, descending: bool) -> Val:
    """The key of a real value (lanes or a scalar): NaN is the largest either way, -0 before 0."""
    width = key_bits(dtype)
    if not dtype.is_float:
        if dtype.bits < width:
            name = "arith.extsi" if dtype.kind == "i" else "arith.extui"
            value = code.convert(name, value, f"i{width}")
        if dtype.kind == "u" and dtype.bits == width:
            value = code.binary("arith.xori", value, code.const(-(1 << width - 1), value.type))
        return _turned(code, value, descending)
    missing = code.compare("arith.cmpf", "uno", value, value)
    key = _turned(
        code, _folded(code, code.convert("arith.bitcast", value, f"i{width}")), descending
    )
    return code.select(missing, code.const((1 << width - 1) - 1, key.type), key)


def value_of(code: Code, key: Val, dtype: DType, descending: bool) -> Val:
    """The value that `key_of` made a key of; any NaN is the quiet one."""
    width = key_bits(dtype)
    plain = _turned(code, key, descending)
    if dtype.kind == "b":
        return code.compare("arith.cmpi", "ne", plain, code.const(0, plain.type))
    if not dtype.is_float:
        if dtype.kind == "u" and dtype.bits == width:
            plain = code.binary("arith.xori", plain, code.const(-(1 << width - 1), plain.type))
        if dtype.bits < width:
            plain = code.convert("arith.trunci", plain, f"i{dtype.bits}")
        return plain
    largest = code.const((1 << width - 1) - 1, key.type)
    missing = code.compare("arith.cmpi", "eq", key, largest)
    bits = code.select(missing, largest, _folded(code, plain))
    return code.op(
        f"arith.bitcast {bits} : {bits.type} to {vector(f'f{width}', bits.lanes)}",
        vector(f"f{width}", bits.lanes),
    )


def _folded(code: Code, bits: Val) -> Val:
    """The bits of a float in the order of integers, and back: negative ones are mirrored."""
    width = int(bits.element[1:])
    sign = code.binary("arith.shrsi", bits, code.const(width - 1, bits.type))
    mask = code.const((1 << width - 1) - 1, bits.type)
    return code.binary("arith.xori", bits, code.binary("arith.andi", sign, mask))


def _turned(code: Code, key: Val, descending: bool) -> Val:
    return code.binary("arith.xori", key, code.const(-1, key.type)) if descending else key
