"""Random loops over parts of arrays: rolled, interpreted and compiled as NumPy runs them."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.ir.reference import interpret
from graphmill.passes import manager
from graphmill.passes.manager import run_pipeline
from graphmill.runtime import knobs
from tests.differential.compiled import assert_close
from tests.differential.random_loops import Program, counted, leaves, unrolled

ROLLED, COUNTED = range(16), range(16)
ROLL = "inline,state,roll"
COMPILED = 8  # of how many programs one is compiled


def interpreted_like_numpy(program: Program, pipeline: str = "inline,state") -> int:
    """Compares the program after these passes; how many loops are in it."""
    made = run_pipeline(gm.jit(program.function()).trace(*program.own()).function, pipeline)
    _compare(interpret(made, *program.own()), program)
    return sum(op.name == "scan" for op in made.walk())


def compiled_like_numpy(program: Program) -> None:
    with knobs.scope(cache=False):
        got = gm.jit(program.function())(*program.own())
    _compare(got, program)


def _compare(got, program: Program) -> None:
    want = [np.asarray(x) for x in leaves(program.want())]
    assert_close([np.asarray(x) for x in leaves(got)], want, program.text)


@pytest.fixture(autouse=True)
def small_loops_too(monkeypatch):
    monkeypatch.setitem(manager.LEAST_OPS, "roll", 8)


@pytest.mark.parametrize("seed", ROLLED)
def test_unrolled_loops(seed):
    program = unrolled(seed)
    interpreted_like_numpy(program, ROLL)
    if seed % COMPILED == COMPILED - 1:
        compiled_like_numpy(program)


@pytest.mark.parametrize("seed", COUNTED)
def test_counted_loops(seed):
    program = counted(seed)
    interpreted_like_numpy(program)
    if seed % COMPILED == COMPILED - 1:
        compiled_like_numpy(program)


def test_what_the_programs_are_for():
    """Loops are found in them, some of sizes that change; a seed gives the same text always."""
    turns = []
    for seed in ROLLED[:4]:
        program = unrolled(seed)
        assert program.text == unrolled(seed).text
        made = run_pipeline(gm.jit(program.function()).trace(*program.own()).function, ROLL)
        turns += [op.attrs.get("turn") for op in made.walk() if op.name == "scan"]
    assert len(turns) > len(ROLLED[:4]) and any(turns)
