"""Reductions that keep few columns: slices of rows in parallel, then their partial results.

The slices follow from the shape alone, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import field, replace

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.bypass import bypassing, fence
from graphmill.codegen.cpu.columns import Columns, blocks_of, stretch
from graphmill.codegen.cpu.element import Elements, Override, fixed
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source, Storage, contiguous
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import outer_positions, sweep
from graphmill.codegen.cpu.lowering import choices_of
from graphmill.codegen.cpu.stages import Accumulator, Plan, unpack
from graphmill.codegen.cpu.whole import partial_results, sources_of
from graphmill.ir.dims import DimLike, maximum, product
from graphmill.ir.graph import Op, Value
from graphmill.records import record

ROWS = 256  # of a slice at least: what is written for it is little beside what is read
SLICES = 64  # at most
ENOUGH = 32  # work items, for any number of threads
WORTH = 1 << 18  # elements
WORTH_STAGES = 1 << 19  # where each sweep takes two kernels, and full results one more

Info = Callable[[Op, str, bool], KernelInfo]


def wants_slices(plan: Plan) -> bool:
    """Whether blocks of columns are too few to share among threads, and rows are many."""
    if plan.last_reduced:
        return False
    length, items = _rows(plan), product((*plan.kept_shape[:-1], blocks_of(plan.shape[-1])))
    if isinstance(length, int) and length < 2 * ROWS:
        return False
    size = product(plan.shape)
    worth = WORTH if plan.single_stage else WORTH_STAGES
    if not plan.single_stage and not isinstance(size, int):
        return False
    small = isinstance(size, int) and size < worth
    return not small and not (isinstance(items, int) and items >= ENOUGH)


def _rows(plan: Plan) -> DimLike:
    return product(plan.shape[i] for i in plan.reduced)


def emit_column_slices(
    host: Host, op: Op, plan: Plan, operands: Sequence[Buffer], outputs: Sequence[Buffer],
    label: str, info: Info,
) -> None:  # fmt: skip
    """Write and launch both kernels: partial results into scratch memory, then the rest."""
    rows = _rows(plan)
    height = maximum(ROWS, _ceil_div(rows, SLICES))
    slices = maximum(1, _ceil_div(rows, height))
    outer = product(plan.kept_shape[:-1])
    count, cut = product((outer, slices, plan.shape[-1])), (height, slices)
    partial = (product((outer, slices)), plan.shape[-1])
    writer = _Slices(host, op, plan, operands, outputs, cut, partial, f"{label}_", info)
    for number, reduces in enumerate(plan.sweeps):
        stage = replace(plan, sweeps=(reduces,))
        last = number == len(plan.sweeps) - 1
        writer.keep(() if last and not plan.full_yields else reduces)
        storages = partial_results(host, op, count, [Accumulator.of(o) for o in reduces])
        writer.partials(stage, storages)
        writer.total(stage, storages, plan.reduced_yields if last else ())
    if plan.full_yields:
        writer.full()


def _ceil_div(a: DimLike, b: DimLike) -> DimLike:
    return (a + b - 1) // b


@record(frozen=False)
class _Slices:
    """Writing the kernels of one op; `kept` are the reductions that later kernels read."""

    host: Host
    op: Op
    plan: Plan
    operands: Sequence[Buffer]
    outputs: Sequence[Buffer]
    cut: tuple[DimLike, DimLike]  # rows of a slice, slices
    partial: tuple[DimLike, DimLike]  # the shape of partial results
    label: str
    info: Info
    kept: dict[Value, Storage] = field(default_factory=dict)

    def keep(self, reduces: Sequence[Op]) -> None:
        """Reserve memory for what the reductions come to."""
        for o in reduces:
            storage = Storage(("reduced", id(o)), True)
            size = product(self.plan.kept_shape) * Accumulator.of(o).memory.itemsize
            self.host.lend(storage, self.host.reserve(size))
            self.kept[o.result] = storage

    def _elements(self, kernel: Kernel, earlier: Collection[Value]) -> Elements:
        """The block's values; those of `earlier` reductions are read."""
        elements = Elements(kernel, sources_of(self.host, kernel, self.plan, self.operands))
        for value in earlier:
            elements.overrides[value] = self._reading(elements, self._home(kernel, value))
        return elements

    def _reading(self, elements: Elements, source: Source) -> Override:
        return lambda index, guard: elements.load(source, index, guard)

    def _home(self, kernel: Kernel, value: Value) -> Source:
        """Where a reduction's result is kept."""
        shape, pointer = self.plan.kept_shape, kernel.pointer(self.kept[value])
        assert value.op is not None
        return Source(pointer, Accumulator.of(value.op).memory, shape, contiguous(shape))

    def _earlier(self, stage: Plan) -> list[Value]:
        own = [o.result for o in stage.sweeps[0]]
        return [value for value in self.kept if value not in own]

    def _in_scratch(
        self, kernel: Kernel, stage: Plan, storages: Sequence[Storage]
    ) -> dict[Value, Source]:
        """The partial results of each reduction, a line of columns for each slice."""
        shape = self.partial
        return {
            o.result: Source(kernel.pointer(s), Accumulator.of(o).memory, shape, (shape[1], 1))
            for o, s in zip(stage.sweeps[0], storages, strict=True)
        }

    def partials(self, stage: Plan, storages: Sequence[Storage]) -> None:
        """What each slice comes to."""
        kernel = self._kernel("partial")
        columns = Columns(kernel, stage, self._elements(kernel, self._earlier(stage)), ())
        elements, code = columns.elements, kernel.code
        targets = self._in_scratch(kernel, stage, storages)
        slices = kernel.dim(self.cut[1])

        def each(outer: Val, line: Val, start: Val, stop: Val, rows: tuple[Val, Val]) -> None:
            columns.reduce(stage.sweeps[0], columns.place(outer), start, stop, rows)
            here = Index(code.add(code.mul(outer, slices), line))

            def step(column: Index, carried: Sequence[Val]) -> Sequence[Val]:
                for o in stage.sweeps[0]:
                    state = columns.state(o, column, start)
                    elements.store(targets[o.result], (here, column), state)
                return carried

            sweep(elements, start, stop, step)

        self._over_slices(kernel, columns, each)

    def full(self) -> None:
        """The results of the full shape, slice by slice."""
        kernel = self._kernel("full")
        plan, outputs = self.plan, self._outputs(kernel)
        columns = Columns(kernel, plan, self._elements(kernel, self.kept), outputs)
        columns.elements.bypass = bypassing(kernel, [outputs[i] for i in plan.full_yields])

        def each(outer: Val, line: Val, start: Val, stop: Val, rows: tuple[Val, Val]) -> None:
            columns.store_full(outer, start, stop, rows)

        self._over_slices(kernel, columns, each)

    def _over_slices(
        self, kernel: Kernel, columns: Columns,
        each: Callable[[Val, Val, Val, Val, tuple[Val, Val]], None],
    ) -> None:  # fmt: skip
        """Launch `each(outer, slice, first column, last, rows)` for all slices of all blocks."""
        plan, code, width = self.plan, kernel.code, columns.width
        blocks, (height, slices) = blocks_of(plan.shape[-1], width), self.cut
        with code.loop(kernel.begin, kernel.end) as item, columns.elements.scope():
            sizes = [kernel.size(d) for d in (-1, slices, blocks)]
            outer, line, number = unravel(code, item.i, sizes)
            start, stop = stretch(kernel, number, plan.shape[-1], width)
            low = code.mul(line, kernel.dim(height))
            end = code.add(low, kernel.dim(height))
            high = code.binary("arith.minsi", end, kernel.dim(_rows(plan)))
            each(outer, line, start, stop, (low, high))
        fence(kernel, columns.elements.bypass)
        work = grain(_known(height, ROWS) * _known(plan.shape[-1], 1024) * _flops(plan))
        self._launch(kernel, Launch(product((self.partial[0], blocks)), work), True)

    def total(self, stage: Plan, storages: Sequence[Storage], yields: Sequence[int]) -> None:
        """What all slices come to, and the results that follow from it."""
        kernel = self._kernel("total")
        elements = self._elements(kernel, self._earlier(stage))
        plan, code, blocks = self.plan, kernel.code, blocks_of(self.plan.shape[-1])
        parts, outputs = self._in_scratch(kernel, stage, storages), self._outputs(kernel, yields)
        stores = [(plan.block.yielded[i], outputs[i]) for i in yields]
        stores += [(v, self._home(kernel, v)) for v in parts if v in self.kept]
        slices = kernel.dim(self.cut[1])
        with code.loop(kernel.begin, kernel.end) as item, elements.scope():
            outer, number = unravel(code, item.i, [kernel.size(d) for d in (-1, blocks)])
            kept = outer_positions(kernel, outer, plan.kept_shape[:-1])
            start, stop = stretch(kernel, number, plan.shape[-1])
            first = code.mul(outer, slices)

            def step(column: Index, carried: Sequence[Val]) -> Sequence[Val]:
                for o in stage.sweeps[0]:
                    a = Accumulator.of(o)
                    neutral = a.start(code, elements.lanes)
                    with (
                        code.loop(0, slices, 1, neutral) as line,
                        elements.scope(elements.tail),
                    ):
                        place = (Index(code.add(first, line.i)), column)
                        value = elements.load(parts[o.result], place)
                        line.next = a.combine(kernel, line.carried, value)
                    elements.overrides[o.result] = fixed(unpack(line.results))
                index = (*kept, column)
                for value_, target in stores:
                    elements.store(target, index, elements.at(value_, index))
                return carried

            sweep(elements, start, stop, step)
        items = product((product(plan.kept_shape[:-1]), blocks))
        self._launch(kernel, Launch(items, 1 << 30), False)

    def _outputs(self, kernel: Kernel, numbers: Sequence[int] | None = None) -> dict[int, Source]:
        """The arrays of the results with these numbers, or of all."""
        yielded = self.plan.block.yielded
        return {
            i: self.host.source(kernel, yielded[i], self.outputs[i])
            for i in (range(len(yielded)) if numbers is None else numbers)
        }

    def _kernel(self, part: str) -> Kernel:
        choices = choices_of(self.host, self.op, self.plan.block)
        return self.host.kernel(f"{self.label}{part}", choices)

    def _launch(self, kernel: Kernel, launch: Launch, parallel: bool) -> None:
        self.host.launch(kernel, launch, self.info(self.op, kernel.name, parallel))


def _known(size: DimLike, guess: int) -> int:
    return size if isinstance(size, int) else guess


def _flops(plan: Plan) -> float:
    return flops_per_element(plan.block.ops)
