"""What a product computes beside its sums: its operands from what lies in memory, and what follows.

Both are elements of the fused region, evaluated inside the functions of the product's generator.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import convert, memory
from graphmill.codegen.cpu.contract.spec import Epilogue, Place, Prologue, Spot
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import Host, emit_dim
from graphmill.codegen.cpu.index import Index, Indices, lanes_of, unravel
from graphmill.codegen.cpu.kernel import Source, contiguous
from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.ops.contract import free_axes


def view_of(value: Value) -> Op | None:
    """The op that makes a value a view of an argument, if one does."""
    op = value.op
    views = ("slice", "transpose")
    return op if op is not None and op.name in views and op.operands[0].op is None else None


def argument_of(value: Value) -> Value:
    """The argument that a value is, or is a view of."""
    view = view_of(value)
    return value if view is None else view.operands[0]


def read_by(value: Value) -> Value:
    """The argument, or view of one, whose elements an operand of the product is computed from, one
    from one."""
    return min(_one_from_one(value), key=lambda v: v.tensor.dtype.bits)


def _one_from_one(value: Value) -> list[Value]:
    """The arguments, and views of such, of whose element at a place that of `value` is made."""
    if value.op is None or view_of(value) is not None:
        return [value]
    if value.op.definition.fusion != "elementwise":
        return []
    found = [v for operand in value.op.operands for v in _one_from_one(operand)]
    return list(dict.fromkeys(found))


def _arguments(value: Value, but: Value) -> list[Value]:
    """The block's arguments that a value is computed from, beside another one."""
    if value is but:
        return []
    if value.op is None:
        return [value]
    found = [v for operand in value.op.operands for v in _arguments(operand, but)]
    return list(dict.fromkeys(found))


def is_computed(value: Value) -> bool:
    """Whether more than a widening load gives this operand its elements."""
    op = value.op
    if op is None or view_of(value) is not None:
        return False
    narrow, wide = op.operands[0].tensor.dtype, value.tensor.dtype
    cast = op.name == "cast" and argument_of(op.operands[0]).op is None
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
        return _arguments(self.value, read_by(self.value))

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
