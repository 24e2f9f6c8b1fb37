"""Donated arguments: their memory is given to results, and calls return those same arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.frontend.errors import GraphmillError, error
from graphmill.runtime.donation import DonationError

if TYPE_CHECKING:
    from graphmill.frontend.trace import Traced


def root(path: str) -> str:
    """The parameter that a leaf belongs to: `cache` for `cache['k'][0]`."""
    return path.split("[")[0].split(".")[0]


def with_donated(traced: Traced, names: Sequence[str]) -> Traced:
    """The traced function with results that take over the memory of the arguments `names`.

    Raises GM047 for an array among them that no result has the dtype and shape of.
    """
    numbers = [i for i, path in enumerate(traced.paths) if root(path) in names]
    if not numbers:
        return traced
    from graphmill.passes.donate import donate

    function, unused = donate(traced.function, numbers)
    if unused:
        path, spec = traced.paths[unused[0]], traced.specs[unused[0]]
        results = ", ".join(str(value.type) for value in traced.function.results) or "none"
        raise error(
            "GM047", f"{path} is {spec.type}, the results are {results}",
            why="a result of the same dtype and shape takes over a donated array's memory, and "
            "each array serves one.",
            hint=f"return the updated {path}, or do not donate it.",
        )  # fmt: skip
    return replace(traced, function=function)


def check_leaves(leaves: Sequence[Any], paths: Sequence[str], names: Sequence[str]) -> None:
    """Refuse what has no memory that a result can be written into and returned as."""
    for leaf, path in zip(leaves, paths, strict=True):
        if root(path) not in names or not isinstance(leaf, np.ndarray | np.generic | int | float):
            continue
        if not isinstance(leaf, np.ndarray):
            raise refused(DonationError(path, f"is a {type(leaf).__name__}, not an array"))
        if not leaf.flags.c_contiguous or not leaf.flags.aligned:
            raise refused(DonationError(path, "is not C-contiguous and aligned"))
        if not leaf.dtype.isnative:
            raise refused(DonationError(path, "is byte-swapped"))


def refused(problem: DonationError) -> GraphmillError:
    """The error that the user sees."""
    return error(
        "GM047", f"{problem.argument} {problem.reason}",
        why="the call would overwrite it and return it.",
        hint=f"pass np.ascontiguousarray({problem.argument}) or {problem.argument}.copy(), which "
        "nothing else reads.",
    )  # fmt: skip
