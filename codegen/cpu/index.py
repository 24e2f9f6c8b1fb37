"""Positions along one axis for all lanes of a vector, and arithmetic on them.

Inside a kernel an axis position is affine in the lane number wherever possible, so that a load
is known to be contiguous, uniform or strided; what is not affine (a gathered index) is a vector.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.memory import lane_numbers
from graphmill.records import record


@record
class Index:
    """`base + step * lane`; with `step` None, `base` is a vector of arbitrary positions."""

    base: Val
    step: int | None = 0

    @property
    def uniform(self) -> bool:
        """Whether every lane is at the same position."""
        return self.step == 0


Indices = tuple[Index, ...]


def is_uniform(index: Indices) -> bool:
    """Whether every lane is at the same element."""
    return all(i.uniform for i in index)


def zero(code: Code) -> Index:
    """Position 0."""
    return Index(code.i64(0))


def lanes_of(code: Code, index: Index, lanes: int) -> Val:
    """The positions as i64 lanes (one scalar when `lanes` is 0)."""
    if index.step is None or not lanes:
        return index.base
    base = code.splat(index.base, lanes)
    if index.step == 0:
        return base
    steps = lane_numbers(code, lanes)
    if index.step != 1:
        steps = code.mul(steps, code.const(index.step, steps.type))
    return code.add(base, steps)


def shifted(code: Code, index: Index, by: Val | int) -> Index:
    """The position moved by a uniform distance."""
    if isinstance(by, int) and by == 0:
        return index
    if index.step is None:
        wide = code.i64(by) if isinstance(by, int) else by
        return Index(code.add(index.base, code.splat(wide, index.base.lanes)), None)
    return Index(code.add(index.base, by), index.step)


def scaled(code: Code, index: Index, by: int) -> Index:
    """The position times a constant."""
    if by == 1:
        return index
    if index.step is None:
        return Index(code.mul(index.base, code.const(by, index.base.type)), None)
    return Index(code.mul(index.base, by), index.step * by)


def mirrored(code: Code, index: Index, size: Val | int) -> Index:
    """`size - 1 - position`."""
    last = code.add(code.i64(size) if isinstance(size, int) else size, -1)
    last = code.splat(last, index.base.lanes)
    return Index(
        code.binary("arith.subi", last, index.base), None if index.step is None else -index.step
    )


def below(code: Code, index: Index, bound: Val | int, lanes: int) -> Val:
    """i1 (per lane unless uniform): position < bound, signed."""
    return _compared(code, "slt", index, bound, lanes)


def at_least(code: Code, index: Index, bound: Val | int, lanes: int) -> Val:
    """i1 (per lane unless uniform): position >= bound, signed."""
    return _compared(code, "sge", index, bound, lanes)


def _compared(code: Code, predicate: str, index: Index, bound: Val | int, lanes: int) -> Val:
    limit = code.i64(bound) if isinstance(bound, int) else bound
    if index.uniform:
        return code.compare("arith.cmpi", predicate, index.base, limit)
    value = lanes_of(code, index, lanes)
    return code.compare("arith.cmpi", predicate, value, code.splat(limit, lanes))


def both(code: Code, a: Val | None, b: Val | None) -> Val | None:
    """The conjunction of two masks, None meaning true; a scalar one is repeated as needed."""
    if a is None or b is None:
        return a if b is None else b
    lanes = max(a.lanes, b.lanes)
    return code.binary("arith.andi", code.splat(a, lanes), code.splat(b, lanes))


def unravel(code: Code, flat: Val, sizes: Sequence[Val | int]) -> list[Val]:
    """Row-major positions of the scalar `flat` in an array of `sizes`."""
    positions: list[Val] = []
    for size in reversed(sizes[1:]):
        divisor = code.i64(size) if isinstance(size, int) else size
        positions.append(code.binary("arith.remui", flat, divisor))
        flat = code.binary("arith.divui", flat, divisor)
    return [flat, *reversed(positions)] if sizes else []
