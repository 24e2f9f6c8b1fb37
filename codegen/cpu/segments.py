"""Cutting a loop where a concat or a pad along the last axis passes from one part to the next.

Inside a segment it is known which operand is read, so that there is nothing to compare, mask or
select: a roll, a join or a border costs what a copy does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import pairwise

from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Op, Value
from graphmill.records import record

MOST = 6  # segments that a loop is written out for
OUTSIDE = -1  # the part of a pad that is padding


@record
class Segment:
    """Positions `low … high - 1` of the last axis, and the part each cut op takes there."""

    low: DimLike
    high: DimLike
    parts: Mapping[Op, int] = field(default_factory=dict)


def segments(block: Block, shape: Sequence[DimLike]) -> list[Segment]:
    """The segments of the last axis of `shape`, which the block's yields have; in order.

    One, without parts, where nothing is cut or where it would be too many.
    """
    size = shape[-1]
    whole = [Segment(0, size)]
    cuts = {op: _parts(op) for op in _cut_ops(block, len(shape))}
    if len(cuts) == 1:
        ((op, parts),) = cuts.items()
        found = [Segment(low, high, {op: number}) for low, high, number in parts]
        return found if len(found) <= MOST else whole
    flat = [(low, high) for parts in cuts.values() for low, high, _ in parts]
    if not cuts or not all(isinstance(edge, int) for part in flat for edge in part):
        return whole
    edges: list[int] = sorted({edge for part in flat for edge in part if isinstance(edge, int)})
    if len(edges) > MOST + 1:
        return whole
    return [
        Segment(low, high, {op: _part_at(low, parts) for op, parts in cuts.items()})
        for low, high in pairwise(edges)
    ]


Part = tuple[DimLike, DimLike, int]


def _part_at(position: int, parts: Sequence[Part]) -> int:
    return next(n for low, high, n in parts if low <= position < high)  # type: ignore[operator]


def _parts(op: Op) -> list[Part]:
    """Where the parts of a concat or a pad lie along its last axis, but for empty ones."""
    found: list[Part] = []
    start: DimLike = 0
    if op.name == "concat":
        for number, operand in enumerate(op.operands):
            found.append((start, start + operand.shape[-1], number))
            start = start + operand.shape[-1]
    else:
        low, inner = op.attrs["low"][-1], op.operands[0].shape[-1]
        size = op.result.shape[-1]
        found = [(0, low, OUTSIDE), (low, low + inner, 0), (low + inner, size, OUTSIDE)]
    return [part for part in found if part[0] != part[1]]


def _cut_ops(block: Block, rank: int) -> list[Op]:
    """The concats and pads along the last axis that are read at the loop's positions alone."""
    found = [op for op in block.ops if _is_cut(op) and len(op.result.shape) == rank]
    return [op for op in found if op.result.uses and _read_where_stored(op.result)]


def _read_where_stored(value: Value) -> bool:
    """Whether element i of a yield needs, of `value`, positions on the last axis like i's only."""
    return all(
        user.definition.terminator or (_passes(user, value) and _read_where_stored(user.result))
        for user in value.users
    )


def _passes(user: Op, value: Value) -> bool:
    """Whether `user` reads `value` at its own position of the last axis."""
    if user.definition.fusion == "elementwise" or user.name == "concat":
        return not _is_cut(user)
    return user.name == "pad" and value is user.operands[0] and not _shifts(user)


def _is_cut(op: Op) -> bool:
    if op.name == "concat":
        return bool(op.attrs["axis"] == len(op.result.shape) - 1)
    if op.name != "pad" or op.attrs["interior"][-1] != 0:
        return False
    low, high = op.attrs["low"][-1], op.attrs["high"][-1]
    known = isinstance(low, int) and isinstance(high, int) and low >= 0 and high >= 0
    return known and (low, high) != (0, 0)


def _shifts(op: Op) -> bool:
    """Whether a pad moves its operand along the last axis."""
    return any(op.attrs[name][-1] != 0 for name in ("low", "high", "interior"))
