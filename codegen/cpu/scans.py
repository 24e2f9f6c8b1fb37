"""Running reductions along one axis."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.bypass import bypassing, fence
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index, Indices, mirrored
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import outer_positions
from graphmill.codegen.cpu.lowering import info_of, lowers
from graphmill.codegen.cpu.stages import Accumulator, pack, unpack
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Op


class Lines:
    """The lines of an array along one axis, many at a time where the axis is not the last.

    Work items are groups of lines: one line when the axis is last, else as many neighbouring
    ones as there are lanes.
    """

    def __init__(self, kernel: Kernel, shape: Sequence[DimLike], axis: int) -> None:
        self.kernel, self.shape, self.axis = kernel, tuple(shape), axis
        self.across = axis != len(shape) - 1
        others = [i for i in range(len(shape)) if i != axis]
        self.outer = others[:-1] if self.across else others

    @property
    def items(self) -> DimLike:
        """The number of groups."""
        count = product(self.shape[i] for i in self.outer)
        if not self.across:
            return count
        return count * ((self.shape[-1] + self.kernel.lanes - 1) // self.kernel.lanes)

    def launch(self, work: float = 4.0) -> Launch:
        """How to run them: `work` operations per element."""
        length = self.shape[self.axis]
        lanes = self.kernel.lanes if self.across else 1
        return Launch(
            self.items, grain((length if isinstance(length, int) else 256) * lanes * work)
        )

    def positions(self, item: Val) -> tuple[dict[int, Index], Val | None]:
        """The group's place on every other axis, and the mask of lanes inside the array."""
        code, kernel = self.kernel.code, self.kernel
        row, tail = item, None
        at: dict[int, Index] = {}
        if self.across:
            width = (self.shape[-1] + kernel.lanes - 1) // kernel.lanes
            row = code.binary("arith.divui", item, kernel.dim(width))
            start = code.mul(code.binary("arith.remui", item, kernel.dim(width)), kernel.lanes)
            at[len(self.shape) - 1] = Index(start, 1)
            left = code.binary("arith.subi", kernel.dim(self.shape[-1]), start)
            if not isinstance(self.shape[-1], int) or self.shape[-1] % kernel.lanes:
                tail = memory.tail_mask(code, left, kernel.lanes)
        return at | self.outer_positions(row), tail

    def outer_positions(self, row: Val) -> dict[int, Index]:
        """The places of row number `row` on the axes but that of the lines and that of lanes."""
        named = outer_positions(self.kernel, row, [self.shape[i] for i in self.outer])
        return dict(zip(self.outer, named, strict=True))

    def index(self, at: dict[int, Index], along: Index) -> Indices:
        """The full index of position `along` on the axis."""
        return tuple(along if i == self.axis else at[i] for i in range(len(self.shape)))


@lowers("cumulative")
def _cumulative(host: Host, op: Op) -> None:
    (output,) = host.place(op)
    (operand,) = op.operands
    kernel = host.kernel(f"cumulative_{op.attrs['monoid']}")
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    lines = Lines(kernel, operand.shape, op.attrs["axis"])
    elements = Elements(kernel, {})
    elements.bypass = {} if lines.across else bypassing(kernel, [target])
    accumulator = Accumulator(op.attrs["monoid"], operand.tensor.dtype)
    emit = _running_across if lines.across else _running_along
    with kernel.code.loop(kernel.begin, kernel.end) as item:
        at, tail = lines.positions(item.i)
        with elements.scope(tail):
            emit(elements, lines, at, source, target, accumulator, op.attrs["reverse"])
    fence(kernel, elements.bypass)
    host.launch(kernel, lines.launch(), info_of(op, kernel.name, True))


def _place(elements: Elements, lines: Lines, along: Index, reverse: bool) -> Index:
    if not reverse:
        return along
    return mirrored(elements.code, along, elements.dim(lines.shape[lines.axis]))


def _running_across(
    elements: Elements, lines: Lines, at: dict[int, Index], source: Source, target: Source,
    accumulator: Accumulator, reverse: bool,
) -> None:  # fmt: skip
    """One step along the axis after the other, a vector of lines at a time."""
    code, kernel = elements.code, lines.kernel
    start = accumulator.start(code, kernel.lanes)
    with code.loop(0, kernel.dim(lines.shape[lines.axis]), 1, start) as loop:
        index = lines.index(at, _place(elements, lines, Index(loop.i), reverse))
        loop.next = accumulator.combine(kernel, loop.carried, elements.load(source, index))
        elements.store(target, index, unpack(loop.next))


def _running_along(
    elements: Elements, lines: Lines, at: dict[int, Index], source: Source, target: Source,
    accumulator: Accumulator, reverse: bool,
) -> None:  # fmt: skip
    """Whole vectors of one line: a prefix inside the vector, then what came before."""
    code, kernel, lanes = elements.code, lines.kernel, lines.kernel.lanes
    size = kernel.dim(lines.shape[lines.axis])
    rest = code.binary("arith.remui", size, code.i64(lanes))
    middle = code.binary("arith.subi", size, rest)
    with code.loop(0, middle, lanes, accumulator.start(code, 0)) as loop:
        index = lines.index(at, _place(elements, lines, Index(loop.i, 1), reverse))
        prefix = _prefix(elements, accumulator, pack(elements.load(source, index)))
        splats = [code.splat(v, lanes) for v in loop.carried]
        total = accumulator.combine(kernel, splats, unpack(prefix))
        elements.store(target, index, unpack(total))
        loop.next = [
            code.op(f"vector.extract {v}[{lanes - 1}] : {v.element} from {v.type}", v.element)
            for v in total
        ]
    with code.loop(middle, size, 1, loop.results) as last:
        index = lines.index(at, _place(elements, lines, Index(last.i), reverse))
        last.next = accumulator.combine(kernel, last.carried, elements.load(source, index))
        elements.store(target, index, unpack(last.next))


def _prefix(elements: Elements, accumulator: Accumulator, state: list[Val]) -> list[Val]:
    """The running combination inside a vector, by doubling distances (Hillis and Steele)."""
    code, lanes = elements.code, elements.lanes
    neutral = accumulator.start(code, lanes)
    distance = 1
    while distance < lanes:
        order = [lane - distance if lane >= distance else lanes for lane in range(lanes)]
        moved = [
            code.op(f"vector.shuffle {v}, {n} {order} : {v.type}, {n.type}", v.type)
            for v, n in zip(state, neutral, strict=True)
        ]
        state = accumulator.combine(elements.kernel, moved, unpack(state))
        distance *= 2
    return state
