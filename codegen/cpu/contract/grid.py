"""Cutting C into a grid of blocks, one for each thread that the work is worth.

Products that take seconds are cut into more, for a signal's handler waits for the end of a block.
Only the number of threads, known at run time, and the sizes decide. Every element of C is summed
in the same order whatever the grid is.
"""

from __future__ import annotations

from math import prod

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import ceil_div, least, most
from graphmill.codegen.cpu.contract.phases import worth_a_thread
from graphmill.codegen.cpu.contract.plan import Plan
from graphmill.codegen.cpu.contract.slots import GRID_SHIFT, decoded
from graphmill.codegen.cpu.contract.spec import GemmSpec, Sizes
from graphmill.codegen.cpu.contract.symmetric import strips
from graphmill.codegen.cpu.contract.tiled import row_tiles, scratch_layout
from graphmill.codegen.cpu.emit import Code, Unit, Val

LONG = 1 << 34  # multiply-adds of a block: tenths of a second
MOST = 256  # blocks a thread
TURNS = 32  # blocks that a thread's is cut into at most; the pool gives it many at once, then fewer
LOW = 4  # tiles of rows in such a block: enough to fetch the next panel meanwhile
MANY = 16  # products a thread: their number alone balances the threads
_ARGS = tuple(
    (name, "i64")
    for name in ("threads", "batch", "tiles", "panels", "work", "tile_cost", "a_cost", "b_cost")
)


def grid_of(code: Code, spec: GemmSpec, plan: Plan, sizes: Sizes, batch: Val) -> Val:
    """The grid for each of `batch` products, as slot `grid` holds it."""
    known = (spec.m, spec.n, spec.k, spec.batch)
    worth = worth_a_thread(plan.tile)
    if prod(n for n in known if n is not None) < 2 * worth and None not in known:
        return code.i64((1 << GRID_SHIFT) + 1)
    assert sizes.threads is not None, "the caller knows its threads"
    threads = sizes.threads
    tile = plan.tile
    panels = ceil_div(code, sizes.n, tile.columns)
    work = code.mul(code.mul(sizes.m, sizes.n), code.mul(sizes.k, sizes.batch))
    if None in known or prod(n for n in known if n is not None) >= LONG:
        blocks = least(
            code, code.add(code.binary("arith.divui", work, code.i64(LONG)), 1), code.i64(MOST)
        )
        threads = code.mul(threads, blocks)
    if spec.symmetric:
        return strips(code, threads, batch, row_tiles(code, tile, sizes.m), work)
    work = code.binary("arith.divui", work, code.i64(worth))
    costs = [code.i64(cost) for cost in _costs(spec, plan)]
    args = [threads, batch, row_tiles(code, tile, sizes.m), panels, work, *costs]
    found = code.call(_chooser(code.unit), args, "i64")
    assert found is not None
    return _in_turns(code, spec, plan, sizes, found)


def _in_turns(code: Code, spec: GemmSpec, plan: Plan, sizes: Sizes, grid: Val) -> Val:
    """The grid cut further, so that a thread that is held up leaves some to others.

    Neighbours in a grid with one row or one column are one block for whoever gets them together, so
    that finer cuts cost little there unless each packs again what others have packed. In others a
    row is a block of A, which are packed one by one anyway.
    """
    rows, columns = decoded(code, grid)
    one = code.i64(1)
    tiles, panels = row_tiles(code, plan.tile, sizes.m), ceil_div(code, sizes.n, plan.tile.columns)

    def turns(size: Val, block: Val) -> Val:
        return most(code, least(code, code.binary("arith.divui", size, block), code.i64(TURNS)), 1)

    down, across = one, one
    by_rows = code.compare("arith.cmpi", "eq", columns, one)
    if plan.b_mode not in ("group", "worker"):
        low = code.mul(rows, scratch_layout(code, spec, plan, sizes).tiles)
        down = code.select(by_rows, turns(tiles, code.mul(rows, LOW)), turns(tiles, low))
    if not plan.pack_a:
        by_columns = code.compare("arith.cmpi", "eq", rows, one)
        across = code.select(by_columns, turns(panels, columns), one)
        down = code.select(by_columns, one, down)
    alone = code.compare("arith.cmpi", "eq", code.mul(rows, columns), one)
    rows = code.select(alone, one, code.mul(rows, down))
    columns = code.select(alone, one, code.mul(columns, across))
    return code.add(code.binary("arith.shli", columns, code.i64(GRID_SHIFT)), rows)


def cells(code: Code, grid: Val) -> Val:
    """How many blocks a grid has."""
    return code.mul(*decoded(code, grid))


def _costs(spec: GemmSpec, plan: Plan) -> tuple[int, int, int]:
    """Quarters of cycles, for each value of k: of a tile, of a tile's rows of A, a panel's of B.

    What is computed takes about as long again as packing it.
    """
    tile: Tile = plan.tile
    again = 2 if spec.a_computed else 1
    if tile.dot.amx:  # 64 cycles for 16 units of all tiles, half a line of A or B a cycle
        a = 16 * again if plan.pack_a else 4
        return 20, a, 40 if plan.b_mode in ("group", "worker") else 16
    a = 4 * again if plan.pack_a else 1
    b = 16 if plan.b_mode in ("group", "worker") else 8
    return 4 * tile.rows * tile.vectors, a * tile.rows, b * tile.vectors


def _chooser(unit: Unit) -> str:
    """Symbol of the function that tries the grids with 1, 2, 4, … columns."""
    symbol = "gm.grid"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, _ARGS, "i64", traits=("noinline",))
    threads, batch, tiles, panels, work, tile_cost, a_cost, b_cost = code.args
    threads = least(code, threads, most(code, work, 1))
    with code.repeat([batch, threads]) as step:  # Euclid's: what threads share evenly is not cut
        rest = code.binary("arith.remui", *step.carried)
        step.next = [step.carried[1], rest]
        code.again(step, code.compare("arith.cmpi", "ne", rest, code.i64(0)))
    wanted = code.binary("arith.divui", threads, step.results[0])
    many = code.compare("arith.cmpi", "sge", batch, code.mul(threads, MANY))
    wanted = code.select(many, code.i64(1), wanted)
    tries = code.binary("arith.subi", code.i64(64), code.unary("math.ctlz", wanted))
    start = [code.i64((1 << 62) - 1), code.i64((1 << GRID_SHIFT) + 1)]
    with code.loop(0, tries, 1, start) as turn:
        columns = code.binary("arith.shli", code.i64(1), turn.i)
        rows = code.binary("arith.divui", wanted, columns)
        columns, rows = least(code, columns, panels), least(code, rows, tiles)
        columns, rows = most(code, columns, 1), most(code, rows, 1)
        high, wide = ceil_div(code, tiles, rows), ceil_div(code, panels, columns)
        cost = code.mul(code.mul(high, wide), tile_cost)
        cost = code.add(cost, code.add(code.mul(high, a_cost), code.mul(wide, b_cost)))
        better = code.compare("arith.cmpi", "slt", cost, turn.carried[0])
        this = code.add(code.binary("arith.shli", columns, code.i64(GRID_SHIFT)), rows)
        turn.next = [
            code.select(better, new, old)
            for new, old in zip((cost, this), turn.carried, strict=True)
        ]
    code.finish(turn.results[1])
    return symbol
