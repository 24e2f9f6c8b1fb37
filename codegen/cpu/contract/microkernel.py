"""The micro-kernel: a register tile of C from a slice of A's rows and a panel of B.

`gm.mk_<element><dot>_<rows>x<vectors>(a, a_m, a_k, b, b_k, k, c, c_m, add, ahead, step, near,
near_m)` computes `c[i, j] (+)= sum_p a[i*a_m + p*a_k] * b[p*b_k + j]` for a full tile; strides
count elements, `add` is 0 or 1. What comes next is prefetched: `FETCHED` bytes from `ahead` on for
each `TURN` values of k, those of the next turn `step` bytes further on; and for writing the tile
whose rows lie `near_m` apart from `near` on: C.
Packed and direct operands share it: A is broadcast from any strides, B's vectors are contiguous.
Of operands packed in units (`dots`) it counts k and strides in units.
Edges never reach it: callers pad B's last panel and store partial tiles through a buffer.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.dots import multiply_units
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector

TURN = 4  # values of k
FETCHED = 256  # bytes a turn: with few row tiles, each has much of the next panel to fetch
ARGS = (
    ("a", "!llvm.ptr"), ("a_m", "i64"), ("a_k", "i64"), ("b", "!llvm.ptr"), ("b_k", "i64"),
    ("k", "i64"), ("c", "!llvm.ptr"), ("c_m", "i64"), ("add", "i64"), ("ahead", "!llvm.ptr"),
    ("step", "i64"), ("near", "!llvm.ptr"), ("near_m", "i64"),
)  # fmt: skip


def multiply_add(code: Code, tile: Tile, a: Val, b: Val, acc: Val) -> Val:
    """`a * b + acc`, fused where the target has FMA; units give the sum of their products."""
    if tile.dot.group > 1:
        return multiply_units(code, tile.dot, a, b, acc)
    if tile.is_float:
        kinds = ", ".join([acc.type] * 3)
        text = f"llvm.intr.fmuladd({a}, {b}, {acc}) : ({kinds}) -> {acc.type}"
        return code.op(text, acc.type)
    return code.binary("arith.addi", acc, code.binary("arith.muli", a, b))


def add(code: Code, tile: Tile, a: Val, b: Val) -> Val:
    """`a + b` in the tile's arithmetic."""
    return code.binary("arith.addf" if tile.is_float else "arith.addi", a, b)


def microkernel(unit: Unit, tile: Tile, rows: int) -> str:
    """The symbol of the micro-kernel with `rows` of the tile's rows, written once per unit."""
    symbol = f"gm.mk_{tile.element}{tile.dot.name}_{rows}x{tile.vectors}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, ARGS, traits=("noinline",))
    a, a_m, a_k, b, b_k, k, c, c_m, flag, ahead, step, near, near_m = code.args
    offsets = [opaque(code, code.mul(a_m, i)) if i else code.i64(0) for i in range(rows)]
    sums = [code.const(0, tile.vector)] * tile.vectors
    if tile.head:
        sums = [
            code.load(code.at(b, v * tile.lanes, tile.element), tile.vector, tile.bytes)
            for v in range(tile.vectors)
        ]
        b = code.at(b, tile.head, tile.element)
    start = [near, ahead, a, b, *sums * rows]
    bulk = code.op(f"arith.andi {k}, {code.i64(-TURN)} : i64", "i64")
    with code.loop(0, bulk, TURN, start) as loop:
        row, fetched, *state = loop.carried
        for line in range(0, FETCHED, 64):
            prefetch(code, code.at(fetched, line, "i8"), write=False)
        for line in range(0, tile.columns * tile.bytes, 64):  # a row a turn: all at once would wait
            prefetch(code, code.at(row, line, "i8"), write=True)
        more = code.compare("arith.cmpi", "slt", loop.i, code.i64(TURN * (rows - 1)))
        below = code.select(more, code.at(row, near_m, tile.element), row)
        for _ in range(TURN):
            state = _step(code, tile, rows, offsets, a_k, b_k, state)
        loop.next = [below, code.at(fetched, step, "i8"), *state]
    with code.loop(bulk, k, 1, loop.results[2:]) as rest:
        rest.next = _step(code, tile, rows, offsets, a_k, b_k, rest.carried)
    _store(code, tile, rows, rest.results[2:], c, c_m, flag)
    code.finish()
    return symbol


def opaque(code: Code, value: Val) -> Val:
    """`value`, its origin hidden: else LLVM chains the rows' addresses, an addition after another,
    and that chain is as long as the multiplications of one step; or knows what a table holds."""
    kind = value.type
    return code.op(f'llvm.inline_asm "", "=r,0" {value} : ({kind}) -> {kind}', kind)


def _step(
    code: Code, tile: Tile, rows: int, offsets: list[Val], a_k: Val, b_k: Val, state: list[Val]
) -> list[Val]:
    """One value of k: the outer product of a column of A and a row of the panel."""
    a, b, sums = state[0], state[1], list(state[2:])
    loaded = [
        code.load(code.at(b, v * tile.lanes, tile.unit), vector(tile.unit, tile.lanes), tile.bytes)
        for v in range(tile.vectors)
    ]
    for i in range(rows):
        scalar = code.load(code.at(a, offsets[i], tile.unit), tile.unit, tile.bytes)
        left = code.splat(scalar, tile.lanes)
        for v in range(tile.vectors):
            at = i * tile.vectors + v
            sums[at] = multiply_add(code, tile, left, loaded[v], sums[at])
    return [opaque(code, code.at(a, a_k, tile.element)), code.at(b, b_k, tile.element), *sums]


def prefetch(code: Code, address: Val, *, write: bool) -> None:
    """Fetch a cache line: into the second level to be read, into the first to be written."""
    hint = "hint = 3 : i32, rw = 1 : i32" if write else "hint = 2 : i32, rw = 0 : i32"
    text = f'"llvm.intr.prefetch"({address}) <{{cache = 1 : i32, {hint}}}> : (!llvm.ptr) -> ()'
    code.line(text)


def _store(code: Code, tile: Tile, rows: int, sums: list[Val], c: Val, c_m: Val, flag: Val) -> None:
    def each(accumulate: bool) -> None:
        for i in range(rows):
            row = code.at(c, code.mul(c_m, i), tile.element)
            for v in range(tile.vectors):
                address = code.at(row, v * tile.lanes, tile.element)
                value = sums[i * tile.vectors + v]
                if accumulate:
                    value = add(code, tile, value, code.load(address, tile.vector, tile.bytes))
                code.store(value, address, tile.bytes)

    with code.when(code.compare("arith.cmpi", "ne", flag, code.i64(0))):
        each(True)
    with code.otherwise():
        each(False)
