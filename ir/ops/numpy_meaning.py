"""NumPy meanings of elementwise ops that NumPy does not have under one name."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphmill.ir.dtypes import DType

Array = np.ndarray[Any, Any]


def keep_dtype(function: Callable[..., Any]) -> Callable[..., Array]:
    """Silence floating-point warnings; compute bf16 and f16 through float32 and round back."""

    @functools.wraps(function)
    def wrapped(*arrays: Any) -> Array:
        with np.errstate(all="ignore"):
            first = np.asarray(arrays[0])
            narrow = first.dtype.itemsize == 2 and first.dtype.kind in "fV"
            if narrow and function is not nextafter:
                result = np.asarray(function(*(np.asarray(a).astype(np.float32) for a in arrays)))
                return result.astype(first.dtype) if result.dtype.kind == "f" else result
            return np.asarray(function(*arrays))

    return wrapped


def rsqrt(x: Array) -> Array:
    one = np.ones((), x.dtype)
    return np.asarray(one / np.sqrt(x))


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, from exp of minus the absolute value."""
    small = np.exp(-np.abs(x))
    one = np.ones((), x.dtype)
    return np.where(np.isnan(x), x, np.where(x >= 0, one, small) / (one + small)).astype(x.dtype)


_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def erf(x: Array) -> Array:
    return _on_any_size(_erf, x)


def erfc(x: Array) -> Array:
    return _on_any_size(_erfc, x)


def _on_any_size(function: Callable[[Array], Array], x: Array) -> Array:
    return np.asarray(function(x.astype(np.float64)) if x.size else x).astype(x.dtype)


def popcount(x: Array) -> Array:
    return np.asarray(np.bitwise_count(x)).astype(x.dtype)


def nextafter(x: Array, y: Array) -> Array:
    return np.asarray(np.nextafter(x, y))


def power(x: Array, y: Array) -> Array:
    """x ** y; an integer to a negative power is what exact division gives: 0, 1 or -1."""
    if x.dtype.kind != "i":
        return np.asarray(np.power(x, y))
    result = np.power(x, np.maximum(y, 0))
    odd = np.where(y % 2 != 0, x, np.ones_like(x))
    negative = np.where(x == 1, np.ones_like(x), np.where(x == -1, odd, np.zeros_like(x)))
    return np.where(y < 0, negative, result).astype(x.dtype)


def cast(x: Array, dtype: DType) -> Array:
    """Convert as C does for values in range; floats out of range saturate, NaN gives 0."""
    x = np.asarray(x)
    if x.dtype.kind in "fV" and dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        wide = np.trunc(x.astype(np.float64))
        low, high = float(info.min), float(info.max)
        safe = np.where(np.isnan(wide) | (wide < low) | (wide >= high), 0, wide)
        result = safe.astype(dtype.numpy)
        result = np.where(wide >= high, np.array(info.max, dtype.numpy), result)
        return np.where(wide < low, np.array(info.min, dtype.numpy), result)
    with np.errstate(all="ignore"):
        return x.astype(dtype.numpy)


def bitcast(x: Array, dtype: DType) -> Array:
    return np.ascontiguousarray(x).view(dtype.numpy).reshape(np.shape(x))


def make_complex(re: Array, im: Array) -> Array:
    result = np.empty(np.shape(re), np.result_type(re.dtype, np.complex64))
    result.real, result.imag = re, im
    return result
