"""Loop kernels that read an array across its rows, as in `x + y.T`, in tiles.

Along the result's rows such an array is read with a long stride: one element of each cache line.
So a tile of it is read the way it lies, transposed in registers into a buffer on the stack, and
the loop over the result's rows reads the buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphmill.codegen.cpu.bypass import bypassing, fence
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.element import Elements, Override
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.index import Index, shifted, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import sweep
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Block, Value, clone_op
from graphmill.records import record

ROW_BYTES = 128  # of a crossing array, read in one piece: two cache lines
COLUMNS = 64  # of the result, in one tile
SMALL = 16384  # elements up to which all arrays lie in the caches anyway
PADDING = 16  # elements after a buffer's row, so that its columns use all cache sets

Axes = tuple[int | None, ...]


@record
class Crossing:
    """Arrays whose memory runs along `axis` of the result, not its last; their axes' places."""

    axis: int
    arrays: Mapping[Value, Axes]


def crossing(block: Block, sources: Mapping[Value, Source], shape: Sequence[DimLike]) -> Crossing:
    """The arrays that a loop over `shape` would read across their rows (none: no tiles)."""
    last, found = len(shape) - 1, dict[Value, Axes]()
    count = product(shape)
    if last < 1 or (isinstance(count, int) and count <= SMALL):
        return Crossing(0, {})
    axes: list[int] = []
    for value, places in _places(block, len(shape)).items():
        source = sources[value]
        if places is None or last not in places or source.dtype.kind == "c":
            continue
        along = [p for p, stride in zip(places, source.strides, strict=True) if stride == 1]
        if len(along) == 1 and along[0] not in (None, last):
            found[value] = places
            axes.append(along[0])
    if len(set(axes)) != 1 or any(shape[a] == 1 for a in (axes[0], last)):
        return Crossing(0, {})
    return Crossing(axes[0], found)


def apart(block: Block) -> tuple[Block, dict[Value, Value]]:
    """The block with arrays that are also read transposed given twice, and which each twin is.

    As in `x + x.T`: each way of reading one has its own place in the tile.
    """
    copy, twins = Block(), dict[Value, Value]()
    mapping: dict[Value, Value] = {arg: copy.add_arg(arg.type, arg.name) for arg in block.args}
    for op in block.ops:
        new = copy.append(clone_op(op, mapping))
        if op.name == "transpose" and op.operands[0].op is None and len(op.operands[0].uses) > 1:
            twin = copy.add_arg(op.operands[0].type, op.operands[0].name)
            twins[twin] = mapping[op.operands[0]]
            new.set_operand(0, twin)
    return (copy, twins) if twins else (block, {})


def _places(block: Block, rank: int) -> dict[Value, Axes | None]:
    """For each array read, which axis of the result each of its axes runs along.

    None for an array that is read in another way, too, or in two ways.
    """
    found: dict[Value, Axes | None] = {}

    def visit(value: Value, places: Axes | None) -> None:
        op = value.op
        if op is None:
            known = found.setdefault(value, places)
            found[value] = known if known == places else None
        elif places is None or op.definition.family == "elementwise":
            for operand in op.operands:
                visit(operand, places)
        elif op.name == "transpose":
            inverse = sorted(range(len(places)), key=op.attrs["perm"].__getitem__)
            visit(op.operands[0], tuple(places[i] for i in inverse))
        elif op.name == "broadcast":
            operand = op.operands[0]
            kept = zip(operand.shape, op.attrs["axes"], strict=True)
            visit(operand, tuple(None if dim == 1 else places[axis] for dim, axis in kept))
        else:
            for operand in op.operands:
                visit(operand, None)

    for value in block.yielded:
        visit(value, tuple(range(rank)))
    return found


def emit_tiles(
    kernel: Kernel,
    block: Block,
    sources: dict[Value, Source],
    outputs: Sequence[Source],
    across: Crossing,
) -> Launch:
    """Write the kernel; work items are strips of rows, walked in tiles of columns."""
    shape = outputs[0].shape
    elements = Elements(kernel, sources)
    elements.bypass = bypassing(kernel, outputs)
    writer = _Tiles(kernel, block, elements, outputs, across)
    strips = (shape[across.axis] + writer.rows - 1) // writer.rows
    outer = [strips if i == across.axis else d for i, d in enumerate(shape[:-1])]
    with kernel.code.loop(kernel.begin, kernel.end) as item:
        writer.strip(unravel(kernel.code, item.i, [kernel.size(d) for d in outer]))
    fence(kernel, elements.bypass)
    width = shape[-1] if isinstance(shape[-1], int) else 1024
    return Launch(product(outer), grain(writer.rows * width * flops_per_element(block.ops)))


class _Tiles:
    """Writing the tiles of one kernel."""

    def __init__(
        self,
        kernel: Kernel,
        block: Block,
        elements: Elements,
        outputs: Sequence[Source],
        across: Crossing,
    ) -> None:
        self.kernel, self.code, self.elements = kernel, kernel.code, elements
        self.block, self.outputs, self.across = block, outputs, across
        self.shape, self.axis = outputs[0].shape, across.axis
        largest = max(elements.sources[v].dtype.itemsize for v in across.arrays)
        piece = kernel.choices.pick("piece", ROW_BYTES, (64, 128, 256, 512))
        self.rows = max(elements.lanes, piece // largest)
        self.columns = kernel.choices.pick("columns", COLUMNS, (32, 64, 128, 256))
        self.buffers = {value: self._buffer(elements.sources[value]) for value in across.arrays}

    def _buffer(self, source: Source) -> Source:
        pitch = self.columns + PADDING
        pointer = self.code.alloca(memory_type(source.dtype), self.rows * pitch)
        return Source(pointer, source.dtype, (self.rows, self.columns), (pitch, 1))

    def strip(self, place: Sequence[Val]) -> None:
        """All tiles of one strip; `place` is its number along each outer axis."""
        code = self.code
        outer = [Index(p) for p in place]
        top = code.mul(place[self.axis], self.rows)
        bottom = self._end(top, self.rows, self.shape[self.axis])
        with code.loop(0, self.kernel.dim(self.shape[-1]), self.columns) as tile:
            right = self._end(tile.i, self.columns, self.shape[-1])
            for value in self.across.arrays:
                self._stage(value, outer, (top, bottom), (tile.i, right))
            with self.elements.scope():
                self._compute(outer, (top, bottom), (tile.i, right))
            self.elements.overrides.clear()

    def _end(self, start: Val, length: int, size: DimLike) -> Val:
        end = self.code.add(start, length)
        if isinstance(size, int) and size % length == 0:
            return end
        return self.code.binary("arith.minsi", end, self.kernel.dim(size))

    # ---- a tile of a crossing array, transposed into its buffer

    def _stage(
        self, value: Value, outer: list[Index], rows: tuple[Val, Val], columns: tuple[Val, Val]
    ) -> None:
        code, lanes = self.code, self.elements.lanes
        (top, bottom), (left, right) = rows, columns
        low = self._whole(top, bottom, self.shape[self.axis], self.rows)
        middle = self._whole(left, right, self.shape[-1], self.columns)
        with code.loop(left, middle, lanes) as column, code.loop(top, low, lanes) as row:
            self._square(value, outer, (top, left), row.i, column.i)
        if low is not bottom:
            self._rest(value, outer, (top, left), (low, bottom), (left, middle))
        if middle is not right:
            self._rest(value, outer, (top, left), rows, (middle, right))
        self.elements.overrides[value] = self._override(value, (top, left))

    def _whole(self, start: Val, end: Val, size: DimLike, length: int) -> Val:
        """Where whole vectors from `start` on end."""
        if isinstance(size, int) and size % length == 0:
            return end
        code = self.code
        count = code.binary("arith.subi", end, start)
        rest = code.binary("arith.andi", count, code.i64(self.elements.lanes - 1))
        return code.binary("arith.subi", end, rest)

    def _square(
        self, value: Value, outer: list[Index], corner: tuple[Val, Val], row: Val, column: Val
    ) -> None:
        code, lanes, elements = self.code, self.elements.lanes, self.elements
        source, buffer = elements.sources[value], self.buffers[value]
        lines = []
        for k in range(lanes):
            at = self._at(value, outer, Index(row, 1), Index(code.add(column, k)))
            lines.append(elements.load(source, at))
        flat = transposed(code, [line for line in lines if isinstance(line, Val)])
        for k, line in enumerate(flat):
            local = self._local(Index(code.add(row, k)), Index(column, 1), corner)
            elements.store(buffer, local, line)

    def _rest(
        self,
        value: Value,
        outer: list[Index],
        corner: tuple[Val, Val],
        rows: tuple[Val, Val],
        columns: tuple[Val, Val],
    ) -> None:
        """Column by column, where no square fits."""
        elements = self.elements
        source, buffer = elements.sources[value], self.buffers[value]
        with self.code.loop(*columns) as column, elements.scope():

            def step(row: Index, carried: Sequence[Val]) -> Sequence[Val]:
                at = self._at(value, outer, row, Index(column.i))
                line = elements.load(source, at)
                elements.store(buffer, self._local(row, Index(column.i), corner), line)
                return carried

            sweep(elements, *rows, step)

    def _at(self, value: Value, outer: list[Index], row: Index, column: Index) -> tuple[Index, ...]:
        """The array's own position for a position of the result."""
        full = [*outer, column]
        full[self.axis] = row
        places = self.across.arrays[value]
        return tuple(Index(self.code.i64(0)) if p is None else full[p] for p in places)

    def _local(self, row: Index, column: Index, corner: tuple[Val, Val]) -> tuple[Index, Index]:
        code, zero = self.code, self.code.i64(0)
        up, back = (code.binary("arith.subi", zero, c) for c in corner)
        return shifted(code, row, up), shifted(code, column, back)

    def _override(self, value: Value, corner: tuple[Val, Val]) -> Override:
        places = self.across.arrays[value]
        row, column = places.index(self.axis), places.index(len(self.shape) - 1)
        buffer = self.buffers[value]
        return lambda index, guard: self.elements.load(
            buffer, self._local(index[row], index[column], corner), guard
        )

    # ---- the tile of the result

    def _compute(self, outer: list[Index], rows: tuple[Val, Val], columns: tuple[Val, Val]) -> None:
        elements = self.elements
        with self.code.loop(*rows) as row, elements.scope():
            at = list(outer)
            at[self.axis] = Index(row.i)

            def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
                index = (*at, position)
                results = [elements.at(value, index) for value in self.block.yielded]
                for result, output in zip(results, self.outputs, strict=True):
                    elements.store(output, index, result)
                return carried

            sweep(elements, *columns, body)


def transposed(code: Code, lines: Sequence[Val]) -> list[Val]:
    """A square of vectors, transposed by exchanging ever smaller blocks of lanes."""
    lanes, kind = len(lines), lines[0].type
    lines, block = list(lines), len(lines) // 2
    while block:
        low = [k if not k & block else lanes + (k - block) for k in range(lanes)]
        high = [k + block if not k & block else lanes + k for k in range(lanes)]
        for k in range(lanes):
            if not k & block:
                pair = lines[k], lines[k + block]
                lines[k], lines[k + block] = (
                    code.op(f"vector.shuffle {pair[0]}, {pair[1]} {order} : {kind}, {kind}", kind)
                    for order in (low, high)
                )
        block //= 2
    assert kind == vector(lines[0].element, lanes)
    return lines
