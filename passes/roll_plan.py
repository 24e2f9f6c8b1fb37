"""Whether a stretch of ops that repeats is a loop, and what that loop carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, dtype
from graphmill.ir.graph import Op, Value
from graphmill.ir.types import TensorType
from graphmill.passes.roll_sizes import Sizes, even, on_line
from graphmill.records import record

MOST_TABLE = 1 << 20  # bytes of the numbers that differ from turn to turn
SMALL = 4096  # bytes of a constant that may be read at places that differ

Array = np.ndarray[Any, Any]


@record
class Read:
    """What an operand is: the result of an op of the `same` turn, or a `carry`, `table`,
    `captured` value or `dim` by number."""

    kind: str
    number: int
    result: int = 0


@record(frozen=False)
class Plan:
    """A loop: its ops, and what each op of one turn reads.

    `starts` are what is carried to the first turn, None where that does not read it, `yields`
    the op and result that is carried on, `left` the values read after the loop. With a `turn`,
    `numbers` and the `sizes` of each op are dims of that name.
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
    turn: str = ""
    numbers: list[tuple[DimLike, DType]] = field(default_factory=list)
    sizes: list[list[DimLike]] = field(default_factory=list)

    @property
    def template(self) -> list[Op]:
        """The second turn."""
        return self.ops[self.period : 2 * self.period]


def plan(
    ops: Sequence[Op], at: int, period: int, turns: int, places: dict[Op, int], turn: str = "",
    sizes: Sequence[Sizes] = (),
) -> Plan | int:  # fmt: skip
    """The loop that `turns` stretches of `period` ops from number `at` on are.

    Where they are none, the number, in a stretch, of an op that stands against it. The `sizes` of
    the ops may grow evenly if there is a dim, `turn`, for the number of the turn.
    """
    found = Plan(list(ops[at : at + turns * period]), period, turns, turn=turn)
    reader = _Reader(found, at, places)
    for n in range(period):
        reads = [read for k in range(len(ops[at + n].operands)) if (read := reader.read(n, k))]
        first, second = ops[at + n], ops[at + period + n]
        if len(reads) < len(first.operands) or _looks_up(first, second, reads):
            return n
        found.reads.append(reads)
        if turn:
            found.sizes.append(list(sizes[at + n].evenly(sizes[at + period + n], turn)))
    return _leave(found, at, places)


def even_turns(
    ops: Sequence[Op], at: int, period: int, turns: int, places: dict[Op, int],
    sizes: Sequence[Sizes],
) -> int:  # fmt: skip
    """How many stretches of `period` ops go on as the first two begin."""
    reader = _Reader(Plan(list(ops[at : at + turns * period]), period, turns), at, places)
    for turn in range(2, turns):
        for n in range(at, at + period):
            first, second, later = (sizes[n + t * period].numbers for t in (0, 1, turn))
            if not on_line(first, second, later, turn) or not reader.goes_on(n - at, turn):
                return turn
    return turns


class _Reader:
    """Finds out how the ops of a loop read their operands."""

    def __init__(self, found: Plan, at: int, places: dict[Op, int]) -> None:
        self.found, self.at, self.places = found, at, places
        self.carries: dict[tuple[int, int, Value], int] = {}
        self.tables: dict[bytes, int] = {}
        self.captured: dict[Value, int] = {}
        self.numbers: dict[tuple[DimLike, DType], int] = {}

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

    def goes_on(self, n: int, turn: int) -> bool:
        """Whether op `n` of a turn reads what the first two turns let expect."""
        ops, period = self.found.ops, self.found.period
        rows = (ops[t * period + n].operands for t in (0, 1, turn))
        for first, second, later in zip(*rows, strict=True):
            place = self._place(second, 1)
            if place is not None or later is not second:
                if place != self._place(later, turn):
                    return False
                if place is None and not _is_on_line(first, second, later, turn):
                    return False
        return True

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
        if (number := self._dim(rows)) is not None:
            return number
        key = rows[0].dtype.str.encode() + b"".join(row.tobytes() for row in rows)
        if key not in self.tables:
            self.tables[key] = len(self.found.tables)
            self.found.tables.append(rows)
        return Read("table", self.tables[key])

    def _dim(self, rows: Sequence[Array]) -> Read | None:
        """Integers, which grow evenly, if the turns have a dim."""
        if not self.found.turn or not _is_integer(rows[0]):
            return None
        key = (even(int(rows[0]), int(rows[1]), self.found.turn), dtype(rows[0].dtype))
        if key not in self.numbers:
            self.numbers[key] = len(self.found.numbers)
            self.found.numbers.append(key)
        return Read("dim", self.numbers[key])


def _number(value: Value) -> Array | None:
    """The value of a constant that may differ from turn to turn: one number, or integers."""
    if value.op is None or value.op.name != "constant":
        return None
    array: Array = value.op.attrs["value"]
    return array if array.size == 1 or array.dtype.kind in "iu" else None


def _is_integer(array: Array) -> bool:
    return not array.shape and array.dtype.kind in "iu"


def _is_on_line(first: Value, second: Value, later: Value, turn: int) -> bool:
    """Whether a number of a later turn goes on from those of turns 0 and 1; integers evenly."""
    rows = [_number(value) for value in (first, second, later)]
    a, b, c = rows
    if a is None or b is None or c is None or not a.dtype == b.dtype == c.dtype:
        return False
    if not a.shape == b.shape == c.shape:
        return False
    return not _is_integer(a) or int(c) == int(a) + turn * (int(b) - int(a))


def _looks_up(first: Op, second: Op, reads: Sequence[Read]) -> bool:
    """Whether a slice of a large constant moves: unrolled, each part is a constant of its own."""
    source = second.operands[0].op if second.operands else None
    if source is None or source.name != "constant" or source.attrs["value"].nbytes <= SMALL:
        return False
    if second.name == "slice":
        return bool(first.attrs["start"] != second.attrs["start"])
    return second.name == "dynamic_slice" and any(read.kind == "table" for read in reads[1:])


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
    for number, index in found.yields:
        type = found.ops[number].results[index].type
        if any(op.results[index].type != type for op in found.ops[number :: found.period]):
            return number
    return found if found.starts else found.period - 1
