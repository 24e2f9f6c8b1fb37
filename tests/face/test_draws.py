"""Code that names NumPy's random numbers: traced anew only if its trace draws some."""

from __future__ import annotations

import types

import numpy as np
import pytest

import graphmill as gm
from graphmill import draws
from graphmill.runtime.portrait import Portrait, Unclear
from tests.face.test_recall import X, check, loaded, own_cache, traces

assert own_cache and traces  # fixtures

DRAWING = """
import numpy as np

limit = 1.0

class Model:
    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.weights = rng.standard_normal((300, 300))

    def shuffled(self):
        return np.random.permutation(self.weights)

    def __call__(self, x):
        return x @ (self.weights if limit < 2 else self.shuffled())

f = Model(0).__call__
"""


def test_code_that_could_draw_but_does_not(monkeypatch, traces):
    for _ in range(3):
        check(loaded(monkeypatch, DRAWING))
    assert len(traces) == 1
    check(loaded(monkeypatch, DRAWING.replace("Model(0)", "Model(1)")))
    assert len(traces) == 2
    drawing = DRAWING.replace("limit = 1.0", "limit = 3.0")
    results = [gm.jit(loaded(monkeypatch, drawing).f)(X) for _ in range(3)]
    assert len(traces) == 5
    assert not np.array_equal(results[0], results[1])
    check(loaded(monkeypatch, DRAWING))
    assert len(traces) == 5


def test_another_module_in_place_of_numpys_random(monkeypatch):
    f = loaded(monkeypatch, DRAWING).f
    assert Portrait([f]).could_draw
    monkeypatch.setattr(np, "random", types.SimpleNamespace(permutation=lambda x: x))
    with pytest.raises(Unclear, match="random"):
        Portrait([f])


def test_draws_are_seen():
    real = np.random
    with draws.watched(True) as seen, draws.watched(True) as inner:
        assert np.random is not real and isinstance(np.random, types.ModuleType)
        assert not seen()
        assert 0 <= np.random.default_rng(0).random() < 1
        assert seen() and inner()
    assert np.random is real
    with draws.watched(True) as seen:
        pass
    assert not seen()
    with draws.watched(False) as seen:
        assert np.random is real
        np.random.rand()
        assert not seen()
    with pytest.raises(ZeroDivisionError), draws.watched(True):
        1 / 0  # noqa: B018
    assert np.random is real
