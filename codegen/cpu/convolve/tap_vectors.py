"""The tap-by-tap kernel by vectors, for CPUs that multiply units of bytes but have no AMX.

It reads the filters and the lines of x as they are laid out for tiles, and gives the same sums.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.amx import LINE, ROWS
from graphmill.codegen.cpu.contract.dots import AMX_UNITS, Dot, multiply_units
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector

_ROWS = 8  # filters at a time: with two vectors of places 16 sums, which hide the latency
_KIND = vector("i32", AMX_UNITS)


def vectors_kernel(
    unit: Unit, dot: Dot, args: tuple[tuple[str, str], ...], tall: int, wide: int
) -> str:
    """Symbol of the kernel of `tall` × `wide` tiles of sums; `args` are those of `taps_kernel`."""
    symbol = f"gm.taps_{dot.name}_{tall}x{wide}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, args, traits=("noinline",))
    a, a_tile, b, b_pitch, offsets, taps, blocks, c, c_pitch = code.args
    step = code.mul(b_pitch, AMX_UNITS)
    with code.loop(0, tall * ROWS, _ROWS) as first:
        tile, row = (
            code.binary(f"arith.{op}", first.i, code.i64(ROWS)) for op in ("divui", "remui")
        )
        start = code.at(code.at(a, code.mul(tile, a_tile), "i8"), code.mul(row, LINE), "i8")
        zeros = [code.const(0, _KIND)] * (_ROWS * wide)
        with code.loop(0, taps, 1, [start, *zeros]) as tap:
            offset = code.load(code.at(offsets, tap.i, "i64"), "i64", 8)
            begin = [tap.carried[0], code.at(b, offset, "i8"), *tap.carried[1:]]
            with code.loop(0, blocks, 1, begin) as block:
                at_a, at_b, *sums = block.carried
                with code.loop(0, AMX_UNITS, 1, sums) as number:
                    here = code.at(at_b, code.mul(number.i, b_pitch), "i8")
                    filters = code.at(at_a, number.i, "i32")
                    number.next = _step(code, dot, filters, here, number.carried)
                moved = code.at(at_a, ROWS * LINE, "i8"), code.at(at_b, step, "i8")
                block.next = [*moved, *number.results]
            tap.next = [block.results[0], *block.results[2:]]
        out = code.at(c, code.mul(first.i, c_pitch), "i8")
        for at, value in enumerate(tap.results[1:]):
            line = code.at(out, code.mul(c_pitch, at // wide), "i8")
            code.store(value, code.at(line, LINE * (at % wide), "i8"), 4)
    code.finish()
    return symbol


def _step(code: Code, dot: Dot, filters: Val, places: Val, sums: list[Val]) -> list[Val]:
    """One unit: its products of 8 filters and some vectors of places."""
    sums, wide = list(sums), len(sums) // _ROWS
    loaded = [code.load(code.at(places, LINE * j, "i8"), _KIND, 4) for j in range(wide)]
    for row in range(_ROWS):
        weight = code.load(code.at(filters, row * LINE, "i8"), "i32", 4)
        left = code.splat(weight, AMX_UNITS)
        for j, right in enumerate(loaded):
            at = row * wide + j
            sums[at] = multiply_units(code, dot, left, right, sums[at])
    return sums
