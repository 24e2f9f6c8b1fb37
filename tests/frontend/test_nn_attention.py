"""Attention and rotary embeddings of `gm.nn` against plain NumPy in float64."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import graphmill as gm

nn = gm.nn
Array = NDArray[Any]
RNG = np.random.default_rng(13)


def array(*shape: int, dtype: str = "f4") -> Array:
    of = ml_dtypes.bfloat16 if dtype == "bf16" else np.dtype(dtype)
    return np.asarray(RNG.normal(size=shape)).astype(of)


def attended(
    q: Array, k: Array, v: Array, mask: Array | None = None, causal: bool = False,
    scale: float | None = None,
) -> Array:  # fmt: skip
    q, k, v = (t.astype("f8") for t in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) * factor
    if causal:
        n, m = scores.shape[-2:]
        scores = np.where(np.tri(n, m, m - n, dtype=bool), scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    top = scores.max(-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = powers.sum(-1, keepdims=True)
    return np.einsum("bhqk,bhkd->bhqd", powers / np.where(total == 0, 1, total), v)


# batch, heads, key heads, queries, keys, dim, width
SIZES = [
    (1, 1, 1, 1, 1, 1, 1), (2, 3, 3, 5, 5, 8, 8), (1, 4, 2, 6, 9, 4, 3), (2, 4, 1, 7, 7, 16, 16),
    (1, 2, 2, 1, 33, 8, 8), (1, 2, 1, 40, 17, 8, 5), (0, 2, 2, 3, 3, 4, 4),
]  # fmt: skip


def operands(sizes: tuple[int, ...], dtype: str = "f4") -> tuple[Array, Array, Array]:
    b, h, kh, n, m, d, w = sizes
    return (array(b, h, n, d, dtype=dtype), array(b, kh, m, d, dtype=dtype),
            array(b, kh, m, w, dtype=dtype))  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention(sizes: tuple[int, ...]) -> None:
    q, k, v = operands(sizes)
    b, h, _, n, m, _, _ = sizes
    sees = RNG.random((b, h, n, m)) < 0.7
    added = array(n, m)

    def run(q: Any, k: Any, v: Any, sees: Any, added: Any) -> Any:
        return (nn.attention(q, k, v), nn.attention(q, k, v, causal=True),
                nn.attention(q, k, v, sees), nn.attention(q, k, v, added, scale=0.3),
                nn.attention(q, k, v, sees[:, :1], causal=True))  # fmt: skip

    wanted = (
        attended(q, k, v), attended(q, k, v, causal=True), attended(q, k, v, sees),
        attended(q, k, v, added, scale=0.3), attended(q, k, v, sees[:, :1], causal=True),
    )  # fmt: skip
    for found in (gm.jit(run)(q, k, v, sees, added), run(q, k, v, sees, added)):
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == np.float32 and one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("dtype", ["f8", "f2", "bf16"])
def test_attention_dtypes(dtype: str) -> None:
    q, k, v = operands((2, 4, 2, 5, 6, 8, 8), dtype)
    found = gm.jit(lambda q, k, v: nn.attention(q, k, v, causal=True))(q, k, v)
    size = {"f8": 1e-13, "f2": 4e-3, "bf16": 3e-2}[dtype]
    assert found.dtype == q.dtype
    np.testing.assert_allclose(
        found.astype("f8"), attended(q, k, v, causal=True), rtol=size, atol=size
    )


def test_a_query_that_sees_nothing_gets_zero() -> None:
    q, k, v = operands((1, 1, 1, 4, 2, 4, 4))
    found = gm.jit(lambda q, k, v: nn.attention(q, k, v, causal=True))(q, k, v)
    assert not found[:, :, :2].any() and np.isfinite(found).all()
    none = np.zeros((4, 2), bool)
    assert not gm.jit(lambda q, k, v, m: nn.attention(q, k, v, m))(q, k, v, none).any()


def test_large_scores_do_not_overflow() -> None:
    q, k, v = operands((1, 2, 2, 3, 5, 4, 4))
    found = gm.jit(lambda q, k, v: nn.attention(q * 1e4, k * 1e3, v))(q, k, v)
    np.testing.assert_allclose(found, attended(q * 1e4, k * 1e3, v), rtol=1e-5, atol=1e-5)


def test_one_compile_serves_all_sizes() -> None:
    dynamic = {"q": ("batch", None, "n", None), "k": ("batch", None, "m", None),
               "v": ("batch", None, "m", None)}  # fmt: skip

    @gm.jit(dynamic=dynamic)
    def run(q: Any, k: Any, v: Any) -> Any:
        return nn.attention(nn.rotary_embedding(q), k, v, causal=True)

    for sizes in ((1, 4, 2, 3, 3, 8, 8), (2, 4, 2, 1, 17, 8, 8), (3, 4, 2, 9, 12, 8, 8)):
        q, k, v = operands(sizes)
        wanted = attended(rotated(q, np.arange(q.shape[2]), False), k, v, causal=True)
        np.testing.assert_allclose(run(q, k, v), wanted, rtol=1e-4, atol=5e-6)
    assert len(run.executables) == 1


def rotated(x: Array, at: Array, interleaved: bool, base: float = 10000.0) -> Array:
    """Pairs as complex numbers, times e^(i angle)."""
    x = x.astype("f8")
    half = x.shape[-1] // 2
    angles = np.multiply.outer(at, base ** (-np.arange(half) / half))
    turn = np.exp(1j * (angles[:, None] if at.ndim == 2 else angles))
    if interleaved:
        made = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([made.real, made.imag], -1).reshape(x.shape)
    made = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([made.real, made.imag], -1)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8", "bf16"])
def test_rotary_embedding(dtype: str, interleaved: bool) -> None:
    x = array(2, 3, 5, 6, dtype=dtype)
    one, each = np.array([3, 4, 5, 6, 100]), RNG.integers(0, 50, (2, 5))

    def run(x: Any, one: Any, each: Any) -> Any:
        return (nn.rotary_embedding(x, interleaved=interleaved),
                nn.rotary_embedding(x, one, interleaved=interleaved),
                nn.rotary_embedding(x, each, base=500.0, interleaved=interleaved))  # fmt: skip

    wanted = (rotated(x, np.arange(5), interleaved), rotated(x, one, interleaved),
              rotated(x, each, interleaved, 500.0))  # fmt: skip
    size = {"f4": 2e-5, "f8": 1e-12, "bf16": 3e-2}[dtype]
    for found in (gm.jit(run)(x, one, each), run(x, one, each)):
        for result, other in zip(found, wanted, strict=True):
            assert result.dtype == x.dtype
            np.testing.assert_allclose(result.astype("f8"), other, rtol=size, atol=size)
