"""Positions of elements: flat and per axis, sliding windows, bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import indexing
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import Tracer, as_tracer, astype, broadcast_to
from graphmill.frontend.creation import full
from graphmill.frontend.describe import failure
from graphmill.frontend.shaping import moveaxis
from graphmill.frontend.ufuncs import evaluate
from graphmill.ir.dtypes import i64

EVEN_BINS = 1 << 16  # up to so many, float32 misses a bin by one at most


@implements(np.unravel_index)
def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple[Tracer, ...]:
    rest = astype(as_tracer(indices), i64)
    sizes = [ax.number(d, "shape") for d in (shape if isinstance(shape, tuple | list) else [shape])]
    found: list[Tracer] = []
    for size in sizes if order == "F" else sizes[::-1]:
        found.append(evaluate(np.remainder, rest, size))
        rest = evaluate(np.floor_divide, rest, size)
    return tuple(found if order == "F" else found[::-1])


@implements(np.ravel_multi_index)
def ravel_multi_index(
    multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C"
) -> Tracer:  # fmt: skip
    if mode not in ("raise", "wrap"):
        raise failure("GM011", f"ravel_multi_index(mode={mode!r})", [], hint='use mode="wrap".')
    pairs = list(zip(multi_index, dims, strict=True))
    total: Any = 0
    for index, given in pairs if order == "C" else pairs[::-1]:
        size = ax.number(given, "dims")
        at = evaluate(np.remainder, index, size) if mode == "wrap" else index
        total = evaluate(np.add, evaluate(np.multiply, total, size), at)
    return astype(as_tracer(total), i64)


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Tracer:
    """Every window, along new axes at the end; a copy, not a view."""
    made = as_tracer(x)
    listed = window_shape if isinstance(window_shape, tuple | list) else (window_shape,)
    windows = [ax.number(w, "window_shape") for w in listed]
    given = range(made.ndim) if axis is None else axis if isinstance(axis, tuple | list) else [axis]
    along = [ax.axis(a, made.ndim, x) for a in given]
    if len(windows) != len(along):
        raise failure(
            "GM025", f"{len(windows)} windows for {len(along)} axes", [x],
            hint="give one window size per axis.",
        )  # fmt: skip
    for a, window in zip(along, windows, strict=True):
        size = made.dims[a]
        if window < 0 or (isinstance(size, int) and window > size):
            raise failure("GM025", f"a window of {window} along {size} elements", [x])
        starts = np.arange(made.shape[a] - (window - 1), like=made)
        at = evaluate(np.add, starts[:, None], np.arange(window))
        made = moveaxis(indexing.get(made, (*(slice(None),) * a, at)), a + 1, -1)
    return made


@implements(np.histogram)
def histogram(
    a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> tuple[Tracer, Tracer]:
    """Counts in bins of equal width, or between given edges; NaN is in none."""
    if isinstance(bins, str):
        raise failure("GM011", f"histogram(bins={bins!r})", [a], hint="give their number.")
    x = np.ravel(as_tracer(a))
    if isinstance(bins, int | np.integer):
        low, high = (np.min(x), np.max(x)) if range is None else range
        flat = evaluate(np.equal, low, high)
        low, high = (np.where(flat, end + by, end) for end, by in ((low, -0.5), (high, 0.5)))
        edges: Any = as_tracer(np.linspace(low, high, int(bins) + 1))
    else:
        edges = as_tracer(bins)
    last = edges.shape[0] - 1
    inside = (x >= edges[0]) & (x <= edges[-1])
    if isinstance(bins, int | np.integer) and bins <= EVEN_BINS:
        place = _even_bin(np.where(inside, (x - low) / (high - low), 0), x, edges, last)
    else:
        place = np.searchsorted(edges, x, side="right") - 1
        place = np.where(x == edges[-1], last - 1, place)
    each: Any = 1 if weights is None else np.ravel(as_tracer(weights))
    counts = full(last, 0, i64 if weights is None else each.element)
    np.add.at(counts, np.where(inside, place, last - 1), np.where(inside, each, 0))
    if density:
        counts = counts / np.diff(edges) / np.sum(counts)
    return counts, edges


def _even_bin(part: Any, x: Any, edges: Any, count: int) -> Any:
    """The bin of each x that lies `part` of the way between the outer edges.

    Rounding may miss it by one; comparing with the edges puts that right, as in NumPy.
    """
    guess = np.minimum((part * count).astype(np.int64), count - 1)
    guess = guess - (x < edges[guess])
    return guess + ((x >= edges[guess + 1]) & (guess != count - 1))


@implements(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    x: Any = np.ravel(as_tracer(a))
    shape = ax.shape(new_shape)
    size = int(np.prod([ax.number(d, "new_shape") for d in shape], dtype=int))
    at = np.resize(np.arange(ax.number(x.shape[0], "the number of elements")), size)
    return np.reshape(indexing.get(x, at), [int(d) for d in shape])


@implements(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    made = as_tracer(x)
    listed = condlist if isinstance(condlist, tuple | list) else [condlist]
    conditions = [as_tracer(c) for c in listed]
    pieces = list(funclist)
    if len(pieces) == len(conditions):
        pieces.append(0)
    elif len(pieces) != len(conditions) + 1:
        raise failure("GM025", f"{len(pieces)} functions for {len(conditions)} conditions", [x])
    result: Any = full(made.shape, 0, made.element)
    for condition, piece in zip([None, *conditions], [pieces[-1], *pieces[:-1]], strict=True):
        value = astype(piece(made, *args, **kw) if callable(piece) else piece, made.element)
        value = broadcast_to(value, made.dims)
        result = value if condition is None else np.where(condition, value, result)
    return result
