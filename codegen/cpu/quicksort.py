"""Sorting integers in memory: quicksort by vectors, whose worst case is bounded.

A segment of keys is partitioned in its place. Segments of a few vectors are sorted in registers
(`small_sort`, `merge_sort`). When pivots from samples have been bad for long, they halve the range
of the values instead, which ends after as many steps as a key has bits.
"""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.merge_sort import merge_sort
from graphmill.codegen.cpu.partition import partition
from graphmill.codegen.cpu.small_sort import most_rows, small_sort
from graphmill.codegen.cpu.target import Target

WORDS = 3  # of a segment: home, count, how many levels of samples are left
DEEPEST = 320  # segments that wait at a time: twice 64 levels of samples, 64 of halving, some more
SEGMENTS = 64  # that one line is divided into for several threads

Segment = tuple[Val, Val, Val]  # its words


def quicksort(unit: Unit, target: Target, element: str) -> str:
    """The symbol of `void (home, count, levels, first, last, least, table)`.

    Sorts `count` signed integers at `home`. Only the keys that belong to addresses from `first` up
    to `last` need be where they do; the others are before and behind them. Segments of fewer than
    `least` keys are left, in `table`: how many were to be, and then the words of the first
    `SEGMENTS`. It may be that of several calls at a time.
    """
    symbol = f"gm.quicksort_{element}x{target.lanes(int(element[1:]))}"
    if not unit.once(symbol):
        return symbol
    numbers = ("count", "levels", "first", "last", "least")
    arguments = [("home", "!llvm.ptr"), *((name, "i64") for name in numbers)]
    code = Code(unit, symbol, [*arguments, ("table", "!llvm.ptr")], traits=("noinline",))
    _Quicksort(code, target, element).run()
    code.finish()
    return symbol


def most_levels(code: Code, count: Val) -> Val:
    """So many levels of samples for `count` keys that more are bad luck."""
    levels = code.binary("arith.subi", code.i64(66), code.unary("math.ctlz", count))
    return code.binary("arith.shli", levels, code.i64(1))


class _Quicksort:
    def __init__(self, code: Code, target: Target, element: str) -> None:
        self.code, self.element, self.target = code, element, target
        self.size, self.lanes = int(element[1:]) // 8, target.lanes(int(element[1:]))
        self.kind, self.rows = vector(element, self.lanes), most_rows(target)
        self.few = self.rows * self.lanes
        self.home, self.count, self.levels = code.args[:3]
        self.first, self.last, self.least, self.table = code.args[3:]
        self.stack = code.alloca("i64", WORDS * DEEPEST)
        self.sample = code.alloca(element, self.few)

    def run(self) -> None:
        code = self.code
        self._put(self.stack, code.i64(0), (self.home, self.count, self.levels))
        with code.while_loop([code.i64(1)]) as turn:
            code.test(turn, code.compare("arith.cmpi", "sgt", turn.carried[0], code.i64(0)))
            left = code.add(turn.carried[0], -1)
            segment = self._take(left)
            turn.next = [self._step(segment, left)]

    # ---- segments in memory

    def _put(self, array: Val, place: Val, words: Segment) -> None:
        base = self.code.at(array, self.code.mul(place, WORDS), "i64")
        for number, word in enumerate(words):
            self.code.store(word, self.code.at(base, number, "i64"), 8)

    def _take(self, place: Val) -> Segment:
        code, base = self.code, self.code.at(self.stack, self.code.mul(place, WORDS), "i64")
        home = code.load(base, "!llvm.ptr", 8)
        count, levels = (code.load(code.at(base, n, "i64"), "i64", 8) for n in (1, 2))
        return home, count, levels

    # ---- one step

    def _step(self, segment: Segment, waiting: Val) -> Val:
        """Sort or divide a segment; returns how many wait then."""
        code, (home, count, _) = self.code, segment
        few = code.compare("arith.cmpi", "sle", count, code.i64(2 * self.few))
        kept = code.binary("arith.ori", self._unwanted(home, count), self._kept(segment))
        with code.when(code.binary("arith.andi", few, self._not(kept))):
            self._small(home, count)
        done = code.binary("arith.ori", few, kept)
        with code.choose(self._not(done), [waiting]) as divided:
            divided.next = [self._divide(segment, waiting)]
        return divided.results[0]

    def _not(self, condition: Val) -> Val:
        return self.code.binary("arith.xori", condition, self.code.const(True, "i1"))

    def _unwanted(self, home: Val, count: Val) -> Val:
        """Whether all keys of a segment belong elsewhere than where order is wanted."""
        code = self.code
        start = code.op(f"llvm.ptrtoint {home} : !llvm.ptr to i64", "i64")
        end = code.add(start, code.mul(count, self.size))
        before = code.compare("arith.cmpi", "ule", end, self.first)
        return code.binary("arith.ori", before, code.compare("arith.cmpi", "uge", start, self.last))

    def _kept(self, segment: Segment) -> Val:
        """Whether the segment is left to others; then it is in the table."""
        code, count = self.code, segment[1]
        small = code.compare("arith.cmpi", "slt", count, self.least)
        with code.choose(small, [small]) as this:
            number = code.op(
                f"llvm.atomicrmw add {self.table}, {code.i64(1)} monotonic : !llvm.ptr, i64", "i64"
            )
            room = code.compare("arith.cmpi", "slt", number, code.i64(SEGMENTS))
            with code.when(room):
                self._put(code.at(self.table, 1, "i64"), number, segment)
            this.next = [room]
        return this.results[0]

    def _small(self, home: Val, count: Val) -> None:
        code, unit, target, element = self.code, self.code.unit, self.target, self.element
        half, whole = (code.compare("arith.cmpi", "sle", count, code.i64(n))
                       for n in (self.few // 2, self.few))  # fmt: skip
        with code.when(half):
            symbol = small_sort(unit, target, element, self.rows // 2)
            code.call(symbol, [home, home, count])
        with code.otherwise():
            with code.when(whole):
                symbol = small_sort(unit, target, element, self.rows)
                code.call(symbol, [home, home, count])
            with code.otherwise():
                code.call(merge_sort(unit, target, element), [home, count])

    def _divide(self, segment: Segment, waiting: Val) -> Val:
        code, (home, count, levels) = self.code, segment
        pivot = self._pivot(home, count, levels)
        below = self._partition(home, count, pivot)
        none = code.compare("arith.cmpi", "eq", below, code.i64(0))
        with code.choose(none, [below]) as equal:
            equal.next = [self._equal(home, count, pivot)]
        (split,) = equal.results
        less, others = code.add(levels, -1), code.binary("arith.subi", count, split)
        some = code.compare("arith.cmpi", "sgt", others, code.i64(0))
        with code.choose(some, [waiting]) as pushed:
            self._put(self.stack, waiting, (code.at(home, split, self.element), others, less))
            pushed.next = [code.add(waiting, 1)]
        with code.choose(self._not(none), pushed.results) as both:
            self._put(self.stack, pushed.results[0], (home, split, less))
            both.next = [code.add(pushed.results[0], 1)]
        return both.results[0]

    def _partition(self, home: Val, count: Val, pivot: Val) -> Val:
        symbol = partition(self.code.unit, self.target, self.element)
        below = self.code.call(symbol, [home, count, pivot], "i64")
        assert below is not None
        return below

    def _equal(self, home: Val, count: Val, pivot: Val) -> Val:
        """The pivot is the least key: bring those equal to it to the front, and count them."""
        code = self.code
        largest = code.const((1 << 8 * self.size - 1) - 1, self.element)
        more = code.compare("arith.cmpi", "ne", pivot, largest)
        with code.choose(more, [count]) as this:  # none is larger than the largest
            above = code.binary("arith.addi", pivot, code.const(1, self.element))
            this.next = [self._partition(home, count, above)]
        return this.results[0]

    # ---- pivots

    def _pivot(self, source: Val, count: Val, levels: Val) -> Val:
        code = self.code
        lucky = code.compare("arith.cmpi", "sgt", levels, code.i64(0))
        zero = code.const(0, self.element)
        with code.choose(lucky, [zero]) as sampled:
            many = code.compare("arith.cmpi", "sgt", count, code.i64(16 * self.few))
            with code.choose(many, [zero]) as large:
                large.next = [self._large_sample(source, count)]
            few = self._not(many)
            with code.choose(few, large.results) as small:
                small.next = [self._small_sample(source, count)]
            sampled.next = small.results
        unlucky = self._not(lucky)
        with code.choose(unlucky, sampled.results) as this:
            this.next = [self._middle(source, count)]
        return this.results[0]

    def _chunk(self, source: Val, count: Val, number: int, of: int) -> Val:
        """A vector from about `number / of` of the way."""
        code = self.code
        shift = code.i64(of.bit_length() - 1)
        start = code.binary("arith.shrui", code.mul(count, number), shift)
        return code.load(code.at(source, start, self.element), self.kind, self.size)

    def _large_sample(self, source: Val, count: Val) -> Val:
        code = self.code
        for row in range(self.rows):
            value = self._chunk(source, count, 2 * row + 1, 2 * self.rows)
            code.store(value, code.at(self.sample, row * self.lanes, self.element), self.size)
        return self._sampled(self.rows)

    def _small_sample(self, source: Val, count: Val) -> Val:
        code = self.code
        a, b, c = (self._chunk(source, count, number, 4) for number in (1, 2, 3))
        low, high = code.binary("arith.minsi", a, b), code.binary("arith.maxsi", a, b)
        middle = code.binary("arith.maxsi", low, code.binary("arith.minsi", high, c))
        code.store(middle, self.sample, self.size)
        return self._sampled(1)

    def _sampled(self, rows: int) -> Val:
        """The median of the sample."""
        code, count = self.code, rows * self.lanes
        symbol = small_sort(code.unit, self.target, self.element, rows)
        code.call(symbol, [self.sample, self.sample, code.i64(count)])
        return code.load(code.at(self.sample, count // 2, self.element), self.element, self.size)

    def _middle(self, source: Val, count: Val) -> Val:
        """Above the middle of the least and the largest key, where they differ."""
        code = self.code
        first = code.load(source, self.element, self.size)
        with code.loop(0, count, 1, [first, first]) as loop:
            value = code.load(code.at(source, loop.i, self.element), self.element, self.size)
            low, high = loop.carried
            loop.next = [
                code.binary("arith.minsi", low, value), code.binary("arith.maxsi", high, value),
            ]  # fmt: skip
        low, high = loop.results
        half = code.binary(
            "arith.shrsi", code.binary("arith.xori", low, high), code.const(1, self.element)
        )
        middle = code.add(code.binary("arith.andi", low, high), half)
        differ = code.compare("arith.cmpi", "ne", low, high)
        return code.select(differ, code.add(middle, 1), low)
