"""Growing kernels: merging nodes into groups that have a kernel's form and make no cycle."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import field

from graphmill.ir.dims import product
from graphmill.ir.forms import Form, Shape
from graphmill.ir.graph import Op, Value
from graphmill.passes.fusion_forms import (
    is_row_value,
    is_serial,
    joined,
    reads_itself,
    unrolled_obstacle,
)
from graphmill.passes.fusion_graph import SAME, FusionGraph, Node
from graphmill.passes.statistics import count
from graphmill.records import record

NO_WORK = frozenset({"constant", "iota", "broadcast"})
SMALL_LOOP = 16384  # elements: below, a kernel's start and end weigh more than its work
SHARED_BYTES = 4096  # an input worth reading once for two kernels


@record
class Limits:
    """What one kernel may hold."""

    max_ops: int = 64
    max_buffers: int = 24


@record(frozen=False, eq=False)
class Group:
    """The nodes of one kernel. `mask` has the bit of every group merged into this one."""

    number: int
    kind: str
    nodes: list[Node]
    form: Form
    mask: int = 0
    above: int = 0  # bits of the groups it depends on, directly or not
    sources: set[int] = field(default_factory=set)
    work: set[Op] = field(default_factory=set)  # the ops that cost something, cones included
    inputs: set[Value] = field(default_factory=set)
    outputs: set[Value] = field(default_factory=set)
    strided: bool = False
    apart: dict[str, None] = field(default_factory=dict)  # why it did not grow further


class Grouping:
    """Groups over the nodes of one block, merged greedily in program order."""

    def __init__(self, graph: FusionGraph, limits: Limits) -> None:
        self.graph = graph
        self.limits = limits
        self.order = {v: n for n, node in enumerate(graph.nodes) for v in node.op.results}
        self.groups: dict[int, Group] = {}
        self.home: dict[Node, int] = {}
        self.alias: dict[int, int] = {}
        self.readers: dict[Value, list[int]] = {}
        self.last_effect: Group | None = None
        self.newest: Group | None = None  # nothing depends on it yet

    # ---- look-ups

    def group(self, number: int) -> Group:
        """The group that `number` has become part of."""
        while number in self.alias:
            number = self.alias[number]
        return self.groups[number]

    def source(self, value: Value) -> Group | None:
        """The group that computes a value; None for what comes from outside the block."""
        node = self.graph.node_of.get(value.op) if value.op is not None else None
        return self.group(self.home[node]) if node is not None and node in self.home else None

    # ---- building

    def run(self) -> list[Group]:
        """Place all nodes; returns the groups."""
        epilogues = self._epilogues()
        closed = {node: members for members in epilogues for node in members}
        for node in self.graph.nodes:
            members = closed.get(node, [node])
            if node is not members[-1]:
                continue
            group = self._place(members)
            if group.kind in ("map", "reduce"):
                self._merge_with_sources(group)
        self._merge_side_by_side()
        return list(self.groups.values())

    def _merge_side_by_side(self) -> None:
        """Merge independent small kernels of one form: starting each costs more than its work."""
        last: dict[object, Group] = {}
        for group in list(self.groups.values()):
            if group.kind not in ("map", "reduce") or not _is_small(group.form.full):
                continue
            form = (group.kind, group.form)
            other = last.get(form)
            if other is None or not self._try(other, group):
                last[form] = group

    def _place(self, members: list[Node]) -> Group:
        first, number = members[0], members[-1].index
        form = Form(tuple(first.loop), first.axes)
        group = Group(number, first.kind, members, form, 1 << number)
        group.work = {op for n in members for op in (n.op, *n.cone) if op.name not in NO_WORK}
        group.strided = any(n.strided for n in members)
        group.inputs = {value for n in members for value in n.reads}
        group.outputs = {result for n in members for result in n.op.results}
        self.groups[number] = self.newest = group
        for node in members:
            self.home[node] = number
        for node in members:
            for value in node.reads:
                self._depend(group, self.source(value))
                self.readers.setdefault(value, []).append(number)
            if node.ordered:
                self._depend(group, self.last_effect)
                self.last_effect = group
        return group

    def _depend(self, group: Group, source: Group | None) -> None:
        if source is not None and source is not group:
            group.sources.add(source.number)
            group.above |= source.mask | source.above

    def _merge_with_sources(self, group: Group) -> None:
        """Merge a new group with the kernels it reads, then with readers of the same input."""
        (node,) = group.nodes
        group = self._merge_with(group, node.reads)
        if node.kind == "reduce":  # what it now holds may be what a short reduction is for
            group = self._merge_with(group, group.inputs)
        for value, paths in node.reads.items():
            group = self.group(group.number)
            whole = SAME in paths and tuple(value.shape) == group.form.full
            if whole and _weight(value) > SHARED_BYTES:
                for number in self.readers[value][-8:]:
                    other = self.group(number)
                    if other is not group:
                        self._try(other, group)
                        group = self.group(group.number)

    def _merge_with(self, group: Group, values: Iterable[Value]) -> Group:
        """Merge a group with the kernels of what it reads, as far as that goes."""
        made = [value for value in values if value in self.order]
        for value in sorted(made, key=lambda v: (-_weight(v), self.order[v])):
            source = self.source(value)
            group = self.group(group.number)
            if source is not None and source is not group:
                self._try(source, group)
        return self.group(group.number)

    def _try(self, a: Group, b: Group) -> bool:
        """Merge two groups when the form allows it and no cycle arises."""
        kind = "reduce" if "reduce" in (a.kind, b.kind) else "map"
        form = None
        if a.kind in ("map", "reduce") and b.kind in ("map", "reduce"):
            form = joined(a.kind, a.form, b.kind, b.form, a.number in b.sources)
        if form is None:
            return False
        reason = self._obstacle(a, b, kind, form)
        if reason:
            count(f"apart: {reason}")
            for group in (a, b):
                group.apart.setdefault(reason)
            return False
        self._merge(a, b, kind, form)
        return True

    def _obstacle(self, a: Group, b: Group, kind: str, form: Form) -> str:
        work = a.work | b.work
        if len(work) > self.limits.max_ops:
            return "more than max_ops ops"
        if kind == "reduce" and (self._reduced_elsewhere(a, b) or self._reduced_elsewhere(b, a)):
            return "only reductions along other axes read it"
        if kind == "reduce" and (a.strided or b.strided):
            return "a transposed read would be repeated in every pass over the row"
        for reader, writer in ((a, b), (b, a)):
            wrong = self._illegal_edge(reader, writer, form)
            if wrong:
                return wrong
        if self._indirect(a, b) or self._indirect(b, a):
            return "a kernel between them needs one's result for the other"
        if self._buffers(a, b) > self.limits.max_buffers:
            return "more than max_buffers arrays"
        return unrolled_obstacle(form, *self._boundary(a, b), len(work)) if form.unrolled else ""

    def _illegal_edge(self, reader: Group, writer: Group, form: Form) -> str:
        """Why `reader` cannot read values of `writer` inside one kernel; empty if it can."""
        for node, value in self._between(reader, writer):
            for path in node.reads[value]:
                if reads_itself(path, value, node):
                    continue
                if not is_row_value(path, value, node, form):
                    return "it reads other elements of the result than its own"
                if is_serial(form):
                    return "few long rows: one kernel would be serial"
        return ""

    def _between(self, reader: Group, writer: Group) -> Iterator[tuple[Node, Value]]:
        """Each node of `reader` with each value of `writer` that it reads."""
        if len(reader.nodes) <= len(writer.nodes):
            for node in reader.nodes:
                for value in node.reads:
                    if self.source(value) is writer:
                        yield node, value
            return
        for made in writer.nodes:
            for value in made.op.results:
                for node in self.graph.readers.get(value, []):
                    if self._is_in(node, reader):
                        yield node, value

    def _is_in(self, node: Node | None, *groups: Group) -> bool:
        return node is not None and node in self.home and self.group(self.home[node]) in groups

    def _indirect(self, a: Group, b: Group) -> bool:
        """Whether b depends on a through a third group."""
        return any(
            self.group(s) is not a and self.group(s) is not b and self.group(s).above & a.mask
            for s in b.sources
        )

    def _reduced_elsewhere(self, rows: Group, other: Group) -> bool:
        """Whether full values made from reduced ones alone are only read along other axes.

        Those reductions then start from the reduced values, and nothing full is stored.
        """
        if rows.kind != "reduce" or other.kind != "map" or other.form.full != rows.form.full:
            return False
        if any(True for _ in self._between(rows, other)):
            return False
        if any(tuple(value.shape) == rows.form.full for _, value in self._between(other, rows)):
            return False
        waiting, seen = list(other.nodes), set(other.nodes)
        while waiting and len(seen) <= self.limits.max_ops:
            node = waiting.pop()
            for reader in self._followers(node):
                if tuple(reader.loop) != rows.form.full:
                    return False
                if reader.kind == "map" and reader not in seen:
                    seen.add(reader)
                    waiting.append(reader)
                elif reader.kind not in ("map", "reduce") or reader.axes == rows.form.axes:
                    return False
        return not waiting

    def _buffers(self, a: Group, b: Group) -> int:
        """How many arrays the union would read and write."""
        inputs, outputs = self._boundary(a, b)
        return len(inputs) + len(outputs)

    def _boundary(self, a: Group, b: Group) -> tuple[set[Value], set[Value]]:
        """What the union reads from outside, and what others read (or may yet read) of it."""
        inputs = {
            value
            for value in a.inputs | b.inputs
            if value.op is None or not self._is_in(self.graph.node_of.get(value.op), a, b)
        }
        outputs = {
            value
            for value in a.outputs | b.outputs
            if not all(self._is_in(reader, a, b) for reader in self.graph.readers.get(value, []))
        }
        return inputs, outputs

    def _escapes(self, value: Value, inside: set[Node]) -> bool:
        return any(reader not in inside for reader in self.graph.readers.get(value, []))

    def _merge(self, a: Group, b: Group, kind: str, form: Form) -> None:
        """Let b become part of a, and keep the closure of dependences right."""
        news = b.above & ~(a.above | a.mask)
        a.inputs, a.outputs = self._boundary(a, b)
        a.strided |= b.strided
        a.kind, a.form = kind, form
        a.nodes = sorted(a.nodes + b.nodes, key=lambda node: node.index)
        a.mask |= b.mask
        a.work |= b.work
        a.apart |= b.apart
        a.sources = {self.group(s).number for s in a.sources | b.sources} - {a.number, b.number}
        a.above = (a.above | b.above) & ~a.mask
        self.alias[b.number] = a.number
        del self.groups[b.number]
        if b is not self.newest or news:  # what depends on a union depends on all it depends on
            grown = a.above | a.mask
            for other in self.groups.values():
                if other.above & a.mask and other is not a:
                    other.above |= grown
        self.newest = None

    # ---- contraction epilogues

    def _epilogues(self) -> list[list[Node]]:
        taken: set[Node] = set()
        found = []
        for node in self.graph.nodes:
            if node.kind == "contract":
                members = self._epilogue(node, taken)
                taken.update(members)
                found.append(members)
        return found

    def _epilogue(self, root: Node, taken: set[Node]) -> list[Node]:
        """The longest run of elementwise nodes after `root` that leaves one value to store.

        A node joins when all it reads is inside, or computed without anything outside that
        depends on the inside (`tainted`).
        """
        inside, tainted, best = [root], set[Node](), 1
        members = {root}
        queue = [(n.index, n) for n in self.graph.readers.get(root.op.result, [])]
        heapq.heapify(queue)
        seen: set[Node] = set()
        while queue and len(seen) < 4 * self.limits.max_ops:
            _, node = heapq.heappop(queue)
            if node in seen:
                continue
            seen.add(node)
            if (
                node not in taken
                and _can_follow(node, root)
                and self._reads_only(node, members, tainted, root.index)
            ):
                inside.append(node)
                members.add(node)
                if self._stored(inside, members) == [node] and len(inside) <= self.limits.max_ops:
                    best = len(inside)
            else:
                tainted.add(node)
            for result in node.op.results:
                for reader in self.graph.readers.get(result, []):
                    heapq.heappush(queue, (reader.index, reader))
            if not any(n not in seen for m in inside for n in self._followers(m)):
                break
        return inside[:best]

    def _followers(self, node: Node) -> Iterable[Node]:
        for result in node.op.results:
            yield from self.graph.readers.get(result, [])

    def _reads_only(self, node: Node, members: set[Node], tainted: set[Node], root: int) -> bool:
        """Whether all a node reads is inside, or is there before the contraction at `root`.

        The sum of two products is the later one's epilogue, so that one needs no third array.
        """
        for value, paths in node.reads.items():
            source = self.graph.node_of.get(value.op) if value.op is not None else None
            if source in tainted:
                return False
            later = source is not None and source.kind == "contract" and source.index > root
            if later and source not in members:
                return False
            if source in members and paths != {SAME}:
                return False
        return True

    def _stored(self, inside: list[Node], members: set[Node]) -> list[Node]:
        return [n for n in inside if any(self._escapes(r, members) for r in n.op.results)]


def _is_small(shape: Shape) -> bool:
    size = product(shape)
    return isinstance(size, int) and size <= SMALL_LOOP


def _can_follow(node: Node, root: Node) -> bool:
    return (
        node.kind == "map"
        and node.op.definition.fusion == "elementwise"
        and tuple(node.loop) == tuple(root.loop)
    )


def _weight(value: Value) -> int:
    size = value.tensor.nbytes
    return size if isinstance(size, int) else 1 << 40
