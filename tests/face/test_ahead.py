"""The likely answer is got ready while arrays are read, and taken for the same contents alone."""

import sys
import threading

import numpy as np
import pytest

import graphmill as gm
from graphmill import knobs, packed, recall
from graphmill.ahead import Ready

X = np.sin(np.arange(4500.0, dtype=np.float32)).reshape(3, 1500)
W = np.random.default_rng(0).standard_normal((1500, 1100), dtype=np.float32)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps packed weights")


@pytest.fixture(autouse=True)
def own_cache(tmp_path):
    with knobs.scope(cache=True, cache_dir=str(tmp_path / "cache"), cache_size=1 << 30):
        yield


@pytest.fixture
def asked(monkeypatch):
    """Questions that what was got ready did not answer."""
    found: list[recall.Question] = []
    find = recall.find
    monkeypatch.setattr(recall, "find", lambda question: found.append(question) or find(question))
    return found


def made(w: np.ndarray, threads: int):
    return gm.jit(lambda x, w=w: x @ w, threads=threads)


def start(w: np.ndarray, threads: int = 2, frozen: bool = False) -> None:
    """What a process does that has just begun, with weights of its own."""
    w = w.copy()
    w.flags.writeable = not frozen
    packed._kept.clear()
    f = made(w, threads)
    with gm.threads(threads):
        np.testing.assert_allclose(f(X), X @ w, rtol=1e-3, atol=1e-3)
    for thread in threading.enumerate():
        if thread.name == "graphmill weights":
            thread.join()


@pytest.mark.parametrize(("threads", "frozen"), [(1, False), (2, False), (2, True)])
def test_contents_decide(asked, threads, frozen):
    other = W.copy()
    other[1499, 1099] += 1
    for w, count in ((W, 1), (W, 1), (other, 2), (W, 3), (W, 3), (other, 4), (other, 4)):
        start(w, threads, frozen)
        assert len(asked) == count


def test_a_hint_without_sense_is_not_taken(asked):
    start(W)
    store, name, key = asked[0].store, asked[0].subject, asked[0].key
    for said in (b"", b"\xff" * 64, b"0" * 64, name.encode()):
        store.put(name, said)
        start(W)
        assert asked[-1].key == key and store.get(name) == key.encode()
        del asked[:]


def test_an_edit_while_the_answer_is_got_ready_is_seen(asked, monkeypatch):
    start(W)
    w, load = W.copy(), Ready.load

    def edited(ready):
        load(ready)
        w[:, 3] += 1

    monkeypatch.setattr(Ready, "load", edited)
    f = made(w, 2)
    f(X)
    monkeypatch.undo()
    np.testing.assert_allclose(f(X), X @ w, rtol=1e-3, atol=1e-3)


def test_small_functions_leave_no_hint(asked):
    for _ in range(2):
        start(W[:, :300])
    assert len(asked) == 2 and asked[0].key == asked[1].key
    assert asked[0].store.get(asked[0].subject) is None
