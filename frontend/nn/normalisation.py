"""Normalisation by statistics of the data or (batch_norm) by stored ones.

All take and return floats of x's dtype; 16-bit ones are computed in f32. `weight` and `bias` scale
and shift the result and may be None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphmill.frontend import axes as ax
from graphmill.frontend import reductions
from graphmill.frontend.core import Tracer, as_tracer, astype, emit
from graphmill.frontend.describe import failure
from graphmill.frontend.nn.layer import Array, floating, known, layer, like, wide
from graphmill.frontend.shaping import reshaped
from graphmill.ir.dims import DimLike, floordiv

Axes = int | tuple[int, ...]


@layer
def layer_norm(
    x: Array, weight: Array = None, bias: Array = None, axis: Axes = -1, eps: float = 1e-5
) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias along axes (Ba et al. 2016).

    weight, bias: the shape of the normalised axes.
    """
    x = floating("layer_norm", x)
    over = ax.axes(axis, x.ndim, x)
    return like(_affine(_standardised(wide(x), over, eps), over, weight, bias), x)


@layer
def rms_norm(x: Array, weight: Array = None, axis: Axes = -1, eps: float = 1e-6) -> Array:
    """x / sqrt(mean(x * x) + eps) * weight along axes (Zhang and Sennrich 2019).

    weight: the shape of the normalised axes.
    """
    x = floating("rms_norm", x)
    over = ax.axes(axis, x.ndim, x)
    y: Any = wide(x)
    scale = emit("rsqrt", reductions.mean(emit("square", y), over, keepdims=True) + eps)
    return like(_affine(y * scale, over, weight, None), x)


@layer
def group_norm(
    x: Array, groups: int, weight: Array = None, bias: Array = None, eps: float = 1e-5
) -> Array:
    """Each group of channels of each sample standardised (Wu and He 2018).

    x: [batch, channels, …]; weight, bias: [channels]. One group is layer norm over all but the
    batch, one group per channel is instance norm.
    """
    x = floating("group_norm", x)
    channels = known(x.dims[1] if x.ndim > 1 else 0, "the number of channels", x)
    if groups < 1 or channels == 0 or channels % groups:
        raise failure(
            "GM017", f"{channels} channels in {groups} groups", [x],
            hint="x is [batch, channels, …], and groups divides the channels.",
        )  # fmt: skip
    y = reshaped(wide(x), (x.dims[0], groups, floordiv(channels, groups), *x.dims[2:]))
    y = reshaped(_standardised(y, tuple(range(2, y.ndim)), eps), x.dims)
    return like(_affine(y, (1,), weight, bias), x)


@layer
def batch_norm(
    x: Array, mean: Array, var: Array, weight: Array = None, bias: Array = None, axis: int = 1,
    eps: float = 1e-5,
) -> Array:  # fmt: skip
    """(x - mean) / sqrt(var + eps) * weight + bias with stored statistics (Ioffe, Szegedy 2015).

    For inference: mean, var, weight, bias are [channels], the size of `axis`.
    """
    x = floating("batch_norm", x)
    over = (ax.axis(axis, x.ndim, x),)
    y: Any = wide(x)
    parts = [_along(p, over, y) for p in (mean, var)]
    scale: Any = emit("rsqrt", parts[1] + eps)
    if weight is not None:
        scale = scale * _along(weight, over, y)
    return like(_affine((y - parts[0]) * scale, over, None, bias), x)


def _standardised(x: Any, over: tuple[int, ...], eps: float) -> Any:
    gap = x - reductions.mean(x, over, keepdims=True)
    spread: Any = reductions.mean(emit("square", gap), over, keepdims=True)
    return gap * emit("rsqrt", spread + eps)


def _affine(y: Any, over: Sequence[int], weight: Array, bias: Array) -> Any:
    if weight is not None:
        y = y * _along(weight, over, y)
    return y if bias is None else y + _along(bias, over, y)


def _along(parameter: Array, over: Sequence[int], y: Tracer) -> Any:
    """A parameter of the sizes of some axes, in y's dtype, with axes of size 1 for the others."""
    p = astype(as_tracer(parameter), y.element)
    wanted = tuple(y.dims[i] for i in over)
    if p.dims != wanted:
        raise failure(
            "GM014",
            f"[{', '.join(map(str, p.dims))}] for axes of [{', '.join(map(str, wanted))}]",
            [parameter, y],
            why="there is one scale and one shift for each element of these axes.",
            hint="check the parameter's shape and axis=.",
        )
    shape: list[DimLike] = [d if i in over else 1 for i, d in enumerate(y.dims)]
    return reshaped(p, shape)
