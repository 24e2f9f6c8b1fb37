"""Dispatch: the native call path against the Python path, one compilation per signature."""

import threading
import time

import numpy as np
import pytest

from graphmill.codegen.artifact import ArgSpec, DimSpec
from graphmill.runtime import buffers, native, threads
from graphmill.runtime.dispatch import Dispatcher
from graphmill.runtime.executable import CheckError, Executable
from tests.runtime.handwritten import (
    SHORT,
    Counting,
    add_constant_artifact,
    add_executable,
    adder,
    artifact,
    f32,
    fast,
    symbolic,
)
from tests.runtime.test_executable import CONTEXT, FAILING, STRIDED

pytestmark = pytest.mark.usefixtures("needs_call_path")

SHAPES = [(), (1,), (0,), (4,), (3, 5), (2, 0, 3), (2, 3, 4), (70_000,), (300, 300)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", SHORT)
def test_second_call_is_native_and_the_same(shape, dtype):
    dispatcher = adder()
    x = f32(*shape).astype(dtype)
    first = dispatcher(x, x)
    second = fast(dispatcher, x, x)
    for out in (first, second):
        assert type(out) is np.ndarray and out.dtype == x.dtype and out.shape == shape
        assert out.flags.carray and out.flags.owndata
        np.testing.assert_array_equal(out, x + x)
    assert not np.shares_memory(first, second) and not np.shares_memory(second, x)
    assert dispatcher.executables[0].accepts((x, x))


def test_many_signatures_are_served_natively():
    dispatcher = adder()
    arrays = [f32(n) for n in range(12)] + [f32(n).astype("f8") for n in range(12)]
    for x in arrays:
        dispatcher(x, x)
    assert len(dispatcher.compiled) == 24
    for x in arrays:
        np.testing.assert_array_equal(fast(dispatcher, x, x), x + x)


def test_more_signatures_than_the_native_table_holds():
    dispatcher = adder()
    for n in range(40):
        dispatcher(f32(n), f32(n))
    for n in range(40):
        np.testing.assert_array_equal(dispatcher(f32(n), f32(n)), f32(n) * 2)
    assert len(dispatcher.compiled) == 40


class Sub(np.ndarray):
    pass


# every one of these must miss the native path and still give the right answer or error
ODD_ARGUMENTS = [
    f32(4)[::-1],
    np.repeat(f32(4), 2)[::2],
    f32(4).astype(">f4"),
    f32(4).view(Sub),
    [np.float32(k) for k in range(4)],
    np.frombuffer(b"x" + f32(4).tobytes(), dtype=np.uint8)[1:].view(np.float32),
]


@pytest.mark.parametrize("odd", ODD_ARGUMENTS, ids=lambda x: type(x).__name__)
def test_unusual_arguments_take_the_python_path(odd):
    dispatcher = adder()
    x = f32(4)
    dispatcher(x, x)
    entered = dispatcher.entered
    expected = x + np.asarray(odd, dtype=np.float32)
    np.testing.assert_array_equal(dispatcher(x, odd), expected)
    assert dispatcher.entered == entered + 1
    assert len(dispatcher.compiled) == 1
    np.testing.assert_array_equal(fast(dispatcher, x, x), x + x)


@pytest.mark.parametrize(
    "args", [(), (f32(4),), (f32(4),) * 3, (f32(4), f32(5)), (f32(4), f32(4).astype("f8")),
             (f32(4), None), (f32(4), "x"), (None, None)]
)  # fmt: skip
def test_wrong_arguments_after_the_right_ones(args):
    dispatcher = adder()
    x = f32(4)
    dispatcher(x, x)
    with pytest.raises((TypeError, ValueError, IndexError, AttributeError)):
        dispatcher(*args)
    np.testing.assert_array_equal(fast(dispatcher, x, x), x + x)


def test_keywords_go_to_the_python_path():
    class Named(Dispatcher):
        def general(self, a, b=None):
            return super().general(a, a if b is None else b)

    dispatcher = Named(lambda args: add_executable(args[0].shape))
    x = f32(4)
    for _ in range(3):
        np.testing.assert_array_equal(dispatcher(x, b=x + 1), x + x + 1)
        np.testing.assert_array_equal(dispatcher(x), x + x)
        np.testing.assert_array_equal(dispatcher(x, x), x + x)
    with pytest.raises(TypeError, match="unexpected"):
        dispatcher(x, c=x)


def test_one_compilation_serves_all_sizes():
    dispatcher = symbolic()
    for n in (5, 0, 1, 2, 64, 100_000, 3):
        x = f32(n, 3)
        np.testing.assert_array_equal(dispatcher(x, x), x + x)
        np.testing.assert_array_equal(fast(dispatcher, x, x), x + x)
    assert len(dispatcher.compiled) == 1


def test_symbolic_dims_must_agree_and_keep_their_bounds():
    dispatcher = symbolic(DimSpec("n", 1, 50))
    dispatcher(f32(5, 3), f32(5, 3))
    fast(dispatcher, f32(50, 3), f32(50, 3))
    for args in ((f32(5, 3), f32(6, 3)), (f32(51, 3),) * 2, (f32(0, 3),) * 2, (f32(5, 4),) * 2):
        with pytest.raises(ValueError):
            dispatcher(*args)


@pytest.mark.parametrize("expression", ["2*n + 1", "floordiv(n, 2)", "mod(-n, 4)", "max(n, 3)",
                                        "min(n, 3)", "n*n - n", "floordiv(-n, 3) + n"])  # fmt: skip
def test_output_dims_by_expression(expression):
    def compile(args):
        text = CONTEXT.replace("store i64 %t, ptr %y\n", "\n")
        text = text.replace("store i64 %low, ptr %y1", "").replace("store i64 %size, ptr %y2", "")
        made = artifact(text.format(name="shape"), "shape", (ArgSpec("x", "u8", ("n",)),),
                        (ArgSpec("y", "i64", (expression, 2)),), dims=(DimSpec("n"),),
                        arena_bytes=None)  # fmt: skip
        return Executable(made)

    dispatcher = Counting(compile)
    dispatcher(np.zeros(5, np.uint8))
    for n in range(1, 9):
        x = np.zeros(n, np.uint8)
        assert fast(dispatcher, x).shape == dispatcher.general(x).shape
        assert fast(dispatcher, x).shape[1:] == (2,)


def test_negative_output_dim_is_an_error():
    made = artifact(STRIDED.format(name="neg"), "neg", (ArgSpec("x", "f32", ("n",), True),),
                    (ArgSpec("y", "f32", ("n - 4",)),), dims=(DimSpec("n"),))  # fmt: skip
    dispatcher = Counting(lambda args: Executable(made))
    made_bigger = f32(8)
    assert dispatcher.lookup((made_bigger,)).artifact.name == "neg"
    with pytest.raises(ValueError, match="negative"):
        dispatcher(f32(2))
    with pytest.raises(ValueError, match="negative"):
        dispatcher(f32(3))


@pytest.mark.parametrize("view", [lambda x: x[::2], lambda x: x[::-1], lambda x: x[5:5],
                                  lambda x: np.broadcast_to(x[3], (9,)), lambda x: x])  # fmt: skip
def test_strided_inputs_natively(view):
    def compile(args):
        made = artifact(STRIDED.format(name="st"), "st", (ArgSpec("x", "f32", ("n",), True),),
                        (ArgSpec("y", "f32", ("n",)),), dims=(DimSpec("n"),))  # fmt: skip
        return Executable(made)

    dispatcher = Counting(compile)
    dispatcher(f32(64))
    x = view(f32(64))
    np.testing.assert_array_equal(fast(dispatcher, x), x)


NUMBERS = [(float, "f64", 2.5), (float, "f32", 2.5), (int, "i64", -(1 << 62)), (float, "f64", -0.0)]


@pytest.mark.parametrize("kind, dtype, value", NUMBERS)
def test_python_numbers_natively(kind, dtype, value):
    dispatcher = Counting(lambda args: add_executable((), dtype))
    dispatcher(kind(1), kind(1))
    out = fast(dispatcher, value, kind(1))
    assert out.shape == () and out == buffers.numpy_dtype(dtype).type(value) + 1
    entered = dispatcher.entered
    with pytest.raises((TypeError, ValueError)):
        dispatcher("1", kind(1))
    if kind is int:
        with pytest.raises(ValueError, match="does not fit"):
            dispatcher(1 << 63, 1)
    assert dispatcher.entered > entered


def test_numbers_and_arrays_are_different_signatures():
    dispatcher = Counting(lambda args: add_executable((), "f64"))
    for args in ((1.0, 2.0), (np.float64(1), 2.0), (np.array(1.0), np.array(2.0)), (True, 2.0)):
        assert dispatcher(*args) == 3.0
    assert len(dispatcher.compiled) == 4 - (np.float64(1).__class__ is float)


def two_outputs(args):
    n = args[0].size
    text = STRIDED.format(name="two").replace("store float %v, ptr %yi", """
      store float %v, ptr %yi
      %zp = getelementptr ptr, ptr %args, i64 2
      %z = load ptr, ptr %zp
      %zi = getelementptr float, ptr %z, i64 %i
      %w = fadd float %v, %v
      store float %w, ptr %zi""")  # fmt: skip
    y, z = ArgSpec("y", "f32", ("n",)), ArgSpec("z", "f32", (n,))
    made = artifact(text, "two", (ArgSpec("x", "f32", ("n",), True),), (y, z), dims=(DimSpec("n"),))
    return Executable(made)


@pytest.mark.parametrize("n", [3, 100_000])
def test_tuple_results(n):
    dispatcher = Counting(two_outputs)
    x = f32(n)
    dispatcher(x)
    result = fast(dispatcher, x)
    assert type(result) is tuple
    np.testing.assert_array_equal(result[0], x)
    np.testing.assert_array_equal(result[1], x + x)


def test_constants_natively():
    made = add_constant_artifact(f32(4) * 10)
    dispatcher = Counting(lambda args: Executable(made))
    dispatcher(f32(4))
    np.testing.assert_array_equal(fast(dispatcher, f32(4)), f32(4) * 11)


@pytest.mark.parametrize("fixed", [None, 5])
def test_threads_and_arena_natively(fixed):
    def compile(args):
        made = artifact(CONTEXT.format(name="ctx"), "ctx", (ArgSpec("x", "u8", ("n",)),),
                        (ArgSpec("y", "i64", (3,)),), dims=(DimSpec("n"),),
                        arena_bytes=None)  # fmt: skip
        return Executable(made, threads=fixed)

    dispatcher = Counting(compile)
    x = np.zeros(9, np.uint8)
    dispatcher(x)
    np.testing.assert_array_equal(fast(dispatcher, x), [fixed or 2, 0, 576 * (fixed or 2)])
    with threads.threads(3):
        np.testing.assert_array_equal(fast(dispatcher, x), [fixed or 3, 0, 576 * (fixed or 3)])
        seen = []
        other = threading.Thread(target=lambda: seen.append(dispatcher(x)[0]))
        other.start()
        other.join()
        assert seen == [fixed or 2]
    np.testing.assert_array_equal(fast(dispatcher, x), [fixed or 2, 0, 576 * (fixed or 2)])


def test_errors_of_checked_code_come_from_the_native_path_too():
    lines = ("f.py:1", "f.py:2")
    text = FAILING.format(name="fail", code=1)
    good = text.replace("ret i32 3", "ret i32 0")
    made = [artifact(t, "fail", (ArgSpec("x", "f32", (1,)),), (ArgSpec("y", "f32", (1,)),),
                     locations=lines) for t in (good, text)]  # fmt: skip
    dispatcher = Counting(lambda args: Executable(made[0]))
    x = f32(1)
    dispatcher(x)
    fast(dispatcher, x)
    dispatcher.forget()
    dispatcher._compile = lambda args: Executable(made[1])
    for _ in range(3):
        with pytest.raises(CheckError, match=r"f\.py:2"):
            dispatcher(x)


class Trees(Dispatcher):
    """Takes a dict of arrays, and returns one; counts entries into the flat Python path."""

    def __init__(self, **more):
        self.entered = 0
        super().__init__(lambda args: add_executable(args[0].shape), **more)

    def general(self, tree):
        return {"sum": self.call_flat(list(tree.values()), key=tuple(tree))[0]}

    def _run_flat(self, *args):
        self.entered += 1
        return super()._run_flat(*args)


def test_trees_are_run_natively_once_flat():
    dispatcher = Trees()
    for names in ("ab", "cd"):
        for n in (4, 5, 100_000):
            tree = dict(zip(names, (f32(n), f32(n) + 1), strict=True))
            dispatcher(tree)
            entered = dispatcher.entered
            out = dispatcher(tree)
            assert dispatcher.entered == entered
            np.testing.assert_array_equal(out["sum"], f32(n) * 2 + 1)
    with pytest.raises(ValueError, match="the code wants"):
        dispatcher({"a": f32(4), "b": f32(5)})
    with pytest.raises(TypeError, match="takes 2"):
        dispatcher({"a": f32(4), "b": f32(4), "c": f32(4)})
    np.testing.assert_array_equal(dispatcher({"a": f32(4)[::-1], "b": f32(4)})["sum"], [3] * 4)
    assert len(dispatcher.executables) == 8


def test_without_the_native_path(monkeypatch):
    monkeypatch.setattr(native, "_call", None)
    monkeypatch.setattr(native, "_call_refused", True)
    dispatcher = adder()
    for x in (f32(4), f32(300, 300), f32(4)[::-1]):
        np.testing.assert_array_equal(dispatcher(x, x), x + x)
    assert dispatcher.entered == 3


def test_overhead_is_reported(record_property):
    """Not a limit: how long a call on 4 elements takes, beside numpy.add, for the log."""
    dispatcher = adder()
    x = f32(4)
    dispatcher(x, x)
    times = {}
    for name, call in (("numpy", np.add), ("native", dispatcher), ("python", dispatcher.general)):
        start = time.perf_counter()
        for _ in range(2000):
            call(x, x)
        times[name] = (time.perf_counter() - start) / 2000
    for name in ("native", "python"):
        record_property(f"{name}_calls_per_numpy_add", times[name] / times["numpy"])
    assert dispatcher.entered > 2000
