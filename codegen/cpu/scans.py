"""Running reductions and arg-reductions along one axis."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import memory, scalar
from graphmill.codegen.cpu.elem import Elem, constant
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index, Indices, mirrored
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import outer_positions, sweep
from graphmill.codegen.cpu.lowering import info_of, label, lowers
from graphmill.codegen.cpu.stages import Accumulator, pack, unpack
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import bool_
from graphmill.ir.graph import Op
from graphmill.ir.ops.reduce import identity


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
        named = outer_positions(kernel, row, [self.shape[i] for i in self.outer])
        return at | dict(zip(self.outer, named, strict=True)), tail

    def index(self, at: dict[int, Index], along: Index) -> Indices:
        """The full index of position `along` on the axis."""
        return tuple(along if i == self.axis else at[i] for i in range(len(self.shape)))


# ---- cumulative


@lowers("cumulative")
def _cumulative(host: Host, op: Op) -> None:
    (output,) = host.place(op)
    (operand,) = op.operands
    kernel = host.kernel(f"cumulative_{op.attrs['monoid']}")
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    lines = Lines(kernel, operand.shape, op.attrs["axis"])
    elements = Elements(kernel, {})
    accumulator = Accumulator(op.attrs["monoid"], operand.tensor.dtype)
    emit = _running_across if lines.across else _running_along
    with kernel.code.loop(kernel.begin, kernel.end) as item:
        at, tail = lines.positions(item.i)
        with elements.scope(tail):
            emit(elements, lines, at, source, target, accumulator, op.attrs["reverse"])
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


# ---- argreduce


class _Best:
    """The best value so far and where it was."""

    def __init__(self, kernel: Kernel, op: Op) -> None:
        self.kernel = kernel
        self.dtype = op.operands[0].tensor.dtype
        self.largest = op.attrs["kind"] == "max"

    def apply(self, name: str, a: Elem, b: Elem) -> Val:
        types = [self.dtype, self.dtype]
        result = scalar.apply(self.kernel.code, self.kernel.target, name, [a, b], types, bool_)
        assert isinstance(result, Val)
        return result

    def start(self, code: Code, lanes: int) -> list[Val]:
        """The worst value, at a position beyond all."""
        worst = constant(code, identity("max" if self.largest else "min", self.dtype),
                         self.dtype, lanes)  # fmt: skip
        return [*pack(worst), code.const((1 << 63) - 1, vector("i64", lanes))]

    def better(self, value: Val, at: Val, best: Val, best_at: Val) -> Val:
        """Whether `value` at `at` comes before the best: larger (smaller), NaN, or earlier."""
        code = self.kernel.code
        wins = self.apply("gt" if self.largest else "lt", value, best)
        ties = self.apply("eq", value, best)
        if self.dtype.is_float:
            missing, was = self.apply("ne", value, value), self.apply("ne", best, best)
            valid = code.binary("arith.xori", was, code.const(True, was.type))
            wins = code.binary("arith.ori", wins, code.binary("arith.andi", missing, valid))
            ties = code.binary("arith.ori", ties, code.binary("arith.andi", missing, was))
        earlier = code.compare("arith.cmpi", "slt", at, best_at)
        return code.binary("arith.ori", wins, code.binary("arith.andi", ties, earlier))

    def step(self, state: Sequence[Val], value: Val, at: Val, mask: Val | None) -> list[Val]:
        """The state after one more value."""
        code = self.kernel.code
        wins = self.better(value, at, state[0], state[1])
        if mask is not None:
            wins = code.binary("arith.andi", wins, mask)
        return [code.select(wins, value, state[0]), code.select(wins, at, state[1])]


@lowers("argreduce")
def _argreduce(host: Host, op: Op) -> None:
    (output,) = host.place(op)
    (operand,) = op.operands
    kernel = host.kernel(label(op))
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    lines, best = Lines(kernel, operand.shape, op.attrs["axis"]), _Best(kernel, op)
    elements = Elements(kernel, {})
    find = _best_across if lines.across else _best_along
    with kernel.code.loop(kernel.begin, kernel.end) as item:
        at, tail = lines.positions(item.i)
        with elements.scope(tail):
            found = find(elements, lines, at, source, best)
            index = tuple(at[i] for i in sorted(at))
            elements.store(target, index, found)
    host.launch(kernel, lines.launch(), info_of(op, kernel.name, True))


def _best_across(
    elements: Elements, lines: Lines, at: dict[int, Index], source: Source, best: _Best
) -> Val:
    code, kernel = elements.code, lines.kernel
    start = best.start(code, kernel.lanes)
    with code.loop(0, kernel.dim(lines.shape[lines.axis]), 1, start) as loop:
        value = elements.load(source, lines.index(at, Index(loop.i)))
        assert isinstance(value, Val)
        loop.next = best.step(loop.carried, value, code.splat(loop.i, kernel.lanes), None)
    return loop.results[1]


def _best_along(
    elements: Elements, lines: Lines, at: dict[int, Index], source: Source, best: _Best
) -> Val:
    """Two sweeps, the second over warm memory: the largest value, then where it first is."""
    found = _extreme(elements, lines, at, source, best)
    missing = best.apply("ne", found, found) if best.dtype.is_float else None
    code, lanes = elements.code, elements.lanes
    size = elements.kernel.dim(lines.shape[lines.axis])
    splat = code.splat(found, lanes)

    def hits(position: Index) -> Val:
        value = elements.load(source, lines.index(at, position))
        assert isinstance(value, Val)
        hit = best.apply("eq", value, splat)
        if missing is not None:
            lost = best.apply("ne", value, value)
            wanted = code.splat(missing, lanes)
            hit = code.binary("arith.ori", hit, code.binary("arith.andi", lost, wanted))
        return hit

    left = code.binary("arith.remui", size, code.i64(lanes))
    middle = code.binary("arith.subi", size, left)
    start = code.i64(0)
    with code.while_loop([start]) as search, elements.scope():
        inside = code.compare("arith.cmpi", "slt", search.carried[0], middle)
        # a position past the whole vectors is not read
        safe = code.select(inside, search.carried[0], start)
        some = code.compare("arith.cmpi", "sge", middle, code.i64(lanes))
        mask = code.splat(some, lanes)
        with elements.scope(mask):
            any_ = _any(code, code.binary("arith.andi", hits(Index(safe, 1)), mask))
        none = code.binary("arith.xori", any_, code.const(True, "i1"))
        code.test(search, code.binary("arith.andi", inside, none))
        search.next = [code.add(search.carried[0], lanes)]
    first = search.results[0]
    tail = memory.tail_mask(code, code.binary("arith.subi", size, first), lanes)
    with elements.scope(tail):
        hit = code.binary("arith.andi", hits(Index(first, 1)), tail)
    return code.add(first, _first_lane(code, hit))


def _extreme(
    elements: Elements, lines: Lines, at: dict[int, Index], source: Source, best: _Best
) -> Val:
    """The largest (smallest) value of the line; NaN when it holds one."""
    accumulator = Accumulator("max" if best.largest else "min", best.dtype)
    kernel = lines.kernel

    def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
        value = elements.load(source, lines.index(at, position))
        if elements.tail is None:
            return accumulator.combine(kernel, carried, value)
        return accumulator.masked(kernel, carried, value, elements.tail)

    def merge(a: Sequence[Val], b: Sequence[Val]) -> Sequence[Val]:
        return accumulator.combine(kernel, a, unpack(b))

    size = elements.dim(lines.shape[lines.axis])
    start = accumulator.start(elements.code, elements.lanes)
    return accumulator.across(kernel, sweep(elements, 0, size, body, start, merge=merge))[0]


def _any(code: Code, mask: Val) -> Val:
    return code.op(f"vector.reduction <or>, {mask} : {mask.type} into i1", "i1")


def _first_lane(code: Code, mask: Val) -> Val:
    """The number of the first lane that is set."""
    bits = code.op(f"vector.bitcast {mask} : {mask.type} to vector<1xi{mask.lanes}>",
                   f"vector<1xi{mask.lanes}>")  # fmt: skip
    word = code.op(f"vector.extract {bits}[0] : i{mask.lanes} from {bits.type}", f"i{mask.lanes}")
    wide = word if mask.lanes == 64 else code.convert("arith.extui", word, "i64")
    return code.unary("math.cttz", wide)
