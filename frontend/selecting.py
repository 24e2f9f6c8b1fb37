"""Choosing and ordering elements: where, clip, take, sort, search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import indexing
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_shapes,
    broadcast_to,
    constant,
    emit,
    promote_args,
)
from graphmill.frontend.describe import failure, name_of
from graphmill.frontend.reductions import require_least
from graphmill.frontend.shaping import reshaped
from graphmill.frontend.sizes import compare
from graphmill.frontend.state import current
from graphmill.frontend.ufuncs import constant_like, copied, evaluate, truth
from graphmill.ir.dtypes import bool_, i64

MISSING: Any = object()


@implements(np.where)
def where(condition: Any, x: Any = MISSING, y: Any = MISSING, /) -> Tracer:
    if x is MISSING or y is MISSING:
        raise failure(
            "GM010",
            "np.where with one argument",
            [condition],
            why="the number of results depends on run-time values.",
            hint="np.where(mask, a, b) keeps the shape.",
        )
    mask = truth(as_tracer(condition))
    a, b = promote_args(x, y)
    shape = broadcast_shapes(mask.dims, a.dims, b.dims, args=[condition, x, y])
    result = emit("select", *(broadcast_to(t, shape) for t in (mask, a, b)))
    return result


@implements(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Tracer:
    if len(condlist) != len(choicelist) or not condlist:
        raise failure(
            "GM025",
            f"{len(condlist)} conditions, {len(choicelist)} choices",
            [],
            hint="give one choice per condition.",
        )
    *choices, result = promote_args(*choicelist, default)
    for condition, choice in reversed(list(zip(condlist, choices, strict=True))):
        result = where(condition, choice, result)
    return result


@implements(np.choose)
def choose(a: Any, choices: Any, mode: str = "raise") -> Tracer:
    listed = list(choices)
    index = astype(as_tracer(a), i64)
    made = promote_args(*listed)
    if mode == "wrap":
        index = evaluate(np.remainder, index, len(made))
    result = made[-1]
    for n in range(len(made) - 2, -1, -1):
        chosen = evaluate(np.less_equal, index, n)
        result = where(chosen, made[n], result)
    shape = broadcast_shapes(index.dims, *(m.dims for m in made), args=[a])
    return copied(broadcast_to(result, shape))


@implements(np.clip)
def clip(
    a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None,
    dtype: Any = None,
) -> Any:  # fmt: skip
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    result: Any = a
    if low is None and high is None:
        return evaluate(np.positive, a)
    if low is not None and high is not None:
        lower = evaluate(np.maximum, result, low, of=dtype)
        return evaluate(np.minimum, lower, high, of=dtype)
    return evaluate(np.maximum, a, low) if low is not None else evaluate(np.minimum, a, high)


# ---- at indices


@implements(np.take)
def take(a: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Tracer:
    x = as_tracer(a)
    if axis is None:
        x = reshaped(x, (x.type.size,))
    along = 0 if axis is None else ax.axis(axis, x.ndim, x)
    if isinstance(indices, list | tuple) and not any(isinstance(i, Tracer) for i in indices):
        indices = np.asarray(indices, np.intp) if not len(indices) else np.asarray(indices)
    index = as_tracer(indices)
    if not index.element.is_integer:
        raise failure(
            "GM020",
            f"np.take at {name_of(indices)}",
            [a, indices],
            why="indices are integers.",
            hint="cast with .astype(np.int64).",
        )
    if mode == "wrap":
        index = evaluate(np.remainder, astype(index, i64), as_tracer_dim(x, along))
    elif mode == "clip":
        index = evaluate(np.maximum, index, 0)
    elif mode != "raise":
        raise failure("GM025", f"mode={mode!r}", [a], hint='use "raise", "wrap" or "clip".')
    key: tuple[Any, ...] = (*(slice(None) for _ in range(along)), index)
    if not index.dims:
        row = indexing.get(x, (*key[:-1], reshaped(index, (1,))))
        return reshaped(row, (*x.dims[:along], *x.dims[along + 1 :]))
    return indexing.get(x, key)


def as_tracer_dim(x: Tracer, axis: int) -> Tracer:
    """The size of an axis as i64."""
    from graphmill.frontend.core import dim_value

    return dim_value(x.dims[axis], i64)


def _along(x: Tracer, index: Tracer, axis: int, values: Tracer | None = None) -> tuple[
    Tracer, list[Tracer], Tracer | None
]:  # fmt: skip
    """x, one index array per axis (ramps except along `axis`), and values, all broadcast."""
    if index.ndim != x.ndim:
        raise failure(
            "GM014",
            f"indices of {index.ndim} axes for {x.ndim}",
            [x, index],
            hint="the indices have as many axes as the array.",
        )
    others = [d for i, d in enumerate(x.dims) if i != axis]
    rest = broadcast_shapes(others, [d for i, d in enumerate(index.dims) if i != axis])
    shape = [*rest[:axis], index.dims[axis], *rest[axis:]]
    x = broadcast_to(x, [*rest[:axis], x.dims[axis], *rest[axis:]])
    places = [
        astype(broadcast_to(index, shape), i64) if i == axis
        else emit("iota", shape=tuple(shape), axis=i, dtype=i64)
        for i in range(x.ndim)
    ]  # fmt: skip
    return x, places, None if values is None else broadcast_to(astype(values, x.element), shape)


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tracer:
    x, index = as_tracer(arr), as_tracer(indices)
    if axis is None:
        x, axis = reshaped(x, (x.type.size,)), 0
    x, places, _ = _along(x, index, ax.axis(axis, x.ndim, x))
    return emit("gather", x, *places, axes=tuple(range(x.ndim)))


@implements(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    from graphmill.frontend import views

    target = as_tracer(arr)
    if arr is not target:
        raise failure(
            "GM011",
            "np.put_along_axis into a NumPy array",
            [arr],
            hint="make it traced first: gm.numpy.asarray(a).",
        )
    along = ax.axis(axis, target.ndim, target)
    x, places, update = _along(target, as_tracer(indices), along, as_tracer(values))
    assert update is not None
    views.write(target, emit("scatter", x, update, *places, axes=tuple(range(x.ndim)), mode="set"))


# ---- order


def _sorted_axis(a: Any, axis: Any) -> tuple[Tracer, int]:
    x = as_tracer(a)
    if axis is None:
        return reshaped(x, (x.type.size,)), 0
    return x, ax.axis(axis, x.ndim, x)


@implements(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, *, stable: Any = None) -> Tracer:
    x, along = _sorted_axis(a, axis)
    return emit("sort", x, axis=along, descending=False)


@implements(np.argsort)
def argsort(a: Any, axis: Any = -1, kind: Any = None, *, stable: Any = None) -> Tracer:
    x, along = _sorted_axis(a, axis)
    return emit("argsort", x, axis=along, descending=False)


@implements(np.partition)
def partition(a: Any, kth: Any, axis: Any = -1, kind: Any = None) -> Tracer:
    """In order from the first place of kth to the last one."""
    x, along, ends = _selected(a, kth, axis)
    if ends is None:
        return emit("sort", x, axis=along, descending=False)
    return emit("partition", x, *ends, axis=along)


@implements(np.argpartition)
def argpartition(a: Any, kth: Any, axis: Any = -1, kind: Any = None) -> Tracer:
    x, along, ends = _selected(a, kth, axis)
    if ends is None:
        return emit("argsort", x, axis=along, descending=False)
    return emit("argpartition", x, *ends, axis=along)


def _selected(a: Any, kth: Any, axis: Any) -> tuple[Tracer, int, tuple[Any, Any] | None]:
    """The array, its axis, and the first and last place of kth; None where all are sorted."""
    x, along = _sorted_axis(a, axis)
    places = _places(x, along, kth)
    if x.element.is_complex or not places or min(places) < 0 <= max(places):
        return x, along, None
    first, last = constant(np.int64(min(places))), constant(np.int64(max(places)))
    if min(places) >= 0:
        return x, along, (first, last)
    size = as_tracer_dim(x, along)
    return x, along, (evaluate(np.add, size, first), evaluate(np.add, size, last))


def _places(x: Tracer, axis: int, kth: Any) -> list[int]:
    """`kth=` as places that an axis has: GM025 now, or GM062 when the size is known."""
    listed = kth if isinstance(kth, list | tuple) else np.ravel(kth)
    places = [ax.number(k, "kth") for k in listed]
    for place in places:
        least = place + 1 if place >= 0 else -place
        if not require_least(x, axis, least):
            raise failure(
                "GM025",
                f"kth = {place} along {x.dims[axis]} elements",
                [x],
                why=f"the axis needs at least {least} for that place.",
                hint="kth counts from 0, or from the end when negative.",
            )
    return places


@implements(np.lexsort)
def lexsort(keys: Any, axis: Any = -1) -> Tracer:
    """Stable sorts by each key, the last one first in importance."""
    made = [as_tracer(k) for k in keys]
    along = ax.axis(axis, made[0].ndim, made[0])
    order = emit("iota", shape=made[0].dims, axis=along, dtype=i64)
    for key in made:
        turned = take_along_axis(key, order, along)
        order = take_along_axis(order, emit("argsort", turned, axis=along, descending=False), along)
    return order


@implements(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Tracer:
    """Counts the elements before each value, by halving the range as often as is needed."""
    x, values = promote_args(a, v)
    if x.ndim != 1:
        raise failure("GM014", f"np.searchsorted in {x.ndim} axes", [a], hint="pass a 1-d array.")
    if sorter is not None:
        x = take(x, sorter)
    size = x.dims[0]
    if compare(size, "==", 0, current().trace.bounds):
        return broadcast_to(constant(np.int64(0)), values.dims)
    at: Any = broadcast_to(constant(np.int64(0)), values.dims)
    if not isinstance(size, int):
        return _halved_often(x, values, at, side)
    while size > 1:
        half = size // 2
        after = _goes_after(x, at + (half - 1), values, side)
        at = emit("select", after, at + half, at)
        size -= half
    return as_tracer(at + _goes_after(x, at, values, side))


def _goes_after(x: Tracer, at: Tracer, values: Tracer, side: str) -> Tracer:
    """Whether each value belongs after the element of x at `at`."""
    found = emit("gather", x, at, axes=(0,))
    if x.element.is_complex:
        (rank, found), (other, values) = _without_nan(found), _without_nan(values)
        after = emit("lt" if side == "left" else "le", found, values)
        same = emit("and", emit("eq", rank, other), after)
        return emit("or", emit("lt", rank, other), same)
    after = emit("lt", found, values) if side == "left" else emit("le", found, values)
    if x.element.is_float:
        # NaN sorts last: everything else is before it, and it is before nothing
        wanted = emit("isnan", values)
        if side == "left":
            wanted = emit("and", wanted, emit("eq", found, found))
        after = emit("or", after, wanted)
    return after


def _without_nan(x: Tracer) -> tuple[Tracer, Tracer]:
    """How late NaN in one part or both lets complex numbers sort, and x with 0 for NaN."""
    parts = [emit(part, x) for part in ("real", "imag")]
    missing = [emit("isnan", part) for part in parts]
    late = [astype(here, i64) for here in missing]
    zeros = [constant_like(part, 0) for part in parts]
    left = [emit("select", *row) for row in zip(missing, zeros, parts, strict=True)]
    return emit("add", emit("add", late[0], late[0]), late[1]), emit("complex", *left)


def _halved_often(x: Tracer, values: Tracer, low: Tracer, side: str) -> Tracer:
    """The search in a range of unknown size: it is empty after 64 steps."""
    high = broadcast_to(as_tracer_dim(x, 0), values.dims)
    for _ in range(64):
        middle = emit("shr", emit("add", low, high), constant_like(low, 1))
        after = _goes_after(x, middle, values, side)
        open_ = emit("lt", low, high)
        right, left = emit("and", open_, after), emit("and", open_, emit("not", after))
        low = emit("select", right, emit("add", middle, constant_like(low, 1)), low)
        high = emit("select", left, middle, high)
    return low


@implements(np.digitize)
def digitize(x: Any, bins: Any, right: Any = False) -> Any:
    """Ascending bins only when they are traced; constant ones may descend."""
    side = "left" if right else "right"
    if isinstance(bins, Tracer):
        return searchsorted(bins, x, side)
    edges = np.asarray(bins)
    if edges.size > 1 and edges[0] > edges[-1]:
        found = searchsorted(edges[::-1], x, "right" if right else "left")
        return evaluate(np.subtract, np.int64(edges.size), found)
    return searchsorted(edges, x, side)


@implements(np.isin)
def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *,
    kind: Any = None,
) -> Tracer:  # fmt: skip
    x, tests = as_tracer(element), as_tracer(test_elements)
    flat = reshaped(tests, (*(1 for _ in x.dims), tests.type.size))
    equal = evaluate(np.equal, reshaped(x, (*x.dims, 1)), flat)
    found = emit("reduce", equal, axes=(x.ndim,), monoid="any")
    return emit("not", found) if invert else found


@implements(np.place, np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    """Stores one value (or an array of a's shape) where the mask holds."""
    v = as_tracer(values)
    target = as_tracer(a)
    if v.dims not in ((), (1,)) and v.dims != target.dims:
        raise failure(
            "GM011",
            "np.putmask with values that repeat",
            [a, values],
            hint="a[...] = np.where(mask, values, a)",
        )
    v = reshaped(v, ()) if v.dims == (1,) and target.dims != (1,) else v
    target[...] = where(astype(mask, bool_), v, target)


@implements(np.interp)
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Tracer:
    """Straight lines between points (xp, fp), xp ascending; the ends (or left, right) beyond."""
    if period is not None:
        raise failure("GM011", "np.interp(period=…)", [x], hint="reduce x by np.mod yourself.")
    at, grid = astype(x, np.float64), astype(xp, np.float64)
    heights = astype(fp, np.complex128 if as_tracer(fp).element.is_complex else np.float64)
    last = evaluate(np.subtract, as_tracer_dim(grid, 0), 1)
    place = evaluate(np.subtract, searchsorted(grid, at, "right"), 1)
    below = evaluate(np.minimum, evaluate(np.maximum, place, 0), evaluate(np.maximum, last - 1, 0))
    above = evaluate(np.minimum, below + 1, last)
    x0, x1, y0, y1 = (
        take(t, i) for t, i in ((grid, below), (grid, above), (heights, below), (heights, above))
    )
    flat = evaluate(np.equal, x1, x0)
    width = where(flat, 1.0, x1 - x0)
    found = y0 + (y1 - y0) * (at - x0) / width
    found = where(at >= x1, where(flat, y0, y1), found)
    ends = [take(heights, 0), take(heights, last)]
    found = where(at < take(grid, 0), ends[0] if left is None else left, found)
    beyond = at > take(grid, last)
    found = where(beyond, ends[1] if right is None else right, found)
    return where(evaluate(np.isnan, at), at, found)
