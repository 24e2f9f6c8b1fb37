"""The worker pool: exact threads, chunks that depend on nothing but their sizes, fork, nesting."""

import ctypes
import itertools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from graphmill.codegen.cpu import pool as pool_code
from graphmill.codegen.cpu.words import to_object
from graphmill.runtime import native, threads
from graphmill.runtime.layout import CONTEXT_WORDS, LAYOUT

WORD = ctypes.c_int64
BODIES = []
PARALLEL_FOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, native.BODY, ctypes.c_void_p, WORD, WORD)


def tasks():
    """The process's threads; one that has been joined may be among them for a while."""
    return set(os.listdir("/proc/self/task"))


def count_beyond(known, want):
    """Threads beside those that were known, when they have become as many as is wanted."""
    until = time.monotonic() + 100
    while len(tasks() - known) != want and time.monotonic() < until:
        time.sleep(0.005)
    return len(tasks() - known)


def loop(n, grain, count, body, look=None):
    """Run a loop; `look(context)` is called where compiled code would look for signals."""
    context = (WORD * CONTEXT_WORDS)(native.pool().parallel_for, count)
    if look is not None:
        looker = ctypes.CFUNCTYPE(WORD, ctypes.c_void_p)(lambda _: look(context) or 0)
        context[LAYOUT["POLL"]] = ctypes.cast(looker, ctypes.c_void_p).value
    parallel_for = PARALLEL_FOR(native.pool().parallel_for)
    errors = []

    def safe(data, begin, end, chunk):
        try:
            body(begin, end, chunk)
        except BaseException as error:
            errors.append(error)

    BODIES.append(native.BODY(safe))  # the pool knows loops by their addresses: none comes again
    parallel_for(ctypes.addressof(context), BODIES[-1], None, n, grain)
    if errors:
        raise errors[0]


def chunks(n, grain, count):
    """The pieces of a loop in order; while one runs, no other has its place."""
    seen, running = [], set()

    def body(begin, end, place):
        assert place not in running and 0 <= place < count
        running.add(place)
        seen.append((begin, end))
        running.discard(place)

    loop(n, grain, count, body)
    return sorted(seen)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("n, grain", [(0, 1), (1, 1), (5, 1), (100, 10), (101, 30), (1000, 999)])
def test_chunks_cover_the_range_once(n, grain, count):
    got = chunks(n, grain, count)
    assert got[0][0] == 0 and got[-1][1] == n
    assert all(a[1] == b[0] for a, b in itertools.pairwise(got))
    lanes = min(count, n // grain)
    sizes = [end - begin for begin, end in got]
    if grain > 1:  # how many depends on how long the first took
        assert 1 <= len(got) <= max(1, 6 * lanes + 1) and min(sizes) >= min(n, grain)
        return
    each = min(6, (n // max(lanes, 1)).bit_length()) if lanes > 1 else 1
    assert len(got) == max(lanes, 1) * each
    for lane in range(lanes):  # what is left is halved from chunk to chunk
        own = sizes[lane * each : (lane + 1) * each]
        assert all(sum(own[i + 1 :]) in (a, a - 1) for i, a in enumerate(own[:-1]))
    assert got == chunks(n, grain, count)


def test_a_slow_chunk_keeps_only_its_own_thread():
    """The others run what else was in its lane, and the same lanes serve the next loops."""
    first = threading.Event()

    def body(begin, end, place):
        if begin == 0:
            first.wait(100)
        done.add(begin)
        if len(done) == 5:
            first.set()

    for count in (2, 4, 3, 2):
        first.clear()
        done = set()
        loop(8, 1, 2, body) if count == 2 else chunks(64, 1, count)
        assert count != 2 or first.is_set()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("n, grain", [(16, 1), (100, 1), (1000, 3), (5000, 100)])
def test_parts_of_a_loop_that_may_be_long_cover_it_once(n, grain, count):
    for seconds in (0, 0.002):
        seen, looks = [], []

        def body(begin, end, place, seconds=seconds, seen=seen):
            time.sleep(seconds * (end - begin) / n * 100)
            seen.append((begin, end))

        loop(n, grain, count, body, looks.append)
        seen.sort()
        assert seen[0][0] == 0 and seen[-1][1] == n and looks
        assert all(a[1] == b[0] for a, b in itertools.pairwise(seen))
        assert min(end - begin for begin, end in seen) >= grain


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_long_loop_ends_where_a_handler_has_raised(count):
    done, looks = set(), []

    def look(context):
        looks.append(len(done))
        if len(looks) == 3:
            context[LAYOUT["STOPPED"]] = 1

    def body(begin, end, place):
        time.sleep(0.01 * (end - begin))
        done.update(range(begin, end))

    loop(2000, 1, count, body, look)  # long, for others go on while the machine holds up the caller
    assert len(looks) == 3 and 0 < len(done) < 1500
    ended = (WORD * CONTEXT_WORDS)(native.pool().parallel_for, count)
    ended[LAYOUT["STOPPED"]] = 1
    PARALLEL_FOR(native.pool().parallel_for)(ctypes.addressof(ended), BODIES[-1], None, 9, 1)
    assert len(done) < 1500


def test_loops_of_changing_sizes_back_to_back():
    for k in range(3000):
        n, count = 1 + k * 7 % 40, 1 + k % 6
        total = []
        loop(n, 1, count, lambda begin, end, place, total=total: total.append(end - begin))
        assert sum(total) == n


@pytest.mark.parametrize("count", [2, 5, 3, 1, 8])
def test_exact_thread_count(count):
    native.pool().set_threads(1)
    known = tasks()
    for _ in range(2):
        loop(1000, 1, count, lambda *_: None)
        assert len(tasks() - known) == count - 1 == native.pool().workers()
    native.pool().set_threads(1)
    assert count_beyond(known, 0) == 0


def test_set_num_threads_ends_workers_and_scope_adds_them():
    native.pool().set_threads(1)
    known = tasks()
    with threads.threads(4):
        loop(100, 1, threads.num_threads(), lambda *_: None)
        assert len(tasks() - known) == 3
    assert count_beyond(known, 1) == 1 == native.pool().workers()
    threads.set_num_threads(1)
    assert count_beyond(known, 0) == 0


def test_workers_take_part():
    together = threading.Barrier(4)
    loop(4, 1, 4, lambda *_: together.wait(100))  # four threads, or it breaks


def test_small_loops_wake_workers_only_when_they_come_one_after_the_other():
    """Items of more than one in a piece are small: the caller's first piece tells how small."""

    def quick(begin, end, place):
        places.add(place)

    for _ in range(100):  # the worker may not sleep yet, the machine may hold up the first piece
        loop(4, 1, 2, lambda *_: None)
        time.sleep(0.05)
        places = set()
        loop(8, 2, 2, quick)
        if places == {0}:
            break
    assert places == {0}
    together = threading.Barrier(2)
    time.sleep(0.05)

    def slow(begin, end, place):
        if begin == 0:
            time.sleep(0.01)
        else:
            together.wait(100)  # two threads, or it breaks

    loop(6, 2, 2, slow)


def test_nested_loops_run_on_their_own_thread():
    inner = []

    def body(begin, end, place):
        loop(40, 1, 4, lambda *piece: inner.append((threading.get_native_id(), piece)))

    loop(4, 1, 4, body)
    assert [piece for _, piece in inner] == [(0, 40, 0)] * 4


def test_concurrent_loops_all_finish():
    wrong, done = [], []

    def caller():
        for _ in range(150):
            got = chunks(300, 1, 3)
            if got[0][0] != 0 or got[-1][1] != 300 or sum(b - a for a, b in got) != 300:
                wrong.append(got)
        done.append(1)

    callers = [threading.Thread(target=caller) for _ in range(6)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(200)
    assert len(done) == 6 and not wrong


def test_resizing_while_loops_run():
    stop = threading.Event()
    counts = []

    def caller():
        while not stop.is_set():
            counts.append(len(chunks(64, 1, 4)))

    runner = threading.Thread(target=caller)
    runner.start()
    for k in range(60):
        native.pool().set_threads(1 + k % 5)
    stop.set()
    runner.join(200)
    assert set(counts) <= {1, 20}


def in_child(body):
    """Exit status of a forked child that runs `body`; it is killed after 100 s."""
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        try:
            body()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_child_starts_without_workers_and_rebuilds():
    loop(100, 1, 3, lambda *_: None)

    def body():
        assert len(tasks()) == 1 and native.pool().workers() == 0
        together = threading.Barrier(3)
        loop(3, 1, 3, lambda *_: together.wait(100))  # three threads, or it breaks
        assert len(tasks()) == 3
        assert in_child(lambda: loop(100, 1, 2, lambda *_: None)) == 0

    assert in_child(body) == 0
    assert len(chunks(100, 1, 3)) == 18


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_where_the_kernel_cannot_wipe_pages(monkeypatch):
    code = to_object(pool_code.source(), constants={"MADV_WIPEONFORK": 9999})
    monkeypatch.setattr(native, "_pool", native.Pool(code))
    loop(100, 1, 3, lambda *_: None)

    def body():
        assert native.pool().workers() == 0
        loop(100, 1, 3, lambda *_: None)
        assert native.pool().workers() == 2

    assert in_child(body) == 0
    assert native.pool().workers() == 2
    native.pool().set_threads(1)


def test_systems_without_calls_for_affinity(monkeypatch):
    source = pool_code.source()
    for name in ("sched_getcpu", "sched_getaffinity", "pthread_setaffinity_np"):
        assert name in source
        source = source.replace(name, f"gm_missing_{name}")
    monkeypatch.setattr(native, "_pool", native.Pool(to_object(source)))
    together = threading.Barrier(3)
    loop(3, 1, 3, lambda *_: together.wait(100))
    native.pool().set_threads(1)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_another_thread_is_in_a_loop():
    inside, leave = threading.Event(), threading.Event()

    def body(begin, end, chunk):
        inside.set()
        leave.wait(100)

    other = threading.Thread(target=loop, args=(2, 1, 2, body))
    other.start()
    inside.wait(100)
    assert in_child(lambda: loop(100, 1, 3, lambda *_: None)) == 0
    leave.set()
    other.join()


def test_workers_have_every_signal_blocked():
    native.pool().set_threads(1)
    known = tasks()
    loop(100, 1, 2, lambda *_: None)
    (worker,) = tasks() - known
    status = Path(f"/proc/self/task/{worker}/status").read_text()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        assert blocked >> (number - 1) & 1


def test_idle_workers_sleep():
    loop(100, 1, 4, lambda *_: None)
    for _ in range(100):  # threads of other tests may have something to do
        used = time.process_time()
        time.sleep(0.4)
        if time.process_time() - used < 0.1:
            return
    raise AssertionError("they never sleep")


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"])
def test_object_for_libraries_needs_libc_only(triple, tmp_path):
    path = tmp_path / "pool.o"
    path.write_bytes(pool_code.object_code(triple))
    try:
        names = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no nm here")
    undefined = {line.split()[-1] for line in names.splitlines() if " U " in line}
    system = {
        "mmap",
        "madvise",
        "getpid",
        "clock_gettime",
        "calloc",
        "free",
        "sched_yield",
        "sched_getcpu",
        "sched_getaffinity",
    }
    assert {n for n in undefined if not n.startswith("pthread_")} <= system
    for name in pool_code.SYMBOLS:
        assert f" T {name}\n" in names
