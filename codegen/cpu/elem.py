"""Elements in registers: how each dtype is held, and constants of it."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.ir.dtypes import DType
from graphmill.records import record


@record
class Complex:
    """A complex scalar or vector: real and imaginary parts side by side."""

    re: Val
    im: Val

    @property
    def lanes(self) -> int:
        """Vector lanes; 0 for a scalar."""
        return self.re.lanes


Elem = Val | Complex


def register_type(dtype: DType) -> str:
    """The MLIR element type in registers: bool is i1, f16 and bf16 are f32, c64 is f32 pairs."""
    if dtype.kind == "b":
        return "i1"
    if dtype.kind == "c":
        return f"f{dtype.bits // 2}"
    if dtype.kind == "f":
        return "f64" if dtype.bits == 64 else "f32"
    return f"i{dtype.bits}"


def memory_type(dtype: DType) -> str:
    """The MLIR element type in memory: bool is i8, f16 and bf16 are i16, c64 is f32 pairs."""
    if dtype.kind == "b":
        return "i8"
    return "i16" if dtype.kind == "f" and dtype.bits == 16 else register_type(dtype)


def constant(code: Code, value: bool | int | float | complex, dtype: DType, lanes: int) -> Elem:
    """`value` rounded to `dtype`, in all lanes."""
    kind = vector(register_type(dtype), lanes)
    number = dtype.numpy.type(value)
    if dtype.kind == "c":
        return Complex(code.const(float(number.real), kind), code.const(float(number.imag), kind))
    return code.const(float(number) if dtype.kind == "f" else int(number), kind)


def splat(code: Code, value: Elem, lanes: int) -> Elem:
    """A scalar element repeated over `lanes`; a vector stays."""
    if isinstance(value, Complex):
        return Complex(code.splat(value.re, lanes), code.splat(value.im, lanes))
    return code.splat(value, lanes)


def select(code: Code, condition: Val, a: Elem, b: Elem) -> Elem:
    """`condition ? a : b`, of real or complex elements."""
    if isinstance(a, Complex):
        assert isinstance(b, Complex)
        return Complex(code.select(condition, a.re, b.re), code.select(condition, a.im, b.im))
    assert isinstance(b, Val)
    return code.select(condition, a, b)
