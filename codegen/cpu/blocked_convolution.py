"""Convolutions on blocked channels: a `blocked_conv` with what follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from graphmill.codegen.artifact import KernelInfo, Step
from graphmill.codegen.cpu.contract.blocking import compute_element
from graphmill.codegen.cpu.contract.dots import PLAIN, choose_dot
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmKernel, Place, Sizes
from graphmill.codegen.cpu.contraction import Info, accumulator, copied, run_phases
from graphmill.codegen.cpu.convolve.blocked import emit_blocked
from graphmill.codegen.cpu.convolve.blocked_spec import BlockedSpec, Planes, Tap, shape_of
from graphmill.codegen.cpu.convolve.blocked_tiles import BlockedPlace
from graphmill.codegen.cpu.convolve.explain import blocked_schedule, free_schedule
from graphmill.codegen.cpu.convolve.free import emit_free
from graphmill.codegen.cpu.convolve.winograd import WinogradLoops, emit_filters
from graphmill.codegen.cpu.convolve.winograd_plan import Winograd, fastest, packing
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.fused import Borrowed, FusedEpilogue
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, Indices, lanes_of, unravel
from graphmill.codegen.cpu.kernel import Storage
from graphmill.codegen.cpu.loops import emit_loop
from graphmill.codegen.cpu.lowering import structure
from graphmill.codegen.recipes import recipe_of
from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType, f32
from graphmill.ir.graph import Block, Op, Region, Value
from graphmill.ir.ops.base import is_known
from graphmill.ir.ops.blocked import block_of, is_plain, lanewise
from graphmill.ir.ops.control import is_constant


def emit_blocked_convolution(host: Host, op: Op, block: Block, label: str, info: Info) -> None:
    """Write and launch the kernel of a `blocked_conv`, bare or with what is fused to it."""
    (output,) = host.place(op)
    root = next(o for o in block.ops if o.name == "blocked_conv")
    operands = dict(zip(block.args, op.operands, strict=True))
    x, w = (operands[v] for v in root.operands)
    spec = _in_registers(spec_of(root, op), host, w)
    kernel = host.kernel(label)
    bare = all(o is root or o.definition.terminator for o in block.ops)
    work = _BlockedEpilogue(host, kernel.name, block, root, spec, operands)
    narrow, in_call = x.tensor.dtype.bits < 32, not is_constant(w)
    allowed = 0 if narrow or spec.free else root.attrs.get("winograd", 0)
    way = fastest(spec, host.target, allowed, in_call) if allowed else None
    made = host.once(
        ("blocked", spec, way, structure(block), work.strided),
        lambda: _emit(host, kernel.name, spec, None if bare else work.epilogue(), way),
    )
    code, rank = host.code, len(root.attrs["strides"])
    places = root.result.shape[2 : rank + 2] if spec.free else ()
    filters = _weights(host, w, spec) if way is None else _transformed(host, w, spec, way, in_call)

    def needed(into: Code, dim: Callable[[DimLike], Val]) -> tuple[Val, Val]:
        return into.i64(0), made.scratch(into, _sizes(into, dim(x.shape[0])))

    values = _sizes(code, host.dim(x.shape[0]), *map(host.dim, places))
    sizes = [(1, *v.shape[2 : rank + 2])[-2:] for v in (x, root.result.tensor)]
    free = [host.dim(dim) for pair in sizes for dim in pair] if spec.free else []
    slots = [
        _read_as(host, x, spec.x), filters, output.pointer, values.batch,
        host.scratch(needed), made.scratch(code, values), *free, *work.captured(),
    ]  # fmt: skip
    run_phases(host, made, slots, values)
    if spec.free:
        schedule = free_schedule(spec, host.target)
    else:
        schedule = blocked_schedule(spec, host.target, way, allowed, in_call)
    host.kernels.append(replace(info(op, kernel.name, True), schedule=schedule))


def _transformed(host: Host, w: Value, spec: BlockedSpec, way: Winograd, in_call: bool) -> Val:
    """The filters as products read them: made when the code is loaded, or here in the call."""
    shape = shape_of(host.target, spec.acc, spec.w_block)
    steps, sizes = packing(spec, shape, way)
    if not in_call:
        made = recipe_of(w)
        pointer, _ = host.constant_buffer(made.then(steps, sizes, made.dtype))
        return pointer
    pointer = host.reserve(product(sizes) * shape.bytes)
    kernel = host.kernel("winograd_filters")
    kernels = host.once(
        ("winograd_filters", spec, way),
        lambda: emit_filters(host.unit, kernel.name, spec, shape, way),
    )
    run_phases(
        host, kernels, [host.buffers[w].pointer, pointer], _sizes(host.code, host.code.i64(1))
    )
    host.kernels.append(KernelInfo(kernel.name, parallel=True))
    return pointer


def _emit(
    host: Host, name: str, spec: BlockedSpec, epilogue: Epilogue | None, way: Winograd | None
) -> GemmKernel:
    if spec.free:
        return emit_free(host.unit, name, spec, host.target, epilogue)
    loops = None if way is None else partial(WinogradLoops, way)
    return emit_blocked(host.unit, name, spec, host.target, epilogue, loops)


def _sizes(code: Code, batch: Val, *places: Val) -> Sizes:
    """The batch, and lines and places where they are known at run time."""
    one = code.i64(1)
    lines, width = (one, one, *places)[-2:]
    return Sizes(lines, width, one, batch)


def spec_of(root: Op, op: Op) -> BlockedSpec:
    """The spec of a `blocked_conv` that ends as the result of `op`."""
    x, w, attrs = root.operands[0].tensor, root.operands[1].tensor, root.attrs
    given, block, rank = block_of(x, w, attrs), w.shape[-1], len(attrs["strides"])
    assert isinstance(block, int)
    lanes = lanewise(attrs["channels"], attrs["filters"], attrs["groups"], block)
    each = 1 if lanes else attrs["groups"]
    dtype, window, strides, low = x.dtype, w.shape[2:-2], attrs["strides"], attrs["low"]
    free = not is_known(*x.shape[2 : rank + 2])
    planes = _planes(root) if rank == 3 else None
    sizes = out_sizes = (0, 0)
    if not free:
        sizes, out_sizes = (_two(v.shape[2 : rank + 2], 1) for v in (x, root.result.tensor))
    if (
        planes is None
        and sizes == out_sizes != (0, 0)
        and set(window) | set(strides) == {1}
        and not any(low)
    ):
        sizes = out_sizes = _merged(*sizes)
    return BlockedSpec(
        dtype, accumulator(dtype), op.result.tensor.dtype, attrs["channels"] // each,
        attrs["filters"] // each, each, given, block, attrs["block"], sizes, out_sizes,
        _two(window, 1), _two(strides, 1), _two(low, 0), _two(attrs["dilation"], 1),
        lanes, rank == 1, is_plain(x, w) and given > 1, free=free,
        planes=planes,
    )  # fmt: skip


def _planes(root: Op) -> Planes:
    """The first of three axes, whose size is known."""
    (room, *_), (out, *_) = root.operands[0].shape[2:], root.result.shape[2:]
    size, attrs = root.operands[1].shape[2], root.attrs
    assert isinstance(room, int) and isinstance(out, int) and isinstance(size, int)
    stride, dilation, low = (attrs[name][0] for name in ("strides", "dilation", "low"))
    return Planes(Tap(size, stride, dilation, low, room), out)


def _merged(lines: int, width: int) -> tuple[int, int]:
    """Short lines of a product, which would leave tiles small, as fewer long ones."""
    if width >= _SHORT:
        return lines, width
    whole = (n for n in range(1, lines + 1) if not lines % n and n * width <= _LONG)
    together = max(whole, default=1)
    return lines // together, width * together


def _in_registers(spec: BlockedSpec, host: Host, w: Value) -> BlockedSpec:
    """The spec as tiles compute it: 16-bit floats in units of channels, or widened before.

    Lanes beyond the last channel may hold anything, NaN too, so units must be whole.
    """
    if spec.lanewise or spec.x.bits != 16:
        return spec
    dot = choose_dot(host.target, spec.x, spec.x, compute_element(spec.acc))
    whole = not (spec.channels % dot.group or spec.x_block % dot.group)
    if dot is PLAIN or not whole or spec.plain or not is_constant(w):
        return replace(spec, x=f32)
    return replace(spec, dot=dot)


def _weights(host: Host, w: Value, spec: BlockedSpec) -> Val:
    if spec.dot.group == 1:
        return _read_as(host, w, spec.x)
    recipe, unit = recipe_of(w), spec.dot.group
    *outer, channels, block = recipe.shape
    shape, rank = (*outer, channels // unit, block, unit), len(outer)
    steps: tuple[Step, ...] = (
        ("reshape", (*outer, channels // unit, unit, block)),
        ("transpose", (*range(rank), rank, rank + 2, rank + 1)),
    )  # fmt: skip
    return host.constant_buffer(recipe.then(steps, shape, recipe.dtype))[0]


def _read_as(host: Host, value: Value, to: DType) -> Val:
    """The value's array, contiguous; a strided one or another dtype in memory of its own."""
    given = host.buffers[value]
    if value.tensor.dtype is to:
        whole = given.strides is None
        return given.pointer if whole else copied(host, value, range(len(value.shape)))
    if is_constant(value):
        recipe = recipe_of(value)
        return host.constant_buffer(recipe.then((), recipe.shape, to.numpy))[0]
    base = host.reserve(value.tensor.size * to.itemsize)
    region = Region(Block([value.type]))
    builder = Builder(region.block)
    result = builder.cast(region.block.args[0], to)
    builder.emit("yield", [result])
    kernel = host.kernel("widen")
    target = Buffer(base, Storage(("widened", kernel.name), True))
    host.adopt(target)
    source = {region.block.args[0]: host.source(kernel, value)}
    launch = emit_loop(kernel, region.block, source, [host.source(kernel, result, target)])
    host.launch(kernel, launch, KernelInfo(kernel.name))
    return base


_SHORT, _LONG = 14, 64  # places of a line


def _two(sizes: tuple[DimLike, ...], lead: int) -> tuple[int, int]:
    """Two axes from one or two."""
    first, last = (lead, *sizes)[-2:]
    assert isinstance(first, int) and isinstance(last, int)
    return first, last


class _BlockedEpilogue(FusedEpilogue):
    """The rest of the fusion at a place of the result `[image, block, *spatial, lane]`, or `[image,
    channel, *spatial]`."""

    def __init__(
        self, host: Host, name: str, block: Block, root: Op, spec: BlockedSpec,
        operands: dict[Value, Value],
    ) -> None:  # fmt: skip
        super().__init__(host, name, block, root, spec.acc, operands)
        self.spec = spec

    def index(self, kernel: Borrowed, place: Place) -> Indices:
        assert isinstance(place, BlockedPlace)
        plain = self.spec.block == 1
        at = Index(place.col, 1 if plain else 0)
        spatial = self._unmerged(kernel.code, place, at)
        lane = () if plain else (Index(place.lane, 1),)
        return (Index(place.batch), Index(place.row), *spatial, *lane)

    def _unmerged(self, code: Code, place: BlockedPlace, at: Index) -> Indices:
        """Where a place is in the spatial axes of the result."""
        if self.spec.flat:
            return (at,)
        if self.spec.planes is not None:
            plane = code.i64(0) if place.plane is None else place.plane
            return Index(plane), Index(place.line), at
        if self.spec.free:
            return Index(place.line), at
        _, width = _two(self.root.result.shape[2:4], 1)
        merged = self.spec.out_sizes[1]
        if merged == width:
            return Index(place.line), at
        lanes = place.lanes if at.step else 0
        first = code.mul(place.line, merged // width)
        line, column = unravel(
            code, lanes_of(code, at, lanes), [0, code.splat(code.i64(width), lanes)]
        )
        if not lanes:
            return Index(code.add(first, line)), Index(column)
        return Index(code.add(code.splat(first, lanes), line), None), Index(column, None)
