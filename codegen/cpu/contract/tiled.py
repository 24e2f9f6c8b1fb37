"""The loops around the micro-kernel: blocks of rows, slices of k, panels, tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import ceil_div, least, memory_element, minus, most
from graphmill.codegen.cpu.contract.finish import finish_tile
from graphmill.codegen.cpu.contract.microkernel import FETCHED, TURN, microkernel
from graphmill.codegen.cpu.contract.packing import pack_a, pack_b, units
from graphmill.codegen.cpu.contract.parts import Ahead, Following, PanelB, Slice, following
from graphmill.codegen.cpu.contract.plan import FEW_TILES, GROUP, Plan
from graphmill.codegen.cpu.contract.slots import Slots
from graphmill.codegen.cpu.contract.spec import (
    AS_THEY_LIE,
    Epilogue,
    GemmSpec,
    Prologues,
    Sizes,
)
from graphmill.codegen.cpu.contract.symmetric import strip as strip_of_triangle
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.records import record

DEPTH = 8  # slices of k are multiples of so many units: packing reads squares, kernels are unrolled


def row_tiles(code: Code, tile: Tile, m: Val) -> Val:
    """How many tiles cover `m` rows, as `plan.count_of_tiles` says of a known number."""
    count = ceil_div(code, m, tile.rows)
    if tile.dot.amx:
        return count
    odd = code.binary("arith.andi", count, code.i64(1))
    many = code.compare("arith.cmpi", "sgt", count, code.i64(FEW_TILES))
    return code.add(count, code.select(many, odd, code.i64(0)))


def panel_units(code: Code, tile: Tile, k: Val) -> Val:
    """The size of a whole packed panel of B, in units."""
    return code.add(code.mul(units(code, tile, k), tile.columns), tile.head)


_AtTile = Callable[[Val, Val], Val]  # (tile, its first row) -> address in the block of A
BlockA = tuple[_AtTile, Val, Val]  # and the strides there


@record
class Scratch:
    """A worker's memory: the depth and tiles of a block of A, where B's panels and the sums of a
    panel's tiles start, all bytes."""

    depth: Val
    tiles: Val
    b_offset: Val
    sums_offset: Val
    bytes: Val


def scratch_layout(code: Code, spec: GemmSpec, plan: Plan, sizes: Sizes) -> Scratch:
    """The layout of a worker's scratch memory, the same for caller and kernel."""
    tile, blocks = plan.tile, plan.blocks
    one = code.i64(1)
    k = code.binary("arith.maxsi", units(code, tile, sizes.k), one)
    limit = blocks.rows // tile.rows
    if plan.split_k:
        depth, tiles = _even_depth(code, k, blocks.k, max(DEPTH, tile.dot.step)), code.i64(limit)
    else:
        fit = code.binary("arith.divui", code.i64(blocks.rows * blocks.k // tile.rows), k)
        depth, tiles = k, code.binary("arith.maxsi", least(code, fit, code.i64(limit)), one)
    a_size = code.i64(0)
    if plan.pack_a:
        used = least(code, tiles, row_tiles(code, tile, sizes.m))
        slack = 64 // tile.bytes  # the last vector of a packed tile may stick out
        a_size = code.add(code.mul(code.mul(used, tile.rows), depth), slack)
    b_size = code.i64(0)
    if plan.b_mode == "direct":
        b_size = code.mul(sizes.k, tile.columns)
    elif plan.b_mode == "group":
        b_size = code.mul(depth, plan.pitch or tile.columns * GROUP)
        b_size = code.add(b_size, tile.head * GROUP + 64 // tile.bytes)
    elif plan.b_mode == "worker":
        panels = ceil_div(code, sizes.n, tile.columns)
        b_size = code.mul(panels, panel_units(code, tile, sizes.k))
    sums, size = code.add(a_size, b_size), code.i64(0)
    if plan.chunk:
        used = least(code, tiles, row_tiles(code, tile, sizes.m))
        sums = code.op(f"arith.andi {code.add(sums, 15)}, {code.i64(-16)} : i64", "i64")
        size = code.mul(used, tile.rows * tile.columns)
    total = code.mul(code.add(sums, size), tile.bytes)
    total = code.op(f"arith.andi {code.add(total, 63)}, {code.i64(-64)} : i64", "i64")
    return Scratch(depth, tiles, a_size, sums, total)


def _even_depth(code: Code, k: Val, most_units: int, step: int) -> Val:
    """Slices of k of about the same depth, as few as may be: a short one pays for C like others."""
    even = ceil_div(code, k, ceil_div(code, k, most_units))
    return code.op(f"arith.andi {code.add(even, step - 1)}, {code.i64(-step)} : i64", "i64")


def may_overlap(spec: GemmSpec, plan: Plan) -> bool:
    """Whether the last panel may compute some columns of the one before again: nothing is packed.

    Sums must then not be added to C, and be stored as they are.
    """
    if plan.b_mode != "direct" or not plan.direct_c or spec.symmetric:
        return False
    once = spec.k is not None and spec.k <= plan.blocks.k
    return once and spec.n is not None and spec.n > plan.tile.columns


_Parts = tuple[tuple[Val, Val], Val]  # some neighbours among so many


def _chosen(code: Code, condition: Val, a: _Parts, b: _Parts) -> _Parts:
    """`a` if `condition`, else `b`."""
    (a_low, a_high), (b_low, b_high) = a[0], b[0]
    some = code.select(condition, a_low, b_low), code.select(condition, a_high, b_high)
    return some, code.select(condition, a[1], b[1])


def _part(code: Code, size: Val, some: tuple[Val, Val], parts: Val) -> tuple[Val, Val]:
    """The range that neighbouring ones of `parts` equal parts of `size` make."""
    low, high = (code.binary("arith.divui", code.mul(size, at), parts) for at in some)
    return low, high


class Tiled:
    """The kernel being written, with the values all of its loops use."""

    fetched = FETCHED // TURN  # bytes of what follows, for each unit of k
    matrix: Val  # the one whose products are formed

    def __init__(
        self, slot: Slots, symbol: str, spec: GemmSpec, plan: Plan, epilogue: Epilogue | None,
        prologues: Prologues = AS_THEY_LIE, finisher: Val | None = None,
    ) -> None:  # fmt: skip
        self.code = code = slot.code
        self.symbol, self.prologues = symbol, prologues
        self.slot, self.spec, self.plan, self.tile = slot, spec, plan, plan.tile
        self.epilogue = epilogue
        self.finisher = finisher or code.address_of(finish_tile(
            code.unit, symbol, self.tile, spec.acc, spec.out, epilogue, slot.first_extra
        ))  # fmt: skip
        self.buffer = code.alloca(self.tile.element, self.tile.rows * self.tile.columns)
        self.sizes = sizes = self.slot.sizes
        self.scratch = scratch_layout(code, spec, plan, sizes)
        self.memory = self.slot.memory
        self.b_memory = code.at(self.memory, self.scratch.b_offset, self.tile.element)
        self.sums = code.at(self.memory, self.scratch.sums_offset, self.tile.element)
        self.tiles = row_tiles(code, self.tile, sizes.m)
        self.panels = ceil_div(code, sizes.n, self.tile.columns)
        self.depth = units(code, self.tile, sizes.k)
        self.overlaps = epilogue is None and may_overlap(spec, plan)
        self._heights()

    def _heights(self) -> None:
        """`base` rows a tile, one more in some; and the micro-kernel of each."""
        code = self.code
        self.count = code.binary("arith.maxsi", self.tiles, code.i64(1))
        self.base = code.binary("arith.divui", self.sizes.m, self.count)
        if self.plan.narrow:
            self.narrow = self._kernels(replace(self.tile, vectors=self.plan.narrow))
        alone = self.plan.narrow and self.spec.n is not None and self.spec.n < self.tile.columns
        self.kernels = self.narrow if alone else self._kernels(self.tile)

    def _kernels(self, tile: Tile) -> list[Val]:
        """The micro-kernels of both heights."""
        code, found = self.code, []
        kernels = [(h, code.address_of(microkernel(code.unit, tile, h))) for h in self.plan.heights]
        for height in (self.base, code.add(self.base, 1)):
            chosen = kernels[0][1]
            for rows, pointer in kernels[1:]:
                this = code.compare("arith.cmpi", "eq", height, code.i64(rows))
                chosen = code.select(this, pointer, chosen)
            found.append(chosen)
        return found

    def start(self, tile: Val) -> Val:
        """The first row of a tile: longer ones lie evenly among the others."""
        return self.code.binary("arith.divui", self.code.mul(tile, self.sizes.m), self.count)

    def body(self) -> None:
        """Cut the items into ranges of tiles and panels of every matrix of the batch."""
        code = self.code
        rows, columns = self.slot.grid(self.tiles, self.panels)
        by_rows = code.compare("arith.cmpi", "eq", columns, code.i64(1))
        strip = code.select(by_rows, rows, columns)  # blocks whose neighbours make one block
        for batch, low, high in self.slot.matrices(code.mul(rows, columns)):
            first, past = code.binary("arith.divui", low, strip), ceil_div(code, high, strip)
            with code.loop(first, past) as at:
                start = code.mul(at.i, strip)
                begin = most(code, minus(code, low, start), 0)
                end = least(code, minus(code, high, start), strip)
                one = (at.i, code.add(at.i, 1)), rows
                cut = strip_of_triangle if self.spec.symmetric else _part
                tiles = cut(code, self.tiles, *_chosen(code, by_rows, ((begin, end), rows), one))
                all_panels = (code.i64(0), code.i64(1)), code.i64(1)
                along = _chosen(code, by_rows, all_panels, ((begin, end), columns))
                self._matrix(batch, tiles, _part(code, self.panels, *along))

    def _matrix(self, batch: Val, rows: tuple[Val, Val], panels: tuple[Val, Val]) -> None:
        code, slot, spec = self.code, self.slot, self.spec
        matrix, start, stop = slot.part(batch, self.depth)
        self.matrix = matrix
        turns_end = most(code, stop, code.add(start, 1))  # without values of k, C is zero
        a = code.at(slot["a"], code.mul(matrix, slot["a_batch"]), memory_element(spec.a))
        c = code.at(slot["c"], code.mul(batch, slot["c_batch"]), memory_element(spec.out))
        panel_b = self._panel_b(matrix, panels)
        step = self._even(minus(code, rows[1], rows[0]))
        strip = most(code, minus(code, panels[1], panels[0]), 1)
        if self.plan.panels_first:
            strip = code.i64(GROUP if self.plan.b_mode == "group" else 1)
        depth = self.scratch.depth
        with (
            code.loop(*panels, strip) as first,
            code.loop(*rows, step) as block,
            code.loop(start, turns_end, depth) as k,
        ):
            left = minus(code, stop, k.i)
            length, elements = least(code, left, depth), None
            if (group := self.tile.dot.group) > 1:
                rest = most(code, minus(code, self.sizes.k, code.mul(k.i, group)), 0)
                elements = least(code, rest, code.mul(length, group))
            low = first.i
            if spec.symmetric:  # what lies below the diagonal is left out
                above = code.binary("arith.divui", self.start(block.i), code.i64(self.tile.columns))
                low = code.binary("arith.maxsi", low, above)
            part = Slice(
                k.i, length, code.compare("arith.cmpi", "sle", left, depth),
                (block.i, least(code, code.add(block.i, step), rows[1])),
                (low, least(code, code.add(first.i, strip), panels[1])),
                batch, elements, start,
            )  # fmt: skip
            self._block(part, a, c, panel_b)

    def _even(self, tiles: Val) -> Val:
        """Tiles per block: as few blocks as fit the caches, all about the same size."""
        code = self.code
        blocks = most(code, ceil_div(code, tiles, self.scratch.tiles), 1)
        return most(code, ceil_div(code, tiles, blocks), 1)

    def _panel_b(self, batch: Val, panels: tuple[Val, Val]) -> PanelB:
        """Where the panels of B are; packs what this worker must pack."""
        code, slot, tile, mode = self.code, self.slot, self.tile, self.plan.b_mode
        size = panel_units(code, tile, self.sizes.k)
        width = code.i64(tile.columns)
        if mode in ("packed", "shared"):
            b = slot["shared"] if mode == "shared" else slot["b"]
            whole = code.at(b, code.mul(batch, slot["b_batch"]), tile.element)
            return PanelB(whole, size, width)
        b = code.at(slot["b"], code.mul(batch, slot["b_batch"]), memory_element(self.spec.b))
        if mode == "group":
            return PanelB(b, size, width)
        args = [b, slot["b_k"], slot["b_n"], self.sizes.k, self.sizes.n]
        if mode == "worker":
            self._pack_b([*args, *panels, self.b_memory])
            return PanelB(self.b_memory, size, width)
        if self.overlaps:
            return PanelB(b, width, slot["b_k"], furthest=self._furthest())
        last = code.binary("arith.subi", self.panels, code.i64(1))
        ragged = code.compare("arith.cmpi", "ne", code.mul(self.panels, tile.columns),
                              self.sizes.n)  # fmt: skip
        mine = code.compare("arith.cmpi", "eq", panels[1], self.panels)
        need = code.binary("arith.andi", ragged, mine)
        with code.when(need):
            back = code.binary("arith.subi", code.i64(0), code.mul(last, size))
            out = code.at(self.b_memory, back, tile.element)
            self._pack_b([*args, last, self.panels, out])
        return PanelB(b, width, slot["b_k"], self.b_memory, last, ragged)

    def _pack_b(self, args: list[Val], start: Val | None = None) -> None:
        code, spec = self.code, self.spec
        before = self.prologues.b
        pack = pack_b(code.unit, self.tile, spec.b, spec.b_order, before, self.symbol)
        corner = [code.i64(0) if start is None else start, self.matrix, self.slot.data]
        code.call(pack, [*args, *(corner if before else ())])

    def _block(self, part: Slice, a: Val, c: Val, panel_b: PanelB) -> None:
        """A block of rows of one slice of k, times all panels."""
        code, tile = self.code, self.tile
        block_a = self._block_a(part, a)
        if self.plan.b_mode != "group":
            self._panels(part, block_a, c, panel_b)
            return
        elements = part.elements or part.length
        size = panel_units(code, tile, elements)
        source = code.mul(code.mul(part.k, tile.dot.group), self.slot["b_k"])
        source = code.at(panel_b.base, source, memory_element(self.spec.b))
        args = [source, self.slot["b_k"], self.slot["b_n"], elements, self.sizes.n]
        with code.loop(*part.panels, GROUP) as first:
            end = least(code, code.add(first.i, GROUP), part.panels[1])
            back = code.binary("arith.subi", code.i64(0), code.mul(first.i, size))
            out = code.at(self.b_memory, back, tile.element)
            start = code.mul(part.k, tile.dot.group)
            self._pack_b([*args, first.i, end, out], start)
            following = self._following(part, panel_b.base, (first.i, end))
            packed = PanelB(out, size, code.i64(tile.columns), from_slice=True, following=following)
            self._panels(replace(part, panels=(first.i, end)), block_a, c, packed)

    def _following(self, part: Slice, b: Val, group: tuple[Val, Val]) -> Following | None:
        if self.spec.b_order != "row" or self.tile.dot.amx:
            return None
        rows = b, self.slot["b_k"], self.spec.b.itemsize
        return following(self.code, self.tile, part, group, rows, self.panels)

    def _panels(self, part: Slice, block_a: BlockA, c: Val, panel_b: PanelB) -> None:
        code, tile = self.code, self.tile
        with code.loop(*part.panels) as panel:
            tiles = part.tiles
            if self.spec.symmetric:
                past = code.mul(code.add(panel.i, 1), tile.columns)
                past = code.mul(past, self.count)  # rows of the diagonal
                tiles = tiles[0], least(code, tiles[1], ceil_div(code, past, self.sizes.m))
            self._panel(part, tiles, block_a, c, panel_b, panel.i)

    def _panel(
        self, part: Slice, tiles: tuple[Val, Val], block_a: BlockA, c: Val, panel_b: PanelB,
        panel: Val,
    ) -> None:  # fmt: skip
        """A panel of B times tiles of A."""
        code = self.code
        a_at, a_m, a_k = block_a
        b, b_k = panel_b.at(code, self.tile, panel, part.k)
        col, valid = self._columns(panel)
        with code.loop(*tiles) as at:
            row, height, kernel = self._rows(at.i, valid)
            head = [a_at(at.i, row), a_m, a_k, b, b_k, part.length]
            ahead = self._ahead(part, panel_b, panel, at.i, b)
            self._tile(part, kernel, head, c, (row, col, height, valid), ahead)

    def _columns(self, panel: Val) -> tuple[Val, Val]:
        """The first column of a panel, and how many it has in C."""
        code, width = self.code, self.tile.columns
        col = code.mul(panel, width)
        if self.overlaps:
            col = least(code, col, self._furthest())
        return col, least(code, minus(code, self.sizes.n, col), code.i64(width))

    def _furthest(self) -> Val:
        """Where a last panel of whole vectors begins that ends where C does."""
        assert self.spec.n is not None, "only known sizes overlap"
        width = self.plan.narrow * self.tile.lanes or self.tile.columns
        return self.code.i64(self.spec.n - width)

    def _rows(self, tile: Val, valid: Val) -> tuple[Val, Val, Val]:
        """The first row of a tile, how many it has, and the micro-kernel for `valid` columns."""
        code, row = self.code, self.start(tile)
        height = minus(code, self.start(code.add(tile, 1)), row)
        more = code.compare("arith.cmpi", "ne", height, self.base)
        kernel = code.select(more, self.kernels[1], self.kernels[0])
        if self.plan.narrow:
            few = code.compare("arith.cmpi", "slt", valid, code.i64(self.tile.columns))
            kernel = code.select(few, code.select(more, self.narrow[1], self.narrow[0]), kernel)
        return row, height, kernel

    def _ahead(self, part: Slice, panel_b: PanelB, panel: Val, tile: Val, b: Val) -> Ahead:
        """What to prefetch: the panel that comes next, a share in each of a block's first tiles."""
        code = self.code
        if panel_b.following is not None:
            return panel_b.following.share(code, self.tile, part, panel, tile, b)
        following, _ = panel_b.at(code, self.tile, code.add(panel, 1), part.k)
        if not panel_b.from_slice:
            more = code.compare("arith.cmpi", "slt", code.add(panel, 1), part.panels[1])
            below, _ = panel_b.at(code, self.tile, part.panels[0], code.add(part.k, part.length))
            following = code.select(more, following, below)
        return self._share(tile, part, part.length, following, b)

    def _share(self, tile: Val, part: Slice, length: Val, following: Val, b: Val) -> Ahead:
        """A tile's share of `length` units that follow; what it has in L1 where all is fetched."""
        code, each = self.code, self.fetched
        share = minus(code, tile, part.tiles[0])
        away = code.mul(code.mul(share, length), each)
        shares = self.tile.columns * self.tile.bytes // each
        some_left = code.compare("arith.cmpi", "slt", share, code.i64(shares))
        return code.select(some_left, code.at(following, away, "i8"), b), code.i64(FETCHED)

    def _tile(
        self,
        part: Slice,
        kernel: Val,
        head: list[Val],
        c: Val,
        where: tuple[Val, Val, Val, Val],
        ahead: Ahead,
    ) -> None:
        """One tile: straight into C, or by way of the buffer when it needs finishing."""
        code, pitch = self.code, self.slot["c_m"]
        target = self._target(c, where)

        def buffered() -> None:
            into = self.buffer, code.i64(self.tile.columns), code.i64(0)
            code.call_pointer(kernel, [*head, *into, *ahead, target, pitch])
            self._finish(part, self.buffer, target, where)

        if not self.plan.direct_c:
            buffered()
            return
        earlier = code.op(f"arith.extui {self._earlier(part)} : i1 to i64", "i64")
        with code.when(self._is_direct(part, where[3])):
            code.call_pointer(kernel, [*head, target, pitch, earlier, *ahead, target, pitch])
        with code.otherwise():
            buffered()

    def _target(self, c: Val, where: tuple[Val, Val, Val, Val]) -> Val:
        """Where a tile of C is."""
        code, (row, col, *_) = self.code, where
        offset = code.add(code.mul(row, self.slot["c_m"]), col)
        return code.at(c, offset, memory_element(self.spec.out))

    def _earlier(self, part: Slice) -> Val:
        """Whether C holds sums of earlier slices."""
        return self.code.compare("arith.cmpi", "ne", part.k, part.start or self.code.i64(0))

    def _is_direct(self, part: Slice, valid: Val) -> Val:
        """Whether the micro-kernel stores into C itself."""
        code, no = self.code, self.code.const(False, "i1")
        if not self.plan.direct_c:
            return no
        if self.overlaps:
            return code.const(True, "i1")
        direct = code.compare("arith.cmpi", "eq", valid, code.i64(self.tile.columns))
        return direct if self.epilogue is None else code.select(part.last, no, direct)

    def _finish(
        self, part: Slice, sums: Val, target: Val, where: tuple[Val, Val, Val, Val]
    ) -> None:  # fmt: skip
        """Finish a tile's sums into C."""
        code, (row, col, height, valid) = self.code, where
        flags = [
            code.op(f"arith.extui {flag} : i1 to i64", "i64")
            for flag in (self._earlier(part), part.last)
        ]
        shown_row, shown_batch = self.slot.place(row, part.batch)
        rest = [height, valid, *flags, shown_row, col, shown_batch, self.slot.data]
        code.call_pointer(self.finisher, [sums, target, self.slot["c_m"], *rest])

    def _block_a(self, part: Slice, a: Val) -> BlockA:
        """The block of A: packed into this worker's memory, or where it lies."""
        code, slot, tile, spec = self.code, self.slot, self.tile, self.spec
        element = memory_element(spec.a)
        a = code.at(a, code.mul(code.mul(part.k, tile.dot.group), slot["a_k"]), element)
        if not self.plan.pack_a:

            def direct(_: Val, row: Val) -> Val:
                return code.at(a, code.mul(row, slot["a_m"]), element)

            return direct, slot["a_m"], slot["a_k"]
        size = code.mul(part.length, tile.rows)

        def packed(at: Val, _: Val) -> Val:
            local = code.binary("arith.subi", at, part.tiles[0])
            return code.at(self.memory, code.mul(local, size), tile.element)

        before = self.prologues.a
        pack = pack_a(code.unit, tile, spec.a, spec.a_order, before, self.symbol)
        elements = part.elements or part.length
        with code.loop(*part.tiles) as at:
            row = self.start(at.i)
            height = code.binary("arith.subi", self.start(code.add(at.i, 1)), row)
            left = code.binary("arith.subi", self.sizes.m, row)
            source = code.at(a, code.mul(row, slot["a_m"]), element)
            out = packed(at.i, row)
            args = [source, slot["a_m"], slot["a_k"], height, left, elements, out]
            code.call(pack, [*args, *(self._corner(part, row) if before else ())])
        return packed, code.i64(1), code.i64(tile.rows)

    def _corner(self, part: Slice, row: Val) -> list[Val]:
        """What packing from a row of A on needs to know to compute the elements."""
        start = self.code.mul(part.k, self.tile.dot.group)
        return [row, start, self.matrix, self.slot.data]
