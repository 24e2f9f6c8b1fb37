"""f16 and bf16: between their 16 bits in memory and f32 in registers, rounded to nearest even."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.expr import Num, Scope, where
from graphmill.ir.dtypes import DType, bf16


def widen(code: Code, bits: Val, dtype: DType) -> Val:
    """The f32 value of i16 `bits` that hold a `dtype`; exact."""
    if dtype is bf16:
        wide = Num(Scope(code, False), bits).convert("arith.extui", "i32")
        return (wide << 16).as_float().val
    if code.unit.half:
        return code.convert("arith.extf", code.convert("arith.bitcast", bits, "f16"), "f32")
    return _widen_half(Num(Scope(code, False), bits).convert("arith.extui", "i32")).val


def narrow(code: Code, value: Val, dtype: DType) -> Val:
    """The i16 bits of `value` (f32 or f64) rounded once to `dtype`."""
    x = Num(Scope(code, False), value)
    if x.bits == 64:
        x = _round_to_odd(x)
    if dtype is bf16:
        return _narrow_brain(x).val
    if code.unit.half:
        return code.convert("arith.bitcast", code.convert("arith.truncf", x.val, "f16"), "i16")
    return _narrow_half(x).val


def rounded(code: Code, value: Val, dtype: DType) -> Val:
    """`value` (f32 or f64) rounded to `dtype`, as f32."""
    return widen(code, narrow(code, value, dtype), dtype)


def _round_to_odd(x: Num) -> Num:
    """f64 to f32 such that rounding again to 16 bits gives the once rounded result."""
    near = x.convert("arith.truncf", "f32")
    back = near.convert("arith.extf", "f64")
    bits = near.as_int()
    down = where(x.abs() < back.abs(), bits - 1, bits)  # towards zero
    return where(back.eq(x) | x.is_nan(), bits, down | 1).as_float()


def _narrow_brain(x: Num) -> Num:
    bits = x.as_int()
    near = (bits + (bits.shr(16) & 1) + 0x7FFF).shr(16)
    quiet = bits.shr(16) | 0x40
    return where(x.is_nan(), quiet, near).convert("arith.trunci", "i16")


def _widen_half(bits: Num) -> Num:
    """IEEE half to single by one exact multiplication, for targets without the instruction."""
    body = ((bits & 0x7FFF) << 13).as_float() * 2.0**112
    special = (bits & 0x7FFF) >= bits.const(0x7C00)
    payload = ((bits & 0x3FF) << 13) | 0x7F800000
    wide = where(special, payload, body.as_int())
    return (wide | ((bits & 0x8000) << 16)).as_float()


def _narrow_half(x: Num) -> Num:
    """IEEE single to half, to nearest even; subnormals by the addition of a magic number."""
    bits = x.as_int()
    sign, body = bits.shr(16) & 0x8000, bits & 0x7FFFFFFF
    normal = (body + ((body.shr(13) & 1) + (0xFFF - (112 << 23)))).shr(13)
    magic = ((127 - 15) + (23 - 10) + 1) << 23
    low = (body.as_float() + body.const(magic).as_float()).as_int() - magic
    near = where(body < body.const((127 - 14) << 23), low, normal)
    near = where(body >= body.const((127 + 16) << 23), near.const(0x7C00), near)
    near = where(x.is_nan(), (body.shr(13) & 0x3FF) | 0x7E00, near)
    return (near | sign).convert("arith.trunci", "i16")
