"""x ** n for a Python number n: what NumPy does exactly, without the general power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.frontend.core import as_tracer, astype, broadcast_to, emit
from graphmill.frontend.describe import failure
from graphmill.frontend.state import current
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType

# The largest exponent that becomes multiplications: each rounds once, so at most 2 ulp.
MAX_MULTIPLIED = 4


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
