"""Dtypes (NumPy's dtype objects) and what is known of them."""

from __future__ import annotations

import builtins
from typing import Any

import ml_dtypes
import numpy as np

from graphmill.frontend import core
from graphmill.frontend.describe import failure
from graphmill.frontend.numpy.arrays import Array, is_traced
from graphmill.frontend.tracer import Tracer
from graphmill.frontend.ufuncs import copied
from graphmill.ir import dtypes as ir

DTypeObject = np.dtype[Any]

bool: DTypeObject = ir.bool_.numpy
int8: DTypeObject = ir.i8.numpy
int16: DTypeObject = ir.i16.numpy
int32: DTypeObject = ir.i32.numpy
int64: DTypeObject = ir.i64.numpy
uint8: DTypeObject = ir.u8.numpy
uint16: DTypeObject = ir.u16.numpy
uint32: DTypeObject = ir.u32.numpy
uint64: DTypeObject = ir.u64.numpy
float16: DTypeObject = ir.f16.numpy
bfloat16: DTypeObject = ir.bf16.numpy
float32: DTypeObject = ir.f32.numpy
float64: DTypeObject = ir.f64.numpy
complex64: DTypeObject = ir.c64.numpy
complex128: DTypeObject = ir.c128.numpy

# the standard's names of kinds -> the IR's kind letters
KINDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu",
    "real floating": "f", "complex floating": "c", "numeric": "iufc",
}  # fmt: skip


def astype(
    x: Array, dtype: Any, /, *, copy: builtins.bool = True, device: str | None = None
) -> Array:
    """x with another dtype (floats truncate to integers); GM018 for complex to real."""
    to = core.as_dtype(dtype)
    if isinstance(x, Tracer):
        result = core.astype(x, to)
        return copied(result) if result is x and copy else result
    array = np.asarray(x)
    if array.dtype.kind == "c" and not to.is_complex and to is not ir.bool_:
        raise failure(
            "GM018",
            f"{array.dtype} to {to} drops the imaginary part",
            [x],
            why="the cast would lose half of the value without a word.",
            hint="take real(x), abs(x) or imag(x).",
        )
    return array.astype(to.numpy, copy=copy)


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Whether promotion may take `from_` (a dtype or an array) to `to`."""
    return builtins.bool(np.can_cast(_of(from_).numpy, core.as_dtype(to).numpy))


def finfo(type: Any, /) -> Any:
    """bits, eps, max, min, smallest_normal, dtype of a float or complex dtype or array."""
    of = _of(type)
    if not of.is_inexact:
        raise failure("GM015", f"finfo of {of}", hint="iinfo tells about integers.")
    limits: Any = ml_dtypes.finfo if of is ir.bf16 else np.finfo
    return limits(of.real.numpy)


def iinfo(type: Any, /) -> Any:
    """bits, max, min, dtype of an integer dtype or array."""
    of = _of(type)
    if not of.is_integer:
        raise failure("GM015", f"iinfo of {of}", hint="finfo tells about floats.")
    return np.iinfo(of.numpy)


def _of(type: Any) -> ir.DType:
    is_array = isinstance(type, Tracer | np.ndarray | np.generic)
    return core.as_dtype(type.dtype if is_array else type)


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether a dtype is `kind`: a dtype, a name in `KINDS`, or one of a tuple of them."""
    of = core.as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in KINDS:
        return of.kind in KINDS[kind]
    if isinstance(kind, str):
        raise failure("GM025", f"kind {kind!r}", hint=f"kinds are {', '.join(KINDS)}.")
    return of is core.as_dtype(kind)


def result_type(*arrays_and_dtypes: Any) -> DTypeObject:
    """The dtype that arrays, dtypes and (weak) Python scalars promote to."""
    if not arrays_and_dtypes:
        raise failure("GM025", "result_type of nothing", hint="pass arrays or dtypes.")
    args = [
        core.as_dtype(a) if isinstance(a, np.dtype | type | str) else _plain(a)
        for a in arrays_and_dtypes
    ]
    return core.result_type(*args).numpy


def _plain(value: Any) -> Any:
    known = is_traced(value) or isinstance(value, builtins.bool | int | float | complex)
    return value if known else np.asarray(value)
