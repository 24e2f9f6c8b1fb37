"""Whether a stretch of ops that repeats is a loop, and what that loop carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from graphmill.ir.graph import Op, Value
from graphmill.ir.types import TensorType
from graphmill.records import record

MOST_TABLE = 1 << 20  # bytes of the numbers that differ from turn to turn
SMALL = 4096  # bytes of a constant that may be read at places that differ

Array = np.ndarray[Any, Any]


@record
class Read:
    """What an operand is: the result of an op of the `same` turn, or a `carry`, `table` or
    `captured` value by number."""

    kind: str
    number: int
    result: int = 0


@record(frozen=False)
class Plan:
    """A loop: its ops, and what each op of one turn reads.

    `starts` are what is carried to the first turn, None where that does not read it, `yields`
    the op and result that is carried on, `left` the values read after the loop.
    """

    ops: list[Op]
    period: int
    turns: int
    reads: list[list[Read]] = field(default_factory=list)
    starts: list[tuple[Value | None, TensorType]] = field(default_factory=list)
    yields: list[tuple[int, int]] = field(default_factory=list)
    tables: list[list[Array]] = field(default_factory=list)
    captured: list[Value] = field(default_factory=list)
    left: dict[Value, int] = field(default_factory=dict)

    @property
    def template(self) -> list[Op]:
        """The second turn."""
        return self.ops[self.period : 2 * self.period]


def plan(ops: Sequence[Op], at: int, period: int, turns: int, places: dict[Op, int]) -> Plan | int:
    """The loop that `turns` stretches of `period` ops from number `at` on are.

    Where they are none, the number, in a stretch, of an op that stands against it.
    """
    found = Plan(list(ops[at : at + turns * period]), period, turns)
    reader = _Reader(found, at, places)
    for n in range(period):
        reads = [read for k in range(len(ops[at + n].operands)) if (read := reader.read(n, k))]
        if len(reads) < len(ops[at + n].operands) or _looks_up(ops[at + period + n], reads):
            return n
        found.reads.append(reads)
    return _leave(found, at, places)


class _Reader:
    """Finds out how the ops of a loop read their operands."""

    def __init__(self, found: Plan, at: int, places: dict[Op, int]) -> None:
        self.found, self.at, self.places = found, at, places
        self.carries: dict[tuple[int, int, Value], int] = {}
        self.tables: dict[bytes, int] = {}
        self.captured: dict[Value, int] = {}

    def read(self, n: int, k: int) -> Read | None:
        """How operand `k` of op `n` of a turn is read; None where turns differ."""
        found = self.found
        first, other = (found.ops[turn * found.period + n].operands[k] for turn in (0, 1))
        if other is not first and self._place(other, 1) is None and _number(other) is None:
            return None  # the weights of another layer, in most networks
        values = [found.ops[turn * found.period + n].operands[k] for turn in range(found.turns)]
        places = [self._place(value, turn) for turn, value in enumerate(values)]
        second = places[1]
        if any(place != second for place in places[2:]):
            return None
        if second is None:
            return None if places[0] is not None else self._outside(values)
        back, number, index = second
        if back == 0:
            return Read("same", number, index) if places[0] == second else None
        if back != 1 or places[0] is not None:
            return None
        return self._carried(number, index, values[0], values[1])

    def _place(self, value: Value, turn: int) -> tuple[int, int, int] | None:
        """How many turns back, by which op of it, the value was made; None for outside."""
        number = self.places.get(value.op, -1) if value.op is not None else -1
        if number < self.at:
            return None
        made, n = divmod(number - self.at, self.found.period)
        return turn - made, n, value.index

    def _carried(self, number: int, index: int, start: Value, value: Value) -> Read | None:
        type = value.type
        if not isinstance(type, TensorType) or start.type != type or type.layout is not None:
            return None
        key = (number, index, start)
        if key not in self.carries:
            self.carries[key] = len(self.found.starts)
            self.found.starts.append((start, type))
            self.found.yields.append((number, index))
        return Read("carry", self.carries[key])

    def _outside(self, values: Sequence[Value]) -> Read | None:
        first = values[0]
        if all(value is first for value in values):
            if first not in self.captured:
                self.captured[first] = len(self.captured)
                self.found.captured.append(first)
            return Read("captured", self.captured[first])
        arrays = [_number(value) for value in values]
        rows = [array for array in arrays if array is not None]
        if len(rows) != len(arrays) or len(rows) * rows[0].nbytes > MOST_TABLE:
            return None
        if any(row.dtype != rows[0].dtype or row.shape != rows[0].shape for row in rows):
            return None
        key = rows[0].dtype.str.encode() + b"".join(row.tobytes() for row in rows)
        if key not in self.tables:
            self.tables[key] = len(self.found.tables)
            self.found.tables.append(rows)
        return Read("table", self.tables[key])


def _number(value: Value) -> Array | None:
    """The value of a constant that may differ from turn to turn: one number, or integers."""
    if value.op is None or value.op.name != "constant":
        return None
    array: Array = value.op.attrs["value"]
    return array if array.size == 1 or array.dtype.kind in "iu" else None


def _looks_up(op: Op, reads: Sequence[Read]) -> bool:
    """Whether a slice of a large constant moves: unrolled, each part is a constant of its own."""
    source = op.operands[0].op if op.operands else None
    if op.name != "dynamic_slice" or source is None or source.name != "constant":
        return False
    moves = any(read.kind == "table" for read in reads[1:])
    return moves and bool(source.attrs["value"].nbytes > SMALL)


def _leave(found: Plan, at: int, places: dict[Op, int]) -> Plan | int:
    """Carry what is read after the loop as well, which must be of the last turn."""
    end, numbers = at + len(found.ops), {key: n for n, key in enumerate(found.yields)}
    last = len(found.ops) - found.period
    for n, op in enumerate(found.ops):
        for result in op.results:
            if all(places[user] < end for user in result.users):
                continue
            if n < last or not isinstance(result.type, TensorType):
                return n % found.period
            key = (n - last, result.index)
            if key not in numbers:
                numbers[key] = len(found.starts)
                found.starts.append((None, result.type))
                found.yields.append(key)
            found.left[result] = numbers[key]
    return found if found.starts else found.period - 1
