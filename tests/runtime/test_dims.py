"""Dim expressions: values as in Python, solving for one dim, and nothing but the grammar."""

import pytest

from graphmill.runtime.dims import DimError, compile_dim, evaluate, solve

VALUES = {"batch": 7, "seq": 5}


@pytest.mark.parametrize(
    "text, value",
    [
        (3, 3),
        ("batch", 7),
        ("2*batch + 1", 15),
        ("batch*seq", 35),
        ("floordiv(batch + 1, 2)", 4),
        ("floordiv(-batch, 2)", -4),
        ("mod(batch, 2)", 1),
        ("mod(-batch, 4)", 1),
        ("max(batch, 9)", 9),
        ("min(batch - seq, 9)", 2),
        ("-batch + 2*(seq - 1)", 1),
        ("batch - seq - 1", 1),
    ],
)
def test_value(text, value):
    assert evaluate(text, VALUES) == value


@pytest.mark.parametrize(
    "text",
    ["", "x", "batch +", "batch.real", "batch[0]", "__import__('os')", "batch ** 2", "1.5", "True",
     "max(batch)", "max(batch, seq, 1)", "floordiv(a=1, b=2)", "(lambda: 1)()", "'a'",
     "batch if seq else 1", "1+" * 3000 + "1", "(" * 300 + "1" + ")" * 300],
)  # fmt: skip
def test_not_in_the_grammar(text):
    with pytest.raises(DimError):
        evaluate(text, VALUES)


@pytest.mark.parametrize(
    "text, target, value",
    [("batch", 9, 9), ("2*batch + 1", 9, 4), ("2*batch + 1", 8, None), ("batch - 3", 0, 3),
     ("batch + 3", 0, None), ("mod(batch, 2)", 1, None), ("batch*batch", 4, None), (4, 4, None)],
)  # fmt: skip
def test_solve(text, target, value):
    assert solve(compile_dim(text, {"batch": 0}), 0, target) == value
