"""Which ops the CPU code generator has a lowering for, for the table of ops."""

from __future__ import annotations

from graphmill.ir.ops.base import lookup


def lowered(name: str) -> str:
    """How an op becomes CPU code: `fused` (inside kernels), `kernel`, `view`, or `` for not."""
    from graphmill.codegen.cpu import generate
    from graphmill.codegen.cpu.element import index_ops
    from graphmill.codegen.cpu.lowering import EMITTERS
    from graphmill.codegen.cpu.scalar import TABLE

    assert generate is not None  # importing it registers the lowerings
    record = lookup(name)
    if record.terminator:
        return "control"
    if record.family == "elementwise":
        return "fused" if name in TABLE else ""
    if name in index_ops():
        return "fused"
    if name not in EMITTERS:
        return ""
    if record.fusion in ("reduce", "contract"):
        return "fused"
    return {"control": "control", "effects": "control"}.get(
        record.family, "view" if record.fusion == "view" else "kernel"
    )
