"""Algebraic and structural simplification."""

from __future__ import annotations

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Function, Op, Value
from graphmill.passes import loops, movement, structure
from graphmill.passes.dce import remove_dead
from graphmill.passes.fold import evaluate_small
from graphmill.passes.manager import register_pass
from graphmill.passes.rewrite import Replacement, exchangeable, neighbours, rewrite, structural_of
from graphmill.passes.rules import rules_by_op
from graphmill.passes.statistics import count
from graphmill.passes.terms import Bindings, Rule, build, head, match_operands

RULE_MODULES = (loops, movement, structure)  # importing them entered their rules
# ops that the rules of `products` are about
PRODUCTS = frozenset(("dot_general", "scan", "while"))
PATTERN_DEPTH = 2  # how far above an op its rules look


@register_pass("simplify")
def simplify(function: Function, *, fast: bool = False, max_rounds: int = 32) -> Function:
    """Applies the equations of `rules` and the movement rules until none fits.

    Results keep their bits but for the few units in the last place that a rule states. `fast`
    adds rules that are wrong for some special values or round differently.
    """
    table = rules_by_op(fast)
    if any(op.name in PRODUCTS for op in function.walk()):
        import graphmill.passes.products  # noqa: F401

    def visit(op: Op, builder: Builder) -> Replacement:
        if op.definition.terminator or not op.results:
            return None
        for structural in structural_of(op):
            found = structural(op, builder)
            if found is not None and _fits(op, found):
                count(structural.__name__)
                return found
        found = _by_rules(table.get(op.name, ()), op, builder)
        return found if found is not None else evaluate_small(op, builder)

    function = function.clone()
    loops.sink_constants(function.block)
    only: set[Op] | None = None
    for _ in range(max_rounds):
        # a constant that a region captures may only now have been found to be one
        touched = rewrite(function.block, visit, only) or loops.sink_constants(function.block)
        if not touched:
            break
        # what was touched, or reads what lost another reader, is looked at again
        freed: set[Op] = set()
        remove_dead(function.block, freed)
        only = neighbours(touched, PATTERN_DEPTH) | neighbours(freed, 1)
    return function


def _by_rules(rules: list[Rule] | tuple[()], op: Op, builder: Builder) -> Replacement:
    heads = [head(operand) for operand in op.operands] if rules else []
    for rule in rules:
        bound: Bindings = {}
        if not rule.may_match(heads) or not match_operands(rule.left, op.operands, bound):
            continue
        if any(bound[n].tensor.dtype.kind not in rule.kinds for n in _typed(rule)):
            continue
        if rule.right.name and not exchangeable(op.result, bound[rule.right.name]):
            continue
        count(rule.name)
        return build(rule.right, bound, op.result, builder)
    return None


def _typed(rule: Rule) -> tuple[str, ...]:
    """The variables that `kinds` speaks of: all but conditions, which are called b."""
    return tuple(name for name in rule.variables if name != "b")


def _fits(op: Op, found: Replacement) -> bool:
    values = [found] if isinstance(found, Value) else list(found or ())
    return all(exchangeable(a, b) for a, b in zip(op.results, values, strict=True))
