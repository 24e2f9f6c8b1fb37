"""Kernels of narrow numbers take as many at once as fill a vector, and give what NumPy gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.codegen.cpu.generate import generate
from graphmill.codegen.cpu.target import native, target
from graphmill.driver import Options
from graphmill.frontend.trace import trace

pytestmark = pytest.mark.sampled(2)

SIZES = [(1,), (15,), (16,), (63,), (64,), (65,), (130,), (1000,), (3, 67), (9, 128), (70_001,)]
DTYPES = ["?", "u1", "i1", "i2", "u2", "f2", "f4", "i4", "f8"]
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "compare": lambda x, y: x < y,
    "arithmetic": lambda x, y: x * y + x,
    "logic": lambda x, y: np.logical_and(x, y) | (x == y),
    "choice": lambda x, y: np.where(x > y, x, y),
    "any of a row": lambda x, y: (x == y).any(-1),
    "all": lambda x, y: (x <= y).all(),
    "most": lambda x, y: np.maximum(x, y).max(-1),
    "least of all": lambda x, y: np.minimum(x, y).min(),
    "narrowed": lambda x, y: (x * 2).astype("i1"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_like_numpy(name: str, dtype: str) -> None:
    function, jitted = FUNCTIONS[name], gm.jit(FUNCTIONS[name])
    rng = np.random.default_rng(0)
    turn = list(FUNCTIONS).index(name) + DTYPES.index(dtype)
    for shape in SIZES[turn % 2 :: 2]:  # a dtype of the same width takes the others
        x, y = ((rng.integers(-3, 4, shape) * 9).astype(dtype) for _ in "xy")
        expected, result = function(x, y), jitted(x, y)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


def test_vectors_are_full() -> None:
    if native().vector_bits != 512:
        pytest.skip("of 64 bytes")
    x, y = np.ones(4096, "u1"), np.ones(4096, "f4")
    assert "vector<64xi8>" in gm.jit(lambda x: x + x).lower(x).mlir()
    assert "vector<64xf32>" in gm.jit(lambda y: y > 0).lower(y).mlir()
    # a long computation would not find registers, and a sum of floats keeps its order
    assert "vector<64xf32>" not in gm.jit(lambda y: np.exp(y) > 0).lower(y).mlir()
    assert "vector<64xf32>" not in gm.jit(lambda y: (y > 0).astype("f4").sum()).lower(y).mlir()


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "aarch64"])
def test_other_machines(name: str) -> None:
    x = np.ones(4096, "u1")
    function = trace(lambda x: ((x + x) < 7).any(), (x,), name="f").function
    assert generate(driver.optimise(function, Options()), target(name)).object
