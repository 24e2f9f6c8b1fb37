"""Merging adjacent axes of a fused region, so that loops are long and few."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from graphmill.codegen.cpu.segments import segments
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Block, Op, Value, clone_op
from graphmill.ir.types import TensorType


def collapse(block: Block, full: Sequence[DimLike], reduced: Collection[int] = ()) -> Block:
    """A copy of `block` in which axes that every access walks together are one axis.

    `full` is the kernel's full shape and `reduced` its reduced axes. The block comes back as it
    is when an op inside looks at single axes (a slice, a transpose, a strided input).
    """
    groups = _groups(block, tuple(full), tuple(sorted(reduced)))
    if groups is None or len(groups) == len(full):
        return block
    return _rewrite(block, tuple(full), tuple(sorted(reduced)), groups)


def _groups(
    block: Block, full: tuple[DimLike, ...], reduced: tuple[int, ...]
) -> list[list[int]] | None:
    kept = tuple(d for i, d in enumerate(full) if i not in reduced)
    cuts = {i for i in range(1, len(full)) if (i in reduced) != (i - 1 in reduced)}
    if any(isinstance(a.type, TensorType) and a.type.layout for a in block.args):
        return None
    for op in block.ops:
        if op.definition.terminator or op.name == "reduce":
            if op.name == "reduce" and tuple(op.operands[0].shape) != full:
                return None
        elif op.name == "broadcast":
            found = _broadcast_cuts(op, full, kept, reduced)
            if found is None:
                return None
            cuts |= found
        elif op.name == "constant":
            if op.result.shape not in ((), full):
                return None
        elif op.definition.family != "elementwise":
            return None
    for value in [*block.args, *(r for op in block.ops for r in op.results)]:
        whole = tuple(value.shape) in (full, kept, ())
        if not whole and any(user.name != "broadcast" for user in value.users):
            return None
    groups: list[list[int]] = []
    for axis in range(len(full)):
        if axis == 0 or axis in cuts:
            groups.append([axis])
        else:
            groups[-1].append(axis)
    return groups


def _broadcast_cuts(
    op: Op, full: tuple[DimLike, ...], kept: tuple[DimLike, ...], reduced: tuple[int, ...]
) -> set[int] | None:
    """Where the axes of a broadcast's result (in terms of the full shape) must stay apart."""
    shape, source, axes = tuple(op.result.shape), op.operands[0].shape, op.attrs["axes"]
    if shape == full:
        names = list(range(len(full)))
    elif shape == kept:
        names = [i for i in range(len(full)) if i not in reduced]
    else:
        return None
    mapped = {
        axis for dim, axis in zip(source, axes, strict=True) if not (dim == 1 and shape[axis] != 1)
    }
    cuts = set()
    for i in range(1, len(names)):
        if (i in mapped) != (i - 1 in mapped):
            cuts.add(names[i])
    return cuts


def _rewrite(
    block: Block, full: tuple[DimLike, ...], reduced: tuple[int, ...], groups: list[list[int]]
) -> Block:
    kept_groups = [g for g in groups if g[0] not in reduced]
    kept = tuple(d for i, d in enumerate(full) if i not in reduced)
    new_full = tuple(product(full[i] for i in g) for g in groups)
    new_kept = tuple(product(full[i] for i in g) for g in kept_groups)
    new_reduced = tuple(i for i, g in enumerate(groups) if g[0] in reduced)
    shapes = {full: new_full, kept: new_kept, (): ()}
    if full == kept:
        shapes[full] = new_full

    def merged_axes(shape: tuple[DimLike, ...]) -> list[list[int]]:
        """Groups of the axes of a full or kept shape, in its own numbering."""
        if shape == full:
            return groups
        numbers = {axis: i for i, axis in enumerate(a for g in kept_groups for a in g)}
        return [[numbers[a] for a in g] for g in kept_groups]

    sources: dict[Value, tuple[tuple[DimLike, ...], tuple[int, ...]]] = {}
    for op in block.ops:
        if op.name != "broadcast":
            continue
        operand = op.operands[0]
        at = dict(zip(op.attrs["axes"], operand.shape, strict=True))
        shape, axes = [], []
        for number, group in enumerate(merged_axes(tuple(op.result.shape))):
            present = [a for a in group if a in at]
            if present:
                shape.append(product(at[a] for a in present))
                axes.append(number)
        sources[operand] = (tuple(shape), tuple(axes))
    copy, mapping = Block(), {}
    for arg in block.args:
        shape_ = shapes.get(tuple(arg.shape)) if arg not in sources else sources[arg][0]
        assert shape_ is not None
        mapping[arg] = copy.add_arg(arg.tensor.with_shape(shape_), arg.name)
    for op in block.ops:
        new = copy.append(clone_op(op, mapping))
        if op.name == "broadcast":
            new.attrs["shape"] = shapes[tuple(op.result.shape)]
            new.attrs["axes"] = sources[op.operands[0]][1]
        elif op.name == "reduce":
            new.attrs["axes"] = new_reduced
        elif op.name == "constant" and op.result.shape:
            new.attrs["value"] = op.attrs["value"].reshape(new_full)
        for old, result in zip(op.results, new.results, strict=True):
            own = shapes.get(tuple(old.shape))
            if old in sources:
                own = sources[old][0]
            assert own is not None
            result.type = old.tensor.with_shape(own)
    return copy


def collapse_joined(block: Block, full: Sequence[DimLike]) -> Block:
    """A copy of `block`, which joins arrays along an axis before the last, with that axis last.

    The axes after it become part of it, so that a join copies long runs. The block comes back as it
    is where an op looks at other single axes, or where the loop would not be cut at the parts.
    """
    axes = {op.attrs["axis"] for op in block.ops if op.name == "concat"}
    axis = axes.pop() if len(axes) == 1 else len(full)
    if axis >= len(full) - 1 or not all(_walks_along(op, axis) for op in block.ops):
        return block
    values = [*block.args, *(r for op in block.ops for r in op.results)]
    if not all(_fits(value, full, axis) for value in values):
        return block
    inner, outer = product(full[axis + 1 :]), product(full[:axis])
    before: tuple[DimLike, ...] = (outer,) if axis else ()

    def merged(shape: Sequence[DimLike]) -> tuple[DimLike, ...]:
        return (*before, shape[axis] * inner) if shape else ()

    copy, mapping = Block(), dict[Value, Value]()
    for arg in block.args:
        mapping[arg] = copy.add_arg(arg.tensor.with_shape(merged(arg.shape)), arg.name)
    for op in block.ops:
        new = copy.append(clone_op(op, mapping))
        _renumber(new, axis, len(before), merged)
        for old, result in zip(op.results, new.results, strict=True):
            result.type = old.tensor.with_shape(merged(old.shape))
    return copy if len(segments(copy, merged(full))) > 1 else block


def _walks_along(op: Op, axis: int) -> bool:
    """Whether an op leaves the axes other than `axis` alone."""
    if op.name == "slice":
        shape, attrs = op.operands[0].shape, op.attrs
        others = [i for i in range(len(shape)) if i != axis]
        whole = all(attrs["start"][i] == 0 and attrs["stop"][i] == shape[i] for i in others)
        return whole and all(step == 1 for step in attrs["step"])
    if op.name == "broadcast":
        return not op.operands[0].shape
    plain = op.definition.terminator or op.definition.family == "elementwise"
    return plain or op.name in ("concat", "constant")


def _fits(value: Value, full: Sequence[DimLike], axis: int) -> bool:
    shape = value.shape
    if not shape:
        return True
    same = len(shape) == len(full) and all(
        a == b for i, (a, b) in enumerate(zip(shape, full, strict=False)) if i != axis
    )
    return same and not value.tensor.layout


def _renumber(
    op: Op, axis: int, last: int, merged: Callable[[Sequence[DimLike]], tuple[DimLike, ...]]
) -> None:
    """Set the attributes of a copied op that name axes, sizes or values."""
    if op.name == "concat":
        op.attrs["axis"] = last
    elif op.name == "slice":
        op.attrs["step"] = (1,) * (last + 1)
        op.attrs["start"] = (*(0,) * last, merged(op.attrs["start"])[-1])
        op.attrs["stop"] = merged(op.attrs["stop"])
    elif op.name == "broadcast":
        op.attrs["shape"] = merged(op.attrs["shape"])
    elif op.name == "constant" and op.result.shape:
        op.attrs["value"] = op.attrs["value"].reshape(merged(op.result.shape))
