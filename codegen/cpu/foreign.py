"""Foreign C functions, and what moving between devices means on one CPU."""

from __future__ import annotations

from graphmill.codegen.cpu.control import copy_array
from graphmill.codegen.cpu.host import CodegenError, Host
from graphmill.codegen.cpu.lowering import lowers
from graphmill.ir.graph import Op


@lowers("custom_call")
def _custom_call(host: Host, op: Op) -> None:
    """`void target(void **args)`: pointers to the inputs, then to the outputs."""
    outputs = host.place(op)
    code, target = host.code, op.attrs["target"]
    host.unit.declare(target, ["!llvm.ptr"])
    buffers = [*(host.buffers[v] for v in op.operands), *outputs]
    args = code.alloca("!llvm.ptr", max(1, len(buffers)), 8)
    for number, buffer in enumerate(buffers):
        code.store(buffer.pointer, code.at(args, number, "!llvm.ptr"), 8)
    code.call(target, [args])


@lowers("transfer")
def _transfer(host: Host, op: Op) -> None:
    device = op.attrs["device"]
    if not device.startswith("cpu"):
        raise CodegenError(f"transfer to {device}: this build runs on the CPU only{_at(op)}")
    _identity(host, op)


@lowers("all_reduce")
@lowers("all_gather")
@lowers("reduce_scatter")
def _collective(host: Host, op: Op) -> None:
    if op.attrs["size"] != 1:
        raise CodegenError(
            f"{op.name} over {op.attrs['size']} devices: one CPU is a group of one{_at(op)}"
        )
    _identity(host, op)


def _identity(host: Host, op: Op) -> None:
    (output,) = host.place(op)
    copy_array(host, host.buffers[op.operands[0]], output, op.operands[0])


def _at(op: Op) -> str:
    return f", at {op.loc}" if op.loc else ""
