"""Products whose operands are widened first: one kernel, the values NumPy gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm

Array = np.ndarray[Any, Any]
I32, F32 = np.int32, np.float32


def constant(w: Array) -> Callable[[Array], Array]:
    return lambda x: x.astype(I32) @ w.astype(I32)


WIDENED: dict[str, Callable[[Array, Array], Array]] = {
    "both": lambda x, w: x.astype(I32) @ w.astype(I32),
    "transposed": lambda x, w: x.astype(I32) @ w.astype(I32).T.copy().T,
    "read twice": lambda x, w: (h := x.astype(I32)) @ w.astype(I32) + h.sum(),
    "chained": lambda x, w: (
        (x.astype(I32) @ w.astype(I32)).astype(np.int8).astype(I32) @ w.astype(I32).T
    ),
    "one": lambda x, w: x.astype(I32) @ w,
    "with a bias": lambda x, w: x.astype(I32) @ w.astype(I32) + w[0].astype(I32),
}


@pytest.mark.parametrize("name", WIDENED)
def test_widened_bytes(name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (9, 70)).astype(np.int8)
    w = rng.integers(-128, 128, (70, 50)).astype(I32 if name == "one" else np.int8)
    function = WIDENED[name]
    np.testing.assert_array_equal(gm.jit(function)(x, w), function(x, w))
    dynamic = gm.jit(function, dynamic={"x": ("batch", None)})
    for m in (0, 1, 5, 9):
        np.testing.assert_array_equal(dynamic(x[:m], w), function(x[:m], w))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("wide", [np.int8, np.uint8, np.int16])
def test_constant_weights(dtype: Any, wide: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (6, 70)).astype(dtype)
    w = rng.integers(-40000, 40000, (70, 50)).astype(wide)
    w.flags.writeable = False
    np.testing.assert_array_equal(gm.jit(constant(w))(x), constant(w)(x))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_widened_floats_are_exact_products(dtype: Any) -> None:
    rng = np.random.default_rng(2)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((9, 70), (70, 50)))
    x[0, 0] = 1e-39  # a subnormal bf16
    got = gm.jit(lambda x, w: x.astype(F32) @ w.astype(F32))(x, w)
    assert got.dtype == F32
    np.testing.assert_allclose(got, x.astype(F32) @ w.astype(F32), rtol=1e-5, atol=1e-5)


def test_no_copy_of_a_widened_operand() -> None:
    x, w = np.ones((64, 64), np.int8), np.ones((64, 64), np.int8)
    text = gm.jit(lambda x, w: x.astype(I32) @ w.astype(I32)).lower(x, w).ir("memory")
    assert "arena_bytes=0" in text and text.count("fusion") == 1
