"""Reductions inside a kernel: the next element made part of a state, or all of few elements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from graphmill.codegen.cpu.elem import Elem, splat
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.expr import Num, Scope, fma
from graphmill.codegen.cpu.index import Index, Indices
from graphmill.codegen.cpu.stages import Accumulator, unpack
from graphmill.ir.graph import Op, Value

if TYPE_CHECKING:
    from graphmill.codegen.cpu.element import Elements


def accumulate(
    elements: Elements, op: Op, state: Sequence[Val], index: Indices, known: bool = False
) -> list[Val]:
    """The state of the `reduce` op after its operand's elements at `index`.

    A sum of products takes one rounding a step where the target fuses them, unless they are
    `known`. Lanes that `elements.tail` masks keep their state.
    """
    lanes, tail = state[0].lanes, elements.tail
    parts = [elements.at(value, index) for value in _terms(elements, op, known)]
    after = _combined(elements, op, state, [splat(elements.code, part, lanes) for part in parts])
    if tail is None:
        return after
    return [elements.code.select(tail, a, b) for a, b in zip(after, state, strict=True)]


def written_out(elements: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    """The value of a `reduce` op along axes of few positions, which are all written out."""
    operand, axes = op.operands[0], op.attrs["axes"]
    values, found = _terms(elements, op, False), []
    for positions in product(*(range(operand.shape[axis]) for axis in axes)):
        rest, full = iter(index), list[Index]()
        at = dict(zip(axes, positions, strict=True))
        for axis in range(len(operand.shape)):
            full.append(Index(elements.code.i64(at[axis])) if axis in at else next(rest))
        found.append([elements.at(value, tuple(full), guard) for value in values])
    lanes = max(part.lanes for parts in found for part in parts)
    state = Accumulator.of(op).start(elements.code, lanes)
    for parts in found:
        state = _combined(elements, op, state, [splat(elements.code, p, lanes) for p in parts])
    return unpack(state)


def _terms(elements: Elements, op: Op, known: bool) -> Sequence[Value]:
    """What one step takes: the operand, or the two factors of which it is the product."""
    (operand,) = op.operands
    dtype, maker = operand.tensor.dtype, operand.op
    known = known or operand in elements.overrides
    if maker is None or maker.name not in ("mul", "square") or not dtype.is_float:
        return [operand]
    if op.attrs["monoid"] != "sum" or dtype.bits < 32 or known:
        return [operand]
    return [maker.operands[0], maker.operands[-1]]


def _combined(elements: Elements, op: Op, state: Sequence[Val], parts: Sequence[Elem]) -> list[Val]:
    if len(parts) == 1:
        return Accumulator.of(op).combine(elements.kernel, state, parts[0])
    scope = Scope.of(elements.code, elements.kernel.target)
    a, b = (Num(scope, part) for part in parts if isinstance(part, Val))
    with elements.code.located(op):
        return [fma(a, b, Num(scope, state[0])).val]
