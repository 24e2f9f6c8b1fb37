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
    masks = [inside_row(code, count, row, kind) for row in range(rows)]
    beyond = code.const((1 << int(element[1:]) - 1) - 1, kind)
    values = [
        masked_load(code, code.at(source, row * lanes, element), mask, beyond)
        for row, mask in enumerate(masks)
    ]
    for row, (value, mask) in enumerate(zip(sorted_rows(code, values), masks, strict=True)):
        masked_store(code, value, code.at(target_, row * lanes, element), mask)
    code.finish()
    return symbol


def sorted_rows(code: Code, rows: list[Val]) -> list[Val]:
    """The keys of a power of two of vectors in order, row after row."""
    rows, half = list(rows), 1
    for low, high in _odd_even(len(rows)):
        rows[low], rows[high] = ordered(code, rows[low], rows[high])
    while half < rows[0].lanes:
        rows = sorted_columns(code, _merged(code, rows, half))
        half *= 2
    for _ in range(len(rows).bit_length() - 1):
        rows = _rotated(code, rows)
    return rows


class _Pair:
    """Two vectors that exchange lanes, so that those to be compared face each other.

    A lane is known by its number, as it was at first, the second vector's after the first's.
    """

    def __init__(self, code: Code, a: Val, b: Val) -> None:
        self.code, self.vectors, self.lanes = code, (a, b), a.lanes
        self.numbers = list(range(2 * a.lanes))

    def arrange(self, numbers: list[int]) -> tuple[Val, Val]:
        """Move lanes to where `numbers` say."""
        places = {number: place for place, number in enumerate(self.numbers)}
        order, lanes = [places[number] for number in numbers], self.lanes
        if numbers != self.numbers:
            a, b = self.vectors
            first, second = (shuffle(self.code, a, b, o) for o in (order[:lanes], order[lanes:]))
            self.vectors, self.numbers = (first, second), numbers
        return self.vectors

    def compare(self, bit: int, flipped: int) -> None:
        """Lanes without the bit keep the smaller of their own and that with `flipped` bits."""
        low = [number for number in range(2 * self.lanes) if not number & bit]
        a, b = self.arrange(low + [number ^ flipped for number in low])
        self.vectors = ordered(self.code, a, b)

    def restored(self) -> tuple[Val, Val]:
        return self.arrange(list(range(2 * self.lanes)))


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


def inside_row(code: Code, count: Val, row: int, kind: str) -> Val:
    """i1 per lane: whether `count` keys reach as far as to that lane of a row."""
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


def ordered(code: Code, a: Val, b: Val) -> tuple[Val, Val]:
    """The smaller and the larger of each pair of lanes.

    AVX-512 has one unit for minima and maxima of 64 bits, but several for comparing and choosing;
    LLVM, which would make minima of that, does not see where the mask comes from.
    """
    if a.type != "vector<8xi64>":
        return code.binary("arith.minsi", a, b), code.binary("arith.maxsi", a, b)
    bits, asm = bits_of(code, code.compare("arith.cmpi", "slt", a, b)), 'llvm.inline_asm ""'
    bits = code.op(f'{asm}, "=^Yk,0" {bits} : (i8) -> i8', "i8")
    less = code.op(f"llvm.bitcast {bits} : i8 to vector<8xi1>", "vector<8xi1>")
    return code.select(less, a, b), code.select(less, b, a)


def bits_of(code: Code, mask: Val) -> Val:
    """A mask as an integer of as many bits as it has lanes."""
    return code.op(f"llvm.bitcast {mask} : {mask.type} to i{mask.lanes}", f"i{mask.lanes}")


def _merged(code: Code, rows: list[Val], half: int) -> list[Val]:
    """Begin to merge columns `half` apart and their neighbours: what is left is within columns."""
    rows, count = list(rows), len(rows)
    for row in range((count + 1) // 2):
        pair = _Pair(code, rows[row], rows[count - 1 - row])
        pair.compare(half, pair.lanes + 2 * half - 1)  # the other row
        distance = half // 2
        while distance:
            pair.compare(distance, distance)
            distance //= 2
        rows[row], rows[count - 1 - row] = pair.restored()
    return rows


def sorted_lanes(code: Code, rows: list[Val]) -> list[Val]:
    """Put every row in order, which rises and then falls, or the other way round."""
    made: list[Val] = []
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        pair, distance = _Pair(code, a, b), a.lanes // 2
        while distance:
            pair.compare(distance, distance)
            distance //= 2
        made += pair.restored()
    return made


def sorted_columns(code: Code, rows: list[Val]) -> list[Val]:
    """Merge every column, whose keys rise and then fall, or the other way round."""
    rows, distance = list(rows), len(rows) // 2
    while distance:
        for low in (row for row in range(len(rows)) if not row & distance):
            rows[low], rows[low + distance] = ordered(code, rows[low], rows[low + distance])
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
