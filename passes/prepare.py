"""Constants that are put into another form when the code is loaded, not while it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.ir.builder import Builder, region
from graphmill.ir.graph import Op, Value


def is_constant(value: Value) -> bool:
    """Whether the value is known when the code is loaded."""
    return value.op is not None and value.op.name in ("constant", "prepare")


def prepared(b: Builder, constants: Sequence[Value], body: Callable[..., Value]) -> Value:
    """What `body(builder, *constants)` makes of constants, in a `prepare`.

    So a cache entry holds none of a large array, and compiling does not touch it. Code
    generation takes reshapes, transposes, padding with zeros behind the end, and products with
    a broadcast constant.
    """
    made: Op = b.emit("prepare", constants, regions=[region([v.type for v in constants], body)])
    return made.result
