"""Casts between dtypes, with NumPy's meaning and no undefined results.

Float to integer truncates and saturates (NumPy leaves out-of-range values and NaN, which give 0
here, to the machine); integer to integer wraps; complex to real drops the imaginary part.
"""

from __future__ import annotations

import numpy as np

from graphmill.codegen.cpu.elem import Complex, Elem, register_type
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.half import rounded
from graphmill.ir.dtypes import DType


def cast(code: Code, value: Elem, src: DType, dst: DType) -> Elem:
    """`value` of dtype `src` as `dst`."""
    if src is dst:
        return value
    if isinstance(value, Complex):
        if dst.kind == "c":
            re, im = (_real(code, part, src.real, dst.real) for part in (value.re, value.im))
            return Complex(re, im)
        if dst.kind == "b":
            parts = [_nonzero(code, part, src.real) for part in (value.re, value.im)]
            return code.binary("arith.ori", *parts)
        return _real(code, value.re, src.real, dst)
    if dst.kind == "c":
        re = _real(code, value, src, dst.real)
        return Complex(re, code.const(0, re.type))
    return _real(code, value, src, dst)


def _real(code: Code, value: Val, src: DType, dst: DType) -> Val:
    if src is dst:
        return value
    if dst.kind == "b":
        return _nonzero(code, value, src)
    if src.kind == "f":
        return _from_float(code, value, dst)
    if dst.kind == "f":
        return _int_to_float(code, value, src, dst)
    return _resized(code, value, dst.bits, signed=src.kind == "i")


def _nonzero(code: Code, value: Val, src: DType) -> Val:
    zero = code.const(0, value.type)
    if src.kind == "f":
        return code.compare("arith.cmpf", "une", value, zero)
    return code.compare("arith.cmpi", "ne", value, zero)


def _from_float(code: Code, value: Val, dst: DType) -> Val:
    if dst.kind != "f":
        return _float_to_int(code, value, dst)
    if dst.bits == 16:
        return rounded(code, value, dst)
    if value.element == register_type(dst):
        return value
    name = "arith.truncf" if dst.bits == 32 else "arith.extf"
    return code.convert(name, value, register_type(dst))


def _float_to_int(code: Code, value: Val, dst: DType) -> Val:
    """Truncate and saturate; NaN gives 0."""
    sign = "s" if dst.kind == "i" else "u"
    if value.lanes:
        return _clamped_to_int(code, value, dst, sign)
    kind = vector(f"i{dst.bits}", value.lanes)
    suffix = f"{mangled(kind)}.{mangled(value.type)}"
    return code.op(
        f'llvm.call_intrinsic "llvm.fpto{sign}i.sat.{suffix}"({value}) : ({value.type}) -> {kind}',
        kind,
    )


def _clamped_to_int(code: Code, value: Val, dst: DType, sign: str) -> Val:
    """The same on vectors, for which LLVM would take the intrinsic apart lane by lane."""
    limits = np.iinfo(dst.numpy)
    exact = dst.bits < {"f32": 32, "f64": 64}[value.element]
    last = float(limits.max)
    if not exact:  # 2^n - 1 is none, for as many bits or more
        kind = np.float32 if value.element == "f32" else np.float64
        last = float(np.nextafter(kind(limits.max + 1), kind(0)))
    low, high = (code.const(x, value.type) for x in (float(limits.min), last))
    inside = code.select(code.compare("arith.cmpf", "ogt", value, low), value, low)
    inside = code.select(code.compare("arith.cmpf", "olt", inside, high), inside, high)
    wide = sign if dst.bits >= 32 else "s"
    result = code.convert(f"arith.fpto{wide}i", inside, f"i{max(dst.bits, 32)}")
    if not exact:
        over = code.compare("arith.cmpf", "oge", value, code.const(limits.max + 1.0, value.type))
        result = code.select(over, code.const(int(limits.max), result.type), result)
    nan = code.compare("arith.cmpf", "uno", value, value)
    result = code.select(nan, code.const(0, result.type), result)
    return result if dst.bits >= 32 else code.convert("arith.trunci", result, f"i{dst.bits}")


def mangled(kind: str) -> str:
    """`vector<8xf32>` as LLVM's overload suffix `v8f32`."""
    lanes, _, element = kind[7:-1].partition("x") if kind.startswith("vector") else ("", "", kind)
    return f"v{lanes}{element}" if lanes else element


def _int_to_float(code: Code, value: Val, src: DType, dst: DType) -> Val:
    name = "arith.sitofp" if src.kind == "i" else "arith.uitofp"
    result = code.convert(name, value, register_type(dst))
    if dst.bits == 16 and src.kind != "b" and src.bits > 8:
        return rounded(code, result, dst)
    return result


def _resized(code: Code, value: Val, bits: int, *, signed: bool) -> Val:
    have = int(value.element[1:])
    if have == bits:
        return value
    if have > bits:
        return code.convert("arith.trunci", value, f"i{bits}")
    return code.convert("arith.extsi" if signed else "arith.extui", value, f"i{bits}")
