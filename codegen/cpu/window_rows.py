"""Windows over the last two axes, a row of results at a time: down the columns, then along.

The rows of the window are combined column by column into a row that the caches hold, with neutral
elements at both ends; along it every tap is a vector of neighbours, and padding needs no mask.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import outer_positions, sweep
from graphmill.codegen.cpu.lowering import info_of
from graphmill.codegen.cpu.stages import Accumulator
from graphmill.ir.dims import product
from graphmill.ir.graph import Op

LONGEST = 4096  # elements of a row of x that is kept on the stack
MOST_TAPS = 16  # along a row, written out


def is_rows(op: Op) -> bool:
    """Whether the window lies in the last two axes, along short enough rows."""
    attrs, type = op.attrs, op.operands[0].tensor
    if type.rank < 2 or type.dtype.kind not in "iuf" or not isinstance(type.shape[-1], int):
        return False
    outer = zip(
        attrs["window"][:-2], attrs["strides"], attrs["low"], attrs["high"], strict=False
    )  # fmt: skip
    along, room = attrs["window"][-1], attrs["low"][-1] + type.shape[-1] + attrs["high"][-1]
    return (
        all(entry == (1, 1, 0, 0) for entry in outer)
        and 1 < along <= MOST_TAPS
        and 0 < room <= LONGEST
        and attrs["monoid"] in ("sum", "prod", "max", "min")
    )


def emit_rows(host: Host, op: Op) -> None:
    """Write and launch the kernel; an item is a row of results."""
    (output,) = host.place(op)
    kernel = host.kernel(f"window_{op.attrs['monoid']}")
    source = host.source(kernel, op.operands[0])
    target = host.source(kernel, op.result, output)
    rows = _Rows(kernel, op, source, target)
    with kernel.code.loop(kernel.begin, kernel.end) as item, rows.elements.scope():
        rows.row(item.i)
    shape, window = op.result.shape, op.attrs["window"]
    width = op.operands[0].shape[-1]
    work = grain(float(width * window[-2] + width * window[-1]))
    host.launch(kernel, Launch(product(shape[:-1]), work), info_of(op, kernel.name, True))


class _Rows:
    """The kernel being written; `buffer` is the row of x combined down its columns."""

    def __init__(self, kernel: Kernel, op: Op, source: Source, target: Source) -> None:
        self.kernel, self.op, self.source, self.target = kernel, op, source, target
        self.code, self.elements = kernel.code, Elements(kernel, {})
        self.lanes = self.elements.lanes
        self.dtype = op.operands[0].tensor.dtype
        self.accumulator = Accumulator(op.attrs["monoid"], self.dtype)
        self.kept = self.accumulator.memory
        width: int = op.operands[0].shape[-1]
        slack = self.lanes * (1 + op.attrs["strides"][-1])  # whole vectors read beyond the end
        self.room = op.attrs["low"][-1] + width + op.attrs["high"][-1] + slack
        self.buffer = self.code.alloca(memory_type(self.kept), self.room)
        (neutral,) = self.accumulator.start(self.code, self.lanes)
        for at in range(0, self.room - self.lanes + 1, self.lanes):
            memory.store(self.code, neutral, self.buffer, at, self.kept)
        memory.store(self.code, neutral, self.buffer, self.room - self.lanes, self.kept)

    def row(self, item: Val) -> None:
        *outer, line = outer_positions(self.kernel, item, self.op.result.shape[:-1])
        first, past = self._inside(line.base)

        def down(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            value = self._down(tuple(outer), line.base, first, past, position)
            at = self.code.add(position.base, self.op.attrs["low"][-1])
            mask = self.elements.tail
            memory.store(self.code, value, self.buffer, at, self.kept, mask=mask)
            return carried

        def along(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            value = self._along(position)
            self.elements.store(self.target, (*outer, line, position), value)
            return carried

        sweep(self.elements, 0, self.op.operands[0].shape[-1], down)
        sweep(self.elements, 0, self.op.result.shape[-1], along)

    def _inside(self, line: Val) -> tuple[Val, Val]:
        """The taps down the columns that lie inside x for a line of results: `first`..`past`."""
        code, attrs = self.code, self.op.attrs
        size, by, zero = attrs["window"][-2], attrs["dilation"][-2], code.i64(0)
        room = self.kernel.dim(self.op.operands[0].shape[-2])
        start = code.add(code.mul(line, attrs["strides"][-2]), -attrs["low"][-2])

        def taps_before(end: Val) -> Val:
            far = code.add(code.binary("arith.subi", end, start), by - 1)
            far = code.binary("arith.maxsi", far, zero)
            return code.binary("arith.divui", far, code.i64(by))

        past = code.binary("arith.minsi", taps_before(room), code.i64(size))
        return taps_before(zero), past

    def _down(
        self, outer: tuple[Index, ...], line: Val, first: Val, past: Val, position: Index
    ) -> Val:
        code, attrs = self.code, self.op.attrs
        start = self.accumulator.start(code, self.lanes)
        with code.loop(first, past, 1, start) as tap, self.elements.scope(self.elements.tail):
            at = code.add(code.mul(line, attrs["strides"][-2]), -attrs["low"][-2])
            row = Index(code.add(at, code.mul(tap.i, attrs["dilation"][-2])))
            value = self.elements.load(self.source, (*outer, row, position))
            tap.next = self.accumulator.combine(self.kernel, tap.carried, value)
        return tap.results[0]

    def _along(self, position: Index) -> Val:
        attrs = self.op.attrs
        state: Sequence[Val] = ()
        for tap in range(attrs["window"][-1]):
            value = self._tap(position.base, tap * attrs["dilation"][-1])
            state = self.accumulator.combine(self.kernel, state, value) if tap else [value]
        (value,) = state
        return value

    def _tap(self, place: Val, shift: int) -> Val:
        """What neighbouring results read `shift` elements into their windows."""
        code, stride = self.code, self.op.attrs["strides"][-1]
        at = code.add(code.mul(place, stride), shift)
        if stride != 2:
            value = memory.load_strided(code, self.buffer, at, stride, self.kept, self.lanes)
            assert isinstance(value, Val)
            return value
        low = memory.load(code, self.buffer, at, self.kept, self.lanes)
        high = memory.load(code, self.buffer, code.add(at, self.lanes), self.kept, self.lanes)
        assert isinstance(low, Val)
        even = list(range(0, 2 * self.lanes, 2))
        return code.op(f"vector.shuffle {low}, {high} {even} : {low.type}, {low.type}", low.type)
