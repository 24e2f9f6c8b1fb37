"""Convolution on blocked channels whose lines and places are known at run time only.

The result is cut into chunks of so many lines and places. What a chunk reads of x is copied into
scratch memory, zeros where it is padding, so that each chunk is a convolution of known sizes and
without padding: loops and tiles are those of known sizes, and compiled once for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.elements import ceil_div, least, minus, most
from graphmill.codegen.cpu.contract.phases import nothing
from graphmill.codegen.cpu.contract.slots import BODY
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmKernel, Phase, Sizes
from graphmill.codegen.cpu.convolve.blocked import Item, Loops
from graphmill.codegen.cpu.convolve.blocked_spec import (
    BlockedSpec,
    Run,
    Shape,
    Tiling,
    cuts_of,
    depth_of,
    line_cost,
    shape_of,
)
from graphmill.codegen.cpu.convolve.blocked_tiles import SLOTS
from graphmill.codegen.cpu.convolve.to_blocks import to_blocks
from graphmill.codegen.cpu.elem import constant, memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dtypes import DType

FREE_SLOTS = (*SLOTS, "lines", "width", "out_lines", "out_width")
_CHUNK = 56  # places of a chunk's line, at least: several sizes of tiles fill it
_LINES = 14  # of a chunk
_WIDTHS = (7, 14, 20, 28, 40, 56)  # of lines, which all count the same
_WORTH_A_THREAD = 1 << 20  # multiply-adds
_COPY = (
    ("x", "!llvm.ptr"), ("x_block", "i64"), ("blocks", "i64"), ("length", "i64"),
    ("out", "!llvm.ptr"), ("out_block", "i64"),
)  # fmt: skip


def emit_free(
    unit: Unit, symbol: str, spec: BlockedSpec, target: Target, epilogue: Epilogue | None = None
) -> GemmKernel:
    """Write the kernel of a free `spec` into `unit`; of the sizes count the batch, and as m and n
    the lines and places of the result. The epilogue gets what `emit_blocked` gives it."""
    code = Code(unit, symbol, BODY, internal=False)
    loops = FreeLoops(code, spec, target, epilogue)
    loops.body()
    code.finish()
    lines, width = loops.spec.out_sizes
    taps = spec.window[0] * spec.window[1] * (spec.lanewise or spec.channels)
    each = lines * width * taps * spec.filters // loops.cut.parts

    def items(into: Code, sizes: Sizes) -> Val:
        chunks = into.mul(ceil_div(into, sizes.m, lines), ceil_div(into, sizes.n, width))
        return into.mul(into.mul(sizes.batch, chunks), loops.cut.parts * spec.groups)

    phase = Phase(symbol, items, lambda into, _: into.i64(max(1, _WORTH_A_THREAD // max(1, each))))
    return GemmKernel((phase,), nothing, lambda into, _: into.i64(loops.scratch), FREE_SLOTS)


def free_chunk(spec: BlockedSpec, target: Target) -> tuple[BlockedSpec, Tiling]:
    """The convolution of known sizes that a whole chunk is, and its cut."""
    shape = shape_of(target, spec.acc, spec.w_block)
    line = replace(spec, out_sizes=(_LINES, _CHUNK))
    cuts = {(-(-_CHUNK // tiles), parts) for tiles, parts in cuts_of(line, target)}
    places, parts = min(sorted(cuts), key=partial(_cost, spec, shape))
    tiles = -(-_CHUNK // places)
    together = -(-spec.w_blocks // parts)
    reach = [(w - 1) * d for w, d in zip(spec.window, spec.dilation, strict=True)]
    width = (tiles * places - 1) * spec.strides[1] + reach[1] + 1
    held = together if spec.lanewise else spec.x_blocks
    each = held * width * spec.x_block * spec.x.itemsize
    fit = (target.l2 * 3 // 8 // each - reach[0] - 1) // spec.strides[0] + 1
    lines = max(1, min(fit, _LINES))
    sizes = (lines - 1) * spec.strides[0] + reach[0] + 1, width
    chunk = replace(spec, sizes=sizes, out_sizes=(lines, tiles * places), low=(0, 0), plain=False)
    return chunk, Tiling(tiles, parts, lines, depth_of(spec, together, shape, target), False)


def _cost(spec: BlockedSpec, shape: Shape, cut: tuple[int, int]) -> float:
    """The estimated time of places in lines of several widths."""
    places, parts = cut
    half, total = -(-places // 2), 0.0
    for width in _WIDTHS:
        count = (width + places - half - 1) // places
        some = int(width > count * places)
        time = line_cost(count * places, count, spec.w_blocks, parts, shape) if count else 0.0
        total += (time + some * line_cost(half, 1, spec.w_blocks, parts, shape)) / width
    return total


class FreeLoops(Loops):
    """The kernel being written; `spec` is that of a chunk, `whole` that of the convolution."""

    names = FREE_SLOTS
    half: Run  # a tile of half the places
    corner: tuple[Val, Val]  # of the chunk: its first line and place
    size: tuple[Val, Val]  # its lines and places

    def __init__(
        self, code: Code, whole: BlockedSpec, target: Target, epilogue: Epilogue | None
    ) -> None:
        chunk, cut = free_chunk(whole, target)
        super().__init__(code, chunk, target, epilogue, cut)
        self.whole = whole
        most = self.runs[0]
        self.half = replace(most, taps=most.taps[: -(-most.places // 2)])
        held = self.together if whole.lanewise else whole.x_blocks
        self.scratch += -(-held * self.plane * whole.x.itemsize // 64) * 64 + 64

    def body(self) -> None:
        """Items are numbered image by image, chunk by chunk, part of the filters by part."""
        code, spec, cut = self.code, self.spec, self.cut
        height, width = self.result_sizes()
        down, across = (
            ceil_div(code, whole, part)
            for whole, part in zip((height, width), spec.out_sizes, strict=True)
        )
        lines = ceil_div(code, height, most(code, down, 1))
        places = ceil_div(code, width, most(code, across, 1))
        unit = self.half.places
        places = least(
            code, code.mul(ceil_div(code, places, unit), unit), code.i64(spec.out_sizes[1])
        )
        with code.loop(self.begin, self.end) as number:
            rest, part = self._divided(number.i, code.i64(cut.parts * spec.groups))
            rest, column = self._divided(rest, across)
            image, row = self._divided(rest, down)
            self.corner = code.mul(row, lines), code.mul(column, places)
            low = minus(code, height, self.corner[0]), minus(code, width, self.corner[1])
            self.size = least(code, low[0], lines), least(code, low[1], places)
            group, own = self._divided(part, code.i64(cut.parts))
            start, stop = (self.part_start(code.add(own, n)) for n in (0, 1))
            first = code.add(code.mul(group, spec.w_blocks), start)
            w = code.at(self.slots["w"], code.mul(first, spec.filter_block), memory_type(spec.x))
            zero = code.i64(0)
            ahead = self.ahead_of(own, start, stop, zero)
            fresh = self.fresh(number.i, own)
            item = Item(fresh, image, first, 0, zero, self.size[0], self.memory, zero, w, ahead)
            self.sized(minus(code, stop, start), item)

    def _divided(self, a: Val, b: Val) -> tuple[Val, Val]:
        """Quotient and remainder."""
        return self.code.binary("arith.divui", a, b), self.code.binary("arith.remui", a, b)

    def result_sizes(self) -> tuple[Val, Val]:
        return self.slots["out_lines"], self.slots["out_width"]

    def places(self, line: Val) -> tuple[Val, Val, Val]:
        return self.code.add(self.corner[0], line), self.corner[1], self.size[1]

    def _counts(self) -> tuple[Val, Val]:
        """How many tiles hold the places of a chunk's line: of full size, and of half (0 or 1)."""
        code, whole, half = self.code, self.runs[0].places, self.half.places
        count = code.binary(
            "arith.divui", code.add(self.size[1], whole - half - 1), code.i64(whole)
        )
        left = minus(code, self.size[1], code.mul(count, whole))
        some = code.compare("arith.cmpi", "sgt", left, code.i64(0))
        return count, code.select(some, code.i64(1), code.i64(0))

    def tiles(self, x: Val, out: Val) -> Iterator[tuple[Run, Val, Val, Val]]:
        """The tiles that hold places of the chunk; the last may stick out into zeros."""
        code, spec, full = self.code, self.spec, self.runs[0]
        count, some = self._counts()
        for run, first, number in ((full, code.i64(0), count), (self.half, count, some)):
            with code.loop(0, number) as tile:
                place = code.mul(code.add(first, tile.i), full.places)
                column = code.mul(place, spec.strides[1] * spec.x_block)
                sums = code.at(out, code.mul(place, spec.w_block), self.shape.element)
                yield run, place, code.at(x, column, memory_type(spec.x)), sums

    # ---- x of a chunk

    def gathered(self, item: Item) -> Item:
        """The item with what it reads in scratch memory."""
        code, spec, whole = self.code, self.spec, self.whole
        room = self.slots["lines"], self.slots["width"]
        first = [
            code.add(code.mul(at, by), -low)
            for at, by, low in zip(self.corner, whole.strides, whole.low, strict=True)
        ]
        full, some = self._counts()
        covered = code.mul(full, self.runs[0].places)
        covered = code.add(covered, code.mul(some, self.half.places))
        reach = [(w - 1) * d + 1 for w, d in zip(spec.window, spec.dilation, strict=True)]
        count = code.add(code.mul(code.add(self.size[0], -1), whole.strides[0]), reach[0])
        width = code.add(code.mul(code.add(covered, -1), whole.strides[1]), reach[1])
        zero = code.i64(0)
        left = least(code, most(code, minus(code, zero, first[1]), 0), width)
        right = most(code, least(code, minus(code, room[1], first[1]), width), left)
        x = code.at(self.memory, self.pad, "i8")
        blocks = code.i64(item.together if spec.lanewise else spec.x_blocks)
        base = self._first_block(item)
        with code.when(item.fresh), code.loop(0, count) as row:
            line = code.add(first[0], row.i)
            target = code.at(x, code.mul(row.i, spec.sizes[1] * spec.x_block), memory_type(spec.x))
            above = code.compare("arith.cmpi", "slt", line, zero)
            below = code.compare("arith.cmpi", "sge", line, room[0])
            outside = code.binary("arith.ori", above, below)
            low = code.select(outside, width, left)
            high = code.select(outside, width, right)
            self._zeros(target, blocks, zero, low)
            self._zeros(target, blocks, high, width)
            with code.when(code.compare("arith.cmpi", "sgt", high, low)):
                column = code.add(first[1], low)
                at = code.add(code.mul(line, room[1]), column)
                self._copied(item, base, at, blocks, minus(code, high, low), target, low)
        return replace(item, x=x)

    def _first_block(self, item: Item) -> Val:
        """The address of an item's first block of x, or of its first channel where x is plain."""
        code, whole = self.code, self.whole
        held, each = whole.x_blocks, whole.x_block  # by a group, and elements of a place
        first = item.first
        if not whole.lanewise:
            first = code.binary("arith.divui", first, code.i64(whole.w_blocks))
        if whole.plain:
            step = whole.x_block if whole.lanewise else whole.channels
            held, each = whole.channels, 1
        else:
            step = 1 if whole.lanewise else held
        at = code.add(code.mul(item.image, held * whole.groups), code.mul(first, step))
        at = code.mul(at, code.mul(self._plane(), each))
        return code.at(self.slots["x"], at, memory_type(whole.x))

    def _plane(self) -> Val:
        """Places of an image."""
        return self.code.mul(self.slots["lines"], self.slots["width"])

    def _copied(
        self, item: Item, x: Val, at: Val, blocks: Val, count: Val, out: Val, place: Val
    ) -> None:
        """Copy `count` places of a line of all blocks."""
        code, spec, whole = self.code, self.spec, self.whole
        plane = self._plane()
        target = code.at(out, code.mul(place, spec.x_block), memory_type(spec.x))
        if not whole.plain:
            source = code.at(x, code.mul(at, spec.x_block), memory_type(spec.x))
            copy = _copy(code.unit, spec.x, self.shape.lanes)
            steps = code.mul(plane, spec.x_block), blocks, code.mul(count, spec.x_block)
            code.call(copy, [source, *steps, target, code.i64(self.plane)])
            return
        channels = code.i64(whole.channels)
        if whole.lanewise:
            channels = minus(code, channels, code.mul(item.first, whole.x_block))
        gather = to_blocks(code.unit, spec.x, self.shape, spec.x_block)
        source = code.at(x, at, memory_type(spec.x))
        code.call(gather, [source, plane, channels, blocks, count, target, code.i64(self.plane)])

    def _zeros(self, out: Val, blocks: Val, low: Val, high: Val) -> None:
        """Zeros at the places `low`..`high` of a line of all blocks."""
        code, spec = self.code, self.spec
        fill = _copy(code.unit, spec.x, self.shape.lanes, zeros=True)
        target = code.at(out, code.mul(low, spec.x_block), memory_type(spec.x))
        length = code.mul(minus(code, high, low), spec.x_block)
        code.call(fill, [target, code.i64(0), blocks, length, target, code.i64(self.plane)])


def _copy(unit: Unit, of: DType, lanes: int, *, zeros: bool = False) -> str:
    """Symbol of `(x, x_block, blocks, length, out, out_block)`: copies `length` elements of each
    block, or writes zeros."""
    symbol = f"gm.{'zeros' if zeros else 'copied'}_{of}x{lanes}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, _COPY, traits=("noinline",))
    x, x_block, blocks, length, out, out_block = code.args
    kind = memory_type(of)
    whole = code.op(f"arith.andi {length}, {code.i64(-lanes)} : i64", "i64")
    left = minus(code, length, whole)
    with code.loop(0, blocks) as block:
        source = code.at(x, code.mul(block.i, x_block), kind)
        target = code.at(out, code.mul(block.i, out_block), kind)
        with code.loop(0, whole, lanes) as at:
            _move(code, of, lanes, None if zeros else source, target, at.i, None)
        with code.when(code.compare("arith.cmpi", "sgt", left, code.i64(0))):
            mask = memory.tail_mask(code, left, lanes)
            _move(code, of, lanes, None if zeros else source, target, whole, mask)
    code.finish()
    return symbol


def _move(
    code: Code, of: DType, lanes: int, source: Val | None, target: Val, at: Val, mask: Val | None
) -> None:
    value = constant(code, 0, of, lanes)
    if source is not None:
        value = memory.load(code, source, at, of, lanes, mask=mask)
    memory.store(code, value, target, at, of, mask=mask)
