"""`gm.nn` in torch, eager and for torch.compile."""

from typing import Any

import torch
from torch.nn import functional

Array = Any

relu, relu6, avg_pool2d, max_pool2d = (
    functional.relu,
    functional.relu6,
    functional.avg_pool2d,
    functional.max_pool2d,
)


def conv2d(x: Array, weight: Array, bias: Array = None, **options: Any) -> Array:
    return functional.conv2d(x, weight, bias, **options)


def batch_norm(x: Array, mean: Array, var: Array, weight: Array, bias: Array) -> Array:
    return functional.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def global_avg_pool(x: Array) -> Array:
    return x.mean((2, 3))


def gelu(x: Array, approximate: bool = False) -> Array:
    return functional.gelu(x, approximate="tanh" if approximate else "none")


def linear(x: Array, weight: Array, bias: Array = None) -> Array:
    """torch's own layers hold the transposed weight; addmm takes it as it is."""
    if bias is None:
        return x @ weight
    flat = torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight)
    return flat.reshape(*x.shape[:-1], weight.shape[1])


def embedding(indices: Array, table: Array) -> Array:
    return functional.embedding(indices, table)


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    return functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def attention(q: Array, k: Array, v: Array, *, causal: bool = False) -> Array:
    """torch aligns the first query with the first key; ours, one query is the last."""
    assert not causal or q.shape[2] in (1, k.shape[2])
    masked = causal and q.shape[2] > 1
    return functional.scaled_dot_product_attention(q, k, v, is_causal=masked)
