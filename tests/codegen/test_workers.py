"""The threads of one compilation, and a signal's handler that raises in the midst of it."""

import sys
import threading
import time

import pytest

from graphmill.codegen import workers
from graphmill.codegen.workers import Workers


class Enough(Exception):
    pass


@pytest.mark.parametrize("started", [True, False])
def test_a_signals_handler_may_raise_while_a_thread_starts(monkeypatch, started):
    """Its error is what the caller gets, and no thread is waited for that never came."""
    start = workers.start_new_thread

    def begin(*arguments):
        if started:
            start(*arguments)
        raise Enough

    monkeypatch.setattr(workers, "start_new_thread", begin)
    with pytest.raises(Enough), Workers(2) as working:
        working.start(lambda: None)


def raising_after(steps):
    """A tracer that raises before a step of the calling thread in the module, and its count."""
    left = [steps]

    def trace(frame, event, argument):
        if frame.f_code.co_filename != workers.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if left[0] == 0:
                raise Enough
        return trace

    return trace, left


def test_it_may_raise_at_every_step():
    """The error comes out as itself; what has begun ends, and nothing begins any more."""
    before = sys.gettrace()
    for steps in range(1, 10_000):
        lock, begun, ended = threading.Lock(), [], []

        def task(lock=lock, begun=begun, ended=ended):
            begun.append(1)
            with lock:
                ended.append(1)

        trace, left = raising_after(steps)
        try:
            sys.settrace(trace)
            with Workers(2) as working:
                for _ in range(3):
                    working.start(task)
            assert left[0] > 0 or len(ended) == 3
        except Enough:
            pass
        finally:
            sys.settrace(before)
        if left[0] > 0:
            break
        so_far, until = len(begun), time.monotonic() + 100
        while len(ended) < so_far and time.monotonic() < until:
            time.sleep(0.001)
        assert len(ended) >= so_far
        with Workers(2) as working:
            working.start(lambda: None)
    assert steps > 100
    assert len(ended) == 3


def test_a_failed_block_leaves_no_thread_at_work():
    begun, go = threading.Event(), threading.Event()
    ended = []

    def task():
        begun.set()
        go.wait(60)
        ended.append(1)

    with pytest.raises(Enough), Workers(2) as working:
        working.start(task)
        assert begun.wait(60)
        threading.Timer(0.05, go.set).start()
        raise Enough
    assert ended == [1]
