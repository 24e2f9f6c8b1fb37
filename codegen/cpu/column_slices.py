"""Reductions that keep few columns: slices of rows in parallel, then their partial results.

The slices follow from the shape alone, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.columns import Columns, blocks_of, stretch
from graphmill.codegen.cpu.element import Elements, fixed
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source, Storage
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import outer_positions, sweep
from graphmill.codegen.cpu.lowering import choices_of
from graphmill.codegen.cpu.stages import Accumulator, Plan, unpack
from graphmill.codegen.cpu.whole import partial_results, sources_of
from graphmill.ir.dims import DimLike, maximum, product
from graphmill.ir.graph import Op, Value

ROWS = 256  # of a slice at least: what is written for it is little beside what is read
SLICES = 64  # at most
ENOUGH = 32  # work items, for any number of threads
WORTH = 1 << 18  # elements

Info = Callable[[Op, str, bool], KernelInfo]


def wants_slices(plan: Plan) -> bool:
    """Whether blocks of columns are too few to share among threads, and rows are many."""
    if plan.last_reduced or not plan.single_stage:
        return False
    length, items = _rows(plan), product((*plan.kept_shape[:-1], blocks_of(plan.shape[-1])))
    if isinstance(length, int) and length < 2 * ROWS:
        return False
    size = product(plan.shape)
    small = isinstance(size, int) and size < WORTH
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
    accumulators = [Accumulator.of(o) for o in plan.sweeps[0]]
    count = product((outer, slices, plan.shape[-1]))
    storages = partial_results(host, op, count, accumulators)
    partial = (product((outer, slices)), plan.shape[-1])
    _partials(host, op, plan, operands, storages, (height, slices), partial, label, info)
    _total(host, op, plan, operands, outputs, storages, slices, partial, label, info)


def _ceil_div(a: DimLike, b: DimLike) -> DimLike:
    return (a + b - 1) // b


def _in_scratch(
    kernel: Kernel, plan: Plan, storages: Sequence[Storage], shape: tuple[DimLike, DimLike]
) -> dict[Value, Source]:
    """The partial results of each reduction, a line of columns for each slice."""
    return {
        o.result: Source(kernel.pointer(s), Accumulator.of(o).memory, shape, (shape[1], 1))
        for o, s in zip(plan.sweeps[0], storages, strict=True)
    }


def _partials(
    host: Host, op: Op, plan: Plan, operands: Sequence[Buffer], storages: Sequence[Storage],
    cut: tuple[DimLike, DimLike], partial: tuple[DimLike, DimLike], label: str, info: Info,
) -> None:  # fmt: skip
    kernel = host.kernel(f"{label}_partial", choices_of(host, op, plan.block))
    columns = Columns(kernel, plan, Elements(kernel, sources_of(host, kernel, plan, operands)), ())
    elements, code, width = columns.elements, kernel.code, columns.width
    blocks = blocks_of(plan.shape[-1], width)
    targets = _in_scratch(kernel, plan, storages, partial)
    height, slices = cut
    with code.loop(kernel.begin, kernel.end) as item, elements.scope():
        outer, line, number = unravel(code, item.i, [kernel.size(d) for d in (-1, slices, blocks)])
        start, stop = stretch(kernel, number, plan.shape[-1], width)
        low = code.mul(line, kernel.dim(height))
        high = code.binary(
            "arith.minsi", code.add(low, kernel.dim(height)), kernel.dim(_rows(plan))
        )
        at = columns.place(outer)
        columns.reduce(plan.sweeps[0], at, start, stop, (low, high))
        here = Index(code.add(code.mul(outer, kernel.dim(slices)), line))

        def step(column: Index, carried: Sequence[Val]) -> Sequence[Val]:
            for o in plan.sweeps[0]:
                elements.store(targets[o.result], (here, column), columns.state(o, column, start))
            return carried

        sweep(elements, start, stop, step)
    work = grain(_known(height, ROWS) * _known(plan.shape[-1], 1024) * _flops(plan))
    host.launch(kernel, Launch(product((partial[0], blocks)), work), info(op, kernel.name, True))


def _total(
    host: Host, op: Op, plan: Plan, operands: Sequence[Buffer], outputs: Sequence[Buffer],
    storages: Sequence[Storage], slices: DimLike, partial: tuple[DimLike, DimLike], label: str,
    info: Info,
) -> None:  # fmt: skip
    kernel = host.kernel(f"{label}_total")
    elements = Elements(kernel, sources_of(host, kernel, plan, operands))
    code, blocks = kernel.code, blocks_of(plan.shape[-1])
    parts = _in_scratch(kernel, plan, storages, partial)
    targets = [
        host.source(kernel, value, buffer)
        for value, buffer in zip(plan.block.yielded, outputs, strict=True)
    ]
    with code.loop(kernel.begin, kernel.end) as item, elements.scope():
        outer, number = unravel(code, item.i, [kernel.size(d) for d in (-1, blocks)])
        kept = outer_positions(kernel, outer, plan.kept_shape[:-1])
        start, stop = stretch(kernel, number, plan.shape[-1])
        first = code.mul(outer, kernel.dim(slices))

        def step(column: Index, carried: Sequence[Val]) -> Sequence[Val]:
            for o in plan.sweeps[0]:
                a = Accumulator.of(o)
                neutral = a.start(code, elements.lanes)
                with (
                    code.loop(0, kernel.dim(slices), 1, neutral) as line,
                    elements.scope(elements.tail),
                ):
                    place = (Index(code.add(first, line.i)), column)
                    value = elements.load(parts[o.result], place)
                    line.next = a.combine(kernel, line.carried, value)
                elements.overrides[o.result] = fixed(unpack(line.results))
            index = (*kept, column)
            for value_, target in zip(plan.block.yielded, targets, strict=True):
                elements.store(target, index, elements.at(value_, index))
            return carried

        sweep(elements, start, stop, step)
    host.launch(kernel, Launch(product((product(plan.kept_shape[:-1]), blocks)), 1 << 30),
                info(op, kernel.name, False))  # fmt: skip


def _known(size: DimLike, guess: int) -> int:
    return size if isinstance(size, int) else guess


def _flops(plan: Plan) -> float:
    return flops_per_element(plan.block.ops)
