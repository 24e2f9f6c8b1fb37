"""The graph: modules of functions, regions, blocks, ops and values with use lists.

Typed SSA. Every region has one block; control flow is structured (`while`, `cond`, `scan`,
`fusion` hold regions). A block ends with `return` (functions) or `yield` (regions). Passes copy a
function (`Function.clone`) and change the copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.ir.types import TensorType, Type
from graphmill.records import record

if TYPE_CHECKING:
    import networkx

    from graphmill.ir.ops.base import OpDef


@record
class Location:
    """A place in the user's code; `caller` is the user's frame that called this one."""

    file: str
    line: int
    column: int = 0
    end_column: int = 0
    function: str = ""
    caller: Location | None = None

    def __str__(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line}"

    def encode(self) -> str:
        """All but the callers as one line; `decode` reads it."""
        return f"{self.line}:{self.column}:{self.end_column}:{self.function}:{self.file}"

    @staticmethod
    def decode(text: str) -> Location | None:
        """The location that `encode` wrote; None for other text."""
        parts = text.split(":", 4)
        if len(parts) != 5 or not all(part.isdigit() for part in parts[:3]):
            return None
        line, column, end = map(int, parts[:3])
        return Location(parts[4], line, column, end, parts[3])


class Value:
    """An SSA value: the result of an op or an argument of a block."""

    __slots__ = ("index", "name", "owner", "type", "uses")

    def __init__(self, type: Type, owner: Op | Block, index: int, name: str = "") -> None:
        self.type = type
        self.owner = owner
        self.index = index
        self.name = name
        self.uses: dict[tuple[Op, int], None] = {}

    @property
    def op(self) -> Op | None:
        """The op that defines it; None for a block argument."""
        return self.owner if isinstance(self.owner, Op) else None

    @property
    def tensor(self) -> TensorType:
        """Its type, which must be a tensor's."""
        assert isinstance(self.type, TensorType), f"{self} is a {self.type}, not a tensor"
        return self.type

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.tensor.shape

    @property
    def users(self) -> list[Op]:
        """The ops that use it, each once, in order of first use."""
        return list(dict.fromkeys(op for op, _ in self.uses))

    def replace_uses(self, other: Value) -> None:
        """Let every user of this value use `other` instead."""
        for op, index in list(self.uses):
            op.set_operand(index, other)

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"


class Op:
    """One operation: a definition (`OpDef`), operands, attributes, regions, results."""

    __slots__ = ("attrs", "block", "definition", "loc", "operands", "regions", "results", "scope")

    def __init__(
        self,
        definition: OpDef,
        operands: Sequence[Value],
        types: Sequence[Type],
        attrs: Mapping[str, Any] | None = None,
        regions: Sequence[Region] = (),
        loc: Location | None = None,
        scope: str = "",
    ) -> None:
        self.definition = definition
        self.operands: list[Value] = []
        self.attrs: dict[str, Any] = dict(attrs or {})
        self.regions: list[Region] = list(regions)
        self.loc = loc
        self.scope = scope
        self.block: Block | None = None
        self.results = [Value(type, self, i) for i, type in enumerate(types)]
        for region in self.regions:
            region.owner = self
        for operand in operands:
            operand.uses[self, len(self.operands)] = None
            self.operands.append(operand)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def result(self) -> Value:
        """The only result."""
        assert len(self.results) == 1, f"{self.name} has {len(self.results)} results"
        return self.results[0]

    def set_operand(self, index: int, value: Value) -> None:
        """Replace one operand, keeping the use lists right."""
        self.operands[index].uses.pop((self, index), None)
        self.operands[index] = value
        value.uses[self, index] = None

    def set_operands(self, values: Sequence[Value]) -> None:
        """Replace all operands."""
        self.drop_operands()
        for index, value in enumerate(values):
            self.operands.append(value)
            value.uses[self, index] = None

    def drop_operands(self) -> None:
        """Forget the operands, so that this op uses nothing."""
        for index, operand in enumerate(self.operands):
            operand.uses.pop((self, index), None)
        self.operands = []

    def erase(self) -> None:
        """Remove the op from its block; its results must be unused."""
        for result in self.results:
            assert not result.uses, f"{self.name}: {result} is still used"
        for region in self.regions:
            for op in reversed(region.block.ops[:]):
                op.erase()
        self.drop_operands()
        if self.block is not None:
            self.block.ops.remove(self)
            self.block = None

    def __repr__(self) -> str:
        operands = ", ".join(f"%{v.name or '?'}" for v in self.operands)
        return f"<{self.name} {operands}>"


class Block:
    """A list of ops with arguments, ending in a terminator."""

    __slots__ = ("args", "ops", "region")

    def __init__(self, types: Sequence[Type] = (), names: Sequence[str] = ()) -> None:
        self.args = [
            Value(type, self, i, names[i] if i < len(names) else "") for i, type in enumerate(types)
        ]
        self.ops: list[Op] = []
        self.region: Region | None = None

    def append(self, op: Op) -> Op:
        """Add an op at the end."""
        op.block = self
        self.ops.append(op)
        return op

    def insert_before(self, anchor: Op, op: Op) -> Op:
        """Add an op right before `anchor`."""
        op.block = self
        self.ops.insert(self.ops.index(anchor), op)
        return op

    def add_arg(self, type: Type, name: str = "") -> Value:
        """Add an argument at the end."""
        self.args.append(Value(type, self, len(self.args), name))
        return self.args[-1]

    @property
    def terminator(self) -> Op:
        """The last op, a `return` or `yield`."""
        return self.ops[-1]

    @property
    def yielded(self) -> list[Value]:
        """The operands of the terminator."""
        return self.terminator.operands


class Region:
    """One block, owned by an op or a function."""

    __slots__ = ("block", "owner")

    def __init__(self, block: Block | None = None) -> None:
        self.block = block or Block()
        self.block.region = self
        self.owner: Op | Function | None = None


@record
class Bounds:
    """The sizes a named dim may take: `low` to `high`, both included; no upper one for None."""

    low: int = 0
    high: int | None = None


class Function:
    """A function: a region whose block arguments are the parameters, ending in `return`.

    `dims` gives the named dims in a fixed order with their bounds; `attrs` holds what the
    pipeline learns (for example the memory plan), keyed by the pass that wrote it.
    """

    def __init__(
        self,
        name: str,
        types: Sequence[Type] = (),
        names: Sequence[str] = (),
        dims: Mapping[str, Bounds] | None = None,
    ) -> None:
        self.name = name
        self.body = Region(Block(types, names))
        self.body.owner = self
        self.dims: dict[str, Bounds] = dict(dims or {})
        self.attrs: dict[str, Any] = {}
        self.loc: Location | None = None

    @property
    def block(self) -> Block:
        return self.body.block

    @property
    def params(self) -> list[Value]:
        return self.block.args

    @property
    def results(self) -> list[Value]:
        """The returned values."""
        return self.block.yielded

    @property
    def ops(self) -> list[Op]:
        """The ops of the outermost block."""
        return self.block.ops

    def walk(self) -> Iterator[Op]:
        """Every op, those inside regions included, outer before inner."""
        yield from walk(self.block)

    def clone(self, name: str | None = None) -> Function:
        """A deep copy (constants are shared; they are immutable)."""
        copy = Function(name or self.name, [], [], self.dims)
        copy.attrs = dict(self.attrs)
        copy.loc = self.loc
        mapping: dict[Value, Value] = {}
        for param in self.params:
            mapping[param] = copy.block.add_arg(param.type, param.name)
        clone_ops(self.block.ops, copy.block, mapping)
        return copy

    def to_networkx(self) -> networkx.DiGraph[Any]:
        """The graph with a node per op and parameter and an edge per use.

        Node attributes: `label`, `op`, `type`, `location`; edge attribute: `type`.
        """
        from graphmill.ir.networkx import to_networkx

        return to_networkx(self)

    def __str__(self) -> str:
        from graphmill.ir.printer import print_function

        return print_function(self)


@record(frozen=False)
class Variable:
    """A named mutable tensor that functions read and assign."""

    name: str
    type: TensorType
    initial: np.ndarray[Any, Any] | None = None


@record(frozen=False)
class Module:
    """Functions that call each other, and the variables they share. The first is the entry."""

    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)

    def add(self, function: Function) -> Function:
        """Add a function under its name."""
        self.functions[function.name] = function
        return function

    @property
    def entry(self) -> Function:
        return next(iter(self.functions.values()))

    def clone(self) -> Module:
        """A deep copy."""
        return Module({n: f.clone() for n, f in self.functions.items()}, dict(self.variables))

    def __str__(self) -> str:
        from graphmill.ir.printer import print_module

        return print_module(self)


def walk(block: Block) -> Iterator[Op]:
    """Every op of a block and of the regions inside, outer before inner."""
    for op in list(block.ops):
        yield op
        for region in op.regions:
            yield from walk(region.block)


def clone_ops(ops: Sequence[Op], into: Block, mapping: dict[Value, Value]) -> None:
    """Append copies of `ops` to `into`; `mapping` takes old values to new and is extended."""
    for op in ops:
        into.append(clone_op(op, mapping))


def clone_op(op: Op, mapping: dict[Value, Value]) -> Op:
    """A copy of `op` with operands (and captured values) replaced through `mapping`."""
    regions = []
    for region in op.regions:
        block = Block()
        for arg in region.block.args:
            mapping[arg] = block.add_arg(arg.type, arg.name)
        clone_ops(region.block.ops, block, mapping)
        regions.append(Region(block))
    operands = [mapping.get(v, v) for v in op.operands]
    types = [v.type for v in op.results]
    copy = Op(op.definition, operands, types, op.attrs, regions, op.loc, op.scope)
    for old, new in zip(op.results, copy.results, strict=True):
        new.name = old.name
        mapping[old] = new
    return copy
