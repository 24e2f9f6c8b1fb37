"""Sorting integers in memory: quicksort by vectors, whose worst case is bounded.

A segment of keys lies at its place (`home`) or still in spare memory. A partition writes what is
below the pivot home and the rest to the spare memory: both are written behind what is read, so no
key is moved twice (Blacher et al. 2022 partition in place; reading in order instead needs no
decision which end to read next, and keeps the order of equal keys). Segments of a few vectors are
sorted in registers (`small_sort`). When pivots from samples have been bad for long, they halve the
range of the values instead, which ends after as many steps as a key has bits.
"""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.partition import partition
from graphmill.codegen.cpu.small_sort import most_rows, small_sort
from graphmill.codegen.cpu.target import Target

WORDS = 4  # of a segment: home, spare, count, twice the depth left plus whether it is in the spare
DEEPEST = 320  # segments that wait at a time: twice 64 levels of samples, 64 of halving, some more
SEGMENTS = 64  # that one line is divided into for several threads


def quicksort(unit: Unit, target: Target, element: str) -> str:
    """The symbol of `void (home, spare, count, state, first, last, least, table)`.

    Sorts `count` signed integers, at `home` or (odd `state`) in `spare`, to `home`; the spare
    memory has room for as many. Only the keys that belong to addresses from `first` up to `last`
    need be where they do; the others are before and behind them. Segments of fewer than `least`
    keys are left, in `table`: how many were to be, and then the words of the first `SEGMENTS`. It
    may be that of several calls at a time.
    """
    symbol = f"gm.quicksort_{element}x{target.lanes(int(element[1:]))}"
    if not unit.once(symbol):
        return symbol
    numbers = ("count", "state", "first", "last", "least")
    pointers = [("home", "!llvm.ptr"), ("spare", "!llvm.ptr")]
    arguments = [*pointers, *((name, "i64") for name in numbers)]
    code = Code(unit, symbol, [*arguments, ("table", "!llvm.ptr")], traits=("noinline",))
    _Quicksort(code, target, element).run()
    code.finish()
    return symbol


def initial_state(code: Code, count: Val) -> Val:
    """The `state` of `count` keys at home: so many levels of samples that more are bad luck."""
    levels = code.binary("arith.subi", code.i64(66), code.unary("math.ctlz", count))
    return code.binary("arith.shli", levels, code.i64(2))


class _Quicksort:
    def __init__(self, code: Code, target: Target, element: str) -> None:
        self.code, self.element, self.target = code, element, target
        self.size, self.lanes = int(element[1:]) // 8, target.lanes(int(element[1:]))
        self.kind, self.rows = vector(element, self.lanes), most_rows(target)
        self.few = self.rows * self.lanes
        self.home, self.spare, self.count, self.state = code.args[:4]
        self.first, self.last, self.least, self.table = code.args[4:]
        self.stack = code.alloca("i64", WORDS * DEEPEST)
        self.sample = code.alloca(element, self.few)

    def run(self) -> None:
        code = self.code
        self._put(self.stack, code.i64(0), (self.home, self.spare, self.count, self.state))
        with code.while_loop([code.i64(1)]) as turn:
            code.test(turn, code.compare("arith.cmpi", "sgt", turn.carried[0], code.i64(0)))
            left = code.add(turn.carried[0], -1)
            segment = self._take(left)
            turn.next = [self._step(segment, left)]

    # ---- segments in memory

    def _put(self, array: Val, place: Val, words: tuple[Val, Val, Val, Val]) -> None:
        base = self.code.at(array, self.code.mul(place, WORDS), "i64")
        for number, word in enumerate(words):
            self.code.store(word, self.code.at(base, number, "i64"), 8)

    def _take(self, place: Val) -> tuple[Val, Val, Val, Val]:
        code, base = self.code, self.code.at(self.stack, self.code.mul(place, WORDS), "i64")
        home, spare = (code.load(code.at(base, n, "i64"), "!llvm.ptr", 8) for n in (0, 1))
        count, state = (code.load(code.at(base, n, "i64"), "i64", 8) for n in (2, 3))
        return home, spare, count, state

    # ---- one step

    def _step(self, segment: tuple[Val, Val, Val, Val], waiting: Val) -> Val:
        """Sort or divide a segment; returns how many wait then."""
        code, (home, spare, count, state) = self.code, segment
        away = code.op(f"arith.trunci {state} : i64 to i1", "i1")
        source = code.select(away, spare, home)
        few = code.compare("arith.cmpi", "sle", count, code.i64(self.few))
        out = self._unwanted(home, count)
        with code.when(code.binary("arith.andi", out, away)):
            self._bring(source, home, count)
        kept = code.binary("arith.ori", out, self._kept(segment))
        with code.when(code.binary("arith.andi", few, self._not(kept))):
            self._small(source, home, count)
        done = code.binary("arith.ori", few, kept)
        with code.choose(self._not(done), [waiting]) as divided:
            divided.next = [self._divide(source, segment, waiting)]
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

    def _bring(self, source: Val, home: Val, count: Val) -> None:
        code = self.code
        with code.loop(0, count) as loop:
            key = code.load(code.at(source, loop.i, self.element), self.element, self.size)
            code.store(key, code.at(home, loop.i, self.element), self.size)

    def _kept(self, segment: tuple[Val, Val, Val, Val]) -> Val:
        """Whether the segment is left to others; then it is in the table."""
        code, count = self.code, segment[2]
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

    def _small(self, source: Val, home: Val, count: Val) -> None:
        code, half = self.code, self.few // 2
        fits = code.compare("arith.cmpi", "sle", count, code.i64(half))
        for rows, scope in ((self.rows // 2, code.when(fits)), (self.rows, code.otherwise())):
            with scope:
                symbol = small_sort(code.unit, self.target, self.element, rows)
                code.call(symbol, [source, home, count])

    def _divide(self, source: Val, segment: tuple[Val, Val, Val, Val], waiting: Val) -> Val:
        code, (home, spare, count, state) = self.code, segment
        pivot = self._pivot(source, count, state)
        symbol = partition(code.unit, self.target, self.element)
        below = code.call(symbol, [source, home, spare, count, pivot], "i64")
        assert below is not None
        none = code.compare("arith.cmpi", "eq", below, code.i64(0))
        with code.choose(none, [below]) as equal:
            equal.next = [self._equal(home, spare, count, pivot)]
        (split,) = equal.results
        less = code.add(state, -2)
        others = code.binary("arith.subi", count, split)
        state_away = code.binary("arith.ori", less, code.i64(1))
        state_home = code.binary("arith.andi", less, code.i64(-2))
        upper = (code.at(home, split, self.element), spare, others, state_away)
        lower = (home, code.at(spare, others, self.element), split, state_home)
        some = code.compare("arith.cmpi", "sgt", others, code.i64(0))
        with code.choose(some, [waiting]) as pushed:
            self._put(self.stack, waiting, upper)
            pushed.next = [code.add(waiting, 1)]
        with code.choose(self._not(none), pushed.results) as both:
            self._put(self.stack, pushed.results[0], lower)
            both.next = [code.add(pushed.results[0], 1)]
        return both.results[0]

    def _equal(self, home: Val, spare: Val, count: Val, pivot: Val) -> Val:
        """All keys are in the spare memory, the pivot the least: bring those equal to it home."""
        code = self.code
        largest = code.const((1 << 8 * self.size - 1) - 1, self.element)
        last = code.compare("arith.cmpi", "eq", pivot, largest)
        with code.choose(last, [code.i64(0)]) as found:
            with code.loop(0, count) as loop:
                code.store(pivot, code.at(home, loop.i, self.element), self.size)
            found.next = [count]
        more = self._not(last)
        with code.choose(more, found.results) as this:
            symbol = partition(code.unit, self.target, self.element)
            above = code.binary("arith.addi", pivot, code.const(1, self.element))
            below = code.call(symbol, [spare, home, spare, count, above], "i64")
            assert below is not None
            this.next = [below]
        return this.results[0]

    # ---- pivots

    def _pivot(self, source: Val, count: Val, state: Val) -> Val:
        code = self.code
        lucky = code.compare("arith.cmpi", "sgt", state, code.i64(1))
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
