"""Every workload's record makes sense, and its ONNX form is a model that the checker takes."""

import numpy as np
import pytest

from benchmarks.frameworks import FRAMEWORKS, THREAD_VARIABLES, environment, onnx_model
from benchmarks.layers import with_numpy
from benchmarks.workload import Workload
from benchmarks.workloads import WORKLOADS

VARIANTS = {
    "reference",
    "array", "numpy", "jax", "graphmill", "torch", "inductor", "numba", "numexpr", "onnx", "layers",
}  # fmt: skip
SMALL = [w for w in WORKLOADS.values() if "model" not in w.tags]
by_name = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))


@by_name
def test_record(workload: Workload) -> None:
    assert WORKLOADS[workload.name] is workload
    assert workload.name.isidentifier() and workload.title
    assert set(workload.code) <= VARIANTS
    assert workload.variant("array", "graphmill", "layers"), "Graphmill's own form is missing"
    assert workload.variant("reference", "array", "numpy", "layers"), (
        "nothing to compute the reference with"
    )
    assert workload.flops >= 0 and workload.bytes >= 0 and workload.tolerance >= 0


def test_onnx_forms_are_models() -> None:
    onnx = pytest.importorskip("onnx")
    for workload in SMALL:
        if workload.variant("onnx", "layers"):
            onnx.checker.check_model(onnx_model(workload), full_check=True)


def test_workers_use_their_threads_and_their_own_caches() -> None:
    made = environment(2, "/somewhere")
    assert {made[name] for name in THREAD_VARIABLES} == {"2"}
    assert "OPENBLAS_CORETYPE" not in made and "GRAPHMILL_DUMP" not in made
    assert made["GRAPHMILL_CACHE_DIR"].startswith("/somewhere")


def test_error_is_a_share_of_the_largest_value() -> None:
    workload = next(iter(WORKLOADS.values()))
    reference = np.array([1.0, -4.0])
    assert workload.error(np.array([1.0, -3.0]), reference) == 0.25
    assert workload.error(np.array([1.0]), reference) == float("inf")
    assert not workload.error(np.array([np.nan, -4.0]), reference) <= 1


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride, padding, dilation", [(1, 1, 1), (2, 0, 1), (2, 2, 2)])
def test_convolution_of_the_reference(
    groups: int, stride: int, padding: int, dilation: int
) -> None:
    """Against the definition, element by element."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(8, 4 // groups, 3, 2))
    result = with_numpy.conv2d(
        x, w, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    grown = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    for b, o, i, j in np.ndindex(*result.shape):
        first = o // (8 // groups) * (4 // groups)
        rows = slice(i * stride, i * stride + 2 * dilation + 1, dilation)
        columns = slice(j * stride, j * stride + dilation + 1, dilation)
        seen = grown[b, first : first + 4 // groups, rows, columns]
        assert np.isclose(result[b, o, i, j], (seen * w[o]).sum())


def test_every_framework_says_what_it_is() -> None:
    assert all(name == framework.name for name, framework in FRAMEWORKS.items())
