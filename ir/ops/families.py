"""All families; importing this registers every op."""

from graphmill.ir.ops import (
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
    "contract", "control", "devices", "effects", "elementwise", "indexing", "order", "random",
    "reduce", "shape",
]  # fmt: skip
