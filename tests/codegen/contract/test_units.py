"""Products of bytes, 16-bit integers and bf16 in groups of k: exact on every target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.constants import apply
from graphmill.codegen.cpu.contract.dots import choose_dot
from graphmill.codegen.cpu.contract.gemm import GemmSpec, packed_size, packing_of_b
from graphmill.codegen.cpu.target import native, target
from graphmill.ir import dtypes

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
Gemm = Callable[..., Array]

PAIRS = [("i8", "i8"), ("u8", "i8"), ("i8", "u8"), ("u8", "u8"), ("i16", "i16"), ("u8", "i16")]
SHAPES = [(7, 17, 9), (40, 70, 300), (20, 40, 0), (13, 137, 64), (5, 5, 2), (9, 70, 1100)]
TARGETS = ["native", "x86-64-v3", "x86-64-v2"]


def runs_here(name: str) -> bool:
    bits = target(name).vector_bits
    return native().triple.startswith("x86_64") and bits <= native().vector_bits


def filled(rng: np.random.Generator, shape: tuple[int, int], dtype: dtypes.DType) -> Array:
    """Random values, most of them the smallest and the largest there are."""
    whole = np.iinfo(dtype.numpy)
    values = rng.integers(whole.min, whole.max, shape, endpoint=True)
    values[rng.random(shape) < 0.4] = whole.min
    values[rng.random(shape) < 0.3] = whole.max
    return values.astype(dtype.numpy)


def laid_out(values: Array, order: str) -> Array:
    if order == "col":
        return np.ascontiguousarray(values.T).T
    wide = np.zeros((values.shape[0] * 2, values.shape[1] * 3), values.dtype)
    wide[::2, ::3] = values
    return values if order == "row" else wide[::2, ::3]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("types", PAIRS, ids="-".join)
def test_integers_are_exact(gemm: Gemm, types: tuple[str, str], name: str) -> None:
    if not runs_here(name):
        pytest.skip(f"this machine does not run {name}")
    rng = np.random.default_rng(0)
    a_type, b_type = map(dtypes.dtype, types)
    at = PAIRS.index(types)
    orders = [("row", "row"), ("col", "col"), ("strided", "strided")][at % 3]
    spec = GemmSpec(a_type, b_type, dtypes.i32, dtypes.i32, a_order=orders[0], b_order=orders[1])
    for m, n, k in SHAPES:
        a, b = filled(rng, (m, k), a_type), filled(rng, (k, n), b_type)
        want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
        given = laid_out(a, orders[0]), laid_out(b, orders[1])
        for workers in (1, 2):
            got = gemm(spec, *given, workers=workers, target=target(name))
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("m, n", [(16, 16), (5, 40), (33, 70)])
def test_products_of_bytes_without_values_of_k_are_zero(m: int, n: int) -> None:
    """What the packing writes ahead of B's panels is not that of the product before."""
    for k in (9, 0):
        a, b = np.full((m, k), -3, np.int8), np.full((k, n), 7, np.int8)
        with gm.knobs.scope(cache=False):
            np.testing.assert_array_equal(gm.jit(np.matmul)(a, b), np.matmul(a, b))


@pytest.mark.parametrize("types", PAIRS, ids="-".join)
def test_constants_are_packed_alike(gemm: Gemm, types: tuple[str, str]) -> None:
    rng = np.random.default_rng(1)
    a_type, b_type = map(dtypes.dtype, types)
    for m, n, k in [(7, 80, 37), (1, 33, 130)]:
        spec = GemmSpec(a_type, b_type, dtypes.i32, dtypes.i32, None, n, k, b_packed=True)
        a, b = filled(rng, (m, k), a_type), filled(rng, (k, n), b_type)
        steps, shape, dtype = packing_of_b(spec, native())
        panels = np.ascontiguousarray(apply(b, steps), dtype)
        assert panels.shape == shape and panels.nbytes == packed_size(spec, native())
        want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
        np.testing.assert_array_equal(gemm(spec, a, b, packed=panels, workers=2), want)


@pytest.mark.parametrize("types", [("bf16", "bf16"), ("f16", "f16"), ("bf16", "f32")], ids="-".join)
@pytest.mark.parametrize("exact", [False, True])
def test_short_floats(gemm: Gemm, types: tuple[str, str], exact: bool) -> None:
    """f32 sums; special values as IEEE has them, subnormals where `exact` asks for them."""
    rng = np.random.default_rng(2)
    a_type, b_type = map(dtypes.dtype, types)
    spec = GemmSpec(a_type, b_type, dtypes.f32, dtypes.f32, exact=exact)
    for m, n, k in SHAPES:
        a = rng.standard_normal((m, k)).astype(a_type.numpy)
        b = rng.standard_normal((k, n)).astype(b_type.numpy)
        wide = a.astype(np.float64), b.astype(np.float64)
        error = np.abs(gemm(spec, a, b, workers=2) - wide[0] @ wide[1])
        assert (error <= 2e-6 * (np.abs(wide[0]) @ np.abs(wide[1]))).all()
    a, b = np.ones((7, 20), a_type.numpy), np.ones((20, 70), b_type.numpy)
    a[0, 3], a[1, 3], a[2, 3] = np.inf, np.nan, 1e-39
    b[3] = 2.0
    got = gemm(spec, a, b)
    assert np.isposinf(got[0]).all() and np.isnan(got[1]).all()
    np.testing.assert_array_equal(got[3:], 21)
    if exact and a_type is dtypes.bf16:
        a[:], b[:] = 1e-39, 2.0**100
        np.testing.assert_allclose(gemm(spec, a, b), float(a[0, 0]) * 2.0**100 * 20, rtol=1e-6)


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_choice_follows_the_target(name: str) -> None:
    i8, bf16 = dtypes.i8, dtypes.bf16
    dot = choose_dot(target(name), i8, i8, "i32")
    assert dot.group == (1 if name == "aarch64" else 2)
    assert choose_dot(target(name), bf16, bf16, "f32").group == 1
    assert choose_dot(target(name), i8, i8, "i64").group == 1


def test_products_whose_tiles_differ_in_width_stand_side_by_side() -> None:
    rng = np.random.default_rng(0)
    sizes = [(40, 8, 5), (40, 8, 17), (40, 8, 100), (7, 300, 33)]
    pairs = [(rng.normal(size=(m, k)), rng.normal(size=(k, n))) for m, k, n in sizes]
    narrow = [(a.astype(np.float32), b.astype(np.float32)) for a, b in pairs]

    def products(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        return [a @ b for a, b in pairs]

    for found, wanted in zip(gm.jit(products)(narrow), products(pairs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
