"""Which keys a panel of queries must look at, from the bounds that masks set."""

from __future__ import annotations

import numpy as np

from graphmill.codegen.cpu.attention.problem import At, Problem
from graphmill.codegen.cpu.contract.elements import least, most
from graphmill.codegen.cpu.emit import Val
from graphmill.records import record

UPPER, LOWER = ("le", "lt"), ("ge", "gt")


@record
class Ranges:
    """Some query sees a key of `low … high` only; every query sees those of `clear`.

    `fill` is None when a hidden key weighs nothing whatever the others are; else keys outside
    count for queries whose largest score is not far above it.
    """

    low: Val
    high: Val
    clear: tuple[Val, Val]
    fill: float | None
    bounded: tuple[bool, bool]  # below, above


def ranges(problem: Problem, at: At, first: Val, last: Val, step: int) -> Ranges:
    """The ranges for the queries `first … last`.

    Both ends are such that any `step` keys end at one inside, if there are as many keys.
    """
    code = problem.code
    keys, zero, one = problem.kernel.dim(problem.keys), code.i64(0), code.i64(1)
    low, high, clear_low, clear_high = zero, keys, zero, keys
    for bound in problem.bounds:
        distance = problem.distance(bound, at)
        ends = [code.add(distance, row) if bound.slope else distance for row in (first, last)]
        if bound.relation in ("le", "gt"):
            ends = [code.add(end, one) for end in ends]
        if bound.relation in UPPER:
            high, clear_high = least(code, high, ends[1]), least(code, clear_high, ends[0])
        else:
            low, clear_low = most(code, low, ends[0]), most(code, clear_low, ends[1])
    below = any(b.relation in LOWER for b in problem.bounds)
    above = any(b.relation in UPPER for b in problem.bounds)
    if below:
        low = least(code, low, most(code, code.add(keys, -step), 0))
        low = code.mul(code.binary("arith.divui", low, code.i64(step)), step)
    if above:
        high = least(code, most(code, high, code.add(low, step)), keys)
    fills = [b.fill for b in problem.bounds if b.fill != -np.inf]
    return Ranges(low, high, (clear_low, clear_high), max(fills, default=None), (below, above))
