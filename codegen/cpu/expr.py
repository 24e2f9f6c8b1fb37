"""Operator syntax over `emit` values, so that numerical code reads as its formulas.

A `Num` is a scalar or vector of floats, integers or truth values being computed. `x * y + 1.0`
emits the ops of its element type; Python numbers become hoisted constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.target import Target
from graphmill.records import record


@record
class Scope:
    """Where expressions are written: the function, and whether the target fuses multiply-add."""

    code: Code
    fused: bool
    estimates: int = 0  # bits of a vector of which an instruction estimates 1/sqrt, at most

    @property
    def looks_up(self) -> bool:
        """Whether the lanes of registers are looked up in tables in registers: AVX-512."""
        return self.estimates == 512 and self.fused

    @staticmethod
    def of(code: Code, target: Target) -> Scope:
        """The scope of `code` on `target`."""
        bits = target.vector_bits if target.is_x86 else 0
        return Scope(code, target.fuses, bits)


@record(eq=False)
class Num:
    """A value with operators; `//` and `%` are left out since languages disagree on them."""

    scope: Scope
    val: Val

    @property
    def is_float(self) -> bool:
        """Whether the elements are floats."""
        return self.val.element.startswith("f")

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return int(self.val.element[1:])

    @property
    def lanes(self) -> int:
        """Vector lanes; 0 for a scalar."""
        return self.val.lanes

    def const(self, value: float) -> Num:
        """A constant of this value's type."""
        return Num(self.scope, self.scope.code.const(value, self.val.type))

    def _coerce(self, other: Num | float) -> Num:
        return other if isinstance(other, Num) else self.const(other)

    def _binary(self, other: Num | float, of_float: str, of_int: str) -> Num:
        name = of_float if self.is_float else of_int
        return Num(self.scope, self.scope.code.binary(name, self.val, self._coerce(other).val))

    def __add__(self, other: Num | float) -> Num:
        return self._binary(other, "arith.addf", "arith.addi")

    __radd__ = __add__

    def __sub__(self, other: Num | float) -> Num:
        return self._binary(other, "arith.subf", "arith.subi")

    def __rsub__(self, other: float) -> Num:
        return self.const(other) - self

    def __mul__(self, other: Num | float) -> Num:
        return self._binary(other, "arith.mulf", "arith.muli")

    __rmul__ = __mul__

    def __truediv__(self, other: Num | float) -> Num:
        return self._binary(other, "arith.divf", "arith.divsi")

    def __rtruediv__(self, other: float) -> Num:
        return self.const(other) / self

    def __neg__(self) -> Num:
        return self.unary("arith.negf") if self.is_float else self.const(0) - self

    def __and__(self, other: Num | int) -> Num:
        return self._binary(other, "", "arith.andi")

    def __or__(self, other: Num | int) -> Num:
        return self._binary(other, "", "arith.ori")

    def __xor__(self, other: Num | int) -> Num:
        return self._binary(other, "", "arith.xori")

    def __invert__(self) -> Num:
        return self ^ (1 if self.bits == 1 else -1)

    def __lshift__(self, count: Num | int) -> Num:
        return self._binary(count, "", "arith.shli")

    def __rshift__(self, count: Num | int) -> Num:
        """Arithmetic shift: keeps the sign."""
        return self._binary(count, "", "arith.shrsi")

    def shr(self, count: Num | int) -> Num:
        """Logical shift right."""
        return self._binary(count, "", "arith.shrui")

    def _compare(self, other: Num | float, of_float: str, of_int: str) -> Num:
        op, name = ("arith.cmpf", of_float) if self.is_float else ("arith.cmpi", of_int)
        return Num(self.scope, self.scope.code.compare(op, name, self.val, self._coerce(other).val))

    def __lt__(self, other: Num | float) -> Num:
        return self._compare(other, "olt", "slt")

    def __le__(self, other: Num | float) -> Num:
        return self._compare(other, "ole", "sle")

    def __gt__(self, other: Num | float) -> Num:
        return self._compare(other, "ogt", "sgt")

    def __ge__(self, other: Num | float) -> Num:
        return self._compare(other, "oge", "sge")

    def eq(self, other: Num | float) -> Num:
        """Equal; false for NaN."""
        return self._compare(other, "oeq", "eq")

    def ne(self, other: Num | float) -> Num:
        """Not equal; true for NaN."""
        return self._compare(other, "une", "ne")

    def ult(self, other: Num | int) -> Num:
        """Less, as unsigned integers."""
        return self._compare(other, "", "ult")

    def is_nan(self) -> Num:
        """Whether a float is NaN."""
        return self._compare(self, "uno", "")

    def unary(self, name: str) -> Num:
        """The MLIR op `name` of this value."""
        return Num(self.scope, self.scope.code.unary(name, self.val))

    def binary(self, name: str, other: Num | float) -> Num:
        """The MLIR op `name` of two values."""
        return self._binary(other, name, name)

    def convert(self, name: str, element: str) -> Num:
        """The MLIR conversion `name` to `element`."""
        if self.val.element == element:
            return self
        return Num(self.scope, self.scope.code.convert(name, self.val, element))

    def as_int(self) -> Num:
        """The bits of a float as an integer."""
        return self.convert("arith.bitcast", f"i{self.bits}")

    def as_float(self) -> Num:
        """The bits of an integer as a float."""
        return self.convert("arith.bitcast", f"f{self.bits}")

    def to_float(self) -> Num:
        """A signed integer rounded to the float of its width."""
        return self.convert("arith.sitofp", f"f{self.bits}")

    def abs(self) -> Num:
        """The magnitude of a float."""
        return self.unary("math.absf")

    def sqrt(self) -> Num:
        """The correctly rounded square root."""
        return self.unary("math.sqrt")

    def rint(self) -> Num:
        """Rounded to the nearest integer, halves to even."""
        return self.unary("math.roundeven")

    def copysign(self, sign: Num | float) -> Num:
        """This magnitude with the sign of `sign`."""
        return self._binary(sign, "math.copysign", "")

    def max(self, other: Num | float) -> Num:
        """`other < self ? self : other`: one instruction; `other` where either is NaN."""
        other = self._coerce(other)
        return where(other < self, self, other)

    def min(self, other: Num | float) -> Num:
        """`self < other ? self : other`: one instruction; `other` where either is NaN."""
        other = self._coerce(other)
        return where(self < other, self, other)

    def clamp(self, low: float, high: float) -> Num:
        """Within [low, high]; NaN stays NaN."""
        return self.const(low).max(self.const(high).min(self))

    def any(self) -> Num:
        """Whether any lane of a truth vector holds, as a scalar i1."""
        if not self.lanes:
            return self
        text = f"vector.reduction <or>, {self.val} : {self.val.type} into i1"
        return Num(self.scope, self.scope.code.op(text, "i1"))


def where(condition: Num, a: Num | float, b: Num | float) -> Num:
    """`condition ? a : b`, lane by lane; one of `a` and `b` may be a Python number."""
    if not isinstance(a, Num):
        assert isinstance(b, Num)
        a = b.const(a)
    b = a._coerce(b)
    return Num(a.scope, a.scope.code.select(condition.val, a.val, b.val))


def fma(a: Num, b: Num | float, c: Num | float) -> Num:
    """`a * b + c`, in one rounding where the target has the instruction, in two elsewhere."""
    b, c = a._coerce(b), a._coerce(c)
    kind = a.val.type
    text = f"llvm.intr.fmuladd({a.val}, {b.val}, {c.val}) : ({kind}, {kind}, {kind}) -> {kind}"
    return Num(a.scope, a.scope.code.op(text, kind))


def corrected(result: Num, wrong: Num, slow: Callable[[], Num]) -> Num:
    """`result`, but `slow()` where `wrong` holds: behind a branch, taken if it does in any lane."""
    with result.scope.code.choose(wrong.any().val, [result.val]) as this:
        this.next = [where(wrong, slow(), result).val]
    return Num(result.scope, this.results[0])


def poly(x: Num, coefficients: Sequence[float]) -> Num:
    """`c[0] + c[1] x + c[2] x² + …` by Horner's rule, the last of long ones in two halves.

    The halves shorten the chain of dependent operations; the first terms, which decide the
    rounding error, stay in order.
    """
    head, rest = coefficients[:3], coefficients[3:]
    if len(rest) <= 4:
        return _horner(x, coefficients)
    square = x * x
    tail = fma(_horner(square, rest[1::2]), x, _horner(square, rest[0::2]))
    return _horner(x, head, tail)


def _horner(x: Num, coefficients: Sequence[float], start: Num | None = None) -> Num:
    last = len(coefficients) - 1 if start is None else len(coefficients)
    result = x.const(coefficients[-1]) if start is None else start
    for c in reversed(coefficients[:last]):
        result = fma(result, x, c)
    return result


def libm(symbol: str, args: Sequence[Num], mask: Num, otherwise: Num) -> Num:
    """`otherwise`, but where `mask` holds the C library's `symbol(args…)`, called lane by lane.

    The calls stand in a function of their own, behind one branch that is not taken while no
    lane asks for them.
    """
    scope, kind = args[0].scope, args[0].val.type
    code, lanes = scope.code, args[0].lanes
    code.unit.declare(symbol, [args[0].val.element] * len(args), args[0].val.element)
    with code.choose(mask.any().val, [otherwise.val]) as this:
        values = [arg.val for arg in args]
        if lanes:
            symbol = _by_lane(code.unit, symbol, values)
            flags = code.convert("arith.extui", mask.val, "i8")
            values = [*values, otherwise.val, flags]
        value = code.call(symbol, values, kind)
        assert value is not None
        this.next = [value]
    return Num(scope, this.results[0])


def _by_lane(unit: Unit, symbol: str, args: Sequence[Val]) -> str:
    """A function of this unit that calls `symbol` for each lane with a flag; written once."""
    like, lanes = args[0], args[0].lanes
    name = f"gm.{symbol}_{lanes}"  # no user function has a dot in its name
    if not unit.once(name):
        return name
    element, step = like.element, int(like.element[1:]) // 8
    inputs = [(f"x{i}", like.type) for i in range(len(args))]
    inputs += [("otherwise", like.type), ("flags", vector("i8", lanes))]
    code = Code(unit, name, inputs, like.type, traits=("noinline", "cold", "optnone"))
    *slots, result = (code.alloca(element, lanes) for _ in inputs[:-1])
    flags = code.alloca("i8", lanes)
    for slot, value in zip((*slots, result, flags), code.args, strict=True):
        code.store(value, slot, 1 if slot is flags else step)
    with code.loop(0, lanes) as lane:
        flag = code.load(code.at(flags, lane.i, "i8"), "i8", 1)
        with code.when(code.compare("arith.cmpi", "ne", flag, code.const(0, "i8"))):
            values = [code.load(code.at(slot, lane.i, element), element, step) for slot in slots]
            one = code.call(symbol, values, element)
            assert one is not None
            code.store(one, code.at(result, lane.i, element), step)
    code.finish(code.load(result, like.type, step))
    return name


def exact_fma(a: Num, b: Num, c: Num) -> Num:
    """`a * b + c` in one rounding; for fused targets only, elsewhere it is a library call."""
    text = f"math.fma {a.val}, {b.val}, {c.val} : {a.val.type}"
    return Num(a.scope, a.scope.code.op(text, a.val.type))


def two_sum(a: Num, b: Num) -> tuple[Num, Num]:
    """The rounded sum and its error, exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fast_two_sum(a: Num, b: Num) -> tuple[Num, Num]:
    """`two_sum` for |a| >= |b| (Dekker)."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Num, b: Num) -> tuple[Num, Num]:
    """The rounded product and its error (by Dekker's splitting where nothing is fused)."""
    product = a * b
    if a.scope.fused:
        return product, exact_fma(a, b, -product)
    (a1, a0), (b1, b0) = _halves(a), _halves(b)
    return product, ((a1 * b1 - product) + a1 * b0 + a0 * b1) + a0 * b0


def _halves(a: Num) -> tuple[Num, Num]:
    high = (a.as_int() & (-1 << (27 if a.bits == 64 else 12))).as_float()
    return high, a - high
