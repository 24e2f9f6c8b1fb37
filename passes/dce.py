"""Dead code elimination."""

from __future__ import annotations

from graphmill.ir.graph import Block, Function, Op, Region, Value, walk
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count

SILENT = frozenset({"pure", "reads", "random"})


@register_pass("dce")
def dce(function: Function) -> Function:
    """Removes what nobody reads. After it, every pure op has a user.

    Writes, communication and checks stay. Operands that no region of an op uses are dropped with
    the regions' arguments, and so are results of `cond` and carries of loops that nobody reads.
    """
    function = function.clone()
    remove_dead(function.block)
    return function


def remove_dead(block: Block, freed: set[Op] | None = None) -> int:
    """Remove dead ops from a block and the regions inside; returns how many went.

    `freed` collects the ops that lost a reader.
    """
    removed, kept = 0, []
    for op in reversed(block.ops):
        if not any(result.uses for result in op.results) and removable(op):
            if freed is not None:
                freed.update([v.op for v in op.operands if v.op is not None])
            op.drop_operands()
            op.block = None
            removed += 1
            continue
        if op.regions:
            removed += sum(remove_dead(region.block, freed) for region in op.regions)
            shrink = _SHRINK.get(op.name)
            if shrink is not None:
                shrink(op)
        kept.append(op)
    block.ops = kept[::-1]
    count("removed", removed)
    return removed


def removable(op: Op) -> bool:
    """Whether the op may go when nobody reads its results."""
    if op.definition.terminator or op.definition.effect not in SILENT:
        return False
    return not op.regions or all(
        inner.definition.effect in SILENT for region in op.regions for inner in walk(region.block)
    )


def _drop_args(op: Op, first: int, regions: list[Region], positions: list[int]) -> None:
    """Remove operands (and the block arguments they bind) by position among the arguments."""
    if not positions:
        return
    gone = set(positions)
    for region in regions:
        block = region.block
        block.args = [arg for i, arg in enumerate(block.args) if i not in gone]
        for i, arg in enumerate(block.args):
            arg.index = i
    keep = [v for i, v in enumerate(op.operands) if i < first or i - first not in gone]
    op.set_operands(keep)


def _unread(regions: list[Region], positions: range) -> list[int]:
    return [i for i in positions if not any(r.block.args[i].uses for r in regions)]


def _shrink_fusion(op: Op) -> None:
    block = op.regions[0].block
    dead = {i for i, result in enumerate(op.results) if not result.uses}
    if dead:
        _drop_results(op, dead)
        terminator = block.terminator
        terminator.set_operands([v for i, v in enumerate(block.yielded) if i not in dead])
        remove_dead(block)
    _drop_args(op, 0, op.regions, _unread(op.regions, range(len(block.args))))


def _shrink_cond(op: Op) -> None:
    dead = {i for i, result in enumerate(op.results) if not result.uses}
    if dead:
        _drop_results(op, dead)
        for region in op.regions:
            block = region.block
            keep = [v for i, v in enumerate(block.yielded) if i not in dead]
            block.terminator.set_operands(keep)
            remove_dead(block)
    _drop_args(op, 1, op.regions, _unread(op.regions, range(len(op.regions[0].block.args))))


def _shrink_while(op: Op) -> None:
    _drop_carries(op, op.attrs["carry"])
    captured = range(op.attrs["carry"], len(op.operands))
    _drop_args(op, 0, op.regions, _unread(op.regions, captured))


def _shrink_scan(op: Op) -> None:
    block, carry = op.regions[0].block, op.attrs["carry"]
    stacked = {i for i in range(carry, len(op.results)) if not op.results[i].uses}
    if stacked:
        _drop_results(op, stacked)
        keep = [v for i, v in enumerate(block.yielded) if i not in stacked]
        block.terminator.set_operands(keep)
        remove_dead(block)
    _drop_carries(op, carry)
    carry, count_xs = op.attrs["carry"], op.attrs["xs"]
    dead_xs = _unread(op.regions, range(carry, carry + count_xs))
    captured = _unread(op.regions, range(carry + count_xs, len(op.operands)))
    _drop_args(op, 0, op.regions, [*dead_xs, *captured])
    op.attrs["xs"] = count_xs - len(dead_xs)


def _drop_carries(op: Op, carry: int) -> None:
    """Remove carried values that no result, test, effect or live carried value depends on."""
    body = op.regions[-1].block
    live = _live_carries(op, carry)
    dead = [i for i in range(carry) if i not in live]
    if not dead:
        return
    _drop_results(op, set(dead))
    body.terminator.set_operands([v for i, v in enumerate(body.yielded) if i not in dead])
    remove_dead(body)
    _drop_args(op, 0, op.regions, dead)
    op.attrs["carry"] = carry - len(dead)


def _live_carries(op: Op, carry: int) -> set[int]:
    body = op.regions[-1].block
    pending: list[Value] = []
    for i in range(carry):
        tested = any(region.block.args[i].uses for region in op.regions[:-1])
        if op.results[i].uses or tested:
            pending += [body.args[i], body.yielded[i]]
    pending += body.yielded[carry:]
    pending += [v for inner in body.ops[:-1] if not removable(inner) for v in inner.operands]
    needed: set[Value] = set()
    while pending:
        value = pending.pop()
        if value in needed:
            continue
        needed.add(value)
        if value.op is not None:
            pending += value.op.operands
        elif value.index < carry:
            pending.append(body.yielded[value.index])
    return {i for i in range(carry) if body.args[i] in needed}


def _drop_results(op: Op, dead: set[int]) -> None:
    op.results = [result for i, result in enumerate(op.results) if i not in dead]
    for i, result in enumerate(op.results):
        result.index = i


_SHRINK = {
    "fusion": _shrink_fusion,
    "cond": _shrink_cond,
    "while": _shrink_while,
    "scan": _shrink_scan,
}
