"""Rules for matrix products that are something simpler, and for the parts of arrays in loops."""

from __future__ import annotations

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, i64
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


PARTS = ("slice", "dynamic_slice", "gather", "reverse")


@structural("dot_general")
def dot_of_parts(op: Op, builder: Builder) -> Replacement:
    """A dot of vectors in a loop, one of them part of an array, reads it where it lies."""
    loop = _loop(op)
    if loop is None:
        return None
    x, y = op.operands
    to = op.attrs["dtype"]
    if x.tensor.rank != 1 or op.result.tensor.rank != 0 or not to.is_float or to.bits < 32:
        return None
    if not all(_plain(v, to) for v in (x, y)) or not any(_is_part(v) for v in (x, y)):
        return None
    product = builder.op("mul", builder.cast(x, to), builder.cast(y, to))
    return builder.reduce(product, (0,), "sum")


@structural("reshape")
def picked_part(op: Op, builder: Builder) -> Replacement:
    """`a[i, :j]` picks row i by its number, so that what reads it finds it where it lies."""
    part, loop = op.operands[0].op, _loop(op)
    if part is None or part.name != "slice" or loop is None or "turn" not in loop.attrs:
        return None
    x, start, stop = part.operands[0], part.attrs["start"], part.attrs["stop"]
    axes = [k for k, size in enumerate(part.result.shape) if size == 1]
    rest = tuple(size for size in part.result.shape if size != 1)
    if op.result.shape != rest or all(isinstance(start[k], int) for k in axes):
        return None
    cut = {
        "start": tuple(0 if k in axes else at for k, at in enumerate(start)),
        "stop": tuple(x.shape[k] if k in axes else at for k, at in enumerate(stop)),
        "step": tuple(1 if k in axes else by for k, by in enumerate(part.attrs["step"])),
    }
    whole = not any(cut["start"]) and cut["stop"] == tuple(x.shape) and set(cut["step"]) == {1}
    places = [_place(builder, start[k]) for k in axes]
    return builder.op("gather", x if whole else builder.op("slice", x, **cut), *places,
                      axes=tuple(axes))  # fmt: skip


def _place(builder: Builder, at: DimLike) -> Value:
    return builder.constant(at, i64) if isinstance(at, int) else builder.op(
        "dim", value=at, dtype=i64
    )  # fmt: skip


def _loop(op: Op) -> Op | None:
    """The loop in whose body an op is."""
    region = op.block.region if op.block is not None else None
    owner = region.owner if region is not None else None
    return owner if isinstance(owner, Op) and owner.name in ("scan", "while") else None


def _is_part(value: Value) -> bool:
    while value.op is not None and value.op.name == "reshape":
        value = value.op.operands[0]
    return value.op is not None and value.op.name in PARTS
