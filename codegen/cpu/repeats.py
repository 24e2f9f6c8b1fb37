"""Ops that are alike launch their kernels through one function.

The layers of a network run the same kernels on other buffers. What launches the kernels of such an
op is written as a function of its own, once; the entry calls it for this op and those like it. So
neither writing the entry nor compiling it takes longer with each layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import Buffer, Buffers, Host, Need, entry_symbol
from graphmill.codegen.cpu.kernel import TRAITS, Storage
from graphmill.codegen.cpu.lowering import Emitter, plain_attr, structure
from graphmill.codegen.recipes import Recipe, recipe_of
from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.graph import Op, Value

LEAST = 8  # ops that are spared: below this there is too little to gain

# what is launched by code that depends on the op alone, and on where its operands lie
_OPS = frozenset({"fusion", "dot_general", "conv", "blocked_conv", "reduce", "window_reduce"})
_PLACES = frozenset({"buffers", "reason"})  # attributes that launches do not depend on
_FOLDED = frozenset({"constant", "prepare"})

Given = Callable[[Op], Val]  # what the entry passes for an op


class Repeats:
    """The ops of a function that have others like them, and the functions written for them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._launchers: dict[Hashable, Launcher] = {}
        forms = {op: _form(op) for op in host.function.ops if _is_apart(op)}
        times = Counter(forms.values())
        self._forms = {op: form for op, form in forms.items() if times[form] > 1}
        if len(self._forms) - len(set(self._forms.values())) < LEAST:
            self._forms = {}

    def emit(self, op: Op, emitter: Emitter) -> bool:
        """Call the function that is there for ops like `op`, written now if need be.

        False for an op that is the only one of its kind, or whose code is for it alone.
        """
        form = self._forms.get(op)
        if form is None:
            return False
        host = self._host
        outputs = host.place(op)
        key = (form, *_where(host, op, outputs))
        launcher = self._launchers.get(key)
        if launcher is None:
            launcher = Launcher(host, op, outputs)
            emitter(launcher, op)
            launcher.finish()
            if launcher.repeatable:
                self._launchers[key] = launcher
        else:
            launcher.again(op)
        host.code.call(launcher.code.name, [host.ctx, *(given(op) for given in launcher.given)])
        return True


def _is_apart(op: Op) -> bool:
    return op.name in _OPS and op.attrs.get("kind") != "iterate"


def _form(op: Op) -> Hashable:
    """What an op does, wherever its operands lie."""
    attrs = [(n, plain_attr(v)) for n, v in sorted(op.attrs.items()) if n not in _PLACES]
    types = [str(value.type) for value in (*op.operands, *op.results)]
    return (op.name, *attrs, *types, *(structure(region.block) for region in op.regions))


def _where(host: Host, op: Op, outputs: Sequence[Buffer]) -> list[Hashable]:
    """How the operands and results lie: which are one, strided, or made of which constants."""
    numbers: dict[Hashable, int] = {}
    found: list[Hashable] = []
    for value in op.operands:
        made = value.op
        if made is not None and made.name in _FOLDED:
            found.append((numbers.setdefault(value, len(numbers)), _constant(value)))
        else:
            found.append(_buffer(host.buffers[value], numbers))
    return found + [_buffer(buffer, numbers) for buffer in outputs]


def _buffer(buffer: Buffer, numbers: dict[Hashable, int]) -> Hashable:
    number = numbers.setdefault(buffer.storage, len(numbers))
    return number, buffer.storage.written, buffer.strides is None, buffer.final


def _constant(value: Value) -> Hashable:
    """What code may know of a constant: all but its content, and that too of integers."""
    recipe = recipe_of(value)
    arrays = [
        (a.dtype.str, a.shape, id(a) if a.dtype.kind in "iu" else None) for a in recipe.arrays
    ]
    return (*arrays, *recipe[1:])


class Launcher(Host):
    """Writes a function that launches the kernels of an op, and of others like it.

    What comes from outside is an argument: `given` tells what it is, for each such op.
    """

    def __init__(self, host: Host, op: Op, outputs: Sequence[Buffer]) -> None:
        for own in fields(Host):
            setattr(self, own.name, getattr(host, own.name))
        self.outside, self.op = host, op
        self.given: list[Given] = []
        self.repeatable = True
        self._prefix = f"{entry_symbol(host.function)}_k"
        self._first = len(host.kernels)
        self._infos: list[KernelInfo] = []
        self._recipes: list[tuple[Recipe, Val]] = []
        self._shared_memory: Val | None = None
        symbol = f"{host.code.name}_l{len(host.launchers)}"
        host.launchers.append(symbol)
        # LLVM puts a kernel that is called in one place only where it is called
        self.code = Code(host.unit, symbol, [("ctx", "!llvm.ptr")], traits=TRAITS)
        self._values, self._pointers, self._arena = {}, {}, None
        self._dims = {}
        for name in host.named:
            self._dims[Dim.of(name)] = self._argument("i64", _dim(host, Dim.of(name)))
        self._lay_out(outputs)

    def _lay_out(self, outputs: Sequence[Buffer]) -> None:
        """Give operands and results their places: one argument for each storage."""
        op, outside = self.op, self.outside
        self.buffers = Buffers(self._folded)
        pointers: dict[Storage, Val] = {}
        for n, value in enumerate(op.operands):
            if value.op is None or value.op.name not in _FOLDED:
                buffer = outside.buffers[value]
                if buffer.storage not in pointers:
                    pointers[buffer.storage] = self._argument("!llvm.ptr", _operand(outside, n))
                for axis, key in enumerate(buffer.strides or ()):
                    if key not in self._values:
                        self._values[key] = self._argument("i64", _stride(outside, n, axis))
                self.buffers[value] = replace(buffer, pointer=pointers[buffer.storage])
        self._placed = []
        for n, buffer in enumerate(outputs):
            if buffer.storage not in pointers:
                pointers[buffer.storage] = self._argument("!llvm.ptr", _result(outside, n))
            self._placed.append(replace(buffer, pointer=pointers[buffer.storage]))

    def _argument(self, kind: str, given: Given) -> Val:
        self.given.append(given)
        return self.code.argument(kind)

    def _folded(self, op: Op) -> Buffer:
        n = next(n for n, value in enumerate(self.op.operands) if value.op is op)
        return Buffer(
            self._argument("!llvm.ptr", _operand(self.outside, n)), Storage(("operand", n))
        )

    def place(self, op: Op) -> list[Buffer]:
        self.buffers.update(zip(op.results, self._placed, strict=True))
        return self._placed

    def constant_buffer(self, recipe: Recipe) -> tuple[Val, tuple[str, int]]:
        for n, (known, value) in enumerate(self._recipes):
            if known.same(recipe):
                return value, ("recipe", n)
        places = _places(self.op, recipe)
        if places is None:
            self.repeatable = False

        def given(op: Op) -> Val:
            made = recipe
            if places is not None and op is not self.op:
                arrays = tuple(recipe_of(op.operands[n]).arrays[k] for n, k in places)
                made = recipe._replace(arrays=arrays)
            return self.outside.constant_buffer(made)[0]

        self._recipes.append((recipe, self._argument("!llvm.ptr", given)))
        return self._recipes[-1][1], ("recipe", len(self._recipes) - 1)

    def scratch(self, need: Need) -> Val:
        self.needs.append(need)
        if self._shared_memory is None:
            self._shared_memory = self._argument("!llvm.ptr", _memory(self.outside))
        return self._shared_memory

    def reserve(self, nbytes: DimLike) -> Val:
        assert self._shared_memory is None, "memory of a call is reserved before scratch is used"
        return self._argument("!llvm.ptr", _reserved(self.outside, nbytes))

    def location(self, op: Op) -> int:
        self.repeatable = False
        return super().location(op)

    def finish(self) -> None:
        """Add the function to the unit."""
        self.code.finish()
        self._infos = self.kernels[self._first :]
        self.outside.checked |= self.checked
        self.outside.loops |= self.loops
        self.outside.parallel |= self.parallel

    def again(self, op: Op) -> None:
        """Note the kernels that run for one more op."""
        mark = len(self.kernels)
        for info in self._infos:
            number, _, label = info.name.removeprefix(self._prefix).partition("_")
            name = f"{self._prefix}{int(number) - self._first + mark}_{label}"
            self.kernels.append(replace(info, name=name, location=str(op.loc or "")))


def _dim(host: Host, dim: DimLike) -> Given:
    return lambda op: host.dim(dim)


def _memory(host: Host) -> Given:
    return lambda op: host.shared_memory()


def _reserved(host: Host, nbytes: DimLike) -> Given:
    return lambda op: host.reserve(nbytes)


def _operand(host: Host, n: int) -> Given:
    return lambda op: host.buffers[op.operands[n]].pointer


def _result(host: Host, n: int) -> Given:
    return lambda op: host.buffers[op.results[n]].pointer


def _stride(host: Host, n: int, axis: int) -> Given:
    def given(op: Op) -> Val:
        strides = host.buffers[op.operands[n]].strides
        assert strides is not None
        return host.value(strides[axis])

    return given


def _places(op: Op, recipe: Recipe) -> list[tuple[int, int]] | None:
    """The operands, and of each the array of its recipe, that a recipe is made from."""
    known: dict[Hashable, tuple[int, int]] = {}
    for n, value in enumerate(op.operands):
        if value.op is not None and value.op.name in _FOLDED:
            for k, array in enumerate(recipe_of(value).arrays):
                known.setdefault(_identity(array), (n, k))
    found = [known.get(_identity(array)) for array in recipe.arrays]
    return None if None in found else found  # type: ignore[return-value]


def _identity(array: np.ndarray[Any, Any]) -> Hashable:
    return array.__array_interface__["data"], array.shape, array.strides, array.dtype.str
