"""How the host runs a kernel: how many work items, and how many are worth another thread."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Op
from graphmill.records import record

WORK = 65536  # scalar operations that are worth handing to another thread


@record
class Launch:
    """How the host runs a kernel: work items, and the least number one thread should take."""

    items: DimLike
    grain: int


def flops_per_element(ops: Sequence[Op]) -> float:
    """Scalar operations of the ops in a region for one element, at least one."""
    return max(1.0, sum(max(op.definition.flops, 0.25) for op in ops))


def grain(work: float) -> int:
    """The number of items of `work` operations that one thread should take at least."""
    return max(1, int(WORK / max(1.0, work)))
