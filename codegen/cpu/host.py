"""The entry function: buffers, views, control flow, and the launch of one kernel after another.

`int32_t gm_<name>(ctx, args, dims)` as the executable ABI says. Values live in buffers the memory
pass chose (`buffers` attributes): the arena, the caller's outputs, or another value's memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.constants import LARGE
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.kernel import Kernel, Source, Storage, contiguous
from graphmill.codegen.cpu.launch import Launch
from graphmill.codegen.cpu.literals import plain
from graphmill.codegen.cpu.schedule import UNMEASURED, Choices
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dims import Dim, DimLike, Quotient, at_most, maximum, parse_dim
from graphmill.ir.graph import Function, Op, Value
from graphmill.records import record

if TYPE_CHECKING:
    from graphmill.codegen.recipes import Recipe

TINY_CONSTANT = 64  # bytes; up to this constants stand in the code, the others beside it
_LINE = 64

T = TypeVar("T")

# writes into the given code, with a function for dims: bytes once, bytes for each worker
Need = Callable[[Code, Callable[[DimLike], Val]], tuple[Val, Val]]

# slots of the context
PARALLEL_FOR, THREADS, ARENA, ERROR, PROFILE, NOW, COUNTDOWN, POLL, STOPPED = range(9)
CONTEXT = "context"  # the key of the value that is the context's address, in kernels


class CodegenError(RuntimeError):
    """An op that code generation has no lowering for, with its place in the user's code."""


def entry_symbol(function: Function) -> str:
    """The symbol of a function's code: its name with the prefix, in ASCII."""
    return "gm_" + re.sub(r"[^\w.$]", "_", function.name, flags=re.ASCII)


@record
class Buffer:
    """Where a value lives: the host's pointer and the identity of the memory behind it."""

    pointer: Val
    storage: Storage
    strides: tuple[Hashable, ...] | None = None  # keys of run-time strides; None: contiguous
    final: bool = False  # a result of the function that nothing in it reads


class Buffers(dict[Value, Buffer]):
    """Where values live. A constant gets its place at first use: one that is only read in
    another form, such as packed weights, never does."""

    def __init__(self, constant: Callable[[Op], Buffer]) -> None:
        super().__init__()
        self._constant = constant

    def __missing__(self, value: Value) -> Buffer:
        if value.op is None or value.op.name not in ("constant", "prepare"):
            raise KeyError(value)
        self[value] = self._constant(value.op)
        return self[value]


@record(frozen=False)
class Host:
    """The state of writing one entry function."""

    function: Function
    unit: Unit
    target: Target
    code: Code
    profiled: bool = False
    checked: bool = False
    loops: bool = False  # whether `turn` is used
    parallel: bool = False  # whether `run` is used
    buffers: Buffers = field(init=False)
    constants: list[Recipe] = field(default_factory=list)
    kernels: list[KernelInfo] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)
    launchers: list[str] = field(default_factory=list)  # functions that launch for several ops
    arena_bytes: DimLike = 0
    needs: list[Need] = field(default_factory=list)
    turns: dict[str, DimLike] = field(default_factory=dict)  # dims of loops around: the last turn
    last_turns: dict[str, DimLike] = field(default_factory=dict)  # the same, as it depends on them
    redirected: dict[Value, Buffer] = field(default_factory=dict)
    _values: dict[Hashable, Val] = field(default_factory=dict)
    _dims: dict[DimLike, Val] = field(default_factory=dict)
    _made: dict[Hashable, Any] = field(default_factory=dict)
    _pointers: dict[Storage, Val] = field(default_factory=dict)
    _shared: dict[str, str] = field(default_factory=dict)
    _small: bytearray = field(default_factory=bytearray)
    _small_at: dict[bytes, int] = field(default_factory=dict)
    _small_base: Val | None = None
    _small_number: int = -1
    _arena: Val | None = None
    _written: dict[Hashable, list[str]] = field(default_factory=dict)  # for places

    @property
    def ctx(self) -> Val:
        return self.code.args[0]

    @property
    def args(self) -> Val:
        return self.code.args[1]

    def __post_init__(self) -> None:
        self.buffers = Buffers(self.constant)

    # ---- entering

    def bind_parameters(self) -> None:
        """Give every parameter its pointer, and load named dims and run-time strides."""
        self.arena_bytes = self.function.attrs.get("arena_bytes", 0)
        dims = self.code.args[2]
        slot = 0
        for name in self.function.dims:
            self._dims[Dim.of(name)] = self.code.load(self.code.at(dims, slot, "i64"), "i64", 8)
            slot += 1
        for number, param in enumerate(self.function.params):
            keys: list[Hashable] = []
            if param.tensor.layout == "strided":
                for axis in range(param.tensor.rank):
                    key = ("stride", number, axis)
                    self._values[key] = self.code.load(self.code.at(dims, slot, "i64"), "i64", 8)
                    keys.append(key)
                    slot += 1
            strides = tuple(keys) if param.tensor.layout == "strided" else None
            self.buffers[param] = Buffer(self.argument(number), Storage(("param", number)), strides)

    def argument(self, number: int) -> Val:
        """The data pointer in slot `number` of `args`."""
        return self._first_pointer(self.args, number)

    def _first_pointer(self, base: Val, number: int) -> Val:
        code = self.code
        slot = code.first(
            f"llvm.getelementptr {base}[{number}] : (!llvm.ptr) -> !llvm.ptr, i64", "!llvm.ptr"
        )
        return code.first(
            f"llvm.load {slot} {{alignment = 8 : i64}} : !llvm.ptr -> !llvm.ptr", "!llvm.ptr"
        )

    def context(self, slot: int, kind: str = "!llvm.ptr") -> Val:
        """A field of the context."""
        return self.code.load(self.code.at(self.ctx, slot, "i64"), kind, 8)

    @property
    def arena(self) -> Val:
        """The memory that values and kernels share."""
        if self._arena is None:
            self._arena = self._first_pointer(self.ctx, ARENA)
        return self._arena

    # ---- sizes

    def dim(self, dim: DimLike) -> Val:
        """A dim's run-time size. Only the named dims are memoised: they dominate everything."""
        return emit_dim(self.code, dim, self._dims)

    def most(self, dim: DimLike) -> DimLike:
        """The greatest size that a dim has in any turn of the loops around."""
        return at_most(dim, self.turns)

    @property
    def named(self) -> list[str]:
        """The named dims that have a value here."""
        return [*self.function.dims, *self.turns]

    @contextmanager
    def numbered(self, turn: str | None, number: Val, length: DimLike) -> Iterator[None]:
        """Inside, the dim called `turn` is the number of a loop's turn."""
        if turn is None:
            yield
            return
        self._dims[Dim.of(turn)] = number
        self.turns[turn] = maximum(self.most(length) - 1, 0)
        self.last_turns[turn] = length - 1
        yield
        del self._dims[Dim.of(turn)], self.turns[turn], self.last_turns[turn]

    def value(self, key: Hashable) -> Val:
        """An i64 that kernels ask for by key."""
        return self._values[key]

    def provide(self, key: Hashable, value: Val) -> None:
        """Make `value` available to kernels under `key`."""
        self._values[key] = value

    # ---- buffers

    def place(self, op: Op) -> list[Buffer]:
        """Assign the op's tensor results their buffers and return those."""
        plan = op.attrs.get("buffers") if op.results else ()
        if plan is None:
            raise CodegenError(f"{op.name}: the memory pass has not run")
        placed = []
        for result, where in zip(op.results, plan, strict=True):
            buffer = self.redirected.get(result) or self._buffer(op, where)
            if where.startswith("out:") and all(user.name == "return" for user in result.users):
                buffer = replace(buffer, final=True)
            self.buffers[result] = buffer
            placed.append(buffer)
        return placed

    def _buffer(self, op: Op, where: str) -> Buffer:
        kind, _, rest = where.partition(":")
        if kind == "alias":
            return self.buffers[op.operands[int(rest)]]
        if kind == "out":
            number = len(self.function.params) + int(rest)
            return Buffer(self.argument(number), Storage(("out", int(rest)), True))
        if kind == "arena":
            offset = parse_dim(rest)
            at: Val | int = offset if isinstance(offset, int) else self.dim(offset)
            pointer = self.code.at(self.arena, at, "i8")
            return Buffer(pointer, Storage(("arena", rest, id(op)), True))
        raise CodegenError(f"{op.name}: unknown buffer {where!r}")

    def constant(self, op: Op) -> Buffer:
        """The place of a block-level constant: in the object when tiny, else an argument.

        Small ones share the first constant argument.
        """
        key: Hashable
        if op.name == "prepare":
            from graphmill.codegen.recipes import recipe_of

            pointer, key = self.constant_buffer(recipe_of(op.result))
            return Buffer(pointer, Storage(key))
        array: np.ndarray[Any, Any] = np.ascontiguousarray(op.attrs["value"])
        if array.nbytes <= TINY_CONSTANT:
            symbol = self.unit.constant_bytes(array.tobytes() or b"\0")
            pointer = self.code.first(f"llvm.mlir.addressof @{symbol} : !llvm.ptr", "!llvm.ptr")
            key = ("constant", symbol)
        elif array.nbytes <= LARGE:
            pointer, key = self._small_constant(array.tobytes())
        else:
            pointer, key = self.constant_buffer(_as_it_is(array))
        return Buffer(pointer, Storage(key))

    def _small_constant(self, data: bytes) -> tuple[Val, tuple[str, int]]:
        if self._small_base is None:
            self._small_number = len(self.constants)
            empty = np.empty(0, np.uint8)  # filled at the end
            self._small_base, _ = self.constant_buffer(_as_it_is(empty))
        if data not in self._small_at:
            self._small += bytes(-len(self._small) % _LINE)
            self._small_at[data] = len(self._small)
            self._small += data
        at = self._small_at[data]
        pointer = self.code.first(
            f"llvm.getelementptr {self._small_base}[{at}] : (!llvm.ptr) -> !llvm.ptr, i8",
            "!llvm.ptr",
        )
        return pointer, ("small", at)

    def constant_buffer(self, recipe: Recipe) -> tuple[Val, tuple[str, int]]:
        """One more constant argument, made by `recipe` (the same one gives the same argument).

        Packed weights are made from the graph's own when the code is loaded.
        """
        number = next((i for i, c in enumerate(self.constants) if c.same(recipe)), None)
        if number is None:
            number = len(self.constants)
            self.constants.append(recipe)
        slot = len(self.function.params) + len(self.function.results) + number
        return self.argument(slot), ("weights", number)

    def finish_constants(self) -> list[Recipe]:
        """All constant arguments, once nothing more is added."""
        if self._small_base is not None:
            small = np.frombuffer(bytes(self._small), np.uint8)
            self.constants[self._small_number] = _as_it_is(small)
        return self.constants

    def scratch(self, need: Need) -> Val:
        """Memory behind the plan's arena, which a kernel uses while it runs; all share it.

        `need` writes the bytes it takes once and, besides, for each worker; it also runs inside
        the function that tells callers how much to allocate.
        """
        turns = dict(self.turns)

        def at_any_turn(code: Code, dim: Callable[[DimLike], Val]) -> tuple[Val, Val]:
            return need(code, lambda size: dim(at_most(size, turns)))

        self.needs.append(at_any_turn if turns else need)
        return self.shared_memory()

    def shared_memory(self) -> Val:
        """The memory that kernels use while they run, behind all that is reserved."""
        used = self.dim(self.arena_bytes)
        aligned = self.code.binary("arith.andi", self.code.add(used, 63), self.code.i64(-64))
        return self.code.at(self.arena, aligned, "i8")

    def reserve(self, nbytes: DimLike) -> Val:
        """Memory of its own behind the plan's arena, kept for the whole call."""
        used = self.arena_bytes
        start = (used + 63) // 64 * 64
        self.arena_bytes = start + self.most(nbytes)
        return self.code.at(self.arena, self.dim(start), "i8")

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave for this key the first time: a packed constant, an equal kernel."""
        places = self.unit.places
        if key not in self._made:
            mark = len(places.used) if places is not None else 0
            self._made[key] = make()
            if places is not None:
                self._written[key] = places.used[mark:]
        elif places is not None:
            for symbol in self._written[key]:
                places.use(symbol)
        return self._made[key]  # type: ignore[no-any-return]

    def adopt(self, buffer: Buffer) -> None:
        """Make a buffer that is no value's known to kernels that capture its storage."""
        self._pointers[buffer.storage] = buffer.pointer

    def lend(self, storage: Storage, pointer: Val) -> None:
        """Let kernels capture memory that holds no value."""
        self.adopt(Buffer(pointer, storage))

    def location(self, op: Op) -> int:
        """The number of the op's place in the user's code, for error records."""
        text = op.loc.encode() if op.loc else ""
        if text not in self.locations:
            self.locations.append(text)
        return self.locations.index(text)

    # ---- kernels

    def kernel(self, label: str, choices: Choices = UNMEASURED) -> Kernel:
        """Begin a kernel; its symbol tells the function, a number and what it does."""
        name = f"{entry_symbol(self.function)}_k{len(self.kernels)}_{label}"
        return Kernel(self.unit, self.target, name, choices, dict(self.last_turns))

    def source(self, kernel: Kernel, value: Value, buffer: Buffer | None = None) -> Source:
        """A value's array as the kernel sees it."""
        buffer = buffer or self.buffers[value]
        type = value.tensor
        strides: tuple[DimLike | Val, ...] = contiguous(type.shape)
        if buffer.strides is not None:
            strides = tuple(kernel.value(key) for key in buffer.strides)
        self._pointers[buffer.storage] = buffer.pointer
        pointer = kernel.pointer(buffer.storage)
        return Source(pointer, type.dtype, type.shape, strides, buffer.final)

    def launch(self, kernel: Kernel, launch: Launch, info: KernelInfo) -> None:
        """Close the kernel and run it: here, or over the threads when there is enough work."""
        mark = len(self.unit.parts)
        kernel.finish()
        symbol = self._deduplicate(kernel, mark)
        code = self.code
        captured = [self._captured(kind, key) for kind, key in kernel.captures]
        items, model = self.dim(launch.items), launch.grain
        grain = kernel.choices.pick("grain", model, (max(1, model // 8), model, model * 8))
        start = self.stamp()
        zero = code.i64(0)
        most = self.most(launch.items)
        serial = isinstance(most, int) and most <= grain
        if serial:
            code.call(f"{symbol}_body", [zero, items, zero, *captured])
        else:
            data = code.alloca("i64", max(1, len(captured)), 8)
            for i, value in enumerate(captured):
                code.store(value, code.at(data, i, "i64"), 8)
            self.run(symbol, data, items, code.i64(grain))
        self.record(start)
        self.kernels.append(info)

    def run(self, symbol: str, data: Val, items: Val, grain: Val) -> None:
        """Run `symbol(data, begin, end, worker)` over the threads."""
        self.parallel = True
        body = self.code.address_of(symbol)
        args = [self.ctx, body, data, items, grain]
        self.code.call_pointer(self.context(PARALLEL_FOR), args)

    def _captured(self, kind: str, key: object) -> Val:
        if kind == "pointer":
            assert isinstance(key, Storage)
            return self._pointers[key]
        if kind == "dim":
            return self.dim(key)  # type: ignore[arg-type]
        return self._values[key]

    def _deduplicate(self, kernel: Kernel, mark: int) -> str:
        """Reuse an equal kernel written before; returns the symbol to call."""
        text = "\n".join(self.unit.parts[mark:]).replace(kernel.name, "")
        if self.unit.places is not None:
            text = plain(text)
        if text in self._shared:
            del self.unit.parts[mark:]
            if self.unit.places is not None:
                for part in ("", "_body"):
                    self.unit.places.merge(self._shared[text] + part, kernel.name + part)
            return self._shared[text]
        self._shared[text] = kernel.name
        return kernel.name

    def status(self) -> Val:
        """The entry's result: the code in the error record when checks may have written one."""
        if not self.checked:
            return self.code.const(0, "i32")
        code = self.code.load(self.context(ERROR), "i64", 8)
        return self.code.op(f"arith.trunci {code} : i64 to i32", "i32")

    # ---- loops

    def turn(self) -> Val:
        """Whether one more turn of a loop may run, or something has ended the call meanwhile."""
        self.loops = True
        code = self.code
        place = code.at(self.ctx, COUNTDOWN, "i64")
        left = code.add(code.load(place, "i64", 8), -1)
        code.store(left, place, 8)
        zero = code.i64(0)
        with code.when(code.compare("arith.cmpi", "slt", left, zero)):
            code.call_pointer(self.context(POLL), [self.ctx], "i64")
        return code.compare("arith.cmpi", "eq", self.context(STOPPED, "i64"), zero)

    # ---- profile

    def stamp(self) -> Val | None:
        """The time before the next kernel, when the artifact is profiled."""
        if not self.profiled:
            return None
        return self.code.call_pointer(self.context(NOW), [], "i64")

    def record(self, start: Val | None) -> None:
        """Write when the kernel that comes next in `kernels` started and stopped."""
        if start is None:
            return
        stop = self.code.call_pointer(self.context(NOW), [], "i64")
        assert stop is not None
        slots = self.context(PROFILE)
        number = len(self.kernels)
        self.code.store(start, self.code.at(slots, 2 * number, "i64"), 8)
        self.code.store(stop, self.code.at(slots, 2 * number + 1, "i64"), 8)


def _as_it_is(array: np.ndarray[Any, Any]) -> Recipe:
    from graphmill.codegen.recipes import Recipe

    return Recipe.of(array)


def emit_dim(code: Code, dim: DimLike, known: Mapping[DimLike, Val]) -> Val:
    """Code for a dim expression over the named dims in `known`."""
    if isinstance(dim, int):
        return code.i64(dim)
    if dim in known:
        return known[dim]
    total: Val | None = None
    for monomial, coefficient in dim.terms:
        term: Val = code.i64(coefficient)
        for n, factor in enumerate(monomial):
            value = _factor(code, factor, known)
            term = value if n == 0 and coefficient == 1 else code.mul(term, value)
        total = term if total is None else code.add(total, term)
    return total if total is not None else code.i64(0)


def _factor(code: Code, factor: str | Quotient, known: Mapping[DimLike, Val]) -> Val:
    if isinstance(factor, str):
        return known[Dim.of(factor)]
    left, right = emit_dim(code, factor.left, known), emit_dim(code, factor.right, known)
    if factor.op == "mod":  # the sign of the divisor, as in Python
        rest = code.binary("arith.remsi", left, right)
        moved = code.binary("arith.addi", rest, right)
        return code.binary("arith.remsi", moved, right)
    if factor.op == "floordiv":
        rest = code.binary("arith.remsi", left, right)
        moved = code.binary("arith.remsi", code.add(rest, right), right)
        return code.binary("arith.divsi", code.binary("arith.subi", left, moved), right)
    return code.binary(f"arith.{factor.op}si", left, right)
