"""Element types: one `DType` per scalar type of the IR, and NumPy 2's promotion between them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from graphmill.records import record


@record
class DType:
    """A scalar type. `kind` is one of `b i u f c` (bool, signed, unsigned, float, complex)."""

    name: str
    kind: str
    bits: int

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy's dtype; for `bf16` that of ml_dtypes."""
        return _bfloat16() if self.name == "bf16" else _NUMPY[self.name]

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory (a bool takes one)."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        """Whether this is a signed or unsigned integer (not bool)."""
        return self.kind in "iu"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_inexact(self) -> bool:
        """Float or complex."""
        return self.kind in "fc"

    @property
    def real(self) -> DType:
        """The type of the real part: itself unless complex."""
        return {"c64": f32, "c128": f64}.get(self.name, self)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


@cache
def _bfloat16() -> np.dtype[Any]:
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


bool_ = DType("bool", "b", 8)
i8, i16, i32, i64 = (DType(f"i{bits}", "i", bits) for bits in (8, 16, 32, 64))
u8, u16, u32, u64 = (DType(f"u{bits}", "u", bits) for bits in (8, 16, 32, 64))
f16, f32, f64 = (DType(f"f{bits}", "f", bits) for bits in (16, 32, 64))
bf16 = DType("bf16", "f", 16)
c64, c128 = (DType(f"c{bits}", "c", bits) for bits in (64, 128))

ALL = (bool_, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64, c64, c128)
_BY_NAME = {dtype.name: dtype for dtype in ALL}
# NumPy spells kind and bytes; a dtype of ml_dtypes is met only where that is loaded
_NUMPY = {d.name: np.dtype(f"{d.kind}{d.bits // 8}") for d in ALL if d is not bf16}
_BY_NUMPY = {numpy: _BY_NAME[name] for name, numpy in _NUMPY.items()}


class DTypeError(TypeError):
    """A dtype that Graphmill does not have."""


def dtype(of: object) -> DType:
    """The DType for a name (`f32`), a NumPy dtype or scalar type, or a Python type."""
    if isinstance(of, DType):
        return of
    if isinstance(of, str) and of in _BY_NAME:
        return _BY_NAME[of]
    if isinstance(of, str) and of == "bfloat16":  # a name that NumPy knows once that is loaded
        return bf16
    try:
        found = np.dtype(of)  # type: ignore[call-overload]
    except TypeError:
        raise DTypeError(f"{of!r} is no dtype") from None
    native = found.newbyteorder("=")
    if native in _BY_NUMPY:
        return _BY_NUMPY[native]
    if native.name == "bfloat16":
        return bf16
    names = ", ".join(_BY_NAME)
    raise DTypeError(f"dtype {found} is not supported; Graphmill has {names}")


def promote(a: DType, b: DType) -> DType:
    """The common type of two strongly typed operands (NumPy 2, NEP 50; bf16 as a float)."""
    if a is b:
        return a
    if bf16 in (a, b):
        other = b if a is bf16 else a
        if other.kind in "biu":
            return bf16 if other.bits <= 16 or other.kind == "b" else f32
        return f32 if other is f16 else other
    return _BY_NUMPY[np.promote_types(a.numpy, b.numpy)]


def weak(value: bool | int | float | complex, other: DType) -> DType:
    """The common type of an array of `other` and a Python scalar, which is weak (NEP 50)."""
    if isinstance(value, bool | np.bool_):
        return other
    if isinstance(value, int):
        return i64 if other.kind == "b" else other
    if isinstance(value, float):
        return other if other.is_inexact else f64
    return {"f32": c64, "f16": c64, "bf16": c64, "c64": c64}.get(other.name, c128)


def of_scalar(value: bool | int | float | complex) -> DType:
    """The type a Python scalar takes on its own."""
    if isinstance(value, bool | np.bool_):
        return bool_
    if isinstance(value, int):
        return i64
    return f64 if isinstance(value, float) else c128
