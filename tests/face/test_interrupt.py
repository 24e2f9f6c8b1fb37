"""Signals during a call: handlers run between the turns of long loops, and may end them."""

import gc
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import graphmill as gm
from graphmill.runtime import buffers

pytestmark = [
    # of a file that `open` has just given, when the handler raises before anybody has it
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(method="thread"),  # the other method's timer is what these tests set
]

LONG = 10**12  # turns: months


class Enough(Exception):
    pass


@contextmanager
def alarm(handler):
    """Has a handler called again and again within the block, and in nothing that comes after it."""
    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def raising(*_):
    """Once, or again if Python has lost it: so it is with the weak references of its imports."""
    signal.setitimer(signal.ITIMER_REAL, 20, 20)
    raise Enough


def repeated(turns, x):
    return gm.while_loop(lambda s: s[0] < turns, lambda s: (s[0] + 1, np.tanh(s[1])), (0, x))[1]


def scanned(turns, x):
    """Its turns are known beforehand; those that are left do nothing."""

    def step(carry, _):
        return gm.while_loop(lambda s: s[0] < turns, lambda s: (s[0] + 1, s[1] * 0.5), (0, carry))[
            1
        ], None

    return gm.scan(step, x, None, length=1000)[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("function", [repeated, scanned])
def test_a_handler_that_raises_ends_the_call(function, threads):
    f = gm.jit(function, threads=threads)
    x = np.full(100_000, 0.5, np.float32)
    want = f(2, x)
    for _ in range(4):  # by way of Python at first, then natively
        gc.collect()  # what other tests have left
        live = buffers.memory_info().live
        with pytest.raises(Enough), alarm(raising):
            f(LONG, x)
        assert buffers.memory_info().live == live
        np.testing.assert_array_equal(f(2, x), want)


def in_registers(turns, x):
    return gm.fori_loop(0, LONG, lambda i, z: z * 0.5 + i, x)


def coming_to_rest(turns, x):
    return gm.fori_loop(0, LONG, lambda i, z: np.where(z < 2, z * 1.5 + 0.1, z * 0.5), x)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("function", [in_registers, coming_to_rest])
def test_a_kernel_of_many_turns_is_ended(function, threads):
    f, x = gm.jit(function, threads=threads), np.full(3000, 0.5)
    for _ in range(4):  # while it is compiled, it may be, then by way of Python, then natively
        with pytest.raises(Enough), alarm(raising):
            f(0, x)


def test_calls_of_much_work_look_for_signals():
    """Between the parts of a kernel as well, which the worker pool's own tests show."""
    product, negative = gm.jit(lambda x: x @ x), gm.jit(lambda x: -x, dynamic={"x": ("n", "n")})
    for size in (30, 1100):
        product(np.ones((size, size)))
        assert bool(product.executables[-1].poll) == (size > 1000)
    negative(np.ones((3000, 3000)))
    assert negative.executables[0].poll


def test_a_handler_that_returns_does_not():
    calls = []
    f = gm.jit(repeated)
    x = np.ones(3000, np.float32)
    want = f(20_000, x)
    start = time.monotonic()
    with alarm(lambda *_: calls.append(1)):
        while len(calls) < 8 and time.monotonic() < start + 100:
            np.testing.assert_array_equal(f(20_000, x), want)
    assert len(calls) >= 8


def test_variables_keep_their_values():
    total = gm.Variable(np.zeros(4, np.float32))

    @gm.jit
    def step(turns):
        total.assign(total * 0 + repeated(turns, total * 0) + total + 1)
        return total.sum()

    for n in range(4):
        step(1)
        with pytest.raises(Enough), alarm(raising):
            step(LONG)
        assert (total.value == n + 1).all()


def test_loops_of_other_threads_go_on():
    f = gm.jit(repeated)
    x = np.ones(1000, np.float32)
    want, found = f(60_000, x), []
    thread = threading.Thread(target=lambda: found.append(f(60_000, x)))
    thread.start()  # it does not end well where a handler raises in it
    with pytest.raises(Enough), alarm(raising):
        f(LONG, x)
    thread.join(100)
    np.testing.assert_array_equal(found[0], want)


LOADED_TWICE = """
import sys
from importlib import import_module, util
import numpy as np
import graphmill as gm
from graphmill.codegen.cpu import lowering
from graphmill.frontend import array_functions
from graphmill.ir.ops import base
from graphmill.passes import manager

names = [f"ir.ops.{name}" for name in base.FAMILIES] + [f"passes.{n}" for n in manager.MODULES]
names += [f"codegen.cpu.{name}" for name in lowering.MODULES]
names += [f"frontend.{name}" for name in array_functions.FAMILIES]
for name in [f"graphmill.{name}" for name in names]:
    if name not in sys.modules:
        spec = util.find_spec(name)
        spec.loader.exec_module(util.module_from_spec(spec))  # as far as it got, at the most
        import_module(name)

x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(6, 10)
f = lambda x: np.sort(np.tanh(x @ x.T)[:, ::-1].cumsum(1))
np.testing.assert_allclose(gm.jit(f)(x), f(x), rtol=1e-5, atol=1e-6)
"""


def test_modules_whose_import_was_cut_short_are_loaded_anew():
    """Their ops, passes, lowerings and implementations of NumPy's functions enter a second time."""
    done = subprocess.run([sys.executable, "-c", LOADED_TWICE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
