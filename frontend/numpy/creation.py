"""Making arrays: traced ones inside of a traced function (sizes may be symbolic), else NumPy's."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from graphmill.frontend import core
from graphmill.frontend import creation as traced
from graphmill.frontend.core import Tracer, tracing
from graphmill.frontend.describe import failure
from graphmill.frontend.numpy.arrays import Array, is_traced
from graphmill.frontend.sizes import Size


def _check(device: str | None) -> None:
    if device not in (None, "cpu"):
        raise failure("GM025", f"device {device!r}", hint='the device is "cpu" (or None).')


def _numpy(dtype: Any) -> Any:
    return None if dtype is None else core.as_dtype(dtype).numpy


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: str | None = None
) -> Array:
    """start, start + step, … below stop (one argument: from 0); sizes may be symbolic."""
    _check(device)
    if tracing():
        return traced.arange(start, stop, step, dtype)
    first, last = (0, start) if stop is None else (start, stop)
    return np.arange(first, last, step, dtype=_numpy(dtype))


def asarray(
    obj: Any, /, *, dtype: Any = None, device: str | None = None, copy: bool | None = None
) -> Array:
    """An array from an array, a scalar or nested lists; inside of a trace a traced one."""
    _check(device)
    if not tracing():
        return np.asarray(obj, dtype=_numpy(dtype), copy=copy)
    to = None if dtype is None else core.as_dtype(dtype)
    x = core.as_tracer(obj, to if isinstance(obj, bool | int | float | complex | Size) else None)
    if isinstance(x, Tracer) and x is obj and not x.weak and to in (None, x.element):
        return np.copy(x) if copy else x
    if copy is False:
        raise failure("GM025", "copy=False of what has to be converted", [obj],
                      hint="leave copy= out.")  # fmt: skip
    return core.astype(x, x.element if to is None else to)


def empty(shape: Any, *, dtype: Any = None, device: str | None = None) -> Array:
    """An array whose elements are to be written (zeros inside of a trace)."""
    _check(device)
    return zeros(shape, dtype=dtype) if tracing() else np.empty(shape, _numpy(dtype))


def empty_like(x: Array, /, *, dtype: Any = None, device: str | None = None) -> Array:
    """`empty` of x's shape and dtype."""
    _check(device)
    return np.empty_like(_traced(x), dtype=_numpy(dtype))


def eye(
    n_rows: Any, n_cols: Any = None, /, *, k: int = 0, dtype: Any = None,
    device: str | None = None,
) -> Array:  # fmt: skip
    """Ones on the k-th diagonal of a matrix of zeros."""
    _check(device)
    if tracing():
        return traced.eye(n_rows, n_cols, k, dtype)
    return np.eye(n_rows, n_cols, k, _numpy(dtype) or np.float64)


def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Array:
    """The array of another library, shared where it can be."""
    _check(device)
    if isinstance(x, Tracer):
        return np.copy(x) if copy else x
    return _traced(np.from_dlpack(x, copy=copy))


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> Array:
    """A value repeated over a shape; sizes may be symbolic."""
    _check(device)
    if tracing():
        return traced.full(shape, fill_value, dtype)
    return np.full(shape, fill_value, _numpy(dtype))


def full_like(
    x: Array, /, fill_value: Any, *, dtype: Any = None, device: str | None = None
) -> Array:
    """`full` of x's shape and dtype."""
    _check(device)
    return np.full_like(_traced(x), fill_value, dtype=_numpy(dtype))


def linspace(
    start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: str | None = None,
    endpoint: bool = True,
) -> Array:  # fmt: skip
    """num evenly spaced values from start to stop, which is the last one if `endpoint`."""
    _check(device)
    if is_traced(start, stop):
        return traced.linspace(start, stop, num, endpoint, dtype=dtype)
    return _traced(np.linspace(start, stop, num, endpoint=endpoint, dtype=_numpy(dtype)))


def meshgrid(*arrays: Array, indexing: Literal["xy", "ij"] = "xy") -> list[Array]:
    """Coordinate matrices of 1-d coordinates."""
    return list(np.meshgrid(*arrays, indexing=indexing))


def ones(shape: Any, *, dtype: Any = None, device: str | None = None) -> Array:
    """Ones; sizes may be symbolic."""
    return full(shape, 1, dtype=np.float64 if dtype is None else dtype, device=device)


def ones_like(x: Array, /, *, dtype: Any = None, device: str | None = None) -> Array:
    """`ones` of x's shape and dtype."""
    _check(device)
    return np.ones_like(_traced(x), dtype=_numpy(dtype))


def tril(x: Array, /, *, k: int = 0) -> Array:
    """x with zeros above the k-th diagonal of its last two axes."""
    return np.tril(x, k)


def triu(x: Array, /, *, k: int = 0) -> Array:
    """x with zeros below the k-th diagonal of its last two axes."""
    return np.triu(x, k)


def zeros(shape: Any, *, dtype: Any = None, device: str | None = None) -> Array:
    """Zeros; sizes may be symbolic."""
    return full(shape, 0, dtype=np.float64 if dtype is None else dtype, device=device)


def zeros_like(x: Array, /, *, dtype: Any = None, device: str | None = None) -> Array:
    """`zeros` of x's shape and dtype."""
    _check(device)
    return np.zeros_like(_traced(x), dtype=_numpy(dtype))


def _traced(x: Any) -> Any:
    return core.as_tracer(x) if tracing() else x
