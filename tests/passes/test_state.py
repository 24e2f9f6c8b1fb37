"""Variables become parameters and results, and mean the same."""

import numpy as np
import pytest

from graphmill.ir.builder import Builder, function, region
from graphmill.ir.dtypes import f32, i32
from graphmill.ir.graph import Module, Variable
from graphmill.ir.reference import interpret
from graphmill.ir.types import tensor
from graphmill.ir.verifier import verify
from graphmill.passes.manager import run_pipeline
from graphmill.passes.state import StateError, state
from tests.differential.compiled import run_compiled

F = tensor("f32", 4)


def counter():
    """Reads `w`, adds x, assigns it, reads it again; also sets `last` without reading it."""

    def body(b: Builder, x):
        w, token = b.emit("variable.read", [b.token()], {"name": "w", "type": F}).results
        total = b.op("add", w, x)
        token = b.emit("variable.assign", [total, token], {"name": "w"}).result
        again, token = b.emit("variable.read", [token], {"name": "w", "type": F}).results
        b.emit("variable.assign", [x, token], {"name": "last"})
        return b.op("mul", again, again)

    return function("step", {"x": F}, body)


def test_state_in_state_out():
    made = counter()
    x, w = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
    variables = {"w": w.copy()}
    (want,) = interpret(Module({"step": made}, {"w": Variable("w", F, w)}), x, variables=variables)
    changed = state(made)
    assert changed.attrs["reads"] == ("w",) and changed.attrs["writes"] == ("w", "last")
    assert [p.name for p in changed.params] == ["x", "w"]
    for got in (interpret(changed, x, w), run_compiled(changed, [x, w])):
        np.testing.assert_array_equal(got[0], want)
        np.testing.assert_array_equal(got[1], variables["w"])
        np.testing.assert_array_equal(got[2], variables["last"])


def test_functions_without_variables_stay():
    made = function("f", {"x": F}, lambda b, x: b.op("neg", x))
    assert state(made) is made
    assert str(run_pipeline(made, "state")) == str(made)


def bump(b: Builder, by) -> None:
    """w += by, with the block's own token."""
    w, token = b.emit("variable.read", [b.token()], {"name": "w", "type": F}).results
    b.emit("variable.assign", [b.op("add", w, by), token], {"name": "w"})


def branch(b: Builder, x):
    bump(b, x)
    return x


def in_cond(b: Builder, p, x):
    other = region([F], lambda b, x: b.op("neg", x))
    return b.emit("cond", [p, x], {}, [region([F], branch), other]).results


def in_while(b: Builder, p, x):
    types = [tensor("i32"), F]
    test = region(types, lambda b, i, x: b.op("lt", i, b.constant(3, i32)))

    def body(b, i, x):
        bump(b, x)
        return b.op("add", i, b.constant(1, i32))

    return b.emit("while", [b.constant(0, i32), x], {"carry": 1}, [test, region(types, body)])


def in_scan(b: Builder, p, x):
    def body(b, carry, row, w):
        branches = [region([F], branch), region([F], lambda b, x: x)]
        made = b.emit("cond", [b.op("lt", row, carry), w], {}, branches).result
        return [row, made]

    one = tensor("f32")
    attrs = {"carry": 1, "xs": 1, "length": 4, "reverse": False}
    start = b.constant(1.5, f32)
    return b.emit("scan", [start, x, x], attrs, [region([one, one, F], body)]).results


@pytest.mark.parametrize("build", [in_cond, in_while, in_scan])
@pytest.mark.parametrize("flag", [True, False])
def test_through_regions(build, flag):
    def body(b, p, x):
        made = build(b, p, x)
        made = list(getattr(made, "results", made))
        return [*made, b.emit("variable.read", [b.token()], {"name": "w", "type": F}).results[0]]

    made = function("f", {"p": tensor("bool"), "x": F}, body)
    x, w = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
    variables = {"w": w.copy()}
    module = Module({"f": made}, {"w": Variable("w", F, w)})
    want = interpret(module, np.bool_(flag), x, variables=variables)
    changed = state(made)
    verify(changed)
    assert changed.attrs["reads"] == changed.attrs["writes"] == ("w",)
    for got in (
        interpret(changed, np.bool_(flag), x, w),
        run_compiled(changed, [np.bool_(flag), x, w]),
    ):
        for a, b in zip(got, [*want, variables["w"]], strict=True):
            np.testing.assert_array_equal(a, b)


def test_assignments_in_a_test_are_refused():
    types = [tensor("i32"), F]

    def test(b, i, x):
        bump(b, x)
        return b.op("lt", i, b.constant(3, i32))

    def body(b: Builder, x):
        regions = [region(types, test), region(types, lambda b, i, x: i)]
        return b.emit("while", [b.constant(0, i32), x], {"carry": 1}, regions).results

    with pytest.raises(StateError, match="inside the test of a loop"):
        state(function("f", {"x": F}, body))
