"""Reductions of few long rows: blocks of a row in parallel, then the partial results.

The blocks do not depend on the number of threads, so neither does the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.accumulate import accumulate
from graphmill.codegen.cpu.element import Elements, fixed
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source, Storage
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import BLOCK, outer_positions, row_blocks, sweep
from graphmill.codegen.cpu.stages import Accumulator, Plan, absorbed, absorbing, merged, unpack
from graphmill.codegen.cpu.widths import lanes_for
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Op, Value

FEW = 4  # rows that are too few to share
LONG = 1 << 16  # elements of one row from which its sweep is shared by several work items
Info = Callable[[Op, str, bool], KernelInfo]


def emit_whole(
    host: Host,
    op: Op,
    plan: Plan,
    operands: Sequence[Buffer],
    outputs: Sequence[Buffer],
    label: str,
    info: Info,
) -> None:
    """Write and launch both kernels: partial results into scratch memory, then the rest."""
    per_row = product((*(plan.shape[i] for i in plan.reduced[:-1]), row_blocks(plan.shape[-1])))
    count = product((*plan.kept_shape, per_row))
    storages = partial_results(host, op, count, [Accumulator.of(o) for o in plan.sweeps[0]])
    _partials(host, op, plan, operands, storages, per_row, label, info)
    _finish(host, op, plan, operands, outputs, storages, per_row, label, info)


def partial_results(
    host: Host, op: Op, count: DimLike, accumulators: Sequence[Accumulator]
) -> list[Storage]:
    """Scratch memory for `count` partial results of each reduction."""
    return scratch_arrays(host, op, [count * a.memory.itemsize for a in accumulators])


def few_rows(rows: DimLike, length: DimLike) -> bool:
    """Whether there are too few rows to share among threads, and they are long."""
    if not isinstance(rows, int) or rows > FEW:
        return False
    return not isinstance(length, int) or length >= LONG


def scratch_arrays(host: Host, op: Op, sizes: Sequence[DimLike]) -> list[Storage]:
    """Memory of so many bytes each for what the first kernel of `op` leaves to the second."""
    total: DimLike = 0
    offsets: list[DimLike] = []
    for size in sizes:
        offsets.append(total)
        total = total + (size + 63) // 64 * 64
    base = host.scratch(lambda code, dim: (dim(total), code.i64(0)))
    storages = []
    for number, offset in enumerate(offsets):
        storage = Storage(("partial", id(op), number), True)
        host.lend(storage, host.code.at(base, host.dim(offset), "i8"))
        storages.append(storage)
    return storages


def sources_of(
    host: Host, kernel: Kernel, plan: Plan, operands: Sequence[Buffer]
) -> dict[Value, Source]:
    """The operands' arrays, as the kernel sees them."""
    return {
        arg: host.source(kernel, arg, buffer)
        for arg, buffer in zip(plan.block.args, operands, strict=True)
    }


def _partials(
    host: Host, op: Op, plan: Plan, operands: Sequence[Buffer], storages: Sequence[Storage],
    per_row: DimLike, label: str, info: Info,
) -> None:  # fmt: skip
    kernel = host.kernel(f"{label}_partial")
    sources = sources_of(host, kernel, plan, operands)
    elements = Elements(kernel, sources, lanes_for(kernel, plan.block))
    code, reduces = kernel.code, plan.sweeps[0]
    accumulators = [Accumulator.of(o) for o in reduces]
    pointers = [kernel.pointer(s) for s in storages]
    neutral = [v for a in accumulators for v in a.start(code, 0)]
    ends_early = absorbing(accumulators)
    with code.loop(kernel.begin, kernel.end, 1, neutral if ends_early else ()) as item:
        if ends_early:
            number = code.binary("arith.remui", item.i, kernel.dim(per_row))
            fresh = code.compare("arith.cmpi", "eq", number, code.i64(0))
            states = [code.select(fresh, v, c) for v, c in zip(neutral, item.carried, strict=True)]
            known = absorbed(code, accumulators, states)
            with code.choose(
                code.binary("arith.xori", known, code.const(True, "i1")), states
            ) as go:
                found = _one_block(elements, plan, accumulators, item.i)
                go.next = merged(kernel, accumulators, states, found)
            states = item.next = go.results
        else:
            states = _one_block(elements, plan, accumulators, item.i)
        for a, pointer in zip(accumulators, pointers, strict=True):
            state, states = states[: a.parts], states[a.parts :]
            memory.store(code, unpack(state), pointer, item.i, a.memory)
    work = grain(BLOCK * flops_per_element(plan.block.ops))
    launch = Launch(product((*plan.kept_shape, per_row)), work)
    host.launch(kernel, launch, info(op, kernel.name, True))


def _one_block(
    elements: Elements, plan: Plan, accumulators: Sequence[Accumulator], item: Val
) -> list[Val]:
    """What the reductions make of block number `item` of all rows' blocks."""
    code, kernel = elements.code, elements.kernel
    blocks, axes = row_blocks(plan.shape[-1]), [*plan.kept_axes, *plan.reduced[:-1]]
    number = code.binary("arith.remui", item, kernel.dim(blocks))
    row = code.binary("arith.divui", item, kernel.dim(blocks))
    positions = unravel(code, row, [kernel.size(plan.shape[i]) for i in axes])
    at = {axis: Index(p) for axis, p in zip(axes, positions, strict=True)}
    start, last = code.mul(number, BLOCK), kernel.dim(plan.shape[-1])
    stop = code.binary("arith.minsi", code.add(start, BLOCK), last)

    def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
        full = {**at, len(plan.shape) - 1: position}
        index = tuple(full[i] for i in range(len(plan.shape)))
        result: list[Val] = []
        for o, a in zip(plan.sweeps[0], accumulators, strict=True):
            state = carried[len(result) : len(result) + a.parts]
            result += accumulate(elements, o, state, index)
        return result

    carry = [v for a in accumulators for v in a.start(code, elements.lanes)]
    with elements.scope():
        final = sweep(
            elements, start, stop, body, carry,
            merge=lambda a, b: merged(kernel, accumulators, a, b),
        )  # fmt: skip
    found: list[Val] = []
    for a in accumulators:
        found += a.across(kernel, final[len(found) : len(found) + a.parts])
    return found


def _finish(
    host: Host, op: Op, plan: Plan, operands: Sequence[Buffer], outputs: Sequence[Buffer],
    storages: Sequence[Storage], per_row: DimLike, label: str, info: Info,
) -> None:  # fmt: skip
    kernel = host.kernel(f"{label}_total")
    elements = Elements(kernel, sources_of(host, kernel, plan, operands))
    code, reduces = kernel.code, plan.sweeps[0]
    pointers = [kernel.pointer(s) for s in storages]
    targets = [
        host.source(kernel, value, buffer)
        for value, buffer in zip(plan.block.yielded, outputs, strict=True)
    ]
    count = kernel.dim(per_row)
    with code.loop(kernel.begin, kernel.end) as row, elements.scope():
        kept = outer_positions(kernel, row.i, plan.kept_shape)
        first = code.mul(row.i, count)
        for o, pointer in zip(reduces, pointers, strict=True):
            a = Accumulator.of(o)
            with code.loop(0, count, 1, a.start(code, 0)) as loop:
                value = memory.load(code, pointer, code.add(first, loop.i), a.memory, 0)
                loop.next = a.combine(kernel, loop.carried, value)
            elements.overrides[o.result] = fixed(unpack(loop.results))
        for value_, target in zip(plan.block.yielded, targets, strict=True):
            elements.store(target, kept, elements.at(value_, kept))
    rows = product(plan.kept_shape)
    host.launch(kernel, Launch(rows, 1 << 30), info(op, kernel.name, False))
