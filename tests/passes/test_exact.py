# ruff: noqa: E501
"""Exact: text before and after, and what stays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from tests.passes.pairs import check_pair

F32 = np.float32

SCALED = """
        func @f(%q: u8[16, 64], %p: i8[64, 32]) -> (f32[16, 32]) {
          %0: f32[16, 64] = cast %q {dtype=f32}
          %1: f32[] = constant {value=3.0}
          %2: f32[16, 64] = broadcast %1 {axes=[], shape=[16, 64]}
          %3: f32[16, 64] = sub %0, %2
          %4: f32[] = constant {value=0.5}
          %5: f32[16, 64] = broadcast %4 {axes=[], shape=[16, 64]}
          %6: f32[16, 64] = mul %3, %5
          %7: f32[64, 32] = cast %p {dtype=f32}
          %8: f32[16, 32] = dot_general %6, %7 {dtype=f32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          return %8
        }
        """
AFTER = """
        func @f(%q: u8[16, 64], %p: i8[64, 32]) -> (f32[16, 32]) {
          %0: i32[16, 64] = cast %q {dtype=i32}
          %1: i32[64, 32] = cast %p {dtype=i32}
          %2: i32[16, 32] = dot_general %0, %1 {dtype=i32, x_batch=[], x_contract=[1], y_batch=[], y_contract=[0]}
          %3: i32[64, 32] = cast %p {dtype=i32}
          %4: i32[32] = reduce %3 {axes=[0], monoid="sum"}
          %5: i32[16, 32] = broadcast %4 {axes=[1], shape=[16, 32]}
          %6: i32[] = constant {value=3}
          %7: i32[16, 32] = broadcast %6 {axes=[], shape=[16, 32]}
          %8: i32[16, 32] = mul %5, %7
          %9: i32[16, 32] = sub %2, %8
          %10: f32[16, 32] = cast %9 {dtype=f32}
          %11: f32[] = constant {value=0.5}
          %12: f32[16, 32] = broadcast %11 {axes=[], shape=[16, 32]}
          %13: f32[16, 32] = mul %10, %12
          return %13
        }
        """


def test_pair() -> None:
    check_pair("exact", SCALED, AFTER)


KEPT = {
    "few rows": SCALED.replace("16, 64]", "4, 64]").replace("16, 32]", "4, 32]"),
    "a part of an integer": SCALED.replace("value=3.0", "value=3.5"),
    "a scale that overflows": SCALED.replace("value=0.5", "value=1e+36"),
    "a negative scale": SCALED.replace("value=0.5", "value=-0.5"),
    "one of floats": SCALED.replace("i8[64, 32]", "bf16[64, 32]"),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    check_pair("exact", KEPT[name], KEPT[name])


T = (np.arange(70) / 64 + 0.25).astype(F32)
Z = (np.arange(24) % 7 - 3).astype(F32)
PRODUCTS: dict[str, Callable[..., Any]] = {
    "casts": lambda q, p, of: q.astype(of) @ p.astype(of),
    "by columns": lambda q, p, of: (p.T.astype(of) @ q.T.astype(of)).T,
    "zero points": lambda q, p, of: np.maximum(
        ((q.astype(of) - Z[:, None]) * F32(0.02)) @ ((p.astype(of) + F32(7)) * T), F32(0)
    ),
    "weights by rows": lambda q, p, of: (
        (q.astype(of) - F32(3)) @ (p.reshape(70, -1).T.astype(of) * T)
    ),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", PRODUCTS)
def test_sums_are_exact(name: str, dtype: Any) -> None:
    """The integers' product, from where they lie: within roundings of the scales of f64's."""
    rng = np.random.default_rng(0)
    q = rng.integers(0, 256, (24, 333)).astype(np.uint8).view(dtype)
    p = rng.integers(0, 256, (333, 70)).astype(np.uint8).view(np.int8)
    compiled = gm.jit(lambda q, p: PRODUCTS[name](q, p, F32))
    text = compiled.lower(q, p).ir("memory")
    assert "dtype=i32, x_batch" in text
    assert int(text.partition("arena_bytes=")[2].partition("}")[0]) < q.size, "bytes are stored"
    np.testing.assert_allclose(compiled(q, p), PRODUCTS[name](q, p, np.float64), rtol=3e-7)
