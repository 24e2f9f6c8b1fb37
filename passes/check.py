"""Run-time checks: what would silently give a wrong answer is reported with the user's line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.ir.types import TensorType
from graphmill.passes.fold import constant_of
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count

KINDS = ("bounds", "nan")

# Float ops whose result is finite whenever the operands are.
TAME = frozenset({
    "neg", "abs", "sign", "floor", "ceil", "round", "trunc", "sin", "cos", "atan", "tanh", "erf",
    "erfc", "logistic", "max", "min", "copysign", "select", "conj", "real", "imag", "complex",
    "atan2", "asinh", "cbrt", "bitcast",
})  # fmt: skip
MAKERS = ("elementwise", "contract", "reduce")

# Ops that hand an infinity on: what they make of one the user wrote (a mask of -inf) is no error.
HANDING_ON = frozenset({"add", "sub", "mul", "div", "neg", "abs", "max", "min", "select", "cast"})


class CheckKindError(ValueError):
    """A kind of check that there is not."""


@register_pass("check")
def check(function: Function, *, kinds: str = "bounds+nan") -> Function:
    """Inserts `check` ops: of index operands (bounds), of what may make NaN or infinity (nan).

    `kinds` joins the kinds with `+`. Runs before anything is rewritten, so that every check
    has the location of the user's op. Infinities that start as constants, such as a mask of -inf
    before a softmax, are not reported while they are only moved, added, scaled and compared.
    """
    wanted = [kind.strip() for kind in kinds.split("+")]
    for kind in wanted:
        if kind not in KINDS:
            raise CheckKindError(f"there is no check {kind!r}; there are {', '.join(KINDS)}")
    function = function.clone()
    _insert(function.block, wanted)
    return function


def _insert(block: Block, kinds: list[str]) -> None:
    builder = Builder(block)
    meant: set[Value] = set()  # values that hold an infinity on purpose
    pending, block.ops = block.ops, []
    for op in pending:
        for region in op.regions:
            _insert(region.block, kinds)
        builder.loc, builder.scope = op.loc, op.scope
        if "bounds" in kinds:
            for position, axis, size in _indices(op):
                _check_index(op, position, axis, size, builder)
        block.ops.append(op)
        if _holds_infinity(op, meant):
            meant.update(op.results)
        elif "nan" in kinds and _may_make_nan(op):
            _check_result(op.result, builder)


def _indices(op: Op) -> Iterator[tuple[int, int, DimLike]]:
    """Each index operand: its position, the axis it indexes and that axis' size."""
    first = {"gather": 1, "scatter": 2, "dynamic_slice": 1, "dynamic_update_slice": 2}.get(op.name)
    if first is None:
        return
    axes = op.attrs["axes"] if "axes" in op.attrs else range(op.operands[0].tensor.rank)
    for position, axis in enumerate(axes, first):
        yield position, axis, op.operands[0].shape[axis]


def _check_index(op: Op, position: int, axis: int, size: DimLike, builder: Builder) -> None:
    index = op.operands[position]
    known = constant_of(index)
    if (
        known is not None
        and isinstance(size, int)
        and (not known.size or (-size <= int(known.min()) and int(known.max()) < size))
    ):
        return
    checked = builder.op("check", index, kind="bounds", size=size, axis=axis)
    checked.name = index.name
    op.set_operand(position, checked)
    count("bounds")


def _holds_infinity(op: Op, meant: set[Value]) -> bool:
    if op.name == "constant":
        array = op.attrs["value"]
        return op.result.tensor.dtype.is_float and bool(np.isinf(array.astype(np.float64)).any())
    handing_on = op.name in HANDING_ON or op.definition.fusion in ("index", "view", "reduce")
    return handing_on and any(operand in meant for operand in op.operands)


def _may_make_nan(op: Op) -> bool:
    if op.definition.family not in MAKERS or op.name in TAME or len(op.results) != 1:
        return False
    type = op.result.type
    if not isinstance(type, TensorType) or not type.dtype.is_inexact:
        return False
    return op.name != "cast" or op.operands[0].tensor.dtype.is_inexact


def _check_result(value: Value, builder: Builder) -> None:
    users = list(value.uses)
    checked = builder.op("check", value, kind="nan", size=0, axis=0)
    checked.name = value.name
    for user, position in users:
        user.set_operand(position, checked)
    count("nan")
