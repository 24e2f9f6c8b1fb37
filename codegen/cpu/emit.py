"""Writing MLIR text: typed values, straight-line code and structured control flow.

A `Unit` is one MLIR module under construction, a `Code` one of its functions. Values know their
MLIR type, constants are hoisted to the function's start and shared, and `loop`/`branch`/`repeat`
are context managers over `scf`. MLIR's parser verifies the result (`codegen.cpu.mlir.lower`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import field
from typing import TYPE_CHECKING

from graphmill.codegen.cpu.literals import literal, plain
from graphmill.ir.graph import Op
from graphmill.records import record

if TYPE_CHECKING:
    from graphmill.codegen.cpu.llvm import Kind
    from graphmill.codegen.cpu.places import Places

_VECTOR = re.compile(r"vector<(\d+)x([a-z0-9]+)>")


@record
class Val:
    """An SSA value of the text being written: its name (with `%`) and MLIR type."""

    name: str
    type: str

    @property
    def lanes(self) -> int:
        """The number of vector lanes; 0 for a scalar."""
        match = _VECTOR.fullmatch(self.type)
        return int(match[1]) if match else 0

    @property
    def element(self) -> str:
        """The element type of a vector, or the scalar type itself."""
        match = _VECTOR.fullmatch(self.type)
        return match[2] if match else self.type

    def __str__(self) -> str:
        return self.name


def vector(element: str, lanes: int) -> str:
    """The MLIR type of `lanes` elements; the scalar type when `lanes` is 0."""
    return f"vector<{lanes}x{element}>" if lanes else element


_ANYWHERE: AbstractContextManager[None] = nullcontext()


@record(frozen=False)
class Unit:
    """One MLIR module: functions, globals and declarations, in the order they were added.

    `vector_bits` is the vector registers' width, 0 where it does not matter; `places`, where a dump
    wants them, note which op each line is for. Loops of `plain` parts read no place again and
    again (`llvm.Kind`); `apart` are kinds of parts in long modules, which take fewer passes.
    """

    vector_bits: int = 0
    parts: list[str] = field(default_factory=list)
    half: bool = True  # whether the target converts f16 in hardware
    places: Places | None = None
    declarations: dict[str, str] = field(default_factory=dict)  # of this unit's functions
    long: int = 0  # operations of many lines, in all functions
    plain: set[str] = field(default_factory=set)
    apart: dict[str, Kind] = field(default_factory=dict)
    _declared: set[str] = field(default_factory=set)
    _globals: int = 0
    finishers: dict[str, str] = field(default_factory=dict)  # symbols by texts, which may be equal
    merged: dict[str, str] = field(default_factory=dict)  # what stands for a symbol

    def declare(self, name: str, args: Sequence[str], result: str | None = None) -> None:
        """Declare the external C function `name` once."""
        if name not in self._declared:
            self._declared.add(name)
            arrow = f" -> {result}" if result else ""
            self.parts.append(f"llvm.func @{name}({', '.join(args)}){arrow}")

    def once(self, symbol: str) -> bool:
        """Whether `symbol` is asked for the first time: shared functions are written once."""
        first = symbol not in self._declared
        self._declared.add(symbol)
        if self.places is not None:
            self.places.use(symbol)
        return first

    def constant_bytes(self, data: bytes, align: int = 64) -> str:
        """Add a read-only global holding `data`; returns its symbol."""
        symbol = f"gm.const_{self._globals}"
        self._globals += 1
        text = "".join(f"\\{byte:02X}" for byte in data)
        self.parts.append(
            f'llvm.mlir.global internal constant @{symbol}("{text}") '
            f"{{addr_space = 0 : i32, alignment = {align} : i64}}"
        )
        return symbol

    def text(self) -> str:
        """The whole module as MLIR text."""
        text = "module {\n" + "\n".join(self.parts) + "\n}\n"
        return text if self.places is None else plain(text)

    def lowering(self, op: Op) -> AbstractContextManager[None]:
        """What is written inside lowers `op` of a block."""
        return _ANYWHERE if self.places is None else self.places.lowering(op)


class Loop:
    """A `scf.for` or `scf.while` being written: its induction value, carried values, results."""

    def __init__(self, index: Val | None, carried: list[Val]) -> None:
        self.index = index
        self.carried = carried
        self.results: list[Val] = []
        self.next: list[Val] | None = None

    @property
    def i(self) -> Val:
        """The induction value."""
        assert self.index is not None
        return self.index


class Code:
    """The body of one function. `op` appends an operation and returns its result value."""

    def __init__(
        self,
        unit: Unit,
        name: str,
        args: Sequence[tuple[str, str]],
        result: str | None = None,
        *,
        internal: bool = True,
        traits: Sequence[str] = (),
    ) -> None:
        self.unit = unit
        self.name = name
        self.args = [Val(f"%{arg}", kind.split(" ")[0]) for arg, kind in args]
        self._signature = [f"%{arg}: {kind}" for arg, kind in args]
        self._result = result
        self._linkage = "internal " if internal else ""
        self.traits = ("nounwind", *traits)  # LLVM's function attributes
        self._constants: dict[tuple[str, str], Val] = {}
        self._integers: dict[int, Val] = {}  # those of type i64, found without their text
        self.head: list[str] = []
        self.lines: list[str] = []
        self._depth = 2
        self.kinds: list[str] = []  # of the numbered values
        self.long = 0  # operations of many lines, here

    # ---- straight-line code

    def argument(self, kind: str, attrs: str = "") -> Val:
        """Add a parameter after those given at the start."""
        value = Val(f"%a{len(self.args)}", kind)
        self.args.append(value)
        self._signature.append(f"{value}: {kind} {attrs}".rstrip())
        return value

    def fresh(self, kind: str) -> Val:
        """A new value name of type `kind`; the caller writes the defining line."""
        self.kinds.append(kind)
        return Val(f"%{len(self.kinds)}", kind)

    def located(self, op: Op | None) -> AbstractContextManager[None]:
        """What is written inside computes `op`, for dumps."""
        places = self.unit.places
        return _ANYWHERE if places is None or op is None else places.at(op)

    @property
    def length(self) -> int:
        """Lines written so far."""
        return len(self.lines)

    def line(self, text: str) -> None:
        """Append one line of MLIR text."""
        if self.unit.places is not None:
            text = self.unit.places.mark(text)
        self.lines.append("  " * self._depth + text)

    def op(self, text: str, kind: str) -> Val:
        """Append `%n = text` and return `%n` of type `kind`."""
        value = self.fresh(kind)
        self.line(f"{value.name} = {text}")
        return value

    def first(self, text: str, kind: str) -> Val:
        """Like `op`, but at the function's start, so that the result is known everywhere."""
        value = self.fresh(kind)
        self.head.append(f"    {value} = {text}")
        return value

    def const(self, value: bool | int | float, kind: str) -> Val:
        """A constant of type `kind` (a vector type gives a splat), hoisted and shared."""
        match = _VECTOR.fullmatch(kind)
        element = match[2] if match else kind
        text = literal(value, element)
        key = (text, kind)
        if key not in self._constants:
            name = Val(f"%c{len(self._constants)}", kind)
            if match:
                body = f"dense<{text}> : {kind}"
            elif element == "i1":
                body = text
            else:
                body = f"{text} : {kind}"
            self.head.append(f"    {name} = arith.constant {body}")
            self._constants[key] = name
        return self._constants[key]

    def const_lanes(self, values: Sequence[float], kind: str) -> Val:
        """A vector constant with its own value in each lane, hoisted and shared."""
        element = kind.partition("x")[2][:-1]
        text = f"[{', '.join(literal(v, element) for v in values)}]"
        key = (text, kind)
        if key not in self._constants:
            name = Val(f"%c{len(self._constants)}", kind)
            self.head.append(f"    {name} = arith.constant dense<{text}> : {kind}")
            self._constants[key] = name
        return self._constants[key]

    def i64(self, value: int) -> Val:
        """An i64 constant."""
        if value not in self._integers:
            self._integers[value] = self.const(value, "i64")
        return self._integers[value]

    def binary(self, name: str, a: Val, b: Val) -> Val:
        """`name a, b` where operands and result share a type, e.g. `arith.addf`."""
        return self.op(f"{name} {a.name}, {b.name} : {a.type}", a.type)

    def unary(self, name: str, a: Val) -> Val:
        """`name a` with operand and result of one type."""
        return self.op(f"{name} {a.name} : {a.type}", a.type)

    def compare(self, name: str, predicate: str, a: Val, b: Val) -> Val:
        """`arith.cmpf`/`arith.cmpi` with a predicate such as `olt` or `slt`."""
        return self.op(f"{name} {predicate}, {a.name}, {b.name} : {a.type}", vector("i1", a.lanes))

    def select(self, condition: Val, a: Val, b: Val) -> Val:
        """`condition ? a : b`, lane by lane when the condition is a vector."""
        kinds = a.type if not condition.lanes else f"{condition.type}, {a.type}"
        return self.op(f"arith.select {condition}, {a}, {b} : {kinds}", a.type)

    def convert(self, name: str, a: Val, element: str) -> Val:
        """A conversion op such as `arith.extf` to `element`, keeping the lanes."""
        kind = vector(element, a.lanes)
        return self.op(f"{name} {a} : {a.type} to {kind}", kind)

    def splat(self, a: Val, lanes: int) -> Val:
        """A scalar repeated over `lanes`."""
        if a.lanes or not lanes:
            return a
        kind = vector(a.type, lanes)
        return self.op(f"vector.broadcast {a} : {a.type} to {kind}", kind)

    def add(self, a: Val, b: Val | int) -> Val:
        """Integer addition of i64 scalars; folds a zero constant."""
        if isinstance(b, int):
            if b == 0:
                return a
            b = self.const(b, a.type)
        return self.binary("arith.addi", a, b)

    def mul(self, a: Val, b: Val | int) -> Val:
        """Integer multiplication of i64 scalars; folds a one constant."""
        if isinstance(b, int):
            if b == 1:
                return a
            b = self.const(b, a.type)
        return self.binary("arith.muli", a, b)

    # ---- memory

    def at(self, base: Val, index: Val | int, element: str) -> Val:
        """The address of element `index` (an i64 or a constant) of an array of `element`."""
        if isinstance(index, int):
            if index == 0:
                return base
            index = self.i64(index)
        return self.op(
            f"llvm.getelementptr inbounds {base.name}[{index.name}] : "
            f"(!llvm.ptr, i64) -> !llvm.ptr, {element}",
            "!llvm.ptr",
        )

    def load(self, address: Val, kind: str, align: int) -> Val:
        """Load a value of type `kind`; `align` in bytes."""
        return self.op(
            f"llvm.load {address.name} {{alignment = {align} : i64}} : !llvm.ptr -> {kind}", kind
        )

    def store(self, value: Val, address: Val, align: int, *, nontemporal: bool = False) -> None:
        """Store `value`; `align` in bytes (a non-temporal store needs the vector's own size)."""
        hint = ", nontemporal" if nontemporal else ""
        self.line(
            f"llvm.store {value.name}, {address.name} {{alignment = {align} : i64{hint}}} : "
            f"{value.type}, !llvm.ptr"
        )

    def prefetch(
        self, address: Val, ahead: Val | None = None, *, write: bool = False, near: bool = True
    ) -> None:
        """Ask for the cache line `ahead` bytes behind `address`; it may lie outside any array.

        `near` the first level, else the second.
        """
        if ahead is not None:
            place = f"{address}[{ahead}] : (!llvm.ptr, i64) -> !llvm.ptr, i8"
            address = self.op(f"llvm.getelementptr {place}", "!llvm.ptr")
        hint = f"rw = {int(write)} : i32, hint = {3 if near else 2} : i32, cache = 1 : i32"
        self.line(f'"llvm.intr.prefetch"({address}) <{{{hint}}}> : (!llvm.ptr) -> ()')

    def alloca(self, element: str, count: int, align: int = 64) -> Val:
        """Stack memory for `count` elements, allocated once at the function's start."""
        value = self.fresh("!llvm.ptr")
        size = self.i64(count)
        self.head.append(
            f"    {value} = llvm.alloca {size} x {element} {{alignment = {align} : i64}} : "
            f"(i64) -> !llvm.ptr"
        )
        return value

    def call(self, symbol: str, args: Sequence[Val], result: str | None = None) -> Val | None:
        """Call the function `symbol` of this unit or a declared external one."""
        return self._call(f"@{symbol}", args, "", result)

    def call_pointer(
        self, pointer: Val, args: Sequence[Val], result: str | None = None
    ) -> Val | None:
        """Call through a function pointer."""
        return self._call(str(pointer), args, "!llvm.ptr, ", result)

    def _call(self, target: str, args: Sequence[Val], kind: str, result: str | None) -> Val | None:
        names = ", ".join(str(a) for a in args)
        types = ", ".join(a.type for a in args)
        text = f"llvm.call {target}({names}) : {kind}({types}) -> "
        if result is None:
            self.line(text + "()")
            return None
        return self.op(text + result, result)

    def address_of(self, symbol: str) -> Val:
        """The address of a function or global of this unit."""
        return self.op(f"llvm.mlir.addressof @{symbol} : !llvm.ptr", "!llvm.ptr")

    # ---- control flow

    @contextmanager
    def loop(
        self, low: Val | int, high: Val | int, step: Val | int = 1, carry: Sequence[Val] = ()
    ) -> Iterator[Loop]:
        """`for i in range(low, high, step)` over i64, carrying values.

        Set `loop.next` to the values carried to the next turn; `loop.results` holds the final
        ones after the block.
        """
        low, high, step = (self.i64(x) if isinstance(x, int) else x for x in (low, high, step))
        index = self.fresh("i64")
        inner = [self.fresh(value.type) for value in carry]
        this = Loop(index, inner)
        this.results = [self.fresh(value.type) for value in carry]
        head = f"scf.for {index} = {low} to {high} step {step}"
        if carry:
            pairs = ", ".join(f"{a} = {b}" for a, b in zip(inner, carry, strict=True))
            types = ", ".join(value.type for value in carry)
            names = ", ".join(map(str, this.results))
            head = f"{names} = {head} iter_args({pairs}) -> ({types})"
        self.line(f"{head} : i64 {{")
        self._depth += 1
        yield this
        self._yield(this, carry)
        self._depth -= 1
        self.line("}")

    def _yield(self, this: Loop, carry: Sequence[Val]) -> None:
        if not carry:
            return
        assert this.next is not None and len(this.next) == len(carry), "loop.next is not set"
        names = ", ".join(map(str, this.next))
        self.line(f"scf.yield {names} : {', '.join(v.type for v in carry)}")

    @contextmanager
    def when(self, condition: Val) -> Iterator[None]:
        """`if condition:` without results; `condition` is a scalar i1."""
        self.line(f"scf.if {condition} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """The `else:` of the `when` that was just closed."""
        assert plain(self.lines[-1]).strip() == "}", "otherwise() follows when()"
        self.lines[-1] = "  " * self._depth + "} else {"
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    @contextmanager
    def choose(self, condition: Val, otherwise: Sequence[Val]) -> Iterator[Loop]:
        """`results = this.next if condition else otherwise`; the block computes `this.next`."""
        this = Loop(None, [])
        this.results = [self.fresh(value.type) for value in otherwise]
        types = ", ".join(value.type for value in otherwise)
        self.line(f"{', '.join(map(str, this.results))} = scf.if {condition} -> ({types}) {{")
        self._depth += 1
        yield this
        self._yield(this, otherwise)
        self.line(f"}} else {{ scf.yield {', '.join(map(str, otherwise))} : {types} }}")
        self._depth -= 1

    @contextmanager
    def repeat(self, carry: Sequence[Val]) -> Iterator[Loop]:
        """A do-while: the block sets `loop.next` and calls `self.again(loop, condition)` last."""
        inner = [self.fresh(value.type) for value in carry]
        this = Loop(None, inner)
        this.results = [self.fresh(value.type) for value in carry]
        types = ", ".join(value.type for value in carry)
        pairs = ", ".join(f"{a} = {b}" for a, b in zip(inner, carry, strict=True))
        names = ", ".join(map(str, this.results))
        prefix = f"{names} = " if carry else ""
        self.line(f"{prefix}scf.while ({pairs}) : ({types}) -> ({types}) {{")
        self._depth += 1
        yield this
        self._depth -= 1
        args = [self.fresh(value.type) for value in carry]
        heads = ", ".join(f"{a}: {a.type}" for a in args)
        self.line("} do {")
        self.line(f"^bb0({heads}):")
        self._depth += 1
        self.line(f"scf.yield {', '.join(map(str, args))} : {types}" if carry else "scf.yield")
        self._depth -= 1
        self.line("}")

    def again(self, this: Loop, condition: Val) -> None:
        """Close a `repeat` body: go round again while `condition` holds, with `loop.next`."""
        assert this.next is not None, "loop.next is not set"
        names = ", ".join(map(str, this.next))
        types = ", ".join(v.type for v in this.next)
        self.line(f"scf.condition({condition}) {names} : {types}")

    @contextmanager
    def while_loop(self, carry: Sequence[Val]) -> Iterator[Loop]:
        """A while loop: compute the test, call `self.test`, then the body sets `loop.next`.

        `loop.carried` are the values of this turn, in the test and (renewed) in the body.
        """
        this = Loop(None, [self.fresh(value.type) for value in carry])
        this.results = [self.fresh(value.type) for value in carry]
        types = ", ".join(value.type for value in carry)
        pairs = ", ".join(f"{a} = {b}" for a, b in zip(this.carried, carry, strict=True))
        prefix = f"{', '.join(map(str, this.results))} = " if carry else ""
        self.line(f"{prefix}scf.while ({pairs}) : ({types}) -> ({types}) {{")
        self._depth += 1
        yield this
        self._yield(this, carry)
        if not carry:
            self.line("scf.yield")
        self._depth -= 1
        self.line("}")

    def test(self, this: Loop, condition: Val) -> None:
        """End the test of a `while_loop`: its body follows and runs while `condition` holds."""
        types = ", ".join(value.type for value in this.carried)
        names = ", ".join(map(str, this.carried))
        self.line(f"scf.condition({condition}) {names} : {types}" if types else
                  f"scf.condition({condition})")  # fmt: skip
        this.carried = [self.fresh(value.type) for value in this.carried]
        self._depth -= 1
        self.line("} do {")
        if types:
            self.line(f"^bb0({', '.join(f'{v}: {v.type}' for v in this.carried)}):")
        self._depth += 1

    # ---- end

    def finish(self, value: Val | None = None) -> None:
        """Write the return and add the function to its unit."""
        self.line(f"llvm.return {value} : {value.type}" if value else "llvm.return")
        arrow = f" -> {self._result}" if self._result else ""
        head = f"  llvm.func {self._linkage}@{self.name}({', '.join(self._signature)}){arrow}"
        traits = ", ".join(f'"{trait}"' for trait in self.traits)
        head += f" attributes {{passthrough = [{traits}]}} {{"
        if self.unit.places is not None:
            self.unit.places.use(self.name)
        types = ", ".join(arg.type for arg in self.args)
        self.unit.declarations[self.name] = f"  llvm.func hidden @{self.name}({types}){arrow}"
        self.unit.parts.append("\n".join([head, *self.head, *self.lines, "  }"]))
