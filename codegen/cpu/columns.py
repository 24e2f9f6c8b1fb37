"""Reduce kernels whose last axis is kept: a block of columns, reduced row by row.

The state of a block of columns lies on the stack (in the first-level cache), so that memory is
read in long contiguous pieces whatever the distance between rows. A thread's columns are one
block, or as few as their state has room for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.bypass import bypassing, fence
from graphmill.codegen.cpu.elem import Elem, constant, memory_type
from graphmill.codegen.cpu.element import Elements, Override
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.index import Index, Indices, shifted, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import outer_positions, sweep
from graphmill.codegen.cpu.stages import Accumulator, Plan, pack, unpack
from graphmill.ir.dims import DimLike, maximum, product
from graphmill.ir.graph import Op, Value
from graphmill.ir.ops.reduce import identity

UNIT = 256  # columns of one work item
WIDTH = 2048  # columns of a block that threads share
WIDTHS = (512, 1024, 2048, 4096, 8192)  # of one block: pieces of memory that are read at once
ROWS = (4, 8)  # that one pass over the state takes, of long computations and of short ones
CHEAP = 4.0  # operations per element up to which a computation is short
WAY = 4096  # bytes after which rows fall into the same few places of the first cache


def emit_columns(
    kernel: Kernel, plan: Plan, sources: dict[Value, Source], outputs: Sequence[Source]
) -> Launch:
    """Write the kernel; work items are a few columns each, and a thread's are done together."""
    columns = Columns(kernel, plan, Elements(kernel, sources), outputs)
    bypass = bypassing(kernel, [outputs[i] for i in plan.full_yields])
    columns.elements.bypass = bypass
    blocks, code = blocks_of(plan.shape[-1], UNIT), kernel.code
    count, zero = kernel.dim(blocks), code.i64(0)
    first = code.binary("arith.divui", kernel.begin, count)
    last = code.binary("arith.divui", code.add(kernel.end, code.add(count, -1)), count)
    with code.loop(first, last) as outer, columns.elements.scope():
        before = code.mul(outer.i, count)
        low = code.binary("arith.maxsi", code.binary("arith.subi", kernel.begin, before), zero)
        high = code.binary("arith.minsi", code.binary("arith.subi", kernel.end, before), count)
        end = code.binary("arith.minsi", code.mul(high, UNIT), kernel.dim(plan.shape[-1]))
        low = code.mul(low, UNIT)
        with code.loop(low, end, columns.width) as start, columns.elements.scope():
            stop = code.binary("arith.minsi", code.add(start.i, columns.width), end)
            columns.emit(outer.i, start.i, stop)
    fence(kernel, bypass)
    length = product(plan.shape[i] for i in plan.reduced)
    work = (length if isinstance(length, int) else 1024) * UNIT
    cost = grain(work * flops_per_element(plan.block.ops))
    return Launch(product((*plan.kept_shape[:-1], blocks)), cost)


def blocks_of(size: DimLike, width: int = WIDTH) -> DimLike:
    """The number of blocks of so many columns."""
    return maximum(1, (size + width - 1) // width)


def stretch(kernel: Kernel, number: Val, size: DimLike, width: int = WIDTH) -> tuple[Val, Val]:
    """The first column of a block and the one behind its last."""
    code = kernel.code
    start = code.mul(number, width)
    return start, code.binary("arith.minsi", code.add(start, width), kernel.dim(size))


def _width(kernel: Kernel, plan: Plan) -> int:
    """Columns of one block: their state fills the first cache, and memory is read in order."""
    states = [Accumulator.of(op) for ops in plan.sweeps for op in ops]
    each = sum(state.memory.itemsize * state.parts for state in states)
    room = [width for width in WIDTHS if width * each <= kernel.target.l1]
    return kernel.choices.pick("width", max(room, default=WIDTHS[0]), WIDTHS)


def _rows(kernel: Kernel, plan: Plan) -> int:
    """Rows of one pass: more where a short computation only reads them, unless they would push
    each other out of the first cache and come back from the others."""
    size, full = plan.shape[-1], product(plan.shape)
    item = plan.sweeps[0][0].operands[0].tensor.dtype.itemsize
    crowded = isinstance(size, int) and size * item % WAY == 0
    if isinstance(full, int) and full * item > kernel.target.l3:
        crowded = False  # all of it comes from memory anyway
    short = flops_per_element(plan.block.ops) <= CHEAP
    model = ROWS[short and not crowded and not plan.full_yields]
    return kernel.choices.pick("rows", model, (1, 2, 4, 8, 16))


class Columns:
    """Writing the sweeps over one block of columns."""

    def __init__(
        self, kernel: Kernel, plan: Plan, elements: Elements, outputs: Sequence[Source]
    ) -> None:
        self.kernel, self.plan, self.elements = kernel, plan, elements
        self.outputs = outputs
        self.code = kernel.code
        self.width, self.rows = _width(kernel, plan), _rows(kernel, plan)
        self.states = {
            op.result: self._state(Accumulator.of(op)) for ops in plan.sweeps for op in ops
        }

    def _state(self, accumulator: Accumulator) -> Source:
        dtype = accumulator.memory
        pointer = self.code.alloca(memory_type(dtype), self.width * accumulator.parts)
        return Source(pointer, dtype, (self.width,), (1,))

    def emit(self, outer: Val, start: Val, stop: Val) -> None:
        """All sweeps over the block from column `start` to `stop`, then the results."""
        plan, elements = self.plan, self.elements
        at = self.place(outer)
        rows = (
            self.kernel.code.i64(0),
            self.kernel.dim(product(plan.shape[i] for i in plan.reduced)),
        )
        for value in list(elements.overrides):
            del elements.overrides[value]
        for reduces in plan.sweeps:
            self.reduce(reduces, at, start, stop, rows)
            for op in reduces:
                elements.overrides[op.result] = self._reload(op, start)
        if plan.reduced_yields:
            self._store_reduced(tuple(at.values()), start, stop)
        if plan.full_yields:
            self._over_rows(at, start, stop, rows, self._store_full)

    def place(self, outer: Val) -> dict[int, Index]:
        """The positions along the kept axes but the last."""
        plan = self.plan
        kept = outer_positions(self.kernel, outer, plan.kept_shape[:-1])
        return dict(zip(plan.kept_axes, kept, strict=False))

    def reduce(
        self, reduces: Sequence[Op], at: dict[int, Index], start: Val, stop: Val,
        rows: tuple[Val, Val],
    ) -> None:  # fmt: skip
        """Reduce the rows from `rows[0]` to `rows[1]` into the state of the block."""
        self._clear(reduces, self.code.binary("arith.subi", stop, start))
        self._over_rows(at, start, stop, rows, self._accumulate(reduces, start))

    def state(self, op: Op, column: Index, start: Val, guard: Val | None = None) -> Elem:
        """What a reduction has come to in a column."""
        return self.elements.load(self.states[op.result], (self._local(column, start),), guard)

    def _clear(self, reduces: Sequence[Op], count: Val) -> None:
        lanes, code = self.elements.lanes, self.code
        for op in reduces:
            source, accumulator = self.states[op.result], Accumulator.of(op)
            neutral = constant(
                code, identity(accumulator.monoid, accumulator.memory), source.dtype, lanes
            )
            with code.loop(0, count, lanes) as loop:
                memory.store(code, neutral, source.pointer, loop.i, source.dtype)

    def _over_rows(
        self,
        at: dict[int, Index],
        start: Val,
        stop: Val,
        rows: tuple[Val, Val],
        body: Callable[[Sequence[Indices]], None],
    ) -> None:
        """Run `body(full indices of some rows)` over these reduced positions and the columns."""
        plan, code = self.plan, self.code
        first, end = rows
        together = self.rows if len(plan.reduced) == 1 else 1
        count = code.binary("arith.subi", end, first)
        rest = code.binary("arith.remui", count, code.i64(together))
        middle = code.binary("arith.subi", end, rest)
        for low, high, step in ((first, middle, together), (middle, end, 1)):
            if low is middle and together == 1:
                continue
            with code.loop(low, high, step) as row, self.elements.scope():
                numbers = [code.add(row.i, n) for n in range(step)]
                self._over_columns(at, numbers, start, stop, body)

    def _over_columns(
        self,
        at: dict[int, Index],
        rows: Sequence[Val],
        start: Val,
        stop: Val,
        body: Callable[[Sequence[Indices]], None],
    ) -> None:
        plan = self.plan
        sizes = [self.kernel.size(plan.shape[i]) for i in plan.reduced]
        places = []
        for row in rows:
            positions = unravel(self.code, row, sizes)
            named = {axis: Index(p) for axis, p in zip(plan.reduced, positions, strict=True)}
            places.append({**at, **named})

        def step(column: Index, carried: Sequence[Val]) -> Sequence[Val]:
            last = len(plan.shape) - 1
            body([tuple({**p, last: column}[i] for i in range(last + 1)) for p in places])
            return carried

        sweep(self.elements, start, stop, step)

    def _accumulate(self, reduces: Sequence[Op], start: Val) -> Callable[[Sequence[Indices]], None]:
        def body(rows: Sequence[Indices]) -> None:
            for op in reduces:
                accumulator, state = Accumulator.of(op), self.states[op.result]
                local = (self._local(rows[0][-1], start),)
                total = pack(self.elements.load(state, local))
                for index in rows:
                    value = self.elements.vector(op.operands[0], index)
                    total = accumulator.combine(self.kernel, total, value)
                self.elements.store(state, local, unpack(total))

        return body

    def _local(self, column: Index, start: Val) -> Index:
        minus = self.code.binary("arith.subi", self.code.i64(0), start)
        return shifted(self.code, column, minus)

    def _reload(self, op: Op, start: Val) -> Override:
        return lambda index, guard: self.state(op, index[-1], start, guard)

    def _store_reduced(self, kept: Indices, start: Val, stop: Val) -> None:
        plan = self.plan

        def step(column: Index, carried: Sequence[Val]) -> Sequence[Val]:
            index = (*kept, column)
            results = [self.elements.at(plan.block.yielded[i], index) for i in plan.reduced_yields]
            for i, result in zip(plan.reduced_yields, results, strict=True):
                self.elements.store(self.outputs[i], index, result)
            return carried

        sweep(self.elements, start, stop, step)

    def _store_full(self, rows: Sequence[Indices]) -> None:
        plan = self.plan
        for index in rows:
            results = [self.elements.at(plan.block.yielded[i], index) for i in plan.full_yields]
            for i, result in zip(plan.full_yields, results, strict=True):
                self.elements.store(self.outputs[i], index, result)
