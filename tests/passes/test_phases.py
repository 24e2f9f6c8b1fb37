"""Transposed convolutions by phases: which form, and that large weights are cut when loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.ir.builder import Builder, function
from graphmill.ir.dtypes import f32
from graphmill.ir.graph import Function, Value
from graphmill.ir.reference import interpret
from graphmill.ir.types import tensor
from graphmill.passes.manager import run_pipeline

RNG = np.random.default_rng(0)


def transposed(window: int, by: int, low: int, high: int, n: Any = 5, spread: int = 1) -> Function:
    attrs = {"strides": (1,), "low": (low,), "high": (high,), "dilation": (spread,),
             "input_dilation": (by,), "groups": 1}  # fmt: skip

    def body(b: Builder, x: Value, w: Value) -> Value:
        return b.op("conv", x, w, **attrs)

    return function("f", {"x": tensor(f32, 2, 3, n), "w": tensor(f32, 4, 3, window)}, body)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("by", [2, 3, 4])
@pytest.mark.parametrize("low", [0, 1, 2, 5])
@pytest.mark.parametrize("n", [1, 5])
def test_every_phase(window: int, by: int, low: int, n: int) -> None:
    for high in (0, 3):
        if (n - 1) * by + 1 + low + high < window:
            continue
        made = transposed(window, by, low, high, n)
        x = RNG.standard_normal((2, 3, n)).astype(np.float32)
        w = RNG.standard_normal((4, 3, window)).astype(np.float32)
        got = run_pipeline(made, "decompose")
        convs = [op for op in got.walk() if op.name == "conv"]
        assert all(op.attrs["input_dilation"] == (1,) for op in convs)
        (want,), (y,) = interpret(made, x, w), interpret(got, x, w)
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_sizes_known_at_run_time() -> None:
    made = transposed(4, 2, 1, 1, "n")
    got = run_pipeline(made, "decompose")
    assert got is not made
    assert run_pipeline(made, "decompose{ops=rare_conv}") is made
    w = RNG.standard_normal((4, 3, 4)).astype(np.float32)
    for n in (2, 3, 7):
        x = RNG.standard_normal((2, 3, n)).astype(np.float32)
        np.testing.assert_allclose(interpret(got, x, w)[0], interpret(made, x, w)[0], rtol=1e-5)
    assert run_pipeline(transposed(4, 2, 0, 0, "n"), "decompose").ops, "crops x: stays"
    spread = transposed(3, 2, 2, 2, spread=2)
    assert run_pipeline(spread, "decompose") is spread


def test_large_weights_are_cut_when_loaded() -> None:
    w = RNG.standard_normal((600, 450, 2, 2)).astype(np.float32)
    x = RNG.standard_normal((1, 600, 2, 3)).astype(np.float32)
    compiled = gm.jit(lambda x: gm.nn.conv_transpose2d(x, w, stride=2))
    (want,) = compiled.trace(x).interpret(x)
    planned = compiled.lower(x).ir("fuse")
    assert "prepare" in planned and "gather" not in planned and "reverse" in planned
    np.testing.assert_allclose(compiled(x), want, rtol=1e-3, atol=1e-3)
