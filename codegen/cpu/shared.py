"""Long operations of long functions: written once as a function of vectors, and called.

Inline they are up to half faster, but LLVM takes milliseconds for each. So kernels have their first
exponentials and sines inline and call the rest, sooner where the whole module has many.
"""

from __future__ import annotations

from dataclasses import replace

from graphmill.codegen.cpu.calls import Call, Lowering, lower
from graphmill.codegen.cpu.elem import Elem, register_type
from graphmill.codegen.cpu.emit import Code, Val, vector

LONG = 16  # lines of MLIR from which an operation is long
INLINE = 96  # long operations that one function has inline,
FEW = 8  # or this many
MANY = 192  # once the module has so many


def lowered(op: str, call: Call, lowering: Lowering) -> Elem:
    """Emit `call` in place, or as the call of a function of its unit."""
    code = call.scope.code
    values = [arg for arg in call.args if isinstance(arg, Val)]
    plain = not call.attrs and len(values) == len(call.args) and not call.out.is_complex
    if plain and code.long >= (INLINE if code.unit.long < MANY else FEW):
        symbol = f"gm.{op}_{'_'.join(map(str, (*call.types, call.out)))}_{values[0].lanes}"
        kind = vector(register_type(call.out), values[0].lanes)
        if symbol in code.unit.declarations or _write(symbol, kind, values, call, lowering):
            code.unit.once(symbol)  # wanted here too
            result = code.call(symbol, values, kind)
            assert result is not None
            return result
    before = code.length
    made = lower(call, lowering)
    if plain and code.length - before >= LONG:
        code.long += 1
        code.unit.long += 1
    return made


def _write(symbol: str, kind: str, values: list[Val], call: Call, lowering: Lowering) -> bool:
    """Add the operation to the unit as a function, if it is long."""
    arguments = [(f"x{i}", value.type) for i, value in enumerate(values)]
    code = Code(call.scope.code.unit, symbol, arguments, kind, traits=("noinline",))
    result = lower(
        replace(call, scope=replace(call.scope, code=code), args=tuple(code.args)), lowering
    )
    if code.length < LONG:
        return False
    assert isinstance(result, Val)
    code.finish(result)
    return True
