"""Products of a matrix by its transpose: right, the same bits on both sides, for any threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu.contract.gemm import GemmSpec
from graphmill.codegen.cpu.target import target
from graphmill.ir import dtypes
from graphmill.ir.dtypes import dtype

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("name", ["native", "x86-64-v3"])
@pytest.mark.parametrize("of", ["f32", "f64", "i32"])
@pytest.mark.parametrize(("size", "depth"), [(256, 128), (301, 140), (515, 700), (260, 2600)])
def test_both_triangles(
    gemm: Callable[..., Array], name: str, of: str, size: int, depth: int
) -> None:
    kind = dtype(of)
    values = np.random.default_rng(0).integers(-9, 9, (size, depth)).astype(kind.numpy)
    spec = GemmSpec(kind, kind, kind, kind, size, size, depth, "row", "col", symmetric=True)
    want = values.astype(np.float64) @ values.T.astype(np.float64)
    for workers in (1, 2, 5):
        got = gemm(spec, values, values.T, workers=workers, target=target(name))
        np.testing.assert_array_equal(got, want)


def test_not_a_number_on_both_sides(gemm: Callable[..., Array]) -> None:
    values = np.random.default_rng(1).standard_normal((150, 290)).astype(np.float32)
    values[7, 3], values[80, 280] = np.nan, np.inf
    f32 = dtypes.f32
    spec = GemmSpec(f32, f32, f32, f32, 290, 290, 150, "col", "row", symmetric=True)
    whole = gemm(GemmSpec(f32, f32, f32, f32, 290, 290, 150, "col", "row"), values.T, values)
    got = gemm(spec, values.T, values, workers=3)
    np.testing.assert_allclose(got, whole, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(got, got.T)


def products() -> list[tuple[bool, Callable[[Any], Any]]]:
    """Functions of a square matrix, and whether their product is symmetric with what follows."""
    return [
        (True, lambda x: x.T @ x),
        (True, lambda x: x @ x.T),
        (True, lambda x: np.exp((x.T @ x) / 300.0 - 1.0)),
        (True, lambda x: (x - np.mean(x, 0)).T @ (x - np.mean(x, 0)) / 299.0),
        (False, lambda x: x @ x),
        (False, lambda x: x.T @ x + x),
        (False, lambda x: (x.T @ x) * x[0]),
        (False, lambda x: x.T @ (x + 1.0)),
    ]


@pytest.mark.parametrize("number", range(len(products())))
def test_which_products_are_mirrored(number: int) -> None:
    mirrored, function = products()[number]
    x = np.random.default_rng(2).standard_normal((300, 300))
    compiled = gm.jit(function)
    text = compiled.lower(x).llvm()
    assert ("_mirror" in text) is mirrored
    got, want = np.asarray(compiled(x)), function(x)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * np.abs(want).max())
    if mirrored:
        np.testing.assert_array_equal(got, got.T)
