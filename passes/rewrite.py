"""Walking a copied function and replacing ops: what the rewriting passes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.types import TensorType

# What to put in an op's place (its results, or its only one); None to keep it.
Replacement = Value | Sequence[Value] | None
Visit = Callable[[Op, Builder], Replacement]


def rewrite(block: Block, visit: Visit, only: set[Op] | None = None) -> set[Op]:
    """Visit every op (or those in `only`) in order, inner regions first.

    `visit` may emit ops with the builder it is given (they come before the op, at its location);
    it must emit none when it returns None. Returns the ops that are new or read something new.
    """
    touched: set[Op] = set()
    builder = Builder(block)
    pending, block.ops = block.ops, []
    for op in pending:
        for region in op.regions if op.name != "prepare" else ():  # steps stay steps
            inner = rewrite(region.block, visit, only)
            if inner:
                touched |= inner
                touched.add(op)
        before = len(block.ops)
        new = None
        if only is None or op in only or op in touched:
            builder.loc, builder.scope = op.loc, op.scope
            new = visit(op, builder)
        if new is None:
            block.ops.append(op)
            continue
        values = [new] if isinstance(new, Value) else new
        replace(op, values)
        touched.update(block.ops[before:])
        for value in values:
            touched.update(user for user, _ in value.uses)
    return touched


def neighbours(ops: set[Op], depth: int) -> set[Op]:
    """The ops and those that read them through up to `depth` others."""
    found, fresh = set(ops), set(ops)
    for _ in range(depth):
        fresh = {user for op in fresh for r in op.results for user, _ in r.uses} - found
        found |= fresh
    return found


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

ELEMENTWISE = "elementwise ops"

# What `simplify` tries on each op besides the equations of `rules`, by op name; on elementwise ones
# first what is entered for all of them.
STRUCTURAL: dict[str, list[Structural]] = {ELEMENTWISE: []}


def structural_of(op: Op) -> Sequence[Structural]:
    """What to try on this op, in this order."""
    own = STRUCTURAL.get(op.name, ())
    return (*STRUCTURAL[ELEMENTWISE], *own) if op.definition.fusion == "elementwise" else own


def structural(*names: str) -> Callable[[Structural], Structural]:
    """Enter a function into `STRUCTURAL`."""

    def enter(function: Structural) -> Structural:
        for name in names:
            STRUCTURAL.setdefault(name, []).append(function)
        return function

    return enter
