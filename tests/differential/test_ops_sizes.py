"""Ops with a symbolic dim: one compilation, right for the sizes 0, 1 and others."""

import pytest

from graphmill import driver
from graphmill.ir.reference import interpret
from graphmill.runtime.executable import Executable
from tests.differential.random_graphs import assert_same
from tests.differential.test_ops_compiled import OPS
from tests.ir.op_samples import arguments, sample_functions

pytestmark = pytest.mark.sampled(2)

CASES = [made for name in OPS for made in sample_functions(name) if made.dims]

# what has no meaning for these sizes in NumPy either
MEANINGLESS = {("slice", 0): "it starts at 1"}


@pytest.mark.parametrize("made", CASES, ids=lambda made: made.name)
def test_every_size(made):
    executable = Executable(driver.build(made, driver.Options()))
    for n in (0, 1, 3, 17):
        if (made.ops[0].name, n) in MEANINGLESS:
            continue
        arrays = arguments(made, n=n)
        assert_same(executable.run(*arrays), interpret(made, *arrays))
