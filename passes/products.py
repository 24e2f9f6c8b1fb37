"""Rules for matrix products that are something simpler."""

from __future__ import annotations

from graphmill.ir.builder import Builder
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Op, Value
from graphmill.ir.ops.contract import free_axes
from graphmill.passes.rewrite import Replacement, structural
from graphmill.passes.structure import holds


@structural("dot_general")
def outer_product(op: Op, builder: Builder) -> Replacement:
    """A product that sums single terms is elementwise, bound by memory and fused with the rest."""
    x, y = op.operands
    a, to = op.attrs, op.attrs["dtype"]
    if any(x.shape[axis] != 1 for axis in a["x_contract"]):
        return None
    if to.kind == "b" or not all(_plain(v, to) for v in (x, y)):
        return None
    batch = len(a["x_batch"])
    rows = x.tensor.rank - batch - len(a["x_contract"])
    columns = range(batch + rows, op.result.tensor.rank)

    def spread(v: Value, side: str, axes: list[int]) -> Value:
        lead, contract = a[f"{side}_batch"], a[f"{side}_contract"]
        order = [*lead, *free_axes(v.tensor.rank, lead, contract)]
        moved = builder.transpose(v, [*order, *contract])
        kept = builder.reshape(moved, [v.shape[axis] for axis in order])
        return builder.broadcast(builder.cast(kept, to), op.result.shape, axes)

    left = spread(x, "x", [*range(batch + rows)])
    right = spread(y, "y", [*range(batch), *columns])
    return builder.op("mul", left, right)


def _plain(value: Value, to: DType) -> bool:
    """Whether an operand is read as it lies, and loses nothing as `to`."""
    dtype = value.tensor.dtype
    return value.tensor.layout is None and (dtype is to or holds(to, dtype))
