"""Scaled dot-product attention and rotary position embedding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphmill.frontend import joining, reductions, shaping
from graphmill.frontend.core import (
    Tracer,
    as_tracer,
    astype,
    broadcast_to,
    composite,
    dim_value,
    emit,
    promote_args,
)
from graphmill.frontend.describe import failure
from graphmill.frontend.elementwise import select
from graphmill.frontend.linear import dot_general
from graphmill.frontend.nn.layer import Array, floating, known, layer, like, wide
from graphmill.frontend.nn.softmax import normalised
from graphmill.frontend.shaping import iota, reshaped
from graphmill.frontend.ufuncs import constant_like
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import i64


@layer
def attention(
    q: Array, k: Array, v: Array, mask: Array = None, *, causal: bool = False,
    scale: float | None = None,
) -> Array:  # fmt: skip
    """softmax(q @ k.T * scale + mask) @ v for each head (Vaswani et al. 2017).

    q: [batch, heads, queries, dim]; k: [batch, kv_heads, keys, dim]; v: [batch, kv_heads, keys,
    width]; floats. The result is [batch, heads, queries, width]. kv_heads divides heads:
    consecutive query heads share one (grouped-query attention, Ainslie et al. 2023). `mask`
    broadcasts to [batch, heads, queries, keys]: bools say what is attended to, floats are added.
    `causal`: the last query sees all keys, each one before it one less. `scale` is
    1 / sqrt(dim) unless given. 16-bit floats are computed in f32. A query that sees no key gets 0.
    """
    a, b, c = promote_args(*(floating("attention", t) for t in (q, k, v)))
    _check(a, b, c)
    heads, kv_heads = (known(t.dims[1], "the number of heads", t) for t in (a, b))
    if kv_heads == 0 or heads % kv_heads:
        raise failure(
            "GM014", f"{heads} query heads for {kv_heads} key heads", [q, k],
            hint="the number of key and value heads divides that of query heads.",
        )  # fmt: skip
    dim = known(a.dims[3], "the size of a head", a) if scale is None else 1
    factor = 1 / math.sqrt(max(dim, 1)) if scale is None else scale
    group = heads // kv_heads
    shape: tuple[DimLike, ...] = (*a.dims[:3], b.dims[2])
    queries = a if group == 1 else reshaped(a, (a.dims[0], kv_heads, group, *a.dims[2:]))
    scores: Any = _products(queries, b, -1, 3, wide(a).element)
    scores = scores * factor
    sees = _visible(mask, causal, shape)
    if sees is not None:
        sees = _grouped(sees, shape, kv_heads, group)
        scores = select(sees, scores, constant_like(scores, -math.inf))
    if mask is not None and _is_added(mask):
        scores = scores + _grouped(astype(as_tracer(mask), scores.element), shape, kv_heads, group)
    may_be_blind = mask is not None or (causal and a.dims[2] != b.dims[2])
    weights = _weights(scores, may_be_blind)
    result = _products(astype(weights, a.element), c, -1, 2, a.element)
    return reshaped(result, (*a.dims[:3], c.dims[3]))


def _is_added(mask: Array) -> bool:
    """Whether a mask is added (floats), not a choice (bools)."""
    return as_tracer(mask).element.kind != "b"


def _check(q: Tracer, k: Tracer, v: Tracer) -> None:
    ranks = {t.ndim for t in (q, k, v)}
    if ranks != {4} or q.dims[0] != k.dims[0] or q.dims[3] != k.dims[3] or k.dims[:3] != v.dims[:3]:
        raise failure(
            "GM014", " and ".join(f"[{', '.join(map(str, t.dims))}]" for t in (q, k, v)),
            [q, k, v],
            why="q is [batch, heads, queries, dim], k [batch, kv_heads, keys, dim] and v "
            "[batch, kv_heads, keys, width].",
            hint="np.moveaxis brings the heads to the front; x[None] adds a batch axis.",
        )  # fmt: skip


def _products(x: Tracer, y: Tracer, i: int, j: int, dtype: Any) -> Tracer:
    """Sums over axis i of x and j of y for each batch and (key) head."""
    return dot_general(x, y, ((x.ndim + i,), (j,)), ((0, 1), (0, 1)), dtype)


def _visible(mask: Array, causal: bool, shape: tuple[DimLike, ...]) -> Any:
    """Which keys each query sees, as a bool that broadcasts to the scores; None for all."""
    sees: Any = None
    if causal:
        rows, columns = iota(shape[2]), iota(shape[3])
        offset = dim_value(shape[3] - shape[2], i64)
        last: Any = reshaped(rows, (shape[2], 1)) + offset
        sees = last >= columns
    if mask is None or _is_added(mask):
        return sees
    chosen: Any = as_tracer(mask)
    return chosen if sees is None else sees & chosen


def _grouped(mask: Tracer, shape: tuple[DimLike, ...], kv_heads: int, group: int) -> Tracer:
    """A mask for scores of `shape` as one for the scores with query heads in groups."""
    full = [1] * (4 - mask.ndim) + list(mask.dims)
    if len(full) != 4 or any(m not in (1, d) for m, d in zip(full, shape, strict=True)):
        raise failure(
            "GM014", f"a mask of [{', '.join(map(str, mask.dims))}]", [mask],
            why=f"it broadcasts to [{', '.join(map(str, shape))}].",
            hint="the last two axes are queries and keys.",
        )  # fmt: skip
    mask = reshaped(mask, full)
    if group == 1:
        return broadcast_to(mask, shape)
    split = (1, 1) if full[1] == 1 else (kv_heads, group)
    mask = reshaped(mask, (full[0], *split, *full[2:]))
    return broadcast_to(mask, (shape[0], kv_heads, group, *shape[2:]))


@composite("softmax")
def _weights(scores: Any, may_be_blind: bool) -> Any:
    """The softmax of the scores; 0 where a query sees no key, if that may be."""
    if not may_be_blind:
        return normalised(scores, -1)
    largest = reductions.max(scores, -1, keepdims=True, initial=-math.inf)
    blind = emit("eq", largest, constant_like(largest, -math.inf))
    powers: Any = np.exp(scores - select(blind, constant_like(largest, 0), largest))
    total = reductions.sum(powers, -1, keepdims=True)
    return powers / select(blind, constant_like(total, 1), total)


@layer
def rotary_embedding(
    x: Array, positions: Array = None, *, base: float = 10000.0, interleaved: bool = False
) -> Array:
    """x with pairs of elements turned by angles that grow with the position (Su et al. 2021).

    x: floats [batch, heads, seq, dim], dim even and known. positions: integers [seq] or
    [batch, seq]; 0, 1, … unless given. Pair i turns by position * base**(-2 i / dim); it is
    elements (i, i + dim / 2), or (2 i, 2 i + 1) if `interleaved`. Angles are computed in f32 (f64
    for f64).
    """
    x = floating("rotary_embedding", x)
    dim = known(x.dims[-1] if x.ndim == 4 else 1, "the size of a head", x)
    if dim % 2:
        raise failure(
            "GM014", f"[{', '.join(map(str, x.dims))}]", [x],
            why="pairs of elements are turned: x is [batch, heads, seq, dim] with an even dim.",
            hint="check the shape of x.",
        )  # fmt: skip
    y: Any = wide(x)
    at = iota(x.dims[2]) if positions is None else as_tracer(positions)
    at = reshaped(at, (*at.dims[:-1], *(1,) * (at.ndim - 1), at.dims[-1], 1))
    speeds = base ** (-np.arange(0, dim, 2) / dim)
    angles: Any = astype(at, y.element) * speeds.astype(y.dtype)
    if interleaved:
        pairs: Any = reshaped(y, (*y.dims[:-1], dim // 2, 2))
        first, second = pairs[..., 0], pairs[..., 1]
        c, s = np.cos(angles), np.sin(angles)
        turned = joining.stack([first * c - second * s, second * c + first * s], -1)
        return like(reshaped(turned, x.dims), x)
    # one product for both halves, so that what is read twice is written once
    first, second = (shaping.sliced(y, 3, i * dim // 2, (i + 1) * dim // 2) for i in (0, 1))
    crossed: Any = joining.concatenate([np.negative(second), first], -1)
    angles = joining.concatenate([angles, angles], -1)
    return like(y * np.cos(angles) + crossed * np.sin(angles), x)
