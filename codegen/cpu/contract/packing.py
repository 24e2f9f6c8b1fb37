"""Packing operands into the order the micro-kernel reads them, converting types on the way.

B becomes panels `[panel][k][columns]`, the last one padded with zeros; a block of A becomes tiles
`[tile][k][rows]`. Transposes and casts happen on the way. Where the tile's instruction takes units
of several values of k (`dots`), k here counts units and the last ones are padded with zeros.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graphmill.codegen.artifact import Step
from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.dots import multiply_units
from graphmill.codegen.cpu.contract.elements import ceil_div, memory_element, minus, most
from graphmill.codegen.cpu.contract.finish import extra_slots
from graphmill.codegen.cpu.contract.reading import Corner, Reader
from graphmill.codegen.cpu.contract.spec import Prologue, Spot
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.ir.dtypes import DType

# arguments more where a prologue computes the elements
B_CORNER = (("start", "i64"), ("batch", "i64"), ("data", "!llvm.ptr"))
A_CORNER = (("row", "i64"), *B_CORNER)
_K_BLOCK = 64  # rows of B read together, so that neighbouring panels share cache lines and pages


def units(code: Code, tile: Tile, k: Val) -> Val:
    """How many packed units hold `k` values, as `Dot.units` says of a known number."""
    dot = tile.dot
    return k if dot.group == 1 else code.mul(ceil_div(code, k, dot.group * dot.step), dot.step)


def panel_steps(k: int, n: int, tile: Tile) -> tuple[tuple[Step, ...], tuple[int, ...]]:
    """How a constant `(k, n)` matrix becomes panels `(ceil(n / columns), k, columns)`; shape.

    Units have an axis of their own in the end, and heads come before the first of k.
    """
    panels, group = -(-n // tile.columns), tile.dot.group
    depth = tile.dot.units(k)
    extra = (depth * group - k, -n % tile.columns)
    pad: tuple[Step, ...] = (("pad", extra),) if any(extra) else ()
    if group == 1:
        split: Step = ("reshape", (k, panels, tile.columns))
        return (*pad, split, ("transpose", (1, 0, 2))), (panels, k, tile.columns)
    split = ("reshape", (depth, group, panels, tile.columns))
    heads: tuple[Step, ...] = (("column_sums", (-128,)),) if tile.head else ()
    shape = (panels, depth + (1 if tile.head else 0), tile.columns, group)
    return (*pad, split, ("transpose", (2, 0, 3, 1)), *heads), shape


def panel_dtype(tile: Tile, b: DType) -> np.dtype[Any]:
    """The dtype of packed panels of a `b` matrix: of single values where they form units."""
    if tile.dot.group > 1:
        return np.dtype(np.int16) if tile.dot.part == "i16" else b.numpy
    types = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64}
    return np.dtype(types[tile.element])


def pack_b(
    unit: Unit, tile: Tile, dtype: DType, order: str, prologue: Prologue | None = None,
    owner: str = "",
) -> str:  # fmt: skip
    """Symbol of `(b, b_k, b_n, k, n, from, to, out)`: packs panels `from`..`to` of B.

    With a prologue, of the kernel called `owner`, the k of the first row, the matrix and the slots
    follow.
    """
    reader = Reader(tile, dtype, prologue=prologue)
    symbol = f"{owner}_panels" if prologue else f"gm.pack_b_{reader.name}_{order}_x{tile.columns}"
    if not unit.once(symbol):
        return symbol
    args = (
        ("b", "!llvm.ptr"), ("b_k", "i64"), ("b_n", "i64"), ("k", "i64"), ("n", "i64"),
        ("first", "i64"), ("end", "i64"), ("out", "!llvm.ptr"), *(B_CORNER if prologue else ()),
    )  # fmt: skip
    code = Code(unit, symbol, args, traits=("noinline",))
    b, b_k, b_n, k, n, first, end, out = code.args[:8]
    reader, (start, batch) = _completed(code, reader)
    packer = _PackB(code, reader, (b_k, b_n), k)
    size = code.mul(packer.units, tile.columns)
    size = code.add(size, tile.head)
    depth = most(code, packer.units, 1) if tile.head else packer.units  # heads are written always
    with code.loop(0, depth, _K_BLOCK) as block, code.loop(first, end) as panel:
        stop = code.binary("arith.minsi", code.add(block.i, code.i64(_K_BLOCK)), packer.units)
        column = code.mul(panel.i, tile.columns)
        source = code.at(b, code.mul(column, b_n), memory_element(dtype))
        target = code.at(out, code.mul(panel.i, size), tile.unit)
        rows = code.at(target, tile.head, tile.unit)
        valid = minus(code, n, column)
        packer.corner = Corner(start, column, batch)
        packer.panel(source, rows, (block.i, stop), valid, order)
        if tile.head:
            packer.heads(target, rows, block.i, stop)
    code.finish()
    return symbol


class _PackB:
    """One panel of B, a block of its units at a time, which begins at `corner`."""

    corner: Corner

    def __init__(self, code: Code, reader: Reader, strides: tuple[Val, Val], k: Val) -> None:
        self.code, self.reader, self.tile, self.k = code, reader, reader.tile, k
        self.b_k, self.b_n = strides
        group = self.tile.dot.group
        self.units = units(code, self.tile, k)
        self.whole = k if group == 1 else code.binary("arith.divui", k, code.i64(group))
        self.unit_step = code.mul(self.b_k, group)

    def spot(
        self, unit: Val, at: Val | int, lanes: int, *, along_k: bool = False,
        mask: Val | None = None,
    ) -> Spot | None:  # fmt: skip
        """Where the elements of a unit of the block, `at` columns into the panel, are in B."""
        return self.reader.spot(self.code, self.corner, unit, at, lanes, along_k=along_k, mask=mask)

    def panel(self, b: Val, out: Val, span: tuple[Val, Val], valid: Val, order: str) -> None:
        """Units `span` of the panel whose first column is at `b`, `valid` of its columns real."""
        code, tile = self.code, self.tile
        first, stop = span[0], code.binary("arith.minsi", span[1], self.whole)
        columns = code.binary("arith.minsi", valid, code.i64(tile.columns))
        if order == "row":
            full = code.compare("arith.cmpi", "sge", valid, code.i64(tile.columns))
            with code.when(full):
                self._rows(b, first, stop, out)
            with code.otherwise():
                if code.unit.vector_bits == 512:  # where a mask costs nothing
                    self._rows(b, first, stop, out, valid)
                else:
                    self._gathered(b, first, stop, valid, out)
        elif order == "col":
            self._transposed(b, first, stop, out, columns)
        else:
            self._gathered(b, first, stop, columns, out)
        if tile.dot.group > 1:
            with code.when(code.compare("arith.cmpi", "slt", stop, span[1])):
                rest = minus(code, self.k, code.mul(self.whole, tile.dot.group))
                last = ceil_div(code, self.k, tile.dot.group)
                self._gathered(b, self.whole, last, columns, out, rest)
                if tile.dot.step > 1:
                    self._zeros(last, span[1], out)

    def heads(self, head: Val, rows: Val, first: Val, stop: Val) -> None:
        """Take -128 times the column sums of packed units into the head."""
        code, tile = self.code, self.tile
        zero = code.const(0, tile.vector)
        weight = code.const(-0x7F7F7F80, tile.vector)  # bytes of 128
        kept = code.compare("arith.cmpi", "ne", first, code.i64(0))
        for v in range(tile.vectors):
            with code.loop(first, stop, 1, [zero]) as loop:
                at = code.add(code.mul(loop.i, tile.columns), v * tile.lanes)
                unit = code.load(code.at(rows, at, tile.unit), tile.vector, tile.bytes)
                loop.next = [multiply_units(code, tile.dot, weight, unit, loop.carried[0])]
            address = code.at(head, v * tile.lanes, tile.unit)
            old = code.select(kept, code.load(address, tile.vector, tile.bytes), zero)
            code.store(code.binary("arith.subi", old, loop.results[0]), address, tile.bytes)

    def _rows(self, b: Val, first: Val, stop: Val, out: Val, valid: Val | None = None) -> None:
        """Whole vectors of neighbouring columns; those from `valid` on are zero."""
        code, tile, reader = self.code, self.tile, self.reader
        masks: list[Val | None] = [None] * tile.vectors
        if valid is not None:
            lefts = (code.add(valid, -v * tile.lanes) for v in range(tile.vectors))
            masks = [memory.tail_mask(code, left, tile.lanes) for left in lefts]
        with code.loop(first, stop) as loop:
            row = code.at(b, code.mul(loop.i, self.unit_step), memory_element(reader.dtype))
            target = code.at(out, code.mul(loop.i, tile.columns), tile.unit)
            for v in range(tile.vectors):
                at, lanes = v * tile.lanes, tile.lanes
                spot = self.spot(loop.i, at, lanes, mask=masks[v])
                value = reader.across(code, row, self.b_k, at, lanes, spot, masks[v])
                code.store(value, code.at(target, v * tile.lanes, tile.unit), tile.bytes)

    def _zeros(self, first: Val, stop: Val, out: Val) -> None:
        """Units beyond the last of k."""
        code, tile = self.code, self.tile
        zero = code.const(0, vector(tile.unit, tile.lanes))
        with code.loop(first, stop) as loop:
            target = code.at(out, code.mul(loop.i, tile.columns), tile.unit)
            for v in range(tile.vectors):
                code.store(zero, code.at(target, v * tile.lanes, tile.unit), tile.bytes)

    def _gathered(
        self, b: Val, first: Val, stop: Val, valid: Val, out: Val, count: Val | None = None
    ) -> None:
        """Any strides and a partial panel, unit by unit; columns past `valid` become zero."""
        code, tile, reader = self.code, self.tile, self.reader
        zero = code.const(0, vector(tile.unit, tile.lanes))
        with code.loop(first, stop) as loop:
            row = code.at(b, code.mul(loop.i, self.unit_step), memory_element(reader.dtype))
            target = code.at(out, code.mul(loop.i, tile.columns), tile.unit)
            for v in range(tile.vectors):
                code.store(zero, code.at(target, v * tile.lanes, tile.unit), tile.bytes)
            with code.loop(0, valid) as column:
                at, spot = code.mul(column.i, self.b_n), self.spot(loop.i, column.i, 0)
                value = reader.one(code, row, self.b_k, at, count, spot)
                code.store(value, code.at(target, column.i, tile.unit), tile.bytes)

    def _transposed(self, b: Val, first: Val, stop: Val, out: Val, valid: Val) -> None:
        """A panel of column-major B, `lanes` × `lanes` squares at a time.

        Columns from `valid` on, of which nothing is read, repeat the last one.
        """
        code, tile, reader = self.code, self.tile, self.reader
        lanes = tile.lanes
        length = minus(code, stop, first)
        bulk = code.add(first, code.op(f"arith.andi {length}, {code.i64(-lanes)} : i64", "i64"))
        last = code.add(valid, -1)
        with code.loop(first, bulk, lanes) as loop, code.loop(0, tile.columns, lanes) as square:
            rows = []
            for lane in range(lanes):
                at = code.binary("arith.minsi", code.add(square.i, lane), last)
                column = code.at(b, code.mul(self.b_n, at), memory_element(reader.dtype))
                spot = self.spot(loop.i, at, lanes, along_k=True)
                rows.append(reader.along(code, column, loop.i, lanes, spot))
            for step, value in enumerate(transpose(code, rows)):
                index = code.mul(code.add(loop.i, step), tile.columns)
                address = code.at(out, code.add(index, square.i), tile.unit)
                code.store(value, address, tile.bytes)
        self._gathered(b, bulk, stop, valid, out)


def transpose(code: Code, rows: list[Val]) -> list[Val]:
    """The transpose of a square of vectors, by log2 rounds of two-vector shuffles."""
    size = len(rows)
    step = size // 2
    while step:
        for at in range(size):
            if at & step:
                continue
            low = [(i if not i & step else i - step + size) for i in range(size)]
            high = [(i + step if not i & step else i + size) for i in range(size)]
            a, b = rows[at], rows[at + step]
            rows[at], rows[at + step] = _shuffle(code, a, b, low), _shuffle(code, a, b, high)
        step //= 2
    return rows


def _shuffle(code: Code, a: Val, b: Val, lanes: list[int]) -> Val:
    return code.op(f"vector.shuffle {a}, {b} {lanes} : {a.type}, {b.type}", a.type)


def pack_a(
    unit: Unit, tile: Tile, dtype: DType, order: str, prologue: Prologue | None = None,
    owner: str = "",
) -> str:  # fmt: skip
    """Symbol of `(a, a_m, a_k, rows, left, k, out)`: packs one tile of A as `[k][tile.rows]`.

    `left` rows of A exist from here on. Whole vectors are stored, so up to a vector's width beyond
    the tile is overwritten; tiles are packed in ascending order and scratch memory has that slack.
    With a prologue, of the kernel called `owner`, the first row and k, the matrix and the slots
    follow.
    """
    reader = Reader(tile, dtype, tile.dot.shifted, prologue)
    symbol = f"{owner}_tiles" if prologue else f"gm.pack_a_{reader.name}_{order}_x{tile.rows}"
    if not unit.once(symbol):
        return symbol
    args = (
        ("a", "!llvm.ptr"), ("a_m", "i64"), ("a_k", "i64"), ("rows", "i64"), ("left", "i64"),
        ("k", "i64"), ("out", "!llvm.ptr"), *(A_CORNER if prologue else ()),
    )  # fmt: skip
    code = Code(unit, symbol, args, traits=("noinline",))
    a, a_m, a_k, rows, left, k, out = code.args[:7]
    reader, corner = at_corner(code, reader)
    group = tile.dot.group
    whole = k if group == 1 else code.binary("arith.divui", k, code.i64(group))
    done = code.i64(0)
    if order == "row":
        done = _transpose_tile(code, reader, corner, a, a_m, rows, whole, out)
    if order == "col":
        done = _copy_columns(code, reader, corner, a, a_k, left, whole, out)

    def by_units(first: Val, stop: Val, count: Val | None) -> None:
        with code.loop(first, stop) as at:
            source = code.at(a, code.mul(at.i, code.mul(a_k, group)), memory_element(dtype))
            target = code.at(out, code.mul(at.i, tile.rows), tile.unit)
            with code.loop(0, rows) as row:
                spot = reader.spot(code, corner, at.i, row.i)
                value = reader.one(code, source, a_k, code.mul(row.i, a_m), count, spot)
                code.store(value, code.at(target, row.i, tile.unit), tile.bytes)

    by_units(done, whole, None)
    if group > 1:
        by_units(whole, units(code, tile, k), minus(code, k, code.mul(whole, group)))
    code.finish()
    return symbol


def at_corner(code: Code, reader: Reader) -> tuple[Reader, Corner]:
    """The reader of a part of A, and where that begins, from the arguments `A_CORNER`."""
    row = code.args[-len(A_CORNER)]
    reader, (start, batch) = _completed(code, reader)
    return reader, Corner(start, row, batch)


def _completed(code: Code, reader: Reader) -> tuple[Reader, tuple[Val, Val]]:
    """The reader with its prologue's slots, the first k and the matrix, from `B_CORNER`."""
    if reader.prologue is None:
        return reader, (code.i64(0), code.i64(0))
    start, batch, data = code.args[-len(B_CORNER) :]
    extra = extra_slots(code, data, reader.prologue, reader.prologue.first)
    return replace(reader, extra=extra), (start, batch)


def _copy_columns(
    code: Code, reader: Reader, corner: Corner, a: Val, a_k: Val, left: Val, whole: Val, out: Val
) -> Val:
    """Column-major A, whole vectors where that many rows exist; returns how far along k."""
    tile = reader.tile
    span = -(-tile.rows // tile.lanes) * tile.lanes
    inside = code.compare("arith.cmpi", "sge", left, code.i64(span))
    done = code.select(inside, whole, code.i64(0))
    step = code.mul(a_k, tile.dot.group)
    with code.loop(0, done) as at:
        source = code.at(a, code.mul(at.i, step), memory_element(reader.dtype))
        target = code.at(out, code.mul(at.i, tile.rows), tile.unit)
        for v in range(0, span, tile.lanes):
            spot = reader.spot(code, corner, at.i, v, tile.lanes)
            value = reader.across(code, source, a_k, v, tile.lanes, spot)
            code.store(value, code.at(target, v, tile.unit), tile.bytes)
    return done


def _transpose_tile(
    code: Code, reader: Reader, corner: Corner, a: Val, a_m: Val, rows: Val, whole: Val, out: Val
) -> Val:
    """Row-major A, squares of vectors at a time; returns how far along k this got."""
    tile = reader.tile
    lanes = min(tile.lanes, 8)
    done = code.op(f"arith.andi {whole}, {code.i64(-lanes)} : i64", "i64")
    last = code.add(rows, -1)
    starts = []
    for i in range(tile.rows):  # rows that do not exist repeat the last one
        row = code.binary("arith.minsi", code.i64(i), last)
        starts.append((row, code.at(a, code.mul(row, a_m), memory_element(reader.dtype))))
    with code.loop(0, done, lanes) as at:
        values = []
        for row, start in starts:
            spot = reader.spot(code, corner, at.i, row, lanes, along_k=True)
            values.append(reader.along(code, start, at.i, lanes, spot))
        values += values[:1] * (-len(values) % lanes)
        groups = [transpose(code, values[g : g + lanes]) for g in range(0, len(values), lanes)]
        for step in range(lanes):
            target = code.at(out, code.mul(code.add(at.i, step), tile.rows), tile.unit)
            for g, group in enumerate(groups):
                code.store(group[step], code.at(target, g * lanes, tile.unit), tile.bytes)
    return done
