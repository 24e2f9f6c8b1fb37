"""Parts of a product that its loops hand down: slices, where panels are, what comes next."""

from __future__ import annotations

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import ceil_div, least, minus, most
from graphmill.codegen.cpu.contract.microkernel import FETCHED, TURN
from graphmill.codegen.cpu.contract.plan import GROUP
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.records import record

Ahead = tuple[Val, Val]  # what a micro-kernel fetches: from where on, and bytes from turn to turn


@record
class Slice:
    """What the inner loops work on: a slice of k, ranges of tiles and panels, of one matrix.

    `k` and `length` count packed units, `elements` the values of k in the slice. `batch` is the
    index of the result.
    """

    k: Val
    length: Val
    last: Val
    tiles: tuple[Val, Val]
    panels: tuple[Val, Val]
    batch: Val
    elements: Val | None = None
    start: Val | None = None  # of the sums along k, where it is not 0


@record
class Following:
    """Rows of B that are packed next: their address, bytes from row to row, and how many runs of
    `FETCHED` bytes each has; `first` is the panel with whose products fetching them begins."""

    address: Val
    step: Val
    runs: Val
    first: Val

    def share(self, code: Code, tile: Tile, part: Slice, panel: Val, at: Val, b: Val) -> Ahead:
        """What a tile's products fetch: some rows of a run; `b`, which L1 has, where all is."""
        shares = TURN * tile.dot.group  # of a run, for a turn fetches of one row
        tiles = minus(code, part.tiles[1], part.tiles[0])
        share = code.mul(minus(code, panel, self.first), tiles)
        share = code.add(share, minus(code, at, part.tiles[0]))
        run, row = (code.binary(f"arith.{op}ui", share, code.i64(shares)) for op in ("div", "rem"))
        row = code.mul(row, code.binary("arith.divui", part.length, code.i64(TURN)))
        address = code.at(self.address, code.mul(row, self.step), "i8")
        address = code.at(address, code.mul(run, FETCHED), "i8")
        some_left = code.compare("arith.cmpi", "slt", run, self.runs)
        step = code.select(some_left, self.step, code.i64(FETCHED))
        return code.select(some_left, address, b), step


def following(
    code: Code, tile: Tile, part: Slice, group: tuple[Val, Val], b: tuple[Val, Val, int],
    panels: Val,
) -> Following:  # fmt: skip
    """What is packed after a group of panels: those beside them, or the same further down.

    `b` is the address of a row-major matrix, its stride and the bytes of an element.
    """
    base, b_k, size = b
    width = tile.columns * size
    inside = code.compare("arith.cmpi", "slt", group[1], part.panels[1])
    beside = code.binary("arith.ori", inside, part.last)
    panel = code.select(beside, group[1], part.panels[0])
    down = code.select(part.last, part.start or code.i64(0), code.add(part.k, part.length))
    k = code.mul(code.select(inside, part.k, down), tile.dot.group)
    count = least(code, minus(code, panels, panel), code.i64(GROUP))
    runs = ceil_div(code, code.mul(most(code, count, 0), width), FETCHED)
    step = code.mul(b_k, size)
    address = code.at(code.at(base, code.mul(k, step), "i8"), code.mul(panel, width), "i8")
    return Following(address, step, runs, group[0])


@record
class PanelB:
    """Where B's panels are: `step` elements apart, rows `b_k` apart; the last may lie elsewhere."""

    base: Val
    step: Val
    b_k: Val
    ragged_base: Val | None = None
    last: Val | None = None
    ragged: Val | None = None
    from_slice: bool = False  # the panels hold one slice of k only
    furthest: Val | None = None  # where the last one begins, if that is before the others' end
    following: Following | None = None

    def at(self, code: Code, tile: Tile, panel: Val, k: Val) -> tuple[Val, Val]:
        """The address of row `k` of a panel and the distance of its rows."""
        index = code.mul(panel, self.step)
        if self.furthest is not None:
            index = least(code, index, self.furthest)
        if not self.from_slice:
            index = code.add(index, code.mul(k, self.b_k))
        address = code.at(self.base, index, tile.element)
        if self.ragged_base is None or self.last is None or self.ragged is None:
            return address, self.b_k
        here = code.compare("arith.cmpi", "eq", panel, self.last)
        here = code.binary("arith.andi", here, self.ragged)
        other = code.at(self.ragged_base, code.mul(k, tile.columns), tile.element)
        b_k = code.select(here, code.i64(tile.columns), self.b_k)
        return code.select(here, other, address), b_k
