"""Long operations beyond the first ones are calls of shared functions, with the same bits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.codegen.cpu import shared
from graphmill.driver import Options
from graphmill.runtime import knobs


def chain(x):
    for _ in range(2):
        x = np.tanh(np.exp(-np.abs(x)) + np.sin(x) * np.cos(x))
    return np.log1p(np.abs(x)), np.power(np.abs(x), x)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ml_dtypes.bfloat16])
def test_shared_functions_give_the_same_bits(monkeypatch, dtype):
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, 3e38, -700.0]
    values = [*special, *np.random.default_rng(0).normal(size=63) * 3]
    with np.errstate(over="ignore"):
        x = np.array(values).astype(dtype)
    texts, results = [], []
    for limit in (1000, 1):
        monkeypatch.setattr(shared, "INLINE", limit)
        lowered = gm.jit(lambda x: chain(x)).lower(x)
        texts.append(lowered.mlir())
        with knobs.scope(cache=False):
            results.append(lowered.compile().run(x))
    assert "gm.exp_" not in texts[0] and "gm.exp_" in texts[1]
    for inline, called in zip(*results, strict=True):
        assert inline.tobytes() == called.tobytes()


def test_shared_functions_use_the_same_instructions(monkeypatch):
    options = Options(target="x86-64-v4")
    function = gm.jit(lambda x: np.exp(x)).trace(gm.spec("f32[64]")).function
    texts = []
    for limit in (1000, 0):
        monkeypatch.setattr(shared, "INLINE", limit)
        texts.append(driver.texts(driver.optimise(function, options), options)["mlir"])
    assert "gm.exp_" not in texts[0] and "gm.exp_" in texts[1]
    assert all("llvm.x86.avx512.mask.scalef" in text for text in texts)


def test_a_module_with_many_long_operations_calls_sooner(monkeypatch):
    monkeypatch.setattr(shared, "MANY", 20)
    scales = np.linspace(0.1, 1, 30, dtype=np.float32)

    def f(x):
        return tuple(np.exp(x * s) + np.sin(x.T * s) for s in scales)

    mlir = gm.jit(f).lower(gm.spec("f32[8, 8]")).mlir()
    assert mlir.count("call @gm.") > 0
