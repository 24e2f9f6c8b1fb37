"""Contract kernels: a `dot_general` with what follows it, on the matrix-product generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from graphmill.codegen.artifact import KernelInfo, Step
from graphmill.codegen.cpu import convert, memory
from graphmill.codegen.cpu.contract.gemm import emit_gemm, packing_of_b
from graphmill.codegen.cpu.contract.spec import (
    SLOTS,
    Epilogue,
    GemmKernel,
    GemmSpec,
    Place,
    Prologue,
    Prologues,
    Sizes,
    Spot,
)
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import THREADS, Buffer, Host, emit_dim
from graphmill.codegen.cpu.index import Index, Indices, lanes_of, unravel
from graphmill.codegen.cpu.kernel import Source, Storage, contiguous
from graphmill.codegen.cpu.loops import emit_loop
from graphmill.codegen.cpu.lowering import structure
from graphmill.codegen.recipes import recipe_of
from graphmill.ir.builder import Builder
from graphmill.ir.dims import Dim, DimLike, product
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
    x, y = (operands[read_by(v)] for v in root.operands)
    batch, m, n, k = _sizes(root)
    acc = accumulator(root.attrs["dtype"])
    attrs = root.attrs
    x_free = free_axes(len(x.shape), attrs["x_batch"], attrs["x_contract"])
    y_free = free_axes(len(y.shape), attrs["y_batch"], attrs["y_contract"])
    a = _matrix(host, x, attrs["x_batch"], x_free, attrs["x_contract"])
    computed = [computed_as(v) for v in root.operands]
    packed = None if computed[1] else _packed_type(y, computed[0] or x.tensor.dtype, batch)
    if packed is None:
        b = _matrix(host, y, attrs["y_batch"], attrs["y_contract"], y_free)
    else:
        b = Matrix(a.pointer, 0, 1, 1)
    widened = any(
        v.op is not None and not of for v, of in zip(root.operands, computed, strict=True)
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


def read_by(value: Value) -> Value:
    """The argument whose elements an operand of the product is computed from, one from one."""
    return min(_one_from_one(value), key=lambda v: v.tensor.dtype.bits)


def _one_from_one(value: Value) -> list[Value]:
    """The block's arguments whose element at a place an element of `value` there is made of."""
    if value.op is None:
        return [value]
    if value.op.definition.fusion != "elementwise":
        return []
    found = [v for operand in value.op.operands for v in _one_from_one(operand)]
    return list(dict.fromkeys(found))


def _arguments(value: Value) -> list[Value]:
    """The block's arguments that a value is computed from."""
    if value.op is None:
        return [value]
    found = [v for operand in value.op.operands for v in _arguments(operand)]
    return list(dict.fromkeys(found))


def is_computed(value: Value) -> bool:
    """Whether more than a widening load gives this operand its elements."""
    op = value.op
    if op is None:
        return False
    narrow, wide = op.operands[0].tensor.dtype, value.tensor.dtype
    cast = op.name == "cast" and op.operands[0].op is None
    return not (cast and narrow.is_float == wide.is_float and narrow.bits < wide.bits)


def computed_as(value: Value) -> DType | None:
    """The dtype of what is multiplied where an operand is computed: of integers the narrow one."""
    if not is_computed(value):
        return None
    op = value.op
    assert op is not None, "arguments are not computed"
    before = op.operands[0].tensor.dtype
    of = value.tensor.dtype
    widened = op.name == "cast" and of.is_integer and before.is_integer and before.bits < of.bits
    return before if widened else of


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
    host: Host, value: Value, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]
) -> Matrix:
    """The operand as it lies in memory, or copied when its axes do not merge."""
    buffer = host.buffers[value]
    strides = _strides(host, value, buffer)
    merged = [_merge(value.shape, strides, axes) for axes in (batch, rows, columns)]
    if all(m is not None for m in merged):
        return Matrix(buffer.pointer, *merged)  # type: ignore[arg-type]
    order = [*batch, *rows, *columns]
    pointer = copied(host, value, order)
    width = product(value.shape[i] for i in columns)
    return Matrix(pointer, product(value.shape[i] for i in rows) * width, width, 1)


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


def copied(host: Host, value: Value, order: Sequence[int]) -> Val:
    """A copy of `value` with permuted axes in scratch memory."""
    nbytes = value.tensor.nbytes
    number = len(host.needs)
    base = host.reserve(nbytes)
    region = Region(Block([value.type]))
    builder = Builder(region.block)
    result = builder.transpose(region.block.args[0], order)
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


# ---- what follows the product


class Borrowed:
    """The face of a `Kernel` for evaluating elements inside the generator's own function."""

    def __init__(self, host: Host, code: Code, lanes: int, known: dict[DimLike, Val]) -> None:
        self.unit, self.target, self.code = host.unit, host.target, code
        self.lanes, self.known = lanes, known
        self.turns = None  # equal functions are written once, wherever their operands come from

    def dim(self, dim: DimLike) -> Val:
        return emit_dim(self.code, dim, self.known)

    def size(self, dim: DimLike) -> Val | int:
        return dim if isinstance(dim, int) else self.dim(dim)


class FusedEpilogue:
    """The elementwise rest of a contract fusion, applied to each finished vector of sums."""

    def __init__(
        self,
        host: Host,
        name: str,
        block: Block,
        root: Op,
        acc: DType,
        operands: dict[Value, Value],
    ) -> None:
        self.host, self.block, self.root, self.acc = host, block, root, acc
        self.others = self.arguments()
        self.operands = operands
        self.names = host.named
        self.dtype: DType = root.attrs.get("dtype", root.result.tensor.dtype)

    def arguments(self) -> list[Value]:
        """What is read beside the operands and what computes them."""
        before = {self.root}
        waiting = [v.op for v in self.root.operands]
        while waiting:
            op = waiting.pop()
            if op is not None and op not in before:
                before.add(op)
                waiting += [v.op for v in op.operands]
        return [a for a in self.block.args if not before.issuperset(a.users)]

    @property
    def strided(self) -> tuple[bool, ...]:
        """Which of the other operands are read by run-time strides."""
        return tuple(self.host.buffers[self.operands[a]].strides is not None for a in self.others)

    def epilogue(self) -> Epilogue | None:
        """For the generator; None where sums are stored as they are."""
        if self.block.yielded == [self.root.result] and self.dtype.kind != "b":
            return None
        return Epilogue(self.apply, self.kinds(), self._beside())

    def _beside(self) -> int | None:
        """The first of the other operands that lies in memory like the result."""
        (result,) = self.block.yielded
        for number, arg in enumerate(self.others):
            alike = arg.shape == result.shape
            size = arg.tensor.dtype.itemsize == result.tensor.dtype.itemsize
            if alike and size and self.host.buffers[self.operands[arg]].strides is None:
                return number
        return None

    def kinds(self) -> tuple[str, ...]:
        """The MLIR types of the slots."""
        return ("!llvm.ptr",) * len(self.others) + ("i64",) * len(self._numbers())

    def _numbers(self) -> list[object]:
        """Keys of the i64 slots: named dims, then run-time strides."""
        keys: list[object] = [Dim.of(name) for name in self.names]
        for arg in self.others:
            keys += self.host.buffers[self.operands[arg]].strides or ()
        return keys

    def captured(self) -> list[Val]:
        """The host's values for the slots."""
        pointers = [self.host.buffers[self.operands[a]].pointer for a in self.others]
        numbers = [
            self.host.dim(k) if isinstance(k, Dim) else self.host.value(k) for k in self._numbers()
        ]
        return [*pointers, *numbers]

    def apply(self, code: Code, sums: Elem, place: Place) -> Elem:
        """The block's yield where the root's result is `sums`."""
        kernel, elements = self.elements(code, place.lanes, place.extra)
        value = convert.cast(code, sums, self.acc, self.dtype)
        elements.overrides[self.root.result] = lambda index, guard: value
        (result,) = self.block.yielded
        with elements.scope(place.mask):
            final = elements.vector(result, self.index(kernel, place))
        if not isinstance(final, Val):
            return final  # complex: its parts are stored as they are
        return memory.to_memory(code, final, result.tensor.dtype)

    def elements(self, code: Code, lanes: int, extra: tuple[Val, ...]) -> tuple[Borrowed, Elements]:
        """An evaluator of the block's values, with `extra` from the slots."""
        slots = dict(zip(self._numbers(), extra[len(self.others) :], strict=True))
        known: dict[DimLike, Val] = {k: v for k, v in slots.items() if isinstance(k, Dim)}
        kernel = Borrowed(self.host, code, lanes, known)
        sources = {}
        for arg, pointer in zip(self.others, extra, strict=False):
            keys = self.host.buffers[self.operands[arg]].strides
            type = arg.tensor
            strides = contiguous(type.shape) if keys is None else tuple(slots[k] for k in keys)
            sources[arg] = Source(pointer, type.dtype, type.shape, strides)
        return kernel, Elements(kernel, sources)  # type: ignore[arg-type]

    def index(self, kernel: Borrowed, place: Place) -> Indices:
        """The result's index of a vector: batch, row and column positions per axis."""
        x, y = (v.tensor for v in self.root.operands)
        attrs, code = self.root.attrs, kernel.code
        batch = [x.shape[i] for i in attrs["x_batch"]]
        rows = [x.shape[i] for i in free_axes(x.rank, attrs["x_batch"], attrs["x_contract"])]
        columns = [y.shape[i] for i in free_axes(y.rank, attrs["y_batch"], attrs["y_contract"])]
        index = [Index(v) for v in unravel(code, place.batch, [kernel.size(d) for d in batch])]
        index += [Index(v) for v in unravel(code, place.row, [kernel.size(d) for d in rows])]
        if len(columns) == 1:
            return (*index, Index(place.col, 1))
        flat = lanes_of(code, Index(place.col, 1), place.lanes)
        sizes = [kernel.size(d) for d in columns]
        splats = [code.splat(code.i64(s) if isinstance(s, int) else s, place.lanes) for s in sizes]
        step = None if place.lanes else 0
        return (*index, *(Index(v, step) for v in unravel(code, flat, splats)))


class FusedPrologue(FusedEpilogue):
    """The elementwise computation of an operand, from elements as they lie in memory.

    `side` is its number among the operands.
    """

    def __init__(
        self, host: Host, name: str, block: Block, root: Op, acc: DType,
        operands: dict[Value, Value], side: int,
    ) -> None:  # fmt: skip
        self.value = root.operands[side]
        self.name = "xy"[side]
        super().__init__(host, name, block, root, acc, operands)

    def arguments(self) -> list[Value]:
        """What is read beside the array of the operand's own size."""
        return [a for a in _arguments(self.value) if a is not read_by(self.value)]

    def prologue(self, first: int) -> Prologue:
        """For the generator; the slots start at number `first`."""
        return Prologue(self.compute, self.kinds(), first)

    def compute(self, code: Code, loaded: Elem, spot: Spot, extra: tuple[Val, ...]) -> Val:
        """The operand's elements where the array holds `loaded`."""
        y, attrs = self.value, self.root.attrs
        kernel, elements = self.elements(code, spot.lanes, extra)
        elements.overrides[read_by(y)] = lambda index, guard: loaded
        along = 1 if spot.lanes else 0
        spread = Index(spot.k, along if spot.along_k else 0)
        across = Index(spot.free, 0 if spot.along_k else along)
        batch, contract = attrs[f"{self.name}_batch"], attrs[f"{self.name}_contract"]
        free = free_axes(y.tensor.rank, batch, contract)
        at = dict(zip(contract, self.split(kernel, spread, contract), strict=True))
        at |= zip(free, self.split(kernel, across, free), strict=True)
        at |= zip(batch, self.split(kernel, Index(spot.batch), batch), strict=True)
        with elements.scope(spot.mask):
            value = convert.cast(
                code,
                elements.vector(y, tuple(at[i] for i in range(len(at)))),
                y.tensor.dtype,
                self.acc,
            )
        assert isinstance(value, Val), "complex operands are computed before"
        return value

    def split(self, kernel: Borrowed, index: Index, axes: Sequence[int]) -> list[Index]:
        """Positions along `axes` of the operand, which `index` counts together.

        Lanes start at a multiple of their number.
        """
        code = kernel.code
        sizes = [kernel.size(self.value.shape[axis]) for axis in axes]
        if len(axes) < 2:
            return [index][: len(axes)]
        inner = sizes[-1]
        if index.step == 0:
            return [Index(at) for at in unravel(code, index.base, sizes)]
        if isinstance(inner, int) and inner % kernel.lanes == 0:
            *outer, last = unravel(code, index.base, sizes)
            return [*map(Index, outer), Index(last, index.step)]
        flat = lanes_of(code, index, kernel.lanes)
        splats = [code.splat(code.i64(s) if isinstance(s, int) else s, kernel.lanes) for s in sizes]
        return [Index(at, None) for at in unravel(code, flat, splats)]


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
