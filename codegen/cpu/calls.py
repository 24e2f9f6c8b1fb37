"""One elementwise operation being lowered, and the forms that a lowering may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from graphmill.codegen.cpu.elem import Complex, Elem
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.expr import Num, Scope
from graphmill.ir.dtypes import DType
from graphmill.records import record


@record
class Call:
    """Operands, their dtypes, the result's dtype and the op's attributes."""

    scope: Scope
    args: tuple[Elem, ...]
    types: tuple[DType, ...]
    out: DType
    attrs: Mapping[str, object]

    def nums(self) -> list[Num]:
        """The operands as numbers; none may be complex."""
        return [Num(self.scope, arg) for arg in self.args if isinstance(arg, Val)]


Emit = Callable[[Call], Elem]
Lowering = str | Emit
"""The name of an MLIR op whose operands and result share a type, or a function."""


def lower(call: Call, lowering: Lowering) -> Elem:
    """Emit `call` by `lowering`."""
    if callable(lowering):
        return lowering(call)
    names = ", ".join(str(arg) for arg in call.args)
    first = call.args[0]
    assert isinstance(first, Val)
    return call.scope.code.op(f"{lowering} {names} : {first.type}", first.type)


def of_nums(function: Callable[..., Num]) -> Emit:
    """A lowering by a function of numbers."""
    return lambda call: function(*call.nums()).val


def late(module: str, name: str) -> Emit:
    """A lowering by a function of numbers in a module that is loaded when it is met."""

    def emit(call: Call) -> Elem:
        function: Callable[..., Num] = getattr(
            import_module(f"graphmill.codegen.cpu.{module}"), name
        )
        return function(*call.nums()).val

    return emit


def compare(predicate: str) -> Emit:
    """A comparison by MLIR predicate: of floats when it starts with `o` or is `une`."""
    op = "arith.cmpf" if predicate.startswith("o") or predicate in ("une", "uno") else "arith.cmpi"

    def emit(call: Call) -> Elem:
        a, b = call.args
        assert not isinstance(a, Complex) and not isinstance(b, Complex)
        return call.scope.code.compare(op, predicate, a, b)

    return emit
