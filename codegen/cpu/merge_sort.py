"""Sorting twice what registers hold: two halves, which are then merged (Batcher 1968)."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.small_sort import (
    inside_row,
    masked_load,
    masked_store,
    most_rows,
    ordered,
    shuffle,
    small_sort,
    sorted_columns,
    sorted_lanes,
)
from graphmill.codegen.cpu.target import Target


def merge_sort(unit: Unit, target: Target, element: str) -> str:
    """The symbol of `void (home, count)`: sorts from one to two times what `small_sort` can."""
    symbol = f"gm.merge_sort_{element}x{target.lanes(int(element[1:]))}"
    if unit.once(symbol):
        arguments = [("home", "!llvm.ptr"), ("count", "i64")]
        code = Code(unit, symbol, arguments, traits=("noinline",))
        merge = _Merge(code, target, element)
        merge.halves()
        merge.face()
        merge.finish()
        code.finish()
    return symbol


class _Merge:
    def __init__(self, code: Code, target: Target, element: str) -> None:
        self.code, self.target, self.element = code, target, element
        self.lanes, self.rows = target.lanes(int(element[1:])), most_rows(target)
        self.size, self.kind = int(element[1:]) // 8, vector(element, self.lanes)
        self.few = self.rows * self.lanes
        self.home, self.count = code.args
        self.rest = code.add(self.count, -self.few)
        self.second = code.at(self.home, self.few, element)
        self.stack = code.alloca(element, 2 * self.few)

    def halves(self) -> None:
        """Sort the first keys, as many as go, and the others."""
        code, target = self.code, self.target
        whole = small_sort(code.unit, target, self.element, self.rows)
        code.call(whole, [self.home, self.home, code.i64(self.few)])
        half = code.compare("arith.cmpi", "sle", self.rest, code.i64(self.few // 2))
        with code.when(half):
            symbol = small_sort(code.unit, target, self.element, self.rows // 2)
            code.call(symbol, [self.second, self.second, self.rest])
        with code.otherwise():
            code.call(whole, [self.second, self.second, self.rest])

    def face(self) -> None:
        """Compare each key with that as far from the end; lower and upper ones on the stack."""
        code = self.code
        beyond = code.const((1 << 8 * self.size - 1) - 1, self.kind)
        for row in range(self.rows):
            a = self._load(self.home, row)
            other = self.rows - 1 - row
            address = code.at(self.second, other * self.lanes, self.element)
            b = masked_load(code, address, inside_row(code, self.rest, other, self.kind), beyond)
            b = shuffle(code, b, b, list(range(self.lanes))[::-1])
            for start, value in zip((0, self.few), ordered(code, a, b), strict=True):
                place = code.at(self.stack, start + row * self.lanes, self.element)
                code.store(value, place, self.size)

    def finish(self) -> None:
        """Put the lower keys in order, and the upper ones; a loop, for half as much code."""
        code = self.code
        end = code.op(
            f'llvm.inline_asm "", "=r,0" {code.i64(2 * self.few)} : (i64) -> i64', "i64"
        )  # unknown to LLVM
        with code.loop(0, end, self.few) as part:
            start = code.at(self.stack, part.i, self.element)
            rows = [self._load(start, row) for row in range(self.rows)]
            left = code.binary("arith.subi", self.count, part.i)
            for row, value in enumerate(sorted_lanes(code, sorted_columns(code, rows))):
                place = code.add(part.i, row * self.lanes)
                inside = inside_row(code, left, row, self.kind)
                masked_store(code, value, code.at(self.home, place, self.element), inside)

    def _load(self, start: Val, row: int) -> Val:
        address = self.code.at(start, row * self.lanes, self.element)
        return self.code.load(address, self.kind, self.size)
