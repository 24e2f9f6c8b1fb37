"""Loops that Python unrolled while the function was traced are made loops again.

`for i in range(1000): a[i] = f(a[i - 1])` is traced as a thousand copies of its body. Where
neighbouring stretches of ops are alike but for numbers (where a slice starts, `0.1 * i`), and read
only what the stretch before them made, they become one `scan`: the numbers are a table that it
runs over, what a stretch leaves to the next is carried. Inner loops are found first, then the
loops around them. It is the same computation, op by op.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.dtypes import dtype, i64
from graphmill.ir.graph import Block, Function, Op, Region, Value, clone_op
from graphmill.ir.ops.base import lookup
from graphmill.ir.types import TensorType
from graphmill.passes.cse import frozen
from graphmill.passes.dce import remove_dead
from graphmill.passes.fusion_graph import has_effect
from graphmill.passes.manager import LEAST_OPS, register_pass
from graphmill.passes.roll_plan import Plan, plan
from graphmill.passes.statistics import count

LEAST_TURNS = 8
LEAST_SAVED = 48  # ops
TRIES = 48  # periods looked at from one op on
SHORTEST = 8  # the longest period that is looked for first


@register_pass("roll")
def roll(function: Function) -> Function:
    """Makes loops of stretches of ops that repeat. After it, none of many turns is left unrolled.

    Functions of few ops stay as they are. What differs from turn to turn may be numbers alone.
    """
    if len(function.ops) < LEAST_OPS["roll"] or not _Finder(function.block).any():
        return function
    rolled = function.clone()
    block = rolled.block
    _start_by_operands(block)
    found = 0
    finder, longest = _Finder(block), SHORTEST
    while longest <= 2 * finder.longest:  # inner loops first
        if plans := list(finder.loops(longest)):
            found += len(plans)
            _replace(block, plans)
            finder = _Finder(block)
        else:
            longest *= 2
    if not found:
        return function
    count("loops", found)
    remove_dead(block)
    return rolled


def _start_by_operands(block: Block) -> None:
    """Let constants come first, and slices start at operands, so that equal turns look alike."""
    first = [op for op in block.ops if op.name == "constant"]
    rest: list[Op] = []
    numbers = {
        int(op.attrs["value"]): op.result
        for op in first
        if not op.result.shape and op.result.tensor.dtype is i64
    }
    start = Block()
    builder = Builder(start)
    for op in block.ops:
        if op.name == "constant":
            continue
        if op.name != "slice" or not _is_window(op):
            rest.append(op)
            continue
        for at in op.attrs["start"]:
            if at not in numbers:
                numbers[at] = builder.constant(np.int64(at))
        sizes = op.result.shape
        operands = [op.operands[0], *(numbers[at] for at in op.attrs["start"])]
        new = Op(
            lookup("dynamic_slice"), operands, [op.result.type], {"sizes": sizes}, [], op.loc,
            op.scope,
        )  # fmt: skip
        new.result.name = op.result.name
        op.result.replace_uses(new.result)
        op.drop_operands()
        rest.append(new)
    _set_ops(block, [*first, *start.ops, *rest])


def _is_window(op: Op) -> bool:
    known = all(isinstance(at, int) for at in op.attrs["start"])
    return known and all(step == 1 for step in op.attrs["step"])


def _set_ops(block: Block, ops: list[Op]) -> None:
    block.ops = ops
    for op in ops:
        op.block = block


# ---- finding


class _Finder:
    """Looks for stretches that repeat among the ops of a block."""

    def __init__(self, block: Block) -> None:
        self.ops = [op for op in block.ops if op.name != "constant"]
        self.kinds = _kinds(self.ops)
        self.places = {op: n for n, op in enumerate(self.ops)}
        self.following = _following(self.kinds)
        self.refused: dict[int, int] = {}  # by period, up to where a first turn cannot start

    @property
    def longest(self) -> int:
        """The longest period that there may be."""
        return len(self.ops) // LEAST_TURNS

    def any(self) -> bool:
        """Whether any stretch repeats, the places that slices start at aside."""
        return next(self.loops(self.longest), None) is not None

    def loops(self, longest: int) -> Iterator[Plan]:
        """Stretches of at most `longest` ops that repeat, in order and apart; short ones win."""
        at = 0
        while at < len(self.ops):
            found = self._loop_at(at, longest)
            if found is not None:
                yield found
                at += found.turns * found.period
            else:
                at += 1

    def _loop_at(self, at: int, longest: int) -> Plan | None:
        later = self.following[at]
        for _ in range(TRIES):
            period = later - at
            if later < 0 or period > longest or at + period * LEAST_TURNS > len(self.ops):
                return None
            if at > self.refused.get(period, -1):
                turns = self._turns(at, period)
                if turns >= LEAST_TURNS and (turns - 1) * period >= LEAST_SAVED:
                    found = plan(self.ops, at, period, turns, self.places)
                    if isinstance(found, Plan):
                        return found
                    self.refused[period] = at + found
            later = self.following[later]
        return None

    def _turns(self, at: int, period: int) -> int:
        """How many stretches of `period` ops from `at` on are alike."""
        kinds, end, n = self.kinds, at + period, len(self.kinds)
        while end < n and kinds[end] == kinds[end - period]:
            end += 1
        return (end - at) // period


def _following(kinds: list[int]) -> list[int]:
    """For each op the next one of its kind; -1 where there is none."""
    found, last = [-1] * len(kinds), dict[int, int]()
    for n in range(len(kinds) - 1, -1, -1):
        found[n] = last.get(kinds[n], -1)
        last[kinds[n]] = n
    return found


def _kinds(ops: Sequence[Op]) -> list[int]:
    """A number for each op, the same for ops that differ in their operands at most."""
    numbers: dict[Hashable, int] = {}
    found = []
    for n, op in enumerate(ops):
        key: Hashable = n if _is_bound(op) else _kind(op)
        found.append(numbers.setdefault(key, len(numbers)))
    return found


def _is_bound(op: Op) -> bool:
    """Whether an op must stay where it is."""
    return op.definition.terminator or has_effect(op) or not op.definition.pure


def _kind(op: Op) -> Hashable:
    attrs: Hashable = ()
    if op.name != "slice" or not _is_window(op):
        attrs = tuple((name, frozen(value)) for name, value in sorted(op.attrs.items()))
    types = tuple(_type(v) for v in (*op.operands, *op.results))
    place = (op.loc.file, op.loc.line, op.loc.column) if op.loc else None
    return op.name, attrs, types, place, tuple(_structure(r.block) for r in op.regions)


def _type(value: Value) -> Hashable:
    type = value.type
    return (type.dtype.name, type.shape, type.layout) if isinstance(type, TensorType) else type


def _structure(block: Block) -> Hashable:
    numbers = {arg: n for n, arg in enumerate(block.args)}
    rows: list[Hashable] = []
    for op in block.ops:
        rows.append((_kind(op), tuple(numbers[v] for v in op.operands)))
        for result in op.results:
            numbers[result] = len(numbers)
    return tuple(rows)


# ---- making


def _replace(block: Block, plans: Sequence[Plan]) -> None:
    """Put a scan in the place of each plan's ops."""
    gone = {op for found in plans for op in found.ops}
    firsts = {found.ops[0]: found for found in plans}
    constants, rest, moved = Block(), Block(), dict[Value, Value]()
    for op in block.ops:
        if op in firsts:
            scan = _scan(firsts[op], constants, moved)
            rest.append(scan)
        elif op not in gone:
            rest.append(op)
    for op in reversed(block.ops):
        if op in gone:
            op.drop_operands()
            op.block = None
    _set_ops(block, [*constants.ops, *rest.ops])


def _scan(found: Plan, constants: Block, moved: dict[Value, Value]) -> Op:
    """The loop; `moved` tells, and is told, which results take the place of which values."""
    builder = Builder(constants)
    tables = [builder.constant(np.stack(values)) for values in found.tables]
    starts = [
        moved.get(start, start) if start is not None else _nothing(builder, type)
        for start, type in found.starts
    ]
    body = _body(found)
    operands = [*starts, *tables, *(moved.get(v, v) for v in found.captured)]
    attrs = {
        "carry": len(starts), "xs": len(tables), "length": found.turns, "reverse": False,
    }  # fmt: skip
    types = [type for _, type in found.starts]
    first = found.ops[0]
    scan = Op(lookup("scan"), operands, types, attrs, [Region(body)], first.loc, first.scope)
    for old, number in found.left.items():
        scan.results[number].name = old.name
        old.replace_uses(scan.results[number])
        moved[old] = scan.results[number]
    return scan


def _nothing(builder: Builder, type: TensorType) -> Value:
    """What is carried to a first turn that does not read it."""
    return builder.full(type.shape, 0, type.dtype)


def _body(found: Plan) -> Block:
    """The second turn, on what is carried, of the tables, and captured."""
    block = Block()
    carried = [block.add_arg(type) for _, type in found.starts]
    rows = [block.add_arg(_row(values)) for values in found.tables]
    captured = [block.add_arg(v.type, v.name) for v in found.captured]
    kinds: dict[str, list[Value]] = {"carry": carried, "table": rows, "captured": captured}
    made: list[Op] = []
    for op, reads in zip(found.template, found.reads, strict=True):
        copy = block.append(clone_op(op, {}))
        copy.set_operands([
            made[read.number].results[read.result] if read.kind == "same"
            else kinds[read.kind][read.number] for read in reads
        ])  # fmt: skip
        made.append(copy)
    yields = [made[n].results[index] for n, index in found.yields]
    block.append(Op(lookup("yield"), yields, []))
    return block


def _row(values: Sequence[np.ndarray[Any, Any]]) -> TensorType:
    return TensorType(dtype(values[0].dtype), values[0].shape)
