"""`any` and `all` end once their result is known: in rows, in few long rows, beside each other."""

from __future__ import annotations

import time

import numpy as np
import pytest

import graphmill as gm

CASES = [
    ((1_000_003,), None), ((3, 70_001), 1), ((2, 3, 40_000), (1, 2)), ((7, 9001), 1),
    ((7, 4097), 1), ((5, 30), 1), ((2, 0), 1), ((6, 2048), 0),
]  # fmt: skip


def found(x, ones, axis):
    equal = x.astype(np.float32) == ones
    return x.any(axis), x.all(axis), equal.all(axis), (equal.any(axis), equal.all(axis))


@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_results(shape, axis):
    rng, ones = np.random.default_rng(0), np.ones(shape, np.float32)
    run = gm.jit(lambda x, ones: found(x, ones, axis))
    for share in (0, 1, 2 / (shape[-1] + 1)):
        some = rng.random(shape) < share
        for x in (some, ~some):
            got, want = run(x, ones), found(x, ones, axis)
            for a, b in zip([*got[:3], *got[3]], [*want[:3], *want[3]], strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_known_result_ends_the_sweep():
    """By far faster than reading all, in the thread's own time: the machine may be busy."""
    x = np.zeros(1 << 24, bool)
    any_ = gm.jit(np.any, threads=1)
    any_(x)

    def best() -> float:
        times = []
        for _ in range(20):
            start = time.thread_time()
            any_(x)
            times.append(time.thread_time() - start)
        return min(times)

    whole = best()
    x[:] = True
    assert best() < whole / 4
