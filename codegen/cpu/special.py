"""Ops that are cheaper where one operand is a known number, or one number for all lanes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.expr import Num, Scope
from graphmill.codegen.cpu.target import Target
from graphmill.ir.graph import Op, Value


def special(code: Code, target: Target, op: Op, args: Sequence[Elem]) -> Elem | None:
    """The result of a power or division of `args`; None where nothing special is known of them."""
    kind = op.result.tensor.dtype.kind
    if not isinstance(args[0], Val):
        return None
    scope = Scope.of(code, target)
    x = Num(scope, args[0])
    if op.name == "pow" and kind == "f":
        from graphmill.codegen.cpu import math_root

        exponent = known(op.operands[1])
        return math_root.half_power(x, exponent).val if exponent in _HALVES else None
    if op.name in ("floordiv", "mod") and kind in "iu":
        divisor = known(op.operands[1])
        if not divisor:
            return None
        from graphmill.codegen.cpu import integers

        by = integers.floordiv_by if op.name == "floordiv" else integers.mod_by
        return by(x, int(divisor), kind == "i").val
    one_divisor = op.name == "div" and args[0].lanes > args[1].lanes
    if not one_divisor or kind != "f" or not target.fuses or not isinstance(args[1], Val):
        return None
    from graphmill.codegen.cpu.division import divided, is_moderate

    return divided(x, Num(scope, args[1]), is_moderate(op.operands[1])).val


_HALVES = (0.5, -0.5, 1.5, -1.5)


def known(value: Value) -> float | int | None:
    """The number that all elements of a constant are."""
    op = value.op
    while op is not None and op.name in ("broadcast", "reshape"):
        op = op.operands[0].op
    if op is None or op.name != "constant" or op.result.tensor.dtype.kind not in "fiu":
        return None
    array = op.attrs["value"]
    wide = array.astype(np.float64) if op.result.tensor.dtype.kind == "f" else array
    numbers = np.unique(wide)
    return numbers[0].item() if len(numbers) == 1 else None
