"""Reading an index: `x[1:-1, None, i, mask]` taken apart into one entry per axis.

Bounds follow Python for every size of a symbolic dim: `x[1:]` of `n` elements has `max(n - 1, 0)`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from graphmill.frontend import sizes
from graphmill.frontend.core import Tracer, as_tracer, constant
from graphmill.frontend.describe import failure, name_of
from graphmill.frontend.known import known, known_scalar
from graphmill.frontend.sizes import Size
from graphmill.frontend.state import current
from graphmill.frontend.turns import dim_of
from graphmill.ir.dims import DimLike, floordiv
from graphmill.records import record


@record
class Span:
    """Every `step`-th of `extent` elements from `start`; counted from the axis' end if `turned`."""

    axis: int
    start: DimLike
    extent: DimLike
    step: int = 1
    turned: bool = False
    dropped: bool = False

    @property
    def stop(self) -> DimLike:
        """One past the last element; `start` when there is none."""
        return self.start + self.extent

    @property
    def length(self) -> DimLike:
        """How many elements it takes."""
        return floordiv(self.extent + self.step - 1, self.step)

    def whole(self, size: DimLike) -> bool:
        """Whether it is the axis as it is."""
        return self.length == size and self.step == 1 and not self.turned and self.start == 0


@record
class Pick:
    """Elements at traced (or constant) indices, kept as values so that a later write is unseen."""

    axis: int
    index: Tracer


NEW = "new axis"
Entry = Span | Pick | str


@record
class Plan:
    """An index taken apart: entries in the order of the key, one per axis plus new axes."""

    entries: tuple[Entry, ...]

    @property
    def spans(self) -> list[Span]:
        return [e for e in self.entries if isinstance(e, Span)]

    @property
    def picks(self) -> list[Pick]:
        return [e for e in self.entries if isinstance(e, Pick)]

    @property
    def advanced(self) -> bool:
        """Whether an index is an array, which makes the result a copy."""
        return any(p.index.dims for p in self.picks)

    @property
    def scalar(self) -> bool:
        """Whether every axis is indexed by a number."""
        return all(isinstance(e, Pick) or (isinstance(e, Span) and e.dropped) for e in self.entries)

    @property
    def key(self) -> tuple[Any, ...]:
        """What two plans of the same elements share."""
        return tuple(e if not isinstance(e, Pick) else (e.axis, e.index._value)
                     for e in self.entries)  # fmt: skip


def read_key(x: Tracer, key: Any) -> Plan:
    """The plan for `x[key]`; raises GM020, GM021 or GM022 for what cannot be an index."""
    items = _expanded(x, list(key) if isinstance(key, tuple) else [key])
    entries: list[Entry] = []
    axis = 0
    for item in items:
        if item is None:
            entries.append(NEW)
            continue
        if isinstance(item, np.ndarray) and item.dtype == bool:
            _check_mask(x, item, axis)
            for found in np.nonzero(item):
                entries.append(Pick(axis, constant(found)))
                axis += 1
            continue
        entries.append(_entry(x, item, axis))
        axis += 1
    return Plan(tuple(entries))


def _expanded(x: Tracer, items: list[Any]) -> list[Any]:
    """The key with arrays made of lists, `...` spelled out and trailing axes added."""
    items = [_listed(x, item) for item in items]
    taken = sum(_axes_of(item) for item in items)
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1 or taken > x.ndim:
        problem = "`...` stands twice" if len(dots) > 1 else f"{taken} indices for {x.ndim} axes"
        raise failure("GM020", problem, [x], hint="give at most one index per axis.")
    rest: list[Any] = [slice(None)] * (x.ndim - taken)
    at = dots[0] if dots else len(items)
    return items[:at] + rest + items[at + len(dots) :]


def _listed(x: Tracer, item: Any) -> Any:
    if isinstance(item, list | tuple | range):
        if any(isinstance(i, Tracer) for i in item):
            return as_tracer(list(item))
        made = np.asarray(item)
        return made.astype(np.intp) if made.size == 0 else made
    if isinstance(item, Tracer):
        item = _known_index(item)
    if isinstance(item, bool | np.bool_):
        raise failure(
            "GM021",
            f"the index {item}",
            [x],
            why="a lone bool is no mask.",
            hint="index with a mask of the array's shape, or None for a new axis.",
        )
    return item


def _known_index(item: Tracer) -> Any:
    """A number or mask that is known while tracing as such; other traced indices as they are."""
    if item.dims and item.element.kind != "b":
        return item
    elements = known(item)
    if elements is None or (not item.dims and item.element.kind not in "iu"):
        return item
    return elements if item.dims else int(elements)


def _axes_of(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    mask = isinstance(item, np.ndarray) and item.dtype == bool
    return item.ndim if mask else 1


def _check_mask(x: Tracer, mask: Any, axis: int) -> None:
    dims = x.dims[axis : axis + mask.ndim]
    if dims != mask.shape:
        raise failure(
            "GM020",
            f"a mask of shape {list(mask.shape)} for axes of {list(dims)}",
            [x],
            why="a mask has the shape of the axes that it indexes.",
            hint="for a symbolic dim use np.where(mask, a, b).",
        )


def _entry(x: Tracer, item: Any, axis: int) -> Entry:
    if isinstance(item, slice):
        return _span(x, item, axis)
    if isinstance(item, np.ndarray) and item.ndim:
        _check_integers(x, item.dtype.kind, item)
        _check_range(x, item, axis)
        return Pick(axis, constant(item))
    if isinstance(item, Tracer):
        if item.element.kind == "b":
            raise traced_mask(x, item)
        _check_integers(x, item.element.kind, item)
        return Pick(axis, Tracer(item.value(), current()))
    return _number(x, item, axis)


def traced_mask(x: Tracer, mask: Tracer) -> Exception:
    """GM021."""
    name, chosen = name_of(x), name_of(mask)
    return failure(
        "GM021",
        f"{name}[{chosen}]",
        [x, mask],
        why="how many elements it selects depends on run-time values, and shapes must not.",
        hint=f"np.where({chosen}, a, b) keeps the shape; {name}[{chosen}] = v and np.sum({name}, "
        f"where={chosen}) work; a mask that is a NumPy constant works everywhere.",
    )


def _check_integers(x: Tracer, kind: str, index: Any) -> None:
    if kind not in "iu":
        raise failure(
            "GM020",
            f"{name_of(x)} indexed by {name_of(index)}",
            [x, index],
            why="indices are integers.",
            hint="cast with .astype(np.int64).",
        )


def _check_range(x: Tracer, index: Any, axis: int) -> None:
    size = x.dims[axis]
    if isinstance(size, int) and index.size:
        low, high = int(index.min()), int(index.max())
        if low < -size or high >= size:
            raise _out(x, axis, high if high >= size else low)


def _out(x: Tracer, axis: int, at: int) -> Exception:
    size = x.dims[axis]
    return failure(
        "GM020",
        f"index {at} of axis {axis} with {size} elements",
        [x],
        why=f"valid are {-size} … {size - 1}." if size != 0 else "the axis has no elements.",
        hint="check the shape above.",
    )


def _number(x: Tracer, item: Any, axis: int) -> Entry:
    size = x.dims[axis]
    at = sizes.as_dim(item)
    if at is None:
        try:
            at = operator.index(item)
        except TypeError:
            raise failure(
                "GM020",
                f"{name_of(x)}[{item!r}]",
                [x],
                why=f"a {type(item).__name__} is no index.",
                hint="indices are integers, slices, None, ... and arrays of integers or bools.",
            ) from None
    bounds = current().trace.bounds
    if isinstance(at, int):
        inside = sizes.compare(size, ">", at if at >= 0 else -at - 1, bounds)
        if inside is False:
            raise _out(x, axis, at)
        if inside:
            return Span(axis, at if at >= 0 else size + at, 1, dropped=True)
    elif sizes.compare(size, ">", at, bounds) and sizes.compare(at, "<", 0, bounds) is False:
        return Span(axis, at, 1, dropped=True)
    # whether it is inside is known only at run time: a gather reads safely in any case
    from graphmill.frontend.core import dim_value
    from graphmill.ir.dtypes import i64

    return Pick(axis, dim_value(at, i64) if not isinstance(at, int) else constant(np.int64(at)))


def _bound(x: Tracer, value: Any) -> DimLike | None:
    if value is None:
        return None
    if isinstance(value, Tracer) and (found := known_scalar(value)) is not None:
        value = found
    if isinstance(value, Tracer) and dim_of(value) is None:
        name = name_of(x)
        raise failure(
            "GM022",
            f"{name_of(value)} in a slice of {name}",
            [x, value],
            why="the slice's length would depend on run-time values, and shapes must not.",
            hint=f"for a window of fixed length n: {name}[start + np.arange(n)]; to leave elements "
            "out: np.where(np.arange(n) < stop, x, 0).",
        )
    found = sizes.as_dim(value)
    if found is None:
        try:
            return operator.index(value)
        except TypeError:
            raise failure(
                "GM020",
                f"the slice bound {value!r}",
                [x],
                hint="slice bounds are integers or come from a shape.",
            ) from None
    return found


def _span(x: Tracer, item: slice, axis: int) -> Span:
    size = x.dims[axis]
    start, stop, step = (_bound(x, v) for v in (item.start, item.stop, item.step))
    by = 1 if step is None else step
    if not isinstance(by, int) or by == 0:
        raise failure("GM020", f"a slice's step is {by}", [x], hint="it is a number other than 0.")
    turned = by < 0
    if turned:
        # x[a:b:-s] is x turned round, then [-1 - a : -1 - b : s]
        start = None if start is None else -1 - start
        stop = None if stop is None else -1 - stop
        by = -by
    if isinstance(size, int) and not any(isinstance(v, Size) or not isinstance(v, int)
                                         for v in (start, stop) if v is not None):  # fmt: skip
        first, last, by = slice(start, stop, by).indices(size)
        count = len(range(first, last, by))
        return Span(axis, first, (count - 1) * by + 1 if count else 0, by, turned)
    first_dim, room = _symbolic_span(start, stop, size)
    return Span(axis, first_dim, room, by, turned)


def _symbolic_span(
    start: DimLike | None, stop: DimLike | None, size: DimLike
) -> tuple[DimLike, DimLike]:
    """The first element and how many lie between the bounds, for every size."""
    low = 0 if start is None else start
    front = [_from_front(bound) for bound in (low, 0 if stop is None else stop)]
    if None in front:
        first = _clipped(low, size)
        last = size if stop is None else _clipped(stop, size)
        return first, sizes.maximum(last - first, 0)
    if stop is None or not front[1]:
        back = 0 if stop is None else -stop
        if front[0]:
            return sizes.minimum(low, size), sizes.maximum(size - low - back, 0)
        near = sizes.minimum(size, -low)
        return sizes.maximum(size + low, 0), sizes.maximum(near - back, 0)
    end = sizes.minimum(stop, size)
    if front[0]:
        return sizes.minimum(low, size), sizes.maximum(end - low, 0)
    first = sizes.maximum(size + low, 0)
    return first, sizes.maximum(end - first, 0)


def _clipped(bound: DimLike, size: DimLike) -> DimLike:
    """The position that a slice bound means, from 0 to the axis' size."""
    front = _from_front(bound)
    if front is None:  # it counts from the end for some sizes: add the axis' size there
        below = sizes.minimum(sizes.maximum(-bound, 0), 1)
        return sizes.minimum(sizes.maximum(bound + size * below, 0), size)
    return sizes.minimum(bound, size) if front else sizes.maximum(size + bound, 0)


def _from_front(bound: DimLike) -> bool | None:
    """Whether a bound counts from the front: it is not negative. None where that depends."""
    if isinstance(bound, int):
        return bound >= 0
    negative = sizes.compare(bound, "<", 0, current().trace.bounds)
    return None if negative is None else not negative


def shape_of(plan: Plan, x: Tracer) -> tuple[DimLike, ...]:
    """The shape of a basic index's result."""
    shape: list[DimLike] = []
    for entry in plan.entries:
        if entry is NEW:
            shape.append(1)
        elif isinstance(entry, Span) and not entry.dropped:
            shape.append(entry.length)
    return tuple(shape)
