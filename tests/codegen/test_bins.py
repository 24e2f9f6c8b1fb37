"""Bins and places in sorted arrays, compiled: one kernel finds them, and exactly NumPy's."""

import numpy as np
import pytest

import graphmill as gm

VALUES = {
    "random": lambda rng: rng.standard_normal(997) * 10,
    "on the edges": lambda rng: np.round(rng.standard_normal(997) * 10),
    "evenly spaced": lambda rng: np.linspace(-3, 5, 997),
}


@pytest.mark.parametrize("bins", [1, 3, 64, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_histogram(dtype: type, bins: int) -> None:
    counts = gm.jit(lambda x: np.histogram(x, bins)[0])
    for make in VALUES.values():
        x = make(np.random.default_rng(0)).astype(dtype)
        assert np.array_equal(counts(x), np.histogram(x, bins)[0])


def test_histogram_leaves_out_nan_and_what_is_outside() -> None:
    x = np.array([np.nan, 0.0, 0.5, 1.0, -1.0, 2.0, np.inf, -np.inf, 1e300])
    expected = np.histogram(x, 7, range=(0.0, 1.0))[0]
    assert np.array_equal(gm.jit(lambda x: np.histogram(x, 7, range=(0.0, 1.0))[0])(x), expected)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("n", range(1, 10))
def test_searchsorted(n: int, side: str) -> None:
    rng = np.random.default_rng(n)
    values = np.concatenate([rng.integers(-1, 8, 20), [np.nan, np.inf, -np.inf]])
    places = gm.jit(lambda a, v: np.searchsorted(a, v, side=side))
    for last in (None, np.inf, np.nan):
        a = np.sort(rng.integers(0, 6, n).astype(np.float64))
        a[-1] = a[-1] if last is None else last
        assert np.array_equal(places(a, values), np.searchsorted(a, values, side=side))


def test_a_search_is_one_kernel() -> None:
    def search(a: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.searchsorted(a, v)

    lowered = gm.jit(search).lower("f32[65]", "f32[1000]")
    assert lowered.ir().count(" fusion ") == 1
