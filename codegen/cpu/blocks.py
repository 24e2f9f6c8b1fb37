"""Emitting blocks: which lowering each op takes, and the fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from graphmill.codegen.cpu import loops, tiles
from graphmill.codegen.cpu.collapse import collapse, collapse_joined
from graphmill.codegen.cpu.element import index_ops
from graphmill.codegen.cpu.host import CodegenError, Host
from graphmill.codegen.cpu.lowering import (
    Emitter,
    body_of,
    choices_of,
    emitter,
    info_of,
    label,
    lowers,
)
from graphmill.codegen.cpu.repeats import Repeats
from graphmill.ir.graph import Block, Op


def emit_block(
    host: Host,
    block: Block,
    repeats: Repeats | None = None,
    after: Callable[[], object] | None = None,
) -> None:
    """Emit every op of a block in order; those that repeat as functions, if they shall be found.

    `after` is called when all is written that an op needs.
    """
    for op in block.ops:
        if not op.definition.terminator:
            first = len(host.kernels)
            if host.target.notes is not None:
                host.target.notes.place = str(op.loc or host.function.name)
            with host.unit.lowering(op):
                if repeats is None or not repeats.emit(op, emitter_of(op)):
                    emitter_of(op)(host, op)
            for number, kernel in enumerate(host.kernels[first:], first):
                if not kernel.location:  # a copy that the lowering needs
                    host.kernels[number] = replace(kernel, location=str(op.loc or ""))
            if after is not None:
                after()


def emitter_of(op: Op) -> Emitter:
    """The lowering of a block-level op; raises `CodegenError` when there is none."""
    found = emitter(op.name)
    if found is not None:
        return found
    if op.definition.family == "elementwise" or op.name in index_ops():
        return _loop
    place = f" at {op.loc}" if op.loc else ""
    raise CodegenError(f"the CPU has no lowering for {op.name}{place}")


# ---- kernels


@lowers("fusion")
def _fusion(host: Host, op: Op) -> None:
    kinds: dict[str, Emitter] = {
        "loop": _loop, "reduce": _reduce, "contract": _contract, "attention": _attention,
        "update": _update, "iterate": _iterate,
    }  # fmt: skip
    kinds[op.attrs["kind"]](host, op)


def _update(host: Host, op: Op) -> None:
    emit = emitter("dynamic_update_slice")
    assert emit is not None
    emit(host, op)


def _iterate(host: Host, op: Op) -> None:
    from graphmill.codegen.cpu.iterated import emit_iterated

    emit_iterated(host, op)


def _loop(host: Host, op: Op) -> None:
    mark = len(host.unit.parts)
    outputs = host.place(op)
    shape = op.results[0].shape
    block, twins = tiles.apart(collapse_joined(collapse(body_of(op), shape), shape))
    kernel = host.kernel(label(op), choices_of(host, op, block))
    sources = {
        arg: host.source(kernel, arg, host.buffers[operand])
        for arg, operand in zip(block.args, op.operands, strict=False)
    }
    sources |= {twin: sources[arg] for twin, arg in twins.items()}
    targets = [
        host.source(kernel, value, buffer)
        for value, buffer in zip(block.yielded, outputs, strict=True)
    ]
    across = tiles.crossing(block, sources, targets[0].shape)
    if across.arrays:
        launch = tiles.emit_tiles(kernel, block, sources, targets, across)
    else:
        launch = loops.emit_loop(kernel, block, sources, targets)
    host.launch(kernel, launch, info_of(op, kernel.name, True))
    if len(targets[0].shape) < 2:  # else a row's value is read for each of its elements
        host.unit.plain.update(host.unit.parts[mark:])


@lowers("reduce")
def _reduce(host: Host, op: Op) -> None:
    if op.name == "reduce" and not op.attrs["axes"]:
        _loop(host, op)
        return
    from graphmill.codegen.cpu.reductions import emit_reduce

    emit_reduce(host, op, body_of(op), label(op), info_of)


# the generators of products, which are loaded when met: most functions need at most one of them
_PRODUCTS = {
    "dot_general": ("contraction", "emit_contract"),
    "conv": ("convolution", "emit_convolution"),
    "blocked_conv": ("blocked_convolution", "emit_blocked_convolution"),
}


@lowers("dot_general")
@lowers("conv")
@lowers("blocked_conv")
def _contract(host: Host, op: Op) -> None:
    block = body_of(op)
    (root,) = (inner for inner in block.ops if inner.definition.fusion == "contract")
    module, name = _PRODUCTS[root.name]
    emit = getattr(import_module(f"graphmill.codegen.cpu.{module}"), name)
    mark = len(host.unit.parts)
    with host.code.located(root):
        emit(host, op, block, label(op), info_of)
    parts = host.unit.parts[mark:]
    host.unit.plain.update(parts)
    for part in parts:
        if "scf." not in part:
            host.unit.apart[part] = "straight"


def _attention(host: Host, op: Op) -> None:
    from graphmill.codegen.cpu.attention.streaming import emit_attention

    mark = len(host.unit.parts)
    emit_attention(host, op, body_of(op), label(op), info_of)
    host.unit.plain.update(host.unit.parts[mark:])


# ---- views and constants


@lowers("token")
@lowers("join")
def _order(host: Host, op: Op) -> None:
    """Tokens are an order, which emitting ops in sequence keeps."""


@lowers("constant")
@lowers("prepare")
def _constant(host: Host, op: Op) -> None:
    """Placed where it is first used, if at all (`Buffers`)."""


@lowers("reshape")
def _reshape(host: Host, op: Op) -> None:
    host.place(op)
