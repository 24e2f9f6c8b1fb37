"""The schedules that a matrix product may have on a target, and the plan that one makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from graphmill.codegen.cpu.contract.blocking import Blocks, Tile
from graphmill.codegen.cpu.contract.elements import is_plain
from graphmill.codegen.cpu.contract.skinny import skinny
from graphmill.codegen.cpu.contract.spec import GemmSpec
from graphmill.codegen.cpu.schedule import Schedule
from graphmill.codegen.cpu.target import Target
from graphmill.records import record

ROWS = (3, 4, 5, 6, 7, 8, 9, 10, 12, 14)
VECTORS = (1, 2, 3, 4, 5)
DEPTHS = (128, 192, 256, 384, 512, 768, 1024)
BLOCKS = (48, 96, 192, 384)
FEWEST_SUMS = 8  # in flight: below, the latency of a multiply-add shows


@record
class Product:
    """A product that a unit computes; with `tile_only` its user fixes how operands are read."""

    spec: GemmSpec
    tile_only: bool = False

    @property
    def name(self) -> str:
        """The key of its schedule."""
        return name_of(self.spec)

    @property
    def work(self) -> int:
        """Multiply-adds, where sizes are known."""
        spec = self.spec
        return (spec.m or 1) * (spec.n or 1) * (spec.k or 1) * (spec.batch or 1)

    @property
    def is_tuned(self) -> bool:
        """Whether its schedule matters: sizes are known, and it runs in register tiles.

        A product that computes an operand is timed only as part of its graph, not by itself.
        """
        spec = self.spec
        known = None not in (spec.m, spec.n, spec.k, spec.batch) and not spec.b_computed
        return known and not spec.acc.is_complex and (self.tile_only or skinny(spec) is None)


def name_of(spec: GemmSpec) -> str:
    """The key of a product's schedule: types, sizes, orders, how it is called."""
    return " ".join(["gemm", *(str(getattr(spec, field.name)) for field in fields(spec))])


def tiles(target: Target) -> Iterator[tuple[int, int]]:
    """Rows and vectors whose sums, row of B, broadcast and unfused product fit the registers."""
    others = 1 if target.fuses else 2
    for rows in ROWS:
        for vectors in VECTORS:
            if FEWEST_SUMS <= rows * vectors <= target.registers - vectors - others:
                yield rows, vectors


def b_modes(spec: GemmSpec, tile: Tile) -> tuple[str, ...]:
    """How B may be read; see `Plan`."""
    if spec.b_packed:
        return ("packed",)
    modes = ["worker", "group"]
    if spec.batch == 1:
        modes.append("shared")
    if spec.b_order == "row" and is_plain(spec.b, tile.element) and tile.dot.group == 1:
        modes.append("direct")
    return tuple(modes)


def packs_of_a(spec: GemmSpec, tile: Tile) -> tuple[bool, ...]:
    """Whether A may be packed, and whether it may not."""
    plain = spec.a_order != "strided" and is_plain(spec.a, tile.element)
    return (True, False) if plain and tile.dot.group == 1 else (True,)


def coordinates(product: Product, target: Target, tile: Tile) -> Iterator[tuple[Schedule, ...]]:
    """The space, the choices that matter most first; each is searched in turn."""
    spec = product.spec
    yield tuple(Schedule(rows=r, vectors=v) for r, v in tiles(target))
    if not product.tile_only:
        yield tuple(
            Schedule(b_mode=mode, pack_a=pack)
            for mode in b_modes(spec, tile)
            for pack in packs_of_a(spec, tile)
        )
    yield tuple(Schedule(depth=depth) for depth in DEPTHS)
    yield tuple(Schedule(block=block) for block in BLOCKS)


def scheduled(
    schedule: Schedule, spec: GemmSpec, target: Target, tile: Tile, blocks: Blocks
) -> tuple[Tile, Blocks, Schedule]:
    """Tile and blocks as the schedule says; what is not legal here is left to the model."""
    chosen = [t for t in tiles(target) if t == (schedule.rows, schedule.vectors)]
    for height, vectors in chosen:
        tile = replace(tile, rows=height, vectors=vectors)
    depth = next((d for d in DEPTHS if d == schedule.depth), blocks.k)
    rows = max(schedule.block or blocks.rows, tile.rows) // tile.rows * tile.rows
    mode = schedule.b_mode if schedule.b_mode in b_modes(spec, tile) else None
    pack = schedule.pack_a if schedule.pack_a in packs_of_a(spec, tile) else None
    return tile, Blocks(depth, rows), replace(schedule, b_mode=mode, pack_a=pack)
