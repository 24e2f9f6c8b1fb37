"""x ** n for a Python number n: what NumPy does exactly, without the general power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.frontend.core import as_tracer, astype, broadcast_to, emit
from graphmill.frontend.describe import failure
from graphmill.frontend.state import current
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, f32, f64

# The largest exponent that becomes multiplications: each rounds once, so at most 2 ulp.
MAX_MULTIPLIED = 4
HALVES = (-1.5, -0.5, 1.5)


def by_constant(x: Any, n: Any, of: DType, shape: Sequence[DimLike]) -> Tracer | None:
    """x ** n in dtype `of` when a few multiplications or a root do it; else None."""
    if not isinstance(n, int | float) or isinstance(n, bool | np.generic):
        return None
    if of.is_integer and isinstance(n, int) and n < 0:
        raise failure(
            "GM015",
            f"integers to the negative power {n}",
            [x],
            why="NumPy too refuses it: the result is not an integer.",
            hint=f"x.astype(np.float64) ** {n}, or 1 / x ** {-n}.",
        )
    if not (of.is_inexact or of.is_integer):
        return None
    base = broadcast_to(astype(as_tracer(x), of), tuple(shape))
    if n == 0.5 and of.is_float:
        return emit("sqrt", base)
    if n in HALVES and of in (f32, f64):
        return _by_root(base, n)
    if n == -1 and of.is_inexact:
        return emit("reciprocal", base)
    if n == 1:
        return Tracer(base.value(), current())
    if n not in range(2, MAX_MULTIPLIED + 1):
        return None
    square = emit("square", base)
    if n == 2:
        return square
    return emit("mul", square, base) if n == 3 else emit("square", square)


def _by_root(x: Any, n: float) -> Tracer:
    """x ** n for n of `HALVES`, within 2 ulp and for special values as the power.

    Unlike roots, powers of -0 and -inf are those of 0 and inf.
    """
    from graphmill.frontend.elementwise import select
    from graphmill.frontend.ufuncs import constant_like

    infinite = emit("eq", x, constant_like(x, -math.inf))
    x = select(infinite, constant_like(x, math.inf), x + 0.0)
    root: Any = emit("sqrt", x)
    if n == 1.5:
        return emit("mul", x, root)
    inverse = emit("reciprocal", root)
    return inverse if n == -0.5 else emit("div", inverse, x)
