"""Finishing the sums of a convolution on blocked channels: what follows them, and their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.elements import least, minus, store_as
from graphmill.codegen.cpu.contract.finish import apply
from graphmill.codegen.cpu.contract.packing import transpose
from graphmill.codegen.cpu.convolve.blocked_tiles import BlockedPlace
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Val

if TYPE_CHECKING:
    from graphmill.codegen.cpu.convolve.blocked import Item, Loops


def finish_blocked(loops: Loops, item: Item, block: Val, line: Val, sums: Val) -> None:
    """A block's sums of a line, place by place."""
    code, spec, shape = loops.code, loops.spec, loops.shape
    line, start, width = loops.places(line)
    target = code.at(
        loops.result(item, block, line), code.mul(start, spec.w_block), memory_type(spec.out)
    )
    with code.loop(0, width) as place:
        for part in range(shape.parts):
            lane = part * shape.lanes
            at = code.add(code.mul(place.i, spec.w_block), lane)
            value = code.load(code.at(sums, at, shape.element), shape.vector, shape.bytes)
            where = BlockedPlace(
                block,
                code.add(start, place.i),
                item.image,
                shape.lanes,
                None,
                loops.extra,
                line,
                code.i64(lane),
                item.plane,
            )
            done = apply(code, loops.epilogue, value, spec.acc, where)
            store_as(code, done, target, at, spec.out)


def finish_plain(loops: Loops, item: Item, block: Val, line: Val, sums: Val) -> None:
    """Squares of places and channels are transposed on their way into the result."""
    code, spec, shape = loops.code, loops.spec, loops.shape
    if _in_whole_squares(loops):
        _whole_squares(loops, item, block, line, sums)
        return
    lanes, (line, start, width) = shape.lanes, loops.places(line)
    with code.loop(0, shape.parts) as part, code.loop(0, width, lanes) as at:
        left = minus(code, width, at.i)
        first = code.mul(part.i, lanes)
        rows = []
        for i in range(lanes):
            place = least(code, code.add(at.i, i), code.add(width, -1))
            index = code.add(code.mul(place, spec.w_block), first)
            rows.append(code.load(code.at(sums, index, shape.element), shape.vector, shape.bytes))
        buffer = code.alloca(shape.element, lanes * lanes)
        for i, across in enumerate(transpose(code, rows)):
            code.store(across, code.at(buffer, i * lanes, shape.element), shape.bytes)
        channel = code.add(code.mul(block, spec.w_block), first)
        room = minus(code, code.i64(spec.filters * spec.groups), channel)
        full = code.compare("arith.cmpi", "sge", left, code.i64(lanes))
        with code.loop(0, least(code, room, code.i64(lanes))) as row:
            own = code.add(channel, row.i)
            target = code.at(loops.result(item, own, line), start, memory_type(spec.out))
            value = code.load(
                code.at(buffer, code.mul(row.i, lanes), shape.element), shape.vector,
                shape.bytes,
            )  # fmt: skip
            for masked in (False, True):
                with code.otherwise() if masked else code.when(full):
                    mask = memory.tail_mask(code, left, lanes) if masked else None
                    where = BlockedPlace(
                        own,
                        code.add(start, at.i),
                        item.image,
                        lanes,
                        mask,
                        loops.extra,
                        line,
                        code.i64(0),
                        item.plane,
                    )
                    done = apply(code, loops.epilogue, value, spec.acc, where)
                    store_as(code, done, target, at.i, spec.out, mask)


def _in_whole_squares(loops: Loops) -> bool:
    """Whether squares, the last one of a line moved back, cover bare sums of all channels."""
    spec, lanes = loops.spec, loops.shape.lanes
    whole = not spec.free and spec.out_sizes[1] >= lanes and not spec.filters % spec.w_block
    return whole and loops.epilogue is None


def _whole_squares(loops: Loops, item: Item, block: Val, line: Val, sums: Val) -> None:
    """As `finish_plain`, without what partial squares and other rows' ops need."""
    code, spec, shape = loops.code, loops.spec, loops.shape
    lanes, (height, width) = shape.lanes, spec.out_sizes
    channel = code.mul(block, spec.w_block)
    target, apart = loops.result(item, channel, line), spec.out_planes * height * width
    with code.loop(0, shape.parts) as part, code.loop(0, width, lanes) as at:
        place = least(code, at.i, code.i64(width - lanes))
        index = code.add(code.mul(place, spec.w_block), code.mul(part.i, lanes))
        square = code.at(sums, index, shape.element)
        rows = [
            code.load(code.at(square, i * spec.w_block, shape.element), shape.vector, shape.bytes)
            for i in range(lanes)
        ]
        first = code.add(code.mul(part.i, lanes * apart), place)
        for i, across in enumerate(transpose(code, rows)):
            own = code.at(target, code.add(first, i * apart), memory_type(spec.out))
            store_as(code, across, own, 0, spec.out)
