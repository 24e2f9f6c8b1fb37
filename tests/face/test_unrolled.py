"""A Python loop that stays unrolled is named, with its line; one that is rolled is not."""

import warnings

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime import knobs
from graphmill.unrolled import UnrolledWarning, warn_of_unrolled

N = 24
X = np.ones((N, N))


LENGTHS = np.random.default_rng(0).integers(1, N, (N, N))


def uneven(a):
    for i in range(N):
        for j in range(N):
            a[i, j] -= a[i, : LENGTHS[i, j]] @ a[: LENGTHS[i, j], j]
    return a


def rows(a):
    for i in range(1, N):
        for j in range(1, N):
            a[i, j] = a[i, j - 1] * 0.5 + a[i - 1, j]
    return a


@pytest.fixture(autouse=True)
def few_ops_are_many(monkeypatch):
    monkeypatch.setattr("graphmill.unrolled.MANY", 1000)


def rolled(f):
    function = gm.jit(f).trace(X).function
    assert len(function.ops) > 1000
    return driver.optimise(function, Options(), stop="roll")


def test_a_loop_whose_shapes_differ_is_named():
    with pytest.warns(UnrolledWarning, match=r"uneven has \d+ ops, .* from test_unrolled.py:24"):
        warn_of_unrolled(rolled(uneven))


def test_a_loop_that_is_rolled_is_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unrolled(rolled(rows))


def test_compiling_warns(monkeypatch):
    monkeypatch.setattr(driver, "MANY", 1)
    monkeypatch.setattr("graphmill.unrolled.MANY", 1)
    with knobs.scope(cache=False), pytest.warns(UnrolledWarning):
        gm.jit(lambda x: x + 2.0 * x)(np.ones(7))
