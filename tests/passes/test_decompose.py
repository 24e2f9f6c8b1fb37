"""Convolutions by products and sums of slices, against the op's own meaning."""

import numpy as np
import pytest

from graphmill.ir.builder import Builder, function
from graphmill.ir.dtypes import f64
from graphmill.ir.graph import Function, Value
from graphmill.ir.reference import interpret
from graphmill.ir.types import tensor
from graphmill.passes.manager import DEFAULT_PIPELINE, run_pipeline
from tests.passes.arena_machine import Machine

SLICED = DEFAULT_PIPELINE.replace("decompose", "decompose{ops=conv}")

# x, w, strides, low, high, dilation, input dilation, groups
CASES = [
    ((1, 4, 6, 5), (3, 4, 1, 1), (1, 1), (0, 0), (0, 0), (1, 1), (1, 1), 1),
    ((2, 4, 6, 5), (3, 4, 1, 1), (1, 1), (0, 0), (0, 0), (1, 1), (1, 1), 1),
    ((1, 3, 8, 8), (5, 3, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), 1),
    ((2, 3, 9, 8), (5, 3, 3, 3), (2, 2), (1, 0), (1, 1), (1, 1), (1, 1), 1),
    ((2, 20, 7, 7), (4, 20, 3, 2), (1, 2), (0, 0), (0, 0), (2, 1), (1, 1), 1),
    ((2, 6, 7, 7), (6, 1, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), 6),
    ((1, 3, 7, 7), (6, 1, 3, 3), (2, 1), (1, 1), (1, 1), (1, 1), (1, 1), 3),
    ((2, 8, 6, 6), (6, 4, 2, 2), (1, 1), (0, 0), (0, 0), (1, 1), (1, 1), 2),
    ((2, 4, 9), (3, 4, 4), (3,), (2,), (1,), (1,), (1,), 1),
    ((1, 2, 4, 4), (3, 2, 3, 3), (1, 1), (2, 2), (2, 2), (1, 1), (2, 2), 1),
    ((1, 2, 3, 4, 5), (3, 2, 2, 2, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
]


def conv(case: tuple[tuple[int, ...], ...], dtype: str) -> Function:
    shape, weights, strides, low, high, dilation, spread, groups = case
    attrs = {
        "strides": strides, "low": low, "high": high, "dilation": dilation,
        "input_dilation": spread, "groups": groups,
    }  # fmt: skip

    def body(b: Builder, x: Value, w: Value) -> Value:
        return b.op("conv", x, w, **attrs)

    return function("f", {"x": tensor(dtype, *shape), "w": tensor(dtype, *weights)}, body)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "bf16", "c64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv(case: tuple[tuple[int, ...], ...], dtype: str) -> None:
    made = conv(case, dtype)
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(-4, 5, p.shape).astype(p.tensor.dtype.numpy) for p in made.params
    ]  # small integers: every order of summation gives the same
    planned = run_pipeline(made, SLICED)
    assert "conv" not in {op.name for op in planned.walk()}
    (wanted,) = interpret(made, *arrays)
    for got in (interpret(planned, *arrays)[0], Machine(planned, arrays).run()[0]):
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype


def test_depthwise_is_one_kernel() -> None:
    planned = run_pipeline(conv(CASES[5], "f32"), SLICED)
    assert [op.name for op in planned.ops if op.name not in ("constant", "reshape")] == [
        "fusion", "return",
    ]  # fmt: skip


def test_pointwise_is_one_product() -> None:
    names = [op.name for op in run_pipeline(conv(CASES[0], "f32"), SLICED).ops]
    assert [n for n in names if n != "reshape"] == ["dot_general", "return"]


def test_convolutions_with_a_kernel_stay() -> None:
    planned = run_pipeline(conv(CASES[2], "f32"))
    assert "conv" in {op.name for op in planned.walk()}
    symbolic = conv(((1, 3, 8, 8), ("o", 3, 3, 3), *CASES[2][2:]), "f32")
    assert "conv" not in {op.name for op in run_pipeline(symbolic).walk()}


def test_a_computed_matrix_times_a_vector_is_not_stored() -> None:
    """One kernel with a sum; a matrix that lies in memory keeps its product."""

    def body(b: Builder, x: Value, y: Value) -> list[Value]:
        return [b.dot(b.op("exp", x), y), b.dot(x, y), b.dot(b.op("neg", x), b.reshape(y, (5, 1)))]

    made = function("f", {"x": tensor(f64, 4, 5), "y": tensor(f64, 5)}, body)
    planned = run_pipeline(made, DEFAULT_PIPELINE.removesuffix(",memory"))
    assert [op.name for op in planned.walk()].count("dot_general") == 1
    x, y = np.random.default_rng(0).standard_normal((4, 5)), np.arange(5.0)
    for got, want in zip(interpret(planned, x, y), interpret(made, x, y), strict=True):
        np.testing.assert_allclose(got, want)
