"""Rules for control flow: what does not change in a loop is computed and carried once."""

from __future__ import annotations

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Block, Op, Region, Value, clone_op
from graphmill.ir.literals import dim_names
from graphmill.ir.ops.control import SEALED
from graphmill.ir.types import TensorType
from graphmill.passes.rewrite import Replacement, structural
from graphmill.passes.statistics import count

COSTLY_FLOPS = 4.0  # per element: what is worth computing once and keeping
COSTLY_FAMILIES = ("contract", "reduce", "order")


@structural("while", "scan")
def capture_unchanged(op: Op, builder: Builder) -> Replacement:
    """A carried value that the body gives back as it is need not be carried."""
    carry, body = op.attrs["carry"], op.regions[-1].block
    fixed = [i for i in range(carry) if body.yielded[i] is body.args[i]]
    if not fixed or (op.name == "while" and len(fixed) == carry):
        return None
    moving = [i for i in range(carry) if i not in fixed]
    order = [*moving, *range(carry, len(op.operands)), *fixed]
    for region in op.regions:
        block = region.block
        block.args = [block.args[i] for i in order]
        for i, arg in enumerate(block.args):
            arg.index = i
    body.terminator.set_operands([v for i, v in enumerate(body.yielded) if i not in fixed])
    operands = [op.operands[i] for i in order]
    made = builder.emit(op.name, operands, {**op.attrs, "carry": len(moving)}, _take_regions(op))
    count("captured", len(fixed))
    stacked = range(carry, len(op.results))
    results = dict(zip([*moving, *stacked], made.results, strict=True))
    return [op.operands[i] if i in fixed else results[i] for i in range(len(op.results))]


@structural("while", "scan")
def hoist_invariants(op: Op, builder: Builder) -> Replacement:
    """Costly ops of a body that read only what the loop captures are computed before it."""
    first = op.attrs["carry"] + op.attrs.get("xs", 0)
    body = op.regions[-1].block
    fixed: set[Value] = set(body.args[first:])
    steady: list[Op] = []
    for inner in body.ops[:-1]:
        still = all(v in fixed for v in inner.operands) and not _names(inner, op.attrs.get("turn"))
        if still and inner.definition.pure and not inner.regions and inner.name != "token":
            fixed.update(inner.results)
            steady.append(inner)
    costly = [inner for inner in steady if _is_costly(inner)]
    if not costly:
        return None
    mapping = dict(zip(body.args, op.operands, strict=True))
    for inner in _needed(costly, steady):
        builder.block.append(clone_op(inner, mapping))
    operands = list(op.operands)
    for inner in costly:
        for result in inner.results:
            operands.append(mapping[result])
            for region in op.regions:
                arg = region.block.add_arg(result.type, result.name)
            result.replace_uses(arg)  # the last region is the body
    count("hoisted", len(costly))
    return builder.emit(op.name, operands, op.attrs, _take_regions(op)).results


def _names(op: Op, turn: str | None) -> bool:
    """Whether an op depends on the number of the turn by its shapes or attributes."""
    if turn is None:
        return False
    named = [dim_names(value) for value in op.attrs.values()]
    named += [v.tensor.names for v in op.results if isinstance(v.type, TensorType)]
    return any(turn in names for names in named)


def _is_costly(op: Op) -> bool:
    return op.definition.flops >= COSTLY_FLOPS or op.definition.family in COSTLY_FAMILIES


def _needed(wanted: list[Op], steady: list[Op]) -> list[Op]:
    """The ops of `steady` that the wanted ones depend on, and those, in order."""
    needed = set(wanted)
    for op in reversed(steady):
        if op in needed:
            needed.update(v.op for v in op.operands if v.op is not None)
    return [op for op in steady if op in needed]


def _take_regions(op: Op) -> list[Region]:
    regions, op.regions = op.regions, []
    return regions


def sink_constants(block: Block) -> set[Op]:
    """Give regions their own copies of the constants they capture, so that ops inside see them.

    Returns the copies.
    """
    sunk: set[Op] = set()
    for op in block.ops:
        if not op.regions or op.name in SEALED:
            continue
        first = {"cond": 1, "while": op.attrs.get("carry", 0)}.get(op.name)
        if op.name == "scan":
            first = op.attrs["carry"] + op.attrs["xs"]
        for region in op.regions:
            inner = region.block
            shift = 1 if op.name == "cond" else 0
            for arg in inner.args[(first or 0) - shift :]:
                source = op.operands[arg.index + shift].op
                if source is not None and source.name == "constant" and arg.uses:
                    copy = clone_op(source, {})
                    copy.block = inner
                    inner.ops.insert(0, copy)
                    arg.replace_uses(copy.result)
                    sunk.add(copy)
                    count("constants sunk")
            sunk |= sink_constants(inner)
    return sunk
