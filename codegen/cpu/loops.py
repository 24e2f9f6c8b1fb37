"""Loop kernels: elementwise and index ops over one shape, vectorised along the last axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.index import Index, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.memory import tail_mask
from graphmill.ir.dims import DimLike, maximum, product
from graphmill.ir.graph import Block, Op, Value

BLOCK = 16384  # elements of the last axis that one work item takes at most
WORK = 65536  # scalar operations that are worth handing to another thread


@dataclass(frozen=True, slots=True)
class Launch:
    """How the host runs a kernel: work items, and the least number one thread should take."""

    items: DimLike
    grain: int


def emit_loop(
    kernel: Kernel, block: Block, sources: dict[Value, Source], outputs: Sequence[Source]
) -> Launch:
    """Write the loop kernel for `block`: its i-th yield is stored to `outputs[i]`."""
    elements = Elements(kernel, sources)
    values, shape = block.yielded, outputs[0].shape
    if not shape:
        for value, output in zip(values, outputs, strict=True):
            elements.store(output, (), elements.at(value, ()))
        return Launch(1, 1)
    blocks = row_blocks(shape[-1])
    with kernel.code.loop(kernel.begin, kernel.end) as item:
        outer, low, high = item_range(kernel, item.i, shape, blocks)

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            index = (*outer, position)
            results = [elements.at(value, index) for value in values]
            for result, output in zip(results, outputs, strict=True):
                elements.store(output, index, result)
            return carried

        with elements.scope():
            sweep(elements, low, high, body)
    per_item = min(shape[-1], BLOCK) if isinstance(shape[-1], int) else BLOCK
    return Launch(product((*shape[:-1], blocks)), grain(per_item * flops_per_element(block.ops)))


def flops_per_element(ops: Sequence[Op]) -> float:
    """Scalar operations of the ops in a region for one element, at least one."""
    return max(1.0, sum(max(op.definition.flops, 0.25) for op in ops))


def grain(work: float) -> int:
    """The number of items of `work` operations that one thread should take at least."""
    return max(1, int(WORK / max(1.0, work)))


def row_blocks(size: DimLike) -> DimLike:
    """The number of blocks the last axis is cut into."""
    if isinstance(size, int):
        return max(1, -(-size // BLOCK))
    return maximum(1, (size + BLOCK - 1) // BLOCK)


def item_range(
    kernel: Kernel, item: Val, shape: Sequence[DimLike], blocks: DimLike
) -> tuple[tuple[Index, ...], Val | int, Val | int]:
    """The outer positions of a work item and its range of the last axis."""
    code, inner = kernel.code, kernel.size(shape[-1])
    row, low, high = item, 0, inner
    if blocks != 1:
        count, number = kernel.dim(blocks), item
        if all(dim == 1 for dim in shape[:-1]):
            row = code.i64(0)
        else:
            row = code.binary("arith.divui", item, count)
            number = code.binary("arith.remui", item, count)
        start = code.mul(number, BLOCK)
        return (
            outer_positions(kernel, row, shape[:-1]),
            start,
            code.binary("arith.minsi", code.add(start, BLOCK), kernel.dim(shape[-1])),
        )
    return outer_positions(kernel, row, shape[:-1]), low, high


def outer_positions(kernel: Kernel, row: Val, shape: Sequence[DimLike]) -> tuple[Index, ...]:
    """The position of row number `row` along each outer axis."""
    if not shape:
        return ()
    sizes = [kernel.size(dim) for dim in shape]
    return tuple(Index(position) for position in unravel(kernel.code, row, sizes))


Body = Callable[[Index, Sequence[Val]], Sequence[Val]]


def sweep(
    elements: Elements,
    low: Val | int,
    high: Val | int,
    body: Body,
    carry: Sequence[Val] = (),
) -> Sequence[Val]:
    """Run `body(position, carried)` on lanes from `low` to `high`; returns what it carried.

    Whole vectors run in a loop, the rest once under a mask (`elements.tail`).
    """
    code, lanes = elements.code, elements.lanes
    if isinstance(low, int) and isinstance(high, int):
        rest = (high - low) % lanes
        middle: Val | int = high - rest
        left: Val | int = rest
    else:
        first = code.i64(low) if isinstance(low, int) else low
        last = code.i64(high) if isinstance(high, int) else high
        count = code.binary("arith.subi", last, first)
        left = code.binary("arith.andi", count, code.i64(lanes - 1))
        middle = code.binary("arith.subi", last, left)
    if low != middle:
        with code.loop(low, middle, lanes, carry) as vectors, elements.scope():
            vectors.next = list(body(Index(vectors.i, 1), vectors.carried))
        carry = vectors.results
    if left == 0:
        return carry
    position = code.i64(middle) if isinstance(middle, int) else middle
    if isinstance(left, int):
        with elements.scope(tail_mask(code, code.i64(left), lanes)):
            return body(Index(position, 1), carry)
    some = code.compare("arith.cmpi", "sgt", left, code.i64(0))
    if not carry:
        with code.when(some), elements.scope(tail_mask(code, left, lanes)):
            body(Index(position, 1), carry)
        return carry
    with code.choose(some, carry) as rest_, elements.scope(tail_mask(code, left, lanes)):
        rest_.next = list(body(Index(position, 1), carry))
    return rest_.results
