"""Products of which an operand is computed by groups of the summed axis.

Quantised weights, and values by blocks, have a scale for every 32 or 128 values of k, and two
values of 4 bits in a byte. In NumPy that takes a reshape (or `repeat`, or `stack`) before the
product, for which the operand would have to be stored as floats. Over an axis cut into groups and
their members the same numbers are computed elementwise, so that the product can do it as it packs
the operand (`prologue`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import cast

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Function, Op, Value
from graphmill.passes.dce import remove_dead
from graphmill.passes.manager import register_pass
from graphmill.passes.prologue import is_operand_cast
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count
from graphmill.passes.structure import emit_like

PARTS = 2  # that may be concatenated along k: each is a product of its own
MOST_OPS = 24

Build = Callable[[Builder], Value]


@register_pass("groups")
def groups(function: Function) -> Function:
    """Cuts the summed axis of a product where one of its matrices is computed by groups.

    After it, reshapes that only serve an operand of a product are axes of that product;
    concatenations that only serve the right one are products of parts that are added up.
    """
    if not any(op.name == "dot_general" for op in function.walk()):
        return function
    function = function.clone()
    rewrite(function.block, _visit)
    remove_dead(function.block)
    return function


def _visit(op: Op, b: Builder) -> Replacement:
    if op.name != "dot_general":
        return None
    found = _by_groups(op, 1, b)
    return _by_groups(op, 0, b) if found is None else found


def _by_groups(op: Op, side: int, b: Builder) -> Value | None:
    """The product where operand `side` is computed by groups."""
    attrs, value, other = op.attrs, op.operands[side], op.operands[1 - side]
    (mine, its), axis = ("xy", "yx")[side], attrs["xy"[side] + "_contract"]
    if attrs["x_batch"] or len(axis) != 1 or not _is_alone(value):
        return None
    cut = _Cut.of(value)
    if cut is None or (cut.joined and not side):
        return None
    summed = cut.within(value, axis[0])
    if cut.joined and cut.joined not in summed:
        return None
    built = [cut.build(value, part) for part in range(cut.sizes[cut.joined] if cut.joined else 1)]
    kept = [top for top in summed if top != cut.joined]
    if None in built:
        return None
    (along,) = attrs[f"{its}_contract"]
    sizes = [cut.sizes[t] for t in summed]
    own = None if cut.joined else _alike_cut(other, along, sizes)
    first = cut.kept.index(kept[0])
    start = along if own is None else own.kept.index(own.within(other, along)[0])
    axes = {
        f"{mine}_contract": tuple(range(first, first + len(kept))),
        f"{its}_contract": tuple(range(start, start + len(kept))),
    }
    count("products by groups")
    total: Value | None = None
    for part, build in enumerate(built):
        if own is not None and (made := own.build(other, 0)) is not None:
            left = made(b)
        else:
            left = _left(b, other, along, sizes, cut.joined, summed, part)
        pair = [left, cast(Build, build)(b)]
        value = b.op("dot_general", *(pair if side else pair[::-1]), **(attrs | axes))
        total = value if total is None else b.op("add", total, value)
    assert total is not None
    return b.reshape(total, op.result.shape)


def _is_alone(value: Value) -> bool:
    """Whether one product reads an array that is computed, and nothing else does."""
    return value.op is not None and len(value.uses) == 1 and value.tensor.rank > 1


def _alike_cut(other: Value, axis: int, sizes: Sequence[int]) -> _Cut | None:
    """The cut of the other operand, computed as well, with its summed axis cut into `sizes`."""
    if not _is_alone(other):
        return None
    cut = _Cut.of(other, (axis, sizes))
    if cut is None or cut.joined or cut.build(other, 0) is None:
        return None
    return cut if [cut.sizes[top] for top in cut.within(other, axis)] == list(sizes) else None


def _left(
    b: Builder, x: Value, axis: int, sizes: Sequence[int], joined: int, summed: Sequence[int],
    part: int,
) -> Value:  # fmt: skip
    """The other operand with its summed axis cut alike, and of it what meets one part."""
    if x.op is not None and is_operand_cast(x.op):  # stays the product's own
        inner = _left(b, x.op.operands[0], axis, sizes, joined, summed, part)
        return b.cast(inner, x.tensor.dtype)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    x = b.reshape(x, [*before, *sizes, *after])
    if not joined:
        return x
    return _taken(b, x, axis + summed.index(joined), part)


def _taken(b: Builder, x: Value, axis: int, part: int) -> Value:
    """The elements at position `part` of an axis, without that axis."""
    start, stop = [0] * x.tensor.rank, list(x.shape)
    start[axis], stop[axis] = part, part + 1
    x = b.op("slice", x, start=tuple(start), stop=tuple(stop), step=(1,) * x.tensor.rank)
    return b.reshape(x, [*x.shape[:axis], *x.shape[axis + 1 :]])


class _Cut:
    """The finest cut of an array's axes that all shapes its computation goes through share.

    An axis is named by its top, the elements from one end of it to the other: stride times size.
    `joined` is the axis along which two parts are concatenated, 0 if there is none.
    """

    def __init__(self, tops: Sequence[int], joined: int) -> None:
        self.sizes = {a: a // c for a, c in pairwise(tops)}
        self.joined = joined
        self.kept = [top for top in self.sizes if top != joined]
        self.shape = [self.sizes[top] for top in self.kept]

    @staticmethod
    def of(value: Value, wanted: tuple[int, Sequence[int]] | None = None) -> _Cut | None:
        """The cut for `value`, one axis into `wanted` sizes; None if none fits or is needed."""
        tops: set[int] = set()
        joins: set[int] = set()
        ops: list[Op] = []
        waiting = [value]
        while waiting and len(ops) <= MOST_OPS:
            this = waiting.pop()
            if not this.tensor.is_static or 0 in this.shape:
                return None
            shape = cast(tuple[int, ...], this.shape)
            if wanted is not None and this is value:
                axis, sizes = wanted
                parts = [prod(sizes[i:]) for i in range(len(sizes))]
                tops |= {part * prod(shape[axis + 1 :]) for part in parts}
            tops |= {prod(shape[i:]) for i in range(len(shape) + 1)}
            if this.op is None:
                continue
            ops.append(this.op)
            if _is_join(this.op):
                below = prod(shape[this.op.attrs["axis"] + 1 :])
                joins.add(below * shape[this.op.attrs["axis"]])
                tops.add(below * shape[this.op.attrs["axis"]] // PARTS)
            elif this.op.name == "reshape" or this.op.definition.fusion == "elementwise":
                waiting += this.op.operands
        ordered = sorted(tops, reverse=True)
        fits = not any(a % c for a, c in pairwise(ordered)) and len(joins) <= 1 and not waiting
        cut = wanted or joins or any(op.name == "reshape" for op in ops)
        if not fits or not cut or not any(_widens(op) for op in ops):
            return None
        return _Cut(ordered, next(iter(joins), 0))

    def within(self, value: Value, axis: int) -> list[int]:
        """The axes that one axis of `value` is cut into."""
        shape = cast(tuple[int, ...], value.shape)
        top, bottom = prod(shape[axis:]), prod(shape[axis + 1 :])
        return [t for t in self.sizes if bottom < t <= top]

    def build(self, value: Value, part: int) -> Build | None:
        """What computes one part of `value` in the shape of the cut; None if that needs a copy."""
        op = value.op
        if op is not None and op.name == "reshape":
            return self.build(op.operands[0], part)
        if op is not None and op.definition.fusion == "elementwise":
            return _alike(op, [self.build(v, part) for v in op.operands])
        if op is not None and op.name == "broadcast":
            return self._broadcast(op, part)
        if op is not None and _is_join(op):
            return _reshaped(op.operands[part], self.shape)
        if self.joined:
            return None
        return lambda b: b.reshape(value, self.shape)

    def _broadcast(self, op: Op, part: int) -> Build:
        (operand,) = op.operands
        axes: list[int] = []
        for dim, axis in zip(operand.shape, op.attrs["axes"], strict=True):
            axes += self.within(op.result, axis) if dim == op.attrs["shape"][axis] else []
        at = [self.kept.index(top) for top in axes if top != self.joined]

        def build(b: Builder) -> Value:
            value = b.reshape(operand, [self.sizes[top] for top in axes])
            if self.joined in axes:
                value = _taken(b, value, axes.index(self.joined), part)
            return b.broadcast(value, self.shape, at)

        return build


def _widens(op: Op) -> bool:
    """Whether an op makes an array larger by its dtype: what is worth avoiding."""
    return op.name == "cast" and op.operands[0].tensor.dtype.bits < op.result.tensor.dtype.bits


def _is_join(op: Op) -> bool:
    """Whether an op puts equal parts behind each other."""
    equal = len({v.shape for v in op.operands}) == 1
    return op.name == "concat" and len(op.operands) == PARTS and equal


def _reshaped(value: Value, shape: Sequence[int]) -> Build:
    """What computes `value` in another shape, elementwise as far as it is computed so."""
    op = value.op
    if op is not None and op.name == "reshape":
        return _reshaped(op.operands[0], shape)
    if op is not None and op.definition.fusion == "elementwise":
        made = _alike(op, [_reshaped(v, shape) for v in op.operands])
        assert made is not None
        return made
    if op is not None and op.name == "broadcast" and not op.operands[0].shape:
        return lambda b: b.broadcast(op.operands[0], shape, ())
    return lambda b: b.reshape(value, shape)


def _alike(op: Op, operands: Sequence[Build | None]) -> Build | None:
    if None in operands:
        return None
    return lambda b: emit_like(op, [cast(Build, build)(b) for build in operands], b)
