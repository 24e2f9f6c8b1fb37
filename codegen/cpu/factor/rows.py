"""Rows of a matrix in memory as registers, and what is taken off a few of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from graphmill.codegen.cpu.elem import register_type
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.registers import shuffled
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dtypes import DType
from graphmill.records import record

# the parts of factors of some rows by which row k is multiplied
Multipliers = Callable[[Val], list[list[Val]]]


@record
class Numbers:
    """The numbers of a matrix: real ones, or complex ones as two `parts` side by side."""

    dtype: DType
    target: Target

    @property
    def element(self) -> str:
        return register_type(self.dtype)

    @property
    def parts(self) -> int:
        return 2 if self.dtype.is_complex else 1

    @property
    def bits(self) -> int:
        return int(self.element[1:])

    @property
    def size(self) -> int:
        """Bytes of a part."""
        return self.bits // 8

    @property
    def reals(self) -> int:
        """Parts in a register."""
        return self.target.lanes(self.bits)

    @property
    def lanes(self) -> int:
        """Numbers that are worked on together."""
        return max(2, self.reals // self.parts)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and vectors of lanes whose sums are in registers."""
        if self.target.registers >= 32 and self.parts == 1:
            return 4, 4
        return (4, 2) if self.target.registers >= 32 or self.parts == 1 else (2, 2)

    @property
    def name(self) -> str:
        return self.dtype.name


class Rows:
    """Rows `stride` reals apart from `base` on, inside one function."""

    def __init__(self, code: Code, numbers: Numbers, base: Val, stride: Val) -> None:
        self.code, self.numbers, self.base, self.stride = code, numbers, base, stride
        self.kind = vector(numbers.element, numbers.lanes * numbers.parts)

    def at(self, row: Val, column: Val | int) -> Val:
        """The address of a number."""
        code, numbers = self.code, self.numbers
        if isinstance(column, int):
            column = code.i64(column)
        place = code.add(code.mul(row, self.stride), code.mul(column, numbers.parts))
        return code.at(self.base, place, numbers.element)

    def load(self, address: Val, vectors: int) -> list[Val]:
        """Vectors side by side."""
        return [
            self.code.load(self.beside(address, v), self.kind, self.numbers.size)
            for v in range(vectors)
        ]

    def store(self, values: Sequence[Val], address: Val) -> None:
        for v, value in enumerate(values):
            self.code.store(value, self.beside(address, v), self.numbers.size)

    def beside(self, address: Val, vectors: int) -> Val:
        numbers = self.numbers
        return self.code.at(address, vectors * numbers.lanes * numbers.parts, numbers.element)

    def number(self, address: Val) -> list[Val]:
        """The parts of the number there."""
        numbers = self.numbers
        return [
            self.code.load(
                self.code.at(address, part, numbers.element), numbers.element, numbers.size
            )
            for part in range(numbers.parts)
        ]

    def put(self, parts: Sequence[Val], address: Val) -> None:
        numbers = self.numbers
        for n, part in enumerate(parts):
            self.code.store(part, self.code.at(address, n, numbers.element), numbers.size)

    def less(
        self, count: int, vectors: int, row: Val, column: Val, low: Val, high: Val,
        multipliers: Multipliers,
    ) -> list[list[Val]]:  # fmt: skip
        """`count` rows from `row` on, less the rows `low … high` times their multipliers."""
        code, parts = self.code, self.numbers.parts
        start = [self.load(self.at(code.add(row, n), column), vectors) for n in range(count)]
        flat = [v for values in start for v in values]
        if parts == 2:  # what is to be turned by i
            flat += [code.const(0.0, self.kind)] * len(flat)
        with code.loop(low, high, 1, flat) as loop:
            others = self.load(self.at(loop.i, column), vectors)
            most = len(loop.carried) // parts
            straight, turned = [], []
            for n, factor in enumerate(multipliers(loop.i)):
                off = self._spread(code.unary("arith.negf", factor[0]))
                for v, other in enumerate(others):
                    straight.append(self.fma(off, other, loop.carried[n * vectors + v]))
                if parts == 2:
                    off = self._spread(factor[1])
                    for v, other in enumerate(others):
                        turned.append(self.fma(off, other, loop.carried[most + n * vectors + v]))
            loop.next = [*straight, *turned]
        sums = loop.results
        if parts == 2:
            half = len(sums) // 2
            swapped = (self._swapped(v) for v in sums[half:])
            sums = [
                self.fma(v, self._signs(1, -1), s)
                for v, s in zip(swapped, sums[:half], strict=True)
            ]
        return [list(sums[n * vectors : (n + 1) * vectors]) for n in range(count)]

    def times(self, value: Val, factor: Sequence[Val]) -> Val:
        """A vector times a number."""
        product = self.code.binary("arith.mulf", value, self._spread(factor[0]))
        if len(factor) == 1:
            return product
        turned = self.code.binary("arith.mulf", self._swapped(value), self._signs(-1, 1))
        return self.fma(turned, self._spread(factor[1]), product)

    def divided(self, value: Val, real: Val) -> Val:
        """A vector divided by a real number."""
        return self.code.binary("arith.divf", value, self._spread(real))

    def fma(self, a: Val, b: Val, c: Val) -> Val:
        return multiply_add(self.code, a, b, c)

    def _spread(self, value: Val) -> Val:
        return self.code.splat(value, self.numbers.lanes * self.numbers.parts)

    def _swapped(self, value: Val) -> Val:
        order = [lane ^ 1 for lane in range(value.lanes)]
        return shuffled(self.code, value, value, order)

    def _signs(self, even: float, odd: float) -> Val:
        return self.code.const_lanes([even, odd] * self.numbers.lanes, self.kind)

    def strips(self, low: Val, high: Val, run: Callable[[Val, int], None]) -> None:
        """`run(column, vectors)` on columns `low … high`, whole vectors apart."""
        code, widest = self.code, self.numbers.tile[1]
        for vectors in (widest, 1) if widest > 1 else (1,):
            width = vectors * self.numbers.lanes
            count = code.binary(
                "arith.divsi", code.binary("arith.subi", high, low), code.i64(width)
            )
            end = code.add(low, code.mul(count, width))
            with code.loop(low, end, width) as loop:
                run(loop.i, vectors)
            low = end

    def tiles(self, low: Val, high: Val, run: Callable[[Val, int], None]) -> None:
        """`run(row, count)` on rows `low … high`: some at a time, then one."""
        code, most = self.code, self.numbers.tile[0]
        whole = code.binary("arith.divsi", code.binary("arith.subi", high, low), code.i64(most))
        end = code.add(low, code.mul(whole, most))
        with code.loop(low, end, most) as loop:
            run(loop.i, most)
        with code.loop(end, high) as loop:
            run(loop.i, 1)


def multiply_add(code: Code, a: Val, b: Val, c: Val) -> Val:
    """`a * b + c`, fused where the target has FMA."""
    text = f"llvm.intr.fmuladd({a}, {b}, {c}) : ({a.type}, {a.type}, {a.type}) -> {a.type}"
    return code.op(text, a.type)


# exponents of numbers that are far from 1, and by which they are moved up and down
FAR = {32: (60, 90, 75), 64: (500, 600, 600)}


class Scaled:
    """The reciprocal of a complex number far from overflow, and a power of two to multiply by.

    It is three reals in memory; z / w = z · re·im of it, times the power.
    """

    WORDS = 3

    def __init__(self, code: Code, numbers: Numbers) -> None:
        self.code, self.numbers = code, numbers

    @cached_property
    def _limits(self) -> list[Val]:
        far, up, down = FAR[self.numbers.bits]
        values = (2.0**-far, 2.0**far, 2.0**up, 2.0**-down, 1.0)
        return [self.code.const(v, self.numbers.element) for v in values]

    def of(self, parts: Sequence[Val]) -> list[Val]:
        """Its three reals."""
        code, (small, large, up, down, one) = self.code, self._limits
        size = code.binary("arith.addf", *(code.unary("math.absf", part) for part in parts))
        power = code.select(code.compare("arith.cmpf", "olt", size, small), up, one)
        power = code.select(code.compare("arith.cmpf", "ogt", size, large), down, power)
        re, im = (code.binary("arith.mulf", part, power) for part in parts)
        norm = multiply_add(code, re, re, code.binary("arith.mulf", im, im))
        return [
            code.binary("arith.divf", re, norm),
            code.unary("arith.negf", code.binary("arith.divf", im, norm)),
            power,
        ]
