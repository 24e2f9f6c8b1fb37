"""Sorting the few integers that fit into registers: a network over columns, then merged lanes.

The keys lie in rows, one vector each. Batcher's odd-even merge sort (1968) puts every column in
order, without a shuffle; then neighbouring columns are merged, twice as many at a time, by bitonic
merges whose first step meets mirrored places (so that every comparator points upwards). In the end
the order runs down the columns, and a transposition turns it into that of memory.
"""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.target import Target

KEY_BITS = (32, 64)


def most_rows(target: Target) -> int:
    """How many vectors of keys are sorted at once: half of the registers."""
    return 16 if target.vector_bits == 512 else 8


def small_sort(unit: Unit, target: Target, element: str, rows: int) -> str:
    """The symbol of `void (from, to, count)`: sorts up to `rows` vectors of signed integers."""
    lanes = target.lanes(int(element[1:]))
    symbol = f"gm.small_sort_{element}_{rows}x{lanes}"
    if not unit.once(symbol):
        return symbol
    arguments = [("from", "!llvm.ptr"), ("to", "!llvm.ptr"), ("count", "i64")]
    code = Code(unit, symbol, arguments, traits=("noinline",))
    source, target_, count = code.args
    kind = vector(element, lanes)
    masks = [_inside(code, count, row, kind) for row in range(rows)]
    beyond = code.const((1 << int(element[1:]) - 1) - 1, kind)
    values = [
        masked_load(code, code.at(source, row * lanes, element), mask, beyond)
        for row, mask in enumerate(masks)
    ]
    for row, (value, mask) in enumerate(zip(sorted_rows(code, target, values), masks, strict=True)):
        masked_store(code, value, code.at(target_, row * lanes, element), mask)
    code.finish()
    return symbol


def sorted_rows(code: Code, target: Target, rows: list[Val]) -> list[Val]:
    """The keys of a power of two of vectors in order, row after row.

    The merges are loops, which LLVM must not unroll: many hundred lines of it take long to compile.
    """
    count, kind = len(rows), rows[0].type
    rows = list(rows)
    for low, high in _odd_even(count):
        rows[low], rows[high] = _ordered(code, rows[low], rows[high])
    permute = Permutation(code, target, kind)
    levels = _hidden(code, code.i64(rows[0].lanes.bit_length() - 1))
    with code.loop(0, levels, 1, rows) as level:
        half = code.binary("arith.shli", code.i64(1), level.i)
        mirrored = permute.partners(code.add(code.mul(half, 2), -1))
        start = _merged(code, permute, level.carried, level.carried[::-1], mirrored, half)
        with code.loop(0, level.i, 1, start) as step:
            distance = code.binary("arith.shrui", half, code.add(step.i, 1))
            apart = permute.partners(distance)
            step.next = _merged(code, permute, step.carried, step.carried, apart, distance)
        level.next = _down(code, step.results)
    rows = level.results
    for _ in range(count.bit_length() - 1):
        rows = _rotated(code, rows)
    return rows


class Permutation:
    """Lanes moved by an order that is known when the code runs."""

    def __init__(self, code: Code, target: Target, kind: str) -> None:
        self.code, self.kind = code, kind
        like = Val("", kind)
        size, bits = int(like.element[1:]) // 8, target.vector_bits
        unit = {512: size, 256: 4}.get(bits, 1)  # bytes that are moved as one
        self.parts, self.lanes = size // unit, like.lanes
        self.order = vector(f"i{8 * unit}", like.lanes * self.parts)
        self.name = {
            (512, 4): "x86.avx512.permvar.si.512", (512, 8): "x86.avx512.permvar.di.512",
            (256, 4): "x86.avx2.permd",
        }.get((bits, unit))  # fmt: skip
        if self.name is None:
            self.name = "x86.ssse3.pshuf.b.128" if target.is_x86 else "aarch64.neon.tbl1.v16i8"

    def partners(self, distance: Val) -> Val:
        """The order that swaps each lane with the one whose number differs in the given bits."""
        code, element = self.code, Val("", self.order).element
        moved = code.mul(distance, self.parts)
        if element != "i64":
            moved = code.op(f"arith.trunci {moved} : i64 to {element}", element)
        lanes = Val("", self.order).lanes
        numbers = code.const_lanes(range(lanes), self.order)
        return code.binary("arith.xori", numbers, code.splat(moved, lanes))

    def __call__(self, value: Val, order: Val) -> Val:
        code, kind = self.code, self.order
        if kind != self.kind:
            value = code.op(f"llvm.bitcast {value} : {self.kind} to {kind}", kind)
        moved = code.op(
            f'llvm.call_intrinsic "llvm.{self.name}"({value}, {order}) : ({kind}, {kind}) -> '
            f"{kind}",
            kind,
        )
        if kind != self.kind:
            moved = code.op(f"llvm.bitcast {moved} : {kind} to {self.kind}", self.kind)
        return moved


def _hidden(code: Code, value: Val) -> Val:
    """A value as LLVM cannot know it."""
    kind = value.type
    return code.op(f'llvm.inline_asm "", "=r,0" {value} : ({kind}) -> {kind}', kind)


def masked_load(code: Code, address: Val, mask: Val, other: Val) -> Val:
    """The integers at `address` where the mask holds, elsewhere `other`."""
    size = int(other.element[1:]) // 8
    return code.op(
        f"llvm.intr.masked.load {address}, {mask}, {other} {{alignment = {size} : i32}} : "
        f"(!llvm.ptr, {mask.type}, {other.type}) -> {other.type}",
        other.type,
    )


def masked_store(code: Code, value: Val, address: Val, mask: Val) -> None:
    """Store the lanes of integers where the mask holds."""
    size = int(value.element[1:]) // 8
    code.line(
        f"llvm.intr.masked.store {value}, {address}, {mask} {{alignment = {size} : i32}} : "
        f"{value.type}, {mask.type} into !llvm.ptr"
    )


def first_lanes(code: Code, count: Val, lanes: int) -> Val:
    """i1 per lane: whether its number is below `count` (i64)."""
    numbers = code.const_lanes(range(lanes), vector("i32", lanes))
    wanted = code.splat(code.op(f"arith.trunci {count} : i64 to i32", "i32"), lanes)
    return code.compare("arith.cmpi", "slt", numbers, wanted)


def _inside(code: Code, count: Val, row: int, kind: str) -> Val:
    lanes = Val("", kind).lanes
    return first_lanes(code, code.add(count, -row * lanes), lanes)


def _odd_even(count: int) -> list[tuple[int, int]]:
    """Batcher's comparators for a power of two of places."""
    found = []
    size = 1
    while size < count:
        distance = size
        while distance:
            for start in range(distance % size, count - distance, 2 * distance):
                for low in range(start, min(start + distance, count - distance)):
                    if low // (2 * size) == (low + distance) // (2 * size):
                        found.append((low, low + distance))
            distance //= 2
        size *= 2
    return found


def _ordered(code: Code, a: Val, b: Val) -> tuple[Val, Val]:
    return code.binary("arith.minsi", a, b), code.binary("arith.maxsi", a, b)


def _merged(
    code: Code, permute: Permutation, rows: list[Val], partners: list[Val], order: Val, bit: Val
) -> list[Val]:
    """Each lane and its partner's: lanes without the bit in their number keep the smaller key."""
    lanes, kind = rows[0].lanes, vector("i32", rows[0].lanes)
    numbers = code.const_lanes(range(lanes), kind)
    wanted = code.splat(code.op(f"arith.trunci {bit} : i64 to i32", "i32"), lanes)
    own = code.binary("arith.andi", numbers, wanted)
    lower = code.compare("arith.cmpi", "eq", own, code.const(0, kind))
    others = [permute(row, order) for row in partners]
    pairs = [_ordered(code, row, other) for row, other in zip(rows, others, strict=True)]
    return [code.select(lower, least, most) for least, most in pairs]


def _down(code: Code, rows: list[Val]) -> list[Val]:
    """Merge every column, whose keys rise and then fall, or the other way round."""
    rows, distance = list(rows), len(rows) // 2
    while distance:
        for low in (row for row in range(len(rows)) if not row & distance):
            rows[low], rows[low + distance] = _ordered(code, rows[low], rows[low + distance])
        distance //= 2
    return rows


def _rotated(code: Code, rows: list[Val]) -> list[Val]:
    """Zip each row with the one half of all behind: the places' binary digits turn by one."""
    lanes, half = rows[0].lanes, len(rows) // 2
    made = []
    for a, b in zip(rows[:half], rows[half:], strict=True):
        for first in (0, lanes // 2):
            order = [first + lane // 2 + (lanes if lane % 2 else 0) for lane in range(lanes)]
            made.append(shuffle(code, a, b, order))
    return made


def shuffle(code: Code, a: Val, b: Val, order: list[int]) -> Val:
    """Lanes of `a` and then `b`, by number."""
    kind = vector(a.element, len(order))
    return code.op(f"vector.shuffle {a}, {b} {order} : {a.type}, {b.type}", kind)
