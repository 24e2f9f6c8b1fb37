"""Walking a copied function and replacing ops: what the rewriting passes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.types import TensorType

# What to put in an op's place (its results, or its only one); None to keep it.
Replacement = Value | Sequence[Value] | None
Visit = Callable[[Op, Builder], Replacement]


def rewrite(block: Block, visit: Visit) -> int:
    """Visit every op in order, inner regions first; returns how many were replaced.

    `visit` may emit ops with the builder it is given (they come before the op, at its location);
    it must emit none when it returns None.
    """
    changes = 0
    builder = Builder(block)
    pending, block.ops = block.ops, []
    for op in pending:
        for region in op.regions:
            changes += rewrite(region.block, visit)
        builder.loc, builder.scope = op.loc, op.scope
        new = visit(op, builder)
        if new is None:
            block.ops.append(op)
            continue
        changes += 1
        replace(op, [new] if isinstance(new, Value) else new)
    return changes


def replace(op: Op, values: Sequence[Value]) -> None:
    """Let `values` take the place of an op's results; the op is left without operands."""
    for old, new in zip(op.results, values, strict=True):
        if not new.name:
            new.name = old.name
        old.replace_uses(new)
    op.drop_operands()
    op.block = None


def exchangeable(old: Value, new: Value) -> bool:
    """Whether `new` may replace `old`: equal types, or types that differ in layout alone where
    no user repeats the type (regions and terminators do)."""
    if old.type == new.type:
        return True
    if not isinstance(old.type, TensorType) or not isinstance(new.type, TensorType):
        return False
    if old.tensor.shape != new.tensor.shape or old.tensor.dtype is not new.tensor.dtype:
        return False
    return not any(user.regions or user.definition.terminator for user in old.users)


Structural = Callable[[Op, Builder], Replacement]

# What `simplify` tries on each op besides the equations of `rules`, by op name.
STRUCTURAL: dict[str, list[Structural]] = {}


def structural(*names: str) -> Callable[[Structural], Structural]:
    """Enter a function into `STRUCTURAL`."""

    def enter(function: Structural) -> Structural:
        for name in names:
            STRUCTURAL.setdefault(name, []).append(function)
        return function

    return enter
