"""Common subexpression elimination."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Any

import numpy as np

from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.passes.manager import register_pass
from graphmill.passes.rewrite import replace
from graphmill.passes.statistics import count

COMMUTATIVE = frozenset({"add", "mul", "max", "min", "and", "or", "xor", "eq", "ne"})

LARGE = 1 << 16  # bytes from which an array is only equal to itself: reading it would take long


@register_pass("cse")
def cse(function: Function) -> Function:
    """Computes equal things once. After it, no block has two pure ops that agree in all."""
    function = function.clone()
    _block(function.block)
    return function


def _block(block: Block) -> None:
    seen: dict[Hashable, Op] = {}
    kept = []
    for op in block.ops:
        for region in op.regions:
            _block(region.block)
        key = op_key(op)
        first = seen.setdefault(key, op) if key is not None else op
        if first is op:
            kept.append(op)
            continue
        replace(op, first.results)
        count("merged")
    block.ops = kept


def op_key(op: Op) -> Hashable | None:
    """What two ops must share to be one; None for ops that are never merged."""
    definition = op.definition
    if op.regions or not definition.pure or not op.results or definition.name == "token":
        return None
    operands: list[Value] = op.operands
    if definition.name in COMMUTATIVE:
        operands = sorted(operands, key=id)
    attrs = tuple((name, frozen(value)) for name, value in sorted(op.attrs.items()))
    types = tuple(result.type for result in op.results)
    return (definition.name, tuple(map(id, operands)), attrs, types)


def frozen(value: Any) -> Hashable:
    """An attribute's value as a key: equal for values that are."""
    if isinstance(value, np.ndarray):
        if value.nbytes > LARGE:
            return ("array", id(value))
        content = value.tobytes()
        if len(content) > 64:
            content = hashlib.blake2b(content, digest_size=16).digest()
        return (value.dtype.str, value.shape, content)
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    if isinstance(value, float):
        return ("float", np.float64(value).tobytes())  # -0.0 is not 0.0, NaN is NaN
    return (type(value).__name__, value)
