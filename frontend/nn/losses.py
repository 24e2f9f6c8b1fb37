"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import axes as ax
from graphmill.frontend import reductions
from graphmill.frontend.core import Tracer, as_tracer, astype
from graphmill.frontend.describe import failure
from graphmill.frontend.nn.layer import Array, floating, layer, like, wide
from graphmill.frontend.selecting import take_along_axis
from graphmill.frontend.shaping import reshaped


@layer
def cross_entropy(
    logits: Array, labels: Array, axis: int = -1, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:  # fmt: skip
    """-sum(p * log_softmax(logits)) along `axis`, p what the labels say; `mean`, `sum` or `none`.

    logits: floats [..., classes, ...]. labels: integers of the shape without `axis`, or
    probabilities of the shape of logits. Smoothing mixes p with the uniform distribution (Szegedy
    et al. 2016).
    """
    x = floating("cross_entropy", logits)
    along = ax.axis(axis, x.ndim, x)
    y: Any = wide(x)
    target = as_tracer(labels)
    rest = tuple(d for i, d in enumerate(x.dims) if i != along)
    wanted = rest if target.element.is_integer else x.dims
    if target.dims != wanted:
        raise failure(
            "GM014", f"labels for logits of [{', '.join(map(str, x.dims))}]", [logits, labels],
            why=f"integer labels are {list(rest)}, probabilities {list(x.dims)}.",
            hint="check the shapes and axis=.",
        )  # fmt: skip
    # the maximum leaves both terms, so that their difference keeps its digits
    y = y - reductions.max(y, along, keepdims=True)
    total: Any = np.log(reductions.sum(np.exp(y), along))
    if target.element.is_integer:
        shape = [1 if i == along else d for i, d in enumerate(x.dims)]
        chosen: Any = reshaped(take_along_axis(y, reshaped(target, shape), along), rest)
        loss = total - chosen
    else:
        p: Any = astype(target, y.element)
        loss = total * reductions.sum(p, along) - reductions.sum(p * y, along)
    if label_smoothing:
        even = total - reductions.mean(y, along)
        loss = (1 - label_smoothing) * loss + label_smoothing * even
    return like(_reduced(loss, reduction), x)


@layer
def mse(prediction: Array, target: Array, reduction: str = "mean") -> Array:
    """(prediction - target)**2, broadcast, in the prediction's dtype; `mean`, `sum` or `none`."""
    x = floating("mse", prediction)
    y: Any = wide(x)
    gap = y - astype(as_tracer(target), y.element)
    return like(_reduced(gap * gap, reduction), x)


def _reduced(loss: Tracer, reduction: str) -> Tracer:
    if reduction == "none":
        return loss
    if reduction not in ("mean", "sum"):
        raise failure("GM025", f"reduction={reduction!r}", hint='use "mean", "sum" or "none".')
    return reductions.mean(loss) if reduction == "mean" else reductions.sum(loss)
