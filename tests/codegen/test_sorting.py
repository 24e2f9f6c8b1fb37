"""Sorting networks over odd lengths, both axes, all dtypes, NaN and signed zeros, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime.executable import Executable

SHORT = [((33,), 0), ((3, 100), 1), ((20, 17), 0), ((4, 0), 1)]
LONG = [*SHORT, ((1,), 0), ((7,), 0), ((16,), 0), ((5000,), 0), ((9, 16), 0), ((0, 4), 0)]
CASES = {"f4": LONG} | dict.fromkeys(["f8", "f2", "i1", "i8", "u4", "?"], SHORT)


def arrays(dtype: str) -> list[np.ndarray]:
    """Many equal values; NaN, infinities and both zeros; the ends of the range."""
    rng, made = np.random.default_rng(0), []
    for shape, _ in CASES[dtype]:
        x = rng.integers(0, 9, shape).astype(dtype)
        if dtype[0] in "iu" and x.size > 3:
            info = np.iinfo(dtype)
            x.flat[[0, 2, 3]] = info.max, info.min, info.max - 1
        elif dtype[0] == "f":
            x = rng.standard_normal(shape).astype(dtype)
            if x.size > 6:
                x.flat[:7] = np.nan, 0.0, -0.0, np.inf, -np.inf, -np.nan, 0.0
        made.append(x)
    return made


def sorts(*xs):
    cases = LONG if len(xs) == len(LONG) else SHORT
    pairs = list(zip(xs, cases, strict=True))
    values = [np.sort(x, axis=axis) for x, (_, axis) in pairs]
    return (*values, *[np.argsort(x, axis=axis, kind="stable") for x, (_, axis) in pairs])


@pytest.mark.parametrize("dtype", CASES)
def test_sort_and_stable_argsort(dtype):
    xs = arrays(dtype)
    for got, want in zip(gm.jit(sorts, threads=2)(*xs), sorts(*xs), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_other_vectors(target):
    xs, options = arrays("f4"), Options(target=target)
    planned = driver.optimise(gm.jit(sorts).trace(*xs).function, options)
    results = Executable(driver.emit(planned, options), threads=2).run(*xs)
    for got, want in zip(results, sorts(*xs), strict=True):
        np.testing.assert_array_equal(got, want)
