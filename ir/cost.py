"""The work of ops and functions: operations, and bytes read and written, as dims."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.ir.dims import DimLike, maximum, substitute
from graphmill.ir.graph import Block, Function, Module, Op, Value
from graphmill.ir.ops.base import Cost
from graphmill.ir.types import TensorType

ZERO = Cost(0, 0)

# Ops that move nothing: names for what is already there.
_FREE = frozenset({"return", "yield", "token", "join", "reshape", "constant", "prepare"})

# Ops that read only the elements they pick from their first operand.
_PICKING = frozenset({"slice", "dynamic_slice", "gather"})


def cost(op: Op, module: Module | None = None) -> Cost:
    """The work of one op.

    A `fusion` counts the flops inside and the bytes that cross its boundary. A `scan` counts its
    body `length` times; a `while`, whose trips nobody knows, its test and body once; a `cond` its
    dearest branch. A `call` counts its callee, found in `module`.
    """
    name = op.name
    if name in _FREE:
        return ZERO
    if name == "call":
        callee = module.functions.get(op.attrs["callee"]) if module else None
        return function_cost(callee, module) if callee else Cost(0, _boundary(op))
    if name == "fusion":
        return Cost(_block_cost(op.regions[0].block, module).flops, _boundary(op))
    if name in ("scan", "while", "cond"):
        return _control_cost(op, module)
    if op.definition.cost is not None:
        return op.definition.cost(op)
    flops = _elements(op) * max(round(op.definition.flops), 0)
    if name in _PICKING:
        return Cost(flops, 2 * _bytes(op.results) + _bytes(op.operands[1:]))
    return Cost(flops, _boundary(op))


def function_cost(function: Function, module: Module | None = None) -> Cost:
    """The work of all ops of a function."""
    return _block_cost(function.block, module)


def _control_cost(op: Op, module: Module | None) -> Cost:
    parts = [_block_cost(region.block, module) for region in op.regions]
    if op.name == "scan":
        length, turn = op.attrs["length"], op.attrs.get("turn")
        each = (parts[0].flops, parts[0].bytes)
        if turn:  # the turn in the middle stands for all
            each = (
                substitute(each[0], {turn: length // 2}),
                substitute(each[1], {turn: length // 2}),
            )
        return Cost(each[0] * length, each[1] * length)
    if op.name == "while":
        return Cost(parts[0].flops + parts[1].flops, parts[0].bytes + parts[1].bytes)
    worst = parts[0]
    for part in parts[1:]:
        worst = Cost(maximum(worst.flops, part.flops), maximum(worst.bytes, part.bytes))
    return worst


def _block_cost(block: Block, module: Module | None) -> Cost:
    flops: DimLike = 0
    moved: DimLike = 0
    for op in block.ops:
        part = cost(op, module)
        flops, moved = flops + part.flops, moved + part.bytes
    return Cost(flops, moved)


def _elements(op: Op) -> DimLike:
    """What the record's flops count: elements of the results, for reductions of the operands."""
    if op.definition.family in ("reduce", "order") and op.operands:
        return op.operands[0].tensor.size
    sizes = [r.type.size for r in op.results if isinstance(r.type, TensorType)]
    return sizes[0] if sizes else 0


def _boundary(op: Op) -> DimLike:
    """Bytes of the distinct operands and of the results."""
    distinct: Sequence[Value] = list(dict.fromkeys(op.operands))
    return _bytes(distinct) + _bytes(op.results)


def _bytes(values: Sequence[Value]) -> DimLike:
    total: DimLike = 0
    for value in values:
        if isinstance(value.type, TensorType):
            total = total + value.type.nbytes
    return total


__all__ = ["Cost", "cost", "function_cost"]
