"""Guards: every edit that changes a traced function's meaning is seen, natively and in Python."""

import functools
import gc
import types

import numpy as np
import pytest

from graphmill.runtime import native
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.guards import Watch, _word
from tests.runtime.handwritten import add_executable

SOURCE = """
scale = 2.0
table = [1, 2]

def inner(x):
    return x * scale

def unrelated(x):
    return x

class Layer:
    factor = 3

    def forward(self, x):
        return inner(x) + offset.get(x)

def maker():
    hidden = 5
    def closed(x, k=1, *, m=2):
        return inner(x) + hidden + Layer().forward(x)
    def change(value):
        nonlocal hidden
        hidden = value
    return closed, change

closed, change = maker()

def nested(x):
    return [inner(y) for y in x] + table
"""

OTHER = """
bias = 1

def get(x):
    return x + bias
"""


@pytest.fixture
def user():
    """Two user modules, the first using the second."""
    module, offset = types.ModuleType("user_module"), types.ModuleType("user_offset")
    exec(compile(OTHER, "user_offset.py", "exec"), vars(offset))
    module.offset = offset
    exec(compile(SOURCE, "user_module.py", "exec"), vars(module))
    return module


def words_hold(watch):
    words = watch.words()
    return words is not None and all(_word(address) == want for address, want in words)


def new_code(text="lambda x: x + 41"):
    return eval(text).__code__


def remove(module, name):
    delattr(module, name)


# how to change the meaning of `closed`
EDITS = {
    "global": lambda m: setattr(m, "scale", 3.0),
    "global gone": lambda m: remove(m, "scale"),
    "called function": lambda m: setattr(m, "inner", m.unrelated),
    "called function's code": lambda m: setattr(m.inner, "__code__", new_code()),
    "own code": lambda m: setattr(
        m.closed, "__code__", m.closed.__code__.replace(co_firstlineno=77)
    ),
    "defaults": lambda m: setattr(m.closed, "__defaults__", (9,)),
    "keyword defaults": lambda m: setattr(m.closed, "__kwdefaults__", {"m": 3}),
    "closure": lambda m: m.change(6),
    "class": lambda m: setattr(m, "Layer", type("Layer", (), {})),
    "method's code": lambda m: setattr(m.Layer.forward, "__code__", new_code("lambda s, x: x")),
    "module": lambda m: setattr(m, "offset", m),
    "other module's global": lambda m: setattr(m.offset, "bias", 7),
    "other module's function": lambda m: setattr(m.offset, "get", m.inner),
}
HARMLESS = {
    "nothing": lambda m: None,
    "unused global": lambda m: setattr(m, "table", 3),
    "unused function": lambda m: setattr(m, "unrelated", 4),
    "new global": lambda m: setattr(m, "fresh", 4),
    "the same again": lambda m: setattr(m, "scale", m.scale),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_are_seen(user, edit):
    watch = Watch(user.closed)
    assert watch.valid() and words_hold(watch)
    words = watch.words()
    EDITS[edit](user)
    assert not watch.valid()
    assert any(_word(address) != want for address, want in words)


@pytest.mark.parametrize("edit", HARMLESS)
def test_harmless_edits_are_not(user, edit):
    watch = Watch(user.closed)
    HARMLESS[edit](user)
    assert watch.valid() and words_hold(watch)


def test_many_new_globals_move_the_table_but_change_nothing(user):
    watch = Watch(user.closed)
    before = watch.words()
    for k in range(500):
        setattr(user, f"fresh{k}", k)
    assert any(_word(address) != want for address, want in before[:2] + before)
    assert watch.valid() and words_hold(watch)


def test_names_in_comprehensions_and_wrappers(user):
    for function in (user.nested, functools.partial(user.nested), staticmethod(user.nested)):
        user.scale = 2.0
        watch = Watch(function)
        user.scale = 3.0
        assert not watch.valid()
    wrapped = functools.wraps(user.nested)(lambda *args: None)
    watch = Watch(wrapped)
    user.table = []
    assert not watch.valid()


def test_recursion_and_libraries_end_the_walk(user):
    exec("import numpy\ndef loop(x):\n    return loop(numpy.exp(x))\n", vars(user))
    watch = Watch(user.loop)
    assert watch.valid() and len(watch.words()) < 12
    Watch(np.exp), Watch(3), Watch(None)


def scaled(user):
    """A dispatcher whose compilation depends on the user's `scale`: adds it that many times."""
    compiled = []

    def compile(args):
        compiled.append(user.scale)
        return add_executable(args[0].shape, "f32" if user.scale == 2.0 else "i64")

    return Dispatcher(compile, watch=lambda: Watch(user.closed)), compiled


def test_dispatch_compiles_again_after_an_edit(user):
    if native.call_path() is None:
        pytest.skip("no native call path on this Python")
    dispatcher, compiled = scaled(user)
    x = np.arange(4, dtype=np.float32)
    for _ in range(3):
        dispatcher(x, x)
    assert compiled == [2.0] and type(dispatcher.__call__).__name__.startswith("builtin")
    # harmless moves: still native afterwards
    for k in range(300):
        setattr(user, f"fresh{k}", k)
        dispatcher(x, x)
    assert compiled == [2.0]
    held = dispatcher.__call__
    user.scale = 5.0
    with pytest.raises(TypeError, match="i64"):
        held(x, x)
    assert compiled == [2.0, 5.0]
    y = x.astype(np.int64)
    np.testing.assert_array_equal(dispatcher(y, y), y + y)
    user.scale = 2.0
    np.testing.assert_array_equal(dispatcher(x, x), x + x)


def test_the_builtin_keeps_alive_what_its_guards_read(user):
    dispatcher, _ = scaled(user)
    x = np.arange(4, dtype=np.float32)
    dispatcher(x, x)
    dispatcher(x, x)
    function = dispatcher.__call__
    del dispatcher, user
    gc.collect()
    np.testing.assert_array_equal(function(x, x), x + x)
