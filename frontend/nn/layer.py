"""What the functions of `gm.nn` share: their scope, and the dtypes they take and compute in."""

from __future__ import annotations

from typing import Any

from graphmill.frontend.core import Tracer, as_tracer, astype
from graphmill.frontend.describe import failure
from graphmill.frontend.eager import Array, layer
from graphmill.ir.dtypes import f32

__all__ = ["Array", "floating", "known", "layer", "like", "wide"]


def floating(name: str, x: Any) -> Tracer:
    """x as a traced float array; GM015 for another dtype."""
    traced = as_tracer(x)
    if not traced.element.is_float:
        raise failure(
            "GM015", f"{name} of {traced.element}", [x],
            why="the result is no number of that dtype.", hint="cast first: x.astype(np.float32).",
        )  # fmt: skip
    return traced


def wide(x: Tracer) -> Tracer:
    """x in the dtype that sums are computed in: 16-bit floats in f32."""
    return astype(x, f32) if x.element.is_float and x.element.bits == 16 else x


def like(result: Tracer, x: Tracer) -> Tracer:
    """A result in x's dtype."""
    return astype(result, x.element)


def known(dim: Any, what: str, x: Any) -> int:
    """A size that has to be a number while tracing."""
    if isinstance(dim, int):
        return dim
    raise failure(
        "GM005", f"{what} is the symbolic dim {dim}", [x],
        hint="make this axis static by leaving it out of dynamic=.",
    )  # fmt: skip
