"""`iterate` kernels: a loop over arrays whose elements do not meet, in registers.

A work item takes some vectors of elements at a time, side by side so that the turns of one hide
the latency of another's, runs all turns of the loop on them and stores what comes out. Lines
(`ir.lines`), of which a turn writes one element, are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from graphmill.codegen.cpu.control import copy_array
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.element import Elements, Override, fixed
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import CONTEXT, POLL, STOPPED, Host
from graphmill.codegen.cpu.index import Index, Indices
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import item_range, row_blocks, split_lanes, sweep, whole_turns
from graphmill.codegen.cpu.lowering import body_of, choices_of, info_of, label
from graphmill.codegen.cpu.memory import tail_mask
from graphmill.codegen.cpu.stages import Accumulator, pack, unpack
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.lines import Line, lines_of

BLOCK = 1024  # elements of the last axis that one work item takes at most
LOOK = 8  # turns between two looks at whether anything still changes
MANY = 1 << 16  # turns between two looks for signals
UNROLLS = (1, 2, 4)
MOST_WRITTEN = 96  # operations of one turn, of all vectors side by side

Shape = tuple[DimLike, ...]
Turn = Callable[[Sequence[Val], Val], list[Val]]


def emit_iterated(host: Host, op: Op) -> None:
    """Write and launch the kernel of an `iterate` fusion."""
    outputs, block = host.place(op), body_of(op)
    kernel = host.kernel(label(op), choices_of(host, op, block))
    (scan,) = (inner for inner in block.ops if inner.name == "scan")
    lines = lines_of(scan)
    numbers = not any(v.shape for v in scan.operands[: scan.attrs["carry"]])
    shape = _walked(scan, lines)
    sources = {
        arg: host.source(kernel, arg, host.buffers[operand])
        for arg, operand in zip(block.args, op.operands, strict=True)
    }
    targets = [host.source(kernel, v, b) for v, b in zip(op.results, outputs, strict=True)]
    if numbers:
        _emit_numbers(Elements(kernel, sources), scan, block, targets)
        _launch(host, op, kernel, Launch(1, 1))
        return
    if _is_flat(block, scan, shape):
        size = product(shape)
        sources = {v: _flat(s, size) if s.shape else s for v, s in sources.items()}
        targets, shape = [_flat(s, size) for s in targets], (size,)
    elements = Elements(kernel, sources)
    turns = _Turns(elements, scan, len(shape))
    stored = dict(zip(block.yielded, targets, strict=True))
    for n in lines:
        result = block.yielded.index(scan.results[n])
        start = op.operands[scan.operands[n].index]
        copy_array(host, host.buffers[start], outputs[result], start)
        turns.write_lines(n, lines[n], stored.pop(scan.results[n]))
    together = kernel.choices.pick("unroll", _together(kernel, scan), UNROLLS)
    blocks = row_blocks(shape[-1], BLOCK)
    with kernel.code.loop(kernel.begin, kernel.end) as item, elements.scope():
        outer, low, high = item_range(kernel, item.i, shape, blocks, BLOCK)

        def run(positions: Sequence[Index]) -> None:
            where = [(*outer, position) for position in positions]
            for index, found in zip(where, turns.run(where), strict=True):
                for value, target in stored.items():
                    elements.store(target, index, found[value.index])

        _sweep(elements, low, high, together, run)
    length = scan.attrs["length"]
    work = flops_per_element(scan.regions[0].block.ops) * (length if isinstance(length, int) else 8)
    width = min(shape[-1], BLOCK) if isinstance(shape[-1], int) else BLOCK
    _launch(host, op, kernel, Launch(product((*shape[:-1], blocks)), grain(width * work)))


def _walked(scan: Op, lines: Collection[int]) -> Shape:
    """The shape whose elements do not meet; of lines, without the axis they run along."""
    shapes = [tuple(v.shape) for v in scan.operands[: scan.attrs["carry"]]]
    return max((s[:-1] if n in lines else s for n, s in enumerate(shapes)), key=len)


def _launch(host: Host, op: Op, kernel: Kernel, launch: Launch) -> None:
    address = host.code.op(f"llvm.ptrtoint {host.ctx} : !llvm.ptr to i64", "i64")
    host.provide(CONTEXT, address)
    host.launch(kernel, launch, info_of(op, kernel.name, launch.items != 1))


def _emit_numbers(elements: Elements, scan: Op, block: Block, targets: Sequence[Source]) -> None:
    """A loop that carries numbers: they stay in registers, and what a turn gives is stored."""
    stored = dict(zip(block.yielded, targets, strict=True))
    carry = scan.attrs["carry"]
    turns = _Turns(elements, scan, 0)
    gathered = _gathered(scan)
    if gathered is not None:
        results = turns.side_by_side(gathered)
        for value, target in stored.items():
            elements.store(target, (), results[value.index])
        return
    turns.stacked = [
        (value, stored[result])
        for value, result in zip(turns.yielded[carry:], scan.results[carry:], strict=True)
        if result in stored
    ]
    (found,) = turns.run([()])
    for value, target in stored.items():
        if value.index < carry:
            elements.store(target, (), found[value.index])


def _sweep(
    elements: Elements, low: Val | int, high: Val | int, together: int,
    run: Callable[[Sequence[Index]], None],
) -> None:  # fmt: skip
    """`run` on the positions of `low … high`: several vectors a turn, one, then part of one."""
    code, lanes = elements.code, elements.lanes
    middle, left = split_lanes(code, low, high, lanes)
    for count in (together, 1) if together > 1 else (1,):
        end = whole_turns(code, low, middle, count * lanes)
        if low != end:
            with code.loop(low, end, count * lanes) as loop, elements.scope():
                run([Index(code.add(loop.i, n * lanes), 1) for n in range(count)])
        low = end
    if left == 0:
        return
    rest, position = (code.i64(x) if isinstance(x, int) else x for x in (left, middle))
    some = code.compare("arith.cmpi", "sgt", rest, code.i64(0))
    with code.when(some), elements.scope(tail_mask(code, rest, lanes)):
        run([Index(position, 1)])


class _Turns:
    """The turns of one scan: its body, evaluated on what is carried in registers."""

    def __init__(self, elements: Elements, scan: Op, rank: int) -> None:
        self.elements, self.scan = elements, scan
        body, carry, xs = scan.regions[0].block, scan.attrs["carry"], scan.attrs["xs"]
        pairs = list(zip(body.args, scan.operands, body.yielded, strict=False))[:carry]
        self.numbers = [n for n, arg in enumerate(body.args[:carry]) if not arg.shape]
        lines = lines_of(scan) if rank else {}
        self.arrays = [n for n, arg in enumerate(body.args[:carry]) if arg.shape and n not in lines]
        self.lines: list[tuple[Line, Source]] = []
        self.pairs = pairs
        taken = list(zip(body.args, scan.operands, strict=True))
        self.slices, self.captured = taken[carry : carry + xs], taken[carry + xs :]
        self.yielded, self.rank = body.yielded, rank
        self.stacked: list[tuple[Value, Source]] = []  # what a turn gives besides, and where to
        self.rests = not self.slices and not self.numbers and not lines and _rests(scan)
        for arg, operand in self.captured:
            elements.overrides[arg] = _elsewhere(elements, operand)

    def write_lines(self, n: int, line: Line, target: Source) -> None:
        """Let the carried array `n` be what is in `target`."""
        arg, elements = self.pairs[n][0], self.elements
        elements.overrides[arg] = lambda index, guard: elements.load(target, index, guard)
        self.lines.append((line, target))

    def run(self, where: Sequence[Indices]) -> list[dict[int, Elem]]:
        """What the loop carries in the end, by number, for each place."""
        elements, length = self.elements, self.scan.attrs["length"]
        for _, operand in self.captured:  # loaded once
            for index in where if operand.shape else [()]:
                if len(operand.shape) in (0, self.rank):
                    elements.at(operand, index)
        starts = [operand for _, operand, _ in self.pairs]
        state = [elements.at(starts[n], ()) for n in self.numbers]
        state += [elements.vector(starts[n], index) for index in where for n in self.arrays]
        widths = [len(pack(e)) for e in state]
        flat = [v for e in state for v in pack(e)]

        def turn(now: Sequence[Val], step: Val) -> list[Val]:
            return self._turn(where, _unpacked(now, widths), step)

        start, steps = 0, elements.dim(length)
        if self.rests and isinstance(length, int) and length >= 4 * LOOK:
            flat, steps = self._until_rest(flat, length // LOOK, turn), length % LOOK
        elif isinstance(length, int) and length >= 4 * MANY:
            flat, start = self._looking(flat, length // MANY, turn), length - length % MANY
        if start != steps:
            with elements.code.loop(start, steps, 1, flat) as loop, elements.scope(elements.tail):
                loop.next = turn(loop.carried, loop.i)
            flat = loop.results
        found = _unpacked(flat, widths)
        numbers = dict(zip(self.numbers, found, strict=False))
        rows = iter(found[len(self.numbers) :])
        return [numbers | {n: next(rows) for n in self.arrays} for _ in where]

    def side_by_side(self, gathered: Sequence[Accumulator]) -> list[Elem]:
        """What the loop carries in the end where it gathers what turns find: a lane for each."""
        elements, code = self.elements, self.elements.code
        kernel, lanes = elements.kernel, elements.lanes

        def turn(position: Index, carried: Sequence[Val]) -> list[Val]:
            for arg, operand in self.slices:
                elements.overrides[arg] = fixed(elements.at(operand, (position,)))
            for (arg, _, _), state in zip(self.pairs, carried, strict=True):
                elements.overrides[arg] = fixed(state)
            after = [pack(elements.vector(value, ()))[0] for _, _, value in self.pairs]
            if elements.tail is None:
                return after
            pairs = zip(after, carried, strict=True)
            return [code.select(elements.tail, new, old) for new, old in pairs]

        start = [a.start(code, lanes)[0] for a in gathered]
        most = sweep(elements, 0, elements.kernel.size(self.scan.attrs["length"]), turn, start)
        found: list[Elem] = []
        for accumulator, state, (_, operand, _) in zip(gathered, most, self.pairs, strict=True):
            (number,) = accumulator.across(kernel, [state])
            found += accumulator.combine(kernel, [number], elements.at(operand, ()))
        return found

    def _turn(self, where: Sequence[Indices], state: Sequence[Elem], step: Val) -> list[Val]:
        """The registers after one more turn."""
        elements, code = self.elements, self.elements.code
        at = self.scan.attrs["length"], step
        if self.scan.attrs["reverse"]:
            last = code.binary("arith.subi", elements.kernel.dim(at[0]), code.i64(1))
            step = code.binary("arith.subi", last, step)
        for arg, operand in self.slices:
            elements.overrides[arg] = fixed(elements.at(operand, (Index(step),)))
        rows = iter(state)
        for n in self.numbers:
            elements.overrides[self.pairs[n][0]] = fixed(next(rows))
        after = [elements.at(self.pairs[n][2], ()) for n in self.numbers]
        for value, target in self.stacked:
            elements.store(target, (Index(step),), elements.at(value, ()))
        for index in where:
            with elements.scope(elements.tail):
                for n in self.arrays:
                    elements.overrides[self.pairs[n][0]] = fixed(next(rows))
                after += [elements.vector(self.pairs[n][2], index) for n in self.arrays]
                new = [elements.vector(line.new, index) for line, _ in self.lines]
                for element, (line, target) in zip(new, self.lines, strict=True):
                    place = elements.wrapped(line.place, (), target.shape[-1])
                    elements.store(target, (*index, place), element)
        return [v for e in after for v in pack(e)]

    def _looking(self, flat: Sequence[Val], looks: int, turn: Turn) -> list[Val]:
        """`MANY` turns so many times, or until a signal's handler ends the call."""
        code, elements = self.elements.code, self.elements
        with code.while_loop([code.i64(0), *flat]) as loop:
            more = code.compare("arith.cmpi", "slt", loop.carried[0], code.i64(looks * MANY))
            code.test(loop, code.binary("arith.andi", more, self._goes_on()))
            first, *now = loop.carried
            end = code.add(first, MANY)
            with code.loop(first, end, 1, now) as most, elements.scope(elements.tail):
                most.next = turn(most.carried, most.i)
            self._look()
            loop.next = [end, *most.results]
        return loop.results[1:]

    def _context(self) -> Val:
        number = self.elements.kernel.value(CONTEXT)
        return self.elements.code.op(f"llvm.inttoptr {number} : i64 to !llvm.ptr", "!llvm.ptr")

    def _look(self) -> None:
        """Let the handlers of signals run, where somebody looks for them."""
        code, context = self.elements.code, self._context()
        poll = code.load(code.at(context, POLL, "i64"), "i64", 8)
        with code.when(code.compare("arith.cmpi", "ne", poll, code.i64(0))):
            function = code.op(f"llvm.inttoptr {poll} : i64 to !llvm.ptr", "!llvm.ptr")
            code.call_pointer(function, [context], "i64")

    def _goes_on(self) -> Val:
        """Whether no handler has ended the call."""
        code = self.elements.code
        stopped = code.load(code.at(self._context(), STOPPED, "i64"), "i64", 8)
        return code.compare("arith.cmpi", "eq", stopped, code.i64(0))

    def _until_rest(self, flat: Sequence[Val], looks: int, turn: Turn) -> list[Val]:
        """`LOOK` turns up to so many times, while the last of them changes anything."""
        code, elements = self.elements.code, self.elements
        with code.repeat([code.i64(0), *flat]) as loop:
            number, *now = loop.carried
            with code.loop(0, LOOK - 1, 1, now) as most, elements.scope(elements.tail):
                most.next = turn(most.carried, most.i)
            with elements.scope(elements.tail):
                after = turn(most.results, number)
            number = code.add(number, 1)
            loop.next = [number, *after]
            more = code.compare("arith.cmpi", "slt", number, code.i64(looks))
            more = code.binary("arith.andi", more, self._any_change(most.results, after))
            if looks >= MANY:
                every = code.binary("arith.andi", number, code.i64(MANY // LOOK - 1))
                with code.when(code.compare("arith.cmpi", "eq", every, code.i64(0))):
                    self._look()
                more = code.binary("arith.andi", more, self._goes_on())
            code.again(loop, more)
        return loop.results[1:]

    def _any_change(self, before: Sequence[Val], after: Sequence[Val]) -> Val:
        """Whether any bit of any lane that counts differs."""
        code = self.elements.code
        found: Val | None = None
        for pair in zip(before, after, strict=True):
            differs = code.compare("arith.cmpi", "ne", *(_bits(code, value) for value in pair))
            found = differs if found is None else code.binary("arith.ori", found, differs)
        assert found is not None
        if self.elements.tail is not None:
            found = code.binary("arith.andi", found, self.elements.tail)
        return code.op(f"vector.reduction <or>, {found} : {found.type} into i1", "i1")


_GATHERED = {"max": "max", "min": "min", "add": "sum", "mul": "prod", "and": "all", "or": "any"}


def _gathered(scan: Op) -> list[Accumulator] | None:
    """The reductions that a loop of numbers is, whose turns may run in any order; else None."""
    body, carry = scan.regions[0].block, scan.attrs["carry"]
    if len(body.yielded) > carry:
        return None
    found = []
    for arg, value in zip(body.args, body.yielded, strict=False):
        op, dtype = value.op, value.tensor.dtype
        if op is None or op.name not in _GATHERED or dtype.is_complex:
            return None
        logic = op.name in ("and", "or")
        rounds = dtype.is_float and op.name in ("add", "mul")
        if rounds or logic != (dtype.name == "bool"):
            return None
        if op.operands.count(arg) != 1 or len(arg.uses) != 1 or len(value.uses) != 1:
            return None
        found.append(Accumulator(_GATHERED[op.name], dtype, op))
    return found


def _elsewhere(elements: Elements, operand: Value) -> Override:
    return lambda index, guard: elements.at(operand, index, guard)


def _unpacked(flat: Sequence[Val], widths: Sequence[int]) -> list[Elem]:
    rest = iter(flat)
    return [unpack([next(rest) for _ in range(width)]) for width in widths]


def _bits(code: Code, value: Val) -> Val:
    if not value.element.startswith("f"):
        return value
    return code.convert("arith.bitcast", value, f"i{value.element[1:]}")


def _rests(scan: Op) -> bool:
    """Whether the body may leave elements as they are: it selects between old and new ones."""
    carried = set(scan.regions[0].block.args[: scan.attrs["carry"]])
    chosen = (op.operands[1:] for op in scan.regions[0].block.ops if op.name == "select")
    return any(v in carried for values in chosen for v in values)


def _together(kernel: Kernel, scan: Op) -> int:
    """How many vectors have their turns side by side: those that the registers hold."""
    body, target = scan.regions[0].block, kernel.target
    first = scan.attrs["carry"] + scan.attrs["xs"]
    held = [*scan.operands[: scan.attrs["carry"]], *scan.operands[first:]]
    bits = sum(max(v.tensor.dtype.bits, 8) for v in held if v.shape) * kernel.lanes
    for count in sorted(UNROLLS, reverse=True):
        fits = count * bits <= (target.registers - 8) * target.vector_bits
        if fits and count * len(body.ops) <= MOST_WRITTEN:
            return count
    return 1


def _is_flat(block: Block, scan: Op, shape: tuple[DimLike, ...]) -> bool:
    """Whether all axes can be walked as one: arrays are whole and read at the loop's place."""
    args = [*block.args, *scan.regions[0].block.args]
    if any(arg.tensor.layout for arg in args):
        return False
    slices = set(scan.operands[scan.attrs["carry"] :][: scan.attrs["xs"]])
    for op in (*block.ops, *scan.regions[0].block.ops):
        if op.definition.fusion == "elementwise" or op.definition.terminator or op is scan:
            continue
        if op.name == "broadcast" and not op.operands[0].shape:
            continue
        if op.result not in slices and not (op.name == "constant" and op.attrs["value"].size == 1):
            return False
    return all(tuple(arg.shape) in ((), shape) or arg in slices for arg in block.args)


def _flat(source: Source, size: DimLike) -> Source:
    return Source(source.pointer, source.dtype, (size,), (1,))
