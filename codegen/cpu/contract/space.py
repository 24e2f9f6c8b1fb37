"""The choices of a matrix product that may be measured: its key, and the values that are legal."""

from __future__ import annotations

from collections.abc import Iterator

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import is_plain
from graphmill.codegen.cpu.contract.spec import GemmSpec
from graphmill.codegen.cpu.schedule import UNMEASURED, Choices, described
from graphmill.codegen.cpu.target import Target

ROWS = (3, 4, 5, 6, 7, 8, 9, 10, 12, 14)
VECTORS = (1, 2, 3, 4, 5)
DEPTHS = (128, 192, 256, 384, 512, 768, 1024)
BLOCKS = (48, 96, 192, 384)
FEWEST_SUMS = 8  # in flight: below, the latency of a multiply-add shows


def choices_of(spec: GemmSpec, target: Target) -> Choices:
    """The choices of a product, keyed by types, sizes, orders and how it is called.

    Complex products have none, nor do those that compute an operand, which the key does not tell.
    """
    if spec.acc.is_complex or spec.a_computed or spec.b_computed:
        return UNMEASURED
    return target.choices(lambda: f"gemm {described(spec)}")


def tiles(target: Target) -> Iterator[tuple[int, int]]:
    """Rows and vectors whose sums, row of B, broadcast and unfused product fit the registers."""
    others = 1 if target.fuses else 2
    for rows in ROWS:
        for vectors in VECTORS:
            if FEWEST_SUMS <= rows * vectors <= target.registers - vectors - others:
                yield rows, vectors


def b_modes(spec: GemmSpec, tile: Tile) -> Iterator[str]:
    """How B may be read; see `Plan`."""
    if spec.b_packed:
        yield "packed"
        return
    yield from ("worker", "group")
    if spec.batch == 1:
        yield "shared"
    if spec.b_order == "row" and is_plain(spec.b, tile.element) and tile.dot.group == 1:
        yield "direct"


def packs_of_a(spec: GemmSpec, tile: Tile) -> tuple[bool, ...]:
    """Whether A may be packed, and whether it may not."""
    if tile.dot.amx:
        whole = spec.k is not None and tile.dot.units(spec.k) * tile.dot.group == spec.k
        return (True, False) if spec.a_order == "row" and whole else (True,)
    plain = spec.a_order != "strided" and is_plain(spec.a, tile.element)
    return (True, False) if plain and tile.dot.group == 1 else (True,)
