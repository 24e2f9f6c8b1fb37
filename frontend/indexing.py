"""`x[key]` and `x[key] = v` as IR: slices and reversals, gathers and scatters, masks.

A basic index (slices, numbers, None) gives a view, as in NumPy; an index with arrays gives a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.frontend import selection, views
from graphmill.frontend.core import (
    Tracer,
    astype,
    broadcast_args,
    broadcast_to,
    constant,
    dim_value,
    emit,
)
from graphmill.frontend.index_keys import NEW, Entry, Pick, Plan, Span, read_key, shape_of
from graphmill.frontend.known import known
from graphmill.frontend.masks import fitted, lone_mask, masked
from graphmill.frontend.shaping import reshaped, transposed
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import i64


def item(x: Tracer, key: Any) -> Any:
    """`x[key]`; a `Selection` for a traced mask."""
    return selection.select(x, key) if _is_mask(key) else get(x, key)


def get(x: Tracer, key: Any) -> Tracer:
    """`x[key]` for a key without a traced mask."""
    plan = read_key(x, key)
    if plan.advanced:
        return _read_advanced(x, plan)
    result = read_basic(x, plan)
    if plan.scalar and Ellipsis not in (key if isinstance(key, tuple) else (key,)):
        return result
    return views.view(
        x, result, lambda base: read_basic(base, plan),
        lambda base, value: views.write(base, written_basic(base, plan, value)), plan.key,
    )  # fmt: skip


def put(x: Tracer, key: Any, value: Any, mode: str = "set") -> None:
    """`x[key] = value`; other modes combine: `add`, `mul`, `min`, `max`."""
    found = lone_mask(x, key, value) if mode == "set" else None
    if found is not None:
        views.write(x, masked(x, *found, value))
        return
    plan = read_key(x, key)
    if mode == "set" and _is_own_part(x, plan, value):
        return
    if plan.advanced or mode != "set":
        views.write(x, _written_advanced(x, plan, value, mode))
        return
    views.write(x, written_basic(x, plan, fitted(x, value, shape_of(plan, x))))


def _is_mask(key: Any) -> bool:
    return isinstance(key, Tracer) and key.element.kind == "b" and known(key) is None


def _is_own_part(x: Tracer, plan: Plan, value: Any) -> bool:
    """Whether `value` is the very view that the key names, as in `x[1:] += y`."""
    view = value._view if isinstance(value, Tracer) else None
    same = view is not None and view.base is x and view.key == plan.key
    return same and not views.is_stale(value)


# ---- slices and numbers


def _cut(x: Tracer, spans: Sequence[Span]) -> Tracer:
    """x with the spans' reversals and slices applied; the rank stays."""
    turned = tuple(s.axis for s in spans if s.turned)
    if turned:
        x = emit("reverse", x, axes=turned)
    start: list[DimLike] = [0] * x.ndim
    stop, step = list(x.dims), [1] * x.ndim
    for s in spans:
        start[s.axis], stop[s.axis], step[s.axis] = s.start, s.stop, s.step
    if all(a == 0 for a in start) and tuple(stop) == x.dims and set(step) <= {1}:
        return x
    return emit("slice", x, start=tuple(start), stop=tuple(stop), step=tuple(step))


def read_basic(x: Tracer, plan: Plan) -> Tracer:
    """The elements of a basic index."""
    result = _cut(x, plan.spans)
    if plan.picks:
        axes = tuple(p.axis for p in plan.picks)
        result = emit("gather", result, *(p.index for p in plan.picks), axes=axes)
    return reshaped(result, shape_of(plan, x))


def written_basic(x: Tracer, plan: Plan, value: Tracer) -> Tracer:
    """x with the elements of a basic index replaced; `value` has the index's shape."""
    spans, picks = {s.axis: s for s in plan.spans}, {p.axis: p for p in plan.picks}
    lengths = [spans[i].length if i in spans else 1 for i in range(x.ndim)]
    if 0 in lengths:
        return x
    update = reshaped(value, lengths)
    turned = tuple(i for i, s in spans.items() if s.turned)
    if turned:
        update = emit("reverse", update, axes=turned)
    starts = {i: _front(s, x.dims[i]) for i, s in spans.items()}
    if not picks and tuple(lengths) == x.dims and all(s.step == 1 for s in spans.values()):
        return update
    stepped = [i for i, s in spans.items() if s.step > 1 and s.length != 1]
    if not stepped:
        places = [
            picks[i].index if i in picks else _scalar(starts[i]) for i in range(x.ndim)
        ]  # fmt: skip
        return emit("dynamic_update_slice", x, update, *places)
    if not picks and all(isinstance(d, int) for i in stepped for d in (lengths[i], x.dims[i])):
        return _spread(x, update, [starts[i] for i in range(x.ndim)], spans)
    return _scattered(x, update, starts, spans, picks)


def _front(span: Span, size: DimLike) -> DimLike:
    """The first element in the axis' own direction."""
    if not span.turned:
        return span.start
    return size - 1 - span.start - (span.length - 1) * span.step


def _scalar(dim: DimLike) -> Tracer:
    return constant(np.int64(dim)) if isinstance(dim, int) else dim_value(dim, i64)


def _spread(x: Tracer, update: Tracer, starts: Sequence[DimLike], spans: dict[int, Span]) -> Tracer:
    """A stepped write: the update spread by padding, chosen where a spread mask holds."""
    interior = tuple(spans[i].step - 1 if spans[i].length != 1 else 0 for i in range(x.ndim))
    high = []
    for i, gap in enumerate(interior):
        used = (spans[i].length - 1) * (gap + 1) + 1 if gap else spans[i].length
        high.append(x.dims[i] - starts[i] - used)
    widths = {"low": tuple(starts), "high": tuple(high), "interior": interior}
    zero = constant(np.zeros((), x.dtype))
    spread = emit("pad", update, zero, **widths)
    ones = broadcast_to(constant(np.True_), update.dims)
    mask = emit("pad", ones, constant(np.False_), **widths)
    return emit("select", mask, spread, x)


def _scattered(
    x: Tracer, update: Tracer, starts: dict[int, DimLike], spans: dict[int, Span],
    picks: dict[int, Pick],
) -> Tracer:  # fmt: skip
    """A stepped write along a symbolic axis: a scatter at computed indices."""
    axes = [i for i in range(x.ndim) if i in picks or not spans[i].whole(x.dims[i])]
    rest = [i for i in range(x.ndim) if i not in axes]
    shape = tuple(update.dims[i] for i in axes)
    indices = []
    for at, i in enumerate(axes):
        if i in picks:
            indices.append(broadcast_to(picks[i].index, shape))
            continue
        ramp = emit("iota", shape=shape, axis=at, dtype=i64)
        scaled = emit("mul", ramp, broadcast_to(_scalar(spans[i].step), shape))
        indices.append(emit("add", scaled, broadcast_to(_scalar(starts[i]), shape)))
    update = transposed(update, (*axes, *rest))
    return emit("scatter", x, update, *indices, axes=tuple(axes), mode="set")


# ---- arrays of indices


def _is_index(entry: Entry) -> bool:
    """Whether an entry counts as an index array beside others: arrays and numbers do."""
    return isinstance(entry, Pick) or (isinstance(entry, Span) and entry.dropped)


def _advanced(plan: Plan) -> tuple[list[Span], list[int], list[Tracer]]:
    """The slices, the indexed axes and the index arrays, of one shape and dtype."""
    sliced = [s for s in plan.spans if not s.dropped]
    axes, indices = [], []
    for entry in plan.entries:
        if isinstance(entry, Pick):
            axes.append(entry.axis)
            indices.append(entry.index)
        elif isinstance(entry, Span) and entry.dropped:
            axes.append(entry.axis)
            indices.append(_scalar(entry.start))
    if len({i.element for i in indices}) > 1:
        indices = [astype(i, i64) for i in indices]
    return sliced, axes, broadcast_args(*indices)


def _layout(plan: Plan, index_rank: int) -> tuple[list[int], list[int]]:
    """How a gather's result (index axes, then slices) is permuted, and where new axes go.

    Index arrays beside each other leave their axes in place; apart, they put them first.
    """
    places = [i for i, e in enumerate(plan.entries) if _is_index(e)]
    together = places == list(range(places[0], places[-1] + 1))
    others = [e for e in plan.entries if not _is_index(e)]
    lead = places[0] if together else 0
    slices = [index_rank + i for i in range(sum(isinstance(e, Span) for e in others))]
    before = sum(isinstance(e, Span) for e in others[:lead])
    perm = [*slices[:before], *range(index_rank), *slices[before:]]
    new = [i if i < lead else i + index_rank for i, e in enumerate(others) if e is NEW]
    return perm, new


def _with_new(dims: Sequence[DimLike], new: Sequence[int]) -> list[DimLike]:
    shape = list(dims)
    for at in sorted(new):
        shape.insert(at, 1)
    return shape


def _read_advanced(x: Tracer, plan: Plan) -> Tracer:
    sliced, axes, indices = _advanced(plan)
    part = _cut(x, sliced)
    picked = emit("gather", part, *indices, axes=tuple(axes))
    perm, new = _layout(plan, indices[0].ndim)
    picked = transposed(picked, perm)
    return reshaped(picked, _with_new(picked.dims, new))


def _written_advanced(x: Tracer, plan: Plan, value: Any, mode: str) -> Tracer:
    if not plan.picks and not any(s.dropped for s in plan.spans):
        return _combined(x, plan, value, mode)
    sliced, axes, indices = _advanced(plan)
    part = _cut(x, sliced)
    perm, new = _layout(plan, indices[0].ndim)
    rest = [part.dims[i] for i in range(x.ndim) if i not in axes]
    plain = [*indices[0].dims, *rest]
    permuted = [plain[i] for i in perm]
    update = reshaped(fitted(x, value, _with_new(permuted, new)), permuted)
    update = transposed(update, [int(i) for i in np.argsort(perm)])
    result = emit("scatter", part, update, *indices, axes=tuple(axes), mode=mode)
    if part is x:
        return result
    spans = {s.axis: s for s in sliced}
    full = [spans.get(i) or Span(i, 0, d) for i, d in enumerate(x.dims)]
    return written_basic(x, Plan(tuple(full)), result)


def _combined(x: Tracer, plan: Plan, value: Any, mode: str) -> Tracer:
    """A combining write at slices, where no element is met twice."""
    shape = shape_of(plan, x)
    update = emit(mode, read_basic(x, plan), fitted(x, value, shape))
    return written_basic(x, plan, update)
