"""Fusion of what is written into part of an array with the writing.

`b[1:-1] = f(a)` is a `dynamic_update_slice` of `f(a)` into `b`. As one `update` fusion it computes
each element where it goes, and the window's values never lie in memory of their own.
"""

from __future__ import annotations

from graphmill.ir.graph import Block, Op, Region, Value, clone_op
from graphmill.ir.ops.base import lookup
from graphmill.passes.fusion_graph import node_kind
from graphmill.passes.inplace import writes_in_place
from graphmill.passes.statistics import count


def absorb_updates(block: Block) -> None:
    """Make one `update` fusion of each window and the kernel that computes it, used only there.

    Only where that kernel reads the array that is written at most at the element it writes, so
    that it may run in place.
    """
    for update in [op for op in block.ops if op.name == "dynamic_update_slice"]:
        maker = update.operands[1].op
        if maker is None or maker.block is not block or not _can_move(maker, update, block):
            continue
        region, operands = _joined(maker, update)
        if not writes_in_place(region.block):
            continue
        attrs = {"kind": "update", "reason": "computes the window where it goes"}
        fusion = Op(
            lookup("fusion"), operands, [update.result.type], attrs, [region], update.loc,
            update.scope,
        )  # fmt: skip
        fusion.result.name = update.result.name
        block.insert_before(update, fusion)
        update.result.replace_uses(fusion.result)
        update.erase()
        maker.erase()
        count("update kernels")


def _can_move(maker: Op, update: Op, block: Block) -> bool:
    """Whether a kernel for `update` alone may run as late as that.

    Reading its operands later must not take their memory from an op that overwrites them.
    """
    if maker.name == "fusion":
        inside = maker.regions[0].block.ops
        known = maker.attrs["kind"] == "loop"
    else:
        inside, known = [maker], node_kind(maker) == "map"
    if not known or len(maker.results) != 1 or len(maker.result.uses) != 1:
        return False
    if any(op.name == "transpose" for op in inside):  # those run tile by tile
        return False
    between = block.ops[block.ops.index(maker) + 1 : block.ops.index(update)]
    return not any(set(_overwritten(op)) & set(maker.operands) for op in between)


def _overwritten(op: Op) -> list[Value]:
    if op.name in ("dynamic_update_slice", "scatter"):
        return op.operands[:1]
    if op.name in ("while", "scan"):
        return op.operands[: op.attrs["carry"]]
    return list(op.operands) if op.name == "fusion" and op.attrs["kind"] == "update" else []


def _joined(maker: Op, update: Op) -> tuple[Region, list[Value]]:
    """The region that computes the window and writes it, and the operands it takes."""
    block = Block()
    mapping: dict[Value, Value] = {}
    operands: list[Value] = []

    def take(value: Value) -> None:
        if value in mapping:
            return
        if value.op is not None and value.op.name == "constant" and not value.shape:
            block.append(clone_op(value.op, mapping))
            return
        mapping[value] = block.add_arg(value.type, value.name)
        operands.append(value)

    for operand in maker.operands:
        take(operand)
    if maker.name == "fusion":
        inner = maker.regions[0].block
        for arg, operand in zip(inner.args, maker.operands, strict=True):
            mapping[arg] = mapping[operand]
        for op in inner.ops[:-1]:
            block.append(clone_op(op, mapping))
        mapping[maker.result] = mapping[inner.yielded[0]]
    else:
        block.append(clone_op(maker, mapping))
    for operand in (update.operands[0], *update.operands[2:]):
        take(operand)
    written = block.append(clone_op(update, mapping))
    block.append(Op(lookup("yield"), [written.result], []))
    return Region(block), operands
