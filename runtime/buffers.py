"""Arrays in and out: zero-copy views of what the user gives, outputs from a caching allocator.

Large outputs (256 KiB and more) lie in huge-page mappings that return to size-class lists when the
last NumPy view of them dies, and serve later calls; `memory_info` shows them, `trim` gives them
back to the system.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import numpy as np

from graphmill.codegen.artifact import ArgSpec
from graphmill.records import record
from graphmill.runtime import knobs, native
from graphmill.runtime.layout import LAYOUT

Array = np.ndarray[Any, np.dtype[Any]]

_NUMPY_NAMES = {
    "bool": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "f16": "float16", "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128",
}  # fmt: skip
_LARGE = 1 << 18


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of a Graphmill dtype name such as `f32` or `bf16`."""
    if name in _NUMPY_NAMES:
        return np.dtype(_NUMPY_NAMES[name])
    import ml_dtypes

    if name == "bf16":
        return cast(np.dtype[Any], np.dtype(ml_dtypes.bfloat16))
    raise TypeError(f"unknown dtype {name!r}")


def as_array(value: Any) -> Array:
    """A NumPy view of any array-like, without a copy where the value has memory on the host.

    Takes NumPy arrays, DLPack producers, `__array_interface__`, `__array__`, numbers and nested
    sequences; raises TypeError for what is none of these or lies on another device.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray):
        return _plain(value)
    if hasattr(value, "__dlpack__") and not isinstance(value, np.generic):
        array = _from_dlpack(value)
        if array is not None:
            return array
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(
            f"a value of type {type(value).__name__} is not an array of numbers; where a function "
            "only reads what it is set to, name the parameter in static=…"
        )
    return array


# what classes of arrays with units, names or other meanings define
_OWN_MEANING = ("__array_ufunc__", "__array_function__")


def _plain(array: Array) -> Array:
    """An array of a subclass as a plain one, unless its class gives the elements a meaning."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("a masked array's mask would be ignored: pass a.filled(value), or a.data")
    if isinstance(array, np.matrix):
        raise TypeError("a matrix multiplies in its own way: pass np.asarray(m)")
    if array.dtype.names is not None:
        raise TypeError("an array of records is not an array of numbers: pass its fields")
    kind = type(array)
    if any(getattr(kind, name) is not getattr(np.ndarray, name) for name in _OWN_MEANING):
        raise TypeError(f"{kind.__name__} has arithmetic of its own: pass np.asarray(a)")
    return np.asarray(array)


def _from_dlpack(value: Any) -> Array | None:
    device = getattr(value, "__dlpack_device__", None)
    # 1 is the CPU in DLPack's list of devices
    if device is not None and device()[0] != 1:
        raise TypeError(
            f"the {type(value).__name__} lies on another device; bring it to the CPU first"
        )
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError):
        # a dtype that DLPack in NumPy does not know: the other protocols may still serve
        if hasattr(value, "__array_interface__") or hasattr(value, "__array__"):
            return None
        raise


def native_order(value: Any) -> Any:
    """An array in the machine's byte order, a copy where it was not; anything else as it is."""
    if type(value) is np.ndarray and not value.dtype.isnative:
        return value.astype(value.dtype.newbyteorder("="))
    return value


def fit(array: Array, dtype: np.dtype[Any], strided: bool) -> Array:
    """The array itself where compiled code can read it as it lies, else a contiguous copy."""
    flags = array.flags
    if array.dtype.isnative and flags.aligned:
        if flags.c_contiguous:
            return array
        if strided and not any(step % dtype.itemsize for step in array.strides):
            return array
    return np.array(array, dtype=dtype, order="C", copy=True)


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A new C-contiguous array, uninitialised, from the caching allocator where it is large."""
    size = dtype.itemsize
    for dim in shape:
        size *= dim
    path = native.loaded_call_path() if size >= _LARGE else None
    if path is None:
        return np.empty(shape, dtype)
    dims = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    made: Array = path.new_array(id(dtype), len(shape), dims, size)
    return made


# the data pointer is the first field behind the object's head, on every CPython
_DATA = object.__basicsize__
_pointer = ctypes.c_size_t.from_address


def address(array: Array) -> int:
    """Address of the first element."""
    return _pointer(id(array) + _DATA).value


def _slow_address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _check_address() -> None:
    global address
    sample = np.zeros(3)
    if sys.implementation.name != "cpython" or address(sample) != _slow_address(sample):
        address = _slow_address


_check_address()


def describe(value: Any) -> str:
    """`f32[8, 64]` for an array, the type's name for anything else."""
    if isinstance(value, np.ndarray):
        return f"{spell(value.dtype)}[{', '.join(map(str, value.shape))}]"
    return type(value).__name__


def spell(dtype: np.dtype[Any]) -> str:
    """Graphmill's name of a NumPy dtype, NumPy's own where there is none."""
    plain = dtype.newbyteorder("=")
    for name, numpy_name in _NUMPY_NAMES.items():
        if plain.name == numpy_name:
            return name if dtype.isnative else f"{name} (byte-swapped)"
    return "bf16" if plain.name == "bfloat16" else str(dtype)


def spell_spec(spec: ArgSpec) -> str:
    """`f32[batch, 64]` for an argument's specification."""
    return f"{spec.dtype}[{', '.join(map(str, spec.shape))}]"


@record
class MemoryInfo:
    """Bytes of the caching allocator: in live arrays, waiting for reuse, most that may wait."""

    live: int
    cached: int
    limit: int
    mapped: int
    reused: int


def memory_info() -> MemoryInfo:
    """State of the caching allocator; `mapped` and `reused` count blocks so far."""
    path = native.loaded_call_path()
    if path is None:
        return MemoryInfo(0, 0, knobs.memory_cache(), 0, 0)
    word = {name.removeprefix("MEMORY_").lower(): path.memory[LAYOUT[name]] for name in _WORDS}
    return MemoryInfo(**word)


_WORDS = ("MEMORY_LIVE", "MEMORY_CACHED", "MEMORY_LIMIT", "MEMORY_MAPPED", "MEMORY_REUSED")


def set_memory_limit(limit: int) -> None:
    """Keep at most `limit` bytes of freed memory for reuse (0 keeps none)."""
    knobs.memory_cache.set(limit)
    trim()
    publish()


def trim() -> None:
    """Give all memory that waits for reuse back to the system."""
    path = native.loaded_call_path()
    if path is not None:
        path.trim()


def publish(path: native.CallPath | None = None) -> None:
    """Tell the native call path the limit; the one that is loaded, unless it is given."""
    path = path or native.loaded_call_path()
    if path is not None:
        path.memory[LAYOUT["MEMORY_LIMIT"]] = knobs.memory_cache()
