"""Attribute values as text: `3`, `2*n + 1`, `"loop"`, `[0, 1]`, `f32[8]`, `dense<sha256:…>`.

Every value describes itself, so that attributes a pass adds need no declaration; only the
elements of a constant take their dtype and shape from the type of the op's result.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.dtypes import ALL, DType, dtype
from graphmill.ir.types import TensorType, TokenType

Array = np.ndarray[Any, Any]

# Arrays up to this many elements are written in full, larger ones by their content hash.
FULL = 16

# What a named dim cannot be called: the words that mean something else in a value's place.
RESERVED = frozenset(
    [d.name for d in ALL]
    + ["true", "false", "none", "nan", "inf", "token", "complex", "splat", "dense", "opaque"]
    + ["floordiv", "mod", "max", "min"]
)


def format_value(value: Any) -> str:
    """The text of an attribute's value."""
    if value is None:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float | complex | np.inexact):
        return format_element(np.asarray(value)[()])
    if isinstance(value, Dim | DType | TensorType | TokenType):
        return str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(k))}: {format_value(v)}" for k, v in sorted(value.items()))
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, np.ndarray):
        of = TensorType(dtype(value.dtype), value.shape)
        return f"dense<{of}: {format_elements(value)}>"
    return f"opaque<{type(value).__name__}>"


def format_elements(array: Array, content: Callable[[Array], str] | None = None) -> str:
    """Elements without their type: `1.0`, `[1, 2]`, `splat(0.5)` or `dense<sha256:…>`.

    With `content` it says what stands for large arrays; otherwise their `digest` does.
    """
    if array.size <= FULL:
        return _nested(array)
    if _is_splat(array):
        return f"splat({format_element(array.reshape(-1)[0])})"
    return f"dense<sha256:{(content or digest)(array)}>"


def _nested(array: Array) -> str:
    if array.ndim == 0:
        return format_element(array[()])
    return f"[{', '.join(_nested(np.asarray(part)) for part in array)}]"


def _is_splat(array: Array) -> bool:
    """Whether all elements have the same bits; the ends are looked at first."""
    flat = array.reshape(-1)
    bits = flat.view(f"V{flat.dtype.itemsize}")
    if bits[0] != bits[-1] or bits[0] != bits[flat.size // 2]:
        return False
    raw = flat.view(np.uint8).reshape(flat.size, -1)
    return bool((raw == raw[0]).all())


def format_element(x: Any) -> str:
    """One scalar, so that parsing it in its dtype gives the same bits."""
    kind = x.dtype.kind
    if kind == "b":
        return "true" if x else "false"
    if kind in "iu":
        return str(int(x))
    if kind == "c":
        return f"complex({format_element(x.real)}, {format_element(x.imag)})"
    if np.isnan(x):
        return _nan(x)
    return _shortest(x)


def _shortest(x: Any) -> str:
    wide = np.float64(x) if x.dtype.itemsize == 8 else np.float32(x)
    text = str(wide)
    # the shortest float32 digits go through float64 when read: fall back where that rounds twice
    if wide.dtype.itemsize == 4 and np.float32(float(text)) != wide:
        return repr(float(wide))
    return text


def _nan(x: Any) -> str:
    """`nan` for the positive quiet NaN, else with its bits."""
    width = x.dtype.itemsize
    bits = int(np.asarray(x).view(f"u{width}"))
    quiet = int(np.asarray(np.nan, x.dtype).view(f"u{width}"))
    return "nan" if bits == quiet else f"nan({bits:#x})"


def read_float(text: str, of: DType) -> Any:
    """The scalar that `format_element` wrote for a real float."""
    if text.startswith("nan("):
        return np.asarray(int(text[4:-1], 16), f"u{of.itemsize}").view(of.numpy)[()]
    return np.asarray(float(text)).astype(of.numpy)[()]


_digests: dict[int, tuple[weakref.ref[Array], str]] = {}


def digest(array: Array) -> str:
    """A content hash over dtype, shape and elements (128 bits of SHA-256).

    The digest of a read-only array is remembered as long as the array lives.
    """
    known = _digests.get(id(array))
    if known is not None and known[0]() is array:
        return known[1]
    hasher = hashlib.sha256(f"{dtype(array.dtype)}{array.shape}".encode())
    hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    text = hasher.hexdigest()[:32]
    if not array.flags.writeable and array.base is None:
        key = id(array)
        # forgotten by a function of C's: what a signal's handler raises in one of Python's is lost
        _digests[key] = (weakref.ref(array, partial(_digests.pop, key)), text)
    return text


def attribute_error(kind: str, value: Any) -> str | None:
    """What an attribute of this kind must be, when `value` is something else."""
    if _fits(kind, value):
        return None
    return f"must be {_WANTED[kind]}, not {format_value(value)}"


_WANTED = {
    "int": "an integer", "ints": "a list of integers", "dim": "a dim", "dims": "a list of dims",
    "bool": "true or false", "bools": "a list of true and false", "str": "a string",
    "float": "a number", "value": "a number", "dtype": "a dtype", "array": "an array",
    "pairs": "a list of pairs of dims", "type": "a type", "types": "a list of types",
}  # fmt: skip


def _fits(kind: str, value: Any) -> bool:
    if kind in ("ints", "dims", "bools", "types"):
        return isinstance(value, tuple | list) and all(_fits(kind[:-1], v) for v in value)
    if kind == "pairs":
        return isinstance(value, tuple | list) and all(
            _fits("dims", pair) and len(pair) == 2 for pair in value
        )
    if kind == "bool":
        return isinstance(value, bool | np.bool_)
    if kind in ("int", "dim"):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return whole or (kind == "dim" and isinstance(value, Dim))
    if kind in ("float", "value"):
        return isinstance(value, int | float | complex | np.number)
    return isinstance(value, _CLASSES[kind])


_CLASSES: dict[str, Any] = {
    "str": str, "dtype": DType, "array": np.ndarray, "type": (TensorType, TokenType),
}  # fmt: skip


def dim_names(value: Any) -> frozenset[str]:
    """The named dims in an attribute's value."""
    if isinstance(value, Dim | TensorType):
        return value.names
    if isinstance(value, tuple | list):
        return frozenset().union(*map(dim_names, value))
    return frozenset()


__all__ = ["FULL", "RESERVED", "DimLike", "attribute_error", "digest", "format_value"]
