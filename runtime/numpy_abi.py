"""The parts of NumPy's C API that the call path uses, found at run time and checked by trying.

Positions in the API table and fields of the array struct are NumPy 2's stable ABI; before the call
path is trusted, an array is read through the same offsets and one is made and freed.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from graphmill.runtime.native import CallPath

_ABI_VERSION = 0x2000000
_VERSION, _ARRAY_TYPE, _NEW_FROM_DESCR = 0, 2, 94
# word positions in the array struct, as in call.words
_DATA, _ND, _DIMS, _STRIDES, _DESCR, _FLAGS = 2, 3, 4, 5, 7, 8


class AbiError(RuntimeError):
    """This NumPy or Python lays its structs out in another way."""


class _Allocator(ctypes.Structure):
    _fields_ = (
        ("ctx", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler (NEP 49)."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("allocator", _Allocator),
    )


# NumPy keeps a pointer to the name and the handler as long as any array does: so for ever
_CAPSULE_NAME = ctypes.create_string_buffer(b"mem_handler")
_kept: list[object] = []


def _api() -> ctypes.Array[ctypes.c_void_p]:
    umath = importlib.import_module("numpy._core._multiarray_umath")
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = pointer(umath._ARRAY_API, None)
    return (ctypes.c_void_p * 95).from_address(table)


def connect(path: CallPath) -> None:
    """Fill the call path's words that come from NumPy; raises `AbiError` on another ABI."""
    try:
        api = _api()
    except (ImportError, AttributeError, ValueError) as error:
        raise AbiError(str(error)) from None
    version = ctypes.CFUNCTYPE(ctypes.c_uint)(api[_VERSION] or 0)()
    if version != _ABI_VERSION or api[_ARRAY_TYPE] != id(np.ndarray):
        raise AbiError(f"NumPy's C ABI is {version:#x}")
    path.set_host("HOST_ARRAY_TYPE", api[_ARRAY_TYPE] or 0)
    path.set_host("HOST_NEW_FROM_DESCR", api[_NEW_FROM_DESCR] or 0)
    handler = _Handler(name=b"graphmill", version=1)
    for name in ("malloc", "calloc", "realloc", "free"):
        setattr(handler.allocator, name, path.addresses[f"gm_numpy_{name}"])
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    capsule = new_capsule(ctypes.addressof(handler), ctypes.addressof(_CAPSULE_NAME), None)
    _kept.extend((handler, capsule, path))
    path.set_host("HOST_HANDLER", id(capsule))


def check(path: CallPath) -> None:
    """Read one array through the offsets and make another; raises `AbiError` on a surprise."""
    sample = np.arange(12, dtype=np.float32).reshape(3, 4)
    words = (ctypes.c_int64 * 12).from_address(id(sample))
    data, dims, strides = words[_DATA], words[_DIMS], words[_STRIDES]
    pair = ctypes.c_int64 * 2
    same = (
        words[1] == id(np.ndarray)
        and data == sample.__array_interface__["data"][0]
        and words[_ND] & 0xFFFFFFFF == 2
        and tuple(pair.from_address(dims)) == sample.shape
        and tuple(pair.from_address(strides)) == sample.strides
        and words[_DESCR] == id(np.dtype(np.float32))
        and words[_FLAGS] & 0x501 == 0x501
    )
    if not same:
        raise AbiError("NumPy's array struct has another layout")
    shape = (ctypes.c_int64 * 2)(512, 256)
    made = path.new_array(id(np.dtype(np.float32)), 2, shape, 512 * 256 * 4)
    if made.shape != (512, 256) or made.dtype != np.float32 or not made.flags.owndata:
        raise AbiError("NumPy made another array than asked for")
