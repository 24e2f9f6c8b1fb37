"""Softmax and its relatives along axes, the largest element taken out first.

16-bit floats are computed in f32 and come back in their dtype. A row of -inf alone has the
logsumexp -inf; its softmax is NaN, as 0 / 0 is. So has an empty axis, whose softmax is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import reductions, shaping
from graphmill.frontend.core import Tracer
from graphmill.frontend.elementwise import select
from graphmill.frontend.nn.layer import Array, floating, layer, like, wide
from graphmill.frontend.ufuncs import constant_like

Axes = int | tuple[int, ...] | None


@layer
def softmax(x: Array, axis: Axes = -1) -> Array:
    """exp(x) / sum(exp(x)) along axes (None: all): x's shape and dtype, a float."""
    x = floating("softmax", x)
    return like(normalised(wide(x), axis), x)


def normalised(x: Tracer, axis: Axes) -> Any:
    """The softmax of x in x's dtype."""
    powers = np.exp(x - reductions.largest(x, axis))
    return powers / reductions.sum(powers, axis, keepdims=True)


@layer
def log_softmax(x: Array, axis: Axes = -1) -> Array:
    """log(softmax(x)) along axes (None: all): x's shape and dtype, a float."""
    x = floating("log_softmax", x)
    y = wide(x)
    centred = y - reductions.largest(y, axis)
    return like(centred - np.log(reductions.sum(np.exp(centred), axis, keepdims=True)), x)


@layer
def logsumexp(x: Array, axis: Axes = None, keepdims: bool = False) -> Array:
    """log(sum(exp(x))) along axes (None: all), in x's dtype, a float; infinities count as such."""
    x = floating("logsumexp", x)
    return like(log_of_sum(wide(x), axis, keepdims), x)


def log_of_sum(x: Tracer, axis: Axes, keepdims: bool = False) -> Any:
    """The logsumexp of x in x's dtype."""
    largest = reductions.largest(x, axis)
    shift: Any = select(np.isfinite(largest), largest, constant_like(largest, 0))  # type: ignore[arg-type]
    total = np.log(reductions.sum(np.exp(x - shift), axis, keepdims=True)) + shift
    over = ax.axes(axis, x.ndim, x)
    if keepdims:
        return total
    return shaping.reshaped(total, [d for i, d in enumerate(x.dims) if i not in over])
