"""One kernel in three styles: what NumPy and Graphmill write in place, JAX gives as a new array."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

Body = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Style:
    """How a framework counts (`loop(low, high, body, state)`) and stores (`put(a, at, value)`)."""

    loop: Callable[[Any, Any, Body, Any], Any]
    put: Callable[[Any, Any, Any], Any]


def counted(low: int, high: int, body: Body, state: Any) -> Any:
    """A `for` loop of Python's over a body that gives the next state."""
    for i in range(low, high):
        state = body(i, state)
    return state


def stored(array: Any, at: Any, value: Any) -> Any:
    array[at] = value
    return array


def graphmill_loop(low: Any, high: Any, body: Body, state: Any) -> Any:
    import graphmill as gm

    return gm.fori_loop(low, high, body, state)


def jax_loop(low: Any, high: Any, body: Body, state: Any) -> Any:
    from jax import lax

    return lax.fori_loop(low, high, body, state)


STYLES = {
    "numpy": Style(counted, stored),
    "graphmill": Style(graphmill_loop, stored),
    "jax": Style(jax_loop, lambda array, at, value: array.at[at].set(value)),
}


def in_styles(kernel: Callable[..., Any], *names: str) -> dict[str, Callable[..., Any]]:
    """The variants of a workload from `kernel(style, xp, *inputs)`: all, or the named ones."""
    return {name: partial(kernel, STYLES[name]) for name in names or STYLES}
