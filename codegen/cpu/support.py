"""Which ops the CPU code generator has a lowering for, for the table of ops."""

from __future__ import annotations

from graphmill.ir.ops.base import lookup


def lowered(name: str) -> str:
    """How an op becomes CPU code: `fused` (inside kernels), `kernel`, `view`, or `` for not."""
    from graphmill.codegen.cpu import blocks
    from graphmill.codegen.cpu.element import index_ops
    from graphmill.codegen.cpu.lowering import emitter
    from graphmill.codegen.cpu.scalar import TABLE

    assert blocks is not None  # importing it registers the lowerings of fused kernels
    record = lookup(name)
    if record.terminator:
        return "control"
    if record.family == "elementwise":
        return "fused" if name in TABLE else ""
    if name in index_ops():
        return "fused"
    if emitter(name) is None:
        return ""
    if record.fusion in ("reduce", "contract"):
        return "fused"
    return {"control": "control", "effects": "control"}.get(
        record.family, "view" if record.fusion == "view" else "kernel"
    )
