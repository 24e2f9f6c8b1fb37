"""Fusion of what is written into part of an array with the writing.

`b[1:-1] = f(a)` is a `dynamic_update_slice` of `f(a)` into `b`. As one `update` fusion it computes
each element where it goes, and the window's values never lie in memory of their own. A window of
one element may be the result of a reduction, too: `a[i, j] -= a[i, :j] @ a[j, :j]`.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.ir.graph import Block, Op, Region, Value, clone_op
from graphmill.ir.ops.base import lookup
from graphmill.passes.fusion_graph import node_kind
from graphmill.passes.inplace import is_single, writes_in_place
from graphmill.passes.statistics import count

LONG = 1 << 16  # elements of a reduction that several threads share


def absorb_updates(block: Block) -> None:
    """Make one `update` fusion of each window and the kernel that computes it, used only there.

    Only where that kernel reads the array that is written at most at the element it writes, so
    that it may run in place.
    """
    for update in [op for op in block.ops if op.name == "dynamic_update_slice"]:
        maker = _maker(update)
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
        view = update.operands[1].op
        update.erase()
        if view is not None and view is not maker:
            view.erase()
        maker.erase()
        count("update kernels")


def _maker(update: Op) -> Op | None:
    """What computes the window; a reshape of one element is looked through."""
    op = update.operands[1].op
    if op is not None and op.name == "reshape" and len(op.result.uses) == 1 and is_single(update):
        return op.operands[0].op
    return op


def _can_move(maker: Op, update: Op, block: Block) -> bool:
    """Whether a kernel for `update` alone may run as late as that.

    Reading its operands later must not take their memory from an op that overwrites them.
    """
    if maker.name == "fusion":
        inside = maker.regions[0].block.ops
        kind = maker.attrs["kind"]
    else:
        inside, kind = [maker], node_kind(maker)
    known = kind in ("loop", "map") or (kind == "reduce" and _is_short(update, inside))
    if not known or len(maker.results) != 1 or len(maker.result.uses) != 1:
        return False
    if any(op.name == "transpose" for op in inside):  # those run tile by tile
        return False
    between = block.ops[block.ops.index(maker) + 1 : block.ops.index(update)]
    return not any(set(_overwritten(op)) & set(maker.operands) for op in between)


def _is_short(update: Op, inside: Sequence[Op]) -> bool:
    """Whether a reduction gives the only element, and is not worth several threads."""
    sizes = [op.operands[0].tensor.size for op in inside if op.name == "reduce"]
    return is_single(update) and all(n < LONG for n in sizes if isinstance(n, int))


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
    view = update.operands[1].op
    if view is not None and view is not maker:
        block.append(clone_op(view, mapping))
    for operand in (update.operands[0], *update.operands[2:]):
        take(operand)
    written = block.append(clone_op(update, mapping))
    block.append(Op(lookup("yield"), [written.result], []))
    return Region(block), operands
