"""Loops over a B that streams by, row-major: its panels are packed as the first tile reads them.

Each panel is read by all tiles of a block of A, so it is worth packing; the first of them stores
what it reads while it multiplies, which costs next to nothing, and the others fetch the rows of
the panel that follows, which lie too far apart for the processor to fetch them by itself.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import ceil_div, is_plain, memory_element, minus
from graphmill.codegen.cpu.contract.microkernel import TURN, microkernel
from graphmill.codegen.cpu.contract.plan import Plan
from graphmill.codegen.cpu.contract.spec import GemmSpec
from graphmill.codegen.cpu.contract.tiled import BlockA, PanelB, Slice, Tiled, panel_units
from graphmill.codegen.cpu.emit import Val

LINE = 64  # bytes
FEW_LINES, MANY_LINES = 2, 4  # that a turn fetches: more keep the loads of others waiting


def is_streamed(spec: GemmSpec, plan: Plan) -> bool:
    """Whether panels of B are used once each, and their rows lie as the micro-kernel reads them."""
    plain = spec.b_order == "row" and is_plain(spec.b, plan.tile.element)
    once = plan.b_mode == "group" and not spec.b_computed and not spec.symmetric
    return once and plain and plan.tile.dot.group == 1


class Streamed(Tiled):
    """The kernel being written; `packing` are the micro-kernels that pack, of both heights."""

    packs = False

    def _heights(self) -> None:
        pieces = -(-self.tile.columns * self.spec.b.itemsize // (FEW_LINES * LINE))
        few = self.spec.m is not None and self.spec.m <= TURN * pieces * self.tile.rows
        self.lines = MANY_LINES if few else FEW_LINES
        super()._heights()
        self.packs = True
        self.packing = self._kernels(self.tile)

    def _kernel(self, tile: Tile, height: int) -> str:
        return microkernel(self.code.unit, tile, height, spread=self.lines, packs=self.packs)

    def _block(self, part: Slice, a: Val, c: Val, panel_b: PanelB) -> None:
        code, tile, slot = self.code, self.tile, self.slot
        block_a, kind = self._block_a(part, a), memory_element(self.spec.b)
        source = code.at(panel_b.base, code.mul(part.k, slot["b_k"]), kind)
        size = panel_units(code, tile, part.length)
        args = [source, slot["b_k"], slot["b_n"], part.length, self.sizes.n]
        with code.loop(*part.panels) as panel:
            past = code.add(panel.i, 1)
            _, valid = self._columns(panel.i)
            few = code.compare("arith.cmpi", "slt", valid, code.i64(tile.columns))
            with code.when(few):
                back = minus(code, code.i64(0), code.mul(panel.i, size))
                out = code.at(self.b_memory, back, tile.element)
                self._pack_b([*args, panel.i, past, out], part.k)
            b = PanelB(code.at(source, code.mul(panel.i, tile.columns), kind), size, slot["b_k"])
            self._panel(part, part.tiles, block_a, c, b, panel.i)

    def _panel(
        self, part: Slice, tiles: tuple[Val, Val], block_a: BlockA, c: Val, panel_b: PanelB,
        panel: Val,
    ) -> None:  # fmt: skip
        """A panel times tiles of A: the first packs it, unless that was done before."""
        code, width = self.code, self.code.i64(self.tile.columns)
        a_at, a_m, a_k = block_a
        col, valid = self._columns(panel)
        whole = code.compare("arith.cmpi", "sge", valid, width)
        following = self._following(part, panel_b, panel)
        with code.loop(*tiles) as at:
            row, height, kernel = self._rows(at.i, valid)
            first = code.compare("arith.cmpi", "eq", at.i, tiles[0])
            first = code.binary("arith.andi", first, whole)
            more = code.compare("arith.cmpi", "ne", height, self.base)
            packing = code.select(more, self.packing[1], self.packing[0])
            kernel = code.select(first, packing, kernel)
            b = code.select(first, panel_b.base, self.b_memory)
            b_k = code.select(first, panel_b.b_k, width)
            head = [a_at(at.i, row), a_m, a_k, b, b_k, part.length]
            ahead = self._rows_ahead(minus(code, at.i, tiles[0]), part.length, following)
            self._tile(part, kernel, head, c, (row, col, height, valid), [*ahead, self.b_memory])

    def _following(self, part: Slice, here: PanelB, panel: Val) -> Val:
        """The first row of the panel that comes next: beside this one, in the next slice, or in
        the next matrix."""
        code, width = self.code, self.tile.columns
        past, kind = code.add(panel, 1), memory_element(self.spec.b)
        more = code.compare("arith.cmpi", "slt", past, part.panels[1])
        back = code.mul(minus(code, part.panels[0], panel), width)
        below = code.add(back, code.mul(part.length, here.b_k))
        other = code.add(back, minus(code, self.slot["b_batch"], code.mul(part.k, here.b_k)))
        index = code.select(more, code.i64(width), code.select(part.last, other, below))
        return code.at(here.base, index, kind)

    def _rows_ahead(self, number: Val, length: Val, following: Val) -> list[Val]:
        """What tile `number` fetches of a panel: a piece of a row a turn; how far apart they are.

        Tiles that find nothing left to fetch ask for what is there.
        """
        code, kind, size = self.code, memory_element(self.spec.b), self.spec.b.itemsize
        width = self.lines * LINE
        pieces = -(-self.tile.columns * size // width)
        piece = code.binary("arith.divui", number, code.i64(TURN))
        turn = code.binary("arith.remui", number, code.i64(TURN))
        row = code.mul(turn, ceil_div(code, length, TURN))
        start = code.at(following, code.mul(row, self.slot["b_k"]), kind)
        start = code.at(start, code.mul(piece, width), "i8")
        apart = code.mul(self.slot["b_k"], size)
        some_left = code.compare("arith.cmpi", "slt", piece, code.i64(pieces))
        start = code.select(some_left, start, self.b_memory)
        return [start, code.select(some_left, apart, code.i64(0))]
