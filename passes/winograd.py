"""Winograd's minimal filtering for 3 × 3 convolutions: allowed here, chosen by code generation."""

from __future__ import annotations

from graphmill.ir.graph import Function
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count

TILES = (2, 4)


class TileError(ValueError):
    """A tile that there is no transform for."""


@register_pass("winograd")
def winograd(function: Function, *, tile: int = 4) -> Function:
    """Lets convolutions on blocked channels use Winograd's algorithm where it is faster.

    After it every `blocked_conv` says how large a tile may be: 2 × 2 results, or 4 × 4 (`tile`).
    Sums are formed in another order, and what is not finite spreads over a tile. Code generation
    decides, as it knows the CPU. Raises `TileError` for another size.
    """
    if tile not in TILES:
        raise TileError(f"winograd has tiles of {' or '.join(map(str, TILES))}, not {tile}")
    function = function.clone()
    for op in function.walk():
        if op.name == "blocked_conv":
            op.attrs["winograd"] = tile
            count("convolutions that may use it")
    return function
