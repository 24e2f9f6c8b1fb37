"""Sorting along an axis."""

from __future__ import annotations

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import core
from graphmill.frontend.numpy.arrays import Array
from graphmill.frontend.tracer import Tracer
from graphmill.ir.ops.order import ARGSORT, SORT


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """The order (int64) that sorts x; always stable, NaN last in both directions."""
    return _sorted(x, axis, descending, True)


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """x in order along an axis; always stable, NaN last in both directions."""
    return _sorted(x, axis, descending, False)


def _sorted(x: Array, axis: int, descending: bool, places: bool) -> Array:
    if isinstance(x, Tracer):
        along = ax.axis(axis, x.ndim, x)
        op = "argsort" if places else "sort"
        return core.emit(op, x, axis=along, descending=bool(descending))
    if not descending:
        return (np.argsort if places else np.sort)(x, axis=axis, stable=True)
    array = np.asarray(x)
    along = ax.axis(axis, array.ndim, array)
    reference = (ARGSORT if places else SORT).reference
    assert reference is not None
    return reference(array, axis=along, descending=True)[0]
