"""Columns of a matrix eliminated by row exchanges, turned so that they lie in one piece each.

A column of complex numbers is two, its real and its imaginary parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.factor.rows import Numbers, Rows, Scaled, multiply_add

ARGS = (
    ("work", "!llvm.ptr"), ("stride", "i64"), ("panel", "!llvm.ptr"), ("tall", "i64"),
    ("swaps", "!llvm.ptr"), ("inverse", "!llvm.ptr"), ("first", "i64"), ("width", "i64"),
    ("rows", "i64"), ("kept", "i64"),
)  # fmt: skip


def factor_panel(unit: Unit, numbers: Numbers) -> str:
    """The symbol of a function of `ARGS` that eliminates `width` columns from `first` on.

    The rows from `first` to `rows` are read, of which those to `kept` are written back; the panel's
    columns, `tall` reals a part, keep the multipliers of all. `swaps[k]` becomes the row that k is
    exchanged with, `inverse[k]` the reciprocal of a complex pivot.
    """
    symbol = f"gm.lu_panel_{numbers.name}x{numbers.reals}"
    if unit.once(symbol):
        code = Code(unit, symbol, ARGS, traits=("noinline",))
        _Panel(code, numbers).run()
        code.finish()
    return symbol


class _Panel:
    def __init__(self, code: Code, numbers: Numbers) -> None:
        work, stride, self.panel, self.tall, self.swaps, self.inverse, *sizes = code.args
        self.first, self.width, self.rows, self.kept = sizes
        self.code, self.numbers = code, numbers
        self.matrix = Rows(code, numbers, work, stride)
        self.kind = vector(numbers.element, numbers.reals)

    def run(self) -> None:
        code = self.code
        self._turn_in()
        with code.loop(0, self.width) as step:
            row = code.add(self.first, step.i)
            start = code.binary("arith.andi", row, code.i64(-self.numbers.reals))
            other = self._largest(step.i, row, start)
            code.store(other, code.at(self.swaps, row, "i64"), 8)
            self._exchange(row, other)
            self._clear(step.i, row, start)
        self._turn_back()

    def place(self, column: Val, part: int, row: Val) -> Val:
        """The address of a part of a number of the panel."""
        code, numbers = self.code, self.numbers
        line = code.mul(column, numbers.parts)
        line = code.mul(code.add(line, part), self.tall)
        return code.at(self.panel, code.add(line, row), numbers.element)

    def _number(self, column: Val, row: Val) -> list[Val]:
        return [self._real(self.place(column, p, row)) for p in range(self.numbers.parts)]

    def _real(self, address: Val) -> Val:
        return self.code.load(address, self.numbers.element, self.numbers.size)

    def _vectors(self, column: Val, row: Val) -> list[Val]:
        return [
            self.code.load(self.place(column, p, row), self.kind, self.numbers.size)
            for p in range(self.numbers.parts)
        ]

    def _write(self, values: Sequence[Val], column: Val, row: Val) -> None:
        for part, value in enumerate(values):
            self.code.store(value, self.place(column, part, row), self.numbers.size)

    def _turn_in(self) -> None:
        code, zero = self.code, self.code.const(0.0, self.numbers.element)

        def take(row: Val) -> Callable[[Val], list[Val]]:
            return lambda column: self.matrix.number(
                self.matrix.at(row, code.add(self.first, column))
            )

        with code.loop(self.first, self.rows) as row:
            taken = take(row.i)
            with code.loop(0, self.width) as column:
                self._write(taken(column.i), column.i, row.i)
        with code.loop(0, self.width) as column, code.loop(self.rows, self.tall) as row:
            self._write([zero] * self.numbers.parts, column.i, row.i)

    def _turn_back(self) -> None:
        code = self.code
        with code.loop(self.first, self.kept) as row, code.loop(0, self.width) as column:
            target = self.matrix.at(row.i, code.add(self.first, column.i))
            self.matrix.put(self._number(column.i, row.i), target)

    def _below(self, start: Val, row: Val, least: str) -> tuple[Val, Val]:
        """The numbers of the rows from `start` on, and which come behind `row` (or with it)."""
        code, kind = self.code, vector(f"i{self.numbers.bits}", self.numbers.reals)

        def spread(value: Val) -> Val:
            if kind.endswith("i32>"):
                value = code.op(f"arith.trunci {value} : i64 to i32", "i32")
            return code.splat(value, self.numbers.reals)

        steps = code.const_lanes(range(self.numbers.reals), kind)
        places = code.binary("arith.addi", spread(start), steps)
        return places, code.compare("arith.cmpi", least, places, spread(row))

    def _largest(self, column: Val, row: Val, start: Val) -> Val:
        """The row from `row` on with the largest number: |re| + |im|, the first one of equals."""
        code, numbers = self.code, self.numbers
        element, integer = numbers.element, f"i{numbers.bits}"
        none = code.const(-1.0, self.kind)
        found, _ = self._below(row, row, "sge")
        first = code.op(
            f"vector.extract {found}[0] : {integer} from {found.type}", integer
        )  # where all are NaN
        with code.loop(start, self.rows, numbers.reals, [none, code.splat(first, found.lanes)]) as (
            loop
        ):
            sizes = [code.unary("math.absf", v) for v in self._vectors(column, loop.i)]
            size = sizes[0] if len(sizes) == 1 else code.binary("arith.addf", *sizes)
            places, behind = self._below(loop.i, row, "sge")
            _, outside = self._below(loop.i, self.rows, "sge")
            size = code.select(behind, size, none)
            size = code.select(outside, none, size)
            more = code.compare("arith.cmpf", "ogt", size, loop.carried[0])
            loop.next = [
                code.select(more, size, loop.carried[0]), code.select(more, places, loop.carried[1])
            ]  # fmt: skip
        best, where = loop.results
        most = code.op(f"vector.reduction <maxnumf>, {best} : {best.type} into {element}", element)
        same = code.compare("arith.cmpf", "oeq", best, code.splat(most, best.lanes))
        where = code.select(same, where, code.const(2**31 - 1, where.type))
        least = code.op(f"vector.reduction <minsi>, {where} : {where.type} into {integer}", integer)
        if numbers.bits == 64:
            return least
        return code.op(f"arith.extsi {least} : i32 to i64", "i64")

    def _exchange(self, row: Val, other: Val) -> None:
        code = self.code
        with code.loop(0, self.width) as column:
            one, two = self._number(column.i, row), self._number(column.i, other)
            self._write(two, column.i, row)
            self._write(one, column.i, other)

    def _clear(self, column: Val, row: Val, start: Val) -> None:
        """Divide a column by its pivot and take it off those to its right."""
        code, numbers = self.code, self.numbers
        divide = self._divider(self._number(column, row), row)
        with code.loop(start, self.rows, numbers.reals) as loop:
            _, behind = self._below(loop.i, row, "sgt")
            old = self._vectors(column, loop.i)
            new = divide(old)
            chosen = [code.select(behind, a, b) for a, b in zip(new, old, strict=True)]
            self._write(chosen, column, loop.i)
        with code.loop(code.add(column, 1), self.width) as other:
            factor = [code.splat(v, numbers.reals) for v in self._number(other.i, row)]
            with code.loop(start, self.rows, numbers.reals) as loop:
                _, behind = self._below(loop.i, row, "sgt")
                old = self._vectors(other.i, loop.i)
                new = self._less(old, self._vectors(column, loop.i), factor)
                chosen = [code.select(behind, a, b) for a, b in zip(new, old, strict=True)]
                self._write(chosen, other.i, loop.i)

    def _divider(self, pivot: Sequence[Val], row: Val) -> Callable[[Sequence[Val]], list[Val]]:
        """Division by a pivot; below one of 0 there is nothing to divide."""
        code, numbers = self.code, self.numbers
        zero, one = (code.const(x, numbers.element) for x in (0.0, 1.0))
        nothing = [code.compare("arith.cmpf", "oeq", part, zero) for part in pivot]
        if len(pivot) == 1:
            real = code.splat(code.select(nothing[0], one, pivot[0]), numbers.reals)
            return lambda values: [code.binary("arith.divf", values[0], real)]
        scaled = Scaled(code, numbers).of(pivot)
        place = code.mul(row, Scaled.WORDS)
        for n, value in enumerate(scaled):
            address = code.at(code.at(self.inverse, place, numbers.element), n, numbers.element)
            code.store(value, address, numbers.size)
        both = code.binary("arith.andi", *nothing)
        re, im, power = (code.splat(code.select(both, one, v), numbers.reals) for v in scaled)

        def divide(values: Sequence[Val]) -> list[Val]:
            product = [code.const(0.0, self.kind)] * 2
            turned = [code.unary("arith.negf", values[1]), values[0]]
            for factor, parts in ((re, values), (im, turned)):
                product = [
                    multiply_add(code, v, factor, p) for v, p in zip(parts, product, strict=True)
                ]
            return [code.binary("arith.mulf", p, power) for p in product]

        return divide

    def _less(
        self, values: Sequence[Val], taken: Sequence[Val], factor: Sequence[Val]
    ) -> list[Val]:
        """Values less others times a number."""
        code = self.code
        off = [code.unary("arith.negf", f) for f in factor]
        if len(values) == 1:
            return [multiply_add(code, taken[0], off[0], values[0])]
        re = multiply_add(code, taken[0], off[0], values[0])
        re = multiply_add(code, taken[1], factor[1], re)
        im = multiply_add(code, taken[0], off[1], values[1])
        return [re, multiply_add(code, taken[1], off[0], im)]
