"""Every dtype through the compiler, the C face and `load`, as the compiled function sees it."""

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.artifact import ITEMSIZES
from graphmill.runtime.buffers import numpy_dtype

pytestmark = pytest.mark.sampled(2)

RANKS = ((), (5,), (2, 3), (1, 2, 0, 3), (2, 1, 2, 1, 2))


def pick(x, y):
    return np.where(y, x, x[..., ::-1] if x.ndim else x)


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    functions = {}
    for dtype in ITEMSIZES:
        for rank, shape in enumerate(RANKS):
            specs = [gm.spec(f"{d}[{', '.join(map(str, shape))}]") for d in (dtype, "bool")]
            functions[f"{dtype}_{rank}"] = (pick, specs)
    built = gm.build(functions, path=tmp_path_factory.mktemp("dtypes") / "libdtypes.so")
    return gm.load(built.path)


@pytest.mark.parametrize("rank", range(len(RANKS)))
@pytest.mark.parametrize("dtype", ITEMSIZES)
def test_values(lib, dtype, rank):
    random = np.random.default_rng(rank)
    x = random.integers(0, 2 if dtype == "bool" else 100, RANKS[rank]).astype(numpy_dtype(dtype))
    y = random.integers(0, 2, RANKS[rank]).astype(bool)
    got = lib.functions[f"{dtype}_{rank}"](x, y)
    assert got.dtype == x.dtype and got.shape == x.shape
    np.testing.assert_array_equal(got, pick(x, y))
