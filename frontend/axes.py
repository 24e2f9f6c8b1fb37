"""Axes and shapes as arguments: normalised, with errors that show the array."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from graphmill.frontend import sizes
from graphmill.frontend.describe import failure
from graphmill.frontend.errors import GraphmillError
from graphmill.frontend.tracer import Tracer
from graphmill.frontend.turns import dim_of
from graphmill.ir import dims as ir_dims
from graphmill.ir.dims import DimLike


def number(value: Any, what: str) -> int:
    """A Python int from an argument that must be known (`axis=`, `n=`, `shift=`)."""
    try:
        return operator.index(value)
    except GraphmillError:
        raise
    except TypeError:
        raise failure("GM025", f"{what} is {value!r}, not an integer", [],
                      hint="pass a Python int.") from None  # fmt: skip


def axis(given: Any, rank: int, x: Any = None) -> int:
    """One axis, counted from the front; GM016 when out of range."""
    found = number(given, "axis")
    if not -rank <= found < rank:
        what = "a 0-d value has no axes" if rank == 0 else f"axes are {-rank} … {rank - 1}"
        raise failure(
            "GM016",
            f"axis {found} of an array of {rank} axes",
            [] if x is None else [x],
            why=f"{what}.",
            hint="check the array's shape above.",
        )
    return found % rank


def axes(given: Any, rank: int, x: Any = None) -> tuple[int, ...]:
    """All axes for None, one for an int, several for a tuple; ascending, no repeats."""
    if given is None:
        return tuple(range(rank))
    listed = given if isinstance(given, tuple | list) else (given,)
    found = [axis(a, rank, x) for a in listed]
    if len(set(found)) != len(found):
        raise failure(
            "GM016",
            f"axes {list(listed)} repeat",
            [] if x is None else [x],
            hint="name each axis once.",
        )
    return tuple(sorted(found))


def dim(value: Any, what: str = "size") -> DimLike:
    """A dim from an int or symbolic size; GM002 for a traced value, GM025 otherwise."""
    if isinstance(value, Tracer) and dim_of(value) is None:
        from graphmill.frontend import misuse

        raise misuse.as_number(value, "index")
    found = sizes.as_dim(value)
    if found is None:
        raise failure(
            "GM025",
            f"{what} {value!r} is no size",
            [],
            hint="sizes are integers or come from x.shape.",
        )
    return found


def shape(given: Any) -> tuple[DimLike, ...]:
    """A shape from one size or several."""
    listed: Sequence[Any] = given if isinstance(given, tuple | list) else (given,)
    if hasattr(given, "tolist") and not isinstance(given, Tracer):
        listed = given.tolist() if given.ndim else [given.tolist()]
    found = tuple(dim(d) for d in listed)
    if any(isinstance(d, int) and d < 0 for d in found):
        raise failure("GM017", f"negative size in {list(found)}", [], hint="sizes are 0 or more.")
    return found


def count(x: Tracer, over: Sequence[int]) -> DimLike:
    """The number of elements along some axes."""
    return ir_dims.product(x.dims[a] for a in over)


def kept(x: Tracer, reduced: Sequence[int]) -> tuple[DimLike, ...]:
    """x's shape with reduced axes of size 1."""
    return tuple(1 if i in reduced else d for i, d in enumerate(x.dims))
