"""Random programs over open sizes: awkward arguments, empty ones, and any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.runtime import knobs
from tests.differential.compiled import assert_close
from tests.differential.random_arrays import LONG, OPEN, Program, awkward, program

SIZES = (7, 0, 1, 2, 15, 16, 31, LONG)
LONGEST = 70_000  # threads share kernels of such sizes


def open_sizes_like_numpy(made: Program, seed: int, sizes: tuple[int, ...]) -> None:
    """One compilation of each number of threads, at every size, against NumPy."""
    one, two = (gm.jit(made.function(), dynamic=OPEN, threads=t) for t in (1, 2))
    for n in sizes:
        message = f"n = {n}, {made.dtype}\n{made.text}"
        arrays = made.arrays(n)
        try:
            want = made.want(n)
        except ValueError:
            continue  # of nothing there is no maximum
        with knobs.scope(cache=False):
            got, again = one(*awkward(arrays, seed + n)), two(*arrays)
        for a, b in zip(got, again, strict=True):
            np.testing.assert_array_equal(a, b, f"by threads, {message}")
        if n < LONG or not any(short in made.text + made.dtype for short in ("f2", "f4")):
            _compare(got, want, n, message)


def _compare(got, want, n: int, message: str) -> None:
    if n < LONGEST:
        return assert_close(list(map(np.asarray, got)), list(map(np.asarray, want)), message)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype, message
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * n, err_msg=message)  # sums cancel


@pytest.mark.parametrize("seed", range(10))
def test_open_sizes(seed):
    made = program(seed)
    assert made == program(seed)
    open_sizes_like_numpy(made, seed, SIZES if seed % 4 else (*SIZES, LONGEST))
