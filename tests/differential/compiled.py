"""Running a function compiled, to compare it with the reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill import driver
from graphmill.driver import Options
from graphmill.ir.graph import Function
from graphmill.passes.manager import DEFAULT_PIPELINE
from graphmill.runtime.executable import Executable

PLAIN = "inline,state,memory"  # no op changed or fused: every kernel by itself


def executable(made: Function, pipeline: str = DEFAULT_PIPELINE, threads: int = 2) -> Executable:
    """The compiled function."""
    options = Options(pipeline)
    return Executable(driver.emit(driver.optimise(made, options), options), threads=threads)


def run_compiled(
    made: Function, arrays: list[np.ndarray[Any, Any]], pipeline: str = DEFAULT_PIPELINE,
    threads: int = 2,
) -> tuple[np.ndarray[Any, Any], ...]:  # fmt: skip
    """The results of the compiled function."""
    return executable(made, pipeline, threads).run(*arrays)


def assert_close(got: Any, want: Any, message: str = "") -> None:
    """Equal shapes and dtypes, integers exactly, floats within a few roundings of their dtype."""
    assert len(got) == len(want), message
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, (message, a.dtype, b.dtype)
        if b.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b, message)
            continue
        digits = {2: 2e-2, 4: 3e-5, 8: 1e-11, 16: 1e-11}[b.dtype.itemsize]
        if b.dtype == np.complex64:
            digits = 3e-5
        wide = (lambda x: x.astype(np.float64)) if b.dtype.itemsize == 2 else (lambda x: x)
        scale = np.max(np.abs(wide(b)[np.isfinite(wide(b))]), initial=1.0)
        np.testing.assert_allclose(
            wide(a), wide(b), rtol=digits, atol=digits * float(scale) * 0.1, err_msg=message
        )
