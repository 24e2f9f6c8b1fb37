"""Python numbers as MLIR attributes."""

from __future__ import annotations

import struct


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
    import ml_dtypes
    import numpy as np

    dtype, word = {
        "f32": (np.dtype(np.float32), np.uint32),
        "f16": (np.dtype(np.float16), np.uint16),
        "bf16": (np.dtype(ml_dtypes.bfloat16), np.uint16),
    }[element]
    with np.errstate(over="ignore", invalid="ignore"):
        bits = int(np.array(value).astype(dtype).view(word))
    return f"0x{bits:0{dtype.itemsize * 2}X}"
