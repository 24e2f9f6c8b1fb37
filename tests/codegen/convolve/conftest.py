"""Runs emitted convolutions through the contraction tests' player of `parallel_for`."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from graphmill.codegen.cpu.contract.spec import Epilogue, Sizes
from graphmill.codegen.cpu.convolve.conv import ConvSpec, conv_sizes, emit_conv
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.target import Target, native


@functools.cache
def _player() -> ModuleType:
    path = Path(__file__).parents[1] / "contract" / "conftest.py"
    spec = importlib.util.spec_from_file_location("contract_player", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def compiled(spec: ConvSpec, epilogue: Epilogue | None, machine: Target) -> Any:
    """The kernel of one spec, compiled once per test run."""

    def sizes(code: Code, given: Val) -> Sizes:
        values = [
            code.load(code.at(given, i, "i64"), "i64", 8) for i in range(1 + len(spec.window))
        ]
        return conv_sizes(code, spec, values[0], values[1:])

    unit = Unit()
    kernel = emit_conv(unit, "gm_conv", spec, machine, epilogue)
    return _player().Kernels(unit, kernel.phases, (kernel.shared, kernel.scratch), sizes)


def run_conv(
    spec: ConvSpec,
    x: np.ndarray[Any, Any],
    w: np.ndarray[Any, Any],
    out: Sequence[int],
    *,
    epilogue: Epilogue | None = None,
    extra: Sequence[int] = (),
    workers: int = 1,
    machine: Target | None = None,
) -> np.ndarray[Any, Any]:
    """The convolution of x and w as the kernel reads it; `out` are the result's spatial sizes."""
    kernels = compiled(spec, epilogue, machine or native())
    whole = np.full((x.shape[0] + 1, spec.filters, *out), 99, spec.out.numpy)
    y = whole[:-1]
    plan = kernels.plan((x.shape[0], *out))
    aligned = _player().aligned
    shared, scratch = aligned(plan[-2]), aligned(plan[-1] * workers)
    steps = [step // x.itemsize for step in x.strides]
    data = np.array(
        [x.ctypes.data, w.ctypes.data, y.ctypes.data, x.shape[0], *steps[:2], *x.shape[2:], *out,
         *steps[2:], shared.ctypes.data, scratch.ctypes.data, plan[-1], *extra], np.int64,
    )  # fmt: skip
    kernels.run(data, plan, workers)
    assert (whole[-1] == whole.dtype.type(99)).all(), "a store beyond the result"
    return y


@pytest.fixture
def conv() -> Callable[..., np.ndarray[Any, Any]]:
    return run_conv
