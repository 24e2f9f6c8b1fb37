# ruff: noqa: E501
"""The attention pass: text before and after, and what keeps it from firing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.driver import Options, optimise
from graphmill.ir.builder import function
from graphmill.ir.reference import interpret
from graphmill.passes.attention import attention
from graphmill.passes.bands import position_form
from graphmill.passes.manager import DEFAULT_PIPELINE, run_pipeline
from graphmill.passes.statistics import recording
from tests.passes.pairs import check_pair

Q, K, V = (np.ones((2, n, 8), np.float32) for n in (5, 7, 7))


def test_pair() -> None:
    """Views of operands and a transpose of the result go inside."""
    check_pair(
        "attention",
        """
        func @f(%q: f32[5, 4], %kv: f32[2, 7, 4]) -> (f32[4, 5]) {
          %a: f32[1, 7, 4] = slice %kv {start=[0, 0, 0], step=[1, 1, 1], stop=[1, 7, 4]}
          %k: f32[7, 4] = reshape %a {shape=[7, 4]}
          %s: f32[5, 7] = dot_general %q, %k {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[1]}
          %e: f32[5, 7] = exp %s
          %t: f32[5] = reduce %e {axes=[1], monoid="sum"}
          %d: f32[5, 7] = broadcast %t {axes=[0], shape=[5, 7]}
          %p: f32[5, 7] = div %e, %d
          %o: f32[5, 4] = dot_general %p, %k {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %x: f32[4, 5] = transpose %o {perm=[1, 0]}
          return %x
        }
        """,
        """
        func @f(%q: f32[5, 4], %kv: f32[2, 7, 4]) -> (f32[4, 5]) {
          %x: f32[4, 5] = fusion %kv, %q {kind="attention", reason="softmax without shift over blocks of keys, saves 560 B of scores and weights"} {
            (%kv1: f32[2, 7, 4], %q1: f32[5, 4]):
            %a: f32[1, 7, 4] = slice %kv1 {start=[0, 0, 0], step=[1, 1, 1], stop=[1, 7, 4]}
            %k: f32[7, 4] = reshape %a {shape=[7, 4]}
            %s: f32[5, 7] = dot_general %q1, %k {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[1]}
            %e: f32[5, 7] = exp %s
            %t: f32[5] = reduce %e {axes=[1], monoid="sum"}
            %d: f32[5, 7] = broadcast %t {axes=[0], shape=[5, 7]}
            %p: f32[5, 7] = div %e, %d
            %o: f32[5, 4] = dot_general %p, %k {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
            %x1: f32[4, 5] = transpose %o {perm=[1, 0]}
            yield %x1
          }
          return %x
        }
        """,
    )


def softmax(s: Any) -> Any:
    e = np.exp(s - np.max(s, -1, keepdims=True))
    return e / np.sum(e, -1, keepdims=True)


def plain(q: Any, k: Any, v: Any) -> Any:
    return softmax(q @ np.swapaxes(k, -1, -2)) @ v


def gives_weights(q: Any, k: Any, v: Any) -> Any:
    p = softmax(q @ np.swapaxes(k, -1, -2))
    return p @ v, p


def gives_scores(q: Any, k: Any, v: Any) -> Any:
    s = q @ np.swapaxes(k, -1, -2)
    return softmax(s) @ v, s.sum()


def along_queries(q: Any, k: Any, v: Any) -> Any:
    s = q @ np.swapaxes(k, -1, -2)
    e = np.exp(s - np.max(s, -2, keepdims=True))
    return (e / np.sum(e, -2, keepdims=True)) @ v


def unnormalised(q: Any, k: Any, v: Any) -> Any:
    return np.exp(q @ np.swapaxes(k, -1, -2)) @ v


def sorted_weights(q: Any, k: Any, v: Any) -> Any:
    return np.flip(softmax(q @ np.swapaxes(k, -1, -2)), -1) @ v


def turned(q: Any, k: Any, v: Any) -> Any:
    s = np.einsum("hqd,hkd->hkq", q, k)
    e = np.exp(s - np.max(s, -2, keepdims=True))
    return np.einsum("hkq,hkd->hqd", e / np.sum(e, -2, keepdims=True), v)


def stored(q: Any, k: Any, v: Any) -> Any:
    s = q @ np.swapaxes(k, -1, -2)
    s[..., 4:] = -np.inf
    return softmax(s) @ v


def dropped(q: Any, k: Any, v: Any) -> Any:
    return (softmax(q @ np.swapaxes(k, -1, -2)) * k[:, :5, 0, None]) @ v


def centred(q: Any, k: Any, v: Any) -> Any:
    s = q @ np.swapaxes(k, -1, -2)
    return softmax(s - np.tanh(s - s.mean(-1, keepdims=True))) @ v


def double(q: Any, k: Any, v: Any) -> Any:
    return softmax(q @ np.swapaxes(k, -1, -2) / np.sqrt(8)) @ v


REASONS: dict[Callable[..., Any], str] = {
    gives_weights: "the weights are returned, too",
    gives_scores: "the scores are read by another reduce, too",
    sorted_weights: "a reverse stands between the products",
    turned: "the scores are transposed between the products",
    stored: "a part of the scores is overwritten",
    dropped: "the weights are not exp(scores - shift) / divisor",
    centred: "a reduce stands between the products",
    double: "a part is float64 and others are not",
    along_queries: "",
    unnormalised: "",
}


def statistics(fn: Callable[..., Any], *arrays: Any) -> dict[str, int]:
    """What the attention pass counts for a function, having checked what it means."""
    traced = gm.jit(fn).trace(*arrays).function
    before = run_pipeline(traced, DEFAULT_PIPELINE.partition(",attention")[0])
    with recording() as counted:
        fused = attention(before)
    for got, want in zip(interpret(fused, *arrays), interpret(traced, *arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    kinds = [op for op in fused.walk() if op.name == "fusion"]
    assert len(kinds) == counted.get("attention kernels", 0)
    return counted


@pytest.mark.parametrize("fn", REASONS)
def test_stays_apart(fn: Callable[..., Any]) -> None:
    counted = statistics(fn, Q, K, V)
    assert "attention kernels" not in counted
    assert any(REASONS[fn] in key for key in counted if REASONS[fn]) == bool(REASONS[fn])


def test_says_why_and_where() -> None:
    """In the function's attributes, which the text of every later stage shows."""
    lines = gives_weights.__code__.co_firstlineno
    text = gm.jit(gives_weights).lower(Q, K, V).ir()
    reason = "kept apart: the weights are returned, too (test_attention.py"
    assert f"attention at test_attention.py:{lines + 2} {reason}" in text


def test_fires() -> None:
    assert statistics(plain, Q, K, V)["attention kernels"] == 1


def test_small_scores_stay_apart() -> None:
    assert "attention kernels" not in statistics(plain, Q[:1, :1], K[:1, :3], V[:1, :3])


def test_checks_for_nan_keep_the_scores() -> None:
    traced = gm.jit(plain).trace(Q, K, V).function
    assert 'kind="attention"' in str(optimise(traced, Options()))
    assert 'kind="attention"' not in str(optimise(traced, Options(check=("nan",))))


BANDS = [
    np.tri(4, 6, dtype=bool), ~np.tri(5, 5, dtype=bool), np.tri(5, 7, 2, dtype=bool)[None],
    np.tri(6, 6, 1, dtype=bool) & ~np.tri(6, 6, -3, dtype=bool), np.arange(3, 9),
    (1 - np.tri(4, dtype=np.float32)) * np.float32(-1e9), np.broadcast_to(np.tri(3, 4), (2, 3, 4)),
    ~(np.tri(6, 6, 1, dtype=bool) & ~np.tri(6, 6, -3, dtype=bool)),
    np.arange(5)[:, None] - np.arange(7), np.arange(7) - np.arange(5)[:, None] + 3,
]  # fmt: skip


@pytest.mark.parametrize("array", BANDS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_position_forms(array: np.ndarray[Any, Any]) -> None:
    form = position_form(array)
    assert form is not None
    made = function("f", {}, lambda builder: form(builder))
    (got,) = interpret(made)
    np.testing.assert_array_equal(got, array)
    assert not any(op.name == "constant" and op.result.shape for op in made.ops)


@pytest.mark.parametrize("array", [np.eye(4, dtype=bool) ^ np.eye(4, k=2, dtype=bool), np.ones((3, 3), bool),
                                   np.arange(0, 9, 3), np.float32([[1, 2], [3, 4]])])  # fmt: skip
def test_other_constants_have_no_form(array: np.ndarray[Any, Any]) -> None:
    assert position_form(array) is None
