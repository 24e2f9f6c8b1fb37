"""Choices for one contraction: what is packed where, and which tile heights are needed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod

from graphmill.codegen.cpu.contract.amx import LINE, amx_tile
from graphmill.codegen.cpu.contract.blocking import (
    LEAST_DEPTH,
    Blocks,
    Tile,
    cache_blocks,
    compute_element,
    register_tile,
)
from graphmill.codegen.cpu.contract.dots import choose_amx
from graphmill.codegen.cpu.contract.elements import is_plain
from graphmill.codegen.cpu.contract.space import (
    BLOCKS,
    DEPTHS,
    FEWEST_SUMS,
    b_modes,
    choices_of,
    packs_of_a,
    tiles,
)
from graphmill.codegen.cpu.contract.spec import GemmSpec
from graphmill.codegen.cpu.schedule import Choices
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dtypes import bf16
from graphmill.records import record

FEW_TILES = 8  # beyond, an odd number of tiles is made even, so that two threads get half each
# tiles of rows up to which packing a B that L2 holds costs more than it saves; from further away
# its rows come in long runs only as they are packed: a panel has a part of each, pages apart
IN_PLACE = 24
WIDE = 2  # panels side by side in memory that are read as well as packed ones
FITTING_ROWS = 8  # taller tiles need more addresses than there are registers
WORTH_FITTING = 0.92  # of the usual tile's cycles: it hides latencies and loads best
DELAYED = 0.15  # of the loads
STREAMED_ROWS = 64  # up to which fetching B from afar keeps the core as busy as the products
FAR = 1.0  # cycles that a load of B then waits where its slices are too deep for L1
FITTING = 640 << 10  # bytes of A that stay in any L2: a whole one's share for A was too much
GROUP = 4  # panels packed together: whole cache lines and fewer pages of B

B_MODES = {
    "packed": "packed before the call", "shared": "packed once", "worker": "packed by each thread",
    "group": "packed panel by panel", "direct": "in place",
}  # fmt: skip


@record
class Plan:
    """How a tiled contraction runs.

    `b_mode`: `packed` (by the caller), `shared` (packed by a first phase), `worker` (each worker
    packs what it needs), `group` (a few panels at a time, just before use), `direct` (read where
    it lies, the last partial panel packed). `direct_c`: the micro-kernel stores into C itself.
    `split_k`: C holds the sums of earlier slices of k; else one slice is all of it.
    `panels_first`: all slices of k for a few panels before the next ones, so that C stays in the
    caches meanwhile; else all panels for each slice, so that a slice of A does.
    """

    tile: Tile
    blocks: Blocks
    pack_a: bool
    b_mode: str
    heights: tuple[int, ...]
    direct_c: bool
    split_k: bool
    panels_first: bool = False
    pitch: int = 0  # of a group packed row by row instead of panel by panel
    narrow: int = 0  # vectors of the last panel, where fewer than others' are enough
    chunk: int = 0  # units of k that all tiles of a panel take before the next; 0 is all of them


def make_plan(
    spec: GemmSpec, target: Target, choices: Choices | None = None, *, units: bool = False
) -> Plan:
    """The plan for `spec`, from its static sizes and the caches of `target`, or as measured there.

    `units`: the caller packs operands in the units of `dots` where the target has them.
    """
    choices = choices_of(spec, target) if choices is None else choices
    plan = tile_plan(spec, target, choices, units=units)
    tile, blocks = plan.tile, plan.blocks
    b_mode = choices.pick("b_mode", _b_mode(spec, tile, blocks, target), b_modes(spec, tile))
    pack_a = choices.pick("pack_a", packs_a(spec, tile, target), packs_of_a(spec, tile))
    first = not pack_a and b_mode != "direct" and _fits(spec, tile, target)
    first = choices.pick("panels_first", first, (True, False))
    return replace(plan, b_mode=b_mode, pack_a=pack_a, panels_first=first)


def tile_plan(
    spec: GemmSpec, target: Target, choices: Choices, *, units: bool = False, heads: bool = True
) -> Plan:
    """A plan that leaves to the caller how operands are read: both are packed.

    Without `heads`, panels of B have none.
    """
    units = units and not (spec.exact and spec.acc.is_float)
    dot = choose_amx(target, *spec.multiplied, compute_element(spec.acc)) if units else None
    chunk = 0
    if dot is not None and choices.pick("amx", worth_amx(spec), (True, False)):
        tile = amx_tile(dot, compute_element(spec.acc))
        chunk = amx_chunk(spec, tile, target)
    else:
        types = spec.multiplied if units else (None, None)
        tile = fitted(spec, register_tile(target, spec.acc, *types, heads=heads), target)
        if spec.symmetric and target.vector_bits >= 512:
            tile = replace(tile, rows=8, vectors=3)  # squarer: less of it lies below the diagonal
        rows, vectors = choices.pick("tile", (tile.rows, tile.vectors), tiles(target))
        tile = replace(tile, rows=rows, vectors=vectors)
    direct_c = is_plain(spec.out, tile.element)
    split_k = direct_c and not tile.head
    blocks = picked_blocks(choices, tile, target, spec.k)
    heights, narrow = _heights(spec, tile), _last_vectors(spec, tile) % tile.vectors
    return Plan(tile, blocks, True, "group", heights, direct_c, split_k, narrow=narrow, chunk=chunk)


def worth_amx(spec: GemmSpec) -> bool:
    """Whether tiles are full enough to beat vectors, as was measured; unknown sizes are large.

    Vectors of bytes are quick where tiles have few rows or little depth, those of bf16 are not.
    """
    if spec.multiplied[0] is bf16:
        fewest_rows, shallowest, least_work = 1, 1, 1 << 15
    else:
        fewest_rows, shallowest, least_work = 8, 24, 1 << 18
    known = (spec.m, spec.n, spec.k)
    work = least_work if None in known else prod(size or 0 for size in known)
    deep = spec.k is None or spec.k >= shallowest
    return work >= least_work and deep and (spec.m is None or spec.m >= fewest_rows)


def amx_chunk(spec: GemmSpec, tile: Tile, target: Target) -> int:
    """Units of k whose panel of B stays in L1 while tiles of A stream by; 0 where all do."""
    most = target.l1 * 2 // 3 // (tile.columns * tile.bytes) // tile.dot.step * tile.dot.step
    few = spec.m is not None and spec.m <= tile.rows
    return 0 if few or (spec.k is not None and tile.dot.units(spec.k) <= most) else most


def explained(plan: Plan) -> str:
    """The plan in words for dumps."""
    a = "packed" if plan.pack_a else "in place"
    return f"{tile_text(plan.tile)}; A {a}, B {B_MODES[plan.b_mode]}"


def tile_text(tile: Tile) -> str:
    """The register tile in words."""
    if tile.dot.amx:
        return f"AMX, {tile.dot.amx} on tiles of {tile.rows} × {tile.columns}"
    unit = f", {tile.dot.group} {tile.dot.part} at a time" if tile.dot.group > 1 else ""
    return f"register tile {tile.rows} × {tile.vectors} vectors{unit}"


def picked_blocks(choices: Choices, tile: Tile, target: Target, k: int | None = None) -> Blocks:
    """The cache blocks, of whole tiles, of a product with `k` values to sum."""
    model = cache_blocks(target, tile, None if k is None else tile.dot.units(k))
    rows = choices.pick("block", model.rows, BLOCKS)
    return Blocks(choices.pick("depth", model.k, DEPTHS), max(rows // tile.rows, 1) * tile.rows)


def fitted(spec: GemmSpec, tile: Tile, target: Target) -> Tile:
    """The tile, or a narrower one where that computes much less beyond the edges of C."""
    others = [replace(tile, rows=r, vectors=v) for r, v in tiles(target) if r <= FITTING_ROWS]
    deep = tile.dot.group == 1 and cache_blocks(target, tile).k > LEAST_DEPTH
    if deep and spec.m and spec.m <= STREAMED_ROWS and not _is_panel(spec, tile):
        return min((tile, *others), key=partial(_cycles, spec, far=FAR))
    best = min(others, key=partial(_cycles, spec))
    return best if _cycles(spec, best) < WORTH_FITTING * _cycles(spec, tile) else tile


def _is_panel(spec: GemmSpec, tile: Tile) -> bool:
    """Whether B is one panel of this tile: its rows come in one long run, and A is read once."""
    full = bool(spec.n) and _last_vectors(spec, tile) == tile.vectors
    rows = spec.m is None or spec.m > FITTING_ROWS
    return full and rows and (spec.n or 0) <= tile.columns


def _cycles(spec: GemmSpec, tile: Tile, far: float = 0) -> float:
    """A row's share of the cycles for one value of k: multiply-adds, or loads where they are more.

    Some of the loads delay a multiply-add, those of B by `far` more. Sizes that are not known are
    taken as large.
    """
    panels = (spec.n or tile.columns) // tile.columns
    last = _last_vectors(spec, tile) % tile.vectors
    count = 1
    heights: tuple[int, ...] = (tile.rows,)
    if spec.m:
        count, heights = count_of_tiles(spec.m, tile), _heights(spec, tile)
    high = spec.m - count * heights[0] if spec.m else 0  # tiles of the larger height

    def cycles(rows: int, vectors: int) -> float:
        loads = rows + vectors
        most = max(rows * vectors, loads, FEWEST_SUMS)
        return most + DELAYED * loads + far * vectors

    total = 0.0
    for number, vectors in ((panels, tile.vectors), (1 if last else 0, last)):
        column = (count - high) * cycles(heights[0], vectors) + high * cycles(heights[-1], vectors)
        total += number * column
    return total / (spec.m or tile.rows) / (spec.n or tile.columns)


def _last_vectors(spec: GemmSpec, tile: Tile) -> int:
    """Vectors of the last panel that hold columns; all where that is not known or one reads all."""
    if not spec.n or tile.dot.amx or tile.head:
        return tile.vectors
    return -(-(spec.n % tile.columns or tile.columns) // tile.lanes)


def _heights(spec: GemmSpec, tile: Tile) -> tuple[int, ...]:
    """Rows of the tiles: of one size or two that differ by one, so that no tile is a sliver."""
    if spec.m is None:
        return tuple(range(1, tile.rows + 1))
    if spec.m == 0 or tile.dot.amx:
        return (1,)
    base, extra = divmod(spec.m, count_of_tiles(spec.m, tile))
    return (base, base + 1) if extra else (base,)


def count_of_tiles(m: int, tile: Tile) -> int:
    """How many tiles cover `m` rows."""
    count = -(-m // tile.rows)
    if tile.dot.amx:
        return count
    return count + count % 2 if count > FEW_TILES else count


def packs_a(spec: GemmSpec, tile: Tile, target: Target) -> bool:
    """A is read directly where that costs nothing: few panels, or a matrix that L2 holds."""
    if spec.a_computed:
        return True
    if tile.dot.amx:
        if spec.a_order != "row" or spec.k is None or spec.k * spec.a.itemsize % LINE != 0:
            return True
        return spec.n is None or spec.n > 4 * tile.columns  # packed lines are whole and together
    if spec.a_order == "strided" or not is_plain(spec.a, tile.element):
        return True
    if spec.n is not None and spec.n <= 4 * tile.columns:
        return False
    if spec.m is None or spec.k is None:
        return True
    return spec.m * spec.k * tile.bytes > target.l2


def _fits(spec: GemmSpec, tile: Tile, target: Target) -> bool:
    """Whether the second level keeps all of A while B streams by."""
    if spec.m is None or spec.k is None:
        return False
    return spec.m * spec.k * tile.bytes <= min(target.l2 * 5 // 8, FITTING)


def _b_mode(spec: GemmSpec, tile: Tile, blocks: Blocks, target: Target) -> str:
    """B is packed unless it is read too few times to pay for that or L1 holds all of it."""
    if spec.b_packed:
        return "packed"
    size = None if spec.k is None or spec.n is None else spec.k * spec.n * tile.bytes
    small = size is not None and size <= target.l2 // 2
    packed = "shared" if spec.batch == 1 else "worker"
    if small and not packs_a(spec, tile, target):
        packed = "worker"  # threads need not wait for each other's panels
    if spec.m is not None and spec.m <= blocks.rows:
        packed = "group"  # one pass over B: its panels need not outlive their use
    if spec.b_order != "row" or spec.b_computed or not is_plain(spec.b, tile.element):
        return packed
    few = 1 if size is not None and not small else IN_PLACE  # rows of a large B are far apart
    if spec.m is not None and spec.m <= few * tile.rows:
        return "direct"
    if spec.n and spec.n % tile.columns == 0 and spec.n <= WIDE * tile.columns:
        return "direct"  # rows are panels already
    return "direct" if size is not None and size <= 2 * target.l1 else packed
