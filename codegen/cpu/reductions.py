"""Reduce kernels: reductions with what comes before and after, in the fewest sweeps over memory.

Every value is full (the kernel's shape), reduced (without the reduced axes) or leads to one
through index ops. Reductions that need others first (softmax's sum needs its maximum) run in
later sweeps. When the last axis is reduced, lanes run along it and a row's state stays in
registers; when it is kept, lanes run along it and a block of columns is reduced row by row. Short
axes are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.collapse import collapse
from graphmill.codegen.cpu.column_slices import emit_column_slices, wants_slices
from graphmill.codegen.cpu.columns import emit_columns
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch
from graphmill.codegen.cpu.lowering import choices_of, reads_anew
from graphmill.codegen.cpu.rows import emit_rows
from graphmill.codegen.cpu.stages import Plan, plan_of
from graphmill.codegen.cpu.unrolled import emit_unrolled, unrolled_form
from graphmill.codegen.cpu.whole import emit_whole, few_rows
from graphmill.ir.dims import product
from graphmill.ir.forms import Form, form_of
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.literals import dim_names
from graphmill.records import record


def emit_reduce(
    host: Host,
    op: Op,
    block: Block,
    label: str,
    info: Callable[[Op, str, bool], KernelInfo],
) -> None:
    """Write and launch the kernel(s) of a reduce fusion or a bare `reduce`."""
    mark, planned = len(host.unit.parts), _planned(block)
    _emit(host, op, planned, label, info)
    if (plan := planned.plan) is not None:
        inner = {*plan.reduced, len(plan.shape) - 1}
        if not reads_anew(plan.block, plan.shape, inner):
            host.unit.apart.update(dict.fromkeys(host.unit.parts[mark:], "plain"))


def _emit(
    host: Host,
    op: Op,
    planned: _Planned,
    label: str,
    info: Callable[[Op, str, bool], KernelInfo],
) -> None:
    outputs, block, plan = host.place(op), planned.block, planned.plan
    operands = [host.buffers[v] for v in op.operands]
    if plan is not None and _is_shared(host, plan):
        emit_whole(host, op, plan, operands, outputs, label, info)
        return
    if plan is not None and wants_slices(plan):
        emit_column_slices(host, op, plan, operands, outputs, label, info)
        return
    kernel = host.kernel(label, choices_of(host, op, block))
    sources = {
        arg: host.source(kernel, arg, buffer)
        for arg, buffer in zip(block.args, operands, strict=True)
    }
    targets = [
        host.source(kernel, value, buffer)
        for value, buffer in zip(block.yielded, outputs, strict=True)
    ]
    launch = _write(host, kernel, planned, sources, targets)
    host.launch(kernel, launch, info(op, kernel.name, True))


def write_single(
    host: Host, kernel: Kernel, block: Block, operands: Sequence[Buffer], target: Source
) -> Launch:
    """Write the kernel of a reduction to one element, whose arguments lie in `operands`."""
    planned = _planned(block)
    sources = {
        arg: host.source(kernel, arg, buffer)
        for arg, buffer in zip(planned.block.args, operands, strict=True)
    }
    return _write(host, kernel, planned, sources, [target])


@record
class _Planned:
    """A reduce kernel's block, and how it is written: `unrolled`, or sweep by sweep."""

    block: Block
    unrolled: Form | None
    plan: Plan | None


def _planned(block: Block) -> _Planned:
    form = form_of(block)
    if not form.unrolled:
        block = collapse(block, form.full, form.axes)
        form = form_of(block)
    unrolled = unrolled_form(form, block)
    return _Planned(block, unrolled, plan_of(block) if unrolled is None else None)


def _write(
    host: Host, kernel: Kernel, planned: _Planned, sources: dict[Value, Source],
    targets: Sequence[Source],
) -> Launch:  # fmt: skip
    plan = planned.plan
    if plan is None:
        assert planned.unrolled is not None
        return emit_unrolled(kernel, planned.unrolled, planned.block, sources, targets)
    if not plan.last_reduced:
        return emit_columns(kernel, plan, sources, targets)
    return emit_rows(kernel, plan, sources, targets, growing=_is_growing(host, plan))


def _is_growing(host: Host, plan: Plan) -> bool:
    """Whether a sum's length changes from turn to turn of a loop: its last terms may be new."""
    if not plan.single_stage or len(plan.shape) > 1:
        return False
    sums = all(op.attrs["monoid"] == "sum" for op in plan.sweeps[0])
    return sums and not dim_names(plan.shape).isdisjoint(host.turns)


def _is_shared(host: Host, plan: Plan) -> bool:
    """Whether one sweep over rows that are few and long is all."""
    rows, length = product(plan.kept_shape), product(plan.shape[i] for i in plan.reduced)
    return plan.last_reduced and plan.single_stage and few_rows(host.most(rows), host.most(length))
