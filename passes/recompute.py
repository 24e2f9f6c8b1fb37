"""Computing again instead of storing: what is read at several offsets, as in chains of stencils."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Function, Op, Value, walk
from graphmill.passes.cse import cse
from graphmill.passes.fusion_graph import node_kind
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count
from graphmill.records import record

EXTRA_FLOPS = 24.0  # per element: about what writing it to a far cache and reading it back costs
EXTRA_OPS = 48  # what a kernel can hold beside its own

Corner = tuple[DimLike, ...]


@register_pass("recompute")
def recompute(function: Function) -> Function:
    """Moves slices above the elementwise ops that they read, once for each of their offsets.

    A value that only slices read, at k offsets, is then computed k times in the kernels that need
    it and stored in none: stencils of stencils become one kernel. Done where that costs at most
    `EXTRA_FLOPS` per element. Slices with steps stay: their elements would be gathered.
    """
    if not any(op.name == "slice" and _follows(op) for op in walk(function.block)):
        return function
    function = function.clone()
    return cse(function) if _block(function.block) else function


def _follows(op: Op) -> bool:
    source = op.operands[0].op
    return source is not None and _is_elementwise(source)


def _block(block: Block) -> bool:
    moved = [_block(region.block) for op in block.ops for region in op.regions]
    for op in list(reversed(block.ops)):
        if _is_elementwise(op):
            chain = _Chain(op)
            if chain.worthwhile():
                chain.move()
                moved.append(True)
                count("values computed at their offsets")
    block.ops = [op for op in block.ops if op.block is not None]
    return any(moved)


def _is_elementwise(op: Op) -> bool:
    return op.definition.fusion == "elementwise" and op.definition.pure


@record(frozen=False)
class _Chain:
    """An elementwise op that slices read, with the ops above it that nothing else reads."""

    last: Op
    ops: dict[Op, None] = field(default_factory=dict)
    slices: dict[tuple[Corner, Corner], list[Op]] = field(default_factory=dict)

    def worthwhile(self) -> bool:
        """Whether only slices without steps read it, for kernels, and computing it is cheap."""
        users = list(dict.fromkeys(self.last.result.users))
        if not users or not all(self._moves(user) for user in users):
            return False
        for user in users:
            window = tuple(user.attrs["start"]), tuple(user.attrs["stop"])
            self.slices.setdefault(window, []).append(user)
        self._collect(self.last)
        flops = sum(op.definition.flops for op in self.ops if op.name != "broadcast")
        again = len(self.slices) - 1
        return flops * again <= EXTRA_FLOPS and len(self.ops) * again <= EXTRA_OPS

    def _moves(self, user: Op) -> bool:
        return (
            user.name == "slice"
            and user.block is self.last.block
            and all(step == 1 for step in user.attrs["step"])
            and all(node_kind(reader) in ("map", "reduce") for reader in user.result.users)
        )

    def _collect(self, op: Op) -> None:
        self.ops[op] = None
        for operand in dict.fromkeys(op.operands):
            source = operand.op
            if source is None or source.block is not self.last.block:
                continue
            if source.name == "broadcast" and all(dim != 1 for dim in source.operands[0].shape):
                self.ops[source] = None
            elif _is_elementwise(source) and all(user in self.ops for user in operand.users):
                self._collect(source)

    def move(self) -> None:
        """Compute the windows where the first slice of each stood."""
        block = self.last.block
        assert block is not None
        for (start, stop), slices in self.slices.items():
            first = min(slices, key=block.ops.index)
            builder = Builder(block, first)
            builder.loc, builder.scope = first.loc, first.scope
            new = self._windowed(self.last.result, start, stop, builder, {})
            for old in slices:
                old.result.replace_uses(new)
                _remove(old)

    def _windowed(
        self,
        value: Value,
        start: Sequence[DimLike],
        stop: Sequence[DimLike],
        builder: Builder,
        made: dict[Value, Value],
    ) -> Value:
        if value in made:
            return made[value]
        op = value.op
        if op is None or op not in self.ops:
            new = _slice(value, start, stop, builder)
        elif op.name == "broadcast":
            axes, x = op.attrs["axes"], op.operands[0]
            if axes:
                x = _slice(x, [start[a] for a in axes], [stop[a] for a in axes], builder)
            shape = [b - a for a, b in zip(start, stop, strict=True)]
            new = builder.broadcast(x, shape, axes)
        else:
            operands = [self._windowed(v, start, stop, builder, made) for v in op.operands]
            with builder.at(op.loc, op.scope):
                new = builder.op(op.name, *operands, **op.attrs)
            new.name = value.name
        made[value] = new
        return new


def _slice(x: Value, start: Sequence[DimLike], stop: Sequence[DimLike], builder: Builder) -> Value:
    """A slice of x; one of a slice without steps reads what that reads."""
    inner = x.op
    if inner is not None and inner.name == "slice" and all(by == 1 for by in inner.attrs["step"]):
        first = inner.attrs["start"]
        start = [a + b for a, b in zip(first, start, strict=True)]
        stop = [a + b for a, b in zip(first, stop, strict=True)]
        x = inner.operands[0]
    steps = (1,) * len(start)
    return builder.op("slice", x, start=tuple(start), stop=tuple(stop), step=steps)


def _remove(op: Op) -> None:
    """Take out an op that nothing reads any more, and what only it read."""
    sources = [v.op for v in op.operands if v.op is not None and v.op.block is op.block]
    op.drop_operands()
    op.block = None
    for source in sources:
        pure = source.definition.pure and source.block is not None
        if pure and not any(result.uses for result in source.results):
            _remove(source)
