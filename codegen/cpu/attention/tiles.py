"""Products of several queries with a chunk of keys and of their weights with the values, in tiles.

Keys go into the lanes by packing a panel of them at a time, which all queries then share; the
elements of values are there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphmill.codegen.cpu.attention.operands import Operand
from graphmill.codegen.cpu.attention.problem import At, Piece, Problem
from graphmill.codegen.cpu.attention.scratch import Scratch
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import is_plain, least, minus, most
from graphmill.codegen.cpu.contract.microkernel import FETCHED, microkernel
from graphmill.codegen.cpu.contract.packing import pack_b
from graphmill.codegen.cpu.emit import Val

TALLEST = 12  # rows of a tile where panels are narrow


class Tiles:
    """The tiles of one kernel; `rows` arrays of queries, scores and results are given by address
    and distance (elements)."""

    def __init__(self, problem: Problem, scratch: Scratch, rows: int, chunk: int) -> None:
        self.problem, self.code, self.rows = problem, problem.code, rows
        self.tile = tile = problem.tile
        self.keys = scratch.take(problem.depth * tile.columns * tile.bytes)
        vectors = -(-problem.width // tile.lanes)
        self.parts = list(_even(vectors, tile.vectors))
        whole = problem.width % tile.lanes == 0
        self.direct = whole and all(
            is_plain(piece.v.dtype, tile.element) and piece.v.across == 1
            for piece in problem.pieces
        )
        widest = max(self.parts) * tile.lanes
        self.values = self.keys if self.direct else scratch.take(chunk * widest * tile.bytes)

    def scores(
        self, piece: Piece, at: At, keys: tuple[Val, Val], queries: tuple[Val, int],
        out: tuple[Val, int],
    ) -> None:  # fmt: skip
        """Products with the keys `keys` of a piece; the first key's are at `out`.

        A panel is a full one where the piece has as many keys: up to `tile.columns` numbers
        before and behind the products are overwritten, too.
        """
        code, tile, k = self.code, self.tile, piece.k
        size, columns = self.problem.kernel.dim(piece.size), code.i64(tile.columns)
        head, depth = k.head(at), code.i64(self.problem.depth)
        with code.loop(*keys, tile.columns) as panel:
            first = most(code, least(code, panel.i, minus(code, size, columns)), 0)
            self._pack(k, k.at(head, first), (k.across, k.along), depth, minus(code, size, first),
                       tile, self.keys, k.order())  # fmt: skip
            ahead = k.at(head, code.add(first, columns))
            target = code.at(out[0], minus(code, first, keys[0]), tile.element)
            for row, height in self._heights(tile):
                self._multiply(
                    tile, height, (code.at(queries[0], row * queries[1], tile.element), queries[1]),
                    (self.keys, columns), depth,
                    (code.at(target, row * out[1], tile.element), out[1]), False, ahead,
                )  # fmt: skip
                ahead = code.at(ahead, self.problem.depth * 64, "i8")

    def weighted(
        self, piece: Piece, at: At, first: Val, count: Val, weights: tuple[Val, int],
        out: tuple[Val, int], add: bool,
    ) -> None:  # fmt: skip
        """Sums of `count` values from `first` on, with their weights; added to what is there."""
        code, v, start = self.code, piece.v, 0
        line = v.at(v.head(at), first)
        for vectors in self.parts:
            tile = narrowed(self.tile, vectors)
            source, by = v.at(line, code.i64(0), start), v.along
            if not self.direct:
                left = code.i64(self.problem.width - start)
                order = {"col": "row", "row": "col"}.get(v.order(), "strided")
                self._pack(v, source, (v.along, v.across), count, left, tile, self.values, order)
                source, by = self.values, tile.columns
            step = by if isinstance(by, Val) else code.i64(by)
            for row, height in self._heights(tile):
                self._multiply(
                    tile, height, (code.at(weights[0], row * weights[1], tile.element), weights[1]),
                    (source, step), count,
                    (code.at(out[0], row * out[1] + start, tile.element), out[1]), add, source,
                )  # fmt: skip
            start += tile.columns

    def _pack(
        self, of: Operand, source: Val, strides: tuple[int | Val, int | Val], k: Val, left: Val,
        tile: Tile, to: Val, order: str,
    ) -> None:  # fmt: skip
        """A panel of what the micro-kernel calls B."""
        code = self.code
        pack = pack_b(code.unit, tile, of.dtype, order)
        by = [s if isinstance(s, Val) else code.i64(s) for s in strides]
        zero, one = code.i64(0), code.i64(1)
        code.call(pack, [source, *by, k, left, zero, one, to])

    def _multiply(
        self, tile: Tile, height: int, a: tuple[Val, int], b: tuple[Val, Val], k: Val,
        c: tuple[Val, int], add: bool, ahead: Val,
    ) -> None:  # fmt: skip
        code = self.code
        kernel = microkernel(code.unit, tile, height)
        into, fetched = (c[0], code.i64(c[1])), (ahead, code.i64(FETCHED))
        code.call(kernel, [a[0], code.i64(a[1]), code.i64(1), *b, k, *into,
                           code.i64(int(add)), *fetched, *into])  # fmt: skip

    def _heights(self, tile: Tile) -> Iterator[tuple[int, int]]:
        """Tiles of rows, of one height or two: the first row, and how many."""
        row = 0
        for height in _even(self.rows, tile.rows):
            yield row, height
            row += height


def narrowed(tile: Tile, vectors: int) -> Tile:
    """The tile with so many vectors, and taller: as many sums."""
    rows = max(tile.rows, min(TALLEST, tile.rows * tile.vectors // vectors))
    return replace(tile, vectors=vectors, rows=rows) if vectors < tile.vectors else tile


def _even(count: int, most_: int) -> Iterator[int]:
    """`count` in as few parts of at most `most_` as there can be, about equal."""
    parts = -(-count // most_)
    for part in range(parts):
        yield count // parts + (part < count % parts)
