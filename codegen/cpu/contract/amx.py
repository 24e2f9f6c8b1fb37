"""AMX: eight tiles of 16 rows of 64 bytes, and an instruction that multiplies two of them.

A register tile of C is 2 × 2 tiles. Tiles of A are rows of memory, so A is read where it lies if
its rows are whole tiles, and those of B are packed units. How many rows a tile has is said once for
all tiles of C of one height (`configure`) and holds until `release`.

After Intel's "Intrinsics and Instructions of Advanced Matrix Extensions" and the optimization
manual, chapter "Intel AMX".
"""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.dots import AMX_UNITS, Dot
from graphmill.codegen.cpu.contract.elements import ceil_div, least, memory_element, minus, most
from graphmill.codegen.cpu.contract.microkernel import ARGS, FETCHED, prefetch
from graphmill.codegen.cpu.contract.packing import A_CORNER, at_corner, transpose
from graphmill.codegen.cpu.contract.reading import Corner, Reader
from graphmill.codegen.cpu.contract.spec import Prologue
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.ir.dtypes import DType, i8, i16

PREFIX = "gm.amx_"  # of the only functions that use tiles
ROWS = 16
LINE = 64  # bytes of a row
_SUMS, _A, _B = (0, 1, 2, 3), (4, 5), (6, 7)  # tile registers: of C row by row, of A, of B
_QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_ROWS_AT = 48  # in a configuration: bytes a row from 16 on (16 bits each), rows from here on
_PALETTE = 1


def amx_tile(dot: Dot, element: str) -> Tile:
    """The register tile of `dot`."""
    return Tile(element, 32, 2 * ROWS, 2, AMX_UNITS, dot)


def configure(code: Code, at: Val, rows: Val) -> None:
    """Make tiles of C `rows` high in all, 32 at most, by the 64 bytes at `at`, 8 × 8 of them."""
    first = most(code, least(code, rows, code.i64(ROWS)), 1)
    second = most(code, minus(code, rows, code.i64(ROWS)), 1)  # a tile without rows is an error
    heights = [first, first, second, second, first, second, code.i64(ROWS), code.i64(ROWS)]
    packed = code.i64(0)
    for register, height in enumerate(heights):
        here = code.binary("arith.shli", height, code.i64(8 * register))
        packed = code.binary("arith.ori", packed, here)
    widths = code.i64(sum(LINE << 16 * i for i in range(4)))
    zero = code.i64(0)
    for word, value in enumerate((code.i64(_PALETTE), zero, widths, widths, zero, zero)):
        code.store(value, code.at(at, word, "i64"), 8)
    code.store(packed, code.at(at, _ROWS_AT // 8, "i64"), 8)
    code.store(zero, code.at(at, _ROWS_AT // 8 + 1, "i64"), 8)
    instruction(code, "ldtilecfg", at)


def release(code: Code) -> None:
    """Give the tiles back: their state is saved at no switch of threads from here on."""
    instruction(code, "tilerelease")


def instruction(code: Code, name: str, *args: Val | int) -> None:
    """One instruction; a number is a tile register."""
    values = [code.const(arg, "i8") if isinstance(arg, int) else arg for arg in args]
    names, types = ", ".join(map(str, values)), ", ".join(v.type for v in values)
    code.line(f'llvm.call_intrinsic "llvm.x86.{name}"({names}) : ({types}) -> ()')


def amx_kernel(unit: Unit, tile: Tile, blocks: int) -> str:
    """The symbol of the micro-kernel for up to 16 rows (`blocks` 1) or 32 (2).

    As `microkernel`, but A's strides are bytes, from row to row and from one 64 to the next, and
    what sums are added to is read from `near` on. A streams by, so that L1 keeps the panel of B.
    """
    symbol = f"{PREFIX}{tile.dot.amx}_{blocks}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, ARGS, traits=("noinline",))
    a, a_m, a_k, b, b_k, k, c, c_m, flag, ahead, step, near, near_m = code.args
    b_pitch = code.mul(b_k, tile.bytes)

    def move(name: str, base: Val, pitch: Val) -> None:
        for register, (i, j) in zip(_SUMS[: 2 * blocks], _QUARTERS, strict=False):
            row = code.at(base, code.mul(pitch, ROWS * i), tile.element)
            instruction(code, name, register, code.at(row, j * ROWS, tile.element),
                        code.mul(pitch, tile.bytes))  # fmt: skip

    with code.when(code.compare("arith.cmpi", "ne", flag, code.i64(0))):
        move("tileloadd64", near, near_m)
    with code.otherwise():
        for register in _SUMS[: 2 * blocks]:
            instruction(code, "tilezero", register)
    step_b = code.mul(b_pitch, AMX_UNITS)
    with code.loop(0, k, AMX_UNITS, [a, b, ahead]) as loop:
        at_a, at_b, fetched = loop.carried
        for line in range(0, FETCHED, LINE):
            prefetch(code, code.at(fetched, line, "i8"), write=False)
        instruction(code, "tileloadd64", _B[0], at_b, b_pitch)
        for i in range(blocks):
            instruction(
                code, "tileloaddt164", _A[i], code.at(at_a, code.mul(a_m, ROWS * i), "i8"), a_m
            )
            if i == 0:
                instruction(code, "tileloadd64", _B[1], code.at(at_b, LINE, "i8"), b_pitch)
            for j in range(2):
                instruction(code, tile.dot.amx, _SUMS[2 * i + j], _A[i], _B[j])
        following = code.at(at_a, a_k, "i8"), code.at(at_b, step_b, "i8")
        loop.next = [*following, code.at(fetched, step, "i8")]
    move("tilestored64", c, c_m)
    code.finish()
    return symbol


def pack_tiles(
    unit: Unit, tile: Tile, dtype: DType, order: str, prologue: Prologue | None = None,
    owner: str = "",
) -> str:  # fmt: skip
    """Symbol of `(a, a_m, a_k, rows, k, out)`: packs up to 32 rows of A as `[block][32][64]` bytes.

    The last values of k are followed by zeros, the last row by nothing. For a prologue there are
    the arguments more that `pack_a` has.
    """
    symbol = f"{owner}_tiles" if prologue else f"gm.pack_tiles_{dtype}_{tile.dot.name}_{order}"
    if not unit.once(symbol):
        return symbol
    args = (
        ("a", "!llvm.ptr"), ("a_m", "i64"), ("a_k", "i64"), ("rows", "i64"), ("k", "i64"),
        ("out", "!llvm.ptr"), *(A_CORNER if prologue else ()),
    )  # fmt: skip
    code = Code(unit, symbol, args, traits=("noinline",))
    a, a_m, a_k, rows, k, out = code.args[:6]
    reader, corner = at_corner(code, Reader(tile, dtype, prologue=prologue))
    if order == "row":
        _copy_rows(code, reader, corner, a, a_m, rows, k, out)
    else:
        group, done = tile.dot.group, code.i64(0)
        if order == "col":
            done = _turn_columns(code, reader, corner, a, a_k, rows, k, out)
        whole, all_ = code.binary("arith.divui", k, code.i64(group)), ceil_div(code, k, group)
        _gather_units(code, reader, corner, (a, a_m, a_k), rows, (done, whole), None, out)
        rest = minus(code, k, code.mul(whole, group))
        _gather_units(code, reader, corner, (a, a_m, a_k), rows, (whole, all_), rest, out)
        end = code.mul(ceil_div(code, all_, AMX_UNITS), AMX_UNITS)
        with code.loop(all_, end) as none, code.loop(0, rows) as row:
            code.store(code.const(0, "i32"), _unit_at(code, out, none.i, row.i), 4)
    code.finish()
    return symbol


def _unit_at(code: Code, out: Val, unit: Val, row: Val) -> Val:
    """Where a unit of a packed row is."""
    block = code.binary("arith.divui", unit, code.i64(AMX_UNITS))
    inside = code.binary("arith.remui", unit, code.i64(AMX_UNITS))
    line = code.add(code.mul(block, 2 * ROWS), row)
    return code.at(out, code.add(code.mul(line, AMX_UNITS), inside), "i32")


def _copy_rows(
    code: Code, reader: Reader, corner: Corner, a: Val, a_m: Val, rows: Val, k: Val, out: Val
) -> None:
    """Row-major A: a line of each row after the other."""
    group = reader.tile.dot.group
    bits, lanes = i8 if group == 4 else i16, AMX_UNITS * group
    with code.loop(0, k, lanes) as at:
        left = minus(code, k, at.i)
        block = code.at(out, code.mul(at.i, 2 * ROWS), memory_element(bits))
        unit = code.binary("arith.divui", at.i, code.i64(group))
        whole = code.compare("arith.cmpi", "sge", left, code.i64(lanes))

        def lines(
            mask: Val | None, at: Val = at.i, block: Val = block, unit: Val = unit
        ) -> None:  # fmt: skip
            with code.loop(0, rows) as row:
                source = code.add(code.mul(row.i, a_m), at)
                spot = reader.spot(code, corner, unit, row.i, lanes, along_k=True, mask=mask)
                value = reader.part(code, a, source, lanes, mask, spot)
                if spot is not None and mask is not None:
                    value = code.select(mask, value, code.const(0, value.type))
                memory.store(code, value, block, code.mul(row.i, lanes), bits)

        with code.when(whole):
            lines(None)
        with code.otherwise():
            lines(memory.tail_mask(code, left, lanes))


def _turn_columns(
    code: Code, reader: Reader, corner: Corner, a: Val, a_k: Val, rows: Val, k: Val, out: Val
) -> Val:
    """Column-major A in squares of 16 units of 16 rows; returns the units done."""
    group = reader.tile.dot.group
    blocks = code.binary("arith.divui", k, code.i64(group * AMX_UNITS))
    with code.loop(0, blocks) as block, code.loop(0, rows, ROWS) as first:
        mask = memory.tail_mask(code, minus(code, rows, first.i), ROWS)
        columns = []
        for unit in range(AMX_UNITS):
            at = code.add(code.mul(block.i, AMX_UNITS), unit)
            base = code.at(a, code.mul(code.mul(at, group), a_k), memory_element(reader.dtype))
            spot = reader.spot(code, corner, at, first.i, ROWS, mask=mask)
            columns.append(reader.across(code, base, a_k, first.i, ROWS, spot, mask))
        line = code.add(code.mul(block.i, 2 * ROWS), first.i)
        for row, value in enumerate(transpose(code, columns)):
            at = code.mul(code.add(line, row), AMX_UNITS)
            code.store(value, code.at(out, at, "i32"), 4)
    return code.mul(blocks, AMX_UNITS)


def _gather_units(
    code: Code, reader: Reader, corner: Corner, matrix: tuple[Val, Val, Val], rows: Val,
    span: tuple[Val, Val], count: Val | None, out: Val,
) -> None:  # fmt: skip
    """A by any strides, unit by unit; of the last one `count` values exist."""
    a, a_m, a_k = matrix
    step = code.mul(a_k, reader.tile.dot.group)
    with code.loop(*span) as unit, code.loop(0, rows) as row:
        base = code.at(a, code.mul(unit.i, step), memory_element(reader.dtype))
        spot = reader.spot(code, corner, unit.i, row.i)
        value = reader.one(code, base, a_k, code.mul(row.i, a_m), count, spot)
        code.store(value, _unit_at(code, out, unit.i, row.i), 4)
