"""Where the largest or smallest element of each line is, in one sweep.

Each lane keeps the best value so far and where it was. Along a line that is the number of the
vector, and only at the line's end do the lanes meet: of the best ones the first wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import memory, scalar
from graphmill.codegen.cpu.elem import constant
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val, vector
from graphmill.codegen.cpu.first_true import search, searches
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import (
    BLOCK,
    item_range,
    outer_positions,
    row_blocks,
    sweep,
)
from graphmill.codegen.cpu.lowering import info_of, label, lowers
from graphmill.codegen.cpu.scans import Lines
from graphmill.codegen.cpu.stages import Accumulator
from graphmill.codegen.cpu.whole import few_rows, scratch_arrays
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import bool_, i64
from graphmill.ir.graph import Op
from graphmill.ir.ops.reduce import identity

NEIGHBOURS = 4  # vectors of lines that are walked down together


@lowers("argreduce")
def _argreduce(host: Host, op: Op) -> None:
    (output,) = host.place(op)
    (operand,) = op.operands
    shape, axis = tuple(operand.shape), op.attrs["axis"]
    if searches(op):
        search(host, op, output)
        return
    if axis == len(shape) - 1 and few_rows(product(shape[:-1]), shape[-1]):
        _in_parts(host, op, output)
        return
    kernel = host.kernel(label(op))
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    lines, best = Lines(kernel, shape, axis), _Best(kernel, op)
    elements = Elements(kernel, {})
    with kernel.code.loop(kernel.begin, kernel.end) as item, elements.scope():
        if lines.across:
            _down(elements, lines, source, target, best, item.i)
        else:
            at, _ = lines.positions(item.i)
            state = _along(elements, lines, at, source, best, 0, elements.dim(shape[-1]))
            elements.store(target, tuple(at[i] for i in sorted(at)), best.first(state)[1])
    launch = lines.launch()
    if lines.across:
        rows = product(shape[i] for i in lines.outer)
        launch = Launch(rows * _groups(lines), launch.grain)
    host.launch(kernel, launch, info_of(op, kernel.name, True))


def _groups(lines: Lines) -> DimLike:
    """The groups of neighbouring lines beside each other."""
    width = NEIGHBOURS * lines.kernel.lanes
    return (lines.shape[-1] + width - 1) // width


class _Best:
    """A state of two registers: the best values so far, and where they were."""

    def __init__(self, kernel: Kernel, op: Op) -> None:
        self.kernel, self.code = kernel, kernel.code
        self.dtype = op.operands[0].tensor.dtype
        self.largest = op.attrs["kind"] == "max"

    def start(self, lanes: int) -> list[Val]:
        """The worst value, at the first place."""
        least = identity("max" if self.largest else "min", self.dtype)
        worst = constant(self.code, least, self.dtype, lanes)
        assert isinstance(worst, Val)
        return [worst, self.code.const(0, vector("i32", lanes))]

    def _compare(self, name: str, a: Val, b: Val) -> Val:
        types = [self.dtype, self.dtype]
        result = scalar.apply(self.code, self.kernel.target, name, [a, b], types, bool_)
        assert isinstance(result, Val)
        return result

    def wins(self, value: Val, best: Val) -> Val:
        """Whether a later value takes the place of the best: it is better, or the first NaN."""
        if not self.dtype.is_float:
            return self._compare("gt" if self.largest else "lt", value, best)
        above = self.code.compare("arith.cmpf", "ugt" if self.largest else "ult", value, best)
        known = self.code.compare("arith.cmpf", "ord", best, best)
        return self.code.binary("arith.andi", above, known)

    def step(self, state: Sequence[Val], value: Val, at: Val, mask: Val | None) -> list[Val]:
        """The state after one more value at `at`, a scalar."""
        code, wins = self.code, self.wins(value, state[0])
        if mask is not None:
            wins = code.binary("arith.andi", wins, mask)
        place = code.splat(at, value.lanes)
        return [code.select(wins, value, state[0]), code.select(wins, place, state[1])]

    def merge(self, a: Sequence[Val], b: Sequence[Val]) -> list[Val]:
        """The better of two states; of equal ones that which was first."""
        code = self.code
        ties = self._same(a[0], b[0])
        earlier = code.compare("arith.cmpi", "slt", b[1], a[1])
        after = code.binary("arith.andi", ties, earlier)
        wins = code.binary("arith.ori", self.wins(b[0], a[0]), after)
        return [code.select(wins, y, x) for x, y in zip(a, b, strict=True)]

    def _same(self, a: Val, b: Val) -> Val:
        """Whether values are equal or both NaN."""
        if not self.dtype.is_float:
            return self._compare("eq", a, b)
        code = self.code
        lost = [code.compare("arith.cmpf", "uno", value, value) for value in (a, b)]
        equal = code.compare("arith.cmpf", "oeq", a, b)
        return code.binary("arith.ori", equal, code.binary("arith.andi", *lost))

    def first(self, state: Sequence[Val]) -> tuple[Val, Val]:
        """The best value and its position in the line: its lane's and that of its vector."""
        code, lanes = self.code, state[0].lanes
        accumulator = Accumulator("max" if self.largest else "min", self.dtype)
        (best,) = accumulator.across(self.kernel, state[:1])
        wide = code.convert("arith.extsi", state[1], "i64")
        places = code.binary("arith.muli", wide, code.const(lanes, wide.type))
        places = code.add(places, memory.lane_numbers(code, lanes))
        beyond = code.const((1 << 63) - 1, places.type)
        chosen = code.select(self._same(state[0], code.splat(best, lanes)), places, beyond)
        place = code.op(f"vector.reduction <minsi>, {chosen} : {chosen.type} into i64", "i64")
        return best, place


def _along(
    elements: Elements, lines: Lines, at: dict[int, Index], source: Source, best: _Best,
    low: Val | int, high: Val | int,
) -> Sequence[Val]:  # fmt: skip
    """The state after positions `low … high - 1` of one line of the last axis."""
    code, lanes = elements.code, elements.lanes

    def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
        value = elements.load(source, lines.index(at, position))
        assert isinstance(value, Val)
        number = code.binary("arith.shrui", position.base, code.i64(lanes.bit_length() - 1))
        number = code.convert("arith.trunci", number, "i32")
        return best.step(carried, value, number, elements.tail)

    start = best.start(lanes)
    return sweep(elements, low, high, body, start, merge=best.merge)


def _in_parts(host: Host, op: Op, output: Buffer) -> None:
    """Few long lines: the best of each block of a line, in parallel, then of the blocks."""
    (operand,) = op.operands
    shape, dtype = tuple(operand.shape), Accumulator("max", operand.tensor.dtype).memory
    blocks, rows = row_blocks(shape[-1]), product(shape[:-1])
    count = rows * blocks
    values, places = scratch_arrays(host, op, [count * dtype.itemsize, count * 8])
    kernel = host.kernel(f"{label(op)}_partial")
    source, elements = host.source(kernel, operand), Elements(kernel, {})
    lines, best, code = Lines(kernel, shape, len(shape) - 1), _Best(kernel, op), kernel.code
    pointers = kernel.pointer(values), kernel.pointer(places)
    with code.loop(kernel.begin, kernel.end) as item, elements.scope():
        row, low, high = item_range(kernel, item.i, shape, blocks)
        state = _along(elements, lines, dict(enumerate(row)), source, best, low, high)
        for part, pointer, kind in zip(best.first(state), pointers, (dtype, i64), strict=True):
            memory.store(code, part, pointer, item.i, kind)
    work = grain(4.0 * BLOCK)
    host.launch(kernel, Launch(count, work), info_of(op, kernel.name, True))
    kernel = host.kernel(f"{label(op)}_total")
    target, best, code = host.source(kernel, op.result, output), _Best(kernel, op), kernel.code
    elements, number = Elements(kernel, {}), kernel.dim(blocks)
    pointers = kernel.pointer(values), kernel.pointer(places)
    with code.loop(kernel.begin, kernel.end) as row_:
        first = code.mul(row_.i, number)
        with code.loop(0, number, 1, [best.start(0)[0], code.i64(0)]) as loop:
            at = code.add(first, loop.i)
            value = memory.load(code, pointers[0], at, dtype, 0)
            place = memory.load(code, pointers[1], at, i64, 0)
            assert isinstance(value, Val) and isinstance(place, Val)
            wins = best.wins(value, loop.carried[0])
            loop.next = [
                code.select(wins, value, loop.carried[0]),
                code.select(wins, place, loop.carried[1]),
            ]
        at_row = outer_positions(kernel, row_.i, shape[:-1])
        elements.store(target, at_row, loop.results[1])
    host.launch(kernel, Launch(rows, 1 << 30), info_of(op, kernel.name, False))


def _down(
    elements: Elements, lines: Lines, source: Source, target: Source, best: _Best, item: Val
) -> None:
    """The places in neighbouring lines: some vectors of them together, fewer at the edge."""
    code, kernel, lanes = elements.code, lines.kernel, elements.lanes
    width, last = NEIGHBOURS * lanes, lines.shape[-1]
    groups = kernel.dim(_groups(lines))
    at = lines.outer_positions(code.binary("arith.divui", item, groups))
    start = code.mul(code.binary("arith.remui", item, groups), width)
    room = code.binary("arith.subi", kernel.dim(last), start)
    with code.when(code.compare("arith.cmpi", "sge", room, code.i64(width))):
        columns = [Index(code.add(start, n * lanes), 1) for n in range(NEIGHBOURS)]
        _walk(elements, lines, source, target, best, at, columns)
    with code.otherwise(), code.loop(0, room, lanes) as edge:
        left = code.binary("arith.subi", room, edge.i)
        with elements.scope(memory.tail_mask(code, left, lanes)):
            column = Index(code.binary("arith.addi", start, edge.i), 1)
            _walk(elements, lines, source, target, best, at, [column])


def _walk(
    elements: Elements, lines: Lines, source: Source, target: Source, best: _Best,
    at: dict[int, Index], columns: Sequence[Index],
) -> None:  # fmt: skip
    code, kernel, last = elements.code, lines.kernel, len(lines.shape) - 1
    start = [v for _ in columns for v in best.start(elements.lanes)]
    with code.loop(0, kernel.dim(lines.shape[lines.axis]), 1, start) as loop:
        row = code.convert("arith.trunci", loop.i, "i32")
        loop.next = []
        for n, column in enumerate(columns):
            value = elements.load(source, lines.index(at | {last: column}, Index(loop.i)))
            assert isinstance(value, Val)
            loop.next += best.step(loop.carried[2 * n : 2 * n + 2], value, row, None)
    for n, column in enumerate(columns):
        place = code.convert("arith.extsi", loop.results[2 * n + 1], "i64")
        there = at | {last: column}
        elements.store(target, tuple(there[i] for i in sorted(there)), place)
