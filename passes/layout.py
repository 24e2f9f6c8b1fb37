"""Layout: contractions read and write arrays as they lie, so that transposes need no kernel."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Function, Op, Value, walk
from graphmill.ir.ops.contract import free_axes
from graphmill.passes.dce import remove_dead
from graphmill.passes.manager import register_pass
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count
from graphmill.passes.structure import emit_like

MAX_ROUNDS = 8


@register_pass("layout")
def layout(function: Function) -> Function:
    """Folds transposes into contractions. After it, none stands before one that could read it.

    An operand's transpose becomes other axis numbers; a transpose of a product without batch axes
    becomes the product with operands exchanged; a transpose before elementwise ops that only
    contractions read moves past them. What is left is counted: each is a copy.
    """
    function = function.clone()
    for _ in range(MAX_ROUNDS):
        if not rewrite(function.block, _visit):
            break
        remove_dead(function.block)
    for op in walk(function.block):
        if op.name == "transpose":
            count("transposes left")
        if op.name == "dot_general" and _is_constant(op.operands[1]):
            count("constant weights")
    return function


def _visit(op: Op, builder: Builder) -> Replacement:
    if op.name == "dot_general":
        return _read_transposed(op, builder)
    if op.name == "transpose":
        return _write_transposed(op, builder)
    if op.definition.fusion == "elementwise":
        return _transpose_after(op, builder)
    return None


def _read_transposed(op: Op, builder: Builder) -> Replacement:
    attrs, operands = dict(op.attrs), list(op.operands)
    for position, side in enumerate("xy"):
        source = operands[position].op
        if source is None or source.name != "transpose":
            continue
        perm = source.attrs["perm"]
        batch = tuple(perm[a] for a in attrs[f"{side}_batch"])
        contract = tuple(perm[a] for a in attrs[f"{side}_contract"])
        used = [*attrs[f"{side}_batch"], *attrs[f"{side}_contract"]]
        free = [perm[a] for a in free_axes(len(perm), used)]
        if free != sorted(free):
            continue
        attrs |= {f"{side}_batch": batch, f"{side}_contract": contract}
        operands[position] = source.operands[0]
    if operands == op.operands:
        return None
    count("transposes folded")
    return builder.emit("dot_general", operands, attrs).result


def _write_transposed(op: Op, builder: Builder) -> Replacement:
    dot = op.operands[0].op
    if dot is None or dot.name != "dot_general" or len(dot.result.uses) != 1:
        return None
    x, y = dot.operands
    a = dot.attrs
    batch = len(a["x_batch"])
    rows = x.tensor.rank - batch - len(a["x_contract"])
    columns = y.tensor.rank - batch - len(a["y_contract"])
    swapped = [
        *range(batch), *range(batch + rows, batch + rows + columns), *range(batch, batch + rows),
    ]  # fmt: skip
    if list(op.attrs["perm"]) != swapped:
        return None
    count("transposes folded")
    return builder.op(
        "dot_general", y, x, x_batch=a["y_batch"], y_batch=a["x_batch"],
        x_contract=a["y_contract"], y_contract=a["x_contract"], dtype=a["dtype"],
    )  # fmt: skip


def _transpose_after(op: Op, builder: Builder) -> Replacement:
    """f(x.T, y.T) = f(x, y).T where only contractions read it."""
    users = op.result.users
    if not users or any(user.name != "dot_general" for user in users):
        return None
    perms = {
        tuple(v.op.attrs["perm"]) for v in op.operands if v.op is not None and _is_transpose(v.op)
    }
    if len(perms) != 1:
        return None
    (perm,) = perms
    if not all(_movable(v) for v in op.operands):
        return None
    inverse = sorted(range(len(perm)), key=perm.__getitem__)
    operands = [_untransposed(v, inverse, builder) for v in op.operands]
    count("transposes moved")
    return builder.transpose(emit_like(op, operands, builder), perm)


def _is_transpose(op: Op) -> bool:
    return op.name == "transpose"


def _movable(value: Value) -> bool:
    """A transpose, or something repeated along all axes but one."""
    op = value.op
    if op is None:
        return False
    return _is_transpose(op) or (op.name == "broadcast" and len(op.attrs["axes"]) <= 1)


def _untransposed(value: Value, inverse: Sequence[int], builder: Builder) -> Value:
    op = value.op
    assert op is not None
    if op.name == "transpose":
        return op.operands[0]
    shape = [value.shape[axis] for axis in inverse]
    return builder.broadcast(op.operands[0], shape, [inverse.index(a) for a in op.attrs["axes"]])


def _is_constant(value: Value) -> bool:
    return value.op is not None and value.op.name == "constant"
