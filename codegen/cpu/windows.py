"""Sliding-window reductions (pooling): every result element combines its window's taps."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.elem import select
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index, Indices, at_least, below, both, scaled, shifted
from graphmill.codegen.cpu.kernel import Source
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import item_range, row_blocks, sweep
from graphmill.codegen.cpu.lowering import info_of, lowers
from graphmill.codegen.cpu.stages import Accumulator, pack, unpack
from graphmill.codegen.cpu.window_rows import emit_rows, is_rows
from graphmill.ir.dims import product
from graphmill.ir.graph import Op


@lowers("window_reduce")
def _window_reduce(host: Host, op: Op) -> None:
    if is_rows(op):
        emit_rows(host, op)
        return
    (output,) = host.place(op)
    (operand,) = op.operands
    kernel = host.kernel(f"window_{op.attrs['monoid']}")
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    elements = Elements(kernel, {})
    shape = op.result.shape
    if not shape:
        elements.store(target, (), elements.load(source, ()))
        host.launch(kernel, Launch(1, 1), info_of(op, kernel.name, False))
        return
    blocks = row_blocks(shape[-1])
    with kernel.code.loop(kernel.begin, kernel.end) as item, elements.scope():
        outer, low, high = item_range(kernel, item.i, shape, blocks)

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            index = (*outer, position)
            elements.store(target, index, unpack(_combined(elements, op, source, index)))
            return carried

        sweep(elements, low, high, body)
    taps = product(op.attrs["window"])
    width = shape[-1] if isinstance(shape[-1], int) else 1024
    work = grain(width * 2.0 * (taps if isinstance(taps, int) else 1))
    host.launch(
        kernel, Launch(product((*shape[:-1], blocks)), work), info_of(op, kernel.name, True)
    )


def _combined(elements: Elements, op: Op, source: Source, index: Indices) -> list[Val]:
    """The window's taps combined, axis by axis in nested loops."""
    accumulator = Accumulator(op.attrs["monoid"], op.operands[0].tensor.dtype)
    start = accumulator.start(elements.code, elements.lanes)

    def along(axis: int, at: tuple[Index, ...], inside: Val | None, state: list[Val]) -> list[Val]:
        if axis == len(index):
            return _tap(elements, accumulator, source, at, inside, state)
        size = op.attrs["window"][axis]
        if size == 1:
            place, mask = _tapped(elements, op, index, axis, None)
            return along(axis + 1, (*at, place), both(elements.code, inside, mask), state)
        with elements.code.loop(0, size, 1, state) as loop, elements.scope(elements.tail):
            place, mask = _tapped(elements, op, index, axis, loop.i)
            inner = both(elements.code, inside, mask)
            loop.next = along(axis + 1, (*at, place), inner, loop.carried)
        return loop.results

    return along(0, (), None, start)


def _tapped(
    elements: Elements, op: Op, index: Indices, axis: int, tap: Val | None
) -> tuple[Index, Val | None]:
    """The operand's position for one tap along one axis, and whether it lies inside."""
    code, attrs = elements.code, op.attrs
    place = shifted(code, scaled(code, index[axis], attrs["strides"][axis]), -attrs["low"][axis])
    if tap is not None:
        place = shifted(code, place, code.mul(tap, attrs["dilation"][axis]))
    if not attrs["low"][axis] and not attrs["high"][axis]:
        return place, None
    size = elements.dim(op.operands[0].shape[axis])
    inside = both(
        code, at_least(code, place, 0, elements.lanes), below(code, place, size, elements.lanes)
    )
    return place, inside


def _tap(
    elements: Elements, accumulator: Accumulator, source: Source, at: Indices,
    inside: Val | None, state: list[Val],
) -> list[Val]:  # fmt: skip
    value = elements.load(source, at, inside)
    after = accumulator.combine(elements.kernel, state, value)
    if inside is None:
        return after
    mask = elements.code.splat(inside, elements.lanes)
    return pack(select(elements.code, mask, unpack(after), unpack(state)))
