"""Places of the largest and smallest: along and across lanes, in parts; ties, NaN, infinities."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime.executable import Executable

SHAPES = [(1, 1), (3, 5), (4, 16), (2, 17), (3, 200), (2, 4097), (130, 3), (40, 70), (3, 5, 150)]
FLOATS = ("f4", "f8", "f2", ml_dtypes.bfloat16)


def filled(dtype, shape, rng):
    """Arrays of few distinct numbers; of floats also all infinite, and with NaN here and there."""
    x = rng.integers(0, 2 if dtype == "?" else 9, shape).astype(dtype)
    yield x
    if dtype in FLOATS:
        yield np.full_like(x, -np.inf)
        yield np.full_like(x, np.inf)
        few = np.where(rng.random(shape) < 3 / x.size, np.nan, x.astype("f4"))
        yield few.astype(dtype)


def both(x):
    return [f(x, axis) for f in (np.argmax, np.argmin) for axis in range(x.ndim)]


@pytest.mark.parametrize("dtype", [*FLOATS, "i1", "u1", "i2", "i4", "i8", "u8", "?"], ids=str)
def test_every_dtype_and_axis(dtype):
    rng = np.random.default_rng(0)
    found = gm.jit(both)
    for shape in SHAPES if dtype in ("f4", "i4") else SHAPES[3:5]:
        for x in filled(dtype, shape, rng):
            wide = x.astype("f8") if dtype in FLOATS else x
            for got, want in zip(found(x), both(wide), strict=True):
                assert got.dtype == np.int64
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_long_line(threads):
    """Blocks of the line are searched in parallel; of equal ones the first wins."""
    x = np.zeros(1_000_003, np.float32)
    made = driver.optimise(gm.jit(lambda x: (x.argmax(), x.argmin())).trace(x).function, Options())
    run = Executable(driver.emit(made, Options()), threads=threads).run
    for changes in [{}, {5: 1, 70_000: 1, 1_000_002: -1}, {1_000_002: np.nan, 500_000: np.nan}]:
        x[:] = 0
        x[list(changes)] = list(changes.values())
        assert [int(v) for v in run(x)] == [x.argmax(), x.argmin()]


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_other_targets(target):
    x = np.random.default_rng(1).integers(0, 50, (9, 75)).astype("f4")
    x[3, 70] = x[3, 20] = np.nan
    options = Options(target=target)
    made = driver.optimise(gm.jit(lambda x: tuple(both(x))).trace(x).function, options)
    for got, want in zip(Executable(driver.emit(made, options)).run(x), both(x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_first_truth_value():
    """Rows of several pieces, of which those after the first that holds one are left out."""
    x = np.zeros((5, 9001), bool)
    x[1, [4, 9000]], x[2, 9000], x[3, 2048:], x[4] = True, True, True, True
    x[4, 5000] = False
    for got, want in zip(gm.jit(both)(x), both(x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_symbolic_and_strided():
    found = gm.jit(lambda x: (x.argmax(1), x.argmin(0), x.argmax()), dynamic={"x": ("n", "m")})
    for shape in [(1, 1), (2, 300), (70, 33)]:
        x = np.random.default_rng(2).integers(0, 99, (shape[0], 2 * shape[1])).astype("f4")[:, ::-2]
        for got, want in zip(found(x), (x.argmax(1), x.argmin(0), x.argmax()), strict=True):
            np.testing.assert_array_equal(got, want)
