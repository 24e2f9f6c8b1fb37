"""Functions of traced arrays that can be called outside of a trace too, on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np

from graphmill.frontend.core import composite, tracing
from graphmill.frontend.trace import trace
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
