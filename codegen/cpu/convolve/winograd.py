"""Winograd convolution on blocked channels: fewer multiplications, in transformed squares.

A tile of m × m results of a 3 × 3 window comes from a square of (m + 2)² elements. Transformed, a
position of the square needs one product for each channel and filter, so that all tiles of a band
make a matrix product for each position; a transform gives the tiles' results. The scratch memory of
an item holds the transformed input `[position, tile, channel]` and the products `[tile, panel,
position, column]`.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import least
from graphmill.codegen.cpu.contract.microkernel import FETCHED, microkernel
from graphmill.codegen.cpu.contract.slots import BODY
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmKernel, Phase, Sizes
from graphmill.codegen.cpu.convolve.blocked import Item, Loops
from graphmill.codegen.cpu.convolve.blocked_spec import BlockedSpec, Shape, shape_of
from graphmill.codegen.cpu.convolve.winograd_plan import Winograd, even_parts, packing, scratch
from graphmill.codegen.cpu.convolve.winograd_transform import transform
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.launch import WORK
from graphmill.codegen.cpu.target import Target
from graphmill.codegen.toom_cook import TAPS, size


class WinogradLoops(Loops):
    """The kernel being written."""

    def __init__(
        self, way: Winograd, code: Code, spec: BlockedSpec, target: Target,
        epilogue: Epilogue | None,
    ) -> None:  # fmt: skip
        shape = shape_of(target, spec.acc, spec.w_block)
        super().__init__(code, spec, target, epilogue, way.cut, way.unit(shape), way.tile)
        self.way = way
        self.square = size(way.tile)
        self.across = way.tiles(spec.out_sizes[1])
        self.columns = way.vectors * shape.lanes
        self.row, self.position, self.product, room = scratch(spec, shape, way)
        self.inputs = code.at(self.memory, self.scratch, "i8")
        self.products = code.at(self.inputs, way.positions * self.position, shape.element)
        self.scratch += room * shape.bytes
        self.buffer = code.alloca(shape.element, self.square**2 * shape.lanes)

    def slices(self, item: Item) -> None:
        code, high = self.code, self.way.tiles(self.spec.out_sizes[0])
        base, extra = divmod(high, self.chunks)
        if not extra:
            self._band(item, base)
            return
        lines = code.binary("arith.subi", item.high, item.low)
        with code.when(code.compare("arith.cmpi", "sgt", lines, code.i64(base * self.way.tile))):
            self._band(item, base + 1)
        with code.otherwise():
            self._band(item, base)

    def _band(self, item: Item, rows: int) -> None:
        """All `rows` of tiles of an item."""
        with self.code.when(item.fresh):
            self._transform_input(item, rows)
        self._multiply(item, rows * self.across)
        self._transform_products(item, rows)
        with self.code.loop(item.low, item.high) as line:
            out, out_block = self.sums_at(item, line.i)
            self.finish_if(None, item, line.i, out, out_block)

    # ---- input

    def _transform_input(self, item: Item, rows: int) -> None:
        code, spec, shape, m = self.code, self.spec, self.shape, self.way.tile
        work = transform(code.unit, "input", shape, m)
        edge = _edge(code.unit, spec, shape, m)
        down, step = code.i64(self.square * self.position), code.i64(self.position)
        lines, places = (code.i64(n) for n in spec.sizes)
        with code.loop(0, spec.x_blocks) as block, code.loop(0, rows) as i:
            plane = code.at(item.x, code.mul(block.i, self.plane), shape.element)
            top = code.add(code.add(item.low, code.mul(i.i, m)), -spec.low[0])
            with code.loop(0, self.across) as j:
                left = code.add(code.mul(j.i, m), -spec.low[1])
                tile = code.add(code.mul(i.i, self.across), j.i)
                at = code.add(code.mul(tile, self.row), code.mul(block.i, spec.x_block))
                line = code.binary("arith.subi", top, item.above)
                first = code.add(code.mul(line, spec.sizes[1]), left)
                for part in range(shape.parts):
                    lane = part * shape.lanes
                    target = code.at(self.inputs, code.add(at, lane), shape.element)
                    with code.when(self._inside(top, left, lines, places)):
                        element = code.add(code.mul(first, spec.x_block), lane)
                        source = code.at(plane, element, shape.element)
                        line = code.i64(spec.sizes[1] * spec.x_block)
                        place = code.i64(spec.x_block)
                        code.call(work, [source, line, place, target, down, step])
                    with code.otherwise():
                        code.call(edge, [code.at(plane, lane, shape.element), top, left, lines,
                                         places, item.above, self.buffer])  # fmt: skip
                        line, place = code.i64(self.square * shape.lanes), code.i64(shape.lanes)
                        code.call(work, [self.buffer, line, place, target, down, step])

    def _inside(self, top: Val, left: Val, lines: Val, places: Val) -> Val:
        """Whether a whole square lies inside x."""
        code, zero = self.code, self.code.i64(0)
        found = code.compare("arith.cmpi", "sge", least(code, top, left), zero)
        for start, room in ((top, lines), (left, places)):
            fits = code.compare("arith.cmpi", "sle", code.add(start, self.square), room)
            found = code.binary("arith.andi", found, fits)
        return found

    # ---- products

    def _multiply(self, item: Item, tiles: int) -> None:
        """A matrix product for each position: the band's tiles times a part of the filters."""
        code, spec, shape, way = self.code, self.spec, self.shape, self.way
        panel_size = spec.x_blocks * spec.x_block * self.columns
        panels = spec.w_blocks * spec.w_block // self.columns
        width = item.together * spec.w_block // self.columns
        register_tile = Tile(shape.element, shape.bytes * 8, way.rows, way.vectors, shape.lanes)
        first = code.binary(
            "arith.divui", code.mul(item.first, spec.w_block), code.i64(self.columns)
        )
        a_m, c_m, one = code.i64(self.row), code.i64(self.product), code.i64(1)
        depth, b_k = code.i64(spec.channels), code.i64(self.columns)
        fetched = code.i64(FETCHED)
        with code.loop(0, way.positions) as position, code.loop(0, width) as panel:
            number = code.add(code.add(code.mul(position.i, panels), first), panel.i)
            b = code.at(self.slots["w"], code.mul(number, panel_size), shape.element)
            following = code.at(b, panel_size, shape.element)
            a = code.at(self.inputs, code.mul(position.i, self.position), shape.element)
            column = code.add(code.mul(panel.i, way.positions), position.i)
            c = code.at(self.products, code.mul(column, self.columns), shape.element)
            start = 0
            for rows, count in even_parts(tiles, way.rows):
                kernel = microkernel(code.unit, register_tile, rows)
                with code.loop(start, start + rows * count, rows) as row:
                    mine = code.at(a, code.mul(row.i, self.row), shape.element)
                    target = code.at(c, code.mul(row.i, self.product), shape.element)
                    # each prefetches a part of the next panel
                    ahead = code.at(following, code.mul(row.i, panel_size // tiles), shape.element)
                    code.call(kernel, [
                        mine, a_m, one, b, b_k, depth, target, c_m, code.i64(0), ahead,
                        fetched, target, c_m,
                    ])  # fmt: skip
                start += rows * count

    # ---- results

    def _transform_products(self, item: Item, rows: int) -> None:
        code, spec, shape, m = self.code, self.spec, self.shape, self.way.tile
        vectors = item.together * shape.parts
        with code.loop(0, rows) as i, code.loop(0, self.across) as j, code.loop(0, vectors) as q:
            line = code.add(item.low, code.mul(i.i, m))
            place = code.mul(j.i, m)
            tile = code.add(code.mul(i.i, self.across), j.i)
            panel = code.binary("arith.divui", q.i, code.i64(self.way.vectors))
            vector = code.binary("arith.remui", q.i, code.i64(self.way.vectors))
            at = code.add(code.mul(tile, self.product), code.mul(vector, shape.lanes))
            at = code.add(at, code.mul(panel, self.way.positions * self.columns))
            source = code.at(self.products, at, shape.element)
            lane = code.mul(q.i, shape.lanes)
            block = code.binary("arith.divui", lane, code.i64(spec.w_block))
            lane = code.binary("arith.remui", lane, code.i64(spec.w_block))
            out, out_block = self.sums_at(item, line)
            to = code.add(code.mul(block, out_block), code.mul(place, spec.w_block))
            target = code.at(out, code.add(to, lane), shape.element)
            self._store_tile(source, target, line, place)

    def _store_tile(self, source: Val, target: Val, line: Val, place: Val) -> None:
        """The results of a tile that lie inside the whole result."""
        code, spec, shape, m = self.code, self.spec, self.shape, self.way.tile
        height, width = spec.out_sizes
        work = transform(code.unit, "output", shape, m)
        down, step = code.i64(self.square * self.columns), code.i64(self.columns)
        lines = least(code, code.binary("arith.subi", code.i64(height), line), code.i64(m))
        places = least(code, code.binary("arith.subi", code.i64(width), place), code.i64(m))
        whole = code.compare("arith.cmpi", "eq", code.add(lines, places), code.i64(2 * m))
        with code.when(whole):
            code.call(
                work, [source, down, step, target, code.i64(self.line), code.i64(spec.w_block)]
            )
        with code.otherwise():
            near, beside = code.i64(m * shape.lanes), code.i64(shape.lanes)
            code.call(work, [source, down, step, self.buffer, near, beside])
            with code.loop(0, lines) as i, code.loop(0, places) as j:
                at = code.mul(code.add(code.mul(i.i, m), j.i), shape.lanes)
                to = code.add(code.mul(i.i, self.line), code.mul(j.i, spec.w_block))
                value = code.load(
                    code.at(self.buffer, at, shape.element), shape.vector, shape.bytes
                )
                code.store(value, code.at(target, to, shape.element), shape.bytes)


def emit_filters(
    unit: Unit, symbol: str, spec: BlockedSpec, shape: Shape, way: Winograd
) -> GemmKernel:
    """Write the kernel that makes of blocked filters (slot 0) those that products read (slot 1).

    An item is a channel: its vectors of filters are transformed one by one.
    """
    code = Code(unit, symbol, BODY, internal=False)
    data, begin, end, _ = code.args
    w, to = (code.load(code.at(data, i, "i64"), "!llvm.ptr", 8) for i in range(2))
    work = transform(unit, "filter", shape, way.tile)
    panels, deep, columns = packing(spec, shape, way)[1][1:]
    step, block = spec.x_block * spec.w_block, code.i64(spec.x_block)
    down, across = (code.i64(n * panels * deep * columns) for n in (size(way.tile), 1))
    with code.loop(begin, end) as channel, code.loop(0, spec.w_blocks) as number:
        outer = code.mul(code.binary("arith.divui", channel.i, block), TAPS * TAPS * step)
        inner = code.mul(code.binary("arith.remui", channel.i, block), spec.w_block)
        source = code.add(code.add(outer, inner), code.mul(number.i, spec.filter_block))
        for part in range(shape.parts):
            vector = code.add(code.mul(number.i, shape.parts), part)
            panel = code.binary("arith.divui", vector, code.i64(way.vectors))
            row = code.add(code.mul(panel, deep), channel.i)
            lane = code.binary("arith.remui", vector, code.i64(way.vectors))
            at = code.add(code.mul(row, columns), code.mul(lane, shape.lanes))
            first = code.at(w, code.add(source, part * shape.lanes), shape.element)
            code.call(work, [
                first, code.i64(TAPS * step), code.i64(step), code.at(to, at, shape.element),
                down, across,
            ])  # fmt: skip
    code.finish()
    each = spec.w_blocks * spec.w_block * way.positions * TAPS

    def zero(into: Code, sizes: Sizes) -> Val:
        return into.i64(0)

    phase = Phase(
        symbol, lambda into, sizes: into.i64(deep),
        lambda into, sizes: into.i64(max(1, WORK // each)),
    )  # fmt: skip
    return GemmKernel((phase,), zero, zero, ("w", "transformed"))


_EDGE = (
    ("x", "!llvm.ptr"), ("top", "i64"), ("left", "i64"), ("lines", "i64"), ("places", "i64"),
    ("above", "i64"), ("to", "!llvm.ptr"),
)  # fmt: skip


def _edge(unit: Unit, spec: BlockedSpec, shape: Shape, tile: int) -> str:
    """Symbol of the function that copies a square which begins at `top`, `left`, with zeros where
    it lies outside x, whose address is that of the line `above`."""
    symbol = f"gm.winograd{tile}_edge_{shape.element}x{shape.lanes}_b{spec.x_block}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, _EDGE, traits=("noinline",))
    x, top, left, lines, places, above, to = code.args
    square, zero = size(tile), code.i64(0)

    def inside(at: Val, room: Val) -> tuple[Val, Val]:
        """Whether a position lies inside, and the nearest that does."""
        near = code.binary("arith.maxsi", least(code, at, code.add(room, -1)), zero)
        return code.compare("arith.cmpi", "eq", near, at), near

    with code.loop(0, square) as i:
        line_fits, line = inside(code.add(top, i.i), lines)
        line = code.binary("arith.subi", line, above)
        row = code.at(x, code.mul(code.mul(line, places), spec.x_block), shape.element)
        with code.loop(0, square) as j:
            fits, place = inside(code.add(left, j.i), places)
            source = code.at(row, code.mul(place, spec.x_block), shape.element)
            value = code.load(source, shape.vector, shape.bytes)
            both = code.binary("arith.andi", line_fits, fits)
            value = code.select(both, value, code.const(0, shape.vector))
            at = code.mul(code.add(code.mul(i.i, square), j.i), shape.lanes)
            code.store(value, code.at(to, at, shape.element), shape.bytes)
    code.finish()
    return symbol
