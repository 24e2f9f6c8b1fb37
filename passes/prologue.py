"""Which ops a product evaluates while it packs an operand, so that the result is never stored.

A widening cast that only products (of integers also convolutions) read is evaluated by each of
them: it costs nothing beside the loads. More than that, as the dequantisation
`(q.astype(f32) - zero) * scale`, is evaluated for the right operand, whose elements are packed
once, and reads one array of the operand's size.
"""

from __future__ import annotations

from graphmill.ir.graph import Block, Op, Value
from graphmill.passes.structure import holds

MOST_FLOPS = 16.0  # per element: packing stays cheaper than storing and reading it again
MOST_OPS = 12


def prologue_ops(block: Block) -> set[Op]:
    """The ops of a block that are evaluated inside the products that read them."""
    found: set[Op] = set()
    for op in block.ops:
        if is_operand_cast(op):
            found.add(op)
        elif op.name == "dot_general":
            found |= _right_operand(op)
    return found


def is_operand_cast(op: Op) -> bool:
    """Whether this cast widens, losing nothing, and only products read the result.

    Products are those of matrices and, of integers, convolutions.
    """
    if op.name != "cast" or not op.result.uses:
        return False
    narrow, wide = op.operands[0].tensor.dtype, op.result.tensor.dtype
    products = ("dot_general",) if wide.is_float else ("dot_general", "conv")
    if any(user.name not in products for user in op.result.users):
        return False
    alike = narrow.is_float == wide.is_float and not (narrow.kind == "b" or wide.is_complex)
    return alike and narrow is not wide and holds(wide, narrow)


def _right_operand(dot: Op) -> set[Op]:
    """The elementwise ops that compute a product's matrix on the right from one narrow array."""
    y, attrs = dot.operands[1], dot.attrs
    if y.op is None or attrs["y_batch"] or not attrs["y_contract"]:
        return set()
    if len(attrs["y_contract"]) == y.tensor.rank:
        return set()
    if dot.operands[0] is y or y.tensor.dtype.kind not in "iuf":
        return set()
    inside, waiting, full = set[Op](), [y], dict[Value, None]()
    flops = 0.0
    while waiting:
        value = waiting.pop()
        op = value.op
        if op is not None and _joins(op, y, {*inside, dot}):
            inside.add(op)
            flops += op.definition.flops
            waiting += [v for v in op.operands if v not in waiting]
        elif op is None or op.name != "broadcast":
            full[value] = None
    if not inside or len(inside) > MOST_OPS or flops > MOST_FLOPS:
        return set()
    read = [v for v in full if any(user in inside for user in v.users)]
    if len(read) != 1 or read[0].tensor.dtype.kind not in "iuf":
        return set()
    narrower = read[0].tensor.dtype.bits <= y.tensor.dtype.bits
    return inside if narrower else set()


def _joins(op: Op, like: Value, readers: set[Op]) -> bool:
    if op.definition.fusion != "elementwise" or tuple(op.result.shape) != tuple(like.shape):
        return False
    return op.name != "constant" and readers.issuperset(op.result.users)
