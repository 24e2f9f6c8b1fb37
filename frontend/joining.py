"""Joining, splitting, repeating, rolling and padding arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import indexing, multiples, shaping
from graphmill.frontend.array_functions import implements
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_to,
    emit,
    promote_args,
)
from graphmill.frontend.describe import failure
from graphmill.frontend.shaping import reshaped, sliced, transposed
from graphmill.frontend.ufuncs import copied
from graphmill.ir.dims import DimLike, floordiv

# ---- joining


def _list(arrays: Any) -> list[Any]:
    if isinstance(arrays, Tracer):
        return list(arrays)
    # a number among them counts as an array: its dtype is not weak, as in NumPy
    listed = [np.asarray(a) if isinstance(a, bool | int | float | complex) else a for a in arrays]
    if not listed:
        raise failure("GM025", "no arrays to join", [], hint="pass at least one array.")
    return listed


@implements(np.concatenate)
def concatenate(
    arrays: Any, axis: Any = 0, dtype: Any = None, casting: str = "same_kind"
) -> Tracer:
    listed = _list(arrays)
    made = promote_args(*listed)
    if dtype is not None:
        made = [astype(m, dtype) for m in made]
    if axis is None:
        made = [reshaped(m, (m.type.size,)) for m in made]
    along = 0 if axis is None else ax.axis(axis, made[0].ndim, made[0])
    rest = [_without(m.dims, along) for m in made]
    if any(m.ndim != made[0].ndim for m in made) or any(r != rest[0] for r in rest):
        raise failure(
            "GM014", " and ".join(f"[{', '.join(map(str, m.dims))}]" for m in made), listed,
            why=f"arrays joined along axis {along} agree along all others.",
            hint="np.stack joins along a new axis; np.broadcast_to repeats.",
        )  # fmt: skip
    return copied(made[0]) if len(made) == 1 else emit("concat", *made, axis=along)


def _without(dims: Sequence[DimLike], axis: int) -> tuple[DimLike, ...]:
    return tuple(d for i, d in enumerate(dims) if i != axis)


@implements(np.stack)
def stack(arrays: Any, axis: Any = 0, *, dtype: Any = None, casting: str = "same_kind") -> Tracer:
    listed = _list(arrays)
    made = promote_args(*listed)
    if any(m.dims != made[0].dims for m in made):
        raise failure(
            "GM014", " and ".join(f"[{', '.join(map(str, m.dims))}]" for m in made), listed,
            why="stacked arrays have one shape.", hint="np.broadcast_arrays gives them one.",
        )  # fmt: skip
    at = ax.axis(axis, made[0].ndim + 1, made[0])
    shape = (*made[0].dims[:at], 1, *made[0].dims[at:])
    return concatenate([reshaped(m, shape) for m in made], at, dtype)


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Tracer:
    return concatenate([shaping.atleast_2d(a) for a in _list(tup)], 0, dtype)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Tracer:
    made = [shaping.atleast_1d(a) for a in _list(tup)]
    return concatenate(made, 0 if made[0].ndim == 1 else 1, dtype)


@implements(np.dstack)
def dstack(tup: Any) -> Tracer:
    return concatenate([shaping.atleast_3d(a) for a in _list(tup)], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Tracer:
    made = [as_tracer(a) for a in _list(tup)]
    return concatenate(
        [m if m.ndim >= 2 else reshaped(m, (m.type.size, 1)) for m in made], 1
    )  # fmt: skip


@implements(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Tracer:
    return concatenate([arr, values], axis)


@implements(np.block)
def block(arrays: Any) -> Tracer:
    depth, inner = 0, arrays
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]

    def join(part: Any, level: int) -> Tracer:
        if not isinstance(part, list):
            x = as_tracer(_list([part])[0])
            return reshaped(x, (1,) * (rank - x.ndim) + x.dims)
        return concatenate([join(p, level + 1) for p in part], rank - depth + level)

    rank = max(depth, _deepest(arrays))
    return join(arrays, 0)


def _deepest(part: Any) -> int:
    return max(map(_deepest, part)) if isinstance(part, list) else as_tracer(part).ndim


# ---- splitting (the parts are views)


def _part(x: Tracer, axis: int, start: DimLike, stop: DimLike) -> Tracer:
    from graphmill.frontend import sizes

    return indexing.get(
        x, (*(slice(None) for _ in range(axis)), slice(sizes.of(start), sizes.of(stop)))
    )


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Tracer]:
    x = as_tracer(ary)
    along = ax.axis(axis, x.ndim, x)
    size = x.dims[along]
    if isinstance(indices_or_sections, list | tuple | np.ndarray):
        points = [ax.dim(p) for p in indices_or_sections]
        bounds: list[Any] = [0, *points, None]
        from graphmill.frontend import sizes

        keys = [slice(sizes.of(a), None if b is None else sizes.of(b)) for a, b in pairwise(bounds)]
        lead = tuple(slice(None) for _ in range(along))
        return [indexing.get(x, (*lead, key)) for key in keys]
    count = ax.number(indices_or_sections, "the number of sections")
    if count <= 0:
        raise failure("GM025", f"{count} sections", [ary], hint="split into 1 or more.")
    edges: list[DimLike] = [0]
    for i in range(count):  # the first size % count parts have one element more
        edges.append(edges[-1] + floordiv(size - i + count - 1, count))
    return [_part(x, along, a, b) for a, b in pairwise(edges)]


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Tracer]:
    x = as_tracer(ary)
    if not isinstance(indices_or_sections, list | tuple | np.ndarray):
        size = x.dims[ax.axis(axis, x.ndim, x)]
        count = ax.number(indices_or_sections, "the number of sections")
        if count <= 0 or floordiv(size, count) * count != size:
            if count > 0:
                multiples.need(size, count)
            raise failure(
                "GM017",
                f"{size} elements into {count} equal parts",
                [ary],
                hint="np.array_split makes parts of different sizes.",
            )
    return array_split(x, indices_or_sections, axis)


@implements(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Tracer]:
    return split(ary, indices_or_sections, 0)


@implements(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Tracer]:
    return split(ary, indices_or_sections, 0 if as_tracer(ary).ndim == 1 else 1)


@implements(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Tracer]:
    return split(ary, indices_or_sections, 2)


if hasattr(np, "unstack"):

    @implements(np.unstack)
    def unstack(x: Any, /, *, axis: Any = 0) -> tuple[Tracer, ...]:
        return tuple(shaping.moveaxis(x, axis, 0))


# ---- repeating


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Tracer:
    x = as_tracer(a)
    if axis is None:
        x, axis = reshaped(x, (x.type.size,)), 0
    along = ax.axis(axis, x.ndim, x)
    if isinstance(repeats, list | tuple | np.ndarray) and np.size(repeats) > 1:
        size = x.dims[along]
        counts = np.asarray(repeats)
        if size != len(counts):
            raise failure(
                "GM014",
                f"{len(counts)} repeats for {size} elements",
                [a],
                hint="give one count per element, or one for all.",
            )
        places = np.repeat(np.arange(len(counts)), counts)
        return indexing.get(x, (*(slice(None) for _ in range(along)), places))
    count = ax.dim(int(np.reshape(repeats, ())) if isinstance(repeats, list | tuple | np.ndarray)
                   else repeats, "repeats")  # fmt: skip
    shape = (*x.dims[: along + 1], count, *x.dims[along + 1 :])
    axes = tuple(i for i in range(x.ndim + 1) if i != along + 1)
    spread = emit("broadcast", x, shape=shape, axes=axes)
    merged = (*x.dims[:along], x.dims[along] * count, *x.dims[along + 1 :])
    return reshaped(spread, merged)


@implements(np.tile)
def tile(A: Any, reps: Any) -> Tracer:
    x = as_tracer(A)
    given = [ax.dim(r, "reps") for r in (reps if isinstance(reps, tuple | list) else (reps,))]
    counts: list[DimLike] = [*(1 for _ in range(x.ndim - len(given))), *given]
    x = reshaped(x, (1,) * (len(counts) - x.ndim) + x.dims)
    shape = tuple(d for r, n in zip(counts, x.dims, strict=True) for d in (r, n))
    spread = emit("broadcast", x, shape=shape, axes=tuple(range(1, 2 * x.ndim, 2)))
    return reshaped(spread, [r * n for r, n in zip(counts, x.dims, strict=True)])


# ---- turning and rolling


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Tracer:
    x = as_tracer(m)
    turned = ax.axes(axis, x.ndim, x)
    every, back = slice(None), slice(None, None, -1)
    return indexing.get(x, tuple(back if i in turned else every for i in range(x.ndim)))


@implements(np.flipud)
def flipud(m: Any) -> Tracer:
    return flip(m, 0)


@implements(np.fliplr)
def fliplr(m: Any) -> Tracer:
    return flip(m, 1)


@implements(np.rot90)
def rot90(m: Any, k: Any = 1, axes: Any = (0, 1)) -> Tracer:
    x = as_tracer(m)
    i, j = (ax.axis(a, x.ndim, x) for a in axes)
    if i == j:
        raise failure("GM016", f"rot90 in the axes {tuple(axes)}", [m], hint="name two axes.")
    turns = ax.number(k, "k") % 4
    if turns == 0:
        return indexing.get(x, Ellipsis)
    if turns == 2:
        return flip(x, (i, j))
    if turns == 1:
        return shaping.swapaxes(flip(x, j), i, j)
    return flip(shaping.swapaxes(x, i, j), j)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Tracer:
    """Two slices joined for a known shift, a gather for a traced one."""
    x = as_tracer(a)
    if axis is None:
        flat = reshaped(x, (x.type.size,))
        return reshaped(roll(flat, shift, 0), x.dims)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,)
    if len(axes) != len(shifts):
        axes = tuple(axes) * (len(shifts) if len(axes) == 1 else 1)
        shifts = tuple(shifts) * (len(axes) if len(shifts) == 1 else 1)
    for one, along in zip(shifts, axes, strict=True):
        x = _rolled(x, one, ax.axis(along, x.ndim, x))
    return copied(x)


def _rolled(x: Tracer, shift: Any, axis: int) -> Tracer:
    size = x.dims[axis]
    if isinstance(shift, Tracer) or not isinstance(size, int):
        if not isinstance(shift, Tracer):
            shift = ax.number(shift, "shift")
        ramp = shaping.iota(size)
        from graphmill.frontend.core import dim_value
        from graphmill.frontend.ufuncs import evaluate

        count = evaluate(np.maximum, dim_value(size), 1)
        places = evaluate(np.remainder, evaluate(np.subtract, ramp, shift), count)
        return indexing.get(x, (*(slice(None) for _ in range(axis)), places))
    by = ax.number(shift, "shift") % size if size else 0
    if by == 0:
        return x
    return emit(
        "concat", sliced(x, axis, size - by, size), sliced(x, axis, 0, size - by), axis=axis
    )


# ---- padding


def _widths(pad_width: Any, rank: int, what: str = "pad_width") -> list[tuple[Any, Any]]:
    """One (before, after) pair per axis from NumPy's forms."""
    if isinstance(pad_width, dict):
        pairs: list[tuple[Any, Any]] = [(0, 0)] * rank
        for axis, width in pad_width.items():
            pairs[ax.axis(axis, rank)] = _widths(width, 1)[0]
        return pairs
    if not isinstance(pad_width, list | tuple | np.ndarray):
        return [(pad_width, pad_width)] * rank
    listed = pad_width.tolist() if isinstance(pad_width, np.ndarray) else list(pad_width)
    if not any(isinstance(w, list | tuple) for w in listed):
        if len(listed) == 1:
            return [(listed[0], listed[0])] * rank
        if len(listed) == 2:
            return [(listed[0], listed[1])] * rank
    pairs = [tuple(w) * (2 if len(w) == 1 else 1) for w in listed]
    if len(pairs) == 1:
        return pairs * rank
    if len(pairs) != rank:
        raise failure(
            "GM014",
            f"{what} for {len(pairs)} axes of {rank}",
            [],
            hint="give one (before, after) pair per axis.",
        )
    return pairs


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Tracer:
    """Modes constant, edge, reflect, symmetric, wrap, empty, maximum, minimum, mean."""
    x = copied(as_tracer(array))
    widths = [
        (ax.dim(a, "pad_width"), ax.dim(b, "pad_width")) for a, b in _widths(pad_width, x.ndim)
    ]
    values = options.pop("constant_values", 0)
    options.pop("reflect_type", None)
    if options or not isinstance(mode, str):
        raise failure(
            "GM011", f"np.pad({next(iter(options), 'mode')}=…)", [array], hint="leave it out."
        )
    if mode in ("constant", "empty"):
        return _padded(x, widths, _widths(values, x.ndim, "constant_values"))
    for axis, (before, after) in enumerate(widths):
        if mode in ("maximum", "minimum", "mean"):
            x = _padded_by_reduction(x, axis, before, after, mode)
        else:
            x = _padded_by_index(x, axis, before, after, mode)
    return x


def _padded(x: Tracer, widths: Sequence[Any], values: Sequence[Any]) -> Tracer:
    zeros = (0,) * x.ndim
    flat = [v for pair in values for v in pair]
    if not any(isinstance(v, Tracer) for v in flat) and len(set(flat)) == 1:
        low, high = (tuple(w[i] for w in widths) for i in (0, 1))
        value = astype(as_tracer(flat[0]), x.element)
        if all(w == 0 for w in (*low, *high)):
            return x
        return emit("pad", x, value, low=low, high=high, interior=zeros)
    for axis, (width, pair) in enumerate(zip(widths, values, strict=True)):
        for side in (0, 1):
            amount = [0, 0]
            amount[side] = width[side]
            low, high = (
                tuple(amount[i] if a == axis else 0 for a in range(x.ndim)) for i in (0, 1)
            )
            value = astype(as_tracer(pair[side]), x.element)
            x = emit("pad", x, value, low=low, high=high, interior=zeros)
    return x


def _padded_by_reduction(x: Tracer, axis: int, before: Any, after: Any, mode: str) -> Tracer:
    from graphmill.frontend import reductions

    name = {"maximum": "max", "minimum": "min", "mean": "mean"}[mode]
    row: Tracer = getattr(reductions, name)(x, axis, keepdims=True)
    if mode == "mean" and x.element.is_integer:
        from graphmill.frontend.ufuncs import evaluate

        row = evaluate(np.rint, row)
    row = astype(row, x.element)
    parts = [
        broadcast_to(row, [n if i == axis else d for i, d in enumerate(x.dims)])
        for n in (before, after)
    ]
    return emit("concat", parts[0], x, parts[1], axis=axis)


def _padded_by_index(x: Tracer, axis: int, before: Any, after: Any, mode: str) -> Tracer:
    size = x.dims[axis]
    if not all(isinstance(n, int) for n in (size, before, after)):
        raise failure(
            "GM005",
            f"np.pad(mode={mode!r}) along the dim {size}",
            [x],
            hint='mode="constant" takes symbolic sizes.',
        )
    known = {"edge", "reflect", "symmetric", "wrap"}
    if mode not in known:
        raise failure(
            "GM011",
            f"np.pad(mode={mode!r})",
            [x],
            hint=f"use constant, {', '.join(sorted(known))}.",
        )
    if before == after == 0:
        return x
    places = np.pad(np.arange(size), (before, after), mode=mode)  # type: ignore[call-overload, arg-type]
    return indexing.get(x, (*(slice(None) for _ in range(axis)), places))


@implements(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Tracer:
    """The elements left when those at known places are gone."""
    x = as_tracer(arr)
    if axis is None:
        x, axis = reshaped(x, (x.type.size,)), 0
    along = ax.axis(axis, x.ndim, x)
    size = x.dims[along]
    if not isinstance(size, int) or isinstance(obj, Tracer):
        raise failure(
            "GM022",
            "np.delete at places or of a size that is not known",
            [arr],
            hint="np.concatenate joins the slices to keep.",
        )
    places = np.delete(np.arange(size), obj)
    return indexing.get(x, (*(slice(None) for _ in range(along)), places))


@implements(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Tracer:
    """Values (one row each, or one for all) before a known place."""
    x = as_tracer(arr)
    if axis is None:
        x, axis = reshaped(x, (x.type.size,)), 0
    along = ax.axis(axis, x.ndim, x)
    size = x.dims[along]
    if not isinstance(obj, int) or not isinstance(size, int):
        raise failure(
            "GM022",
            "np.insert at places or into a size that is not known",
            [arr],
            hint="np.concatenate joins the parts.",
        )
    if not -size <= obj <= size:
        raise failure("GM020", f"np.insert at {obj} of {size}", [arr])
    at = obj + size if obj < 0 else obj
    v = astype(as_tracer(values), x.element)
    if v.ndim < x.ndim:
        shape = (*x.dims[:along], 1, *x.dims[along + 1 :])
        if x.ndim == 1:
            v = reshaped(v, (v.type.size,))
        else:
            rest = _without(x.dims, along)
            v = reshaped(broadcast_to(v, rest), shape)
    else:
        v = transposed(v, tuple(range(v.ndim)))
    return concatenate([sliced(x, along, 0, at), v, sliced(x, along, at, size)], along)
