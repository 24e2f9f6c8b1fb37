"""Packing operands into the order the micro-kernel reads them, converting types on the way.

B becomes panels `[panel][k][columns]`, the last one padded with zeros; a block of A becomes tiles
`[tile][k][rows]`. Transposes and casts happen on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.codegen.artifact import Step
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import load_wide, memory_element
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.ir.dtypes import DType

_K_BLOCK = 64  # rows of B read together, so that neighbouring panels share cache lines and pages


def panel_steps(k: int, n: int, tile: Tile) -> tuple[tuple[Step, ...], tuple[int, int, int]]:
    """How a constant `(k, n)` matrix becomes panels `(ceil(n / columns), k, columns)`; shape."""
    panels = -(-n // tile.columns)
    pad: tuple[Step, ...] = (("pad", (0, -n % tile.columns)),) if n % tile.columns else ()
    split: Step = ("reshape", (k, panels, tile.columns))
    return (*pad, split, ("transpose", (1, 0, 2))), (panels, k, tile.columns)


def panel_dtype(tile: Tile) -> np.dtype[Any]:
    """The dtype of packed panels."""
    types = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64}
    return np.dtype(types[tile.element])


def pack_b(unit: Unit, tile: Tile, dtype: DType, order: str) -> str:
    """Symbol of `(b, b_k, b_n, k, n, from, to, out)`: packs panels `from`..`to` of B."""
    symbol = f"gm.pack_b_{dtype}_{order}_{tile.element}x{tile.columns}"
    if not unit.once(symbol):
        return symbol
    args = (
        ("b", "!llvm.ptr"), ("b_k", "i64"), ("b_n", "i64"), ("k", "i64"), ("n", "i64"),
        ("first", "i64"), ("end", "i64"), ("out", "!llvm.ptr"),
    )  # fmt: skip
    code = Code(unit, symbol, args, attrs='passthrough = ["noinline"]')
    b, b_k, b_n, k, n, first, end, out = code.args
    with code.loop(0, k, _K_BLOCK) as block, code.loop(first, end) as panel:
        stop = code.binary("arith.minsi", code.add(block.i, code.i64(_K_BLOCK)), k)
        column = code.mul(panel.i, tile.columns)
        source = code.at(b, code.mul(column, b_n), memory_element(dtype))
        target = code.at(out, code.mul(code.mul(panel.i, k), tile.columns), tile.element)
        valid = code.binary("arith.subi", n, column)
        full = code.compare("arith.cmpi", "sge", valid, code.i64(tile.columns))
        with code.when(full):
            if order == "row":
                _copy_rows(code, tile, dtype, source, b_k, block.i, stop, target)
            elif order == "col":
                _transpose_panel(code, tile, dtype, source, b_n, block.i, stop, target)
            else:
                columns = code.i64(tile.columns)
                _gather(code, tile, dtype, source, (b_k, b_n), block.i, stop, columns, target)
        with code.otherwise():
            _gather(code, tile, dtype, source, (b_k, b_n), block.i, stop, valid, target)
    code.finish()
    return symbol


def _copy_rows(
    code: Code, tile: Tile, dtype: DType, b: Val, b_k: Val, first: Val, stop: Val, out: Val
) -> None:
    with code.loop(first, stop) as loop:
        row = code.at(b, code.mul(loop.i, b_k), memory_element(dtype))
        target = code.at(out, code.mul(loop.i, tile.columns), tile.element)
        for v in range(tile.vectors):
            value = load_wide(code, row, v * tile.lanes, dtype, tile.element, tile.lanes)
            code.store(value, code.at(target, v * tile.lanes, tile.element), tile.bytes)


def _gather(
    code: Code,
    tile: Tile,
    dtype: DType,
    b: Val,
    strides: tuple[Val, Val],
    first: Val,
    stop: Val,
    valid: Val,
    out: Val,
) -> None:
    """Any strides and a partial panel, element by element; columns past `valid` become zero."""
    zero = code.const(0, tile.vector)
    with code.loop(first, stop) as loop:
        row = code.at(b, code.mul(loop.i, strides[0]), memory_element(dtype))
        target = code.at(out, code.mul(loop.i, tile.columns), tile.element)
        for v in range(tile.vectors):
            code.store(zero, code.at(target, v * tile.lanes, tile.element), tile.bytes)
        with code.loop(0, valid) as column:
            value = load_wide(code, row, code.mul(column.i, strides[1]), dtype, tile.element)
            code.store(value, code.at(target, column.i, tile.element), tile.bytes)


def _transpose_panel(
    code: Code, tile: Tile, dtype: DType, b: Val, b_n: Val, first: Val, stop: Val, out: Val
) -> None:
    """A full panel of column-major B, `lanes` × `lanes` squares at a time."""
    lanes = tile.lanes
    length = code.binary("arith.subi", stop, first)
    bulk = code.add(first, code.op(f"arith.andi {length}, {code.i64(-lanes)} : i64", "i64"))
    with code.loop(first, bulk, lanes) as loop:
        for v in range(tile.vectors):
            rows = []
            for lane in range(lanes):
                column = code.at(b, code.mul(b_n, v * lanes + lane), memory_element(dtype))
                rows.append(load_wide(code, column, loop.i, dtype, tile.element, lanes))
            for at, value in enumerate(transpose(code, rows)):
                index = code.mul(code.add(loop.i, at), tile.columns)
                address = code.at(out, code.add(index, v * lanes), tile.element)
                code.store(value, address, tile.bytes)
    columns = code.i64(tile.columns)
    _gather(code, tile, dtype, b, (code.i64(1), b_n), bulk, stop, columns, out)


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


def pack_a(unit: Unit, tile: Tile, dtype: DType, order: str) -> str:
    """Symbol of `(a, a_m, a_k, rows, left, k, out)`: packs one tile of A as `[k][tile.rows]`.

    `left` rows of A exist from here on. Whole vectors are stored, so up to a vector's width beyond
    the tile is overwritten; tiles are packed in ascending order and scratch memory has that slack.
    """
    symbol = f"gm.pack_a_{dtype}_{order}_{tile.element}x{tile.rows}"
    if not unit.once(symbol):
        return symbol
    args = (
        ("a", "!llvm.ptr"), ("a_m", "i64"), ("a_k", "i64"), ("rows", "i64"), ("left", "i64"),
        ("k", "i64"), ("out", "!llvm.ptr"),
    )  # fmt: skip
    code = Code(unit, symbol, args, attrs='passthrough = ["noinline"]')
    a, a_m, a_k, rows, left, k, out = code.args
    done = code.i64(0)
    if order == "row":
        done = _transpose_tile(code, tile, dtype, a, a_m, rows, k, out)
    if order == "col":
        span = -(-tile.rows // tile.lanes) * tile.lanes
        inside = code.compare("arith.cmpi", "sge", left, code.i64(span))
        done = code.select(inside, k, done)
        with code.loop(0, done) as at:
            source = code.at(a, code.mul(at.i, a_k), memory_element(dtype))
            target = code.at(out, code.mul(at.i, tile.rows), tile.element)
            for v in range(0, span, tile.lanes):
                value = load_wide(code, source, v, dtype, tile.element, tile.lanes)
                code.store(value, code.at(target, v, tile.element), tile.bytes)
    with code.loop(done, k) as at:
        source = code.at(a, code.mul(at.i, a_k), memory_element(dtype))
        target = code.at(out, code.mul(at.i, tile.rows), tile.element)
        with code.loop(0, rows) as row:
            value = load_wide(code, source, code.mul(row.i, a_m), dtype, tile.element)
            code.store(value, code.at(target, row.i, tile.element), tile.bytes)
    code.finish()
    return symbol


def _transpose_tile(
    code: Code, tile: Tile, dtype: DType, a: Val, a_m: Val, rows: Val, k: Val, out: Val
) -> Val:
    """Row-major A, squares of vectors at a time; returns how far along k this got."""
    lanes = min(tile.lanes, 8)
    done = code.op(f"arith.andi {k}, {code.i64(-lanes)} : i64", "i64")
    last = code.add(rows, -1)
    starts = []
    for i in range(tile.rows):  # rows that do not exist repeat the last one
        row = code.binary("arith.minsi", code.i64(i), last)
        starts.append(code.at(a, code.mul(row, a_m), memory_element(dtype)))
    with code.loop(0, done, lanes) as at:
        values = [load_wide(code, row, at.i, dtype, tile.element, lanes) for row in starts]
        values += values[:1] * (-len(values) % lanes)
        groups = [transpose(code, values[g : g + lanes]) for g in range(0, len(values), lanes)]
        for step in range(lanes):
            target = code.at(out, code.mul(code.add(at.i, step), tile.rows), tile.element)
            for g, group in enumerate(groups):
                code.store(group[step], code.at(target, g * lanes, tile.element), tile.bytes)
    return done
