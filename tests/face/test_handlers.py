"""Handlers of signals that raise at any moment: what they raise comes out, all goes on.

The exceptions are kept meanwhile, as an interactive session keeps the last one: blocks that end
with them are still open.
"""

import builtins
import gc
import signal
import sys
import threading
import warnings
from types import ModuleType

import numpy as np
import pytest

import graphmill as gm
from graphmill import api, collector, draws, driver
from graphmill.codegen.cpu import generate
from graphmill.frontend import adoption, trace
from graphmill.frontend.state import tracing
from graphmill.passes import manager
from graphmill.runtime import cache, dispatch, knobs, native, stateful
from graphmill.runtime import threads as counts
from graphmill.tables import Table
from tests.handlers import Enough, at_each_step
from tests.runtime.handwritten import add_executable, f32

# of a file that `open` has just given, when the handler raises before anybody has it
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

X = np.linspace(0, 1, 12).reshape(3, 4)


def test_collections_go_on():
    for _ in at_each_step(collector.no_collections(lambda: gc.isenabled()), collector):
        assert gc.isenabled()


def doubled(x):
    out = np.zeros(x.shape[0])  # has NumPy's function replaced while it is traced
    out[:] = x[:, 0] * 2
    return out


def test_tracing_begins_anew():
    zeros, length = np.zeros, builtins.len
    kept = []
    for error in at_each_step(lambda: trace.trace(doubled, (X,)), trace, adoption, every=3):
        kept.append(error)
        assert not tracing()
        with adoption.adopted():
            pass
        assert np.zeros is zeros and builtins.len is length
    assert len(kept) > 20


def test_compiling_begins_anew(monkeypatch):
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")
    f = gm.jit(doubled)
    kept = []
    for error in at_each_step(lambda: f(X), api, driver, manager, generate, every=9):
        kept.append(error)
        assert gc.isenabled() and not tracing()
    assert len(kept) > 5
    np.testing.assert_array_equal(f(X), doubled(X))


def test_a_call_compiles_again():
    """No compilation that has ended is waited for, by the thread itself least of all."""
    made = dispatch.Dispatcher(lambda args: add_executable(args[0].shape))
    size, kept = 3, []

    def call():
        np.testing.assert_array_equal(made(f32(size), f32(size)), f32(size) * 2)

    for error in at_each_step(call, dispatch):
        kept.append(error)
        other = threading.Thread(target=call)
        other.start()
        other.join(100)
        call()
        assert not other.is_alive() and not made._lock.locked()
        size += 1
    assert len(kept) > 20


def test_variables_are_assigned_together():
    first, second = gm.Variable(np.zeros(3)), gm.Variable(np.zeros(3))

    @gm.jit
    def step(x):
        first.assign(first + x)
        second.assign_add(1.0)
        return second + x

    step(np.ones(3))
    executable = step.executables[0]
    kept = []
    for error in at_each_step(lambda: executable.run(np.ones(3)), stateful):
        kept.append(error)
        assert not first.lock.locked() and not second.lock.locked()
        np.testing.assert_array_equal(first.value, second.value)
    assert len(kept) > 3


def test_random_numbers_are_numpys_own():
    def watched():
        with draws.watched(True):
            pass

    for _ in at_each_step(watched, draws):
        with draws.watched(True):
            pass
        assert vars(np)["random"] is draws._random()


def scoped():
    with counts.threads(1), knobs.scope(debug=0):
        pass


def profiled():
    with gm.profile():
        pass


@pytest.mark.parametrize("block", [scoped, profiled])
def test_settings_are_as_before(block):
    before = counts.num_threads()
    for _ in at_each_step(block, counts, knobs):
        pass
    assert counts.num_threads() == before and not counts._scopes
    counts.publish()
    path = native.call_path()
    assert path is None or path.host[native.LAYOUT["HOST_BYPASS"]] == 0


def test_the_cache_is_used_as_before(tmp_path):
    """A limit of time is an OSError, too."""
    store, key = cache.Cache(tmp_path, 1 << 20), cache.key_of("some")

    def limit(*_):
        raise TimeoutError("enough")

    old = signal.signal(signal.SIGUSR1, limit)
    try:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error")
            patch.setattr(cache.Cache, "_write", limit)
            with pytest.raises(TimeoutError):
                store.put(key, b"content")
            patch.setattr(cache.Path, "read_bytes", limit)
            store.ready(create=True)
            with pytest.raises(TimeoutError):
                store.get(key)
    finally:
        signal.signal(signal.SIGUSR1, old)
    store.put(key, b"content")
    assert store.get(key) == b"content"


def test_a_failure_that_comes_of_a_handler_is_none_of_the_compiler(monkeypatch):
    def handler(*_):
        raise Enough

    def failing(*_, **__):
        try:
            handler()
        except Enough:
            raise KeyError("a lock was not taken") from None

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(driver, "run_pipeline", failing)
            f = gm.jit(lambda x: x + 41)
            with knobs.scope(cache=False), pytest.raises(Enough):
                f(X)
            try:
                handler()  # what was raised before the call is none of its business
            except Enough:
                patch.setattr(driver, "run_pipeline", lambda *_, **__: {}["no"])
                with knobs.scope(cache=False), pytest.raises(gm.InternalError):
                    f(X)
    finally:
        signal.signal(signal.SIGUSR1, old)
    np.testing.assert_array_equal(f(X), X + 41)


HALF = """
from somewhere import TABLE, steps
TABLE.enter("one", lambda: two(), __name__)
steps.pop()()
two = lambda: 2
TABLE.enter("two", two, __name__)
"""


def test_an_import_that_has_ended_early_begins_anew(tmp_path, monkeypatch):
    """What it has entered by then is of no use: names that it needs are missing."""
    somewhere = ModuleType("somewhere")
    somewhere.TABLE, somewhere.steps = Table(), [lambda: None, lambda: {}["enough"]]
    monkeypatch.setitem(sys.modules, "somewhere", somewhere)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_of_it.py").write_text(HALF)
    with pytest.raises(KeyError, match="enough"):
        __import__("half_of_it")
    assert "one" in somewhere.TABLE and somewhere.TABLE.find("one")() == 2
    assert somewhere.TABLE.find("two")() == 2 and somewhere.TABLE.find("three") is None
    with pytest.raises(AssertionError, match="one is entered twice"):
        somewhere.TABLE.enter("one", None, "half_of_it")
    sys.modules.pop("half_of_it")
