"""Inlining of calls."""

from __future__ import annotations

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Function, Module, Op
from graphmill.passes.fold import inline_region
from graphmill.passes.manager import register_pass
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count


class RecursionInIRError(ValueError):
    """Functions of a module that call each other in a circle."""


@register_pass("inline", on_modules=True)
def inline(module: Module) -> Module:
    """Replaces every call by the callee's body; what is left is the entry alone."""
    if len(module.functions) == 1 and not any(op.name == "call" for op in module.entry.walk()):
        return module
    module = module.clone()
    entry = module.entry
    _inline_into(entry, module, (entry.name,), set())
    return Module({entry.name: entry}, dict(module.variables))


def _inline_into(
    function: Function, module: Module, callers: tuple[str, ...], done: set[str]
) -> None:
    def visit(op: Op, builder: Builder) -> Replacement:
        if op.name != "call":
            return None
        name = op.attrs["callee"]
        if name in callers:
            raise RecursionInIRError(f"@{name} calls itself: {' -> '.join((*callers, name))}")
        callee = module.functions[name]
        if name not in done:
            _inline_into(callee, module, (*callers, name), done)
        count("calls")
        for dim, bounds in callee.dims.items():
            function.dims.setdefault(dim, bounds)
        return inline_region(callee.body, op.operands, builder)

    rewrite(function.block, visit)
    done.add(function.name)
