"""Rules for ops that move elements: what is moved twice is moved once, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import i64
from graphmill.ir.graph import Op, Value
from graphmill.passes.rewrite import Replacement, structural


def _source(op: Op, name: str) -> Op | None:
    """The op that defines the first operand, when it is called `name`."""
    source = op.operands[0].op
    return source if source is not None and source.name == name else None


# ---- constants


@structural("constant")
def constant_to_broadcast(op: Op, builder: Builder) -> Replacement:
    """A larger constant of one repeated value is a broadcast."""
    array = op.attrs["value"]
    if array.size <= 1:
        return None
    flat = array.reshape(-1)
    first = flat[:1].tobytes()
    if flat[1:2].tobytes() != first or flat[-1:].tobytes() != first:
        return None
    bits = np.ascontiguousarray(flat).view(np.uint8).reshape(flat.size, -1)
    if not bool((bits == bits[0]).all()):
        return None
    return builder.full(array.shape, flat[0], op.result.tensor.dtype)


# ---- transpose


@structural("transpose")
def compose_transposes(op: Op, builder: Builder) -> Replacement:
    """x.T.T is one transpose, or none."""
    inner, perm = _source(op, "transpose"), op.attrs["perm"]
    if tuple(perm) == tuple(range(len(perm))):
        return op.operands[0]
    if inner is None:
        return None
    return builder.transpose(inner.operands[0], [inner.attrs["perm"][axis] for axis in perm])


@structural("transpose")
def transpose_to_reshape(op: Op, builder: Builder) -> Replacement:
    """A transpose that moves only axes of size 1 leaves the elements where they are."""
    shape, perm = op.operands[0].shape, op.attrs["perm"]
    long = [axis for axis in perm if shape[axis] != 1]
    if long != sorted(long) or op.operands[0].tensor.layout is not None:
        return None
    return builder.reshape(op.operands[0], op.result.shape)


@structural("transpose")
def transpose_of_broadcast(op: Op, builder: Builder) -> Replacement:
    """Transpose what is repeated, not the repetition."""
    inner = _source(op, "broadcast")
    if inner is None:
        return None
    perm, axes = op.attrs["perm"], inner.attrs["axes"]
    where = [perm.index(axis) for axis in axes]
    order = sorted(range(len(axes)), key=where.__getitem__)
    x = builder.transpose(inner.operands[0], order)
    return builder.broadcast(x, op.result.shape, sorted(where))


# ---- reshape


@structural("reshape")
def compose_reshapes(op: Op, builder: Builder) -> Replacement:
    """Only the last of several reshapes counts, and none that changes nothing."""
    x = op.operands[0]
    if tuple(x.shape) == tuple(op.result.shape):
        return x
    inner = _source(op, "reshape")
    return builder.reshape(inner.operands[0], op.result.shape) if inner is not None else None


@structural("reshape")
def reshape_of_broadcast(op: Op, builder: Builder) -> Replacement:
    """A reshape of a repeated scalar, or one that only adds or drops axes of size 1."""
    inner = _source(op, "broadcast")
    if inner is None:
        return None
    x, shape = inner.operands[0], op.result.shape
    if x.tensor.rank == 0:
        return builder.broadcast(x, shape, ())
    moved = unit_axes(inner.result.shape, shape)
    if moved is None or any(axis not in moved for axis in inner.attrs["axes"]):
        return None
    return builder.broadcast(x, shape, [moved[axis] for axis in inner.attrs["axes"]])


@structural("reshape")
def pick_from_axes(op: Op, builder: Builder) -> Replacement:
    """x[:, 3] reads x where it lies: a slice of one element whose axis goes is a gather."""
    inner = _source(op, "slice")
    if inner is None:
        return None
    x, start = inner.operands[0], inner.attrs["start"]
    kept = unit_axes(inner.result.shape, op.result.shape)
    if kept is None or len(kept) != op.result.tensor.rank:
        return None
    gone = [axis for axis in range(x.tensor.rank) if axis not in kept]
    if not all(isinstance(start[axis], int) for axis in gone):
        return None
    bounds = {
        key: tuple(v if axis in kept else whole for axis, (v, whole) in enumerate(pairs))
        for key, pairs in (
            ("start", [(a, 0) for a in start]),
            ("stop", list(zip(inner.attrs["stop"], x.shape, strict=True))),
            ("step", [(by, 1) for by in inner.attrs["step"]]),
        )
    }
    rest = builder.op("slice", x, **bounds)
    indices = [builder.constant(start[axis], i64) for axis in gone]
    return builder.op("gather", rest, *indices, axes=tuple(gone))


def unit_axes(a: Sequence[DimLike], b: Sequence[DimLike]) -> dict[int, int] | None:
    """Which axis of `b` each axis of `a` is, when the shapes differ in axes of size 1 alone."""
    long_a = [i for i, dim in enumerate(a) if dim != 1]
    long_b = [i for i, dim in enumerate(b) if dim != 1]
    if [a[i] for i in long_a] != [b[i] for i in long_b]:
        return None
    return dict(zip(long_a, long_b, strict=True))


# ---- broadcast


@structural("broadcast")
def compose_broadcasts(op: Op, builder: Builder) -> Replacement:
    """Repeating twice is repeating once; repeating once over is nothing."""
    x = op.operands[0]
    if tuple(x.shape) == tuple(op.result.shape):
        return x
    inner = _source(op, "broadcast")
    if inner is None or any(dim == 1 for dim in inner.operands[0].shape):
        return None
    kept = inner.attrs["axes"]
    axes = [op.attrs["axes"][axis] for axis in kept]
    return builder.broadcast(inner.operands[0], op.result.shape, axes)


@structural("broadcast")
def broadcast_without_units(op: Op, builder: Builder) -> Replacement:
    """Axes of size 1 are dropped before repeating: [n, 1] to [n, m] is [n] to [n, m]."""
    x = op.operands[0]
    if all(dim != 1 for dim in x.shape) or x.tensor.layout is not None:
        return None
    inner = _source(op, "reshape")
    source = x if inner is None else inner.operands[0]
    axes = _places_of_reduced(source, op)
    if axes is not None:
        return None if source is x else builder.broadcast(source, op.result.shape, axes)
    keep = [i for i, dim in enumerate(x.shape) if dim != 1]
    small = builder.reshape(x, [x.shape[i] for i in keep])
    return builder.broadcast(small, op.result.shape, [op.attrs["axes"][i] for i in keep])


def _places_of_reduced(source: Value, op: Op) -> list[int] | None:
    """Where the axes of a computed value go that `op` repeats, when those of size 1 stay so.

    The sums of the rows of [1, n, m] are [1, n]: they stand beside what they were made of.
    """
    if source.op is None or source.op.name in ("constant", "reshape", "slice"):
        return None
    x, shape = op.operands[0], op.result.shape
    moved = unit_axes(source.shape, x.shape)
    if moved is None:
        return None
    known = [op.attrs["axes"][moved[i]] if i in moved else None for i in range(len(source.shape))]
    found: list[int] = []
    for i, place in enumerate(known):
        first = found[-1] + 1 if found else 0
        last = next((k for k in known[i:] if k is not None), len(shape))
        if place is None:
            place = next((k for k in range(first, last) if shape[k] == 1), None)
        if place is None or place < first:
            return None
        found.append(place)
    return found


# ---- slices, pads, concatenations, reversals


@structural("slice")
def slice_of_all(op: Op, builder: Builder) -> Replacement:
    """A slice that takes everything."""
    x = op.operands[0]
    whole = all(
        a == 0 and b == dim and by == 1
        for a, b, by, dim in zip(op.attrs["start"], op.attrs["stop"], op.attrs["step"], x.shape,
                                 strict=True)
    )  # fmt: skip
    return x if whole else None


@structural("slice")
def compose_slices(op: Op, builder: Builder) -> Replacement:
    """A slice of a slice is a slice."""
    inner = _source(op, "slice")
    if inner is None:
        return None
    shape, outer_step = op.result.shape, op.attrs["step"]
    begin, step = inner.attrs["start"], inner.attrs["step"]
    static = all(isinstance(dim, int) and dim > 0 for dim in shape)
    if not static and any(by != 1 for by in (*step, *outer_step)):
        return None
    axes = range(len(shape))
    start = tuple(begin[i] + op.attrs["start"][i] * step[i] for i in axes)
    steps = tuple(step[i] * outer_step[i] for i in axes)
    # one past the last element taken, which lies inside both
    stop = tuple(start[i] + (shape[i] - 1) * steps[i] + 1 for i in axes)
    return builder.op("slice", inner.operands[0], start=start, stop=stop, step=steps)


@structural("slice")
def slice_of_concat(op: Op, builder: Builder) -> Replacement:
    """A slice that lies in one part of a concatenation is a slice of that part."""
    inner = _source(op, "concat")
    if inner is None:
        return None
    axis, begin = inner.attrs["axis"], 0
    low, high = op.attrs["start"][axis], op.attrs["stop"][axis]
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    for part in inner.operands:
        size = part.shape[axis]
        if not isinstance(size, int):
            return None
        if begin <= low and high <= begin + size and low < high:
            start, stop = list(op.attrs["start"]), list(op.attrs["stop"])
            start[axis], stop[axis] = low - begin, high - begin
            return builder.op(
                "slice", part, start=tuple(start), stop=tuple(stop), step=op.attrs["step"]
            )
        begin += size
    return None


@structural("slice")
def slice_of_broadcast(op: Op, builder: Builder) -> Replacement:
    """Slice what is repeated, and repeat less."""
    inner = _source(op, "broadcast")
    if inner is None or any(dim == 1 for dim in inner.operands[0].shape):
        return None
    x, axes = inner.operands[0], inner.attrs["axes"]
    if axes:
        picked = {k: tuple(op.attrs[k][axis] for axis in axes) for k in ("start", "stop", "step")}
        x = builder.op("slice", x, **picked)
    return builder.broadcast(x, op.result.shape, axes)


@structural("pad")
def pad_of_nothing(op: Op, builder: Builder) -> Replacement:
    """A pad of width 0 on all sides."""
    widths = [*op.attrs["low"], *op.attrs["high"], *op.attrs["interior"]]
    return op.operands[0] if all(width == 0 for width in widths) else None


@structural("concat")
def concat_of_concat(op: Op, builder: Builder) -> Replacement:
    """One operand is itself; empty ones go; concatenations along the same axis are one."""
    axis = op.attrs["axis"]
    if len(op.operands) == 1:
        return op.operands[0]
    parts: list[Value] = []
    for operand in op.operands:
        source = operand.op
        if operand.shape[axis] == 0:
            continue
        if source is not None and source.name == "concat" and source.attrs["axis"] == axis:
            parts += source.operands
        else:
            parts.append(operand)
    if parts == op.operands or not parts:
        return None
    return builder.op("concat", *parts, axis=axis)


@structural("concat")
def concat_of_slices(op: Op, builder: Builder) -> Replacement:
    """Neighbouring slices of one array put together again are one slice."""
    axis, first = op.attrs["axis"], op.operands[0].op
    if first is None or first.name != "slice":
        return None
    end = first.attrs["stop"][axis]
    for operand in op.operands[1:]:
        other = operand.op
        if other is None or other.name != "slice" or other.operands != first.operands:
            return None
        same = all(
            other.attrs[key][i] == first.attrs[key][i]
            for key in ("start", "stop", "step")
            for i in range(op.result.tensor.rank)
            if i != axis
        )
        if not same or other.attrs["start"][axis] != end or other.attrs["step"][axis] != 1:
            return None
        end = other.attrs["stop"][axis]
    if first.attrs["step"][axis] != 1:
        return None
    stop = tuple(end if i == axis else s for i, s in enumerate(first.attrs["stop"]))
    return builder.op(
        "slice", first.operands[0], start=first.attrs["start"], stop=stop, step=first.attrs["step"]
    )


@structural("reverse")
def compose_reversals(op: Op, builder: Builder) -> Replacement:
    """Reversing twice is nothing; an axis of size 1 has one order."""
    x, axes = op.operands[0], [a for a in op.attrs["axes"] if op.result.shape[a] != 1]
    inner = _source(op, "reverse")
    if inner is not None:
        x, axes = inner.operands[0], sorted(set(axes) ^ set(inner.attrs["axes"]))
    elif len(axes) == len(op.attrs["axes"]) and axes:
        return None
    return builder.op("reverse", x, axes=tuple(axes)) if axes else x


@structural("dynamic_slice")
def dynamic_slice_of_all(op: Op, builder: Builder) -> Replacement:
    """A window as large as the array is the array."""
    x = op.operands[0]
    return x if tuple(op.attrs["sizes"]) == tuple(x.shape) else None


@structural("dynamic_slice")
def dynamic_slice_to_slice(op: Op, builder: Builder) -> Replacement:
    """A window at a known place is a slice."""
    x = op.operands[0]
    starts: list[int] = []
    for start, size, dim in zip(op.operands[1:], op.attrs["sizes"], x.shape, strict=True):
        source = start.op
        if source is None or source.name != "constant":
            return None
        if not isinstance(size, int) or not isinstance(dim, int):
            return None
        first = int(source.attrs["value"])
        starts.append(min(max(first + dim if first < 0 else first, 0), dim - size))
    stops = tuple(s + size for s, size in zip(starts, op.attrs["sizes"], strict=True))
    return builder.op("slice", x, start=tuple(starts), stop=stops, step=(1,) * len(starts))


@structural("dynamic_update_slice")
def update_of_all(op: Op, builder: Builder) -> Replacement:
    """Replacing the whole array gives the replacement."""
    x, update = op.operands[:2]
    return update if tuple(x.shape) == tuple(update.shape) else None


@structural("copy")
def copy_is_value(op: Op, builder: Builder) -> Replacement:
    """Values do not change, so a copy is the value; the memory pass makes the copies needed."""
    return op.operands[0]
