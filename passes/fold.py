"""Constant folding."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.cost import cost
from graphmill.ir.graph import Function, Op, Region, Value, clone_ops
from graphmill.ir.literals import dim_names
from graphmill.passes.manager import register_pass
from graphmill.passes.prepare import moved_on_loading
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count

MOST_NESTED = 16
SMALL = 64  # elements: a constant this small is worth having whatever it came from


@register_pass("fold")
def fold(function: Function, *, max_elements: int = 1 << 20, max_flops: int = 10**8) -> Function:
    """Evaluates ops whose operands are constants, through each op's own NumPy meaning.

    Nothing is folded that would make more than `max_elements`, take more than `max_flops`, or
    grow: a broadcast or iota stays an op, and what only moves elements is done when the code is
    loaded (`prepare`). A `cond` with a constant predicate becomes its branch.
    """

    def visit(op: Op, builder: Builder) -> Replacement:
        if op.name == "cond":
            return _fold_cond(op, builder)
        if not _foldable(op, max_elements, max_flops):
            return moved_on_loading(op, builder)
        count("folded")
        return [builder.constant(array) for array in _evaluate(op)]

    function = function.clone()
    for _ in range(MOST_NESTED):  # a branch that was chosen may hold more to fold
        if not rewrite(function.block, visit):
            break
    return function


def evaluate_small(op: Op, builder: Builder) -> Replacement:
    """Fold an op whose result is small; what `simplify` leaves behind as it goes."""
    if op.name == "constant" or not op.operands or not _foldable(op, SMALL, 10**4):
        return None
    count("folded")
    return [builder.constant(array) for array in _evaluate(op)]


def constant_of(value: Value) -> np.ndarray[Any, Any] | None:
    """The array behind a constant; None for other values."""
    if value.op is None or value.op.name != "constant":
        return None
    array: np.ndarray[Any, Any] = value.op.attrs["value"]
    return array


def _foldable(op: Op, max_elements: int, max_flops: int) -> bool:
    if any(v.op is None or v.op.name != "constant" for v in op.operands):
        return False
    definition = op.definition
    if op.regions or not definition.pure or definition.reference is None:
        return False
    if op.name in ("constant", "broadcast") or any(map(dim_names, op.attrs.values())):
        return False
    arrays = [constant_of(operand) for operand in op.operands]
    given = 0
    for array in arrays:
        if array is None:
            return False
        given += array.size
    for result in op.results:
        size = result.tensor.size
        if not isinstance(size, int) or size > max(SMALL, min(given, max_elements)):
            return False
    flops = cost(op).flops
    return isinstance(flops, int) and flops <= max_flops


def _evaluate(op: Op) -> list[np.ndarray[Any, Any]]:
    assert op.definition.reference is not None
    with np.errstate(all="ignore"):
        found = op.definition.reference(*(constant_of(v) for v in op.operands), **op.attrs)
    arrays = found if isinstance(found, tuple) else (found,)
    return [
        np.asarray(array, dtype=result.tensor.dtype.numpy)
        for array, result in zip(arrays, op.results, strict=True)
    ]


def _fold_cond(op: Op, builder: Builder) -> Replacement:
    index = constant_of(op.operands[0])
    if index is None:
        return None
    choice = int(index)
    if index.dtype == np.bool_:
        choice = 1 - choice  # the true branch comes first
    region = op.regions[min(max(choice, 0), len(op.regions) - 1)]
    count("branches chosen")
    return inline_region(region, op.operands[1:], builder)


def inline_region(region: Region, operands: list[Value], builder: Builder) -> list[Value]:
    """Copy a region's ops to where the builder is; returns what the region yields."""
    mapping = dict(zip(region.block.args, operands, strict=True))
    ops = region.block.ops[:-1]
    clone_ops(ops, builder.block, mapping)
    return [mapping[value] for value in region.block.yielded]
