"""Python numbers as MLIR attributes, and marks in MLIR text."""

from __future__ import annotations

import re
import struct

from graphmill.ir.dtypes import dtype

MARK = r" loc\(#p(\d+)\)"  # the place that a line is written for, by its number


def plain(text: str) -> str:
    """MLIR text without places."""
    return re.sub(MARK, "", text)


def literal(value: bool | int | float, element: str) -> str:
    """`value` as an MLIR attribute of scalar type `element` (floats by their exact bits)."""
    if element == "i1":
        return "true" if value else "false"
    if element in ("f16", "bf16", "f32", "f64"):
        return _float_literal(float(value), element)
    bits = 64 if element == "index" else int(element[1:])
    number = int(value) & ((1 << bits) - 1)
    return str(number - (1 << bits) if number >> (bits - 1) else number)


def _float_literal(value: float, element: str) -> str:
    if element == "f64":
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    import numpy as np

    kind = dtype(element).numpy
    with np.errstate(over="ignore", invalid="ignore"):
        bits = int(np.array(value).astype(kind).view(f"u{kind.itemsize}"))
    return f"0x{bits:0{kind.itemsize * 2}X}"
