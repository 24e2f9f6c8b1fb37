"""Rounding, clipping and casting to bytes in one conversion: NumPy's results, and saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.codegen.cpu.generate import generate
from graphmill.codegen.cpu.target import names, target
from graphmill.runtime import knobs

Array = np.ndarray[Any, Any]

VALUES = np.concatenate([
    np.arange(-40, 300, 0.25), [-0.0, 0.5, 1.5, 254.5, 255.5, 1e9, -1e9, 3e38, 32767.5, -32768.5],
    [np.nan, np.inf, -np.inf], np.random.default_rng(0).normal(0, 1e5, 500),
]).astype(np.float32)  # fmt: skip


def limits_of(low: float, high: float, dtype: type) -> Array:
    """What is expected: the nearest within both limits, 0 for NaN."""
    whole = np.iinfo(dtype)
    rounded = np.nan_to_num(np.round(VALUES), nan=0.0, posinf=3e38, neginf=-3e38)
    clipped = np.where(np.isnan(VALUES), 0, np.minimum(np.maximum(rounded, low), high))
    return np.clip(clipped, whole.min, whole.max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
@pytest.mark.parametrize("limits", [(0, 255), (-128, 127), (3, 100), (-1e9, 1e9), (0, 6)])
def test_results_are_numpys(dtype: type, limits: tuple[float, float]) -> None:
    low, high = map(np.float32, limits)
    for quantise in (
        lambda x: np.clip(np.round(x), low, high).astype(dtype),
        lambda x: np.round(np.clip(x, low, high)).astype(dtype),
        lambda x: np.minimum(np.maximum(low, np.round(x)), high).astype(dtype),
    ):
        with knobs.scope(cache=False):
            got = gm.jit(quantise)(VALUES)
        np.testing.assert_array_equal(got, limits_of(*limits, dtype))


def test_limits_between_integers_are_kept() -> None:
    """Rounding first and clipping to a half after it is another function."""
    with knobs.scope(cache=False):
        got = gm.jit(lambda x: np.clip(np.round(x), -0.5, 2.5).astype(np.int8))(VALUES[:400])
    np.testing.assert_array_equal(got, np.clip(np.round(VALUES[:400]), -0.5, 2.5).astype(np.int8))


def test_no_limits_saturate() -> None:
    with knobs.scope(cache=False):
        got = gm.jit(lambda x: np.round(x).astype(np.int8))(VALUES)
    np.testing.assert_array_equal(got, limits_of(-np.inf, np.inf, np.int8))


@pytest.mark.parametrize("name", [n for n in names() if n != "native"])
def test_every_target_converts_without_calls(name: str) -> None:
    def quantise(x: Any) -> Any:
        return np.clip(np.round(x * 0.5), 0, 255).astype(np.uint8)

    function = gm.jit(quantise).trace(VALUES).function
    planned = driver.optimise(function, driver.Options())
    found: dict[str, str] = {}

    def keep(stage: str, kind: str, text: str, seconds: float) -> None:
        found[kind] = text

    generate(planned, target(name), observer=keep)
    assert "lrint" not in found["asm"], "each lane would be a call"
