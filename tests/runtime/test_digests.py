"""Digests of many pieces of memory at once are those of the pieces."""

import threading

import numpy as np
import pytest

from graphmill.runtime import native
from graphmill.runtime.contents import Bytes
from graphmill.runtime.digests import Batch


@pytest.fixture
def digest():
    function = native.digest()
    if function is None:
        pytest.skip("no native digest on this Python")
    return function


def at_once(tasks):
    threads = []
    for task in tasks:
        threads.append(threading.Thread(target=task))
        threads[-1].start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("sizes", [[], [0], [5], [40 << 20, 64, 0, 63, 1 << 16, 4097, 20 << 20]])
@pytest.mark.parametrize("run", [at_once, lambda tasks: [task() for task in tasks]])
def test_every_piece_has_its_digest(sizes, run, digest):
    data = np.random.default_rng(0).integers(0, 255, sum(sizes) + 1, np.uint8)
    starts = data.__array_interface__["data"][0] + np.cumsum([0, *sizes])
    pieces = [(int(start), size) for start, size in zip(starts, sizes, strict=False)]
    batch = Batch(digest, pieces)
    tasks = batch.tasks()
    assert len(tasks) <= max(1, len(sizes)) and bool(tasks) == bool(sizes)
    run(tasks)
    assert batch.found() == [digest(*piece) for piece in pieces]


def test_arrays_that_are_read_at_once_are_watched_like_any(digest):
    many = [np.full(k, k, np.float64) for k in (300_000, 1 << 17, 20_000, 9_000)]
    views = [*many, many[0][100:], many[1].reshape(-1, 2).T]
    together = Bytes.of_all(views, digest, at_once)
    alone = [Bytes(view, digest) for view in views]
    assert [one.digest for one in together] == [one.digest for one in alone]
    assert all(one.valid() for one in together)
    for number, array in enumerate(many):
        array[array.size // 2] += 1
        overlap = {0: [0, 4], 1: [1, 5]}.get(number, [number])
        assert [k for k, one in enumerate(together) if not one.valid()] == overlap
        array[array.size // 2] -= 1
