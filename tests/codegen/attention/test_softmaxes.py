"""Spellings of softmax and of masks: each one kernel, its values and NaNs those of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime.executable import Executable

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
Form = Callable[..., Any]
B, H, M, D = 2, 2, 150, 8
RNG = np.random.default_rng(8)
KEYS = RNG.random(M) < 0.6
SINK = np.float32([0.5, -1.0])[:, None, None]
SMALL, CAP = np.float32(1e-3), np.float32(5)


def scores(q: Any, k: Any) -> Any:
    return q @ np.swapaxes(k, -1, -2) * 0.3


def softmax(x: Any) -> Any:
    e = np.exp(x - np.amax(x, -1, keepdims=True))
    return e / np.sum(e, -1, keepdims=True)


def log_sum(x: Any) -> Any:
    top = x.max(-1, keepdims=True)
    return top + np.log(np.exp(x - top).sum(-1, keepdims=True))


def of_log_sum(x: Any) -> Any:
    return np.exp(x - log_sum(x))


def of_log_softmax(x: Any) -> Any:
    shifted = x - x.max(-1, keepdims=True)
    return np.exp(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def unshifted_log_sum(x: Any) -> Any:
    return np.exp(x - np.log(np.sum(np.exp(x), -1, keepdims=True)))


def guarded_log_sum(x: Any) -> Any:
    """As scipy.special.logsumexp has it."""
    top = x.max(-1, keepdims=True)
    top = np.where(np.isfinite(top), top, np.float32(0))
    return np.exp(x - (np.log(np.sum(np.exp(x - top), -1, keepdims=True)) + top))


def logaddexp(x: Any) -> Any:
    return np.exp(x - np.logaddexp.reduce(x, -1, keepdims=True))


def epsilon(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / (e.sum(-1, keepdims=True) + SMALL)


def clipped_sum(x: Any) -> Any:
    e = np.exp(x - np.maximum(x.max(-1, keepdims=True), np.float32(-50)))
    return e / np.maximum(e.sum(-1, keepdims=True), SMALL)


def joined_sink(x: Any) -> Any:
    sink = np.broadcast_to(SINK, (*x.shape[:-1], 1)).astype(x.dtype)
    return softmax(np.concatenate([x, sink], -1))[..., :-1]


def added_sink(x: Any) -> Any:
    top = np.maximum(x.max(-1, keepdims=True), SINK)
    e = np.exp(x - top)
    return e / (e.sum(-1, keepdims=True) + np.exp(SINK - top))


def off_by_one(x: Any) -> Any:
    top = x.max(-1, keepdims=True)
    e = np.exp(x - top)
    return e / (np.exp(-top) + e.sum(-1, keepdims=True))


def capped(x: Any) -> Any:
    return softmax(CAP * np.tanh(x / CAP))


def in_place(x: Any) -> Any:
    x = x - x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


def fixed_shift(x: Any) -> Any:
    e = np.exp(x - CAP)
    return e * (1 / e.sum(-1, keepdims=True))


SPELLINGS = [
    softmax, of_log_sum, of_log_softmax, unshifted_log_sum, guarded_log_sum, logaddexp, epsilon,
    clipped_sum, joined_sink, added_sink, off_by_one, capped, in_place, fixed_shift,
]  # fmt: skip


def stored_keys(x: Any) -> Any:
    x[..., ~KEYS] = -np.inf
    return x


def stored_triangle(x: Any) -> Any:
    x[..., ~np.tri(*x.shape[-2:], 5, dtype=bool)] = -np.inf
    return x


def stored_indices(x: Any) -> Any:
    x[..., *np.triu_indices(x.shape[-2], 9, x.shape[-1])] = -np.inf
    return x


def copied(x: Any) -> Any:
    np.copyto(x, np.float32(-1e9), where=~KEYS)
    return x


def multiplied(x: Any) -> Any:
    seen = KEYS.astype(x.dtype)
    return x * seen - np.float32(1e9) * (1 - seen)


def windowed(x: Any) -> Any:
    i, j = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    return np.where(np.abs(i - j) <= 3, x, -np.inf)


def alibi(x: Any) -> Any:
    away = np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None]
    return np.where(away <= 9, x + SINK * away.astype(x.dtype), -np.inf)


def table(x: Any) -> Any:
    away = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])
    bias = np.float32(np.arange(16) % 5 - 2).reshape(8, 2)
    return x + np.moveaxis(bias[np.clip(away, -4, 3) + 4], -1, 0)


MASKS = [stored_keys, stored_triangle, stored_indices, copied, multiplied, windowed, alibi, table]


def attention(spelling: Form, mask: Form | None = None) -> Form:
    def run(q: Any, k: Any, v: Any) -> Any:
        x = scores(q, k)
        return spelling(mask(x) if mask is not None else x) @ v

    return run


def operands(rows: int) -> list[Array]:
    shapes = ((B, H, rows, D), (B, H, M, D), (B, H, M, 12))
    return [np.asarray(RNG.normal(size=s), np.float32) for s in shapes]


def compiled(run: Form, arrays: list[Array], threads: int = 2, target: str = "native") -> Array:
    planned = driver.optimise(gm.jit(run).trace(*arrays).function, Options(target=target))
    assert str(planned).count('kind="attention"') == 1
    return Executable(driver.emit(planned, Options(target=target)), threads=threads).run(*arrays)[0]


def check(run: Form, arrays: list[Array], **how: Any) -> None:
    with np.errstate(all="ignore"):
        want = run(*(a.astype(np.float64) for a in arrays))
    got = compiled(run, arrays, **how)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(spelling: Form) -> None:
    number = SPELLINGS.index(spelling)
    check(attention(spelling), operands((1, 20, 70)[number % 3]), threads=1 + number % 2)


@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask: Form) -> None:
    rows = 70 if MASKS.index(mask) % 2 else 9
    spelling = SPELLINGS[(3 * MASKS.index(mask)) % len(SPELLINGS)]
    check(attention(spelling, mask), operands(rows))


HIDDEN = [softmax, of_log_sum, of_log_softmax, guarded_log_sum, epsilon, clipped_sum, joined_sink,
          added_sink]  # fmt: skip


@pytest.mark.parametrize("spelling", HIDDEN)
def test_hidden_rows_and_special_values(spelling: Form) -> None:
    """Rows of -inf, NaN, inf and large scores, as NumPy has them in the same precision."""
    rows = (7, 33, 80)[HIDDEN.index(spelling) % 3]
    q, k, v = operands(rows)
    q[0, 0, 1], q[0, 1, 2, 3], q[1, 0, 3] = np.nan, np.inf, 1e19
    v[1, 1, 0, 0] = np.inf

    def run(q: Any, k: Any, v: Any, seen: Any) -> Any:
        return spelling(np.where(seen, scores(q, k), np.float32(-np.inf))) @ v

    seen = (np.arange(M) < 100) & (np.arange(rows) % 5 != 0)[:, None]
    with np.errstate(all="ignore"):
        want = run(q, k, v, seen)
    planned = gm.jit(run).compile(q, k, v, seen)
    got = planned.run(q, k, v, seen)[0]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 9, 40, 64, 100])
def test_results_do_not_depend_on_threads(rows: int) -> None:
    """Bit by bit, hidden rows and a window included; 1200 keys are several chunks."""
    rng = np.random.default_rng(rows)
    q, k, v = (rng.normal(size=(1, 3, n, 16)).astype(np.float32) for n in (rows, 1200, 1200))

    def run(q: Any, k: Any, v: Any, at: Any) -> Any:
        away = at + np.arange(rows)[:, None] - np.arange(1200)
        return softmax(np.where((away >= 0) & (away < 900), scores(q, k), -np.inf)) @ v

    at = np.int64(1100)
    one, *others = (gm.jit(run, threads=n)(q, k, v, at) for n in (1, 2, 3))
    for other in others:
        np.testing.assert_array_equal(one, other)
