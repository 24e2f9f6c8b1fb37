"""Convolution on blocked channels: the loops around the tiles, and what follows the sums.

A work item is a chunk of lines of one image for a few blocks of filters. Its filters stay in the
second cache level while its lines go by; where they do not fit, the channels are cut into slices
and partial sums are added up in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from graphmill.codegen.cpu.contract.elements import is_plain, least, minus, most
from graphmill.codegen.cpu.contract.finish import extra_slots
from graphmill.codegen.cpu.contract.slots import BODY
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmKernel, Phase, Sizes
from graphmill.codegen.cpu.convolve.blocked_finish import finish_blocked, finish_plain
from graphmill.codegen.cpu.convolve.blocked_spec import (
    BlockedSpec,
    Run,
    Tap,
    Tiling,
    choices_of,
    runs,
    shape_of,
    tiling,
)
from graphmill.codegen.cpu.convolve.blocked_tiles import (
    SLOTS,
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
    places = spec.out_planes * spec.out_sizes[0] * spec.out_sizes[1]
    taps = spec.deep * spec.window[0] * spec.window[1] * (spec.lanewise or spec.channels)
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
    lie those of the item that follows. `plane`: of the result, along a third axis."""

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
    plane: Val | None = None


class Loops:
    """The kernel being written; `cut` says otherwise than `tiling`, in parts of whole `unit`s of
    blocks and chunks of whole `step`s of lines."""

    names: tuple[str, ...] = SLOTS
    empty: Val | None = None  # whether a plane of results reads nothing but padding

    def __init__(
        self, code: Code, spec: BlockedSpec, target: Target, epilogue: Epilogue | None,
        cut: Tiling | None = None, unit: int = 1, step: int = 1,
    ) -> None:  # fmt: skip
        self.code, self.spec, self.epilogue = code, spec, epilogue
        self.shape, self.cut = shape_of(target, spec.acc, spec.w_block), cut or tiling(spec, target)
        self.unit, self.step = unit, step
        height, width = spec.out_sizes
        self.chunks = -(-height // self.cut.lines)
        each = self.chunks * self.cut.parts * spec.groups  # items of an image, or of its plane
        self.items = each * spec.out_planes if width else 0
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
        self.beside: list[Val] = []  # how far behind the result lies what is read beside it
        if self.in_place and epilogue is not None and epilogue.beside is not None:
            pair = self.extra[epilogue.beside], self.slots["y"]
            there, here = (code.op(f"llvm.ptrtoint {p} : !llvm.ptr to i64", "i64") for p in pair)
            self.beside = [minus(code, there, here)]

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
            plane = None
            if (count := spec.out_planes) > 1:
                plane = code.binary("arith.remui", image, code.i64(count))
                image = code.binary("arith.divui", image, code.i64(count))
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
            self.sized(
                size, Item(fresh, image, first, 0, low, high, x, code.i64(0), w, ahead, plane)
            )

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
        """Taps of a third axis, and in each the slices of the channels."""
        code, spec = self.code, self.spec
        if spec.lanewise:
            self._lanes_lines(item)
            return
        if spec.planes is None:
            self._slices(item, code.i64(0), None)
            return
        plane = code.i64(0) if item.plane is None else item.plane
        first, past, at = self._taps_inside(spec.planes.tap, plane)
        if spec.planes.outside:
            self.empty = code.compare("arith.cmpi", "eq", first, past)
            past = most(code, past, code.add(first, 1))
        step = spec.window[0] * spec.window[1] * spec.inner * spec.w_block
        with code.loop(first, past) as tap:
            number = minus(code, tap.i, first)
            there = code.add(at, code.mul(number, spec.planes.tap.dilation))
            x = code.at(item.x, code.mul(there, spec.sheet), memory_type(spec.x))
            moved = code.mul(tap.i, step)
            w = code.at(item.w, moved, memory_type(spec.x))
            last = code.compare("arith.cmpi", "eq", code.add(tap.i, 1), past)
            ahead = code.select(last, minus(code, item.ahead, moved), code.i64(step))
            self._slices(replace(item, x=x, w=w, ahead=ahead), number, last)

    def _slices(self, item: Item, earlier: Val, at_last: Val | None) -> None:
        """Slices of the channels, one after the other over all lines of the item.

        `earlier`: 0 if there are no sums yet; `at_last`: whether none but these slices follow.
        """
        code, spec, depth = self.code, self.spec, self.cut.depth
        if depth >= spec.channels:
            channels = code.i64(spec.channels)
            self._dense_lines(item, item.x, item.w, channels, earlier, at_last, item.ahead)
            return
        row = spec.deep * spec.window[0] * spec.window[1] * spec.w_block
        with code.loop(0, spec.channels, depth) as first:
            left = minus(code, code.i64(spec.channels), first.i)
            count = least(code, left, code.i64(depth))
            block = code.binary("arith.divui", first.i, code.i64(spec.x_block))
            x = code.at(item.x, code.mul(block, self.plane), memory_type(spec.x))
            w = code.at(item.w, code.mul(first.i, row), memory_type(spec.x))
            last = code.compare("arith.cmpi", "sle", left, code.i64(depth))
            back = minus(code, item.ahead, code.mul(first.i, row))
            following = code.select(last, back, code.i64(depth * row))
            if at_last is not None:
                last = code.binary("arith.andi", last, at_last)
            self._dense_lines(item, x, w, count, code.add(first.i, earlier), last, following)

    # ---- lines

    def _window_rows(self, item: Item, line: Val) -> tuple[Val, Val, Val]:
        """The rows of the window that lie inside x: the first, how many, and x's line there."""
        code, spec = self.code, self.spec
        if spec.one_row:
            at = minus(code, code.mul(line, spec.strides[0]), item.above)
            return code.i64(0), code.i64(1), at
        first, past, at = self._taps_inside(spec.tap(0), line)
        count = minus(code, past, first)
        if self.empty is not None:
            count = code.select(self.empty, code.i64(0), count)
        return first, count, minus(code, at, item.above)

    def _taps_inside(self, tap: Tap, place: Val) -> tuple[Val, Val, Val]:
        """The taps of a place that lie inside x: the first, the one past the last, and where the
        first reads."""
        code, size, by, room = self.code, tap.size, tap.dilation, tap.room
        start = code.add(code.mul(place, tap.stride), -tap.low)
        zero, spread = code.i64(0), code.i64(by)
        before = minus(code, code.i64(by - 1), start)  # by - 1 - start, rounded down below
        first = code.binary("arith.divsi", code.binary("arith.maxsi", before, zero), spread)
        until = minus(code, code.i64(room + by - 1), start)
        past = code.binary("arith.divsi", code.binary("arith.maxsi", until, zero), spread)
        past = least(code, past, code.i64(size))
        first = least(code, first, past)
        at = code.add(start, code.mul(first, by))
        at = least(code, code.binary("arith.maxsi", at, zero), code.i64(max(0, room - 1)))
        return first, past, at

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
            number, before = code.mul(minus(code, line.i, item.low), self.cut.tiles), 0
            for run, place, column, target in self.tiles(here, out):
                at = code.add(place, -run.first)
                at = code.binary("arith.divui", at, code.i64(run.places))
                if spec.streams:
                    ahead = self._tile_below(run, at)
                else:
                    ahead = self._share(item, following, code.add(code.add(number, before), at))
                if last is None and spec.block == 1 and not spec.free:
                    self._result_ahead(item, line.i, code.add(at, before))
                before += run.count
                tile = dense_tile(
                    code.unit, spec, self.shape, run, item.together, beside=bool(self.beside)
                )
                x_line = spec.dilation[0] * spec.sizes[1] * spec.x_block
                code.call(tile, [
                    column, code.i64(self.plane), code.i64(x_line), filters,
                    code.i64(spec.filter_block), code.i64(spec.deep * spec.window[0] * row),
                    channels, count,
                    target, out_block, earlier, ahead, *self.beside,
                ])  # fmt: skip
            self.finish_if(last, item, line.i, out, out_block)

    def _result_ahead(self, item: Item, line: Val, number: Val) -> None:
        """Fetch a share of where a plain result's line goes, as tile `number` is computed."""
        code, spec = self.code, self.spec
        share = -(-item.together * spec.w_block // self.cut.tiles)
        first = code.add(code.mul(item.first, spec.w_block), code.mul(number, share))
        with code.loop(0, share) as channel:
            row = self.result(item, code.add(first, channel.i), line)
            for at in range(0, spec.out_sizes[1], 64 // spec.out.itemsize):
                code.prefetch(code.at(row, at, memory_type(spec.out)), write=True)

    def _tile_below(self, run: Run, number: Val) -> Val:
        """How far behind x lies what the tile after `number` of a run reads."""
        code, spec = self.code, self.spec
        beside = code.i64(run.places * spec.strides[1] * spec.x_block)
        if run is not self.runs[-1]:
            return beside
        past = (run.first + (run.count - 1) * run.places) * spec.strides[1]
        below = (spec.strides[0] * spec.sizes[1] - past) * spec.x_block
        last = code.compare("arith.cmpi", "eq", number, code.i64(run.count - 1))
        return code.select(last, code.i64(below), beside)

    def _share(self, item: Item, following: Val, number: Val) -> Val:
        """How far behind the filters lie those to prefetch: a block in each of the first tiles."""
        code = self.code
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
        distance = code.i64(spec.out_planes * spec.out_sizes[0] * self.line)
        return self.result(item, item.first, line), distance

    def result(self, item: Item, block: Val, line: Val) -> Val:
        """The address of a line of the result's block."""
        code, spec = self.code, self.spec
        height, width = self.result_sizes()
        total = -(-spec.filters * spec.groups // spec.block)
        if spec.block != 1:
            total = spec.w_blocks * spec.groups
        index = code.add(code.mul(item.image, total), block)
        if item.plane is not None:
            index = code.add(code.mul(index, spec.out_planes), item.plane)
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
            (finish_plain if spec.block == 1 else finish_blocked)(self, item, block, line, sums)
