"""Dispatch: one compilation per signature from many threads, and who keeps what alive."""

import gc
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from graphmill.runtime.dispatch import Dispatcher
from tests.runtime.handwritten import Counting, add_executable, adder, f32, fast, symbolic

pytestmark = pytest.mark.usefixtures("needs_call_path")


def test_one_compilation_under_concurrent_first_calls():
    started = threading.Barrier(8)

    def compile(args):
        time.sleep(0.05)
        return add_executable(args[0].shape)

    dispatcher = Counting(compile)
    results = []

    def call(n):
        started.wait()
        results.append((n, dispatcher(f32(n), f32(n))))

    callers = [threading.Thread(target=call, args=(3 + k % 2,)) for k in range(8)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(200)
    assert len(results) == 8 and len(dispatcher.compiled) == 2
    for n, out in results:
        np.testing.assert_array_equal(out, f32(n) * 2)


def test_signatures_compile_concurrently():
    both = threading.Barrier(2)

    def compile(args):
        both.wait(100)
        return add_executable(args[0].shape)

    dispatcher = Counting(compile)
    callers = [threading.Thread(target=dispatcher, args=(f32(n), f32(n))) for n in (3, 4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(200)
    assert len(dispatcher.compiled) == 2 and not both.broken


def test_a_failed_compilation_is_tried_again_by_those_who_wait():
    attempts, caught = [], []

    def compile(args):
        attempts.append(1)
        time.sleep(0.05)
        if len(attempts) == 1:
            raise KeyError("no")
        return add_executable(args[0].shape)

    dispatcher = Dispatcher(compile)

    def call():
        try:
            dispatcher(f32(4), f32(4))
        except KeyError as error:
            caught.append(error)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(200)
    assert caught
    np.testing.assert_array_equal(dispatcher(f32(4), f32(4)), f32(4) * 2)


def test_compiling_a_function_with_itself_is_an_error():
    dispatcher = Dispatcher(lambda args: dispatcher(*args))
    with pytest.raises(RecursionError, match="compilation"):
        dispatcher(f32(4), f32(4))


def test_calls_from_many_threads():
    dispatcher = symbolic()
    wrong = []

    def call(seed):
        for k in range(300):
            x = f32((seed * 7 + k * 13) % 50 + (k % 50 == 0) * 30_000, 3)
            if not np.array_equal(dispatcher(x, x), x + x):
                wrong.append((seed, k))

    callers = [threading.Thread(target=call, args=(k,)) for k in range(6)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(200)
    assert not wrong


def test_reference_counts_stay():
    dispatcher = adder()
    small, large = f32(4), f32(300, 300)
    dtype = small.dtype
    for x in (small, large):
        dispatcher(x, x)
    dispatcher(small, small)

    def counts():
        gc.collect()
        return sys.getrefcount(small), sys.getrefcount(large), sys.getrefcount(dtype)

    before = counts()
    for _ in range(200):
        dispatcher(small, small)
        dispatcher(large, large)
        dispatcher(small[::-1], small)
        with pytest.raises(TypeError):
            dispatcher(small, None)
    after = counts()
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < 5


def test_dispatchers_are_collected():
    dispatcher = adder()
    dispatcher(f32(4), f32(4))
    fast(dispatcher, f32(4), f32(4))
    executable = weakref.ref(dispatcher.executables[0])
    gone = weakref.ref(dispatcher)
    del dispatcher
    gc.collect()
    assert gone() is None and executable() is None


def test_the_function_outlives_its_dispatcher():
    dispatcher = adder()
    dispatcher(f32(4), f32(4))
    function = dispatcher.__call__
    del dispatcher
    gc.collect()
    np.testing.assert_array_equal(function(f32(4), f32(4)), f32(4) * 2)
    np.testing.assert_array_equal(function(f32(4)[::-1], f32(4)), [3, 3, 3, 3])


def test_forget_compiles_again():
    dispatcher = adder()
    for _ in range(3):
        dispatcher(f32(4), f32(4))
    dispatcher.forget()
    dispatcher(f32(4), f32(4))
    assert len(dispatcher.compiled) == 2
