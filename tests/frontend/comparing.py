"""Runs a function as NumPy and as a traced function through the reference evaluator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from graphmill.frontend.errors import GraphmillError
from graphmill.frontend.trace import Traced, trace
from graphmill.frontend.trees import flatten
from graphmill.ir.parser import parse_function
from graphmill.ir.printer import constants_of
from graphmill.ir.reference import interpret
from graphmill.ir.verifier import verify


def run(traced: Traced, *arrays: Any) -> Any:
    """What the traced function gives for these arrays."""
    leaves, _ = flatten((arrays, {}))
    return traced.out_tree.unflatten(interpret(traced.function, *map(np.asarray, leaves)))


def agree(
    function: Callable[..., Any], *arrays: Any, rtol: float = 0.0, ulps: float = 0.0
) -> Traced:
    """Assert that the traced function gives NumPy's values, dtypes and shapes."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        wanted = function(*copies)
    traced = trace(function, arrays)
    verify(traced.function)
    text = str(traced.function)
    assert str(parse_function(text, constants=constants_of(traced.function))) == text
    same(run(traced, *arrays), wanted, rtol, ulps)
    return traced


def same(got: Any, wanted: Any, rtol: float = 0.0, ulps: float = 0.0) -> None:
    """Assert that two nested results are equal, to a relative error or ulps of the dtype."""
    found, tree = flatten(got)
    expected, wanted_tree = flatten(wanted)
    assert str(tree) == str(wanted_tree)
    for a, b in zip(found, expected, strict=True):
        b = np.asarray(b)
        assert a.dtype == b.dtype, f"{a.dtype} is not NumPy's {b.dtype}"
        assert a.shape == b.shape, f"{a.shape} is not NumPy's {b.shape}"
        if (rtol or ulps) and b.dtype.kind in "fc":
            rtol = rtol or ulps * float(np.finfo(b.dtype).eps)
            wide = np.complex128 if b.dtype.kind == "c" else np.float64
            np.testing.assert_allclose(a.astype(wide), b.astype(wide), rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(a, b)


def failure(function: Callable[..., Any], *args: Any) -> GraphmillError:
    """The error that tracing the function raises."""
    try:
        trace(function, args)
    except GraphmillError as error:
        return error
    raise AssertionError("no error was raised")
