"""Attention: softmax(q kᵀ) v as one kernel, which never stores the scores."""

from __future__ import annotations

from dataclasses import field

from graphmill.ir.attention import Attention, attention_at, joined, unwidened
from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Block, Function, Op, Region, Value, clone_op
from graphmill.ir.views import view_of
from graphmill.passes.attention_reasons import missed, obstacle
from graphmill.passes.bands import position_form
from graphmill.passes.dce import remove_dead
from graphmill.passes.fusion_graph import immediate
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count
from graphmill.records import record


@register_pass("attention")
def attention(function: Function, *, min_scores: int = 16) -> Function:
    """Makes softmax(q kᵀ) v one kernel. After it, no such scores are stored for it alone.

    The `attention` fusion holds the ops as they were; code generation runs them block by block
    (`codegen/cpu/attention`). Views of q, k and v and a transpose of the result become strides.
    Scores or weights that something else reads, or fewer than `min_scores` of them, stay apart;
    the function's attribute `apart` says why, with the user's lines.
    """
    function = function.clone()
    apart = _block(function.block, min_scores)
    if apart:
        function.attrs["apart"] = tuple(dict.fromkeys(apart))
    remove_dead(function.block)
    return function


def _block(block: Block, min_scores: int) -> list[str]:
    """Fuse in a block and its regions; what stays apart, and why."""
    apart = []
    for op in block.ops[:]:
        if op.name != "fusion":
            for region in op.regions:
                apart += _block(region.block, min_scores)
        found = attention_at(op)
        path = _path(found, block) if found is not None else set()
        reason = obstacle(found, path, min_scores) if found is not None else missed(op)
        if reason is not None:
            text, blamed = reason
            count(f"apart: {text}")
            apart.append(f"attention at {op.loc or '?'} kept apart: {text} ({blamed.loc or '?'})")
        elif found is not None:
            _fuse(found, path, block)
            count("attention kernels")
    return apart


def _path(found: Attention, block: Block) -> set[Op]:
    """The ops between the first product and the result, both included."""
    after = {found.first}
    last = found.result.op
    for op in block.ops[block.ops.index(found.first) :]:
        if any(v.op in after for v in op.operands):
            after.add(op)
        if op is last:
            break
    needed: set[Op] = set()
    waiting = [last]
    while waiting:
        source = waiting.pop()
        if source is not None and source in after and source not in needed:
            needed.add(source)
            waiting += [v.op for v in source.operands]
    return needed


# ---- the kernel


def _fuse(found: Attention, path: set[Op], block: Block) -> None:
    region = _Region(found, path, block)
    result = found.result
    while len(result.uses) == 1 and result.users[0].name == "transpose":
        path.add(result.users[0])
        result = result.users[0].result
    for op in [op for op in block.ops if op in path or op in region.inside]:
        region.copy(op)
    new = region.finish(result)
    assert result.op is not None
    block.insert_before(result.op, new)
    new.result.name = result.name
    result.replace_uses(new.result)


@record(frozen=False)
class _Region:
    """The kernel's block being built: copies of the ops inside, arguments for all else."""

    found: Attention
    path: set[Op]
    block: Block
    region: Region = field(default_factory=Region)
    inside: set[Op] = field(default_factory=set)
    mapping: dict[Value, Value] = field(default_factory=dict)
    operands: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        for value in (self.found.q, self.found.k, self.found.v):
            for op in self._absorbed(value):
                self.inside.add(op)
                self.inside |= {v.op for v in op.operands[1:] if v.op is not None}
        for op in self.path:
            for value in op.operands:
                self._enter(value)

    def _absorbed(self, value: Value) -> list[Op]:
        """Views, joins and the widening cast between the memory that the kernel reads and an
        operand of the products."""
        found, source = self.found, unwidened(value)
        pairs = joined(found)
        pieces = [source]
        if len(pairs) > 1 and all(_only_joined_for(v, found) for v in (found.k, found.v)):
            pieces = [pair[value is found.v] for pair in pairs] if value is not found.q else pieces
        ops: list[Op] = []
        for piece in pieces:
            view = view_of(piece)
            if all(view.single(axis) is not None for axis in _stepped(found, value)):
                ops += view.ops
        for made in (source,) * (len(pieces) > 1) + (value,) * (source is not value):
            assert made.op is not None
            ops.append(made.op)
        return ops

    def _enter(self, value: Value) -> None:
        """Take a mask's or bias's op inside when it costs next to nothing or moves no memory."""
        op = value.op
        products = (self.found.first, self.found.second)
        if op is None or op in self.path or op in self.inside:
            return
        users = [user for user in value.users if user in self.path]
        if users and all(user in products for user in users):
            return
        full = tuple(value.shape) == tuple(self.found.scores.shape)
        elementwise = op.definition.family == "elementwise"
        if op.name in ("broadcast", "iota") or (elementwise and (full or _of_positions(value))):
            self.inside.add(op)
            for operand in op.operands:
                self._enter(operand)
        elif op.name == "constant" and (immediate(op) or position_form(op.attrs["value"])):
            self.inside.add(op)

    def copy(self, op: Op) -> None:
        """Append an op's copy, with arguments for what it reads from outside."""
        block = self.region.block
        if op.name == "constant" and not immediate(op):
            form = position_form(op.attrs["value"])
            assert form is not None
            builder = Builder(block)
            with builder.at(op.loc, op.scope):
                self.mapping[op.result] = form(builder)
            return
        for operand in op.operands:
            if operand not in self.mapping:
                self.mapping[operand] = block.add_arg(operand.type, operand.name)
                self.operands.append(operand)
        block.append(clone_op(op, self.mapping))

    def finish(self, result: Value) -> Op:
        """The fusion that yields `result`."""
        builder = Builder(self.region.block)
        builder.emit("yield", [self.mapping[result]])
        outer = Builder(Block())
        attrs = {"kind": "attention", "reason": _reason(self.found)}
        with outer.at(self.found.second.loc, self.found.second.scope):
            op = outer.emit("fusion", self.operands, attrs, [self.region])
        op.block = None
        return op


def _stepped(found: Attention, value: Value) -> list[int]:
    """The axes of an operand that the kernel walks by one stride."""
    row = found.q_axes[found.rows] if found.rows is not None else None
    roles = (
        (found.q, (found.q_depth, row)),
        (found.k, (found.k_depth, found.k_axes[found.keys])),
        (found.v, (found.v_width, found.v_axes[found.keys])),
    )
    return [a for operand, axes in roles if operand is value for a in axes if a is not None]


def _only_joined_for(value: Value, found: Attention) -> bool:
    """Whether nobody else reads the joined keys or values, which then need not be stored."""
    readers = (found.first, found.second)
    source = unwidened(value)
    seen = [user for v in (value, source) for user in v.users if user.result is not value]
    return all(user in readers for user in seen)


def _of_positions(value: Value) -> bool:
    """Whether a value is computed from positions, constants and scalars alone."""
    op = value.op
    if not value.shape or op is None:
        return not value.shape
    if op.name == "constant":
        return immediate(op) or position_form(op.attrs["value"]) is not None
    if op.name == "iota":
        return True
    cheap = op.definition.family == "elementwise" or op.name == "broadcast"
    return cheap and all(_of_positions(v) for v in op.operands)


def _reason(found: Attention) -> str:
    """What the kernel is, and the bytes of scores and weights that no longer cross memory."""
    scores: DimLike = product(found.scores.shape)
    saved = scores * (found.scores.tensor.dtype.itemsize * 4)
    form = "online softmax" if found.softmax.shifted else "softmax without shift"
    return f"{form} over blocks of keys, saves {saved} B of scores and weights"
