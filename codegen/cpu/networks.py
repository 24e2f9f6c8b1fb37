"""Sorting integers in memory by a network of vector minima and maxima: no branch on a key.

Bitonic merging (Batcher 1968) whose first step meets mirrored places, so that every comparator
points upwards: what is beyond the end counts as largest and is left out, whatever the length.
"""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Val


def sort_columns(code: Code, keys: Val, count: Val, kind: str) -> None:
    """Sort every lane of `count` vectors of type `kind` at `keys` by itself."""
    _Network(code, keys, count, kind).run(along=False)


def sort_vectors(code: Code, keys: Val, count: Val, kind: str) -> None:
    """Sort all elements of `count` vectors of type `kind` at `keys`, lane after lane."""
    _Network(code, keys, count, kind).run(along=True)


class _Network:
    def __init__(self, code: Code, keys: Val, count: Val, kind: str) -> None:
        self.code, self.keys, self.count, self.kind = code, keys, count, kind
        like = Val("", kind)
        self.lanes, self.element = like.lanes, like.element
        self.bytes = self.lanes * int(self.element[1:]) // 8

    def run(self, *, along: bool) -> None:
        """Merge runs of 1, 2, 4, … vectors."""
        code = self.code
        if along:
            self._within(sorting=True)
        before = code.binary("arith.subi", self.count, code.i64(1))
        levels = code.binary("arith.subi", code.i64(64), code.unary("math.ctlz", before))
        some = code.compare("arith.cmpi", "sgt", self.count, code.i64(1))
        levels = code.select(some, levels, code.i64(0))
        with code.loop(0, levels) as level:
            half = code.binary("arith.shli", code.i64(1), level.i)
            self._mirrored(half, along)
            with code.loop(0, level.i) as step:
                self._apart(code.binary("arith.shrui", half, code.add(step.i, 1)))
            if along:
                self._within(sorting=False)

    def _mirrored(self, half: Val, along: bool) -> None:
        """In each pair of runs of `half` vectors, compare place i with place i from the end."""
        code, size = self.code, self.code.mul(half, 2)
        with code.loop(0, self.count, size) as block:
            last = code.add(code.add(block.i, size), -1)
            outside = code.add(code.binary("arith.subi", last, self.count), 1)
            with code.loop(code.binary("arith.maxsi", outside, code.i64(0)), half) as place:
                high = code.binary("arith.subi", last, place.i)
                self._compare(code.add(block.i, place.i), high, along)

    def _apart(self, distance: Val) -> None:
        """Compare places `distance` vectors apart, in blocks of twice as many."""
        code = self.code
        with code.loop(0, self.count, code.mul(distance, 2)) as block:
            second = code.add(block.i, distance)
            room = code.binary("arith.subi", self.count, second)
            with code.loop(0, code.binary("arith.minsi", distance, room)) as place:
                self._compare(code.add(block.i, place.i), code.add(second, place.i), False)

    def _compare(self, low: Val, high: Val, reversed_: bool) -> None:
        code = self.code
        a, b = self._load(low), self._load(high)
        order = range(self.lanes - 1, -1, -1)
        if reversed_:
            b = self._shuffle(b, b, list(order))
        least, most = code.binary("arith.minsi", a, b), code.binary("arith.maxsi", a, b)
        if reversed_:
            most = self._shuffle(most, most, list(order))
        self._store(least, low)
        self._store(most, high)

    # ---- inside a vector

    def _within(self, *, sorting: bool) -> None:
        """Sort each vector, or only merge it: its halves then are bitonic already."""
        steps = []
        size = 2 if sorting else 2 * self.lanes
        while size <= 2 * self.lanes:
            distance = size // 2
            if sorting and size <= self.lanes:
                steps.append([lane ^ (size - 1) for lane in range(self.lanes)])
            if size <= self.lanes or not sorting:
                while distance > 1:
                    distance //= 2
                    steps.append([lane ^ distance for lane in range(self.lanes)])
            size *= 2
        with self.code.loop(0, self.count) as place:
            value = self._load(place.i)
            for partner in steps:
                value = self._exchange(value, partner)
            self._store(value, place.i)

    def _exchange(self, value: Val, partner: list[int]) -> Val:
        """Each lane and its partner: the lower lane keeps the smaller value."""
        code = self.code
        other = self._shuffle(value, value, partner)
        least, most = (
            code.binary("arith.minsi", value, other),
            code.binary("arith.maxsi", value, other),
        )
        picked = [lane if lane < p else lane + self.lanes for lane, p in enumerate(partner)]
        return self._shuffle(least, most, picked)

    def _shuffle(self, a: Val, b: Val, order: list[int]) -> Val:
        return self.code.op(f"vector.shuffle {a}, {b} {order} : {a.type}, {b.type}", a.type)

    def _address(self, place: Val) -> Val:
        return self.code.at(self.keys, self.code.mul(place, self.lanes), self.element)

    def _load(self, place: Val) -> Val:
        return self.code.load(self._address(place), self.kind, self.bytes)

    def _store(self, value: Val, place: Val) -> None:
        self.code.store(value, self._address(place), self.bytes)
