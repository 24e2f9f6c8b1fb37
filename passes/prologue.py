"""Which ops a product evaluates while it packs an operand, so that the result is never stored.

A widening cast that only products (of integers also convolutions) read is evaluated by each of
them: it costs nothing beside the loads. More than that, as the dequantisation
`(q.astype(f32) - zero) * scale`, is evaluated for operands whose elements are packed once, or once
by each thread, and reads arrays of the operand's size that lie in memory anyway, or views of such
(`x[:, 3:60]`, `q.T`), which are operands of their own, too. Where these are as wide as the operand
(`relu(x) * s`), it must be so large that it does not stay in the caches, and nothing else may read
them, which could compute the operand in passing.
"""

from __future__ import annotations

from graphmill.ir.graph import Block, Op, Value
from graphmill.passes.structure import holds

MOST_FLOPS = 16.0  # per element: packing stays cheaper than storing and reading it again
MOST_OPS = 12
MOST_ARRAYS = 2  # of the operand's size
WIDE = 1 << 20  # bytes of an operand that is worth it where arrays as wide as it are read


def prologue_ops(block: Block) -> set[Op]:
    """The ops of a block that are evaluated inside the products that read them."""
    found: set[Op] = set()
    for op in block.ops:
        if is_operand_cast(op) or _is_read_in_place(op):
            found.add(op)
        elif op.name == "dot_general":
            for side in (0, 1):
                found |= _computed(op, side)
    return found


def is_operand_cast(op: Op) -> bool:
    """Whether this cast widens, losing nothing, and products read the result.

    Products are those of matrices and, of integers, convolutions. Others may read it, too, if they
    can make it anew as they go.
    """
    if op.name != "cast" or not op.result.uses:
        return False
    narrow, wide = op.operands[0].tensor.dtype, op.result.tensor.dtype
    products = ("dot_general",) if wide.is_float else ("dot_general", "conv")
    others = [user for user in op.result.users if user.name not in products]
    anew = all(user.definition.fusion in ("elementwise", "reduce") for user in others)
    if not anew or len(others) == len(op.result.users):
        return False
    alike = narrow.is_float == wide.is_float and not (narrow.kind == "b" or wide.is_complex)
    return alike and narrow is not wide and holds(wide, narrow)


def _is_read_in_place(op: Op) -> bool:
    """Whether products alone read this view, which they do where the array lies."""
    return is_view(op) and all(user.name == "dot_general" for user in op.result.users)


def is_view(op: Op) -> bool:
    """Whether this is a transposed matrix in memory, or part of an array, neighbours along the last
    axis."""
    if op.name not in ("slice", "transpose") or not op.result.uses:
        return False
    rank = op.result.tensor.rank
    if rank != 2 if op.name == "transpose" else rank < 2 or op.attrs["step"][-1] != 1:
        return False
    source = op.operands[0]
    made = source.op is not None and source.op.name in ("constant", "prepare")
    return _is_stored(source) and not made


def _computed(dot: Op, side: int) -> set[Op]:
    """The elementwise ops that compute a matrix of a product, the left (0) or right (1) one."""
    value, name = dot.operands[side], "xy"[side]
    batch, contract = dot.attrs[f"{name}_batch"], dot.attrs[f"{name}_contract"]
    if value.op is None or not contract or len(batch) + len(contract) == value.tensor.rank:
        return set()
    products = set(value.users)
    if value.tensor.dtype.kind not in "iuf" or not _all_read(value, products, side):
        return set()
    inside, waiting, full = set[Op](), [value], dict[Value, None]()
    flops = 0.0
    while waiting:
        this = waiting.pop()
        op = this.op
        if op is not None and _joins(op, value, {*inside, *products}):
            inside.add(op)
            flops += op.definition.flops
            waiting += [v for v in op.operands if v not in waiting]
        elif op is None or op.name != "broadcast":
            full[this] = None
    if not inside or len(inside) > MOST_OPS or flops * len(products) > MOST_FLOPS:
        return set()
    read = [v for v in full if any(user in inside for user in v.users)]
    if not 1 <= len(read) <= MOST_ARRAYS or not all(map(_is_stored, read)):
        return set()
    return inside if all(_is_worth(v, value, inside) for v in read) else set()


def _all_read(value: Value, products: set[Op], side: int) -> bool:
    """Whether all that read a value are products with it on this side only."""
    return all(
        op.name == "dot_general" and op.operands[side] is value is not op.operands[1 - side]
        for op in products
    )


def _is_worth(read: Value, value: Value, inside: set[Op]) -> bool:
    """Whether it saves traffic to read an array, not the value that is computed from it."""
    narrow = value
    while narrow.op is not None and is_operand_cast(narrow.op):
        (narrow,) = narrow.op.operands  # what is multiplied
    if narrow.op is not None and is_view(narrow.op):
        return True
    if read.tensor.dtype.bits != narrow.tensor.dtype.bits:
        return read.tensor.dtype.bits < narrow.tensor.dtype.bits
    size = value.tensor.nbytes
    large = size >= WIDE if isinstance(size, int) else True
    return large and inside.issuperset(read.users)


def _is_stored(value: Value) -> bool:
    """Whether a number array lies in memory whatever is fused with what computes it."""
    if value.tensor.dtype.kind not in "iuf":
        return False
    op = value.op
    return op is None or op.definition.fusion not in ("elementwise", "index", "reduce", "contract")


def _joins(op: Op, like: Value, readers: set[Op]) -> bool:
    computes = op.definition.fusion == "elementwise" and op.name != "constant"
    if not (computes or is_view(op)) or not readers.issuperset(op.result.users):
        return False
    return tuple(op.result.shape) == tuple(like.shape)
