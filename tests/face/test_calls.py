"""Kinds of calls: all that are common run without Python code, give the same and leak nothing."""

import gc
import sys
import threading
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.api import Jit
from graphmill.runtime import native

Pair = namedtuple("Pair", "w b")


@dataclass
class Layer:
    w: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    w: Any
    b: Any


class Swapped(Pair):
    def __new__(cls, w, b):
        return super().__new__(cls, b, w)


class Model:
    def __init__(self, rate):
        self.rate = rate

    @gm.jit(static="self")
    def scaled(self, x, shift=1.5):
        return x * self.rate + shift


X = np.arange(4, dtype=np.float32)
Y = X + 3
GRID = np.arange(16, dtype=np.float32).reshape(4, 4)
TREE = {"first": {"w": X, "b": Y}, "more": [X, (Y, None)], "numbers": {1: X, 2: 2.0}}


def whole(p):
    return p["first"]["w"] * p["more"][0] + p["more"][1][0] - p["numbers"][1] * p["numbers"][2]


# function, options, positional and keyword arguments
KINDS = {
    "array": (lambda a: a + 1, {}, (X,), {}),
    "many arrays": (lambda *a: sum(a), {}, (X,) * 40, {}),
    "numbers": (lambda a, b, c, d: a * b + c - d, {}, (X, 2.5, 3, True), {}),
    "complex": (lambda a, b: a * b, {}, (X.astype("c16"), 2 - 3j), {}),
    "NumPy numbers": (lambda *a: a[0] * a[1] + a[2] * a[3] + a[4],
                      {}, (np.float32(2), X, np.int16(-3), np.complex64(1j), np.bool_(True)), {}),
    "NumPy halves": (lambda a, b: a * b, {}, (np.float16(1.5), X.astype("f2")), {}),
    "keyword": (lambda a, b: a - b, {}, (X,), {"b": Y}),
    "keywords": (lambda a, b, c: a - b * c, {}, (), {"c": 2.0, "a": X, "b": Y}),
    "any keywords": (lambda a, **k: a - k["z"] * k["b"], {}, (X,), {"z": X, "b": Y}),
    "default": (lambda a, b=2.0: a * b, {}, (X,), {}),
    "static": (lambda a, n: a * n, {"static": "n"}, (X, 3), {}),
    "static text": (lambda a, how: getattr(np, how)(a), {"static": "how"}, (X, "sqrt"), {}),
    "static keyword": (lambda a, n: a * n, {"static": "n"}, (X,), {"n": 1 << 60}),
    "static default": (lambda a, b=Y, n=2: a * n + b, {"static": "n"}, (X,), {}),
    "static tuple": (lambda a, axes: a.sum(axes), {"static": "axes"}, (GRID, (0, 1)), {}),
    "static none": (lambda a, b, axis: a.sum(axis) + b, {"static": "axis"}, (GRID, 1.0, None), {}),
    "dict": (lambda p: p["w"] - p["b"], {}, ({"w": X, "b": Y},), {}),
    "dict in another order": (lambda p: p["w"] - p["b"], {}, ({"b": Y, "w": X},), {}),
    "nested": (whole, {}, (TREE,), {}),
    "nested keyword": (lambda x, p: whole(p) + x, {}, (X,), {"p": TREE}),
    "nested static": (lambda p, n: whole(p) * n, {"static": "n"}, (TREE, 2), {}),
    "named tuple": (lambda p: p.w - p.b, {}, (Pair(X, Y),), {}),
    "dataclass": (lambda p: p.w - p.b["x"], {}, (Layer(X, {"x": Y}),), {}),
    "none": (lambda a, b: a if b is None else a + b, {}, (X, None), {}),
    "symbolic": (lambda a: a + 1, {"dynamic": {"a": ("n",)}}, (X,), {}),
    "multiple": (lambda a: a.reshape(-1, 2) * 2, {"dynamic": {"a": ("n",)}}, (X,), {}),
    "affine": (lambda a, b: a[1:] * 2 + b, {"dynamic": {"a": ("n+1",), "b": ("n",)}},
               (X, X[:3]), {}),
    "product": (lambda a, b: (a.sum(), b * 2), {"dynamic": {"a": ("n", "m"), "b": ("n*m",)}},
                (GRID, GRID.reshape(-1)), {}),
    "transposed": (lambda a: a + 1, {}, (GRID.T,), {}),
    "strided": (lambda a, b: a + b, {}, (GRID[::2, ::-1], GRID[1::2]), {}),
    "tuple result": (lambda a: (a + 1, a * 2), {}, (X,), {}),
    "nested result": (lambda a: {"u": [a + 1, (a * 2,)], "none": None, 'v': a}, {}, (X,), {}),
    "donated": (lambda a, b: np.maximum(a, b), {"donate": "a"}, (X.copy(), Y), {}),
    "donated parts": (lambda p, a: ({"k": np.maximum(p["k"], a)}, p["v"], a + p["v"][0]),
                      {"donate": "p"}, ({"k": X.copy(), "v": GRID.copy()}, X), {}),
    "donated symbolic": (lambda a, b: np.maximum(a, b), {"donate": "a", "dynamic": {"a": ("n",)}},
                         (X.copy(), 2.0), {}),
    "named result": (lambda a: Pair(a + 1, Layer(a * 2, None)), {}, (X,), {}),
    "frozen result": (lambda a: [Frozen(a + 1, (a,)), {"k": Frozen(None, a * 2)}], {}, (X,), {}),
    "result of another making": (lambda a: Swapped(a + 1, Swapped(a, None)), {}, (X,), {}),
}  # fmt: skip


@pytest.fixture
def entered(monkeypatch):
    """Counts calls that take the Python path."""
    if native.call_path() is None:
        pytest.skip("no native call path on this Python")
    count, plain = [0], Jit.general

    def general(self, *args, **kwargs):
        count[0] += 1
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Jit, "general", general)
    return count


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        a, b = list(a.values()), list(b.values())
    if isinstance(a, Layer | Frozen):
        a, b = [a.w, a.b], [b.w, b.b]
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif a is not None:
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def leaves(thing):
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, Layer | Frozen):
        thing = [thing.w, thing.b]
    return (
        [x for part in thing for x in leaves(part)] if isinstance(thing, list | tuple) else [thing]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_calls_are_native_after_the_first(kind, entered):
    function, options, args, kwargs = KINDS[kind]
    f = gm.jit(function, **options)
    first = f(*args, **kwargs)
    for _ in range(2):
        f(*args, **kwargs)
    before = entered[0]
    results = [f(*args, **kwargs) for _ in range(3)]
    assert entered[0] == before
    for result in results:
        same(result, first)
    if isinstance(first, np.ndarray):
        np.testing.assert_allclose(first, function(*args, **kwargs), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_calls_leak_nothing(kind):
    function, options, args, kwargs = KINDS[kind]
    f = gm.jit(function, **options)
    for _ in range(3):
        f(*args, **kwargs)
    things = [*leaves(list(args)), *leaves(kwargs), args, kwargs, *args, X.dtype, None]

    def counts():
        gc.collect()
        return [sys.getrefcount(x) for x in things], sys.getallocatedblocks()

    before, blocks = counts()
    for _ in range(2000):
        f(*args, **kwargs)
    after, more = counts()
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < 50
    assert more - blocks < 400


def wrong(*args, **kwargs):
    return args, kwargs


ERRORS = {
    "too many": wrong({"w": X, "b": Y}, 3, 2.0, 5),
    "too few": wrong({"w": X, "b": Y}),
    "unknown keyword": wrong({"w": X, "b": Y}, 3, z=2),
    "twice": wrong({"w": X, "b": Y}, 3, p=2),
    "no array": wrong({"w": X, "b": "text"}, 3),
    "shapes": wrong({"w": X, "b": Y[:3]}, 3),
    "unhashable": wrong({"w": X, "b": Y}, [3]),
    "missing key": wrong({"w": X}, 3),
}


@pytest.mark.parametrize("error", ERRORS)
def test_wrong_calls_raise_alike_before_and_after_native_ones(error):
    args, kwargs = ERRORS[error]

    def f(p, n, k=1.0):
        return p["w"] * n + p["b"] * k

    def outcome(function):
        with pytest.raises(Exception) as caught:
            function(*args, **kwargs)
        return type(caught.value), str(caught.value)

    f.__qualname__ = f.__name__
    fresh, used = gm.jit(f, static="n"), gm.jit(f, static="n")
    for _ in range(3):
        used({"w": X, "b": Y}, 3)
    expected = outcome(fresh)
    for _ in range(3):
        assert outcome(used) == expected
    gc.collect()
    blocks, references = sys.getallocatedblocks(), sys.getrefcount(X)
    for _ in range(100):
        outcome(used)
    gc.collect()
    assert sys.getrefcount(X) - references < 5
    assert sys.getallocatedblocks() - blocks < 1000


def test_forms_do_not_mistake_each_other():
    @gm.jit(static=("n", "how"))
    def f(p, n=1, how="plain", *, q=1.0):
        return p["w"] * n + q if how == "plain" else p["w"] - n

    ways = [
        (wrong({"w": X}), X + 1),
        (wrong({"w": X}, 2), X * 2 + 1),
        (wrong({"w": X}, 2.0), X * 2 + 1),
        (wrong({"w": X}, True), X + 1),
        (wrong({"w": X}, 2, "minus"), X - 2),
        (wrong({"w": X}, how="minus"), X - 1),
        (wrong(how="minus", p={"w": X}), X - 1),
        (wrong({"w": X}, q=4.0), X + 4),
        (wrong({"w": X}, q=Y), X + Y),
        (wrong({"w": X}, n=7, q=Y), X * 7 + Y),
        (wrong({"w": GRID.T}, n=7), GRID.T * 7 + 1),
    ]
    for _ in range(4):
        for (args, kwargs), expected in ways:
            np.testing.assert_array_equal(f(*args, **kwargs), expected)


def test_what_only_python_takes_apart_is_right_too(entered):
    class Params(dict):
        pass

    class Mine(np.ndarray):
        pass

    f = gm.jit(lambda p: p["w"] * 2)
    for _ in range(3):
        f({"w": X})
    for made in (Params(w=X), {"w": X}, {"w": X.view(Mine)}, {"w": X[::2][:, None]}):
        for _ in range(3):
            np.testing.assert_array_equal(f(made), np.asarray(made["w"]) * 2)


def test_a_method_sees_its_object(entered):
    first, second = Model(2.0), Model(3.0)
    for _ in range(3):
        first.scaled(X), second.scaled(X), second.scaled(X, shift=Y)
    before = entered[0]
    np.testing.assert_array_equal(first.scaled(X), X * 2 + 1.5)
    np.testing.assert_array_equal(second.scaled(X), X * 3 + 1.5)
    np.testing.assert_array_equal(second.scaled(X, shift=Y), X * 3 + Y)
    assert entered[0] == before
    first.rate = 5.0
    np.testing.assert_array_equal(first.scaled(X), X * 5 + 1.5)


def counter(size=4):
    count, total = gm.Variable(np.int64(0), "count"), gm.Variable(np.zeros(size), "total")

    @gm.jit
    def update(x):
        count.assign_add(1)
        total.assign(total + x)
        return total.sum()

    @gm.jit
    def read():
        return count.read(), total.read()

    @gm.jit
    def one(x):
        return x + count

    return count, total, update, read, one


def test_variables_are_native(entered):
    count, total, update, read, one = counter()
    x = np.arange(4.0)
    for _ in range(3):
        update(x), read(), one(x)
    before, held = entered[0], total.value
    assert update(x) == 24 and count.value == 4 and one(x)[0] == 4
    np.testing.assert_array_equal(read()[1], 4 * x)
    assert entered[0] == before
    np.testing.assert_array_equal(held, 3 * x)  # an old value stays what it was
    assert not total.value.flags.writeable and read()[1].flags.writeable
    total.value = np.arange(4)[::-1]
    total.assign(np.ones((4,)).reshape(2, 2).T.reshape(-1))
    assert update(x) == 10 and count.value == 5
    with count.lock:  # somebody is at it: the call waits, in Python
        waiting = threading.Thread(target=update, args=(x,))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive() and one(x)[0] == 5
    waiting.join(100)
    assert count.value == 6 and entered[0] == before + 1


@pytest.mark.parametrize("size", [4, 200_000])
def test_updates_from_many_threads_are_whole(size):
    count, total, update, read, _ = counter(size)
    x, torn = np.ones(size), []

    def call():
        for _ in range(40):
            update(x)
            number, sums = read()
            if not (sums == number).all():
                torn.append(number)

    callers = [threading.Thread(target=call) for _ in range(5)]
    for t in callers:
        t.start()
    for t in callers:
        t.join(200)
    assert count.value == 200 and (total.value == 200).all() and not torn


def test_a_failed_call_assigns_nothing_and_frees_its_locks():
    last = gm.Variable(np.zeros(3), "last")

    @gm.jit(check="nan")
    def f(x):
        last.assign(x)
        return np.sqrt(x)

    for _ in range(4):
        f(np.ones(3))
    for _ in range(3):
        with pytest.raises(gm.GraphmillError, match="GM061"):
            f(-np.ones(3))
        assert (last.value == 1).all() and not last.lock.locked()
    assert (f(np.full(3, 4.0)) == 2).all() and (last.value == 4).all()


def test_leaves_taken_out_of_a_dict_meanwhile_stay_alive():
    f = gm.jit(lambda p: np.exp(np.sin(p["x"])) + 1)
    expected = f({"x": np.full(300_000, 0.5, np.float32)})
    params, stop, wrong_results = {"x": np.full(300_000, 0.5, np.float32)}, threading.Event(), []

    def replace():
        while not stop.is_set():
            params["x"] = np.full(300_000, 0.5, np.float32)

    other = threading.Thread(target=replace)
    other.start()
    for _ in range(60):
        wrong_results += [1] if not np.array_equal(f(params), expected) else []
    stop.set()
    other.join(100)
    assert not wrong_results
