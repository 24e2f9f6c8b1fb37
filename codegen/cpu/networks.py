"""Sorting columns of integers in memory by a network of vector minima and maxima.

Bitonic merging (Batcher 1968) whose first step meets mirrored places, so that every comparator
points upwards: what is beyond the end counts as largest and is left out, whatever the length.
"""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Val


def sort_columns(code: Code, keys: Val, count: Val, kind: str) -> None:
    """Sort every lane of `count` vectors of type `kind` at `keys` by itself."""
    _Network(code, keys, count, kind).run()


class _Network:
    def __init__(self, code: Code, keys: Val, count: Val, kind: str) -> None:
        self.code, self.keys, self.count, self.kind = code, keys, count, kind
        like = Val("", kind)
        self.lanes, self.element = like.lanes, like.element
        self.bytes = self.lanes * int(self.element[1:]) // 8

    def run(self) -> None:
        """Merge runs of 1, 2, 4, … vectors."""
        code = self.code
        before = code.binary("arith.subi", self.count, code.i64(1))
        levels = code.binary("arith.subi", code.i64(64), code.unary("math.ctlz", before))
        some = code.compare("arith.cmpi", "sgt", self.count, code.i64(1))
        levels = code.select(some, levels, code.i64(0))
        with code.loop(0, levels) as level:
            half = code.binary("arith.shli", code.i64(1), level.i)
            self._mirrored(half)
            with code.loop(0, level.i) as step:
                self._apart(code.binary("arith.shrui", half, code.add(step.i, 1)))

    def _mirrored(self, half: Val) -> None:
        """In each pair of runs of `half` vectors, compare place i with place i from the end."""
        code, size = self.code, self.code.mul(half, 2)
        with code.loop(0, self.count, size) as block:
            last = code.add(code.add(block.i, size), -1)
            outside = code.add(code.binary("arith.subi", last, self.count), 1)
            with code.loop(code.binary("arith.maxsi", outside, code.i64(0)), half) as place:
                high = code.binary("arith.subi", last, place.i)
                self._compare(code.add(block.i, place.i), high)

    def _apart(self, distance: Val) -> None:
        """Compare places `distance` vectors apart, in blocks of twice as many."""
        code = self.code
        with code.loop(0, self.count, code.mul(distance, 2)) as block:
            second = code.add(block.i, distance)
            room = code.binary("arith.subi", self.count, second)
            with code.loop(0, code.binary("arith.minsi", distance, room)) as place:
                self._compare(code.add(block.i, place.i), code.add(second, place.i))

    def _compare(self, low: Val, high: Val) -> None:
        code = self.code
        a, b = self._load(low), self._load(high)
        self._store(code.binary("arith.minsi", a, b), low)
        self._store(code.binary("arith.maxsi", a, b), high)

    def _address(self, place: Val) -> Val:
        return self.code.at(self.keys, self.code.mul(place, self.lanes), self.element)

    def _load(self, place: Val) -> Val:
        return self.code.load(self._address(place), self.kind, self.bytes)

    def _store(self, value: Val, place: Val) -> None:
        self.code.store(value, self._address(place), self.bytes)
