"""Stable orders of lines: words of a key and, below it, the place it came from, sorted as integers.

Keys of up to 32 bits have room for the place beside them, on a line of up to 2³² elements. Of wider
keys, or where a line may be longer, a word has as many leading bits as there is room for, counted
from where the keys of the line differ. Runs of words that are equal so far are sorted once more, by
the bits left out: they have room beside a place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, Indices
from graphmill.codegen.cpu.kernel import Kernel
from graphmill.codegen.cpu.keys import key_bits, key_of
from graphmill.codegen.cpu.line_sort import Line, Plan, Steps, sort_lines
from graphmill.codegen.cpu.loops import sweep
from graphmill.codegen.cpu.memory import lane_numbers
from graphmill.codegen.cpu.partition import least_count, partition
from graphmill.codegen.cpu.quicksort import most_levels, quicksort
from graphmill.codegen.cpu.small_sort import bits_of
from graphmill.ir.graph import Op, Value

MOST = 1 << 32  # elements of a line whose places have room in half a word
SIGN = -(1 << 63)
LEAST, GONE, PLACES, LEFT = range(4)  # facts of a line, see `_Wide`

Place = Callable[[Index], Indices]  # the full index of a place on a line
# writes at a place, given the one it came from
Drain = Callable[[Elements, Place, Index, Index], None]


def sort_orders(
    host: Host, op: Op, axis: int, descending: bool, make: Callable[[Kernel], Drain],
    *, direct: Buffer | None = None, k: int | None = None,
) -> None:  # fmt: skip
    """Find the order of the lines of the first operand and `drain` the first `k` places of it.

    An `argpartition` has it from the place of its second operand to that of its third one.
    """
    operand, partial = op.operands[0], k is not None or op.name == "argpartition"
    ends = op.operands[1:] if op.name == "argpartition" else ()
    length = operand.shape[axis]
    wide = key_bits(operand.tensor.dtype) == 64 or not (isinstance(length, int) and length <= MOST)
    kind = _Wide if wide else _Narrow

    def steps(kernel: Kernel) -> Steps:
        return kind(host, operand, descending, kernel, make(kernel), k, ends)

    plan = Plan(
        op, operand.shape, axis, "i64", steps,
        direct=direct, prepares=wide, mends=wide, partial=partial,
    )  # fmt: skip
    sort_lines(host, plan)


class _Narrow(Steps):
    """Words of a 32-bit key and a 32-bit place."""

    def __init__(
        self, host: Host, operand: Value, descending: bool, kernel: Kernel, write: Drain,
        k: int | None, ends: Sequence[Value],
    ) -> None:  # fmt: skip
        self.host, self.source = host, host.source(kernel, operand)
        self.dtype, self.descending = operand.tensor.dtype, descending
        self.kind = vector("i64", kernel.lanes)
        self.write, self.k = write, k
        self.ends = [host.source(kernel, place) for place in ends]

    def key(self, line: Line, position: Index) -> Val:
        """Keys at a position; -0 ties with 0."""
        code = line.kernel.code
        value = line.elements.load(self.source, line.index(position))
        assert isinstance(value, Val)
        if self.dtype.is_float:
            value = code.binary("arith.addf", value, code.const(0.0, value.type))
        return key_of(code, value, self.dtype, self.descending)

    def word(self, line: Line, key: Val, places: Val) -> Val:
        """The words of keys at places."""
        code = line.kernel.code
        wide = code.convert("arith.extsi", key, "i64")
        high = code.binary("arith.shli", wide, code.const(32, wide.type))
        return code.binary("arith.ori", high, places)

    def place_bits(self, line: Line) -> Val:
        """How many bits of a word are a place."""
        return line.kernel.code.i64(32)

    def fill(self, line: Line, low: Val | int, high: Val | int) -> None:
        code, elements = line.kernel.code, line.elements

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            places = code.add(code.splat(position.base, elements.lanes),
                              lane_numbers(code, elements.lanes))  # fmt: skip
            line.put(self.word(line, self.key(line, position), places), position.base)
            return carried

        sweep(elements, low, high, body)

    def drain(self, line: Line, low: Val | int, high: Val | int) -> None:
        code, elements = line.kernel.code, line.elements
        places = code.splat(_ones(code, self.place_bits(line)), elements.lanes)
        if self.k is not None:
            low, high = (
                min(x, self.k) if isinstance(x, int)
                else code.binary("arith.minsi", x, code.i64(self.k)) for x in (low, high)
            )  # fmt: skip

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            origin = code.binary("arith.andi", line.take(position.base), places)
            self.write(elements, line.index, position, Index(origin, None))
            return carried

        sweep(elements, low, high, body)

    def wanted(self, line: Line) -> tuple[Val, Val]:
        code = line.kernel.code
        if self.ends:
            first, last = (line.elements.load(end, ()) for end in self.ends)
            assert isinstance(first, Val) and isinstance(last, Val)
            return first, code.add(last, 1)
        return code.i64(0), line.length if self.k is None else code.i64(self.k)


class _Wide(_Narrow):
    """Words of the leading bits of a key, beside a place on a line of any length.

    What is known of a line: the least key; how many low bits of the differences to it are left out,
    as all are zero or for want of room; how many bits a place takes; how many bits were left out
    for want of room.
    """

    def key(self, line: Line, position: Index) -> Val:
        key = super().key(line, position)
        return key if key.element == "i64" else line.kernel.code.convert("arith.extsi", key, "i64")

    def fact(self, line: Line, number: int) -> Val:
        code = line.kernel.code
        return code.load(code.at(line.facts, number, "i64"), "i64", 8)

    def place_bits(self, line: Line) -> Val:
        return self.fact(line, PLACES)

    def prepare(self, line: Line) -> None:
        code = line.kernel.code
        with code.when(code.compare("arith.cmpi", "sgt", line.length, code.i64(0))):
            self._look(line)

    def _look(self, line: Line) -> None:
        code, elements = line.kernel.code, line.elements
        first = self.key(line, Index(code.i64(0)))
        spread = code.splat(first, elements.lanes)

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            key = self.key(line, position)
            if elements.tail is not None:
                key = code.select(elements.tail, key, spread)
            least, most, differing = carried
            return [
                code.binary("arith.minsi", least, key),
                code.binary("arith.maxsi", most, key),
                code.binary("arith.ori", differing, code.binary("arith.xori", key, spread)),
            ]

        found = sweep(elements, 0, line.length, body, [spread, spread, code.const(0, self.kind)])
        kinds = ("minsi", "maxsi", "or")
        self._note(line, *(
            code.op(f"vector.reduction <{kind}>, {value} : {value.type} into i64", "i64")
            for kind, value in zip(kinds, found, strict=True)
        ))  # fmt: skip

    def _note(self, line: Line, least: Val, most: Val, differing: Val) -> None:
        code = line.kernel.code
        zeros = code.binary("arith.minsi", code.unary("math.cttz", differing), code.i64(63))
        span = code.binary("arith.shrui", code.binary("arith.subi", most, least), zeros)
        bits = code.binary("arith.subi", code.i64(64), code.unary("math.ctlz", span))
        last = code.unary("math.ctlz", code.add(line.length, -1))
        places = code.binary("arith.subi", code.i64(64), last)
        more = code.add(code.add(bits, places), -64)
        left = code.binary("arith.maxsi", more, code.i64(0))
        gone = code.add(zeros, left)
        for number, value in ((LEAST, least), (GONE, gone), (PLACES, places), (LEFT, left)):
            code.store(value, code.at(line.facts, number, "i64"), 8)

    def word(self, line: Line, key: Val, places: Val) -> Val:
        code, lanes = line.kernel.code, key.lanes
        least, gone, bits = (code.splat(self.fact(line, n), lanes) for n in (LEAST, GONE, PLACES))
        rest = code.binary("arith.shrui", code.binary("arith.subi", key, least), gone)
        word = code.binary("arith.ori", code.binary("arith.shli", rest, bits), places)
        return code.binary("arith.xori", word, code.const(SIGN, word.type))

    # ---- runs of words that differ in bits left out at most

    def mend(self, line: Line) -> None:
        code = line.kernel.code
        left = code.compare("arith.cmpi", "sgt", self.fact(line, LEFT), code.i64(0))
        several = code.compare("arith.cmpi", "sgt", line.length, code.i64(1))
        with code.when(code.binary("arith.andi", several, left)):
            if self.k is None and not self.ends:
                self._runs(line, code.i64(0), line.length)
            else:
                first, last = self.wanted(line)
                with code.when(code.compare("arith.cmpi", "slt", first, last)):
                    self._runs(line, *self._alike(line, first, last))

    def _alike(self, line: Line, first: Val, last: Val) -> tuple[Val, Val]:
        """From where to where the words lie then that are equal so far to a wanted one; in order.

        Those that were left out of order may lie anywhere before.
        """
        code = line.kernel.code
        unit, target = self.host.unit, self.host.target
        mask = _ones(code, self.place_bits(line))
        low, high = (code.load(line.key(at), "i64", 8) for at in (first, code.add(last, -1)))
        low = code.binary("arith.andi", low, code.binary("arith.xori", mask, code.i64(-1)))
        high = code.binary("arith.ori", high, mask)
        room = code.compare("arith.cmpi", "sge", line.length, code.i64(least_count(target, "i64")))
        with code.choose(room, [code.i64(0), line.length]) as found:
            symbol = partition(unit, target, "i64")
            start = code.call(symbol, [line.home, line.length, low], "i64")
            assert start is not None
            rest = code.binary("arith.subi", line.length, start)
            most = code.compare("arith.cmpi", "eq", high, code.i64((1 << 63) - 1))
            few = code.compare("arith.cmpi", "slt", rest, code.i64(least_count(target, "i64")))
            whole = code.binary("arith.ori", most, few)
            split = code.binary("arith.xori", whole, code.const(True, "i1"))
            with code.choose(split, [rest]) as part:
                count = code.call(symbol, [line.key(start), rest, code.add(high, 1)], "i64")
                assert count is not None
                part.next = [count]
            found.next = [start, code.add(start, part.results[0])]
        start, end = found.results
        count = code.binary("arith.subi", end, start)
        ends = [code.i64(0), code.i64(-1), code.i64(0)]
        symbol = quicksort(unit, target, "i64")
        code.call(symbol, [line.key(start), count, most_levels(code, count), *ends, line.facts])
        return start, end

    def _runs(self, line: Line, low: Val, high: Val) -> None:
        code = line.kernel.code
        with code.while_loop([low]) as run:
            code.test(run, code.compare("arith.cmpi", "slt", run.carried[0], high))
            start = self._next_run(line, run.carried[0], high)
            with code.while_loop([code.add(start, 1)]) as grow:
                more = code.compare("arith.cmpi", "slt", grow.carried[0], high)
                at = code.select(more, grow.carried[0], start)
                same = self._equal_words(line, at, start)
                code.test(grow, code.binary("arith.andi", more, same))
                grow.next = [code.add(grow.carried[0], 1)]
            count = code.binary("arith.subi", grow.results[0], start)
            with code.when(code.compare("arith.cmpi", "sgt", count, code.i64(1))):
                self._sort_run(line, start, count)
            run.next = grow.results

    def _next_run(self, line: Line, start: Val, high: Val) -> Val:
        """The first place from `start` whose word may equal the next one, vectors at a time."""
        code, lanes = line.kernel.code, self.host.target.lanes(64)
        kind, none = vector("i64", lanes), code.i64(0)
        bits = code.splat(self.fact(line, PLACES), lanes)
        with code.while_loop([start, none]) as search:
            at, found = search.carried
            code.test(search, code.binary(
                "arith.andi", code.compare("arith.cmpi", "eq", found, none),
                code.compare("arith.cmpi", "slt", code.add(at, lanes), high),
            ))  # fmt: skip
            at, _ = search.carried
            keys = [
                code.binary("arith.shrui", code.load(line.key(code.add(at, k)), kind, 8), bits)
                for k in (0, 1)
            ]
            same = bits_of(code, code.compare("arith.cmpi", "eq", *keys))
            equal = code.op(f"arith.extui {same} : {same.type} to i64", "i64")
            miss = code.compare("arith.cmpi", "eq", equal, none)
            first = code.add(at, code.unary("math.cttz", equal))
            search.next = [code.select(miss, code.add(at, lanes), first), equal]
        return search.results[0]

    def _equal_words(self, line: Line, a: Val, b: Val) -> Val:
        """Whether the keys in two words are equal."""
        code, bits = line.kernel.code, self.fact(line, PLACES)
        keys = [
            code.binary("arith.shrui", code.load(line.key(at), "i64", 8), bits) for at in (a, b)
        ]
        return code.compare("arith.cmpi", "eq", *keys)

    def _sort_run(self, line: Line, start: Val, count: Val) -> None:
        """Sort a run by words of the bits left out, and put the words back together."""
        code, bits = line.kernel.code, self.fact(line, PLACES)
        mask = _ones(code, bits)
        home = line.key(start)
        head = code.binary(
            "arith.andi", code.load(home, "i64", 8), code.binary("arith.xori", mask, code.i64(-1))
        )
        zeros = code.binary("arith.subi", self.fact(line, GONE), self.fact(line, LEFT))
        low_mask = _ones(code, self.fact(line, LEFT))
        with code.loop(0, count, 1, [code.i64(SIGN), code.const(True, "i1")]) as loop:
            address = code.at(home, loop.i, "i64")
            place = code.binary("arith.andi", code.load(address, "i64", 8), mask)
            key = self.key(line, Index(place))
            rest = code.binary("arith.subi", key, self.fact(line, LEAST))
            rest = code.binary("arith.shrui", rest, zeros)
            rest = code.binary("arith.andi", rest, low_mask)
            word = code.binary("arith.ori", code.binary("arith.shli", rest, bits), place)
            word = code.binary("arith.xori", word, code.i64(SIGN))
            code.store(word, address, 8)
            before, rising = loop.carried
            rises = code.compare("arith.cmpi", "sle", before, word)
            loop.next = [word, code.binary("arith.andi", rising, rises)]
        # as equal keys are, whose places rise
        done = loop.results[1]
        with code.when(code.binary("arith.xori", done, code.const(True, "i1"))):
            symbol = quicksort(self.host.unit, self.host.target, "i64")
            ends = [code.i64(0), code.i64(-1), code.i64(0)]
            code.call(symbol, [home, count, most_levels(code, count), *ends, line.facts])
        with code.loop(0, count) as back:
            address = code.at(home, back.i, "i64")
            place = code.binary("arith.andi", code.load(address, "i64", 8), mask)
            code.store(code.binary("arith.ori", head, place), address, 8)


def _ones(code: Code, bits: Val) -> Val:
    """A word whose `bits` lowest bits are set."""
    return code.add(code.binary("arith.shli", code.i64(1), bits), -1)
