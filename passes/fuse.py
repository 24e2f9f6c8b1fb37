"""Fusion: which ops become one kernel."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Function, Op, Region, Value, clone_op
from graphmill.ir.ops.base import lookup
from graphmill.ir.ops.control import SEALED
from graphmill.passes.dce import remove_dead
from graphmill.passes.fusion_graph import (
    FusionGraph,
    Node,
    build_graph,
    has_effect,
    node_kind,
)
from graphmill.passes.fusion_groups import Group, Grouping, Limits
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count

KIND = {"map": "loop", "reduce": "reduce", "contract": "contract"}


@register_pass("fuse")
def fuse(function: Function, *, max_ops: int = 64, max_buffers: int = 24) -> Function:
    """Builds kernels: after it, ops that share a loop are inside one `fusion`.

    `loop` fusions yield values of one shape; `reduce` fusions reduce one shape along one set of
    axes and may use the reduced values for further full ones; `contract` fusions are a
    contraction with what computes its operands (`prologue`) and what follows it elementwise;
    `update` fusions compute a window of an array where it goes; `iterate` fusions are a `scan`
    whose elements do not meet, with what computes their start. Ops left bare are kernels of
    their own. Cheap ops are recomputed in every kernel that needs them rather than stored.
    """
    function = function.clone()
    remove_dead(function.block)
    _fuse_block(function.block, Limits(max_ops, max_buffers))
    remove_dead(function.block)
    return function


def _fuse_block(block: Block, limits: Limits) -> None:
    names = {op.name for op in block.ops}
    if "scan" in names:
        from graphmill.passes.iterate import iterate_elements

        iterate_elements(block)
    for op in block.ops:
        if op.name not in SEALED:
            for region in op.regions:
                _fuse_block(region.block, limits)
    graph = build_graph(block)
    groups = Grouping(graph, limits).run()
    units: list[tuple[int, Op]] = []
    owner: dict[Op, int] = {op: i for i, op in enumerate(block.ops)}
    for group in sorted(groups, key=lambda g: g.nodes[0].index):
        units.append((group.nodes[-1].index, _emit(group, graph, block)))
    kept = [op for op in block.ops if op in graph.free and _still_used(op, graph)]
    units += [(owner[op], op) for op in kept]
    _drop_unused(block, {op for _, op in units})
    block.ops = schedule(units)
    for op in block.ops:
        op.block = block
    if "dynamic_update_slice" in names:
        from graphmill.passes.fusion_updates import absorb_updates

        absorb_updates(block)


def _still_used(op: Op, graph: FusionGraph) -> bool:
    """Whether a free constant must stay at block level for an op that reads memory."""
    return op.name == "constant" and any(
        node_kind(user) in ("opaque", "contract") for user in op.result.users
    )


def _drop_unused(block: Block, kept: set[Op]) -> None:
    for op in reversed(block.ops):
        if op not in kept:
            op.drop_operands()
            op.block = None


def _emit(group: Group, graph: FusionGraph, block: Block) -> Op:
    """The op for a group: itself when it is alone and needs no free op, else a fusion."""
    root = group.nodes[-1].op
    ops = _members(group)
    if group.kind == "opaque" or len(ops) == 1:
        return root
    stored = [n for n in group.nodes if _is_stored(n, set(group.nodes), graph)]
    region = Region(Block())
    mapping: dict[Value, Value] = {}
    operands: list[Value] = []
    inside = set(ops)
    for op in ops:
        for operand in op.operands:
            reads_memory = operand.op not in inside or (
                op.definition.fusion == "contract" and operand.op not in graph.prologue
            )
            if operand not in mapping and reads_memory:
                mapping[operand] = region.block.add_arg(operand.type, operand.name)
                operands.append(operand)
        region.block.append(clone_op(op, mapping))
    yielded = [mapping[node.op.result] for node in stored]
    region.block.append(Op(lookup("yield"), yielded, []))
    attrs = {"kind": KIND[group.kind], "reason": _reason(group, stored, operands, graph)}
    types = [value.type for value in yielded]
    fusion = Op(lookup("fusion"), operands, types, attrs, [region], root.loc, root.scope)
    for node, result in zip(stored, fusion.results, strict=True):
        result.name = node.op.result.name
        node.op.result.replace_uses(result)
    count(f"{KIND[group.kind]} kernels")
    count("fused ops", len(ops))
    return fusion


def _members(group: Group) -> list[Op]:
    """The nodes' ops and the free ops they need, each once, operands first."""
    ordered: dict[Op, None] = {}
    for node in group.nodes:
        for op in node.cone:
            ordered[op] = None
        ordered[node.op] = None
    return list(ordered)


def _is_stored(node: Node, inside: set[Node], graph: FusionGraph) -> bool:
    return any(reader not in inside for reader in graph.readers.get(node.op.result, []))


def _reason(
    group: Group, stored: Sequence[Node], operands: Sequence[Value], graph: FusionGraph
) -> str:
    """What the kernel saves, bytes that no longer cross memory, and why it ends where it does."""
    saved: DimLike = 0
    for node in group.nodes:
        if node not in stored:
            saved = saved + node.op.result.tensor.nbytes * 2  # neither written nor read back
        for packed in dict.fromkeys(v for v in node.op.operands if v.op in graph.prologue):
            saved = saved + (packed.tensor.nbytes * 2 if node.kind == "contract" else 0)
    text = f"{len(group.work)} ops, {len(operands)} in, {len(stored)} out, saves {_size(saved)}"
    return "; apart: ".join([text, *list(group.apart)[:1]])


def _size(n: DimLike) -> str:
    if not isinstance(n, int):
        return f"{n} B"
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= scale:
            return f"{n / scale:.1f} {unit}"
    return f"{n} B"


def schedule(units: Sequence[tuple[int, Op]]) -> list[Op]:
    """Order ops so that operands come first, near their given positions; effects keep order."""
    made = {result: op for _, op in units for result in op.results}
    position = {op: at for at, op in units}
    waiting: dict[Op, int] = {}
    followers: dict[Op, list[Op]] = {op: [] for op in position}
    last_effect: Op | None = None
    for _, op in sorted(units, key=lambda unit: unit[0]):
        needs = {made[v] for v in op.operands if v in made}
        if has_effect(op):
            needs |= {last_effect} if last_effect is not None else set()
            last_effect = op
        waiting[op] = len(needs)
        for need in needs:
            followers[need].append(op)
    ready = [(position[op], n, op) for n, op in enumerate(waiting) if not waiting[op]]
    heapq.heapify(ready)
    ordered: list[Op] = []
    while ready:
        _, _, op = heapq.heappop(ready)
        ordered.append(op)
        for follower in followers[op]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, (position[follower], len(ordered) + len(units), follower))
    assert len(ordered) == len(units), "fusion made a cycle"
    return ordered
