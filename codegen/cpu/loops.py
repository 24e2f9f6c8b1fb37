"""Loop kernels: elementwise and index ops over one shape, vectorised along the last axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu.bypass import bypassing, fence
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.index import Index, Indices, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.memory import tail_mask
from graphmill.codegen.cpu.segments import Segment, segments
from graphmill.codegen.cpu.widths import lanes_for
from graphmill.ir.dims import DimLike, maximum, product
from graphmill.ir.graph import Block, Value

CHAINS = 4  # independent accumulators of a sweep that carries state
PIECE = 2048  # elements between two looks at whether a sweep's result is known
BLOCK = 16384  # elements of the last axis that one work item takes at most
BLOCKS = (4096, 8192, 16384, 32768, 65536)
UNROLLS = (1, 2, 4)


def emit_loop(
    kernel: Kernel, block: Block, sources: dict[Value, Source], outputs: Sequence[Source]
) -> Launch:
    """Write the loop kernel for `block`: its i-th yield is stored to `outputs[i]`."""
    elements = Elements(kernel, sources, lanes_for(kernel, block))
    values, shape = block.yielded, outputs[0].shape
    if not shape:
        for value, output in zip(values, outputs, strict=True):
            elements.store(output, (), elements.at(value, ()))
        return Launch(1, 1)
    long = kernel.choices.pick("block", BLOCK, BLOCKS)
    together = kernel.choices.pick("unroll", 1, UNROLLS)
    cut = segments(block, shape)
    if _weaves(cut, outputs):
        return _emit_woven(kernel, block, elements, outputs, cut)
    blocks = row_blocks(shape[-1], long)
    aligned = all(isinstance(s.low, int) and s.low % elements.lanes == 0 for s in cut)
    elements.bypass = bypassing(kernel, outputs) if aligned else {}
    with kernel.code.loop(kernel.begin, kernel.end) as item:
        outer, low, high = item_range(kernel, item.i, shape, blocks, long)

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            index = (*outer, position)
            results = [elements.at(value, index) for value in values]
            for result, output in zip(results, outputs, strict=True):
                elements.store(output, index, result)
            return carried

        for segment in cut:
            with elements.scope():
                elements.parts = segment.parts
                inside = _within(kernel, low, high, segment, shape[-1])
                sweep(elements, *inside, body, together=together)
    fence(kernel, elements.bypass)
    per_item = min(shape[-1], long) if isinstance(shape[-1], int) else long
    return Launch(product((*shape[:-1], blocks)), grain(per_item * flops_per_element(block.ops)))


def _weaves(cut: Sequence[Segment], outputs: Sequence[Source]) -> bool:
    """Whether the last axis is cut into single positions, as a stack along it is."""
    count = len(cut)
    if outputs[0].shape[-1] != count or count == 1:
        return False
    from graphmill.codegen.cpu.interleave import is_woven

    return all(is_woven(output, count) for output in outputs)


def _emit_woven(
    kernel: Kernel, block: Block, elements: Elements, outputs: Sequence[Source],
    cut: Sequence[Segment],
) -> Launch:  # fmt: skip
    """Lanes along the axis before the last, whose positions are all computed, then interleaved."""
    from graphmill.codegen.cpu import interleave

    code, values, shape = kernel.code, block.yielded, outputs[0].shape[:-1]
    blocks = row_blocks(shape[-1])
    with code.loop(kernel.begin, kernel.end) as item:
        outer, low, high = item_range(kernel, item.i, shape, blocks)

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            found: list[list[Val]] = [[] for _ in values]
            for number, segment in enumerate(cut):
                elements.parts = segment.parts
                index = (*outer, position, Index(code.i64(number)))
                for value, parts in zip(values, found, strict=True):
                    parts.append(elements.at(value, index))  # type: ignore[arg-type]
            for output, parts in zip(outputs, found, strict=True):
                first = (*outer, position, Index(code.i64(0)))
                interleave.store(elements, output, first, parts)
            return carried

        with elements.scope():
            sweep(elements, low, high, body)
    per_item = min(shape[-1], BLOCK) if isinstance(shape[-1], int) else BLOCK
    work = per_item * len(cut) * flops_per_element(block.ops)
    return Launch(product((*shape[:-1], blocks)), grain(work))


def _within(
    kernel: Kernel, low: Val | int, high: Val | int, segment: Segment, size: DimLike
) -> tuple[Val | int, Val | int]:
    """The part of `low … high` that lies in a segment of an axis of `size`; maybe empty."""
    code, first, last = kernel.code, segment.low, segment.high
    if (first, last) == (0, size):
        return low, high
    if isinstance(low, int) and isinstance(high, int) and isinstance(first, int):
        start = max(low, first)
        if isinstance(last, int):
            return start, max(start, min(high, last))
    begin = code.binary("arith.maxsi", _word(code, low), kernel.dim(first))
    end = code.binary("arith.minsi", _word(code, high), kernel.dim(last))
    return begin, code.binary("arith.maxsi", end, begin)


def _word(code: Code, size: Val | int) -> Val:
    return code.i64(size) if isinstance(size, int) else size


def row_blocks(size: DimLike, block: int = BLOCK) -> DimLike:
    """The number of blocks the last axis is cut into."""
    if isinstance(size, int):
        return max(1, -(-size // block))
    return maximum(1, (size + block - 1) // block)


def item_range(
    kernel: Kernel, item: Val, shape: Sequence[DimLike], blocks: DimLike, block: int = BLOCK
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
        start = code.mul(number, block)
        return (
            outer_positions(kernel, row, shape[:-1]),
            start,
            code.binary("arith.minsi", code.add(start, block), kernel.dim(shape[-1])),
        )
    return outer_positions(kernel, row, shape[:-1]), low, high


def outer_positions(kernel: Kernel, row: Val, shape: Sequence[DimLike]) -> tuple[Index, ...]:
    """The position of row number `row` along each outer axis."""
    if not shape:
        return ()
    sizes = [kernel.size(dim) for dim in shape]
    return tuple(Index(position) for position in unravel(kernel.code, row, sizes))


Body = Callable[[Index, Sequence[Val]], Sequence[Val]]
Merge = Callable[[Sequence[Val], Sequence[Val]], Sequence[Val]]


def sweep(
    elements: Elements,
    low: Val | int,
    high: Val | int,
    body: Body,
    carry: Sequence[Val] = (),
    *,
    merge: Merge | None = None,
    together: int = 0,
) -> Sequence[Val]:
    """Run `body(position, carried)` on lanes from `low` to `high`; returns what it carried.

    Whole vectors run in a loop, `together` a turn, the rest once under a mask (`elements.tail`).
    With `merge`, which combines two carried states, they are independent chains (`CHAINS` unless
    `together` says otherwise), which hides latency; `carry` must then be neutral.
    """
    code, lanes = elements.code, elements.lanes
    together = together or (1 if merge is None else CHAINS)
    middle, left = split_lanes(code, low, high, lanes)
    if together > 1 and not _known_short(low, middle, 2 * together * lanes):
        low, carry = _together(elements, low, middle, body, carry, merge, together)
    if low != middle:
        with code.loop(low, middle, lanes, carry) as vectors, elements.scope():
            vectors.next = list(body(Index(vectors.i, 1), vectors.carried))
        carry = vectors.results
    if left == 0:
        return carry
    position = Index(code.i64(middle) if isinstance(middle, int) else middle, 1)
    if isinstance(left, int):
        with elements.scope(tail_mask(code, code.i64(left), lanes)):
            return body(position, carry)
    some = code.compare("arith.cmpi", "sgt", left, code.i64(0))
    if not carry:
        with code.when(some), elements.scope(tail_mask(code, left, lanes)):
            body(position, carry)
        return carry
    with code.choose(some, carry) as rest, elements.scope(tail_mask(code, left, lanes)):
        rest.next = list(body(position, carry))
    return rest.results


def sweep_aligned(
    elements: Elements, low: Val | int, high: Val | int, body: Body, target: Source,
    start: Indices,
) -> None:  # fmt: skip
    """`sweep` whose vectors are stored to aligned places of `target`: `start` is that of `low`.

    Those before the first aligned place go under a mask. A vector that crosses a cache line takes
    two accesses, of which a store is the dearest.
    """
    code, size = elements.code, target.dtype.itemsize
    align = min(elements.lanes * size, elements.kernel.target.vector_bits // 8)
    address = elements.address(target, start)
    number = code.op(f"llvm.ptrtoint {address} : !llvm.ptr to i64", "i64")
    behind = code.binary(
        "arith.andi", code.binary("arith.subi", code.i64(0), number), code.i64(align - 1)
    )
    count = code.binary("arith.shrui", behind, code.i64(size.bit_length() - 1))
    first = _word(code, low)
    count = code.binary("arith.minsi", count, code.binary("arith.subi", _word(code, high), first))
    some = code.compare("arith.cmpi", "sgt", count, code.i64(0))
    with code.when(some), elements.scope(tail_mask(code, count, elements.lanes)):
        body(Index(first, 1), ())
    sweep(elements, code.add(first, count), high, body)


def sweep_until(
    elements: Elements, high: Val | int, body: Body, carry: Sequence[Val], merge: Merge | None,
    done: Callable[[Sequence[Val]], Val],
) -> Sequence[Val]:  # fmt: skip
    """`sweep` from 0 in pieces, of which none runs once `done`, of what is carried, holds.

    `merge` also joins what a piece carries, which starts from `carry`, with what came before.
    """
    code = elements.code
    end = code.i64(high) if isinstance(high, int) else high
    if merge is None or (isinstance(high, int) and high <= 2 * PIECE):
        return sweep(elements, 0, high, body, carry, merge=merge)
    with code.loop(0, end, PIECE, carry) as pieces:
        more = code.binary("arith.xori", done(pieces.carried), code.const(True, "i1"))
        with code.choose(more, pieces.carried) as this, elements.scope():
            stop = code.binary("arith.minsi", code.add(pieces.i, PIECE), end)
            found = sweep(elements, pieces.i, stop, body, carry, merge=merge)
            this.next = list(merge(pieces.carried, found))
        pieces.next = this.results
    return pieces.results


def split_lanes(
    code: Code, low: Val | int, high: Val | int, lanes: int
) -> tuple[Val | int, Val | int]:
    """Where the whole vectors end, and how many elements are left after them."""
    if isinstance(low, int) and isinstance(high, int):
        rest = (high - low) % lanes
        return high - rest, rest
    first = code.i64(low) if isinstance(low, int) else low
    last = code.i64(high) if isinstance(high, int) else high
    count = code.binary("arith.subi", last, first)
    left = code.binary("arith.andi", count, code.i64(lanes - 1))
    return code.binary("arith.subi", last, left), left


def whole_turns(code: Code, low: Val | int, high: Val | int, step: int) -> Val | int:
    """Where the turns of `step` elements from `low` on end that do not pass `high`."""
    if isinstance(low, int) and isinstance(high, int):
        return low + (high - low) // step * step
    first, last = _word(code, low), _word(code, high)
    rest = code.binary("arith.remui", code.binary("arith.subi", last, first), code.i64(step))
    return code.binary("arith.subi", last, rest)


def _known_short(low: Val | int, middle: Val | int, least: int) -> bool:
    return isinstance(low, int) and isinstance(middle, int) and middle - low < least


def _together(
    elements: Elements,
    low: Val | int,
    middle: Val | int,
    body: Body,
    carry: Sequence[Val],
    merge: Merge | None,
    together: int,
) -> tuple[Val | int, Sequence[Val]]:
    """The part of a sweep that takes several vectors a turn; returns where it ended."""
    code, lanes, count = elements.code, elements.lanes, len(carry)
    chains, step = together if merge is not None else 1, together * lanes
    end = whole_turns(code, low, middle, step)
    with code.loop(low, end, step, list(carry) * chains) as loop:
        states = [loop.carried[c * count : (c + 1) * count] for c in range(chains)]
        for number in range(together):
            with elements.scope():
                position = Index(code.add(loop.i, number * lanes), 1)
                chain = number % chains
                states[chain] = list(body(position, states[chain]))
        loop.next = [value for state in states for value in state]
    states = [loop.results[c * count : (c + 1) * count] for c in range(chains)]
    while len(states) > 1 and merge is not None:
        states = [list(merge(a, b)) for a, b in zip(states[::2], states[1::2], strict=True)]
    return end, states[0]
