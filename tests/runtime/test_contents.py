"""Writes to captured arrays: seen whoever makes them, by the kernel's record or by digests."""

import ctypes
import gc
import itertools
import mmap
import os
import random
import signal
import threading
from multiprocessing import shared_memory

import numpy as np
import pytest

from graphmill.runtime import contents, knobs, native, pages
from graphmill.runtime.contents import Bytes
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.guards import Watch
from tests.runtime.handwritten import add_executable

COUNT = 60_000  # of f32: 58 whole pages, and two ends
LIBC = ctypes.CDLL(None)


@pytest.fixture
def digest():
    function = native.digest()
    if function is None:
        pytest.skip("no native call path on this Python")
    return function


@pytest.fixture
def tracked(digest):
    if pages.region(0, 0, None) is None and pages._current() is None:
        pytest.skip("this kernel does not record writes, or may not be asked")
    return digest


def array(count=COUNT):
    return np.arange(1, count + 1, dtype=np.float32)


def address(x):
    return x.__array_interface__["data"][0]


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def read_into(x):
    """The kernel writes: a system call copies a byte to the array's middle."""
    ends = os.pipe()
    os.write(ends[1], b"\xff")
    with open(ends[0], "rb", buffering=0) as pipe:
        pipe.readinto(memoryview(x).cast("B")[4 * (COUNT // 2) :])
    os.close(ends[1])


def swapped(x):
    x[:2] = x[1::-1].copy()


EDITS = {
    "element": lambda x: x.__setitem__(COUNT // 2, 0),
    "first": lambda x: x.__setitem__(0, 0),
    "last": lambda x: x.__setitem__(-1, 0),
    "slice": lambda x: x.__setitem__(slice(1, None, 2000), 0),
    "all": lambda x: x.fill(7),
    "out=": lambda x: np.negative(x, out=x),
    "in place": lambda x: np.add(x, 1, out=x, where=x > COUNT // 2),
    "view": lambda x: x.reshape(100, -1)[50:, 3].__setitem__(0, 0),
    "bytes": lambda x: x.view("u1").__setitem__(2 * COUNT + 1, 255),
    "copyto": lambda x: np.copyto(x, x[::-1].copy()),
    "sort": lambda x: x[::-1].sort(),
    "buffer": lambda x: memoryview(x).cast("B").__setitem__(2 * COUNT, 1),
    "memset": lambda x: LIBC.memset(ctypes.c_void_p(address(x) + 2 * COUNT), 1, 1),
    "memmove": lambda x: ctypes.memmove(address(x), address(x) + 2 * COUNT, 5000),
    "read": read_into,
    "thread": lambda x: in_thread(x.__setitem__, COUNT // 2, 0),
    "two elements": swapped,
    "zeroed pages": lambda x: LIBC.madvise(
        ctypes.c_void_p(-(-address(x) // mmap.PAGESIZE) * mmap.PAGESIZE), 4 * mmap.PAGESIZE, 4
    ),
}


@pytest.mark.parametrize("way", ["pages", "digests"])
@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_seen(edit, way, digest):
    # a mapping of its own: giving pages back must not hit the allocator's
    memory = mmap.mmap(-1, 4 * COUNT + 100, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    x = np.frombuffer(memory, np.float32, COUNT, 64)
    x[:] = array()
    with knobs.scope(track_writes={"pages": None, "digests": False}[way]):
        watched = Bytes(x, digest)
    assert watched.valid() and watched.valid()
    EDITS[edit](x)
    assert not watched.valid() and not watched.valid()
    x[:] = array()
    assert watched.valid() and watched.valid()


@pytest.mark.parametrize("offset", [0, 1, 500])
def test_an_edit_back_keeps_what_was_compiled(offset, tracked):
    x = array()
    watched = Bytes(x[offset:], tracked)
    assert watched.memory(tracked).regions
    for _ in range(3):
        x[COUNT // 2], kept = 0, x[COUNT // 2]
        x[COUNT // 2] = kept
        assert watched.valid() and watched.memory(tracked).regions


def test_random_edits_through_overlapping_views_are_seen_by_all(tracked):
    random.seed(1)
    x = array()
    spans = [(0, COUNT), (0, COUNT // 2), (COUNT // 4, COUNT), (20_000, 40_000), (0, COUNT)]
    views = {k: x[a:b] for k, (a, b) in enumerate(spans)}
    watched = {k: Bytes(view, tracked) for k, view in views.items()}
    before = {k: view.copy() for k, view in views.items()}
    for _ in range(300):
        for _ in range(random.choice([0, 0, 1, 2])):
            x[random.randrange(COUNT)] += random.choice([0, 1, -1])
        for k in random.sample(sorted(views), len(views)):
            same = np.array_equal(views[k], before[k])
            assert watched[k].valid() == same
            if not same and random.random() < 0.7:
                watched[k], before[k] = Bytes(views[k], tracked), views[k].copy()


def test_threads_that_look_at_once_agree(tracked):
    x = array()
    watched = Bytes(x, tracked)
    wrong = []

    def look(changed):
        for _ in range(20):
            if watched.valid() == changed:
                wrong.append(changed)

    for k in range(6):
        x[1 + k * 9000] = 0
        lookers = [threading.Thread(target=look, args=(True,)) for _ in range(4)]
        for t in lookers:
            t.start()
        for t in lookers:
            t.join(100)
        x[1 + k * 9000] = array()[1 + k * 9000]
        look(False)
    assert not wrong


def shared_with_others(file):
    """Arrays in memory that somebody else may write to, and how they would."""
    array().tofile(file)
    block = shared_memory.SharedMemory(create=True, size=4 * COUNT)
    block.unlink()
    anonymous = mmap.mmap(-1, 4 * COUNT)

    fresh = itertools.count(1)

    def write():
        with open(file, "r+b") as writer:
            writer.write(bytes([next(fresh)]))

    return {
        "file": (np.memmap(file, np.float32, "r+"), write),
        "file, read only": (np.memmap(file, np.float32, "r"), write),
        "file, copy on write": (np.memmap(file, np.float32, "c"), write),
        "shared memory": (
            np.ndarray(COUNT, np.float32, block.buf),
            lambda: block.buf.__setitem__(0, 1),
        ),
        "shared mapping": (np.frombuffer(anonymous, np.float32), lambda: anonymous.write(b"1")),
    }, block


def test_memory_that_others_write_is_digested(digest, tmp_path):
    arrays, block = shared_with_others(tmp_path / "array")
    for x, write in arrays.values():
        watched = Bytes(x, digest)
        assert watched.memory(digest).regions == [] and watched.valid()
        write()
        assert not watched.valid()
    del arrays, x, watched
    gc.collect()
    block.close()


def test_lost_watches_read_as_written(tracked):
    x = array()
    watched = Bytes(x, tracked)
    region = watched.pages
    assert region.untouched(watched._seen.epoch)
    assert not region.untouched(watched._seen.epoch + 1)
    region.tracker._release(region.start, region.stop, None)
    assert not region.untouched(watched._seen.epoch)
    assert watched.valid() and region.untouched(watched._seen.epoch)


def test_closed_descriptors_leave_the_digest(tracked, monkeypatch):
    monkeypatch.setattr(pages, "_tracker", None)
    x = array()
    watched = Bytes(x, tracked)
    own = pages._tracker
    os.close(own._watching)
    os.close(own._pagemap)
    assert watched.valid() and watched.memory(tracked).regions == []
    x[3000] = 0
    assert not watched.valid()


def test_false_alarms_end_in_digests(tracked):
    x = array()
    watched = Bytes(x, tracked)
    for _ in range(contents._PATIENCE + 1):
        assert watched.memory(tracked).regions
        x[3000] = x[3000]
        assert watched.valid()
    assert watched.memory(tracked).regions == [] and watched.valid()
    x[3000] = 0
    assert not watched.valid()


def test_pages_are_given_back_with_the_last_watch(tracked):
    x = array(1_000_000)
    first, second = Bytes(x, tracked), Bytes(x[:], tracked)
    region = second.pages
    assert first.pages is region and first.valid() and second.valid()
    start, stop, tracker = region.start, region.stop, region.tracker
    del first, region
    gc.collect()
    assert second.valid() and second.memory(tracked).regions
    del second
    gc.collect()
    probe = pages.Region(tracker, start, stop)
    assert not probe.untouched(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_sees_its_own_edits(tracked):
    x = array()
    watched = Bytes(x, tracked)
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        good = watched.valid()
        fresh = Bytes(x, tracked)
        good = good and bool(fresh.memory(tracked).regions) and fresh.valid()
        x[30_000] = 0
        os._exit(0 if good and not watched.valid() and not fresh.valid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert watched.valid() and watched.memory(tracked).regions
    x[30_000] = 0
    assert not watched.valid()


def test_unpopulated_and_huge_pages(tracked):
    zeros = np.zeros(8 << 20, np.float32)  # pages that nobody has written to yet
    watched = Bytes(zeros, tracked)
    assert watched.memory(tracked).regions and watched.valid()
    ones = np.ones(8 << 20, np.float32)  # on huge pages, where the system gives them
    watched_ones = Bytes(ones, tracked)
    for x, one in ((zeros, watched), (ones, watched_ones)):
        for place in (5, 1 << 20, (8 << 20) - 5):
            x[place] += 1
            assert not one.valid()
            x[place] -= 1
            assert one.valid()


class Changed:
    """A function of a captured array, compiled again at each change of it."""

    def __init__(self, weights):
        self.compiled, self.weights = [], weights
        self.call = Dispatcher(self.compile, watch=lambda: Watch(None, native.digest))

    def compile(self, args):
        self.call.watch_arrays([self.weights])
        self.compiled.append(float(self.weights[COUNT // 2]))
        return add_executable(args[0].shape)


@pytest.mark.parametrize("track", [None, False])
def test_calls_see_edits(track, digest):
    if native.call_path() is None:
        pytest.skip("no native call path on this Python")
    with knobs.scope(track_writes=track):
        made = Changed(array())
        x = np.ones(3, np.float32)
        for k, edit in enumerate(EDITS.values()):
            made.weights[:] = k
            for _ in range(4):
                made.call(x, x)
            assert made.compiled[-1] == k
            if edit is not EDITS["zeroed pages"]:
                edit(made.weights)
                made.call(x, x)
                made.weights[COUNT // 2] = -k - 0.5
                made.call(x, x)
                assert made.compiled[-1] == -k - 0.5


def of(x, digest):
    return Bytes.of_all([x], digest, in_turn)[0]


def in_turn(tasks):
    for task in tasks:
        task()


def test_watches_share_what_nobody_has_written_to(tracked):
    x = np.arange(1 << 16, dtype=np.float64)
    first = of(x, tracked)
    assert of(x[:], tracked) is first
    x[3] = -1
    second = of(x, tracked)
    assert second is not first and not first.valid() and second.valid()
    assert second.digest != first.digest
