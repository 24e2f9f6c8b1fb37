"""`gm.nn` in NumPy; in float64 it is the reference of every model."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = Any


def each(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def views(x: Array, window: Any, stride: Any, dilation: Any) -> Iterator[tuple[int, int, Array]]:
    """For each place (i, j) of a window, what all windows have there."""
    window, stride, dilation = each(window), each(stride), each(dilation)
    counts = [
        (size - (w - 1) * d - 1) // s + 1
        for size, w, s, d in zip(x.shape[2:], window, stride, dilation, strict=True)
    ]
    for i, j in itertools.product(range(window[0]), range(window[1])):
        rows, columns = (
            slice(at * d, at * d + (count - 1) * s + 1, s)
            for at, d, s, count in zip((i, j), dilation, stride, counts, strict=True)
        )
        yield i, j, x[:, :, rows, columns]


def padded(x: Array, padding: Any, value: float = 0) -> Array:
    high, wide = each(padding)
    return np.pad(x, ((0, 0), (0, 0), (high, high), (wide, wide)), constant_values=value)


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
    """One matrix product per place of the window."""
    out, channels = weight.shape[:2]
    kernel = weight.reshape(1, groups, out // groups, channels, *weight.shape[2:])
    total: Any = 0
    for i, j, seen in views(padded(x, padding), weight.shape[2:], stride, dilation):
        places = seen.shape[2:]
        columns = seen.reshape(len(x), groups, channels, -1)
        if channels == 1:
            total = total + kernel[..., i, j] * columns
        else:
            total = total + np.ascontiguousarray(kernel[..., i, j]) @ columns
    result = total.reshape(len(x), out, *places)
    return result if bias is None else result + bias[:, None, None]


def batch_norm(x: Array, mean: Array, var: Array, weight: Array, bias: Array) -> Array:
    scale = weight / np.sqrt(var + 1e-5)
    return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def max_pool2d(x: Array, window: Any, stride: Any, padding: Any = 0) -> Array:
    result = None
    for _, _, seen in views(padded(x, padding, -np.inf), window, stride, 1):
        result = seen.copy() if result is None else np.maximum(result, seen, out=result)
    return result


def avg_pool2d(x: Array, window: Any, stride: Any, padding: Any = 0) -> Array:
    total = sum(seen for _, _, seen in views(padded(x, padding), window, stride, 1))
    return total / math.prod(each(window))


def global_avg_pool(x: Array) -> Array:
    return x.mean((2, 3))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    return np.minimum(np.maximum(x, 0), 6)


def erf(x: Array) -> Array:
    try:
        from scipy.special import erf as function
    except ImportError:
        return np.vectorize(math.erf, otypes=[x.dtype])(x)
    return function(x)


def gelu(x: Array, approximate: bool = False) -> Array:
    if approximate:
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + erf(x * 0.7071067811865476))


def linear(x: Array, weight: Array, bias: Array = None) -> Array:
    return x @ weight if bias is None else x @ weight + bias


def embedding(indices: Array, table: Array) -> Array:
    return table[indices]


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * weight + bias


def attention(q: Array, k: Array, v: Array, *, causal: bool = False) -> Array:
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        queries, keys = scores.shape[-2:]
        scores = np.where(np.tri(queries, keys, keys - queries, dtype=bool), scores, -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v
