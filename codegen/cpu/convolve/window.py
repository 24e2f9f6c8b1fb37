"""Reading x through the window: positions, padding, strides, dilations."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.elements import load_wide, resize
from graphmill.codegen.cpu.convolve.spec import ConvSlots
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Val, vector


class Window:
    """Loads of x as the window sees it, zero in the padding, as sums' type `element`."""

    def __init__(self, slots: ConvSlots, code: Code, element: str, lanes: int) -> None:
        self.slots, self.code, self.conv = slots, code, slots.conv
        self.element, self.lanes = element, lanes

    def line(self, channel: Val, row: Val, taps: list[Val]) -> tuple[Val, Val]:
        """The line of x that results in `row` (all axes but the last) read at `taps`.

        Returns its address and whether it lies inside x.
        """
        index, inside = self.line_index(row, taps)
        return self.code.at(channel, index, memory_type(self.conv.x)), inside

    def line_index(self, row: Val, taps: list[Val]) -> tuple[Val, Val]:
        """The same line as an index from its channel's first element."""
        code, conv = self.code, self.conv
        inside, index = code.const(True, "i1"), code.i64(0)
        for axis in reversed(range(conv.rank - 1)):
            size = self.slots.out[axis]
            place = code.binary("arith.remui", row, size)
            row = code.binary("arith.divui", row, size)
            at, good = self.position(axis, place, taps[axis])
            inside = code.binary("arith.andi", inside, good)
            index = code.add(index, code.mul(at, self.slots.step[axis]))
        return index, inside

    def position(self, axis: int, place: Val, tap: Val) -> tuple[Val, Val]:
        """Where along `axis` of x a result reads at a tap, and whether that is inside."""
        code, conv = self.code, self.conv
        at = self.offset(axis, place, tap)
        good = code.const(True, vector("i1", at.lanes))
        by = conv.input_dilation[axis]
        if by > 1:
            good = code.compare("arith.cmpi", "sge", at, code.const(0, at.type))
            divisor = code.const(by, at.type)
            rest = code.binary("arith.remsi", at, divisor)
            whole = code.compare("arith.cmpi", "eq", rest, code.const(0, at.type))
            good = code.binary("arith.andi", good, whole)
            at = code.binary("arith.divsi", at, divisor)
        size = code.splat(self.slots.size[axis], at.lanes)
        return at, code.binary("arith.andi", good, code.compare("arith.cmpi", "ult", at, size))

    def offset(self, axis: int, place: Val, tap: Val) -> Val:
        """The position in the input with its dilation zeros, before the padding is taken off."""
        code, conv = self.code, self.conv
        moved = code.add(code.mul(tap, conv.dilation[axis]), -conv.low[axis])
        at = code.mul(place, conv.strides[axis])
        return code.add(at, code.splat(moved, at.lanes))

    @property
    def simple(self) -> bool:
        """Whether whole vectors of results read whole vectors of x (after a shuffle)."""
        conv = self.conv
        return conv.unit_step and conv.input_dilation[-1] == 1 and conv.strides[-1] in (1, 2)

    def inside(self, place: Val, first: Val, last: Val) -> Val:
        """Whether the results from `place` on read no padding at taps `first` to `last`."""
        code, axis = self.code, self.conv.rank - 1
        low = self.offset(axis, place, first)
        high = code.add(self.offset(axis, place, last), self.lanes * self.conv.strides[axis])
        starts = code.compare("arith.cmpi", "sge", low, code.i64(0))
        ends = code.compare("arith.cmpi", "sle", high, self.slots.size[axis])
        return code.binary("arith.andi", starts, ends)

    def vector(self, line: Val, place: Val, tap: Val, left: Val) -> Val:
        """What `lanes` results from `place` on read at a tap of the last axis.

        Only the first `left` lanes are wanted; the others may hold anything.
        """
        code = self.code
        if not self.simple:
            return self.masked(line, place, tap, left)
        kind = vector(self.element, self.lanes)
        result = code.fresh(kind)
        code.line(f"{result} = scf.if {self.inside(place, tap, tap)} -> ({kind}) {{")
        code.line(f"scf.yield {self.whole(line, place, tap)} : {kind}")
        code.line("} else {")
        code.line(f"scf.yield {self.masked(line, place, tap, left)} : {kind}")
        code.line("}")
        return result

    def whole(self, line: Val, place: Val, tap: Val) -> Val:
        """The vector read at a tap, all of it inside x; only where `simple`."""
        code, lanes, dtype = self.code, self.lanes, self.conv.x
        first = self.offset(self.conv.rank - 1, place, tap)
        low = load_wide(code, line, first, dtype, self.element, lanes)
        if self.conv.strides[-1] == 1:
            return low
        high = load_wide(code, line, code.add(first, lanes), dtype, self.element, lanes)
        even = list(range(0, 2 * lanes, 2))
        return code.op(f"vector.shuffle {low}, {high} {even} : {low.type}, {low.type}", low.type)

    def masked(self, line: Val, place: Val, tap: Val, left: Val) -> Val:
        """The vector read at a tap, zero where that is padding or beyond `left`."""
        code, conv, lanes = self.code, self.conv, self.lanes
        axis = conv.rank - 1
        numbers = memory.lane_numbers(code, lanes)
        places = code.binary("arith.addi", code.splat(place, lanes), numbers)
        at, good = self.position(axis, places, tap)
        good = code.binary("arith.andi", good, memory.tail_mask(code, left, lanes))
        if conv.unit_step and conv.strides[axis] == conv.input_dilation[axis] == 1:
            first = self.offset(axis, place, tap)
            value = memory.load(code, line, first, conv.x, lanes, mask=good)
        else:
            step = code.splat(self.slots.step[axis], lanes)
            index = code.binary("arith.muli", at, step)
            value = memory.gather(code, line, index, conv.x, mask=good)
        assert isinstance(value, Val), "complex convolutions take the plain loops"
        return resize(code, value, self.element, signed=conv.x.kind == "i")
