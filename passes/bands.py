"""Constants that tell positions: ranges, and masks that are bands around a diagonal.

`np.arange(n)` and `np.tril(np.ones((n, n)))` of known size are arrays by the time a pass sees
them. As formulas of positions they need no memory, and a kernel can tell which keys are hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.dtypes import dtype, i64
from graphmill.ir.graph import Value

Array = np.ndarray[Any, Any]
Form = Callable[[Builder], Value]


def position_form(array: Array) -> Form | None:
    """Code that computes a constant from positions; None when there is no such formula."""
    if array.ndim == 1 and array.dtype.kind in "iu" and array.size > 1:
        return _range(array)
    if array.ndim < 2 or min(array.shape) == 0:
        return None
    matrix = array[(0,) * (array.ndim - 2)]
    if array.size > matrix.size and not bool((array == matrix).all()):
        return None
    if array.dtype.kind == "b":
        return _band(array, matrix) or _outside(array, matrix)
    if array.dtype.kind == "i":
        return _differences(array, matrix)
    return _two_valued(array, matrix) if dtype(array.dtype).is_float else None


def _range(array: Array) -> Form | None:
    start, step = int(array[0]), int(array[1]) - int(array[0])
    if step != 1 or not np.array_equal(array, np.arange(start, start + array.size)):
        return None

    def form(builder: Builder) -> Value:
        of = dtype(array.dtype)
        at = builder.op("iota", shape=array.shape, axis=0, dtype=of)
        return builder.op("add", at, builder.full(array.shape, start, of)) if start else at

    return form


def _band(array: Array, matrix: Array) -> Form | None:
    """`low <= column - row <= high`."""
    rows, columns = matrix.shape
    if not matrix.any() or matrix.all():
        return None
    away = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    low, high = int(away[matrix].min()), int(away[matrix].max())
    if not np.array_equal(matrix, (away >= low) & (away <= high)):
        return None

    def form(builder: Builder) -> Value:
        def compared(name: str, by: int) -> Value:
            row = builder.op("iota", shape=(rows,), axis=0, dtype=i64)
            moved = builder.op("add", row, builder.full((rows,), by, i64)) if by else row
            column = builder.op("iota", shape=(columns,), axis=0, dtype=i64)
            last = array.ndim - 1
            left = builder.broadcast(column, array.shape, (last,))
            return builder.op(name, left, builder.broadcast(moved, array.shape, (last - 1,)))

        below = compared("le", high) if high < columns - 1 else None
        above = compared("ge", low) if low > 1 - rows else None
        if below is not None and above is not None:
            return builder.op("and", below, above)
        inside = below if below is not None else above
        assert inside is not None
        return inside

    return form


def _outside(array: Array, matrix: Array) -> Form | None:
    """All but a band."""
    band = _band(array, ~matrix)
    return None if band is None else lambda builder: builder.op("not", band(builder))


def _differences(array: Array, matrix: Array) -> Form | None:
    """`start + column - row` or `start + row - column`."""
    rows, columns = (np.arange(n, dtype=array.dtype) for n in matrix.shape)
    of, start = dtype(array.dtype), matrix[0, 0]
    away = columns - rows[:, None]
    found = [sign for sign in (1, -1) if np.array_equal(matrix, start + sign * away)]
    if len(found) != 1:  # both, where there is one row and column
        return None

    def form(builder: Builder) -> Value:
        last = array.ndim - 1
        row, column = (
            builder.broadcast(
                builder.op("iota", shape=(array.shape[axis],), axis=0, dtype=of),
                array.shape, (axis,),
            )
            for axis in (last - 1, last)
        )  # fmt: skip
        by = builder.op("sub", *((column, row) if found[0] > 0 else (row, column)))
        return builder.op("add", by, builder.full(array.shape, start, of)) if start else by

    return form


def _two_valued(array: Array, matrix: Array) -> Form | None:
    """One number in a band, another outside."""
    values = np.unique(matrix)
    if len(values) != 2:
        return None
    of = dtype(array.dtype)
    for a, b in (values, values[::-1]):
        band = _band(array, matrix == a)
        if band is not None:

            def form(builder: Builder, a: Any = a, b: Any = b, band: Form = band) -> Value:
                inner, outer = (builder.full(array.shape, x, of) for x in (a, b))
                return builder.op("select", band(builder), inner, outer)

            return form
    return None
