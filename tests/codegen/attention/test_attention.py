"""Attention kernels against NumPy in float64: every way to write it, sizes, targets, threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime.executable import Executable

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
Form = Callable[..., Any]
INF = np.float32(np.inf)


def softmax(s: Any) -> Any:
    e = np.exp(s - np.max(s, -1, keepdims=True))
    return e / np.sum(e, -1, keepdims=True)


def scores(q: Any, k: Any) -> Any:
    return q @ np.swapaxes(k, -1, -2)


def plain(q: Any, k: Any, v: Any) -> Any:
    return softmax(scores(q, k) * 0.25) @ v


def divided_late(q: Any, k: Any, v: Any) -> Any:
    s = scores(q * 0.5, k)
    e = np.exp(s - s.max(-1, keepdims=True))
    return (e @ v) / e.sum(-1, keepdims=True)


def inverted(q: Any, k: Any, v: Any) -> Any:
    s = scores(q, k)
    e = np.exp(s - s.max(-1)[..., None])
    return (e * (1 / e.sum(-1, keepdims=True))) @ v


def unshifted(q: Any, k: Any, v: Any) -> Any:
    e = np.exp(scores(q, k) * 0.25)
    return e / e.sum(-1, keepdims=True) @ v


def causal(q: Any, k: Any, v: Any) -> Any:
    visible = np.tril(np.ones((q.shape[-2], k.shape[-2]), bool))
    return softmax(np.where(visible, scores(q, k), -INF)) @ v


def hidden(q: Any, k: Any, v: Any) -> Any:
    later = np.arange(k.shape[-2]) > np.arange(q.shape[-2])[:, None]
    return softmax(np.where(later, np.float32(-1e9), scores(q, k))) @ v


def added(q: Any, k: Any, v: Any) -> Any:
    later = (1 - np.tri(q.shape[-2], k.shape[-2], dtype=np.float32)) * np.float32(-1e10)
    return softmax(scores(q, k) / np.float32(3) + later) @ v


def window(q: Any, k: Any, v: Any) -> Any:
    away = np.arange(q.shape[-2])[:, None] - np.arange(k.shape[-2])
    return softmax(np.where((away >= 0) & (away < 20), scores(q, k), np.float32(-1e9))) @ v


def by_name(q: Any, k: Any, v: Any) -> Any:
    s = np.einsum("bhqd,bhkd->bhqk", q, k) * 0.25
    return np.einsum("bhqk,bhkd->bqhd", softmax(s), v)


def keys_first(q: Any, k: Any, v: Any) -> Any:
    s = np.einsum("bhkd,bhqd->bhkq", k, q)
    e = np.exp(s - s.max(-2, keepdims=True))
    return np.einsum("bhkd,bhkq->bhdq", v, e / e.sum(-2, keepdims=True))


def heads_last(q: Any, k: Any, v: Any) -> Any:
    q, k, v = (np.moveaxis(t, 1, 2) for t in (q, k, v))
    s = np.einsum("bqhd,bkhd->bhqk", q, k)
    return np.einsum("bhqk,bkhd->bqhd", softmax(s), v).reshape(*q.shape[:2], -1)


def shared_keys(q: Any, k: Any, v: Any) -> Any:
    k, v = (np.repeat(t[:, :1], q.shape[1], 1) for t in (k, v))
    return softmax(scores(q, k)) @ v


def grouped(q: Any, k: Any, v: Any) -> Any:
    b, h, n, d = q.shape
    s = np.einsum("bgrqd,bgkd->bgrqk", q.reshape(b, 2, h // 2, n, d), k[:, :2])
    return np.einsum("bgrqk,bgkd->bgrqd", softmax(s), v[:, :2]).reshape(b, h, n, -1)


def biased(q: Any, k: Any, v: Any, bias: Any, padding: Any) -> Any:
    s = scores(q, k) + bias + np.where(padding, 0, -INF)[:, None, None, :]
    return softmax(s) @ v


def masked(q: Any, k: Any, v: Any, mask: Any, slopes: Any) -> Any:
    s = scores(q, k) + slopes[:, None, None] * np.arange(k.shape[-2], dtype=np.float32)
    return softmax(np.where(mask, s, -INF)) @ v


def cached(q: Any, k: Any, v: Any, at: Any) -> Any:
    visible = np.arange(k.shape[-2]) <= at + np.arange(q.shape[-2])[:, None]
    return softmax(np.where(visible, scores(q, k), -INF)) @ v


def library(q: Any, k: Any, v: Any) -> Any:
    return gm.nn.attention(q, k, v, causal=True)


def appended(q: Any, k: Any, v: Any, new_k: Any, new_v: Any) -> Any:
    k, v = np.concatenate([k[0], new_k], 2), np.concatenate([v[1], new_v], 2)
    return softmax(scores(q, k) * 0.25) @ v


def projected(q: Any, k: Any, v: Any) -> Any:
    b, h, n, d = q.shape
    x = np.moveaxis(q, 1, 2).reshape(b, n, h * d) @ np.eye(h * d, 3 * h * d, dtype=np.float32)
    x = x + np.arange(3 * h * d, dtype=np.float32) / 100
    q, k, v = (t.reshape(b, n, h, d).transpose(0, 2, 1, 3) for t in np.split(x, 3, -1))
    return softmax(scores(q, k)) @ v


RNG = np.random.default_rng(3)


def operands(sizes: tuple[int, ...], dtype: Any = np.float32) -> list[Array]:
    """q, k and v of batch, heads, queries, keys, depth, width."""
    b, h, n, m, d, w = sizes
    rng = np.random.default_rng(sizes)
    return [np.asarray(rng.normal(size=s)).astype(dtype)
            for s in ((b, h, n, d), (b, h, m, d), (b, h, m, w))]  # fmt: skip


def compiled(function: Form, arrays: list[Array], target: str = "native", **how: Any) -> Array:
    """The result of the compiled function, which must hold one attention kernel."""
    threads = how.pop("threads", 2)
    traced = gm.jit(function, **how).trace(*arrays).function
    options = Options(target=target)
    planned = driver.optimise(traced, options)
    assert str(planned).count('kind="attention"') == 1
    return Executable(driver.emit(planned, options), threads=threads).run(*arrays)[0]


def check(function: Form, arrays: list[Array], **how: Any) -> None:
    wide = [a.astype(np.float64) if a.dtype.kind in "fV" else a for a in arrays]
    with np.errstate(all="ignore"):
        want = np.asarray((attended if function is library else function)(*wide), np.float64)
    got = compiled(function, arrays, **how)
    error = 3e-2 if got.dtype.itemsize == 2 else 1e-5
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=error, atol=error)


FORMS = [
    plain, divided_late, inverted, unshifted, causal, hidden, added, window, by_name, keys_first,
    heads_last, shared_keys, grouped, projected,
]  # fmt: skip
SIZES = [
    (1, 2, 70, 130, 16, 24),
    (2, 4, 5, 7, 3, 5),
    (1, 2, 130, 130, 8, 64),
    (2, 2, 33, 100, 20, 7),
]


@pytest.mark.parametrize("number", range(len(FORMS)), ids=lambda i: FORMS[i].__name__)
def test_forms(number: int) -> None:
    check(FORMS[number], operands(SIZES[number % len(SIZES)]))


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize("form", [causal, projected])
def test_targets(form: Form, target: str) -> None:
    check(form, operands((1, 3, 37, 37, 9, 9)), target=target, threads=1)


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v2"])
def test_targets_of_masks_and_few_queries(target: str) -> None:
    check(masked, [*operands((2, 2, 20, 40, 8, 8)), *extras(masked, 20, 40)], target=target)
    check(cached, [*operands((2, 2, 1, 600, 20, 9)), *extras(cached, 1, 600)], target=target)


def extras(function: Form, n: int, m: int) -> list[Array]:
    """What the function takes besides q, k and v of two batches and heads."""
    bias = np.asarray(RNG.normal(size=(2, n, m)), np.float32)
    padding = np.arange(m) < np.array([[m], [m // 2 + 1]])
    mask = (RNG.random((2, 1, n, m)) < 0.5) | (np.arange(m) == 0)
    slopes = np.float32([0.02, -0.01])
    return {"biased": [bias, padding], "masked": [mask, slopes], "cached": [np.array(m // 3)]}[
        function.__name__
    ]


@pytest.mark.parametrize(("n", "m"), [(3, 5), (70, 100), (20, 300), (1, 1030), (32, 90)])
@pytest.mark.parametrize("form", [biased, masked, cached])
def test_masks(form: Form, n: int, m: int) -> None:
    check(form, [*operands((2, 2, n, m, 8, 8)), *extras(form, n, m)])


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("rows", [11, 48])
def test_dtypes(rows: int, dtype: str) -> None:
    of = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    check(library, operands((1, 2, rows, 101, 24, 16), of))


def attended(q: Array, k: Array, v: Array) -> Array:
    """What `library` computes."""
    s = scores(q, k) / np.sqrt(q.shape[-1])
    visible = np.tri(*s.shape[-2:], s.shape[-1] - s.shape[-2], dtype=bool)
    s = np.where(visible, s, -np.inf)
    seen = visible.any(-1, keepdims=True)
    e = np.exp(s - np.where(seen, s.max(-1, keepdims=True, initial=-np.inf), 0))
    return e / np.where(seen, e.sum(-1, keepdims=True), 1) @ v


@pytest.mark.parametrize("rows", [1, 2, 3, 11])
@pytest.mark.parametrize("form", [plain, keys_first, grouped, window, shared_keys])
def test_few_queries(form: Form, rows: int) -> None:
    """Decoding: one chunk of keys, or several."""
    check(form, operands((1, 4, rows, 1100 if rows == 1 else 37, 20, 36)))


WIDTHS = [(1, 2, 5, 700, 64, 64), (1, 1, 7, 64, 16, 80), (1, 2, 9, 577, 33, 128),
          (2, 1, 17, 513, 48, 17), (1, 1, 25, 130, 64, 144), (1, 1, 60, 600, 8, 96)]  # fmt: skip


@pytest.mark.parametrize(("number", "sizes"), list(enumerate(WIDTHS)))
def test_several_queries(number: int, sizes: tuple[int, ...]) -> None:
    """Queries that would leave lanes empty: keys and the elements of values are in the lanes."""
    form = (causal, plain, keys_first)[number % 3]
    check(form, operands(sizes), target=("native", "x86-64-v3", "x86-64-v2")[number // 2])


@pytest.mark.parametrize("rows", [1, 40])
def test_strided_arrays(rows: int) -> None:
    q, k, v = (t[:, :, ::2, ::3].swapaxes(0, 1) for t in operands((2, 3, 2 * rows, 100, 30, 30)))
    want = plain(*(t.astype(np.float64) for t in (q, k, v)))
    np.testing.assert_allclose(gm.jit(plain)(q, k, v), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "past"), [(1, 20), (2, 600), (9, 40), (16, 40), (30, 1000)])
def test_cache_and_new_keys(rows: int, past: int) -> None:
    """A few queries read both where they are; for more the keys are put together first."""
    q, new_k, new_v = operands((1, 3, rows, rows, 24, 24))
    old = np.asarray(RNG.normal(size=(2, 1, 3, past, 24)), np.float32)
    arrays = [q, old, old[::-1].copy(), new_k, new_v]
    check(appended, arrays)
    planned = driver.optimise(gm.jit(appended).trace(*arrays).function, Options())
    kernels = [op for op in planned.ops if op.name in ("concat", "fusion")]
    assert (len(kernels) == 1) == (rows != 16)


@functools.cache
def made_for_any_size(few: bool) -> Any:
    """`library` compiled once: for any batch and keys, and any (or two) queries."""
    names = {"q": ("b", None, None if few else "n", None), "k": ("b", None, "m", None),
             "v": ("b", None, "m", None)}  # fmt: skip
    return gm.jit(library, dynamic=names).compile(*operands((1, 2, 2, 8, 4, 4)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.booleans(), st.integers(0, 3), st.integers(0, 200), st.integers(0, 300))
@example(few=False, b=2, n=65, m=4)
@example(few=False, b=3, n=1, m=700)
@example(few=False, b=0, n=5, m=5)
@example(few=False, b=2, n=0, m=3)
@example(few=False, b=1, n=4, m=0)
@example(few=True, b=1, n=2, m=1100)
def test_symbolic_sizes(few: bool, b: int, n: int, m: int) -> None:
    arrays = operands((b, 2, 2 if few else n, m, 4, 4))
    want = attended(*(a.astype(np.float64) for a in arrays))
    got = made_for_any_size(few).run(*arrays)[0]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", [plain, causal, library, unshifted])
def test_special_values(form: Form) -> None:
    """NaN and infinities appear for the queries where they do in NumPy."""
    q, k, v = operands((1, 1, 70, 130, 8, 8))
    q[0, 0, 3], q[0, 0, 5, 1], q[0, 0, 64] = np.nan, np.inf, 1e30
    v[0, 0, 0, 2] = np.inf
    with np.errstate(all="ignore"):
        want = (attended if form is library else form)(q, k, v)
    got = compiled(form, [q, k, v])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_rows_without_keys() -> None:
    """NumPy gives NaN where all scores are -inf; the uniform mean where all are -1e9."""
    q, k, v = operands((1, 1, 20, 150, 8, 8))
    mask = np.ones((20, 150), bool)
    mask[4] = False
    mask[7, 100:] = False

    def blind(q: Any, k: Any, v: Any, mask: Any, fill: Any) -> Any:
        early = np.arange(150) >= np.arange(20)[:, None] + 140
        return softmax(np.where(early & mask, scores(q, k), fill)) @ v

    def blind_causal(q: Any, k: Any, v: Any) -> Any:
        early = np.arange(150) >= np.arange(20)[:, None] + 140
        return softmax(np.where(early, scores(q, k), np.float32(-1e9))) @ v

    with np.errstate(all="ignore"):
        want = blind(q, k, v, mask, np.float32(-np.inf))
        np.testing.assert_allclose(
            compiled(blind, [q, k, v, mask, np.float32(-np.inf)]), want, rtol=1e-5, atol=1e-5
        )
    check(blind_causal, [q, k, v])
