"""Slices move above cheap elementwise ops; what would cost more than it saves stays stored."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphmill as gm
from tests.passes.pairs import check_pair

PAIRS = [
    (
        "a difference of differences is one chain",
        """
        func @f(%x: f32[9]) -> (f32[7]) {
          %a: f32[8] = slice %x {start=[1], step=[1], stop=[9]}
          %b: f32[8] = slice %x {start=[0], step=[1], stop=[8]}
          %d: f32[8] = sub %a, %b
          %c: f32[7] = slice %d {start=[1], step=[1], stop=[8]}
          %e: f32[7] = slice %d {start=[0], step=[1], stop=[7]}
          %r: f32[7] = sub %c, %e
          return %r
        }
        """,
        """
        func @f(%x: f32[9]) -> (f32[7]) {
          %0: f32[7] = slice %x {start=[2], step=[1], stop=[9]}
          %1: f32[7] = slice %x {start=[1], step=[1], stop=[8]}
          %d: f32[7] = sub %0, %1
          %2: f32[7] = slice %x {start=[0], step=[1], stop=[7]}
          %d1: f32[7] = sub %1, %2
          %r: f32[7] = sub %d, %d1
          return %r
        }
        """,
    ),
    (
        "symbolic sizes, repeated operands",
        """
        func @f(%x: f32[n, m], %y: f32[m]) -> (f32[n, m - 1]) dims={n: 0.., m: 1..} {
          %b: f32[n, m] = broadcast %y {axes=[1], shape=[n, m]}
          %d: f32[n, m] = mul %x, %b
          %s: f32[n, m - 1] = slice %d {start=[0, 1], step=[1, 1], stop=[n, m]}
          %r: f32[n, m - 1] = neg %s
          return %r
        }
        """,
        """
        func @f(%x: f32[n, m], %y: f32[m]) -> (f32[n, m - 1]) dims={n: 0.., m: 1..} {
          %0: f32[n, m - 1] = slice %x {start=[0, 1], step=[1, 1], stop=[n, m]}
          %1: f32[m - 1] = slice %y {start=[1], step=[1], stop=[m]}
          %2: f32[n, m - 1] = broadcast %1 {axes=[1], shape=[n, m - 1]}
          %d: f32[n, m - 1] = mul %0, %2
          %r: f32[n, m - 1] = neg %d
          return %r
        }
        """,
    ),
]
KEPT = {
    "a result": lambda x: (d := x[1:] - x[:-1], d[1:] + d[:-1]),
    "costly": lambda x: (e := np.exp(np.sin(x)))[2:] + e[1:-1] + e[:-2],
    "every other": lambda x: (d := x * 2 + 1)[::2] + d[1::2],
    "read whole": lambda x: np.cumsum(d := x * 2 + 1)[1:] + d[1:] * d[:-1],
}


@pytest.mark.parametrize("before, after", [p[1:] for p in PAIRS], ids=[p[0] for p in PAIRS])
def test_pair(before: str, after: str) -> None:
    check_pair("recompute,dce", before, after)


@pytest.mark.parametrize("function", KEPT.values(), ids=list(KEPT))
def test_kept(function: Callable[[np.ndarray], object]) -> None:
    x = np.linspace(0, 1, 64, dtype=np.float32)
    lowered = gm.jit(function).lower(x)
    assert lowered.ir("recompute") == lowered.ir("attention")


def chain(x: np.ndarray, levels: list[list[tuple[int, int, float]]]) -> np.ndarray:
    """Each level is a weighted sum of windows of the one before."""
    for level in levels:
        n, m = x.shape[0] - 2, x.shape[1] - 2
        x = sum((x[i : i + n, j : j + m] * np.float32(w) for i, j, w in level), np.float32(0)) + 1
    return x


tap = st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([0.5, -0.25, 1.0]))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(tap, min_size=1, max_size=4), min_size=1, max_size=3))
def test_chains_of_stencils(levels: list[list[tuple[int, int, float]]]) -> None:
    x = np.random.default_rng(0).standard_normal((11, 23)).astype(np.float32)
    result = gm.jit(lambda x: chain(x, levels))(x)
    np.testing.assert_allclose(result, chain(x.astype(np.float64), levels), rtol=1e-5, atol=1e-5)
