"""Constants made from captured arrays: the steps, and filling them in on several threads."""

from __future__ import annotations

import numpy as np
import pytest

from graphmill.codegen.artifact import Artifact, ArtifactError, Constant
from graphmill.codegen.constants import BINARY, STEPS, apply, complete
from graphmill.codegen.workers import Workers
from graphmill.runtime.executable import Executable

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
UNITS = np.arange(-24, 24, dtype=np.int8).reshape(2, 3, 2, 4)
SUMS = (UNITS.sum((1, 3), np.int32) * -2).astype(np.int32).view(np.int8).reshape(2, 1, 2, 4)
FILTERS = np.ones((3, 3, 2), np.float32)
SQUARE = np.multiply.outer(np.outer([-1, 1.5, 0.5, 1], [-1, 1.5, 0.5, 1]), [1, 1])
CASES = {
    "transpose": (ARRAY, (2, 0, 1), ARRAY.transpose(2, 0, 1)),
    "reshape": (ARRAY, (6, 4), ARRAY.reshape(6, 4)),
    "slice": (ARRAY, (0, 1, 0, 2, 3, 3, 1, 1, 2), ARRAY[:, 1:3, 0:3:2]),
    "reverse": (ARRAY, (0, 2), ARRAY[::-1, :, ::-1]),
    "pad": (ARRAY, (0, 1, 2), np.pad(ARRAY, [(0, 0), (0, 1), (0, 2)])),
    "winograd": (FILTERS, (2,), SQUARE),
    "column_sums": (UNITS, (-2,), np.concatenate([SUMS, UNITS], 1)),
    "multiply": (ARRAY, (1,), ARRAY * np.float32([2, -1, 0.5])[:, None]),
}


OTHERS = [ARRAY, np.float32([2, -1, 0.5])[:, None]]


@pytest.mark.parametrize("name", [*STEPS, *BINARY])
def test_steps(name):
    array, numbers, expected = CASES[name]
    found = apply(array, [(name, numbers)], OTHERS.__getitem__)
    np.testing.assert_array_equal(found, expected)


def _artifact(*constants: Constant) -> Artifact:
    return Artifact("f", "gm_f", "native", b"code", (), (), constants=constants)


@pytest.mark.parametrize("threads", [1, 3])
def test_sources_are_filled_in(threads):
    rng = np.random.default_rng(0)
    sources = [rng.standard_normal((40, 30 + i)) for i in range(5)]
    steps = (("pad", (0, 3)), ("transpose", (1, 0)))
    constants = [
        Constant(f"c{i}", "f32", (a.shape[1] + 3, 40), None, i, steps)
        for i, a in enumerate(sources)
    ]
    plain = Constant("c5", "f64", (2,), np.array([1.0, 2.0]).tobytes())
    stored = _artifact(*constants, plain).to_bytes()
    assert len(stored) < 2000
    artifact = complete(Artifact.from_bytes(stored), sources, threads)
    for constant, array in zip(artifact.constants, sources, strict=False):
        found = np.frombuffer(constant.data, np.float32).reshape(constant.shape)
        assert found.__array_interface__["data"][0] % 64 == 0 and not found.flags.writeable
        np.testing.assert_array_equal(found, np.pad(array.T, [(0, 3), (0, 0)]).astype(np.float32))
    assert artifact.constants[5].data == plain.data
    assert artifact.to_bytes() == stored


def test_a_constant_without_data_does_not_run():
    lacking = _artifact(Constant("c0", "f32", (2,), None, 0))
    with pytest.raises(ArtifactError):
        Executable(lacking)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_workers_do_all_and_raise_the_first_failure(threads):
    done = []
    with Workers(threads) as workers:
        for i in range(20):
            workers.start(lambda i=i: done.append(i))
    assert sorted(done) == list(range(20))
    with pytest.raises(ZeroDivisionError), Workers(threads) as workers:
        workers.start(lambda: 1 // 0)
    with pytest.raises(KeyError), Workers(threads) as workers:
        workers.start(lambda: None)
        raise KeyError
