"""Writing under a mask: `x[mask] = v`, `x[..., mask] = v`, as a select, which keeps the shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.frontend import selection
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_shapes,
    broadcast_to,
    constant,
    emit,
)
from graphmill.frontend.describe import failure, name_of
from graphmill.frontend.known import known
from graphmill.frontend.shaping import reshaped
from graphmill.ir.dims import DimLike

DENSE = 16  # a known mask that holds at one of so many elements is written as a whole
LARGEST = 1 << 24  # elements of a mask that index arrays become


def lone_mask(x: Tracer, key: Any, value: Any) -> tuple[Tracer, int] | None:
    """The mask and its first axis, of a key that is a mask among `:` and `...`.

    One that depends on arguments; or, where one value is stored, a known one that is not sparse,
    given as bools or as index arrays.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    at = [i for i, item in enumerate(items) if item is not Ellipsis and not _is_all(item)]
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if not at or at[-1] - at[0] != len(at) - 1 or len(dots) > 1:
        return None
    chosen = [items[i] for i in at]
    traced = [c for c in chosen if isinstance(c, Tracer)]
    elements = [known(c) if isinstance(c, Tracer) else c for c in chosen]
    mask = traced[0] if len(chosen) == 1 and traced and elements[0] is None else None
    if mask is not None and mask.element.kind != "b":
        return None
    if mask is None and not all(isinstance(e, np.ndarray) and e.ndim for e in elements):
        return None
    bools = [e for e in elements if e is not None and e.dtype == bool]
    rank = mask.ndim if mask is not None else bools[0].ndim if bools else len(elements)
    axis = x.ndim - rank - (len(items) - 1 - at[-1]) if dots and dots[0] < at[0] else at[0]
    if mask is None:
        mask = _dense(elements, x.dims[axis : axis + rank]) if _is_single(value) else None
    return None if mask is None or axis < 0 else (mask, axis)


def _is_all(item: Any) -> bool:
    return isinstance(item, slice) and item == slice(None)


def _is_single(value: Any) -> bool:
    """Whether one value is stored everywhere."""
    dims = value.dims if isinstance(value, Tracer) else np.shape(value)
    return all(d == 1 for d in dims)


def _dense(elements: Sequence[Any], dims: Sequence[DimLike]) -> Tracer | None:
    """The known mask that bools or index arrays of axes of these sizes are, if it is not sparse."""
    shape = tuple(d for d in dims if isinstance(d, int))
    if len(shape) != len(dims) or not 0 < int(np.prod(shape)) <= LARGEST:
        return None
    if len(elements) == 1 and elements[0].dtype == bool:
        mask = elements[0]
    elif all(e.dtype.kind in "iu" for e in elements):
        mask = np.zeros(shape, bool)
        try:
            mask[tuple(elements)] = True
        except IndexError:
            return None  # reading the key says what is wrong
    else:
        return None
    dense = mask.shape == shape and int(mask.sum()) * DENSE >= mask.size
    return constant(mask) if dense else None


def masked(x: Tracer, mask: Tracer, axis: int, value: Any) -> Tracer:
    """x with `value` where a mask of the axes from `axis` on holds."""
    if x.dims[axis : axis + mask.ndim] != mask.dims:
        raise failure(
            "GM014",
            f"{name_of(x)}[{name_of(mask)}] = …",
            [x, mask],
            why="a mask has the shape of the axes that it indexes.",
            hint="reshape or broadcast the mask.",
        )
    rest = x.dims[axis + mask.ndim :]
    if isinstance(value, selection.Selection):
        if axis or not value.under(mask) or value.whole.dims != x.dims:
            raise value.refused("storing it under another mask")
        return emit("select", value.spread(), astype(value.whole, x.element), x)
    v = as_tracer(value, x.element if isinstance(value, bool | int | float | complex) else None)
    while v.ndim > len(rest) and v.dims[0] == 1:
        v = reshaped(v, v.dims[1:])
    if v.ndim > len(rest):
        raise failure(
            "GM021", f"{name_of(x)}[{name_of(mask)}] = {name_of(value)}", [x, mask, value],
            why="one value per selected element is needed, and their number depends on run-time "
            "values.",
            hint=f"np.where({name_of(mask)}, values, {name_of(x)}) takes values of the whole "
            "array's shape.",
        )  # fmt: skip
    v = broadcast_to(fitted(x, v, rest), x.dims)
    spread = reshaped(mask, (*mask.dims, *(1 for _ in rest))) if rest else mask
    return emit("select", broadcast_to(spread, x.dims), v, x)


def fitted(x: Tracer, value: Any, shape: Sequence[DimLike]) -> Tracer:
    """A value to store, in x's dtype and broadcast to the place's shape."""
    plain = isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)
    v = astype(as_tracer(value, x.element if plain else None), x.element)
    while v.ndim > len(shape) and v.dims[0] == 1:
        v = reshaped(v, v.dims[1:])
    if v.ndim > len(shape) or broadcast_shapes(v.dims, shape, args=[x, value]) != tuple(shape):
        texts = [", ".join(map(str, s)) for s in (v.dims, shape)]
        raise failure(
            "GM014", f"[{texts[0]}] stored into [{texts[1]}]", [x, value],
            why="the value must broadcast to the place that it goes to.",
            hint="index the value or the target so that the shapes agree.",
        )  # fmt: skip
    return broadcast_to(v, shape)
