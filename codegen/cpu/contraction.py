"""Contract kernels: a `dot_general` with what follows it, on the matrix-product generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from graphmill.codegen.artifact import KernelInfo, Step
from graphmill.codegen.cpu.contract.gemm import emit_gemm, packing_of_b
from graphmill.codegen.cpu.contract.spec import (
    SLOTS,
    GemmKernel,
    GemmSpec,
    Prologue,
    Prologues,
    Sizes,
)
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.fused import (
    FusedEpilogue,
    FusedPrologue,
    argument_of,
    computed_as,
    read_by,
    view_of,
)
from graphmill.codegen.cpu.host import THREADS, Buffer, Host
from graphmill.codegen.cpu.kernel import Storage, contiguous
from graphmill.codegen.cpu.loops import emit_loop
from graphmill.codegen.cpu.lowering import structure
from graphmill.codegen.recipes import recipe_of
from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType, f32, i8, i32, i64, u8
from graphmill.ir.graph import Block, Op, Region, Value
from graphmill.ir.ops.contract import free_axes
from graphmill.records import record

PACKED_FROM = 1024  # elements from which a constant right operand is packed at compile time

Info = Callable[[Op, str, bool], KernelInfo]
Stride = DimLike | Val


@record
class Matrix:
    """An operand as a batch of matrices: pointer, and the strides of batch, rows and columns."""

    pointer: Val
    batch: Stride
    rows: Stride
    columns: Stride

    @property
    def order(self) -> str:
        """Which stride is 1, as the generator names it."""
        if self.columns == 1:
            return "row"
        return "col" if self.rows == 1 else "strided"


def emit_contract(host: Host, op: Op, block: Block, label: str, info: Info) -> None:
    """Write and launch the kernels of a contract fusion or a bare `dot_general`."""
    (output,) = host.place(op)
    root = next(o for o in block.ops if o.definition.fusion == "contract")
    operands = dict(zip(block.args, op.operands, strict=True))
    read = [read_by(v) for v in root.operands]
    x, y = (operands[argument_of(v)] for v in read)
    x_view, y_view = map(view_of, read)
    batch, m, n, k = _sizes(root)
    acc = accumulator(root.attrs["dtype"])
    attrs = root.attrs
    x_free = free_axes(len(x.shape), attrs["x_batch"], attrs["x_contract"])
    y_free = free_axes(len(y.shape), attrs["y_batch"], attrs["y_contract"])
    a = _matrix(host, x, attrs["x_batch"], x_free, attrs["x_contract"], x_view)
    computed = [computed_as(v) for v in root.operands]
    packed = (
        None if computed[1] or y_view else _packed_type(y, computed[0] or x.tensor.dtype, batch)
    )
    if packed is None:
        b = _matrix(host, y, attrs["y_batch"], attrs["y_contract"], y_free, y_view)
    else:
        b = Matrix(a.pointer, 0, 1, 1)
    widened = any(
        v is not leaf and not of for v, leaf, of in zip(root.operands, read, computed, strict=True)
    )
    spec = GemmSpec(
        x.tensor.dtype, packed or y.tensor.dtype, acc, op.result.tensor.dtype,
        _known(m), _known(n), _known(k), a.order, b.order, packed is not None,
        _known(batch), widened, computed[1], x is y and is_symmetric(block, root), computed[0],
    )  # fmt: skip
    if packed is not None:
        b = _packed(host, y, (attrs["y_contract"], y_free), spec)
    kernel = host.kernel(label)
    work = FusedEpilogue(host, kernel.name, block, root, acc, operands)
    epilogue = work.epilogue()
    captured = work.captured() if epilogue else []
    before: list[Prologue | None] = []
    strided = [work.strided]
    for side, of in enumerate(computed):
        own = FusedPrologue(host, kernel.name, block, root, acc, operands, side)
        before.append(own.prologue(len(SLOTS) + len(captured)) if of else None)
        captured += own.captured() if of else []
        strided.append(own.strided)
    gemm = host.once(
        ("gemm", spec, structure(block), *strided, *host.turns),
        lambda: emit_gemm(host.unit, kernel.name, spec, host.target, epilogue, Prologues(*before)),
    )
    _launch(host, gemm, a, b, output, (batch, m, n, k), captured)
    host.kernels.append(replace(info(op, kernel.name, True), schedule=gemm.how))


def is_symmetric(block: Block, root: Op) -> bool:
    """Whether a product of a value by itself is its own transpose, what follows it included."""
    attrs = root.attrs
    if attrs["x_batch"] or attrs["x_contract"] != attrs["y_contract"]:
        return False
    if any(v.op is not None or v.tensor.dtype.bits < 32 for v in root.operands):
        return False
    if attrs["dtype"].is_complex:
        return False
    return all(_is_mirrored(v, root) for v in block.yielded)


def _is_mirrored(value: Value, root: Op) -> bool:
    """Whether an element of a value is the one across the diagonal, where that holds of `root`."""
    op = value.op
    if op is root:
        return True
    if op is None or op.name == "constant":
        return not value.shape
    if op.name == "broadcast":
        return not op.operands[0].shape and _is_mirrored(op.operands[0], root)
    return op.definition.fusion == "elementwise" and all(_is_mirrored(v, root) for v in op.operands)


def accumulator(of: DType) -> DType:
    """The dtype sums are formed in: f32 for 16-bit floats, at least 32 bits for integers."""
    if of.is_float:
        return of if of.bits >= 32 else f32
    if of.is_complex:
        return of
    return i64 if of.bits == 64 and of.kind != "b" else i32


def _sizes(root: Op) -> tuple[DimLike, DimLike, DimLike, DimLike]:
    x, y = (v.tensor for v in root.operands)
    attrs = root.attrs
    x_free = free_axes(x.rank, attrs["x_batch"], attrs["x_contract"])
    y_free = free_axes(y.rank, attrs["y_batch"], attrs["y_contract"])
    return (
        product(x.shape[i] for i in attrs["x_batch"]),
        product(x.shape[i] for i in x_free),
        product(y.shape[i] for i in y_free),
        product(x.shape[i] for i in attrs["x_contract"]),
    )


def _known(dim: DimLike) -> int | None:
    return dim if isinstance(dim, int) else None


# ---- operands


def _matrix(
    host: Host, value: Value, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int],
    view: Op | None,
) -> Matrix:  # fmt: skip
    """The operand, or a view of it, as it lies in memory; copied when its axes do not merge."""
    buffer = host.buffers[value]
    pointer, shape, strides = buffer.pointer, value.shape, _strides(host, value, buffer)
    if view is not None:
        shape = view.result.shape
    if view is not None and view.name == "slice":
        pointer = _begin(host, value, view, strides)
        strides = [_times(host, by, n) for by, n in zip(strides, view.attrs["step"], strict=True)]
    elif view is not None:
        strides = [strides[axis] for axis in view.attrs["perm"]]
    merged = [_merge(shape, strides, axes) for axes in (batch, rows, columns)]
    if all(m is not None for m in merged):
        return Matrix(pointer, *merged)  # type: ignore[arg-type]
    order = [*batch, *rows, *columns]
    pointer = copied(host, value, order, view)
    width = product(shape[i] for i in columns)
    return Matrix(pointer, product(shape[i] for i in rows) * width, width, 1)


def _begin(host: Host, value: Value, view: Op, strides: Sequence[Stride]) -> Val:
    """The address of the first element of part of a value."""
    code, offset = host.code, host.code.i64(0)
    for start, by in zip(view.attrs["start"], strides, strict=True):
        stride = by if isinstance(by, Val) else host.dim(by)
        offset = code.add(offset, code.mul(host.dim(start), stride))
    return code.at(host.buffers[value].pointer, code.mul(offset, value.tensor.dtype.itemsize), "i8")


def _times(host: Host, stride: Stride, step: int) -> Stride:
    return host.code.mul(stride, step) if isinstance(stride, Val) else stride * step


def _strides(host: Host, value: Value, buffer: Buffer) -> list[Stride]:
    if buffer.strides is None:
        return list(contiguous(value.shape))
    return [host.value(key) for key in buffer.strides]


def _merge(
    shape: Sequence[DimLike], strides: Sequence[Stride], axes: Sequence[int]
) -> Stride | None:
    """One stride that walks several axes in order, if there is one."""
    axes = [axis for axis in axes if shape[axis] != 1]
    if not axes:
        return 1
    for outer, inner in pairwise(axes):
        a, b = strides[outer], strides[inner]
        if isinstance(a, Val) or isinstance(b, Val) or a != b * shape[inner]:
            return None
    return strides[axes[-1]]


def copied(host: Host, value: Value, order: Sequence[int], view: Op | None = None) -> Val:
    """A copy of `value`, or a view of it, with permuted axes in scratch memory."""
    nbytes = (value if view is None else view.result).tensor.nbytes
    number = len(host.needs)
    base = host.reserve(nbytes)
    region = Region(Block([value.type]))
    builder = Builder(region.block)
    (taken,) = region.block.args
    if view is not None:
        taken = builder.op(view.name, taken, **view.attrs)
    result = builder.transpose(taken, order)
    builder.emit("yield", [result])
    kernel = host.kernel("transpose")
    target = Buffer(base, Storage(("transposed", number), True))
    host.adopt(target)
    source = {region.block.args[0]: host.source(kernel, value)}
    launch = emit_loop(kernel, region.block, source, [host.source(kernel, result, target)])
    host.launch(kernel, launch, KernelInfo(kernel.name))
    return base


def _packed_type(value: Value, other: DType, batch: DimLike) -> DType | None:
    """What a constant right operand is packed as on loading; None if it is none worth that.

    Integers that meet bytes are bytes themselves where their values allow.
    """
    if value.op is None or value.op.name != "constant" or batch != 1:
        return None
    if value.op.attrs["value"].size < PACKED_FROM:
        return None
    return narrowed(value, other)


def narrowed(value: Value, other: DType) -> DType:
    """The dtype of a constant, or of bytes where its integers are such and meet bytes."""
    assert value.op is not None, "a constant"
    array: np.ndarray[Any, Any] = value.op.attrs["value"]
    if other.bits == 8 and array.dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        for narrow in (i8, u8):
            if np.iinfo(narrow.numpy).min <= low and high <= np.iinfo(narrow.numpy).max:
                return narrow
    return value.tensor.dtype


def _packed(
    host: Host, value: Value, axes: tuple[Sequence[int], Sequence[int]], spec: GemmSpec
) -> Matrix:
    assert spec.k is not None and spec.n is not None
    contract, free = axes
    matrix: tuple[Step, ...] = (
        ("transpose", (*contract, *free)), ("reshape", (spec.k, spec.n)),
    )  # fmt: skip
    panels, shape, dtype = packing_of_b(spec, host.target)
    recipe = recipe_of(value).then((*matrix, *panels), shape, dtype)
    pointer, _ = host.constant_buffer(recipe)
    return Matrix(pointer, 0, 1, 1)


def _launch(
    host: Host, gemm: GemmKernel, a: Matrix, b: Matrix, output: Buffer,
    sizes: tuple[DimLike, DimLike, DimLike, DimLike], extra: Sequence[Val],
) -> None:  # fmt: skip
    code = host.code
    batch, m, n, k = sizes

    def needed(into: Code, dim: Callable[[DimLike], Val]) -> tuple[Val, Val]:
        values = Sizes(dim(m), dim(n), dim(k), dim(batch))
        return gemm.shared(into, values), gemm.scratch(into, values)

    shared = host.scratch(needed)
    threads = host.context(THREADS, "i64")
    values = Sizes(host.dim(m), host.dim(n), host.dim(k), host.dim(batch), threads)
    room = code.binary("arith.andi", code.add(gemm.shared(code, values), 63), code.i64(-64))
    slots = {
        "a": a.pointer, "b": b.pointer, "c": output.pointer,
        "m": values.m, "n": values.n, "k": values.k, "batch": values.batch,
        "a_m": a.rows, "a_k": a.columns, "b_k": b.rows, "b_n": b.columns, "c_m": n,
        "a_batch": a.batch, "b_batch": b.batch, "c_batch": m * n,
        "shared": shared, "scratch": code.at(shared, room, "i8"),
        "scratch_bytes": gemm.scratch(code, values), "grid": gemm.grid(code, values),
    }  # fmt: skip
    given = [slots[name] for name in gemm.slots]
    own = [slot if isinstance(slot, Val) else host.dim(slot) for slot in given]
    run_phases(host, gemm, [*own, *extra], values)


def run_phases(host: Host, made: GemmKernel, slots: Sequence[Val], sizes: Sizes) -> None:
    """Fill the data that a product's kernels read, and run its phases one after the other."""
    code = host.code
    data = code.alloca("i64", len(slots), 8)
    for i, value in enumerate(slots):
        code.store(value, code.at(data, i, "i64"), 8)
    start = host.stamp()
    for phase in made.phases:
        host.run(phase.symbol, data, phase.items(code, sizes), phase.grain(code, sizes))
    host.record(start)
