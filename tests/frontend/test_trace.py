"""What a trace records: names, source locations, constants, and what may not leave it."""

from __future__ import annotations

import functools
import linecache
import threading
import time
from typing import Any

import numpy as np
import pytest

from graphmill.frontend.core import apply, composite, tracing
from graphmill.frontend.locations import MAX_DEPTH
from graphmill.frontend.trace import trace
from graphmill.frontend.tracer import Tracer
from tests.frontend.comparing import agree, failure, run

X = np.arange(12.0).reshape(3, 4)
WEIGHTS = np.ones((100, 4))


def ops(traced: Any, name: str) -> list[Any]:
    return [op for op in traced.function.walk() if op.name == name]


def inner(y: Any) -> Any:
    return np.exp(y) + 1


def outer(x: Any) -> Any:
    hidden = inner(x * 2)
    result = hidden - 3
    return result


def test_ops_know_line_columns_function_and_callers() -> None:
    traced = trace(outer, (X,))
    (exp,) = ops(traced, "exp")
    loc = exp.loc
    assert loc.file == __file__ and loc.function == "inner"
    assert loc.line == inner.__code__.co_firstlineno + 1
    line = linecache.getline(__file__, loc.line)
    assert line[loc.column : loc.end_column] == "np.exp(y)"
    assert loc.caller.function == "outer" and loc.caller.line == outer.__code__.co_firstlineno + 1
    assert loc.caller.caller is None
    assert traced.function.loc.line == outer.__code__.co_firstlineno


def test_the_chain_of_callers_is_bounded() -> None:
    def deep(x: Any, n: int) -> Any:
        return np.exp(x) if n == 0 else deep(x, n - 1)

    loc, depth = ops(trace(lambda x: deep(x, 30), (X,)), "exp")[0].loc, 0
    while loc is not None:
        loc, depth = loc.caller, depth + 1
    assert depth == MAX_DEPTH


def test_values_have_the_names_of_variables() -> None:
    traced = trace(outer, (X,))
    assert [p.name for p in traced.function.params] == ["x"]
    names = [op.results[0].name for op in traced.function.ops[:-1]]
    assert "hidden" in names and "result" in names
    assert names.count("hidden") == 1


def test_composites_have_a_scope() -> None:
    @composite("scaled")
    def scaled(x: Any) -> Any:
        return apply("mul", x, 2.0)

    traced = trace(lambda x: scaled(x) + 1, (X,))
    assert ops(traced, "mul")[0].scope == "scaled" and ops(traced, "add")[0].scope == ""


def test_equal_constants_are_one() -> None:
    def f(x: Any) -> Any:
        return x @ WEIGHTS.T + (x @ WEIGHTS.copy().T) + x.sum() * 2 + 2 * x.min()

    traced = trace(f, (X,))
    assert len([c for c in ops(traced, "constant") if c.result.tensor.size == 400]) == 1
    assert len([c for c in ops(traced, "constant") if c.result.shape == ()]) == 1


def test_a_large_constant_has_its_variable_name() -> None:
    assert ops(trace(lambda x: WEIGHTS @ x.T, (X,)), "constant")[0].result.name == "WEIGHTS"


def test_constants_are_taken_as_they_are_at_the_time() -> None:
    def f(x: Any) -> Any:
        table = np.ones(4)
        first = x * table
        table[0] = 5
        return first, x * table

    agree(f, X)


def test_a_trace_does_not_see_later_changes() -> None:
    table = np.ones(4)
    traced = trace(lambda x: x * table, (X,))
    table[0] = 7
    np.testing.assert_array_equal(run(traced, X), X)


def test_static_arguments_and_defaults() -> None:
    def f(x: Any, mode: str, axis: int = 0, *, keep: bool = False) -> Any:
        return x.sum(axis=axis, keepdims=keep) if mode == "sum" else x

    traced = trace(f, (X,), static={"mode": "sum", "axis": 1, "keep": True})
    np.testing.assert_array_equal(run(traced, X), X.sum(1, keepdims=True))


def test_arguments_of_other_kinds() -> None:
    class Foreign:
        """An array of another library."""

        def __init__(self, array: Any) -> None:
            self.array, self.shape, self.dtype = array, array.shape, "torch.float32"

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self.array

    traced = trace(lambda x, y: x + y, (Foreign(np.ones(3, "f4")), 2.0))
    assert str(traced.function.params[0].type) == "f32[3]"
    assert run(traced, np.ones(3, "f4"), 2.0).dtype == np.float32
    big = np.arange(3, dtype=">f8")
    assert str(trace(lambda x: x + big, (big,)).function.results[0].type) == "f64[3]"
    closed = Foreign(np.ones(3, "f4"))
    agree(lambda x: np.multiply(x, closed.array), np.ones(3, "f4"))


def test_traces_of_threads_do_not_meet() -> None:
    found: list[Any] = []

    def f(x: Any) -> Any:
        time.sleep(0.01)
        assert tracing()
        return x + 1

    def work() -> None:
        found.append(str(trace(f, (X,)).function))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1 and not tracing()


def test_nested_traces_are_apart() -> None:
    def f(x: Any) -> Any:
        inside = trace(lambda y: y * 3, (X,))
        assert len(inside.function.ops) > 1
        return x + 1

    assert not ops(trace(f, (X,)), "mul")


def test_the_frame_is_left_after_an_error() -> None:
    def f(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        trace(f, (X,))
    assert not tracing()


KEPT: list[Any] = []


def test_a_leaked_value_is_named() -> None:
    def f(x: Any) -> Any:
        secret = x * 2
        KEPT.append(secret)
        return x

    trace(f, (X,))
    error = failure(lambda x: x + KEPT[0], X)
    assert error.code == "GM030" and error.operands[0].name == "x * 2"


def test_a_value_of_another_trace_is_refused() -> None:
    def f(x: Any) -> Any:
        return trace(lambda y: x + y, (X,)).function.results and x

    assert failure(f, X).code == "GM030"


def test_attributes_and_text() -> None:
    seen: dict[str, Any] = {}

    def f(x: Any) -> Any:
        y = x * 2
        seen.update(repr=repr(y), text=f"{y}", shape=y.shape, ndim=y.ndim, size=y.size,
                    dtype=y.dtype, itemsize=y.itemsize, nbytes=y.nbytes, device=y.device,
                    has=hasattr(y, "strides"), names={"T", "sum", "shape"} <= set(dir(y)),
                    array=isinstance(y, Tracer))  # fmt: skip
        return y

    trace(f, (X.astype("f4"),))
    assert seen == {
        "repr": "Traced(y: f32[3, 4])", "text": "Traced(y: f32[3, 4])", "shape": (3, 4), "ndim": 2,
        "size": 12, "dtype": np.dtype("f4"), "itemsize": 4, "nbytes": 48, "device": "cpu",
        "has": False, "names": True, "array": True,
    }  # fmt: skip


def test_tracing_is_fast() -> None:
    """Ten ops in a few milliseconds at the very worst: a quadratic slip would show."""

    def f(x: Any) -> Any:
        for _ in range(100):
            x = x * 2 + 1
        return x

    trace(f, (X,))
    start = time.thread_time()  # whatever else the machine is at
    trace(f, (X,))
    assert time.thread_time() - start < 1.0


class Scaled:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        return x * self.factor

    def method(self, x: Any) -> Any:
        return x + self.factor


def test_callables_of_every_kind() -> None:
    scaled = Scaled(2.0)
    partial = functools.partial(outer)
    for function, name, line in (
        (scaled, "Scaled", Scaled.__call__.__code__.co_firstlineno),
        (scaled.method, "method", Scaled.method.__code__.co_firstlineno),
        (partial, "outer", outer.__code__.co_firstlineno),
    ):
        made = trace(function, (X,)).function
        assert made.name == name and made.loc is not None and made.loc.line == line
        assert made.params[0].name == "x"
