"""Facts: what containers and objects of all kinds hold, and any edit of it, natively or not."""

import argparse
import array
import collections
import sys
import types
from unittest import mock

import numpy as np
import pytest

import graphmill as gm
from graphmill.runtime import native
from graphmill.runtime.cpython import word
from graphmill.runtime.guards import Watch


class Slotted:
    __slots__ = ("rate", "unset")

    def __init__(self):
        self.rate = 1.0


class SlottedChild(Slotted):
    __slots__ = ("own",)


class Bag(dict):
    """Answers to any name, and to any key, as some libraries' settings do."""

    def __getattr__(self, name):
        return Bag()

    def items(self):
        raise AssertionError("not for guards to call")


class Stack(list):
    def __len__(self):
        return 0


class Other(type):
    rate = 1.0


class OfOther(metaclass=Other):
    pass


class Refusing:
    def __init__(self):
        self.rate = 1.0

    def __getattr__(self, name):
        raise KeyError(name)


def reorder(d):
    first = next(iter(d))
    d[first] = d.pop(first)


def numbers():
    return np.arange(6.0)


# what is held, an edit, and whether native code can see it
HELD = {
    "set": (lambda: {1, 2}, lambda s: s.add(3), True),
    "large set": (lambda: set(range(100)), lambda s: (s.remove(7), s.add(700)), True),
    "namespace": (lambda: types.SimpleNamespace(a=1.0), lambda n: setattr(n, "a", 2.0), True),
    "options": (lambda: argparse.Namespace(a=1.0), lambda n: setattr(n, "a", 2.0), True),
    "list of a namespace": (
        lambda: types.SimpleNamespace(a=[1]), lambda n: n.a.append(2), True,
    ),
    "ordered dict": (
        lambda: collections.OrderedDict(a=1.0), lambda d: d.update(a=2.0), False,
    ),
    "order": (
        lambda: collections.OrderedDict(a=1, b=2), lambda d: d.move_to_end("a"), False,
    ),
    "order of a dict": (lambda: {"a": 1, "b": 2}, reorder, True),
    "default dict": (lambda: collections.defaultdict(int, a=1), lambda d: d.update(a=2), True),
    "counter": (lambda: collections.Counter("aab"), lambda d: d.update("b"), True),
    "deque": (lambda: collections.deque([1.0]), lambda d: d.append(2), False),
    "user's dict": (lambda: collections.UserDict(a=1.0), lambda d: d.update(a=2.0), True),
    "subclass of dict": (lambda: Bag(a=1.0), lambda d: d.update(a=2.0), True),
    "subclass of list": (lambda: Stack([1.0]), lambda d: d.append(2.0), True),
    "slots": (Slotted, lambda s: setattr(s, "rate", 2.0), True),
    "slot that was empty": (Slotted, lambda s: setattr(s, "unset", 2.0), True),
    "slots of a subclass": (SlottedChild, lambda s: setattr(s, "own", 2.0), True),
    "attribute beside strange code": (Refusing, lambda s: setattr(s, "rate", 2.0), True),
    "bytearray": (lambda: bytearray(b"ab"), lambda b: b.append(1), False),
    "array": (lambda: array.array("d", [1.0]), lambda a: a.append(2.0), False),
    "memory": (lambda: memoryview(bytearray(b"ab")), lambda m: m.__setitem__(0, 7), False),
    "released memory": (lambda: memoryview(bytearray(b"ab")), lambda m: m.release(), False),
    "objects": (lambda: np.array([1, "a"], object), lambda a: a.__setitem__(1, "b"), False),
    "records": (
        lambda: np.zeros(2, [("a", "O"), ("b", "i4")]), lambda a: a["b"].fill(3), False,
    ),
    "shape": (numbers, lambda a: setattr(a, "shape", (2, 3)), True),
    "dtype": (numbers, lambda a: setattr(a, "dtype", np.int64), True),
    "memory of an array": (numbers, lambda a: a.resize(3, refcheck=False), True),
    "frozen array's shape": (
        lambda: np.frombuffer(bytes(24), "f4"), lambda a: setattr(a, "shape", (2, 3)), True,
    ),
}  # fmt: skip


def hold(words):
    return all(word(address) == want for address, want in words)


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
@pytest.mark.parametrize("what", HELD)
def test_what_is_held(what):
    make, edit, natively = HELD[what]
    value = make()
    watch = Watch(lambda: value)
    words = watch.words()
    assert watch.valid() and (words is not None and hold(words)) == natively
    edit(value)
    assert not watch.valid()
    if natively:
        assert not hold(words) and watch.words() is None
    watch.look()


def test_a_metaclass_is_watched(monkeypatch):
    watch = Watch(lambda: OfOther.rate)
    assert watch.valid()
    monkeypatch.setattr(Other, "rate", 2.0)
    assert not watch.valid()


SCALE = 1.0
this = sys.modules[__name__]


@pytest.mark.parametrize(
    "read",
    [
        lambda: globals()["SCALE"],
        lambda: getattr(this, "SCALE"),  # noqa: B009
        lambda: vars(this)["SCALE"],
        lambda: this.__dict__["SCALE"],
    ],
)
def test_names_in_texts_are_watched(monkeypatch, read):
    watch = Watch(read)
    assert watch.valid()
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert not watch.valid()


def test_a_patched_library_is_seen(monkeypatch):
    compiled = gm.jit(lambda x: np.tanh(x) + np.linalg.norm(x))
    x = np.arange(4.0)
    before = [compiled(x) for _ in range(5)]
    with mock.patch("numpy.tanh", np.sin):
        np.testing.assert_allclose(compiled(x), np.sin(x) + np.linalg.norm(x), rtol=1e-14)
    with mock.patch("numpy.linalg.norm", np.sum):
        np.testing.assert_allclose(compiled(x), np.tanh(x) + x.sum(), rtol=1e-14)
    np.testing.assert_array_equal(compiled(x), before[0])


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_calls_see_edits():
    settings, weights = types.SimpleNamespace(rate=2.0), np.arange(4.0)
    compiled = gm.jit(lambda x: x * settings.rate @ weights)
    for _ in range(5):
        assert compiled(np.ones(4)) == 12.0
    settings.rate = 3.0
    assert compiled(np.ones(4)) == 18.0
    weights.shape = (4, 1)
    assert compiled(np.ones(4)).shape == (1,)


@pytest.mark.skipif(native.call_path() is None, reason="no native call path on this Python")
def test_settings_cost_no_python():
    settings, names = types.SimpleNamespace(rate=2.0), {"a", "b"}
    compiled = gm.jit(lambda x: x * settings.rate if "a" in names else x)
    for _ in range(5):
        compiled(np.ones(4))
    with mock.patch.object(type(compiled), "general", side_effect=AssertionError):
        np.testing.assert_array_equal(compiled(np.ones(4)), np.full(4, 2.0))
