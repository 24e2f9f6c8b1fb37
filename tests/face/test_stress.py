"""Everything at once: callers, thread counts, forks, signals, for a moment; results stay right."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import graphmill as gm
from graphmill.runtime import threads

SECONDS = float(os.environ.get("GRAPHMILL_STRESS_SECONDS", "1.5"))


def functions():
    random_state = np.random.default_rng(0)

    def array(*shape):
        return random_state.standard_normal(shape).astype(np.float32)

    weights = array(300, 300)
    return {
        "elementwise": (gm.jit(lambda x: np.exp(x) * 2 + x), (array(60_000),)),
        "product": (gm.jit(lambda a, b: a @ b), (array(200, 300), array(300, 250))),
        "softmax": (gm.jit(gm.nn.softmax), (array(400, 300),)),
        "captured": (gm.jit(lambda x: np.tanh(x @ weights)), (array(100, 300),)),
        "sort": (gm.jit(lambda x: np.sort(x, axis=-1)), (array(100, 500),)),
        "small": (gm.jit(lambda x: x + 1), (array(7),)),
        "dict": (gm.jit(lambda p: p["a"] * p["b"][0]), ({"a": array(30_000), "b": [array(1)]},)),
    }


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_calls_from_everywhere_stay_right():
    fs = functions()
    expected = {name: f(*args) for name, (f, args) in fs.items()}
    stop, bad, alarms = time.monotonic() + SECONDS, [], []

    def right(name):
        f, args = fs[name]
        return np.array_equal(f(*args), expected[name])

    def call(seed):
        choice = random.Random(seed).choice
        while time.monotonic() < stop:
            name, count = choice(list(fs)), choice([0] * 9 + [1, 2, 3, 7])
            with threads.threads(count or threads.num_threads()):
                bad.extend([name] if not right(name) else [])

    def resize():
        while time.monotonic() < stop:
            threads.set_num_threads(random.choice([1, 2, 4, 9]))
            time.sleep(0.01)

    def fork():
        while time.monotonic() < stop:
            child = os.fork()
            if child == 0:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(100)
                os._exit(0 if all(map(right, fs)) else 1)
            if os.waitpid(child, 0)[1]:
                bad.append("fork")

    old = signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    running = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    running += [threading.Thread(target=resize), threading.Thread(target=fork)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(200)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)
    threads.set_num_threads(2)
    assert not bad and not any(thread.is_alive() for thread in running) and alarms


def test_an_idle_process_uses_no_time():
    x = np.ones(1 << 20, np.float32)
    f = gm.jit(lambda x: np.exp(x) + 1, threads=4)
    for _ in range(20):
        f(x)
    for _ in range(100):  # workers sleep soon, threads of other tests may have something to do
        before = time.process_time()
        time.sleep(0.3)
        if time.process_time() - before < 0.01:
            return
    raise AssertionError("it never comes to rest")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_compile_that_were_forked_while_others_did(monkeypatch):
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")
    x = np.ones(9, np.float32)

    def compiled(factor):
        return gm.jit(lambda x: np.exp(x) * factor)

    def is_right():
        return np.array_equal(gm.jit(lambda x: x * 3 + 1)(x), x * 4)

    # modules that another thread is importing stay half imported in a child
    assert is_right() and compiled(np.float32(1))(x).shape == (9,)
    stop = time.monotonic() + SECONDS

    def compiling(number):
        while time.monotonic() < stop:
            number += 2
            compiled(np.float32(number))(x)

    running = [threading.Thread(target=compiling, args=(k,)) for k in range(2)]
    for thread in running:
        thread.start()
    codes = []
    while not codes or time.monotonic() < stop:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(100)
            os._exit(0 if is_right() else 1)
        codes.append(os.waitpid(child, 0)[1])
    for thread in running:
        thread.join(100)
    assert codes and not any(codes)


OUTLIVING = """
import numpy as np
import graphmill as gm
from graphmill.runtime import native

f = gm.jit(lambda x: np.tanh(x) + x)
x = np.full((300, 300), 0.001, np.float32)
kept = [native, lambda: native]
for _ in range(8):
    kept.append(f(x))
kept.append(kept)
native.kept = kept
"""


def test_results_may_outlive_our_modules_at_exit():
    ended = subprocess.run([sys.executable, "-c", OUTLIVING], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
