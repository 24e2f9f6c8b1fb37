"""How many elements a kernel takes at once: those that fill a vector of its narrow results."""

from __future__ import annotations

from graphmill.codegen.cpu.kernel import Kernel
from graphmill.codegen.cpu.launch import flops_per_element
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Block
from graphmill.ir.types import TensorType

CHEAP = 6.0  # operations per element up to which wide values may take several registers
REGISTERS = 4  # of one value at most


def lanes_for(kernel: Kernel, block: Block) -> int:
    """Lanes for a block that is elementwise but for reductions, whose result they cannot change.

    Where results are of 8 or 16 bits, those of 32 would leave most of a vector empty.
    """
    usual, most = kernel.lanes, kernel.target.lanes(8)
    for op in block.ops:
        if op.name == "reduce" and _rounds(op.operands[0].tensor.dtype, op.attrs["monoid"]):
            return usual
        simple = op.definition.family == "elementwise" or op.definition.terminator
        if not simple and op.name not in ("broadcast", "constant", "reduce"):
            return usual
    types = [v.type for op in block.ops for v in (*op.operands, *op.results)]
    kinds = {kind.dtype for kind in types if isinstance(kind, TensorType)}
    results = {v.tensor.dtype for op in block.ops if op.name == "reduce" for v in op.operands}
    results |= {v.tensor.dtype for v in block.yielded}
    wanted = min(most, kernel.target.vector_bits // max(map(_bits, results)))
    widest = kernel.target.vector_bits // max(map(_bits, kinds))
    room = widest * REGISTERS if flops_per_element(block.ops) <= CHEAP else widest
    return max(usual, min(wanted, room))


def _rounds(dtype: DType, monoid: str) -> bool:
    """Whether a reduction's result depends on the order."""
    return dtype.kind in "fc" and monoid in ("sum", "prod")


def _bits(dtype: DType) -> int:
    """Bits of an element in registers; bool is compared and stored as a byte."""
    if dtype.kind == "b":
        return 8
    return max(dtype.bits, 32) if dtype.kind == "f" else dtype.bits
