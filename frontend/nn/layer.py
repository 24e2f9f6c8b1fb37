"""What the functions of `gm.nn` share: their scope, their dtypes, and calls outside of a trace."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np

from graphmill.frontend.core import Tracer, as_tracer, astype, composite, tracing
from graphmill.frontend.describe import failure
from graphmill.frontend.trace import trace
from graphmill.ir.dtypes import f32
from graphmill.ir.reference import interpret

P = ParamSpec("P")

# a traced array, or outside of a trace a NumPy array
Array = Any


def layer(function: Callable[P, Any]) -> Callable[P, Any]:
    """Let the ops of a function have its name as their scope (`softmax`).

    Outside of a traced function it is traced on its arguments and evaluated by NumPy.
    """
    scoped = composite(function.__name__)(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        return scoped(*args, **kwargs) if tracing() else _evaluated(scoped, args, kwargs)

    return call


def _evaluated(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    places: dict[Any, Any] = dict(enumerate(args)) | kwargs
    arrays = {k: v for k, v in places.items() if isinstance(v, np.ndarray | np.generic)}

    def run(given: Sequence[Any]) -> Any:
        now = places | dict(zip(arrays, given, strict=True))
        return function(*(now[i] for i in range(len(args))), **{k: now[k] for k in kwargs})

    made = trace(run, [list(arrays.values())])
    return made.out_tree.unflatten(interpret(made.function, *map(np.asarray, arrays.values())))


def floating(name: str, x: Any) -> Tracer:
    """x as a traced float array; GM015 for another dtype."""
    traced = as_tracer(x)
    if not traced.element.is_float:
        raise failure(
            "GM015", f"{name} of {traced.element}", [x],
            why="the result is no number of that dtype.", hint="cast first: x.astype(np.float32).",
        )  # fmt: skip
    return traced


def wide(x: Tracer) -> Tracer:
    """x in the dtype that sums are computed in: 16-bit floats in f32."""
    return astype(x, f32) if x.element.is_float and x.element.bits == 16 else x


def like(result: Tracer, x: Tracer) -> Tracer:
    """A result in x's dtype."""
    return astype(result, x.element)


def known(dim: Any, what: str, x: Any) -> int:
    """A size that has to be a number while tracing."""
    if isinstance(dim, int):
        return dim
    raise failure(
        "GM005", f"{what} is the symbolic dim {dim}", [x],
        hint="make this axis static by leaving it out of dynamic=.",
    )  # fmt: skip
