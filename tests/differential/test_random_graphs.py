"""The random functions themselves: well-typed, deterministic, printed and read back alike."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphmill.ir.graph import Module
from graphmill.ir.parser import parse
from graphmill.ir.printer import constants_of
from graphmill.ir.reference import interpret
from graphmill.ir.verifier import verify
from tests.differential.random_graphs import (
    Options,
    arrays_for,
    assert_same,
    functions,
    random_function,
)

SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, *HealthCheck]
)


@given(functions())
@SLOW
def test_verify_round_trip_and_clone(function):
    verify(function)
    text = str(function)
    again = parse(text, constants_of(function)).entry
    assert str(again) == text == str(function.clone())


@given(functions(Options(half=True)), st.integers(1, 6), st.integers(1, 6))
@SLOW
def test_text_means_the_same(function, n, m):
    arrays = arrays_for(function, sizes={"n": n, "m": m})
    again = parse(str(function), constants_of(function))
    for a, b in zip(interpret(function, *arrays), interpret(again, *arrays), strict=True):
        assert a.tobytes() == b.tobytes() and a.dtype == b.dtype


@pytest.mark.parametrize("seed", range(40))
def test_seeded_functions_run(seed):
    function = random_function(seed, Options(ops=25))
    verify(Module({function.name: function}))
    results = interpret(function, *arrays_for(function, seed))
    assert str(random_function(seed, Options(ops=25))) == str(function)
    assert_same(results, interpret(function, *arrays_for(function, seed)))


def test_many_ops_occur():
    seen = {op.name for seed in range(150) for op in random_function(seed).walk()}
    assert len(seen) > 45 and {"while", "scan", "cond", "dot_general", "sort", "reduce"} <= seen


def test_floats_stay_tame():
    for seed in range(60):
        function = random_function(seed)
        for result in interpret(function, *arrays_for(function, seed)):
            if result.dtype.kind == "f":
                finite = np.isfinite(result) | np.isinf(result)
                assert finite.all(), seed
