"""Random functions: compiled with and without the passes against the reference evaluator."""

import pytest

from graphmill.ir.reference import interpret
from graphmill.passes.manager import DEFAULT_PIPELINE
from graphmill.runtime.executable import Executable
from tests.differential.compiled import PLAIN, executable, run_compiled
from tests.differential.random_graphs import arrays_for, assert_same, random_function

pytestmark = pytest.mark.sampled(2)

SEEDS = range(150)


@pytest.mark.parametrize("seed", SEEDS)
def test_compiled_like_reference(seed):
    made = random_function(seed)
    arrays = arrays_for(made, seed)
    want = interpret(made, *arrays)
    # ops as they stand: each by itself is in test_ops_compiled, here are some together
    for pipeline in (PLAIN, DEFAULT_PIPELINE)[seed % 3 > 0 :]:
        assert_same(run_compiled(made, arrays, pipeline), want)


@pytest.mark.parametrize("seed", SEEDS[::10])
def test_results_do_not_depend_on_threads(seed):
    made = random_function(seed)
    arrays = arrays_for(made, seed)
    made = executable(made, threads=1)
    other = Executable(made.artifact, threads=2)
    assert_same(other.run(*arrays), made.run(*arrays))
