"""`gm.nn` in JAX."""

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from benchmarks.layers.with_numpy import each

Array = Any

relu, relu6 = jax.nn.relu, jax.nn.relu6


def pairs(padding: Any) -> list[tuple[int, int]]:
    return [(p, p) for p in each(padding)]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    result = lax.conv_general_dilated(
        x,
        weight,
        each(stride),
        pairs(padding),
        rhs_dilation=each(dilation),
        feature_group_count=groups,
    )
    return result if bias is None else result + bias[:, None, None]


def batch_norm(x: Array, mean: Array, var: Array, weight: Array, bias: Array) -> Array:
    scale = weight * lax.rsqrt(var + 1e-5)
    return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def slid(x: Array, initial: float, operation: Any, window: Any, stride: Any, padding: Any) -> Array:
    sizes, steps = (1, 1, *each(window)), (1, 1, *each(stride))
    return lax.reduce_window(x, initial, operation, sizes, steps, [(0, 0), (0, 0), *pairs(padding)])


def max_pool2d(x: Array, window: Any, stride: Any, padding: Any = 0) -> Array:
    return slid(x, -jnp.inf, lax.max, window, stride, padding)


def avg_pool2d(x: Array, window: Any, stride: Any, padding: Any = 0) -> Array:
    high, wide = each(window)
    return slid(x, 0.0, lax.add, window, stride, padding) / (high * wide)


def global_avg_pool(x: Array) -> Array:
    return x.mean((2, 3))


def gelu(x: Array, approximate: bool = False) -> Array:
    return jax.nn.gelu(x, approximate=approximate)


def linear(x: Array, weight: Array, bias: Array = None) -> Array:
    return x @ weight if bias is None else x @ weight + bias


def embedding(indices: Array, table: Array) -> Array:
    return table[indices]


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.var(x, -1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * weight + bias


def attention(q: Array, k: Array, v: Array, *, causal: bool = False) -> Array:
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        queries, keys = scores.shape[-2:]
        scores = jnp.where(jnp.tri(queries, keys, keys - queries, dtype=bool), scores, -jnp.inf)
    return jax.nn.softmax(scores, -1) @ v
