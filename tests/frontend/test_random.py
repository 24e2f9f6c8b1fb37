"""`gm.random`: the same numbers compiled and by NumPy, with the right distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm

rnd = gm.random
COUNT = 100_000

CALLS: dict[str, Callable[[Any], Any]] = {
    "key": lambda k: (rnd.key(5), rnd.key(-1), rnd.key(k[0])),
    "split": lambda k: (rnd.split(k), rnd.split(k, 5)),
    "fold_in": lambda k: (rnd.fold_in(k, 3), rnd.fold_in(k, k[0])),
    "bits": lambda k: (rnd.bits(k, (3, 5)), rnd.bits(k, 7, np.uint64), rnd.bits(k)),
    "uniform": lambda k: [rnd.uniform(k, (2, 9), dtype=d) for d in ("f4", "f8", "f2", "bf16")],
    "uniform within": lambda k: (rnd.uniform(k, 9, -3, 5.5), rnd.uniform(k, 9, 1, 2, "f8")),
    "randint": lambda k: (rnd.randint(k, 20, -3, 4), rnd.randint(k, (2, 3), 0, k.size, "i4")),
    "bernoulli": lambda k: (rnd.bernoulli(k, 0.3, 20), rnd.bernoulli(k, np.linspace(0, 1, 9))),
    "permutation": lambda k: (rnd.permutation(k, 9), rnd.permutation(k, np.eye(4), axis=1)),
    "categorical": lambda k: rnd.categorical(k, np.zeros((5, 4), "f4")),
}


@pytest.mark.parametrize("name", CALLS)
def test_same_numbers_compiled_and_by_numpy(name: str) -> None:
    def run(seed: Any) -> Any:
        return CALLS[name](rnd.key(seed))

    found, wanted = gm.jit(run)(np.int64(42)), run(np.int64(42))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    again, others = gm.jit(run)(np.int64(42)), gm.jit(run)(np.int64(43))
    np.testing.assert_array_equal(found[-1], again[-1])
    assert name == "key" or not np.array_equal(found[0], others[0])


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "bf16"])
def test_floats(dtype: str) -> None:
    of = np.dtype(ml_dtypes.bfloat16) if dtype == "bf16" else np.dtype(dtype)

    @gm.jit
    def run(seed: Any) -> Any:
        first, second = rnd.split(rnd.key(seed))
        return rnd.uniform(first, COUNT, dtype=of), rnd.normal(second, COUNT, of)

    flat, bell = run(3)
    assert flat.dtype == bell.dtype == of
    flat, bell = flat.astype("f8"), bell.astype("f8")
    assert flat.min() >= 0 and flat.max() < 1
    counts = np.histogram(flat, 16, (0, 1))[0]
    assert abs(counts - COUNT / 16).max() < 6 * np.sqrt(COUNT / 16)
    moments = [(bell**n).mean() for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.08)
    assert 3.9 < abs(bell).max() < 7


def test_bounds_are_kept() -> None:
    high = np.float32(1) + np.float32(2**-22)
    x = gm.jit(lambda s: rnd.uniform(rnd.key(s), 10_000, 1.0, high))(1)
    assert x.min() == 1 and x.max() < high
    n = gm.jit(lambda s: rnd.randint(rnd.key(s), 10_000, -2, 3, np.int8))(1)
    assert n.dtype == np.int8 and np.unique(n).tolist() == [-2, -1, 0, 1, 2]
    assert np.bincount(n.astype(int) + 2).min() > 1800


def test_choices() -> None:
    weights = np.log(np.array([0.1, 0.2, 0.7]))

    @gm.jit
    def run(seed: Any) -> Any:
        keys = rnd.split(rnd.key(seed), 3)
        logits = gm.numpy.broadcast_to(weights, (COUNT, 3))
        return (rnd.bernoulli(keys[0], 0.3, COUNT), rnd.categorical(keys[1], logits),
                rnd.permutation(keys[2], 1000))  # fmt: skip

    heads, drawn, order = run(8)
    assert heads.dtype == bool and abs(heads.mean() - 0.3) < 0.01
    np.testing.assert_allclose(np.bincount(drawn) / COUNT, [0.1, 0.2, 0.7], atol=0.01)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15


def test_keys_are_independent() -> None:
    @gm.jit
    def run(seed: Any) -> Any:
        root = rnd.key(seed)
        keys = [root, *(rnd.split(root)[i] for i in range(2)), rnd.fold_in(root, 0),
                rnd.fold_in(root, 1)]  # fmt: skip
        return gm.numpy.stack([rnd.normal(k, 10_000) for k in keys])

    correlations = np.corrcoef(run(5)) - np.eye(5)
    assert abs(correlations).max() < 0.05


def test_numbers_do_not_depend_on_threads_or_symbolic_sizes() -> None:
    def run(x: Any) -> Any:
        return rnd.normal(rnd.key(1), x.shape)

    symbolic = gm.jit(run, dynamic={"x": ("n", None)})
    for n in (1, 5, 3000):
        x = np.zeros((n, 7))
        one, two = (gm.jit(run, threads=t)(x) for t in (1, 2))
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, symbolic(x))
    assert len(symbolic.executables) == 1


def test_in_a_loop() -> None:
    @gm.jit
    def run(seed: Any) -> Any:
        def step(i: Any, total: Any) -> Any:
            return total + rnd.uniform(rnd.fold_in(rnd.key(seed), i), 4)

        return gm.fori_loop(0, 3, step, gm.numpy.zeros(4, dtype=np.float32))

    wanted = np.sum([rnd.uniform(rnd.fold_in(rnd.key(9), i), 4) for i in range(3)], 0)
    np.testing.assert_allclose(run(9), wanted, rtol=1e-6)


MISTAKES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a key of floats": ("GM025", lambda x: rnd.uniform(x)),
    "two keys": ("GM025", lambda x: rnd.normal(rnd.split(rnd.key(1)))),
    "a seed of floats": ("GM025", lambda x: rnd.key(x)),
    "an empty range": ("GM025", lambda x: rnd.randint(rnd.key(1), 3, 2, 2)),
    "integers as floats": ("GM015", lambda x: rnd.randint(rnd.key(1), 3, 0, 2, "f4")),
    "normal integers": ("GM015", lambda x: rnd.normal(rnd.key(1), 3, "i4")),
    "signed bits": ("GM015", lambda x: rnd.bits(rnd.key(1), 3, "i4")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    code, function = MISTAKES[name]
    for call in (function, gm.jit(function)):
        with pytest.raises(gm.GraphmillError, match=code):
            call(np.ones(2))
