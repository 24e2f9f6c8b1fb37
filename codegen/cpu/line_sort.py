"""Sorting every line of an array along an axis by integer keys: what the kernels have in common.

Where there are many lines or short ones, one kernel has a line for a work item. Else the work on
a line is divided: keys are made block by block, one thread per line partitions them once, several
partition those parts until there are enough segments, all threads sort the segments, and results
are written block by block again.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val, vector
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, Indices
from graphmill.codegen.cpu.kernel import Kernel, Storage
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import item_range, outer_positions
from graphmill.codegen.cpu.lowering import info_of, label
from graphmill.codegen.cpu.quicksort import SEGMENTS, WORDS, most_levels, quicksort
from graphmill.codegen.cpu.small_sort import masked_load, masked_store, most_rows, small_sort
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Op
from graphmill.records import record

LONG = 1 << 15  # keys of a line that are worth dividing
MANY = 16  # lines that give all threads enough to do
SPLIT = 16  # into how many segments, about, a line is divided
BLOCK = 16384  # keys of a block
FACTS = 64  # bytes for what is known of a line as a whole
TABLE = (8 * (1 + WORDS * SEGMENTS) + 63) // 64 * 64  # bytes of one of the two tables of segments


@record(frozen=False)
class Line:
    """A line in a kernel: where its keys are, and the index of each of its elements."""

    kernel: Kernel
    elements: Elements
    element: str  # of the keys
    axis: int
    outer: tuple[Index, ...]
    length: Val
    home: Val
    facts: Val

    def index(self, along: Index) -> Indices:
        """The full index of a position on the line."""
        return (*self.outer[: self.axis], along, *self.outer[self.axis :])

    def key(self, place: Val) -> Val:
        """The address of a key."""
        return self.kernel.code.at(self.home, place, self.element)

    def put(self, keys: Val, place: Val) -> None:
        """Store a vector of keys from a place on, as many as the line has left."""
        code, tail, address = self.kernel.code, self.elements.tail, self.key(place)
        if tail is None:
            code.store(keys, address, int(self.element[1:]) // 8)
        else:
            masked_store(code, keys, address, tail)

    def take(self, place: Val) -> Val:
        """A vector of keys from a place on, zeros beyond the line."""
        code, tail, address = self.kernel.code, self.elements.tail, self.key(place)
        kind = vector(self.element, self.elements.lanes)
        if tail is None:
            return code.load(address, kind, int(self.element[1:]) // 8)
        return masked_load(code, address, tail, code.const(0, kind))


class Steps:
    """What one kind of sort does with a range of a line: overridden in parts."""

    def prepare(self, line: Line) -> None:
        """Find out what must be known of the whole line; serial."""

    def fill(self, line: Line, low: Val | int, high: Val | int) -> None:
        """Write the keys."""
        raise NotImplementedError

    def mend(self, line: Line) -> None:
        """Complete the order, of the whole line."""

    def drain(self, line: Line, low: Val | int, high: Val | int) -> None:
        """Write results from sorted keys."""
        raise NotImplementedError

    def wanted(self, line: Line) -> tuple[Val, Val]:
        """The first place that shall be in order, and the one behind the last."""
        return line.kernel.code.i64(0), line.length


@record
class Plan:
    """A sort: the array's shape, its keys, and the steps for a kernel.

    `direct` is a buffer that the keys are sorted in; `prepares`, `mends` and `drains` tell which
    steps do anything, `partial` whether only some places of a line need be in order.
    """

    op: Op
    shape: tuple[DimLike, ...]
    axis: int
    element: str
    make: Callable[[Kernel], Steps]
    direct: Buffer | None = None
    prepares: bool = False
    mends: bool = False
    drains: bool = True
    partial: bool = False

    @property
    def length(self) -> DimLike:
        return self.shape[self.axis]

    @property
    def others(self) -> list[DimLike]:
        return [dim for i, dim in enumerate(self.shape) if i != self.axis]

    @property
    def lines(self) -> DimLike:
        return product(self.others)

    @property
    def bytes(self) -> DimLike:
        return (self.length * (int(self.element[1:]) // 8) + 63) // 64 * 64


def sort_lines(host: Host, plan: Plan) -> None:
    """Write the kernels of a sort and launch them."""
    lines, length = plan.lines, plan.length
    if (isinstance(lines, int) and lines >= MANY) or (isinstance(length, int) and length < LONG):
        _Alone(host, plan).run()
    else:
        _Divided(host, plan).run()


class _Sort:
    def __init__(self, host: Host, plan: Plan) -> None:
        self.host, self.plan = host, plan
        self.storage = Storage(("sort scratch", len(host.kernels)), True)
        self.keys: DimLike = 0 if plan.direct is not None else plan.bytes  # of a line, in scratch

    def kernel(self, what: str = "") -> Kernel:
        return self.host.kernel(label(self.plan.op) + what)

    def launch(self, kernel: Kernel, items: DimLike, work: int) -> None:
        info = info_of(self.plan.op, kernel.name, True)
        self.host.launch(kernel, Launch(items, work), info)

    def line(self, kernel: Kernel, number: Val, outer: tuple[Index, ...], scratch: Val,
             facts: Val) -> Line:  # fmt: skip
        plan, code = self.plan, kernel.code
        home = scratch
        length = kernel.dim(plan.length)
        if plan.direct is not None:
            self.host.adopt(plan.direct)
            first = code.mul(number, length)
            home = code.at(kernel.pointer(plan.direct.storage), first, plan.element)
        elements = Elements(kernel, {})
        return Line(kernel, elements, plan.element, plan.axis, outer, length, home, facts)

    def sort(self, line: Line, steps: Steps, least: Val, table: Val) -> None:
        code, element = line.kernel.code, self.plan.element
        symbol = quicksort(self.host.unit, self.host.target, element)
        levels = most_levels(code, line.length)
        ends = [
            code.op(f"llvm.ptrtoint {line.key(place)} : !llvm.ptr to i64", "i64")
            for place in steps.wanted(line)
        ]
        code.call(symbol, [line.home, line.length, levels, *ends, least, table])


class _Alone(_Sort):
    """One kernel, a line for a work item."""

    def run(self) -> None:
        host, plan, kernel = self.host, self.plan, self.kernel()
        each = self.keys + FACTS
        host.lend(self.storage, host.scratch(lambda code, dim: (code.i64(0), dim(each))))
        scratch, steps, code = kernel.pointer(self.storage), plan.make(kernel), kernel.code
        own = code.at(scratch, code.mul(kernel.worker, kernel.dim(each)), "i8")
        facts = code.at(own, kernel.dim(self.keys), "i8")
        with code.loop(kernel.begin, kernel.end) as item:
            outer = outer_positions(kernel, item.i, plan.others)
            line = self.line(kernel, item.i, outer, own, facts)
            end = kernel.size(plan.length)
            with line.elements.scope():
                steps.prepare(line)
                steps.fill(line, 0, end)
                self._sort(line, steps)
                if plan.mends:
                    steps.mend(line)
                steps.drain(line, 0, end)
        known = plan.length if isinstance(plan.length, int) else 1024
        self.launch(kernel, plan.lines, grain(40.0 * known))

    def _sort(self, line: Line, steps: Steps) -> None:
        length, target = self.plan.length, self.host.target
        lanes, rows = target.lanes(int(self.plan.element[1:])), 1
        while isinstance(length, int) and length > rows * lanes:
            rows *= 2
        if isinstance(length, int) and rows <= most_rows(target):
            symbol = small_sort(self.host.unit, target, self.plan.element, rows)
            line.kernel.code.call(symbol, [line.home, line.home, line.length])
        else:
            self.sort(line, steps, line.kernel.code.i64(0), line.facts)


class _Divided(_Sort):
    """Kernels over blocks and segments of lines."""

    def run(self) -> None:
        host, plan = self.host, self.plan
        each = self.keys + FACTS + 2 * TABLE
        self.each = each
        total = each * plan.lines
        host.lend(self.storage, host.scratch(lambda code, dim: (dim(total), code.i64(0))))
        if plan.prepares:
            self._lines("_look", lambda line, steps, table: steps.prepare(line))
        self._blocks("_keys", Steps.fill.__name__)
        self._lines("_divide", self._divide)
        if not plan.partial:
            self._segments("_parts", 0)
            self._segments("", 1)
        if plan.mends:
            self._lines("_mend", lambda line, steps, table: steps.mend(line))
        if plan.drains:
            self._blocks("_values", Steps.drain.__name__)

    def _line(self, kernel: Kernel, number: Val, outer: tuple[Index, ...]) -> tuple[Line, Val]:
        code = kernel.code
        offset = code.mul(number, kernel.dim(self.each))
        own = code.at(kernel.pointer(self.storage), offset, "i8")
        facts = code.at(own, kernel.dim(self.keys), "i8")
        table = code.at(facts, FACTS, "i8")
        return self.line(kernel, number, outer, own, facts), table

    def _lines(self, name: str, step: Callable[[Line, Steps, Val], None]) -> None:
        """A kernel with a line for a work item."""
        kernel = self.kernel(name)
        steps = self.plan.make(kernel)
        with kernel.code.loop(kernel.begin, kernel.end) as item:
            outer = outer_positions(kernel, item.i, self.plan.others)
            line, table = self._line(kernel, item.i, outer)
            with line.elements.scope():
                step(line, steps, table)
        self.launch(kernel, self.plan.lines, 1)

    def _blocks(self, name: str, step: str) -> None:
        """A kernel with a block of a line for a work item."""
        plan, kernel = self.plan, self.kernel(name)
        steps, code = plan.make(kernel), kernel.code
        count = (plan.length + BLOCK - 1) // BLOCK
        with code.loop(kernel.begin, kernel.end) as item:
            outer, low, high = item_range(kernel, item.i, (*plan.others, plan.length), count, BLOCK)
            number = code.binary("arith.divui", item.i, kernel.dim(count))
            line, _ = self._line(kernel, number, outer)
            with line.elements.scope():
                getattr(steps, step)(line, low, high)
        self.launch(kernel, plan.lines * count, grain(BLOCK * 2.0))

    def _divide(self, line: Line, steps: Steps, table: Val) -> None:
        """Leave a long line in two parts, mostly, and sort one that is not."""
        code = line.kernel.code
        for place in (0, TABLE):
            code.store(code.i64(0), code.at(table, place, "i8"), 8)
        half, more = (code.binary("arith.shrui", line.length, code.i64(by)) for by in (1, 3))
        long = code.compare("arith.cmpi", "sge", line.length, code.i64(LONG))
        least = code.add(code.add(half, more), 1)  # pivots seldom are that far from the median
        least = code.i64(0) if self.plan.partial else code.select(long, least, code.i64(0))
        self.sort(line, steps, least, table)

    def _segments(self, name: str, turn: int) -> None:
        """A kernel with a segment for a work item; a chunk of items has segments from all over.

        In turn 0 it leaves smaller ones in the second table, in turn 1 it sorts those.
        """
        kernel = self.kernel(name)
        code, side = kernel.code, isqrt(SEGMENTS)
        with code.loop(kernel.begin, kernel.end) as item:
            line = code.binary("arith.divui", item.i, code.i64(SEGMENTS))
            place = code.binary("arith.remui", item.i, code.i64(SEGMENTS))
            row = code.binary("arith.divui", place, code.i64(side))
            column = code.binary("arith.remui", place, code.i64(side))
            number = code.add(code.mul(column, side), row)
            whole, tables = self._line(kernel, line, ())
            share = code.add(code.binary("arith.divui", whole.length, code.i64(SPLIT)), 1)
            table, least = code.at(tables, turn * TABLE, "i8"), code.i64(0) if turn else share
            found = code.load(table, "i64", 8)
            with code.when(code.compare("arith.cmpi", "slt", number, found)):
                base = code.at(table, code.add(code.mul(number, WORDS), 1), "i64")
                home = code.load(base, "!llvm.ptr", 8)
                count, levels = (code.load(code.at(base, n, "i64"), "i64", 8) for n in (1, 2))
                symbol = quicksort(self.host.unit, self.host.target, self.plan.element)
                all_ = code.i64(0), code.i64(-1)  # as unsigned addresses
                rest = code.at(tables, TABLE, "i8")
                code.call(symbol, [home, count, levels, *all_, least, rest])
        self.launch(kernel, self.plan.lines * SEGMENTS, 1)
