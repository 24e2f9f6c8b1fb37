"""Sliding windows compiled against the reference: rows, paddings, strides, dtypes, targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphmill import driver
from graphmill.codegen.cpu.window_rows import is_rows
from graphmill.ir.builder import function
from graphmill.ir.dtypes import dtype
from graphmill.ir.graph import Function
from graphmill.ir.reference import interpret
from graphmill.ir.types import tensor
from graphmill.passes.manager import run_pipeline
from graphmill.runtime.executable import Executable
from tests.differential.compiled import assert_close

Pairs = tuple[int, int]


def pooled(
    shape: tuple[int | str, ...], window: Pairs, strides: Pairs = (1, 1), low: Pairs = (0, 0),
    high: Pairs = (0, 0), dilation: Pairs = (1, 1), monoid: str = "max", of: str = "f32",
) -> Function:  # fmt: skip
    lead = len(shape) - 2
    one, zero = (1,) * lead, (0,) * lead
    attrs: dict[str, Any] = {
        "window": one + window, "strides": one + strides, "low": zero + low, "high": zero + high,
        "dilation": one + dilation, "monoid": monoid,
    }  # fmt: skip
    return function(
        "f", {"x": tensor(dtype(of), *shape)}, lambda b, x: b.op("window_reduce", x, **attrs)
    )


CASES = {
    "3x3-stride-2": pooled((2, 3, 17, 35), (3, 3), (2, 2), (1, 1), (1, 1)),
    "2x2-stride-2": pooled((3, 8, 48), (2, 2), (2, 2), monoid="sum"),
    "3x3": pooled((2, 9, 19), (3, 3), low=(1, 1), high=(1, 1), monoid="sum"),
    "5x4-stride-3": pooled((2, 20, 41), (5, 4), (3, 3), (2, 0), (1, 3), monoid="min"),
    "dilated": pooled((2, 20, 41), (3, 3), (1, 2), (2, 2), (2, 2), (2, 3)),
    "all-padding": pooled((1, 2, 3), (3, 3), (1, 1), (5, 4), (4, 5)),
    "one-row": pooled((40,) * 2, (1, 7), (1, 1), (0, 3), (0, 3), monoid="prod"),
    "symbolic-rows": pooled(("n", 5, 21), (3, 3), (2, 2), (1, 1), (1, 1)),
    "symbolic-height": pooled((2, "n", 21), (2, 3), low=(1, 1), high=(1, 1)),
    "integers": pooled((3, 9, 22), (3, 3), (2, 2), (1, 1), (1, 1), of="i32"),
    "bytes": pooled((3, 9, 22), (3, 3), (2, 2), monoid="min", of="u8"),
    "half": pooled((3, 9, 22), (3, 3), (2, 2), (1, 1), (1, 1), of="f16"),
    "bf16-sums": pooled((3, 9, 22), (3, 3), low=(1, 1), high=(1, 1), monoid="sum", of="bf16"),
    "double": pooled((3, 9, 22), (3, 2), (2, 1), monoid="sum", of="f64"),
}


def sample(made: Function) -> np.ndarray[Any, Any]:
    type = made.params[0].tensor
    shape = [dim if isinstance(dim, int) else 4 for dim in type.shape]
    values = np.random.default_rng(0).uniform(-2, 3, shape)
    if type.dtype.kind != "f":
        values = np.abs(values * 9)
    return values.astype(type.dtype.numpy)


def check(made: Function, target: str, threads: int, x: np.ndarray[Any, Any]) -> None:
    op = next(op for op in made.walk() if op.name == "window_reduce")
    assert is_rows(op)
    artifact = driver.emit(run_pipeline(made), driver.Options(target=target))
    got = Executable(artifact, threads=threads).run(x)
    assert_close(got, interpret(made, x))


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    check(CASES[name], "native", 2, sample(CASES[name]))


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize("name", ["3x3-stride-2", "dilated", "half"])
def test_targets(name: str, target: str) -> None:
    check(CASES[name], target, 1, sample(CASES[name]))


def test_nan_wins_and_infinity_counts() -> None:
    x = sample(CASES["3x3-stride-2"])
    x[0, 0, 4, 5], x[1, 2, 0, 0], x[1, 2, 16, 34] = np.nan, np.inf, -np.inf
    check(CASES["3x3-stride-2"], "native", 1, x)
