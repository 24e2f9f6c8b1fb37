"""The caching allocator: blocks return, are reused, never shared, bounded, and behave as arrays."""

import gc
import threading

import numpy as np
import pytest

from graphmill.runtime import buffers, knobs, native

BIG = 1 << 20
F32 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def fresh():
    if native.call_path() is None:
        pytest.skip("no native call path on this Python")
    gc.collect()
    buffers.trim()
    yield
    knobs.memory_cache.reset()
    buffers.publish()


def test_blocks_return_when_the_last_view_dies():
    before = buffers.memory_info()
    x = buffers.empty((BIG,), F32)
    view = x[5:7].reshape(2, 1)
    address = buffers.address(x)
    assert buffers.memory_info().live - before.live >= 4 * BIG
    del x
    assert buffers.memory_info().live > before.live
    del view
    after = buffers.memory_info()
    assert after.live == before.live and after.cached >= 4 * BIG
    y = buffers.empty((BIG,), F32)
    assert buffers.address(y) == address
    assert buffers.memory_info().reused == after.reused + 1


def test_live_blocks_never_overlap():
    rng = np.random.default_rng(0)
    live = []
    for k in range(300):
        size = int(rng.integers(1 << 18, 1 << 22))
        array = buffers.empty((size,), np.dtype(np.uint8))
        array[:] = k % 251
        live.append((array, k % 251))
        if len(live) > 12:
            live.pop(int(rng.integers(len(live))))
        start, stop = zip(*sorted((buffers.address(a), buffers.address(a) + a.size)
                                  for a, _ in live), strict=True)  # fmt: skip
        assert all(a <= b for a, b in zip(stop[:-1], start[1:], strict=True))
    assert all((a == v).all() for a, v in live)


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 18) - 1, 1 << 18, (1 << 21) + 3, 1 << 24])
def test_arrays_are_ordinary(size):
    x = buffers.empty((size,), np.dtype(np.uint8))
    assert x.flags.carray and x.flags.owndata and x.base is None
    if size >= 1 << 18:
        assert buffers.address(x) % 64 == 0
    x[:] = 3
    copy = x.copy()
    del x
    assert (copy == 3).all()


@pytest.mark.parametrize(
    "shape, dtype", [((3, 0, 5), F32), ((), F32), ((512, 300), np.dtype("c16"))]
)
def test_shapes(shape, dtype):
    x = buffers.empty(shape, dtype)
    assert x.shape == shape and x.dtype == dtype


def test_resize_keeps_the_values():
    x = buffers.empty((BIG,), F32)
    x[:] = np.arange(BIG)
    x.resize(3 * BIG, refcheck=False)
    np.testing.assert_array_equal(x[:BIG], np.arange(BIG, dtype=np.float32))
    x.resize(1000, refcheck=False)
    np.testing.assert_array_equal(x, np.arange(1000))


def test_the_limit_holds():
    buffers.set_memory_limit(6 * BIG)
    arrays = [buffers.empty((BIG,), F32) for _ in range(4)]
    del arrays
    assert 0 < buffers.memory_info().cached <= 6 * BIG
    buffers.set_memory_limit(0)
    x = buffers.empty((BIG,), F32)
    del x
    assert buffers.memory_info().cached == 0


def test_trim_gives_everything_back():
    arrays = [buffers.empty((BIG << k,), F32) for k in range(3)]
    del arrays
    assert buffers.memory_info().cached > 0
    buffers.trim()
    assert buffers.memory_info().cached == 0


def test_threads_do_not_get_the_same_block():
    wrong = []

    def work(mark):
        for _ in range(200):
            x = buffers.empty((70_000,), np.dtype(np.int64))
            x[:] = mark
            if not (x == mark).all():
                wrong.append(mark)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_too_large():
    with pytest.raises((MemoryError, ValueError)):
        buffers.empty((1 << 60,), F32)


@pytest.mark.parametrize("value, text", [
    (np.zeros((2, 3), np.float32), "f32[2, 3]"), (np.zeros(2, ">i4"), "i32 (byte-swapped)[2]"),
    (np.zeros((), bool), "bool[]"), (np.zeros(1, "U3"), "<U3[1]"), ("x", "str"), (None, "NoneType"),
])  # fmt: skip
def test_describe(value, text):
    assert buffers.describe(value) == text
