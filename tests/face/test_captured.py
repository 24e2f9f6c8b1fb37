"""Large arrays that a function captures: read in place, watched, and never stored in the cache."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.runtime import cache, knobs

SIDE = 600  # 1.4 MB: beyond every limit from which arrays are read in place


def _weights(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE), dtype=np.float32)


@pytest.mark.parametrize("view", [np.asarray, np.transpose, lambda w: w[:, ::-1], lambda w: w[:]])
def test_edits_between_calls(view):
    w = _weights()
    f = gm.jit(lambda x: x @ view(w) + w[0])
    x = np.ones((3, SIDE), np.float32)
    for step in range(4):  # compiled, then on the Python path, then on the native one
        np.testing.assert_allclose(f(x), x @ view(w) + w[0], rtol=1e-4, atol=1e-3)
        w[step, 5 + step] += 1000
        np.testing.assert_allclose(f(x), x @ view(w) + w[0], rtol=1e-4, atol=1e-3)


def test_edits_while_tracing():
    w = _weights()
    changed: list[int] = []

    def f(x):
        before = x + w
        w[7] += 1
        changed.append(1)
        return before * w

    x = np.ones((SIDE, SIDE), np.float32)
    start = w.copy()
    result = gm.jit(f)(x)
    # whatever the number of traces, each saw the array change once in the middle
    last = start.copy()
    last[7] += len(changed) - 1
    after = last.copy()
    after[7] += 1
    np.testing.assert_array_equal(result, (x + last) * after)


def test_a_compiled_function_keeps_what_it_was_compiled_with():
    w = _weights()
    compiled = gm.jit(lambda x: x + w).compile(gm.spec("f32[600, 600]"))
    expected = w + 1
    w[:] = 0
    np.testing.assert_array_equal(compiled.run(np.ones_like(w))[0], expected)


def test_frozen_arrays_are_read_in_place_and_watched():
    w = _weights()
    w.flags.writeable = False
    f = gm.jit(lambda x: x * w)
    x = np.ones_like(w)
    for _ in range(3):
        np.testing.assert_array_equal(f(x), w)
    w.flags.writeable = True
    w[3] = 5
    np.testing.assert_array_equal(f(x), w)


def test_the_cache_holds_no_weights(tmp_path):
    x = np.ones((3, SIDE), np.float32)
    with knobs.scope(cache=True, cache_dir=str(tmp_path / "cache"), cache_size=1 << 30):
        hits = []
        for seed in (0, 0, 1):
            w = _weights(seed)
            before = cache.default().hits
            result = gm.jit(lambda x, w=w: x @ w)(x)
            np.testing.assert_allclose(result, x @ w, rtol=1e-4, atol=1e-3)
            hits.append(cache.default().hits - before)
        assert hits == [0, 1, 0]
    assert all(entry.stat().st_size < w.nbytes / 10 for entry in tmp_path.rglob("*.gmc"))


def _read(compiled) -> set[int]:
    """Where the large constants lie that a compiled function's executables read."""
    arrays = [a for e in compiled.executables for a in e.constants if a.nbytes > 1 << 20]
    return {a.__array_interface__["data"][0] for a in arrays}


@pytest.mark.parametrize("frozen", [True, False])
def test_signatures_and_functions_share_packed_weights(frozen):
    """Of frozen arrays: others may be written to meanwhile. Both heights take the same tile."""
    w = _weights(3)
    w.flags.writeable = not frozen
    first, second = gm.jit(lambda x: x @ w), gm.jit(lambda x: np.tanh(x @ w))
    for rows in (5, 16):
        x = np.ones((rows, SIDE), np.float32)
        np.testing.assert_allclose(second(x), np.tanh(first(x)), rtol=1e-4)
    assert len(_read(first) | _read(second)) == (1 if frozen else 4)


def test_shared_weights_are_those_of_the_content():
    x, found = np.ones((3, SIDE), np.float32), []
    for seed in (4, 5, 4):
        w = _weights(seed)
        w.flags.writeable = False
        f = gm.jit(_product(w))
        np.testing.assert_allclose(f(x), x @ w, rtol=1e-4, atol=1e-3)
        found.append(f)
    assert _read(found[0]) == _read(found[2]) != _read(found[1])


def _product(w):
    return lambda x: x @ w
