"""Random loops over parts of arrays: rolled, interpreted and compiled as NumPy runs them."""

from __future__ import annotations

import pytest

import graphmill as gm
from graphmill.ir.reference import interpret
from graphmill.passes import manager
from graphmill.passes.manager import run_pipeline
from graphmill.runtime import knobs
from tests.differential.compiled import assert_close
from tests.differential.random_loops import MORE, Program, counted, leaves, unrolled

ROLLED, COUNTED = range(16), range(16)
ROLL = "inline,state,roll"
OPEN = {"a": ("n",), "b": ("n",), "p": ("n", None), "q": ("n", None), "c": ("n", "n")}
COMPILED = 8  # of how many programs one is compiled


def interpreted_like_numpy(program: Program, pipeline: str = "inline,state") -> int:
    """Compares the program after these passes; how many loops are in it."""
    made = run_pipeline(gm.jit(program.function()).trace(*program.arrays()).function, pipeline)
    _compare(interpret(made, *program.arrays()), program)
    return sum(op.name == "scan" for op in made.walk())


def open_like_numpy(program: Program) -> None:
    """Compares the program with n left open, at two sizes."""
    made = gm.jit(program.function(), dynamic=OPEN).trace(*program.arrays()).function
    made = run_pipeline(made, "inline,state")
    for more in (0, MORE):
        _compare(interpret(made, *program.arrays(more)), program, more)


def compiled_like_numpy(program: Program, **options) -> None:
    compiled = gm.jit(program.function(), **options)
    with knobs.scope(cache=False):
        for more in (0, MORE) if options else (0,):
            _compare(compiled(*program.arrays(more)), program, more)


def _compare(got, program: Program, more: int = 0) -> None:
    message = f"{program.dtype}, n = {program.n + more}, m = {program.m}\n{program.text}"
    assert_close(list(leaves(got)), program.want(more), message)


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
    open_like_numpy(program)
    if seed % COMPILED == COMPILED - 1:
        compiled_like_numpy(program, dynamic=OPEN)


def test_what_the_programs_are_for():
    """Loops are found in them, some of sizes that change; a seed gives the same text always."""
    turns = []
    for seed in ROLLED[:4]:
        program = unrolled(seed)
        assert program.text == unrolled(seed).text
        made = run_pipeline(gm.jit(program.function()).trace(*program.arrays()).function, ROLL)
        turns += [op.attrs.get("turn") for op in made.walk() if op.name == "scan"]
    assert len(turns) > len(ROLLED[:4]) and any(turns)
