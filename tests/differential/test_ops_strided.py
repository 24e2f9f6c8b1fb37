"""Every op at ranks 0 to 5 on arrays that lie in memory in every way NumPy knows."""

import numpy as np
import pytest

from graphmill.ir.reference import interpret
from tests.differential.compiled import PLAIN, assert_close, executable
from tests.differential.ranked import LAYOUTS, NO_STRIDES, RANKS, ranked
from tests.differential.test_ops_compiled import OPS
from tests.ir.op_samples import arguments

pytestmark = pytest.mark.sampled(3)

SIZES = (5, 1, 0)
NAMES = [name for name in OPS if name not in NO_STRIDES]


def check(made):
    compiled = executable(made, PLAIN)
    for n in SIZES if made.dims else SIZES[:1]:
        arrays = arguments(made, n=n)
        for layout in LAYOUTS if n > 1 else (LAYOUTS[0], LAYOUTS[-1]):
            laid = [layout(a) for a in arrays]
            want = interpret(made, *[np.array(a) for a in laid])
            assert_close(compiled.run(*laid), want, f"{layout.__name__}, n = {n}\n{made}")


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("name", NAMES)
def test_op(name, rank):
    for made in ranked(name, rank):
        check(made)
