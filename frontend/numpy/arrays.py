"""What the namespace's functions take: traced arrays inside of a traced function, else NumPy's."""

from __future__ import annotations

from typing import Any

from graphmill.frontend.sizes import Size
from graphmill.frontend.tracer import Tracer

# a traced array, a NumPy array, or a Python scalar where the standard allows one
Array = Any


def is_traced(*values: Any) -> bool:
    """Whether a value is traced or holds traced ones."""
    return any(
        is_traced(*v) if isinstance(v, list | tuple) else isinstance(v, Tracer | Size)
        for v in values
    )
