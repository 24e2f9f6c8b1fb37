"""Convolution on blocked channels: the loops around the tiles, and what follows the sums.

A work item is a chunk of lines of one image for a few blocks of filters. Its filters stay in the
second cache level while its lines go by; where they do not fit, the channels are cut into slices
and partial sums are added up in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.elements import is_plain, least, minus, store_as
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.packing import transpose
from graphmill.codegen.cpu.contract.slots import BODY
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmKernel, Phase, Sizes
from graphmill.codegen.cpu.convolve.blocked_spec import (
    BlockedSpec,
    Run,
    Tiling,
    choices_of,
    runs,
    shape_of,
    tiling,
)
from graphmill.codegen.cpu.convolve.blocked_tiles import (
    SLOTS,
    BlockedPlace,
    dense_tile,
    lanes_tile,
)
from graphmill.codegen.cpu.convolve.to_blocks import to_blocks
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.target import Target
from graphmill.records import record

_WORTH_A_THREAD = 1 << 18  # multiply-adds
_GRAINS = (1 << 18, 1 << 20, 1 << 22)
Make = Callable[[Code, BlockedSpec, Target, Epilogue | None], "Loops"]


def emit_blocked(
    unit: Unit, symbol: str, spec: BlockedSpec, target: Target, epilogue: Epilogue | None = None,
    make: Make | None = None,
) -> GemmKernel:  # fmt: skip
    """Write the kernel of `spec` into `unit`; of the sizes only the batch counts.

    The epilogue gets a `BlockedPlace`, and the sums of one block's channels at one place, or in a
    plain result those of one channel at neighbouring places. `make` gives loops of another
    algorithm.
    """
    worth = choices_of(spec, target).pick("grain", _WORTH_A_THREAD, _GRAINS)
    code = Code(unit, symbol, BODY, internal=False)
    loops = (make or Loops)(code, spec, target, epilogue)
    if loops.items:
        loops.body()
    code.finish()
    places = spec.out_sizes[0] * spec.out_sizes[1]
    taps = spec.window[0] * spec.window[1] * (spec.lanewise or spec.channels)
    each = places * spec.filters * spec.groups * taps // max(1, loops.items)

    def items(into: Code, sizes: Sizes) -> Val:
        return into.mul(sizes.batch, into.i64(loops.items))

    def grain(into: Code, sizes: Sizes) -> Val:
        return into.i64(max(1, worth // max(1, each)))

    def scratch(into: Code, sizes: Sizes) -> Val:
        return into.i64(loops.scratch)

    phase = Phase(symbol, items, grain)
    return GemmKernel((phase,), lambda into, sizes: into.i64(0), scratch, SLOTS)


@record
class Item:
    """What one work item computes: `together` blocks of filters from `first` on (in all groups),
    the lines `low`..`high` of an image; x, from its line `above` on, and w of its group. `fresh`:
    the item before, if there is one here, read other lines. `ahead`: how far behind its filters
    lie those of the item that follows."""

    fresh: Val
    image: Val
    first: Val
    together: int
    low: Val
    high: Val
    x: Val
    above: Val
    w: Val
    ahead: Val


class Loops:
    """The kernel being written; `cut` says otherwise than `tiling`, in parts of whole `unit`s of
    blocks and chunks of whole `step`s of lines."""

    names: tuple[str, ...] = SLOTS

    def __init__(
        self, code: Code, spec: BlockedSpec, target: Target, epilogue: Epilogue | None,
        cut: Tiling | None = None, unit: int = 1, step: int = 1,
    ) -> None:  # fmt: skip
        self.code, self.spec, self.epilogue = code, spec, epilogue
        self.shape, self.cut = shape_of(target, spec.acc, spec.w_block), cut or tiling(spec, target)
        self.unit, self.step = unit, step
        height, width = spec.out_sizes
        self.chunks = -(-height // self.cut.lines)
        self.items = self.chunks * self.cut.parts * spec.groups if width else 0
        whole = spec.block == spec.w_block and not spec.free
        self.in_place = whole and is_plain(spec.out, self.shape.element)
        self.together = -(-spec.w_blocks // unit // self.cut.parts) * unit
        self.line = width * spec.w_block  # elements of sums of one block
        pad = 0 if self.in_place else self.together * self.cut.lines * self.line
        self.scratch = -(-pad * self.shape.bytes // 64) * 64 + (64 if pad else 0)
        self.pad, self.plane = self.scratch, spec.plane
        if spec.plain:
            self.plane = self._lines_read() * spec.sizes[1] * spec.x_block
            held = self.together if spec.lanewise else spec.x_blocks
            self.scratch += -(-held * self.plane * spec.x.itemsize // 64) * 64 + 64
        self.tap = spec.tap(1)
        self.runs: list[Run] = list(runs(width, self.cut.tiles, self.tap)) if width else []
        data, self.begin, self.end, worker = code.args
        self.data = data
        pointers = ("x", "w", "y", "scratch")
        self.slots = {
            name: code.load(code.at(data, i, "i64"), "!llvm.ptr" if name in pointers else "i64", 8)
            for i, name in enumerate(self.names)
        }
        offset = code.mul(worker, self.slots["scratch_bytes"])
        self.memory = code.at(self.slots["scratch"], offset, "i8")
        self.extra = extra_slots(code, data, epilogue, len(self.names))

    # ---- work items

    def body(self) -> None:
        """Items are numbered image by image, then as the tiling says."""
        code, spec, cut = self.code, self.spec, self.cut
        parts, chunks = code.i64(cut.parts * spec.groups), code.i64(self.chunks)
        inner, outer = (chunks, parts) if cut.parts_outside else (parts, chunks)
        with code.loop(self.begin, self.end) as number:
            fast = code.binary("arith.remui", number.i, inner)
            rest = code.binary("arith.divui", number.i, inner)
            slow = code.binary("arith.remui", rest, outer)
            image = code.binary("arith.divui", rest, outer)
            part, chunk = (slow, fast) if cut.parts_outside else (fast, slow)
            group = code.binary("arith.divui", part, code.i64(cut.parts))
            own = code.binary("arith.remui", part, code.i64(cut.parts))
            low, high = (self._line(code.add(chunk, n)) for n in (0, 1))
            start, stop = (self.part_start(code.add(own, n)) for n in (0, 1))
            size = minus(code, stop, start)
            first = code.add(code.mul(group, spec.w_blocks), start)
            x_first = first if spec.lanewise else code.mul(group, spec.x_blocks)
            x = self._blocks_of_x(image, x_first)
            w = code.at(self.slots["w"], code.mul(first, spec.filter_block), memory_type(spec.x))
            fresh, ahead = self.fresh(number.i, own), self.ahead_of(own, start, stop, chunk)
            self.sized(size, Item(fresh, image, first, 0, low, high, x, code.i64(0), w, ahead))

    def sized(self, size: Val, item: Item) -> None:
        """The item, of `size` blocks of filters: there are parts of two sizes at most."""
        code = self.code
        base, extra = divmod(self.spec.w_blocks // self.unit, self.cut.parts)
        base *= self.unit
        if not extra:
            self._one(replace(item, together=base))
            return
        with code.when(code.compare("arith.cmpi", "sgt", size, code.i64(base))):
            self._one(replace(item, together=base + self.unit))
        with code.otherwise():
            self._one(replace(item, together=base))

    def _one(self, item: Item) -> None:
        gathers = self.spec.plain or self.spec.free
        self.slices(self.gathered(item) if gathers else item)

    def fresh(self, number: Val, part: Val) -> Val:
        """Whether other lines are read than for the item before: those of a group's first part."""
        code = self.code
        if self.spec.lanewise or self.cut.parts_outside:
            return code.const(True, "i1")
        first = code.compare("arith.cmpi", "eq", number, self.begin)
        return code.binary("arith.ori", first, code.compare("arith.cmpi", "eq", part, code.i64(0)))

    def ahead_of(self, part: Val, start: Val, stop: Val, chunk: Val) -> Val:
        """How far behind an item's filters lie those that the next one reads."""
        code, cut = self.code, self.cut
        following = code.mul(minus(code, stop, start), self.spec.filter_block)
        if cut.parts_outside:
            last = code.compare("arith.cmpi", "eq", chunk, code.i64(self.chunks - 1))
            return code.select(last, following, code.i64(0))
        last = code.compare("arith.cmpi", "eq", part, code.i64(cut.parts - 1))
        return code.select(last, code.mul(start, -self.spec.filter_block), following)

    # ---- the blocks of x

    def _blocks_of_x(self, image: Val, first: Val) -> Val:
        """The address of block `first` of an image."""
        code, spec = self.code, self.spec
        if spec.plain:
            return self.slots["x"]
        in_image = spec.x_blocks * spec.groups * spec.plane
        at = code.add(code.mul(image, in_image), code.mul(first, spec.plane))
        return code.at(self.slots["x"], at, memory_type(spec.x))

    def _lines_read(self) -> int:
        """The most lines of x that a chunk of results needs."""
        spec = self.spec
        more = (spec.window[0] - 1) * spec.dilation[0] + 1
        return min(spec.sizes[0], (self.cut.lines - 1) * spec.strides[0] + more)

    def gathered(self, item: Item) -> Item:
        """The item with its lines of a plain x in blocks, in scratch memory."""
        code, spec = self.code, self.spec
        lines, width = spec.sizes
        top = code.add(code.mul(item.low, spec.strides[0]), -spec.low[0])
        above = code.binary("arith.maxsi", top, code.i64(0))
        above = least(code, above, code.i64(max(0, lines - 1)))
        count = least(code, minus(code, code.i64(lines), above), code.i64(self._lines_read()))
        if spec.lanewise:
            blocks, channel = item.together, code.mul(item.first, spec.x_block)
            left = minus(code, code.i64(spec.channels), channel)
        else:
            group = code.binary("arith.divui", item.first, code.i64(spec.w_blocks))
            blocks, channel = spec.x_blocks, code.mul(group, spec.channels)
            left = code.i64(spec.channels)
        row = code.add(code.mul(item.image, spec.channels * spec.groups), channel)
        at = code.add(code.mul(row, lines * width), code.mul(above, width))
        x = code.at(self.memory, self.pad, "i8")
        with code.when(item.fresh):
            gather = to_blocks(code.unit, spec.x, self.shape, spec.x_block)
            code.call(gather, [
                code.at(item.x, at, memory_type(spec.x)), code.i64(lines * width), left,
                code.i64(blocks), code.mul(count, width), x, code.i64(self.plane),
            ])  # fmt: skip
        return replace(item, x=x, above=above)

    def part_start(self, part: Val) -> Val:
        """The first block of filters of a part."""
        units = self._even(part, self.spec.w_blocks // self.unit, self.cut.parts)
        return self.code.mul(units, self.unit)

    def _line(self, chunk: Val) -> Val:
        """The first line of a chunk."""
        height = self.spec.out_sizes[0]
        first = self.code.mul(self._even(chunk, -(-height // self.step), self.chunks), self.step)
        return first if self.step == 1 else least(self.code, first, self.code.i64(height))

    def _even(self, number: Val, whole: int, parts: int) -> Val:
        """Where part `number` of a whole begins: parts of two sizes, mixed evenly."""
        return self.code.binary("arith.divui", self.code.mul(number, whole), self.code.i64(parts))

    def slices(self, item: Item) -> None:
        """Slices of the channels, one after the other over all lines of the item."""
        code, spec, depth = self.code, self.spec, self.cut.depth
        if spec.lanewise:
            self._lanes_lines(item)
            return
        if depth >= spec.channels:
            channels, none = code.i64(spec.channels), code.i64(0)
            self._dense_lines(item, item.x, item.w, channels, none, None, item.ahead)
            return
        row = spec.window[0] * spec.window[1] * spec.w_block
        with code.loop(0, spec.channels, depth) as first:
            left = minus(code, code.i64(spec.channels), first.i)
            count = least(code, left, code.i64(depth))
            block = code.binary("arith.divui", first.i, code.i64(spec.x_block))
            x = code.at(item.x, code.mul(block, self.plane), memory_type(spec.x))
            w = code.at(item.w, code.mul(first.i, row), memory_type(spec.x))
            last = code.compare("arith.cmpi", "sle", left, code.i64(depth))
            back = minus(code, item.ahead, code.mul(first.i, row))
            following = code.select(last, back, code.i64(depth * row))
            self._dense_lines(item, x, w, count, first.i, last, following)

    # ---- lines

    def _window_rows(self, item: Item, line: Val) -> tuple[Val, Val, Val]:
        """The rows of the window that lie inside x: the first, how many, and x's line there."""
        code, spec = self.code, self.spec
        size, by, room = spec.window[0], spec.dilation[0], spec.sizes[0]
        if spec.one_row:
            at = minus(code, code.mul(line, spec.strides[0]), item.above)
            return code.i64(0), code.i64(1), at
        start = code.add(code.mul(line, spec.strides[0]), -spec.low[0])
        zero, spread = code.i64(0), code.i64(by)
        before = minus(code, code.i64(by - 1), start)  # by - 1 - start, rounded down below
        first = code.binary("arith.divsi", code.binary("arith.maxsi", before, zero), spread)
        until = minus(code, code.i64(room + by - 1), start)
        past = code.binary("arith.divsi", code.binary("arith.maxsi", until, zero), spread)
        past = least(code, past, code.i64(size))
        first = least(code, first, past)
        at = code.add(start, code.mul(first, by))
        at = least(code, code.binary("arith.maxsi", at, zero), code.i64(max(0, room - 1)))
        return first, minus(code, past, first), minus(code, at, item.above)

    def _dense_lines(
        self, item: Item, x: Val, w: Val, channels: Val, earlier: Val, last: Val | None,
        following: Val,
    ) -> None:  # fmt: skip
        code, spec = self.code, self.spec
        row = spec.window[1] * spec.inner * spec.w_block
        with code.loop(item.low, item.high) as line:
            first, count, at = self._window_rows(item, line.i)
            here = code.at(x, code.mul(at, spec.sizes[1] * spec.x_block), memory_type(spec.x))
            filters = code.at(w, code.mul(first, row), memory_type(spec.x))
            out, out_block = self.sums_at(item, line.i)
            ahead = self._share(item, following, line.i)
            for run, _, column, target in self.tiles(here, out):
                if spec.streams:
                    ahead = code.i64(run.places * spec.strides[1] * spec.x_block)
                tile = dense_tile(code.unit, spec, self.shape, run, item.together)
                x_line = spec.dilation[0] * spec.sizes[1] * spec.x_block
                code.call(tile, [
                    column, code.i64(self.plane), code.i64(x_line), filters,
                    code.i64(spec.filter_block), code.i64(spec.window[0] * row), channels, count,
                    target, out_block, earlier, ahead,
                ])  # fmt: skip
            self.finish_if(last, item, line.i, out, out_block)

    def _share(self, item: Item, following: Val, line: Val) -> Val:
        """How far behind the filters lie those to prefetch: a block in each of the first lines."""
        code, number = self.code, minus(self.code, line, item.low)
        block = code.add(following, code.mul(number, self.spec.filter_block))
        some_left = code.compare("arith.cmpi", "slt", number, code.i64(item.together))
        return code.select(some_left, block, code.i64(0))

    def _lanes_lines(self, item: Item) -> None:
        code, spec = self.code, self.spec
        row = spec.window[1] * spec.w_block
        x_line = code.i64(spec.dilation[0] * spec.sizes[1] * spec.x_block)
        inside = self.epilogue if self.in_place else None
        with code.loop(item.low, item.high) as line:
            first, count, at = self._window_rows(item, line.i)
            out, out_block = self.sums_at(item, line.i)
            for j in range(item.together):
                plane = code.add(code.mul(at, spec.sizes[1] * spec.x_block), j * self.plane)
                here = code.at(item.x, plane, memory_type(spec.x))
                filters = code.add(code.mul(first, row), j * spec.filter_block)
                w = code.at(item.w, filters, memory_type(spec.x))
                target = code.at(out, code.mul(out_block, j), self.shape.element) if j else out
                block = code.add(item.first, j)
                for run, place, column, sums in self.tiles(here, target):
                    tile = lanes_tile(code.unit, spec, self.shape, run, code.name, inside)
                    where = [self.data, item.image, block, line.i, place] if inside else []
                    code.call(tile, [column, x_line, w, count, sums, *where])
            if inside is None:
                self.finish_if(None, item, line.i, out, out_block)

    def tiles(self, x: Val, out: Val) -> Iterator[tuple[Run, Val, Val, Val]]:
        """Each run of tiles, with a tile's first place, the addresses of its column and its sums.

        The body is written once per run, inside the loop over its tiles.
        """
        code, spec, tap = self.code, self.spec, self.tap
        for run in self.runs:
            column = run.first * tap.stride - tap.low - run.shift
            if run.count == 1:
                here = code.at(x, column * spec.x_block, memory_type(spec.x))
                sums = code.at(out, run.first * spec.w_block, self.shape.element)
                yield run, code.i64(run.first), here, sums
                continue
            with code.loop(0, run.count) as number:
                step = code.mul(number.i, run.places * tap.stride * spec.x_block)
                here = code.at(x, code.add(step, column * spec.x_block), memory_type(spec.x))
                place = code.add(code.mul(number.i, run.places), run.first)
                sums = code.at(out, code.mul(place, spec.w_block), self.shape.element)
                yield run, place, here, sums

    def sums_at(self, item: Item, line: Val) -> tuple[Val, Val]:
        """Where a line's sums go, in the result or beside it, and the distance of the blocks."""
        code, spec = self.code, self.spec
        if not self.in_place:
            at = code.mul(minus(code, line, item.low), self.line)
            distance = code.i64(self.cut.lines * self.line)
            return code.at(self.memory, at, self.shape.element), distance
        return self._result(item, item.first, line), code.i64(spec.out_sizes[0] * self.line)

    def _result(self, item: Item, block: Val, line: Val) -> Val:
        """The address of a line of the result's block."""
        code, spec = self.code, self.spec
        height, width = self.result_sizes()
        total = -(-spec.filters * spec.groups // spec.block)
        if spec.block != 1:
            total = spec.w_blocks * spec.groups
        index = code.add(code.mul(item.image, total), block)
        index = code.add(code.mul(index, height), line)
        index = code.mul(code.mul(index, width), spec.block)
        return code.at(self.slots["y"], index, memory_type(spec.out))

    def result_sizes(self) -> tuple[Val, Val]:
        """Lines and places of a whole result."""
        height, width = self.spec.out_sizes
        return self.code.i64(height), self.code.i64(width)

    def places(self, line: Val) -> tuple[Val, Val, Val]:
        """Of a line of an item: which it is in the result, the first place there, how many."""
        return line, self.code.i64(0), self.code.i64(self.spec.out_sizes[1])

    # ---- what follows the sums

    def finish_if(self, last: Val | None, item: Item, line: Val, out: Val, out_block: Val) -> None:
        if self.in_place and self.epilogue is None:
            return
        if last is None:
            self._finish(item, line, out, out_block)
            return
        with self.code.when(last):
            self._finish(item, line, out, out_block)

    def _finish(self, item: Item, line: Val, out: Val, out_block: Val) -> None:
        code, spec = self.code, self.spec
        with code.loop(0, item.together) as number:
            sums = code.at(out, code.mul(number.i, out_block), self.shape.element)
            block = code.add(item.first, number.i)
            if spec.block == 1:
                self._finish_plain(item, block, line, sums)
            else:
                self._finish_blocked(item, block, line, sums)

    def _finish_blocked(self, item: Item, block: Val, line: Val, sums: Val) -> None:
        code, spec, shape = self.code, self.spec, self.shape
        line, start, width = self.places(line)
        target = code.at(
            self._result(item, block, line), code.mul(start, spec.w_block), memory_type(spec.out)
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
                    self.extra,
                    line,
                    code.i64(lane),
                )
                done = apply(code, self.epilogue, value, spec.acc, where)
                store_as(code, done, target, at, spec.out)

    def _finish_plain(self, item: Item, block: Val, line: Val, sums: Val) -> None:
        """Squares of places and channels are transposed on their way into the result."""
        code, spec, shape = self.code, self.spec, self.shape
        lanes, (line, start, width) = shape.lanes, self.places(line)
        with code.loop(0, shape.parts) as part, code.loop(0, width, lanes) as at:
            left = minus(code, width, at.i)
            first = code.mul(part.i, lanes)
            rows = []
            for i in range(lanes):
                place = least(code, code.add(at.i, i), code.add(width, -1))
                index = code.add(code.mul(place, spec.w_block), first)
                rows.append(
                    code.load(code.at(sums, index, shape.element), shape.vector, shape.bytes)
                )
            buffer = code.alloca(shape.element, lanes * lanes)
            for i, across in enumerate(transpose(code, rows)):
                code.store(across, code.at(buffer, i * lanes, shape.element), shape.bytes)
            channel = code.add(code.mul(block, spec.w_block), first)
            room = minus(code, code.i64(spec.filters * spec.groups), channel)
            full = code.compare("arith.cmpi", "sge", left, code.i64(lanes))
            with code.loop(0, least(code, room, code.i64(lanes))) as row:
                own = code.add(channel, row.i)
                target = code.at(self._result(item, own, line), start, memory_type(spec.out))
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
                            self.extra,
                            line,
                            code.i64(0),
                        )
                        done = apply(code, self.epilogue, value, spec.acc, where)
                        store_as(code, done, target, at.i, spec.out, mask)
