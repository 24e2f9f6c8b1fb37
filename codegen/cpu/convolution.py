"""Convolution kernels: a `conv` with what follows it, on the generator of convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphmill.codegen.cpu.contract.spec import GemmKernel, Place, Sizes
from graphmill.codegen.cpu.contraction import (
    Info,
    accumulator,
    copied,
    narrowed,
    run_phases,
)
from graphmill.codegen.cpu.convolve.conv import ConvSpec, conv_sizes, emit_conv
from graphmill.codegen.cpu.convolve.explain import plain_schedule
from graphmill.codegen.cpu.convolve.tap_plan import packing_of_filters, tap_plan
from graphmill.codegen.cpu.convolve.taps import LinePlace
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.fused import Borrowed, FusedEpilogue, read_by
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, Indices, lanes_of, unravel
from graphmill.codegen.cpu.kernel import contiguous
from graphmill.codegen.cpu.lowering import structure
from graphmill.codegen.recipes import recipe_of
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.ops.control import is_constant


def emit_convolution(host: Host, op: Op, block: Block, label: str, info: Info) -> None:
    """Write and launch the kernel of a contract fusion around a `conv`, or of a bare one."""
    (output,) = host.place(op)
    root = next(o for o in block.ops if o.name == "conv")
    operands = dict(zip(block.args, op.operands, strict=True))
    x, w = (operands[read_by(v)] for v in root.operands)
    stored = w.op is not None and w.op.name == "constant"
    w_type = narrowed(w, x.tensor.dtype) if stored else w.tensor.dtype
    spec = _spec(host, root, x, w_type, op.result)
    whole = replace(spec, unit_step=True, contiguous=True, in_tiles=True)
    if is_constant(w) and tap_plan(whole, host.target) is not None:
        spec = whole  # a strided x is copied: that reads it once
    kernel = host.kernel(label)
    work = _ConvEpilogue(host, kernel.name, block, root, spec.acc, operands)
    conv = host.once(
        ("conv", spec, structure(block), work.strided),
        lambda: emit_conv(host.unit, kernel.name, spec, host.target, work.epilogue()),
    )
    if spec.in_tiles:
        weights = _in_tiles(host, w, spec)
    elif w_type is not w.tensor.dtype:
        weights, _ = host.constant_buffer(recipe_of(w).then((), w.shape, w_type.numpy))
    elif host.buffers[w].strides is None:
        weights = host.buffers[w].pointer
    else:
        weights = copied(host, w, range(len(w.shape)))
    _launch(host, conv, spec, (x, weights, output), root, work.captured())
    schedule = plain_schedule(spec, host.target)
    host.kernels.append(replace(info(op, kernel.name, True), schedule=schedule))


class _ConvEpilogue(FusedEpilogue):
    """The rest of the fusion at a place of the result `[image, channel, *spatial]`."""

    def index(self, kernel: Borrowed, place: Place) -> Indices:
        code = kernel.code
        if isinstance(place, LinePlace):
            lines = () if len(self.root.result.shape) == 3 else (Index(place.line),)
            return (Index(place.batch), Index(place.row), *lines, Index(place.at, 1))
        sizes = [kernel.size(dim) for dim in self.root.result.shape[2:]]
        first = (Index(place.batch), Index(place.row))
        if len(sizes) == 1:
            return (*first, Index(place.col, 1))
        flat = lanes_of(code, Index(place.col, 1), place.lanes)
        splats = [code.splat(code.i64(s) if isinstance(s, int) else s, place.lanes) for s in sizes]
        step = None if place.lanes else 0
        return (*first, *(Index(v, step) for v in unravel(code, flat, splats)))


def _in_tiles(host: Host, w: Value, spec: ConvSpec) -> Val:
    """The filters in tiles, made when the code is loaded."""
    plan = tap_plan(spec, host.target)
    assert plan is not None
    steps, shape = packing_of_filters(spec, plan)
    return host.constant_buffer(recipe_of(w).then(steps, shape, spec.w.numpy))[0]


def _spec(host: Host, root: Op, x: Value, weights: DType, result: Value) -> ConvSpec:
    def known(dims: tuple[DimLike, ...]) -> tuple[int | None, ...]:
        return tuple(dim if isinstance(dim, int) else None for dim in dims)

    dtype, attrs, w = root.result.tensor.dtype, root.attrs, root.operands[1].tensor
    filters, channels = w.shape[0], w.shape[1] * attrs["groups"]
    assert isinstance(filters, int) and isinstance(channels, int), "checked by support.py"
    plain = host.buffers[x].strides is None
    return ConvSpec(
        x.tensor.dtype, weights, accumulator(dtype), result.tensor.dtype,
        channels, filters, attrs["groups"],
        known(x.shape[2:]), known(root.result.shape[2:]),
        tuple(size for size in w.shape[2:] if isinstance(size, int)),
        tuple(attrs["strides"]), tuple(attrs["low"]), tuple(attrs["dilation"]),
        tuple(attrs["input_dilation"]), known(x.shape[:1])[0], plain, plain,
    )  # fmt: skip


def _launch(
    host: Host,
    conv: GemmKernel,
    spec: ConvSpec,
    arrays: tuple[Value, Val, Buffer],
    root: Op,
    extra: list[Val],
) -> None:
    code, (x, weights, output) = host.code, arrays
    batch, places = x.shape[0], root.result.shape[2:]

    def sizes(into: Code, dim: Callable[[DimLike], Val]) -> Sizes:
        return conv_sizes(into, spec, dim(batch), [dim(place) for place in places])

    def needed(into: Code, dim: Callable[[DimLike], Val]) -> tuple[Val, Val]:
        return into.i64(0), conv.scratch(into, sizes(into, dim))

    buffer = host.buffers[x]
    pointer, strides = buffer.pointer, buffer.strides
    if spec.contiguous and strides is not None:
        pointer, strides = copied(host, x, range(len(x.shape))), None
    memory = host.scratch(needed)
    values = sizes(code, host.dim)
    given = contiguous(x.shape) if strides is None else strides
    steps = [host.dim(s) if strides is None else host.value(s) for s in given]  # type: ignore[arg-type]
    slots = [
        pointer, weights, output.pointer, host.dim(batch), *steps[:2],
        *(host.dim(size) for size in x.shape[2:]), *(host.dim(place) for place in places),
        *steps[2:], memory, memory, conv.scratch(code, values), *extra,
    ]  # fmt: skip
    run_phases(host, conv, slots, values)
