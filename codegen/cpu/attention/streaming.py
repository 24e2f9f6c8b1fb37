"""Attention kernels: the fusion op, which schedule runs it, and its launch."""

from __future__ import annotations

from collections.abc import Callable

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.attention.panels import emit_panels
from graphmill.codegen.cpu.attention.problem import problem
from graphmill.codegen.cpu.contract.blocking import register_tile
from graphmill.codegen.cpu.host import Host
from graphmill.ir.attention import attention_in
from graphmill.ir.dtypes import f32, f64
from graphmill.ir.graph import Block, Op

Info = Callable[[Op, str, bool], KernelInfo]


def emit_attention(host: Host, op: Op, block: Block, label: str, info: Info) -> None:
    """Write and launch the kernel of an attention fusion."""
    host.place(op)
    acc = f64 if attention_in(block).q.tensor.dtype is f64 else f32
    kernel = host.kernel(label)
    made = problem(host, kernel, op, block, acc, register_tile(host.target, acc))
    launch = emit_panels(host, made)
    host.launch(kernel, launch, info(op, kernel.name, True))
