"""The default pipeline on random functions: the same meaning, in the memory it plans."""

import pytest

from graphmill.ir.graph import Function
from graphmill.ir.ops.base import TypeRuleError
from graphmill.ir.reference import interpret
from graphmill.passes.manager import DEFAULT_PIPELINE, run_pipeline
from tests.differential.random_graphs import Options, arrays_for, assert_same, random_function
from tests.passes.arena_machine import Machine

pytestmark = pytest.mark.sampled(3)

SINGLE = ["fold", "simplify", "cse", "dce", "fuse", "fuse{max_ops=4}"]


def made(seed: int) -> Function:
    try:
        return random_function(seed, Options(ops=25))
    except TypeRuleError:
        pytest.skip("no function for this seed")


@pytest.mark.parametrize("seed", range(150))
def test_planned_function_means_the_same(seed: int) -> None:
    function = made(seed)
    planned = run_pipeline(function)
    arrays = arrays_for(function, seed)
    wanted = interpret(function, *arrays)
    assert_same(interpret(planned, *arrays), wanted)
    assert_same(Machine(planned, arrays).run(), wanted)


@pytest.mark.parametrize("pipeline", SINGLE)
@pytest.mark.parametrize("seed", range(150, 180))
def test_each_pass_alone_means_the_same(pipeline: str, seed: int) -> None:
    function = made(seed)
    arrays = arrays_for(function, seed)
    changed = run_pipeline(function, pipeline)
    assert_same(interpret(changed, *arrays), interpret(function, *arrays))


@pytest.mark.parametrize("pipeline", SINGLE)
@pytest.mark.parametrize("seed", range(180, 200))
def test_passes_are_idempotent_and_deterministic(pipeline: str, seed: int) -> None:
    once = run_pipeline(made(seed), pipeline)
    assert str(run_pipeline(made(seed), pipeline)) == str(once)
    assert str(run_pipeline(once, pipeline)) == str(once)


@pytest.mark.parametrize("seed", range(200, 230))
def test_memory_of_unfused_functions(seed: int) -> None:
    function = made(seed)
    arrays = arrays_for(function, seed)
    assert_same(Machine(run_pipeline(function, "memory"), arrays).run(),
                interpret(function, *arrays))  # fmt: skip


def test_pipeline_text_is_that_of_the_driver() -> None:
    assert DEFAULT_PIPELINE.endswith("fuse,inline,memory")
