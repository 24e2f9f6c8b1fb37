"""Sorting along an axis."""

from __future__ import annotations

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import core
from graphmill.frontend.numpy.arrays import Array
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dtypes import i64
from graphmill.ir.ops.order import SORT


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """The order (int64) that sorts x; always stable, NaN last in both directions."""
    return _sorted(x, axis, descending, True)


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """x in order along an axis; always stable, NaN last in both directions."""
    return _sorted(x, axis, descending, False)


def _sorted(x: Array, axis: int, descending: bool, places: bool) -> Array:
    if isinstance(x, Tracer):
        along = ax.axis(axis, x.ndim, x)
        operands = [x]
        if places:
            operands.append(core.emit("iota", shape=x.dims, axis=along, dtype=i64))
        attrs = {"axis": along, "descending": bool(descending)}
        return core.emit_many("sort", *operands, **attrs)[-1]
    if not descending:
        return (np.argsort if places else np.sort)(x, axis=axis, stable=True)
    array = np.asarray(x)
    along = ax.axis(axis, array.ndim, array)
    ramp = np.arange(array.shape[along]).reshape(
        [-1 if i == along else 1 for i in range(array.ndim)]
    )
    columns = [array, np.broadcast_to(ramp, array.shape)] if places else [array]
    assert SORT.reference is not None
    return SORT.reference(*columns, axis=along, descending=True)[-1]
