"""Starting without a trace: equal functions are recognised, every difference is seen.

A fresh process is played by executing the modules' text anew: no object is the same as before.
"""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

import graphmill as gm
from graphmill import keys, recall
from graphmill.frontend import trace as tracing
from graphmill.runtime import cache, knobs
from graphmill.runtime.portrait import Portrait, Unclear

HELPER = """
bias = 1.25

def shift(x):
    return x + bias
"""

MAIN = """
import collections
import dataclasses
import functools
import math

import numpy as np

import graphmill as gm
import recall_helper
from recall_helper import shift as moved

scale = 2.0
rows = [1.0, 2.0]
settings = {"rate": 0.5, "deep": {"list": [3, 4]}}
small = np.arange(3.0)
weights = np.cos(np.arange(90000.0)).reshape(300, 300)
cut = slice(0, 3)

Pair = collections.namedtuple("Pair", "first second")
pair = Pair(1.0, np.ones(3))

@dataclasses.dataclass
class Config:
    power: float = 2.0
    names: list = dataclasses.field(default_factory=list)

config = Config()

class Base:
    extra = 5.0

class Layer(Base):
    factor = 3.0

    def __init__(self):
        self.rate = 0.125

    @property
    def gain(self):
        return self.rate * self.factor + self.extra

    @staticmethod
    def halved(x):
        return x / 2

    def __call__(self, x):
        return self.halved(x) * self.gain

layer = Layer()

def decorated(function):
    @functools.wraps(function)
    def inner(x):
        return function(x) * 1.5
    return inner

@decorated
def wrapped(x):
    return x - 0.25

@dataclasses.dataclass(frozen=True)
class Marked:
    value: float = dataclasses.field(default=7.0, metadata={"unit": 1.5})

    def kept(self, n):
        return n * self.value * dataclasses.fields(self)[0].metadata["unit"]

mark = Marked().kept

def make():
    hidden = 5.0
    return lambda x: x * hidden

closed = make()
fixed = functools.partial(lambda a, x: a * x, 4.0)

@gm.jit
def inner(x):
    return x + 0.0625

def f(x, k=1.5, *, m=0.75):
    y = np.tanh(x @ weights)[:, cut] * scale + rows[1] + settings["rate"]
    y = y + settings["deep"]["list"][0] + small + k + m + math.sqrt(2.0)
    y = recall_helper.shift(moved(y)) + layer(y) + wrapped(y) + closed(y) + fixed(y) + mark(2)
    return inner(y) ** config.power + pair.first + pair.second + gm.nn.relu(y)
"""

EDITS = {
    "body": ("x @ weights", "x @ weights.T"),
    "a number in it": ("math.sqrt(2.0)", "math.sqrt(3.0)"),
    "default": ("k=1.5", "k=2.5"),
    "keyword default": ("m=0.75", "m=1.75"),
    "global number": ("scale = 2.0", "scale = 3.0"),
    "its type": ("scale = 2.0", "scale = np.float64(2)"),
    "list": ("rows = [1.0, 2.0]", "rows = [1.0, 2.5]"),
    "dict": ('"rate": 0.5', '"rate": 0.75'),
    "deep list": ("[3, 4]", "[5, 4]"),
    "small array": ("np.arange(3.0)", "np.arange(3.0) + 1"),
    "dtype of an array": ("np.arange(3.0)", "np.arange(3)"),
    "large array": ("np.cos(np", "np.sin(np"),
    "one element of it": ("cut = ", "weights[299, 1] += 100\ncut = "),
    "slice": ("slice(0, 3)", "slice(1, 4)"),
    "named tuple": ("Pair(1.0", "Pair(2.0"),
    "array in it": ("np.ones(3)", "np.zeros(3)"),
    "dataclass's default": ("power: float = 2.0", "power: float = 3.0"),
    "class attribute": ("factor = 3.0", "factor = 4.0"),
    "base's attribute": ("extra = 5.0", "extra = 6.0"),
    "instance's attribute": ("self.rate = 0.125", "self.rate = 0.25"),
    "property": ("self.rate * self.factor", "self.rate - self.factor"),
    "static method": ("x / 2", "x / 4"),
    "method": ("* self.gain", "- self.gain"),
    "decorator": ("function(x) * 1.5", "function(x) * 2.5"),
    "decorated": ("x - 0.25", "x - 0.5"),
    "method of a dataclass": ("n * self", "n + self"),
    "field's default": ("default=7.0", "default=8.0"),
    "field's metadata": ('"unit": 1.5', '"unit": 2.5'),
    "ordered dict": ("settings = {", "settings = collections.OrderedDict() | {"),
    "closure": ("hidden = 5.0", "hidden = 6.0"),
    "partial's argument": ("a * x, 4.0", "a * x, 5.0"),
    "partial's function": ("a * x, 4.0", "a + x, 4.0"),
    "inner compiled function": ("x + 0.0625", "x + 1.0625"),
    "other name in Graphmill": ("gm.nn.relu", "gm.nn.silu"),
    "other name in NumPy": ("np.tanh(x", "np.sinh(x"),
    "module's name": ("import numpy as np", "import numpy as np\nlen = sum"),
}
HELPER_EDITS = {
    "body": ("x + bias", "x - bias"),
    "its global": ("bias = 1.25", "bias = 1.5"),
}
X = np.sin(np.arange(1200.0)).reshape(4, 300) / 100


@pytest.fixture(autouse=True)
def own_cache(tmp_path):
    with knobs.scope(cache=True, cache_dir=str(tmp_path / "cache"), cache_size=1 << 30):
        yield


@pytest.fixture
def traces(monkeypatch):
    """The names of functions traced since, but for what they call."""
    names: list[str] = []
    trace = tracing.trace

    def counted(function, *arguments, **options):
        if function.__name__ != "inner":
            names.append(function.__name__)
        return trace(function, *arguments, **options)

    monkeypatch.setattr(tracing, "trace", counted)
    return names


def loaded(monkeypatch, main: str = MAIN, helper: str = HELPER) -> types.ModuleType:
    """The modules as a process that has just begun has them."""
    modules = {"recall_helper": helper, "recall_main": main}
    for name, text in modules.items():
        monkeypatch.setitem(sys.modules, name, module := types.ModuleType(name))
        exec(compile(text, f"{name}.py", "exec"), vars(module))
    return module


def check(module: types.ModuleType) -> None:
    """Compiled, `f` gives what it gives as it stands."""
    want = module.f(X)
    np.testing.assert_allclose(gm.jit(module.f)(X), want, rtol=1e-6, atol=1e-6)


def test_an_equal_function_is_not_traced(monkeypatch, traces):
    for _ in range(3):
        check(loaded(monkeypatch))
    assert traces == ["f"]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_the_module_is_seen(monkeypatch, traces, edit):
    old, new = EDITS[edit]
    assert old in MAIN
    check(loaded(monkeypatch))
    check(loaded(monkeypatch, MAIN.replace(old, new)))
    assert traces == ["f", "f"]
    check(loaded(monkeypatch))
    assert traces == ["f", "f"]


@pytest.mark.parametrize("edit", HELPER_EDITS)
def test_an_edit_of_another_module_is_seen(monkeypatch, traces, edit):
    check(loaded(monkeypatch))
    check(loaded(monkeypatch, helper=HELPER.replace(*HELPER_EDITS[edit])))
    assert traces == ["f", "f"]


def test_edits_after_the_start_are_seen(monkeypatch, traces):
    check(loaded(monkeypatch))
    module = loaded(monkeypatch)
    compiled = gm.jit(module.f)
    for step in range(3):
        np.testing.assert_allclose(compiled(X), module.f(X), rtol=1e-6)
        assert len(traces) == 1 + step
        module.weights[step, 1] += 100
        np.testing.assert_allclose(compiled(X), module.f(X), rtol=1e-6)


PATCHES = {
    "numpy function": (np, "tanh", lambda x: np.cosh(x)),
    "numpy function by another": (np, "tanh", np.sin),
    "math": ("math", "sqrt", lambda x: 11.0),
    "builtin": ("builtins", "ascii", lambda x: "twelve letters"),
    "Graphmill's function": (gm.nn, "relu", lambda x: x * 0.5),
    "module in sys.modules": ("recall_helper", "shift", lambda x: x * 3),
}


@pytest.mark.parametrize("patch", PATCHES)
def test_a_patched_library_is_seen(monkeypatch, traces, patch):
    place, name, value = PATCHES[patch]
    text = MAIN.replace("mark(2)", "mark(2) + len(ascii(7))")
    compiled = gm.jit(loaded(monkeypatch, text).f)
    before = compiled(X)
    module = loaded(monkeypatch, text)
    home = sys.modules[place] if isinstance(place, str) else place
    with monkeypatch.context() as patched:
        patched.setattr(home, name, value)
        after = gm.jit(module.f)(X)
    assert len(traces) == 2 and not np.array_equal(before, after)


IMPURE = {
    "environment": ("import os", "float(os.environ.get('NONE', 2))"),
    "its name": ("from os import environ", "float(environ.get('NONE', 2))"),
    "getenv": ("from os import getenv", "float(getenv('NONE', '2'))"),
    "clock": ("import time", "time.time()"),
    "clock by name": ("from time import time", "time()"),
    "clock in NumPy": ("import numpy as np", "float(np.datetime64('now').astype(int))"),
    "random": ("import random", "random.random()"),
    "random by name": ("from random import random", "random()"),
    "NumPy's random": ("import numpy as np", "np.random.rand()"),
    "NumPy's random with a seed": ("", "np.random.default_rng(0).random()"),
    "NumPy's random, seeded": ("", "float(np.random.seed(3) is None)"),
    "NumPy's random set": ("", "float(setattr(np.random, 'hidden', 1) is None)"),
    "NumPy's random in a default": ("", "(lambda g=np.random.default_rng(): g.random())()"),
    "NumPy's random, called elsewhere": (
        "def drawn(make):\n    return make().random()", "drawn(np.random.default_rng)"
    ),
    "NumPy's random by an alias": ("random = np.random", "random.rand()"),
    "NumPy's random as an attribute": (
        "class Holder: pass\nholder = Holder()\nholder.of = np.random", "holder.of.rand()"
    ),
    "NumPy's random module": ("import numpy.random as r", "r.rand()"),
    "NumPy's random by name": ("from numpy.random import rand", "rand()"),
    "NumPy's random inside": ("", "__import__('numpy').random.rand()"),
    "generator": ("import numpy as np\nrng = np.random.default_rng(0)", "rng.random()"),
    "file": ("", "float(open('/dev/null').close() is None)"),
    "path": ("from pathlib import Path", "float(len(Path('/dev/null').read_text()))"),
    "file in NumPy": ("import numpy as np", "float(np.fromfile('/dev/zero', 'u1', 1)[0])"),
    "print": ("", "(print('traced') or 2.0)"),
    "iterator": ("import itertools\ncount = itertools.count()", "float(next(count))"),
    "names made up": ("import recall_helper", "getattr(recall_helper, 'bi' + 'as')"),
    "globals": ("hidden = 2.0", "globals()['hid' + 'den']"),
    "module's dict": ("import recall_helper", "recall_helper.__dict__['bias']"),
    "evaluated text": ("hidden = 2.0", "eval('hid' + 'den')"),
    "attribute getter": (
        "import recall_helper\nfrom operator import attrgetter", "attrgetter('bias')(recall_helper)"
    ),
    "results kept": (
        "import functools\n@functools.lru_cache\ndef kept(n):\n    return n * 2.0", "kept(2)"
    ),
    "set": ("names = {'a', 'b'}", "float(len(list(names)[0]))"),
    "list that it changes": ("calls = []", "(calls.append(1) or float(len(calls)))"),
    "dict that it changes": ("calls = {}", "float(len(calls.setdefault(len(calls), 'x')))"),
    "object of a library": ("import threading\nlock = threading.Lock()", "float(lock.locked())"),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPURE)
def test_what_no_portrait_shows_is_traced(monkeypatch, traces, what):
    before, expression = IMPURE[what]
    text = f"import numpy as np\n{before}\ndef f(x):\n    return np.exp(x) + {expression}\n"
    for _ in range(2):
        gm.jit(loaded(monkeypatch, text).f)(X)
    assert traces == ["f", "f"]


def test_a_global_that_it_changes(monkeypatch, traces):
    text = "n = 0\ndef f(x):\n    global n\n    n += 1\n    return x * n\n"
    for _ in range(2):
        np.testing.assert_array_equal(gm.jit(loaded(monkeypatch, text).f)(X), X)
    assert traces == ["f", "f"]


def f_of(text: str = "x + 1"):
    return eval(f"lambda x: {text}", {"np": np, "gm": gm})


CALLS = {
    "dtype": lambda: gm.jit(f_of())(X.astype(np.float32)),
    "shape": lambda: gm.jit(f_of())(X[:3]),
    "rank": lambda: gm.jit(f_of())(X[0]),
    "strides": lambda: gm.jit(f_of())(X[:, ::2]),
    "number": lambda: gm.jit(f_of())(2.0),
    "whole number": lambda: gm.jit(f_of())(2),
    "dynamic": lambda: gm.jit(f_of(), dynamic={"x": ("n", None)})(X),
    "donated": lambda: gm.jit(f_of(), donate="x")(X.copy()),
    "checked": lambda: gm.jit(f_of(), check="nan")(X),
    "pipeline": lambda: gm.jit(f_of(), pipeline="memory")(X),
    "by name": lambda: gm.jit(f_of())(x=X),
}


@pytest.mark.parametrize("call", CALLS)
def test_another_call_is_another_question(traces, call):
    plain = gm.jit(f_of())(X)
    np.testing.assert_array_equal(plain, X + 1)
    for count in (2, 2):
        result = CALLS[call]()
        assert result.dtype != np.object_ and len(traces) == count


@pytest.mark.parametrize(
    "values", [(1, 1.0), (1, True), ("a", "b"), ((1, 2), (1, 2.0)), (0.0, -0.0)]
)
def test_static_values_are_told_apart(traces, values):
    def f(x, how):
        return x if how in ("a", (1, 2)) else x + 1

    for value in values + values:
        gm.jit(f, static="how")(X, how=value)
    assert len(traces) == 2


WHOLE = np.cos(np.arange(90000.0)).reshape(300, 300)
SOURCES = {
    "whole": "x @ w", "transposed": "x @ w.T", "part": "x[:, :200] @ w[:200]",
    "strided": "x @ w[:, ::-1]", "narrow": "x @ w.astype('f4')", "computed": "x @ (w * 2)",
    "row": "x + w[0]", "of a list": "x @ w[[*range(300)]]", "tri": "x @ np.tri(300)",
    "gathered": "w[np.arange(4)] + x", "two views": "x @ w[:, :150] @ w[:150]",
}  # fmt: skip


@pytest.mark.parametrize("how", SOURCES)
def test_constants_come_from_the_same_places(traces, how):
    for _ in range(2):
        w = WHOLE.copy()
        f = eval(f"lambda x: {SOURCES[how]}", {"np": np, "w": w})
        compiled = gm.jit(f)
        for _ in range(3):
            np.testing.assert_allclose(compiled(X), f(X), rtol=1e-5, atol=1e-5)
        w[:4] += 3
        np.testing.assert_allclose(compiled(X), f(X), rtol=1e-5, atol=1e-5)
    assert len(traces) == (1 if how == "tri" else 2)  # what it reads before and after the edit


RESULTS = {
    "tuple": "(x, x + 1)", "list": "[x]", "dict": "{'b': x, 'a': (x, None)}", "none": "(None, x)",
    "named": "Pair(x, x + 1)", "data": "Data(x)", "numbered": "{2: x, 1: x + 1}",
}  # fmt: skip
STRUCTURES = """
import collections, dataclasses
Pair = collections.namedtuple("Pair", "one two")
@dataclasses.dataclass
class Data:
    value: object
"""


@pytest.mark.parametrize("result", RESULTS)
def test_results_have_their_structure(monkeypatch, traces, result):
    found = []
    for _ in range(2):
        module = loaded(monkeypatch, f"{STRUCTURES}\ndef f(x):\n    return {RESULTS[result]}\n")
        made = gm.jit(module.f)(X)
        assert type(made).__name__ == type(module.f(X)).__name__
        found.append(repr(made))
    assert found[0] == found[1] and traces == ["f"]


def test_other_sources_of_graphmill_trace_again(monkeypatch, traces):
    gm.jit(f_of())(X)
    monkeypatch.setattr(keys, "build_id", lambda: "other")
    gm.jit(f_of())(X)
    assert len(traces) == 2


NONSENSE = {
    "nothing": lambda said: b"",
    "no JSON": lambda said: b"\0" * 40,
    "no fields": lambda said: recall._HEAD.pack(2) + b"{}",
    "another array": lambda said: _changed(said, "in", 7),
    "beyond its end": lambda said: _changed(said, "at", 1 << 30),
    "long strides": lambda said: _changed(said, "strides", [1 << 30, 8]),
}


def _changed(said: bytes, field: str, value: object) -> bytes:
    found = json.loads(said[recall._HEAD.size :])
    found["sources"][0][field] = value
    text = json.dumps(found).encode()
    return recall._HEAD.pack(len(text)) + text


@pytest.mark.parametrize("what", NONSENSE)
def test_an_answer_without_sense_is_not_taken(monkeypatch, traces, what):
    asked = []
    find = recall.find
    monkeypatch.setattr(recall, "find", lambda question: asked.append(question) or find(question))
    for count in (1, 2, 2):
        w = WHOLE.copy()
        np.testing.assert_allclose(gm.jit(lambda x, w=w: x @ w)(X), X @ w, rtol=1e-6)
        assert len(traces) == count
        if count == 1:
            store, key = cache.default(), asked[0].key
            store.put(key, NONSENSE[what](store.get(key)))


def test_a_lost_artifact_is_made_again(monkeypatch, traces, tmp_path):
    kept = []
    monkeypatch.setattr(
        recall, "keep", lambda *said, keep=recall.keep: kept.append(keep(*said) or said)
    )
    gm.jit(f_of())(X)
    (tmp_path / "cache" / f"{kept[0][2]}.gmc").unlink()
    np.testing.assert_array_equal(gm.jit(f_of())(X), X + 1)
    assert len(traces) == 2


def test_a_portrait_ends():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Unclear):
        Portrait([deep])
    with pytest.raises(Unclear):
        Portrait([list(range(100_000))])
    looped: list = []
    looped.append(looped)
    assert Portrait([looped]).text
