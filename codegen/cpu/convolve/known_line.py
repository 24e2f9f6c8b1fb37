"""A line of results of known width: which elements of x each of its vectors reads, and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import load_wide, resize
from graphmill.codegen.cpu.contract.microkernel import multiply_add
from graphmill.codegen.cpu.convolve.spec import ConvSpec
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.records import record

MOST_VECTORS = 16  # of a line, all written out
TOGETHER = 4  # vectors that share each weight


@record
class KnownLine:
    """The last axis of a convolution: `width` results from `room` elements of x."""

    conv: ConvSpec
    tile: Tile
    width: int
    room: int

    @staticmethod
    def of(conv: ConvSpec, tile: Tile) -> KnownLine | None:
        """The line, where its sizes are known, it is short, and steps by one or two elements."""
        width, room = conv.out_sizes[-1], conv.sizes[-1]
        plain = conv.unit_step and conv.input_dilation[-1] == 1 and conv.strides[-1] in (1, 2)
        if width is None or room is None or not plain or conv.window[-1] > MOST_VECTORS:
            return None
        if not 0 < width <= MOST_VECTORS * tile.lanes:
            return None
        return KnownLine(conv, tile, width, room)

    def groups(self) -> Iterator[list[int]]:
        """The first places of the line's vectors, those together that share weights."""
        firsts = range(0, self.width, self.tile.lanes)
        for at in range(0, len(firsts), TOGETHER):
            yield list(firsts[at : at + TOGETHER])

    def add(
        self, code: Code, line: Val, w: Val, totals: Sequence[Val], vectors: Sequence[int]
    ) -> list[Val]:
        """The sums of some vectors, plus what a line of x gives with a row of weights."""
        conv, tile, sums = self.conv, self.tile, list(totals)
        for tap in range(conv.window[-1]):
            weight = load_wide(code, w, tap, conv.w, tile.element)
            splat = code.splat(weight, tile.lanes)
            for i, first in enumerate(vectors):
                column = first * conv.strides[-1] - conv.low[-1] + tap * conv.dilation[-1]
                value = self._read(code, line, column)
                if value is not None:
                    sums[i] = multiply_add(code, tile, splat, value, sums[i])
        return sums

    def _read(self, code: Code, line: Val, column: int) -> Val | None:
        """What a vector of results reads from `column` on; None where all of it is padding."""
        if self.conv.strides[-1] == 1:
            return self._load(code, line, column)
        lanes, kind = self.tile.lanes, self.tile.vector
        halves = [self._load(code, line, at) for at in (column, column + lanes)]
        if halves == [None, None]:
            return None
        low, high = (half or code.const(0, kind) for half in halves)
        even = list(range(0, 2 * lanes, 2))
        return code.op(f"vector.shuffle {low}, {high} {even} : {kind}, {kind}", kind)

    def _load(self, code: Code, line: Val, column: int) -> Val | None:
        conv, tile, lanes = self.conv, self.tile, self.tile.lanes
        low, high = max(0, -column), min(lanes, self.room - column)
        if low >= high:
            return None
        mask = self.lanes_mask(code, low, high) if high - low < lanes else None
        value = memory.load(code, line, column, conv.x, lanes, mask=mask)
        assert isinstance(value, Val), "complex convolutions take the plain loops"
        return resize(code, value, tile.element, signed=conv.x.kind == "i")

    def lanes_mask(self, code: Code, low: int, high: int) -> Val:
        """i1 per lane: lanes `low`..`high`."""
        lanes = self.tile.lanes
        return code.const_lanes([low <= i < high for i in range(lanes)], f"vector<{lanes}xi1>")
