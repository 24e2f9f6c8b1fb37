"""NumPy's array functions on traced arrays: the table behind `__array_function__`.

The implementations live in modules by family (`reductions`, `shaping`, `linear`, …), each
registered for the NumPy functions it stands for. A function without one is an error that names
the nearest supported one; it never runs on the host.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from graphmill.frontend.describe import failure
from graphmill.frontend.errors import GraphmillError
from graphmill.frontend.state import refused
from graphmill.frontend.tracer import Tracer
from graphmill.tables import Table

FAMILIES = (
    "reductions", "shaping", "joining", "linear", "einsum", "creation", "selecting", "statistics",
    "decompositions", "analysis", "positions",
)  # fmt: skip
TABLE = Table[Callable[..., Any], Callable[..., Any]]()

# What to write instead of functions that the nearest name does not help with.
ADVICE = {
    "nonzero": "the number of results depends on the values; np.where(mask, a, b) keeps the shape.",
    "argwhere": "the number of results depends on the values; np.where(mask, a, b) keeps the "
    "shape.",
    "flatnonzero": "the number of results depends on the values; np.where(mask, a, b) keeps the "
    "shape.",
    "extract": "the number of results depends on the values; np.where(mask, x, 0) keeps the shape.",
    "compress": "the number of results depends on the values; np.where(mask, x, 0) keeps the "
    "shape.",
    **dict.fromkeys(
        ("unique", "unique_all", "unique_counts", "unique_inverse", "unique_values"),
        "the number of results depends on the values; np.sort(x) has a fixed shape.",
    ),
    **dict.fromkeys(
        ("eigh", "eigvalsh", "svd", "svdvals", "pinv", "matrix_rank", "qr", "eig", "eigvals"),
        "compute it with NumPy outside of the function and pass the factors as arguments.",
    ),
    "bincount": "counts = np.zeros_like(weights); np.add.at(counts, x, 1) counts into a fixed "
    "number of bins.",
    "save": "return the array and save it outside of the function.",
    "array2string": "return the array and print it outside of the function.",
    "array_repr": "return the array and print it outside of the function.",
    "array_str": "return the array and print it outside of the function.",
    "vectorize": "write the function with whole-array operations.",
    "apply_along_axis": "write the function with whole-array operations, or use gm.scan.",
    "fft": "a matrix product with the DFT matrix serves small sizes.",
}

F = TypeVar("F", bound=Callable[..., Any])


def implements(*functions: Callable[..., Any]) -> Callable[[F], F]:
    """Registers an implementation for NumPy functions.

    A module whose import a signal's handler has cut short is loaded anew, and enters its own again.
    """

    def register(ours: F) -> F:
        for function in functions:
            TABLE.enter(function, ours, ours.__module__)
        return ours

    return register


def table() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Every supported NumPy function and its implementation."""
    for family in FAMILIES:
        importlib.import_module(f"graphmill.frontend.{family}")
    return TABLE


def implementation(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The implementation of a NumPy function; families are imported until one has it."""
    for family in FAMILIES:
        found = TABLE.find(function)
        if found is not None:
            return found
        importlib.import_module(f"graphmill.frontend.{family}")
    return TABLE.find(function)


def call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What `__array_function__` does; `out=` is handled here for all functions."""
    ours = implementation(function)
    if ours is None:
        raise unsupported(function, args)
    options = dict(kwargs)
    out = options.pop("out", None)
    try:
        result = ours(*args, **options)
    except TypeError as problem:
        binding = problem.__traceback__ is not None and problem.__traceback__.tb_next is None
        if isinstance(problem, GraphmillError) or not binding:
            raise
        raise _argument(function, args, problem) from None
    if out is None:
        return result
    from graphmill.frontend import ufuncs

    if not isinstance(out, Tracer):
        raise refused(failure(
            "GM011", f"{full_name(function)}(out=…) with a NumPy array", [out],
            hint="leave out= away and use the result.",
        ))  # fmt: skip
    ufuncs.store(out, result)
    return out


def _argument(function: Callable[..., Any], args: Any, problem: TypeError) -> GraphmillError:
    text = str(problem).split("() ", 1)[-1]
    return failure(
        "GM011",
        f"{full_name(function)}() {text}",
        [a for a in args if isinstance(a, Tracer)],
        why="this argument has no meaning while tracing, or the call does not fit NumPy's "
        "signature.",
        hint=f"call {full_name(function)} without it.",
    )


def full_name(function: Any) -> str:
    """`np.linalg.norm`."""
    module = getattr(function, "__module__", None) or "numpy"
    name = getattr(function, "__name__", str(function))
    return f"{module}.{name}".replace("numpy", "np", 1)


def unsupported(function: Any, args: Sequence[Any]) -> GraphmillError:
    """GM010 for a NumPy function or ufunc without an implementation."""
    name = full_name(function)
    last = name.rsplit(".", 1)[-1]
    advice = ADVICE.get(last) or ("fft" in name and ADVICE["fft"]) or _nearest(name)
    return failure(
        "GM010",
        name,
        [a for a in args if isinstance(a, Tracer)],
        why=f"Graphmill has no translation of {name}, and runs nothing on the host in silence.",
        hint=advice,
    )


def _nearest(name: str) -> str:
    from graphmill.frontend import ufuncs

    ufuncs.RULES.get(np.add)
    known = [full_name(f) for f in [*table(), *ufuncs.RULES]]
    import difflib

    close = difflib.get_close_matches(name, known, 3, 0.55)
    if close:
        return f"the nearest supported functions are {', '.join(close)}."
    return "write it with supported functions, or compute it outside of the function."
