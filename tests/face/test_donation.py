"""Donated arguments: results in their memory, in place or not, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphmill as gm

Array = np.ndarray[Any, Any]
Fn = Callable[..., Any]


def array(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def store(cache: Any, new: Any, at: Any) -> Any:
    cache[:, at] = new
    return cache, cache.sum(1)


def layers(cache: Any, new: Any, at: Any) -> Any:
    """Updates in a row, each read before the next."""
    for layer in range(3):
        cache[layer, at] = new[layer]
        new = new + cache[layer].sum(0)
    return new, cache


def elementwise(cache: Any, new: Any, at: Any) -> Any:
    return np.tanh(cache) * 2 + new[:, None]


def read_later(cache: Any, new: Any, at: Any) -> Any:
    """The result of the cache's type is made before the cache is read the last time."""
    y = np.exp(cache) + new[:, None]
    return y, (y[::-1] - cache).sum()


def turned(cache: Any, new: Any, at: Any) -> Any:
    return cache[::-1, ::-1] + 1


def unchanged(cache: Any, new: Any, at: Any) -> Any:
    return cache, (cache + new[:, None]).mean()


def in_a_loop(cache: Any, new: Any, at: Any) -> Any:
    def body(state: Any, x: Any) -> Any:
        state[:, at] = state[:, at] * 0.5 + x
        return state, state.sum()

    return gm.scan(body, cache, np.stack([new, new + 1, new * 2]))


def under_mask(cache: Any, new: Any, at: Any) -> Any:
    cache[cache > 0] = 1
    return cache


def gathered(cache: Any, new: Any, at: Any) -> Any:
    return cache[np.array([2, 0, 1])], cache @ new.sum(0)


FUNCTIONS = [
    store,
    layers,
    elementwise,
    read_later,
    turned,
    unchanged,
    in_a_loop,
    under_mask,
    gathered,
]
COPIES = {"read_later": 1, "turned": 1, "gathered": 1}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_values_and_memory(fn: Fn, threads: int) -> None:
    donating = gm.jit(fn, donate="cache", threads=threads)
    plain = gm.jit(fn, threads=threads)
    for seed in range(3):
        cache, new, at = array(3, 700, 4, seed=seed), array(3, 4, seed=9), np.int64(5)
        before = cache.copy()
        want = plain(cache, new, at)
        np.testing.assert_array_equal(cache, before)
        got = donating(cache, new, at)
        for one, other in zip(_flat(got), _flat(want), strict=True):
            np.testing.assert_array_equal(one, other)
        assert sum(one is cache for one in _flat(got)) == 1


def _flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_in_place_where_the_cache_dies(fn: Fn) -> None:
    text = gm.jit(fn, donate=("cache",)).lower(array(3, 700, 4), array(3, 4), np.int64(5)).ir()
    whole = [line for line in text.splitlines() if " copy " in line and "700" in line]
    assert len(whole) == COPIES.get(fn.__name__, 0), text


def test_two_donated_arrays_that_change_places() -> None:
    a, b = array(50), array(50, seed=1)
    was = a.copy(), b.copy()
    c, d = gm.jit(lambda a, b: (b * 2, a + 1), donate=("a", "b"))(a, b)
    assert c is b and d is a
    np.testing.assert_array_equal(c, was[1] * 2)
    np.testing.assert_array_equal(d, was[0] + 1)
    crossed = gm.jit(lambda a, b: (a + b[::-1], b - a[::-1]), donate=("a", "b"))
    was = a.copy(), b.copy()
    c, d = crossed(a, b)
    assert c is a and d is b
    np.testing.assert_array_equal(c, was[0] + was[1][::-1])
    np.testing.assert_array_equal(d, was[1] - was[0][::-1])


def test_every_array_of_a_structure() -> None:
    @gm.jit(donate="cache")
    def step(x: Any, cache: Any) -> Any:
        cache["k"][0], cache["v"][-1] = x, x * 2
        return {"cache": cache, "y": (cache["k"] * cache["v"]).sum()}

    cache = {"k": array(4, 5), "v": array(4, 5, seed=1)}
    found = step(np.ones(5, np.float32), cache)
    assert found["cache"]["k"] is cache["k"] and found["cache"]["v"] is cache["v"]
    assert (cache["k"][0] == 1).all() and (cache["v"][-1] == 2).all()


def test_symbolic_sizes() -> None:
    @gm.jit(donate="cache", dynamic={"cache": ("n", None)})
    def step(cache: Any, x: Any) -> Any:
        cache[-1] = x
        return cache.sum(), cache * 2

    for n in (1, 4, 9):
        cache = array(n, 5)
        want = 2 * np.vstack([cache[:-1], np.ones((1, 5))])
        assert step(cache, np.ones(5, np.float32))[1] is cache
        np.testing.assert_array_equal(cache, want)
    assert len(step.executables) == 1


def test_repeated_calls_update_once_each() -> None:
    count = gm.jit(lambda total: total + 1, donate="total")
    total = np.zeros(3)
    for n in range(5):
        assert count(total) is total
        np.testing.assert_array_equal(total, np.full(3, n + 1.0))


def _read_only() -> list[Any]:
    cache = array(3, 5, 4)
    cache.flags.writeable = False
    return [cache, array(3, 4), np.int64(1)]


def _overlapping() -> list[Any]:
    cache = array(3, 5, 4)
    return [cache, cache[:, 0], np.int64(1)]


REFUSED: dict[str, tuple[Fn, list[Any]]] = {
    "read-only": (store, _read_only()),
    "shares memory with new": (store, _overlapping()),
    "not C-contiguous": (store, [array(5, 3, 4).swapaxes(0, 1), array(3, 4), np.int64(1)]),
    "byte-swapped": (store, [array(3, 5, 4).astype(">f4"), array(3, 4), np.int64(1)]),
    "a float, not an array": (lambda cache, new, at: cache + 1, [1.5, array(3), np.int64(1)]),
    "the results are f32": (lambda cache, new, at: cache.sum(), [array(3), array(3), np.int64(1)]),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str) -> None:
    fn, arguments = REFUSED[reason]
    donating = gm.jit(fn, donate="cache")
    before = np.array(arguments[0])
    with pytest.raises(ValueError, match=f"GM047.*\n?.*cache.*{reason}"):
        donating(*arguments)
    np.testing.assert_array_equal(arguments[0], before)


def test_refused_after_a_call_that_was_not() -> None:
    donating = gm.jit(store, donate="cache")
    for _ in range(5):  # natively in the end
        donating(array(3, 5, 4), array(3, 4), np.int64(1))
    for arguments in (_read_only(), _overlapping()):
        with pytest.raises(ValueError, match="GM047"):
            donating(*arguments)
    with pytest.raises(ValueError, match="shares memory"):
        gm.jit(lambda a, b: (a + 1, b + 2), donate=("a", "b"))(*[array(4)] * 2)


def test_memory_that_others_share_is_seen_by_native_calls() -> None:
    """Neighbours in one block are no overlap; strided views around an array are."""
    donating = gm.jit(lambda cache, x: (cache + x.sum(), x[0] * 2), donate="cache")
    block = array(4, 6)
    for k in range(6):
        cache, x = block[k % 2], block[2:]
        want = cache + x.sum()
        assert donating(cache, x)[0] is cache
        np.testing.assert_allclose(cache, want, rtol=1e-6)
    for x in (block[::-1][:4], block[:, ::2], block[1:2]):
        for _ in range(5):
            with pytest.raises(ValueError, match="shares memory"):
                donating(block[1], x)
    empty = gm.jit(lambda cache, x: (cache * x.sum(), x), donate="cache")
    nothing = np.zeros((0, 3), np.float32)
    for _ in range(5):
        assert empty(nothing, nothing)[0] is nothing


def test_a_failed_check_is_told_once() -> None:
    donating = gm.jit(lambda cache, i: (cache + cache[i], i), donate="cache", check=("bounds",))
    cache = np.ones(4)
    for n in range(5):
        donating(cache, np.int64(1))
        assert (cache == 2.0 ** (n + 1)).all()
    with pytest.raises(IndexError):
        donating(cache, np.int64(9))


def test_captured_arrays() -> None:
    """What was captured is a copy by then; a write to it is noticed as any other."""
    weights = array(512, 512, seed=3)
    was = weights.copy()
    donating = gm.jit(lambda cache: cache + weights, donate="cache")
    donating(array(512, 512))
    assert donating(weights) is weights
    np.testing.assert_array_equal(weights, 2 * was)
    np.testing.assert_array_equal(donating(np.zeros_like(was)), 2 * was)


def test_names_a_parameter() -> None:
    with pytest.raises(TypeError, match="GM044"):
        gm.jit(store, donate="kv")
