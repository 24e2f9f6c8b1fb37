"""Absorbing scales and shifts into weights: before and after, and what must stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.ir.builder import Builder, function
from graphmill.ir.dtypes import f32
from graphmill.ir.graph import Function, Value
from graphmill.ir.reference import interpret
from graphmill.ir.types import tensor
from graphmill.passes.manager import run_pipeline

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
W = RNG.standard_normal((6, 4, 3, 3)).astype(np.float32)
ATTRS = {"strides": (1, 1), "low": (1, 1), "high": (1, 1), "dilation": (1, 1),
         "input_dilation": (1, 1), "groups": 1}  # fmt: skip


def chain(*steps: tuple[str, Any], reverse: bool = False) -> Function:
    """`conv` and what follows: op names with numbers, one per channel or one for all."""

    def body(b: Builder, x: Value) -> Value:
        y = b.op("conv", x, b.constant(W), **ATTRS)
        for name, number in steps:
            array = np.asarray(number, np.float32)
            other = b.broadcast(b.constant(array), y.shape, (1,) if array.ndim else ())
            y = b.op(name, other, y) if reverse else b.op(name, y, other)
        return y

    return function("f", {"x": tensor(f32, 2, 4, 5, 6)}, body)


def names(made: Function) -> list[str]:
    ignored = ("constant", "prepare", "broadcast", "return")
    return [op.name for op in made.ops if op.name not in ignored]


CHANNELS = RNG.uniform(0.5, 2, 6)


@pytest.mark.parametrize(
    ("made", "left"),
    [
        (chain(("mul", CHANNELS)), ["conv"]),
        (chain(("div", CHANNELS)), ["conv"]),
        (chain(("mul", 3.0)), ["conv"]),
        (chain(("sub", CHANNELS), ("mul", CHANNELS), ("add", CHANNELS)), ["conv", "add"]),
        (chain(("add", CHANNELS), ("add", 1.0)), ["conv", "add"]),
        (chain(("sub", CHANNELS), reverse=True), ["conv", "add"]),
        (chain(("add", CHANNELS)), ["conv", "add"]),
        (chain(("div", CHANNELS), reverse=True), ["conv", "div"]),
        (chain(("mul", np.inf)), ["conv", "mul"]),
        (chain(("max", CHANNELS), ("mul", CHANNELS)), ["conv", "max", "mul"]),
    ],
)
def test_chains(made: Function, left: list[str]) -> None:
    got = run_pipeline(made, "absorb")
    assert names(got) == left
    assert str(run_pipeline(got, "absorb")) == str(got)
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 6)).astype(np.float32)
    (want,), (y,) = interpret(made, x), interpret(got, x)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


def test_sums_that_others_read_stay() -> None:
    def body(b: Builder, x: Value) -> list[Value]:
        y = b.op("conv", x, b.constant(W), **ATTRS)
        return [y, b.op("mul", y, b.full(y.shape, 2.0, f32))]

    made = function("f", {"x": tensor(f32, 2, 4, 5, 6)}, body)
    assert names(run_pipeline(made, "absorb")) == ["conv", "mul"]


def test_batch_normalisation_becomes_a_shift() -> None:
    rng = np.random.default_rng(2)
    mean, var, scale, shift = (rng.uniform(0.5, 2, 6).astype(np.float32) for _ in range(4))

    def layer(x: Array) -> Array:
        return gm.nn.batch_norm(gm.nn.conv2d(x, W, padding=1), mean, var, scale, shift)  # type: ignore[no-any-return]

    x = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
    traced = gm.jit(layer).trace(x)
    absorbed = run_pipeline(traced.function, "simplify,absorb")
    assert names(absorbed) == ["conv", "add"]
    (want,) = traced.interpret(x)
    np.testing.assert_allclose(interpret(absorbed, x)[0], want, rtol=1e-4, atol=1e-4)
