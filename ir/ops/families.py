"""All families; importing this registers every op."""

from graphmill.ir.ops import (
    blocked,
    contract,
    control,
    devices,
    effects,
    elementwise,
    indexing,
    order,
    random,
    reduce,
    shape,
)

__all__ = [
    "blocked", "contract", "control", "devices", "effects", "elementwise", "indexing", "order",
    "random", "reduce", "shape",
]  # fmt: skip
