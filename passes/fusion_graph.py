"""What fusion decides over: the ops of a block as nodes, and how each reads the others.

An op is *free* when every kernel that needs it recomputes it (a broadcast, an iota, a slice, a
cast of a parameter): it belongs to no kernel and is cloned into each. All other ops are *nodes*.
A node reads another node's value along a path of free ops, which is

- `same`: element i of the reader needs element i (elementwise all the way),
- `broadcast`: element i needs the element at some of i's axes,
- `index`: anything else, so that the value must lie in memory before the reader starts.

What a product evaluates as it packs an operand (`prologue`) is free as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Op, Value, walk
from graphmill.passes.prologue import prologue_ops
from graphmill.records import record

CHEAP_FLOPS = 4.0  # per element: what may be computed twice rather than stored
CHEAP_OPS = 6
SMALL_CONSTANT = 64
LITTLE = 16  # times smaller than a value: what it is computed from, wherever it is needed

SAME = ("same",)
INDEX = ("index",)
Path = tuple[str] | tuple[str, tuple[int, ...]]


@record(frozen=False, eq=False)
class Node:
    """An op that one kernel computes, with the paths by which it reads other values."""

    op: Op
    index: int
    kind: str  # map, reduce, contract or opaque
    loop: tuple[DimLike, ...] = ()  # the shape it iterates over
    axes: tuple[int, ...] = ()  # reduced axes
    reads: dict[Value, set[Path]] = field(default_factory=dict)
    cone: list[Op] = field(default_factory=list)  # the free ops it needs, in order
    strided: bool = False  # reads along another axis than the last
    ordered: bool = False  # has an effect, and keeps its place among the others that have one


@record(frozen=False)
class FusionGraph:
    """The nodes of a block in order, and which nodes read each value."""

    nodes: list[Node]
    free: set[Op]
    readers: dict[Value, list[Node]]
    node_of: dict[Op, Node]
    prologue: set[Op]


def build_graph(block: Block) -> FusionGraph:
    """Sort the ops of a block into free ones and nodes, and find every node's reads."""
    prologue = prologue_ops(block)
    free = _free_ops(block, prologue)
    graph = FusionGraph([], free, {}, {}, prologue)
    for index, op in enumerate(block.ops):
        if op in free:
            continue
        node = Node(op, index, node_kind(op), ordered=has_effect(op))
        if node.kind != "opaque":
            node.loop = op.operands[0].shape if node.kind == "reduce" else op.result.shape
            node.axes = tuple(op.attrs["axes"]) if node.kind == "reduce" else ()
        _find_reads(node, graph)
        graph.nodes.append(node)
        graph.node_of[op] = node
        for value in node.reads:
            graph.readers.setdefault(value, []).append(node)
    return graph


def node_kind(op: Op) -> str:
    """Which kernel an op can be part of."""
    fusion = op.definition.fusion
    if fusion in ("elementwise", "index") and op.name != "constant":
        return "map"
    if fusion == "reduce" and op.attrs["axes"]:
        return "reduce"
    return "contract" if fusion == "contract" else "opaque"


def has_effect(op: Op) -> bool:
    """Whether an op, or one inside it, does more than compute."""
    if op.definition.effect not in ("pure", "random"):
        return True
    if not op.regions or op.name == "fusion":
        return False
    return any(has_effect(inner) for region in op.regions for inner in walk(region.block))


def immediate(op: Op | None) -> bool:
    """Whether this is a constant of one repeated value, which code holds as an immediate."""
    if op is None or op.name != "constant":
        return False
    array = op.attrs["value"]
    if not 1 <= array.size <= SMALL_CONSTANT:
        return False
    content: bytes = array.tobytes()
    item: int = array.itemsize
    return content == content[:item] * (len(content) // item)


# ---- free ops


@record(frozen=False)
class _Cone:
    """The recomputation that a free op stands for: its own and that of free operands."""

    ops: int
    flops: float
    leaves: dict[Value, None]


def _free_ops(block: Block, prologue: set[Op]) -> set[Op]:
    cones: dict[Op, _Cone] = {}
    for op in block.ops:
        if immediate(op):
            cones[op] = _Cone(1, 0.0, {})
        elif op in prologue:
            cones[op] = _cone_of(op, cones)
        elif node_kind(op) == "map" and not _must_be_stored(op, prologue):
            cone = _cone_of(op, cones)
            if _is_free(op, cone):
                cones[op] = cone
    return set(cones)


def _must_be_stored(op: Op, prologue: set[Op]) -> bool:
    """Whether some user needs the value in memory: one that transposes it does so by tiles, which
    parts of several arrays do not form."""
    if op.name == "concat" and any(map(_turns_last, op.result.users)):
        return True
    array = op.name != "broadcast"  # of what a prologue reads, only arrays lie there
    return any(
        node_kind(user) in ("opaque", "contract") or (array and user in prologue)
        for user in op.result.users
    )


def _turns_last(op: Op) -> bool:
    return op.name == "transpose" and op.attrs["perm"][-1] != len(op.attrs["perm"]) - 1


def _cone_of(op: Op, cones: dict[Op, _Cone]) -> _Cone:
    flops = 0.0 if op.definition.fusion == "index" else op.definition.flops
    cone = _Cone(1, _INDEX_FLOPS.get(op.name, flops), {})
    for operand in op.operands:
        source = operand.op
        if source in cones:
            inner = cones[source]
            cone.ops += inner.ops
            cone.flops += inner.flops
            cone.leaves |= inner.leaves
        else:
            cone.leaves[operand] = None
    if op.name == "concat":
        cone.flops += len(op.operands)
    return cone


_INDEX_FLOPS = {"rng_bits": 60.0, "gather": 2.0, "pad": 1.0, "dynamic_slice": 0.5}


def _is_free(op: Op, cone: _Cone) -> bool:
    if cone.ops > CHEAP_OPS * 2 or not op.result.uses:
        return False
    cheap = cone.flops <= CHEAP_FLOPS and cone.ops <= CHEAP_OPS
    if op.definition.fusion == "index":
        moved_once = len(op.result.uses) == 1 and _multiplicity(op) <= 1.0
        return op.name in ("broadcast", "iota") or cheap or moved_once
    if not all(_external(leaf) for leaf in cone.leaves) and not _from_little(op, cone):
        return False
    if cheap and _multiplicity(op) > 1.0:
        return cone.flops <= CHEAP_FLOPS / 2 and len(cone.leaves) <= 2
    if len(op.result.uses) == 1:
        user = op.result.users[0]
        inlined = user.definition.fusion == "index" and user.name not in ("concat", "gather")
        return cheap or (inlined and _multiplicity(op) <= 1.0)
    return cheap and _leaf_bytes(cone) <= _bytes(op.result)


def _external(value: Value) -> bool:
    """Whether the value lies in memory whatever fusion decides."""
    return value.op is None or node_kind(value.op) == "opaque"


def _from_little(op: Op, cone: _Cone) -> bool:
    """Whether a value is much larger than all it is computed from."""
    return op.result.tensor.is_static and _leaf_bytes(cone) * LITTLE <= _bytes(op.result)


def _multiplicity(op: Op) -> float:
    """How often index ops among the users evaluate each element, at most; 9 when not known."""
    most = 0.0
    for user in op.result.users:
        if user.definition.fusion != "index":
            continue
        if user.name in ("slice", "reverse", "transpose", "concat", "dynamic_slice"):
            most = max(most, 1.0)
        elif op.result.tensor.is_static and user.result.tensor.is_static:
            most = max(most, _count(user.result) / max(_count(op.result), 1))
        else:
            most = 9.0
    return most


def _count(value: Value) -> int:
    size = value.tensor.size
    return size if isinstance(size, int) else 1 << 20


def _bytes(value: Value) -> int:
    return _count(value) * value.tensor.dtype.itemsize


def _leaf_bytes(cone: _Cone) -> int:
    return sum(_bytes(leaf) for leaf in cone.leaves)


# ---- reads


def _find_reads(node: Node, graph: FusionGraph) -> None:
    """Fill in `reads`, `cone` and `strided` by walking the free ops above a node."""
    free = graph.free
    cone: dict[Op, None] = {}
    seen: set[tuple[Op, Path]] = set()

    def walk(op: Op, path: Path) -> None:
        for operand, through in _steps(op, path):
            source = operand.op
            if source is None or source not in free:
                node.reads.setdefault(operand, set()).add(through)
                continue
            if (source, through) not in seen:
                seen.add((source, through))
                walk(source, through)
            cone[source] = None
        if _turns_last(op):
            node.strided = True

    if node.kind in ("opaque", "contract"):
        for operand in node.op.operands:
            if operand.op in graph.prologue:
                walk(operand.op, INDEX)
                cone[operand.op] = None
            else:
                node.reads.setdefault(operand, set()).add(INDEX)
        node.cone = list(cone)
        return
    walk(node.op, SAME)
    node.cone = list(cone)


def _steps(op: Op, path: Path) -> Iterator[tuple[Value, Path]]:
    """Each operand of an op that is read along `path`, and the path to the operand."""
    for operand in op.operands:
        if op.definition.fusion in ("elementwise", "reduce") or path == INDEX:
            yield operand, path
        elif op.name == "gather" and path == SAME and _one_index_each(op, operand):
            yield operand, SAME
        elif op.name == "broadcast" and path == SAME:
            yield operand, ("broadcast", tuple(op.attrs["axes"]))
        else:
            yield operand, INDEX


def _one_index_each(op: Op, operand: Value) -> bool:
    """Whether element i of a gather reads this operand's element i, to know where to look."""
    array, *indices = op.operands
    picks_elements = len(op.attrs["axes"]) == len(array.shape)
    return picks_elements and operand is not array and operand in indices
