"""Variables become parameters and results, and mean the same."""

import numpy as np
import pytest

from graphmill.ir.builder import Builder, function, region
from graphmill.ir.graph import Module, Variable
from graphmill.ir.reference import interpret
from graphmill.ir.types import TOKEN, tensor
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


def test_variables_inside_control_flow_are_refused():
    def inside(b, x, token):
        return b.emit("variable.read", [token], {"name": "w", "type": F}).results[0]

    def body(b: Builder, p, x):
        branches = [region([F, TOKEN], inside), region([F, TOKEN], lambda b, x, t: x)]
        return b.emit("cond", [p, x, b.token()], {}, branches).results

    made = function("f", {"p": tensor("bool"), "x": F}, body)
    with pytest.raises(StateError, match="carry its value"):
        state(made)
