"""Guards: every edit that changes a traced function's meaning is seen, natively and in Python."""

import functools
import gc
import sys
import types

import numpy as np
import pytest

from graphmill.runtime import native
from graphmill.runtime.cpython import known_interpreter, name_loads, word
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.guards import Watch
from tests.runtime.handwritten import add_executable

SOURCE = """
import numpy as np

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

class Config:
    def __init__(self):
        self.rate = 0.5
        self.layers = [Layer(), {"deep": (Layer, inner)}]

    def change(self, x):
        return x * self.rate

class Slim(Config):
    pass

config, slim = Config(), Slim()
weights = np.arange(12.0)
hidden_weights = {"deep": [np.ones(3)]}
huge = np.zeros(1000)

def weighted(x):
    return x * np.exp(weights) + hidden_weights["deep"][0] + x.huge

params = {"w": 1.5, "b": [2, 3], 7: 8}

def configured(x):
    return x * config.rate + slim.rate + params["w"] + len(config.layers)

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
    return words is not None and all(word(address) == want for address, want in words)


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
    "class attribute": lambda m: setattr(m.Layer, "factor", 4),
    "new class attribute": lambda m: setattr(m.Layer, "fresh", 4),
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
    assert any(word(address) != want for address, want in words)


@pytest.mark.parametrize("edit", HARMLESS)
def test_harmless_edits_are_not(user, edit):
    watch = Watch(user.closed)
    HARMLESS[edit](user)
    assert watch.valid() and words_hold(watch)


# ways to read from another module, and a builtin, and edits of what is read
READS = {
    "module in a closure": "def make(m):\n    return lambda x: m.get(x)\nread = make(offset)",
    "module imported inside": "def read(x):\n    import user_offset as o\n    return o.get(x)",
    "name imported inside": "def read(x):\n    from user_offset import get\n    return get(x)",
    "two readers of a module": "def other(x):\n    return offset.bias\n"
    "def read(x):\n    return other(x) + offset.get(x)",
}


@pytest.mark.parametrize("how", READS)
def test_edits_of_other_modules_are_seen(user, how, monkeypatch):
    monkeypatch.setitem(sys.modules, "user_offset", user.offset)
    exec(READS[how], vars(user))
    watch = Watch(user.read)
    words = watch.words()
    assert watch.valid() and words_hold(watch)
    user.offset.get = user.inner
    assert not watch.valid()
    assert any(word(address) != want for address, want in words)


def test_a_builtin_that_is_hidden_later_is_seen(user):
    watch = Watch(user.configured)
    words = watch.words()
    user.len = lambda items: 99
    assert not watch.valid()
    assert any(word(address) != want for address, want in words)
    del user.len
    assert watch.valid() and words_hold(watch)


def test_many_new_globals_move_the_table_but_change_nothing(user):
    watch = Watch(user.closed)
    before = watch.words()
    for k in range(500):
        setattr(user, f"fresh{k}", k)
    assert any(word(address) != want for address, want in before[:2] + before)
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


CONTAINER_EDITS = {
    "attribute": lambda m: setattr(m.config, "rate", 0.75),
    "attribute of another object": lambda m: setattr(m.slim, "rate", 0.75),
    "new attribute": lambda m: setattr(m.config, "fresh", 1),
    "attribute gone": lambda m: delattr(m.config, "rate"),
    "dict item": lambda m: m.params.update(w=9.5),
    "dict item by number": lambda m: m.params.update({7: 9}),
    "new dict item": lambda m: m.params.update(fresh=1),
    "dict item gone": lambda m: m.params.pop("w"),
    "list item": lambda m: m.params["b"].__setitem__(0, 5),
    "longer list": lambda m: m.params["b"].append(5),
    "list in an object": lambda m: m.config.layers.pop(),
    "deep dict": lambda m: m.config.layers[1].clear(),
    "function in a deep tuple": lambda m: setattr(m, "scale", 7.0),
    "method of an object in a list": lambda m: setattr(m.offset, "bias", 7),
}


@pytest.mark.parametrize("edit", CONTAINER_EDITS)
def test_edits_of_containers_and_objects_are_seen(user, edit):
    watch = Watch(user.configured)
    assert watch.valid() and words_hold(watch)
    words = watch.words()
    CONTAINER_EDITS[edit](user)
    assert not watch.valid()
    assert any(word(address) != want for address, want in words)


ROOTS = {
    "bound method": lambda m: m.config.change,
    "partial of an object": lambda m: functools.partial(m.inner, m.config),
    "partial of a bound method": lambda m: functools.partial(m.config.change, 3),
    "callable object": lambda m: m.config,
}


@pytest.mark.parametrize("root", ROOTS)
def test_objects_that_a_callable_is_bound_to_are_watched(user, root):
    watch = Watch(ROOTS[root](user))
    assert watch.valid() and words_hold(watch)
    user.config.rate = 0.75
    assert not watch.valid() and not words_hold(watch)
    watch.look()
    user.Config.shared = 9
    assert not watch.valid()


def test_added_values_are_watched_too(user):
    watch = Watch(user.inner)
    watch.add_values([user.slim, "text", 3])
    watch.look()
    assert watch.valid() and words_hold(watch)
    user.slim.layers.append(1)
    assert not watch.valid()


def test_large_containers_are_left_alone(user):
    user.params["b"] = list(range(100_000))
    watch = Watch(user.configured)
    assert watch.valid() and len(watch.words()) < 100


def views(x):
    return {"whole": x, "reversed": x[::-1], "strided": x.reshape(10, -1)[:, ::3], "part": x[5:8],
            "empty": x[:0], "bytes": x.view("u1")[3:10], "complex": x[:40].view("c16")}  # fmt: skip


def needed_digest():
    digest = native.digest()
    if digest is None:
        pytest.skip("no native call path on this Python")
    return digest


@pytest.mark.parametrize("name", views(np.zeros(100)))
def test_captured_arrays_are_compared_by_contents(user, name):
    digest = needed_digest()
    x = np.arange(100.0)
    view = views(x)[name]
    watch = Watch(user.closed)
    watch.add_arrays([view, view])
    ((address, size, was),) = watch.memory(native.digest).blocks
    assert watch.valid() and digest(address, size) == was
    if view.size:
        view[(0,) * view.ndim] += 1
        assert not watch.valid() and digest(address, size) != was
        view[(0,) * view.ndim] -= 1
        assert watch.valid() and digest(address, size) == was


def test_every_byte_counts_in_the_digest():
    digest = needed_digest()
    data = np.arange(200, dtype=np.uint8)
    address = data.__array_interface__["data"][0]
    for size in (0, 1, 7, 63, 64, 65, 128, 200):
        seen = {digest(address, size)}
        for k in range(size):
            data[k] ^= 16
            seen.add(digest(address, size))
            data[k] ^= 16
        assert len(seen) == size + 1


@pytest.mark.parametrize("change", [np.negative, lambda x: x[::-1], lambda x: np.roll(x, 8),
                                    lambda x: x * 2, lambda x: x + 2.0**-10])  # fmt: skip
def test_changes_of_whole_arrays_are_seen(change):
    digest = needed_digest()
    for dtype in ("f4", "f8", "i4"):
        x = np.arange(1, 1025).astype(dtype)
        before = digest(x.__array_interface__["data"][0], x.nbytes)
        changed = change(x).astype(dtype)
        if not np.array_equal(changed, x):
            x[:] = changed
            assert digest(x.__array_interface__["data"][0], x.nbytes) != before


def test_arrays_found_by_name_are_compared_and_others_not(user):
    watch = Watch(user.weighted)
    user.huge[3] = 1
    assert watch.valid()
    user.weights[3] = 100
    assert not watch.valid()
    watch = Watch(user.weighted)
    user.hidden_weights["deep"][0][1] = 4
    assert not watch.valid()


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[3:9], lambda x: x.reshape(10, -1).T])
def test_frozen_arrays_cost_no_comparison(user, view):
    x = np.arange(1000.0)
    x.flags.writeable = False
    watch = Watch(user.closed)
    watch.add_arrays([view(x)])
    assert watch.memory(lambda: None) == ([], []) and watch.valid() and words_hold(watch)
    words = watch.words()
    x.flags.writeable = True
    assert not watch.valid()
    assert any(word(address) != want for address, want in words)


def test_half_frozen_arrays_are_compared(user):
    x = np.arange(1000.0)
    view = x[:]
    view.flags.writeable = False
    watch = Watch(user.closed)
    watch.add_arrays([view, np.frombuffer(b"immutable bytes!"), np.frombuffer(bytearray(16))])
    memory = watch.memory(native.digest)
    assert memory is None or len(memory.blocks) == 2
    x[3] = 0
    assert not watch.valid()


def test_dispatch_sees_writes_to_captured_arrays(user):
    if native.call_path() is None:
        pytest.skip("no native call path on this Python")
    weights = np.ones(1000, np.float32)
    compiled = []

    def compile(args):
        compiled.append(weights[0])
        dispatcher.watch_arrays([weights])
        return add_executable(args[0].shape)

    dispatcher = Dispatcher(compile, watch=lambda args: Watch(user.closed))
    x = np.arange(4, dtype=np.float32)
    for _ in range(4):
        dispatcher(x, x)
    assert compiled == [1.0]
    for value in (2.0, 3.0):
        weights[0] = value
        for _ in range(4):
            dispatcher(x, x)
    assert compiled == [1.0, 2.0, 3.0]


def test_what_tracing_changes_itself_is_no_edit(user):
    compiled = []
    user.params["traces"] = 0

    def compile(args):
        compiled.append(1)
        user.params["traces"] += 1
        user.scale += 1
        return add_executable(args[0].shape)

    dispatcher = Dispatcher(compile, watch=lambda args: Watch(user.configured))
    for n in (4, 5, 4, 5, 4, 5):
        dispatcher(np.ones(n, np.float32), np.ones(n, np.float32))
    assert len(compiled) == 2
    user.params["traces"] = 0
    dispatcher(np.ones(4, np.float32), np.ones(4, np.float32))
    assert len(compiled) == 3


def test_names_are_read_from_code_as_dis_reads_them(user):
    import dis

    many = "\n".join(f"    y = g{k}.a{k}(x) + b{k}.c{k}" for k in range(400))
    exec(f"def large(x):\n    from os import path, sep\n{many}\n    return y\n", vars(user))
    for function in (user.large, user.nested, user.configured, Dispatcher.lookup, Watch.words):
        code = function.__code__
        expected = {"global": set(), "attribute": set(), "import": set()}
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                expected["global"].add(step.argval)
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
                expected["attribute"].add(step.argval)
            elif step.opname == "IMPORT_NAME":
                expected["import"].add(step.argval)
        found = {"global": set(), "attribute": set(), "import": set()}
        for kind, position in name_loads(code):
            found[kind].add(code.co_names[position])
        assert found == expected


def test_this_interpreter_is_known():
    assert known_interpreter() or native.call_path() is None


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

    return Dispatcher(compile, watch=lambda args: Watch(user.closed)), compiled


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
