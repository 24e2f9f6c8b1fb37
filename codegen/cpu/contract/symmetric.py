"""Products of a matrix by its own transpose: the upper triangle is computed, the other mirrored.

`symmetric` products have `m == n`, and both operands hold the same values, so that an element and
its mirror image are the same sum. Tiles below the diagonal are left out; a last phase copies.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import ceil_div, least, memory_element, minus, most
from graphmill.codegen.cpu.contract.packing import transpose
from graphmill.codegen.cpu.contract.phases import WORTH_A_THREAD
from graphmill.codegen.cpu.contract.slots import BODY, GRID_SHIFT, Slots
from graphmill.codegen.cpu.contract.spec import GemmSpec, Phase, Sizes
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.launch import WORK
from graphmill.codegen.cpu.target import Target

WIDEST = 16  # lanes of a transposed square
WIDE = 4  # panels from which half of the tiles is clearly less than all
DEEP = 128  # values of k from which the products saved outweigh the copy


def is_worth(size: object, depth: object, tile: Tile) -> bool:
    """Whether a product of known size leaves out enough."""
    if not isinstance(size, int) or not isinstance(depth, int):
        return False
    return size >= WIDE * tile.columns and depth >= DEEP


def strips(code: Code, threads: Val, batch: Val, tiles: Val, work: Val) -> Val:
    """The grid of `batch` products: strips of rows, one for each thread that the work is worth."""
    worth = code.binary("arith.divui", work, code.i64(2 * WORTH_A_THREAD))
    wanted = least(code, code.binary("arith.divui", threads, batch), worth)
    rows = most(code, least(code, wanted, tiles), 1)
    return code.add(rows, 1 << GRID_SHIFT)


def strip(code: Code, tiles: Val, some: tuple[Val, Val], parts: Val) -> tuple[Val, Val]:
    """The tiles of neighbouring ones of `parts` strips: all have about the same area."""

    def real(value: Val) -> Val:
        return code.op(f"arith.uitofp {value} : i64 to f64", "f64")

    def bound(at: Val) -> Val:
        below = code.binary("arith.divf", real(minus(code, parts, at)), real(parts))
        left = code.binary("arith.mulf", code.unary("math.sqrt", below), real(tiles))
        return minus(code, tiles, code.op(f"arith.fptoui {left} : f64 to i64", "i64"))

    return bound(some[0]), bound(some[1])


def mirror_phase(unit: Unit, symbol: str, spec: GemmSpec, target: Target) -> Phase:
    """The phase that copies what lies above the diagonal to below it."""
    name, lanes = f"{symbol}_mirror", min(target.lanes(spec.out.bits), WIDEST)
    code = Code(unit, name, BODY, internal=False)
    slot = Slots(code, spec)
    with code.loop(slot.begin, slot.end) as item:
        _mirror(code, slot, code.mul(item.i, lanes), lanes)
    code.finish()

    def items(code: Code, sizes: Sizes) -> Val:
        return ceil_div(code, sizes.m, lanes)

    def grain(code: Code, sizes: Sizes) -> Val:
        return ceil_div(code, code.i64(WORK), code.add(code.mul(sizes.n, lanes), 1))

    return Phase(name, items, grain)


def _mirror(code: Code, slot: Slots, first: Val, lanes: int) -> None:
    """The rows `first`…`first + lanes` left of the diagonal, by squares and then one by one."""
    spec, pitch = slot.spec, slot["c_m"]
    element, size = memory_element(spec.out), spec.out.itemsize
    past = code.add(first, lanes)
    whole = code.compare("arith.cmpi", "sle", past, slot.sizes.m)
    done = code.select(whole, first, code.i64(0))
    kind = vector(element, lanes)
    with code.loop(0, done, lanes) as at:
        source = code.at(slot["c"], code.add(code.mul(at.i, pitch), first), element)
        target = code.at(slot["c"], code.add(code.mul(first, pitch), at.i), element)
        above = [code.at(source, code.mul(pitch, i), element) for i in range(lanes)]
        rows = transpose(code, [code.load(row, kind, size) for row in above])
        for i, row in enumerate(rows):
            code.store(row, code.at(target, code.mul(pitch, i), element), size)
    with (
        code.loop(first, least(code, past, slot.sizes.m)) as below,
        code.loop(done, below.i) as column,
    ):
        mirrored = code.at(slot["c"], code.add(code.mul(column.i, pitch), below.i), element)
        here = code.at(slot["c"], code.add(code.mul(below.i, pitch), column.i), element)
        code.store(code.load(mirrored, element, size), here, size)
