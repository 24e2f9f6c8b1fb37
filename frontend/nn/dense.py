"""Linear maps and tables of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import selecting
from graphmill.frontend.core import as_dtype, as_tracer, astype, emit
from graphmill.frontend.describe import failure
from graphmill.frontend.linear import matmul
from graphmill.frontend.nn.layer import Array, layer
from graphmill.frontend.shaping import reshaped


@layer
def linear(x: Array, weight: Array, bias: Array = None) -> Array:
    """x @ weight + bias: x [..., in], weight [in, out], bias [out] give [..., out]."""
    result: Any = matmul(x, weight)
    return result if bias is None else result + as_tracer(bias)


@layer
def embedding(indices: Array, table: Array) -> Array:
    """The rows of a table: integer indices [...], table [rows, width] give [..., width]."""
    return selecting.take(as_tracer(table), indices, 0)


@layer
def one_hot(indices: Array, classes: int, dtype: Any = np.float32) -> Array:
    """1 at each index of a new last axis, 0 elsewhere (all 0 for an index out of range).

    indices: integers [...]; the result is [..., classes] of `dtype`.
    """
    places = as_tracer(indices)
    if not places.element.is_integer:
        raise failure(
            "GM020", f"one_hot of {places.element}", [indices], why="indices are integers.",
            hint="cast with .astype(np.int64).",
        )  # fmt: skip
    shape = (*places.dims, ax.dim(classes, "classes"))
    ramp = emit("iota", shape=shape, axis=places.ndim, dtype=as_dtype(places.dtype))
    return astype(np.equal(reshaped(places, (*places.dims, 1)), ramp), dtype)
