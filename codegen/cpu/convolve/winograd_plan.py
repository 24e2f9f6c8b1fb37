"""Whether Winograd's algorithm pays for a convolution, and how its work is cut.

A work item is a band of lines of tiles for a part of the filters. Its transformed input and its
products lie in scratch memory, at best in the second cache level; transformed filters go by once a
band. Estimates are in the time of one multiply-add of a vector, for one image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from graphmill.codegen.artifact import Step
from graphmill.codegen.cpu.convolve.blocked_spec import (
    BlockedSpec,
    Shape,
    Tiling,
    direct_cost,
    shape_of,
    uneven,
)
from graphmill.codegen.cpu.target import Target
from graphmill.codegen.toom_cook import SQUARES, TAPS, size
from graphmill.records import record

# measured on Zen 4 against direct convolutions, whose estimate has the same unit
_LATENCY = 8  # accumulators that keep two FMA units of latency 4 busy
_STEP = 1.5  # what a turn of the micro-kernel's loop costs besides
_LOAD = 0.1  # what a load costs that the multiply-adds do not hide
_CALL = 60.0  # what a call of the micro-kernel costs
_MOVED = 2.0  # an operation of a transform, whose vectors come from and go to the second level
_EDGE = 150.0  # and copying a square at an edge
_FAST, _SLOW = 16.0, 7.0  # bytes in the time of a multiply-add, from the third level and memory
_HIDDEN = 2 / 3  # of the shorter of multiplying and reading
_FEW = 0.1  # what one item costs more than many: there may be more threads than two


@record
class Winograd:
    """F(tile × tile, 3 × 3) by products with a register tile of `rows` × `vectors`; chunks of
    `lines` of results, `parts` of the filters."""

    tile: int
    rows: int
    vectors: int
    lines: int
    parts: int

    @property
    def positions(self) -> int:
        """Products of one tile and pair of channels."""
        return size(self.tile) ** 2

    @property
    def cut(self) -> Tiling:
        """As the loops around the tiles know it."""
        return Tiling(1, self.parts, self.lines, 0, False)

    def tiles(self, length: int) -> int:
        """Tiles along an axis with so many results."""
        return -(-length // self.tile)

    def unit(self, shape: Shape) -> int:
        """Blocks of filters in the least part: whole panels and whole blocks."""
        return max(1, self.vectors // shape.parts)


def obstacle(spec: BlockedSpec) -> str:
    """Why Winograd's algorithm cannot compute a convolution; empty if it can."""
    if spec.window != (TAPS, TAPS) or spec.flat:
        return "no window of 3 × 3"
    if spec.strides != (1, 1) or spec.dilation != (1, 1):
        return "strides or dilation"
    if spec.groups > 1 or spec.lanewise:
        return "groups"
    if spec.planes is not None:
        return "three axes"
    if spec.x_block != spec.w_block or spec.x is not spec.acc:
        return "few channels or 16-bit floats"
    if not all((*spec.sizes, *spec.out_sizes)):
        return "no elements"
    return ""


@cache
def fastest(
    spec: BlockedSpec, target: Target, largest: int = max(SQUARES), in_call: bool = False
) -> Winograd | None:
    """The fastest way with tiles of at most `largest`; None where direct convolution is faster.

    `in_call`: the filters are known at run time only and transformed in each call.
    """
    if obstacle(spec):
        return None
    ways = [way for tile in SQUARES if tile <= largest for way in ways_of(spec, target, tile)]
    way = min(ways, key=lambda way: cost(spec, target, way, in_call), default=None)
    return way if way and cost(spec, target, way, in_call) < direct_cost(spec, target) else None


def ways_of(spec: BlockedSpec, target: Target, tile: int) -> Iterator[Winograd]:
    """All cuts that are worth an estimate."""
    shape = shape_of(target, spec.acc, spec.w_block)
    high = -(-spec.out_sizes[0] // tile)
    for rows, vectors in _register_tiles(spec, shape):
        for lines in sorted({-(-high // bands) * tile for bands in range(1, high + 1)}):
            whole = Winograd(tile, rows, vectors, lines, 1)
            parts = 1
            while parts <= spec.w_blocks // whole.unit(shape):
                yield replace(whole, parts=parts)
                parts *= 2


def _register_tiles(spec: BlockedSpec, shape: Shape) -> Iterator[tuple[int, int]]:
    """Rows and vectors of the micro-kernel's tile: tall, so that many tiles share what is loaded of
    a panel of filters, or wide for few tiles; all filters are whole panels."""
    few = (2,) if shape.parts > 1 else (2, 4)
    fitting = [v for v in few if spec.w_blocks * shape.parts % v == 0]
    for vectors in fitting or [1]:
        # at 128 bits the broadcasts of the other operand take registers of their own
        each = vectors if shape.lanes * shape.bytes > 16 else vectors + 1
        yield (shape.registers - vectors - 1) // each, vectors


def even_parts(whole: int, most: int) -> list[tuple[int, int]]:
    """Sizes of parts of at most `most`, as even as can be, and how many have each."""
    number = -(-whole // most)
    base, extra = divmod(whole, number)
    return [(size, n) for size, n in ((base + 1, extra), (base, number - extra)) if n]


# ---- memory


def scratch(spec: BlockedSpec, shape: Shape, way: Winograd) -> tuple[int, int, int, int]:
    """Elements between tiles and between positions of an item's transformed input, between tiles
    of its products, and in all; odd numbers of cache lines, so that rows fall on other sets."""
    line = 64 // shape.bytes
    unit = way.unit(shape)
    together = -(-spec.w_blocks // unit // way.parts) * unit
    tiles = way.lines // way.tile * way.tiles(spec.out_sizes[1])
    row = _odd(spec.x_blocks * spec.x_block, line)
    position = _odd(tiles * row, line)
    product = _odd(way.positions * together * spec.w_block, line)
    return row, position, product, way.positions * position + tiles * product


def _odd(elements: int, line: int) -> int:
    return (-(-elements // line) | 1) * line


def packing(
    spec: BlockedSpec, shape: Shape, way: Winograd
) -> tuple[tuple[Step, ...], tuple[int, int, int, int]]:
    """How blocked filters become those that the products read, `[position, panel, channel,
    column]`: steps for a constant (`codegen.constants`), and the shape."""
    columns, deep = way.vectors * shape.lanes, spec.x_blocks * spec.x_block
    panels = spec.w_blocks * spec.w_block // columns
    steps: tuple[Step, ...] = (
        ("transpose", (2, 3, 1, 4, 0, 5)), ("reshape", (TAPS, TAPS, deep, panels, columns)),
        ("transpose", (0, 1, 3, 2, 4)), ("winograd", (way.tile,)),
        ("reshape", (way.positions, panels, deep, columns)),
    )  # fmt: skip
    return steps, (way.positions, panels, deep, columns)


# ---- estimates


def cost(spec: BlockedSpec, target: Target, way: Winograd, in_call: bool = False) -> float:
    """The estimated time, that of transforming the filters included if it is spent `in_call`."""
    shape = shape_of(target, spec.acc, spec.w_block)
    bands = -(-spec.out_sizes[0] // way.lines)
    products, traffic = _products(spec, shape, way), _traffic(spec, target, way, bands)
    items = bands * way.parts
    hidden = _HIDDEN * min(products, traffic)
    total = products + traffic - hidden + _transforms(spec, shape, way)
    if in_call:
        square, vectors = size(way.tile), spec.x_blocks * spec.x_block * spec.w_blocks * shape.parts
        total += vectors * (TAPS + square) * 4 * square * _MOVED
    return total * (uneven(items) + _FEW / items)


def _products(spec: BlockedSpec, shape: Shape, way: Winograd) -> float:
    high, wide = (way.tiles(length) for length in spec.out_sizes)
    total = 0.0
    for rows_of_tiles, n in even_parts(high, way.lines // way.tile):
        for rows, m in even_parts(rows_of_tiles * wide, way.rows):
            step = max(rows * way.vectors, _LATENCY) + _LOAD * (rows + way.vectors) + _STEP
            total += (step * spec.channels + _CALL) * m * n
    return total * way.positions * spec.w_blocks * shape.parts / way.vectors


def _transforms(spec: BlockedSpec, shape: Shape, way: Winograd) -> float:
    high, wide = (way.tiles(length) for length in spec.out_sizes)
    given, made = spec.x_blocks * shape.parts, spec.w_blocks * shape.parts
    square, m = size(way.tile), way.tile
    inner = max(0, high - 2) * max(0, wide - 2)
    # 2 operations for each value of a line, a load and a store for each of a square
    inputs = high * wide * given * square * (6 * square) * _MOVED / 2
    outputs = high * wide * made * (square + m) * 2 * (square + 1) * _MOVED
    return inputs + outputs + _EDGE * (high * wide - inner) * given


def _traffic(spec: BlockedSpec, target: Target, way: Winograd, bands: int) -> float:
    """Reading the transformed filters, once a band, and scratch memory that is too large."""
    shape = shape_of(target, spec.acc, spec.w_block)
    filters = way.positions * spec.channels * spec.w_blocks * spec.w_block * shape.bytes
    room = scratch(spec, shape, way)[-1] * shape.bytes
    total = filters / _SLOW
    if room + filters > target.l2:
        total += filters * (bands - 1) / _FAST
    if room > target.l2 * 3 // 4:
        total += 2 * room * bands * way.parts / _FAST
    return total
