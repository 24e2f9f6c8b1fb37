"""Elements of contractions: widening loads, and the value types of sums."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.elem import Elem, memory_type, register_type
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.ir.dtypes import DType, i8, i16


def memory_element(dtype: DType) -> str:
    """The MLIR type of one element in memory, for address arithmetic."""
    return memory_type(dtype)


def is_plain(dtype: DType, element: str) -> bool:
    """Whether memory holds just what registers compute with, so that no conversion is needed."""
    return dtype.kind != "c" and memory_type(dtype) == register_type(dtype) == element


def resize(code: Code, value: Val, element: str, *, signed: bool = True) -> Val:
    """A float or integer value as `element` of the same kind; narrower integers wrap."""
    have = value.element
    if have == element:
        return value
    wider = int(element[1:]) > int(have[1:])
    if element.startswith("f"):
        return code.convert("arith.extf" if wider else "arith.truncf", value, element)
    if not wider:
        return code.convert("arith.trunci", value, element)
    return code.convert("arith.extsi" if signed else "arith.extui", value, element)


def load_wide(
    code: Code, base: Val, index: Val | int, dtype: DType, element: str, lanes: int = 0,
    mask: Val | None = None,
) -> Val:  # fmt: skip
    """Element `index` of `base` (or `lanes` from there on) as `element`."""
    value = memory.load(code, base, index, dtype, lanes, mask=mask)
    assert isinstance(value, Val), "complex operands take the simple loops"
    return resize(code, value, element, signed=dtype.kind == "i")


def store_as(
    code: Code, value: Elem, base: Val, index: Val | int, dtype: DType, mask: Val | None = None
) -> None:
    """Store a sum, or an epilogue's result, as `dtype`."""
    if isinstance(value, Val) and value.element == memory_type(dtype) != register_type(dtype):
        dtype = i8 if dtype.bits == 8 else i16  # its bits, converted already
    elif isinstance(value, Val):
        value = resize(code, value, register_type(dtype), signed=dtype.kind == "i")
    memory.store(code, value, base, index, dtype, mask=mask)


def least(code: Code, a: Val, b: Val) -> Val:
    """The smaller of two i64."""
    return code.binary("arith.minsi", a, b)


def most(code: Code, a: Val, b: Val | int) -> Val:
    """The larger of two i64."""
    return code.binary("arith.maxsi", a, code.i64(b) if isinstance(b, int) else b)


def minus(code: Code, a: Val, b: Val) -> Val:
    """`a - b`."""
    return code.binary("arith.subi", a, b)


def ceil_div(code: Code, a: Val, by: int | Val) -> Val:
    """`ceil(a / by)` for `a >= 0` and `by > 0`."""
    if isinstance(by, int):
        return code.binary("arith.divui", code.add(a, by - 1), code.i64(by))
    return code.binary("arith.divui", minus(code, code.add(a, by), code.i64(1)), by)
