"""Direct convolution, for groups of so few filters that a product would idle: depthwise above all.

A row of one filter's results at a time, vectorised along the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import load_wide, minus, store_as
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.microkernel import multiply_add
from graphmill.codegen.cpu.contract.spec import Epilogue, Place
from graphmill.codegen.cpu.convolve.known_line import KnownLine
from graphmill.codegen.cpu.convolve.spec import ConvSlots
from graphmill.codegen.cpu.convolve.window import Window
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Val
from graphmill.records import record


@record
class _Reads:
    """What a line of results reads: x from a group's first channel, a filter, the line's number."""

    x: Val
    w: Val
    row: Val


class Direct:
    """The kernel being written: items are lines of results of one filter."""

    def __init__(self, slots: ConvSlots, tile: Tile, epilogue: Epilogue | None) -> None:
        self.slots, self.code, self.conv, self.tile = slots, slots.code, slots.conv, tile
        self.epilogue = epilogue
        self.extra = extra_slots(slots.code, slots.data, epilogue, slots.first_extra)
        self.window = Window(slots, slots.code, tile.element, tile.lanes)
        self.known = KnownLine.of(slots.conv, tile)

    def body(self) -> None:
        """The filters `low`..`high` of every image and group."""
        code, slots = self.code, self.slots
        lines = code.i64(1)
        for size in slots.out[:-1]:
            lines = code.mul(lines, size)
        for batch, low, high in slots.matrices(slots.sizes.m):
            x = slots.x_base(batch)
            _, group = slots.image_and_group(batch)
            y_index = code.mul(batch, slots["c_batch"])
            y = code.at(slots["y"], y_index, memory_type(self.conv.out))
            with code.loop(low, high) as item, code.loop(0, lines) as row:
                number = code.add(code.mul(group, slots.sizes.m), item.i)
                w_index = code.mul(number, slots.sizes.k)
                w = code.at(slots["w"], w_index, memory_type(self.conv.w))
                if self.known is None:
                    self._line(batch, x, w, y, item.i, row.i)
                else:
                    self._known_line(batch, _Reads(x, w, row.i), y, item.i)

    def _line(self, batch: Val, x: Val, w: Val, y: Val, filter_: Val, row: Val) -> None:
        code, tile, slots = self.code, self.tile, self.slots
        width = slots.out[-1]
        start = code.mul(row, width)
        target = code.at(y, code.mul(filter_, slots.sizes.n), memory_type(self.conv.out))
        shown_row, shown_batch = slots.place(filter_, batch)
        reads = _Reads(x, w, row)
        with code.loop(0, width, tile.lanes) as at:
            left = minus(code, width, at.i)
            total = self._sum(reads, at.i, left)
            col = code.add(start, at.i)
            full = code.compare("arith.cmpi", "sge", left, code.i64(tile.lanes))
            for masked in (False, True):
                with code.otherwise() if masked else code.when(full):
                    mask = memory.tail_mask(code, left, tile.lanes) if masked else None
                    place = Place(shown_row, col, shown_batch, tile.lanes, mask, self.extra)
                    done = apply(code, self.epilogue, total, self.conv.acc, place)
                    store_as(code, done, target, col, self.conv.out, mask)

    def _known_line(self, batch: Val, reads: _Reads, y: Val, filter_: Val) -> None:
        """A line of a known width: what each vector reads at each tap is known, padding too."""
        code, tile, slots, known = self.code, self.tile, self.slots, self.known
        assert known is not None
        start = code.mul(reads.row, known.width)
        target = code.at(y, code.mul(filter_, slots.sizes.n), memory_type(self.conv.out))
        shown_row, shown_batch = slots.place(filter_, batch)
        zero = code.const(0, tile.vector)
        for vectors in known.groups():
            totals = self._over_lines(
                reads, [zero] * len(vectors), partial(known.add, code, vectors=vectors)
            )
            for first, total in zip(vectors, totals, strict=True):
                col = code.add(start, first)
                left = known.width - first
                mask = known.lanes_mask(code, 0, left) if left < tile.lanes else None
                place = Place(shown_row, col, shown_batch, tile.lanes, mask, self.extra)
                done = apply(code, self.epilogue, total, self.conv.acc, place)
                store_as(code, done, target, col, self.conv.out, mask)

    def _sum(self, reads: _Reads, place: Val, left: Val) -> Val:
        """The sum over channels and taps for one vector of results."""
        code, conv, tile = self.code, self.conv, self.tile
        zero = code.const(0, tile.vector)
        if not self.window.simple:
            return self._over_lines(
                reads, [zero], lambda line, w, total: [self._rolled(line, w, total[0], place, left)]
            )[0]
        last = code.i64(conv.window[-1] - 1)
        inside = self.window.inside(place, code.i64(0), last)
        result = code.fresh(tile.vector)
        code.line(f"{result} = scf.if {inside} -> ({tile.vector}) {{")
        (total,) = self._over_lines(
            reads, [zero], lambda line, w, total: [self._unrolled(line, w, total[0], place)]
        )
        code.line(f"scf.yield {total} : {tile.vector}")
        code.line("} else {")
        (total,) = self._over_lines(
            reads, [zero], lambda line, w, total: [self._rolled(line, w, total[0], place, left)]
        )
        code.line(f"scf.yield {total} : {tile.vector}")
        code.line("}")
        return result

    def _over_lines(
        self, reads: _Reads, start: list[Val], add: Callable[[Val, Val, list[Val]], list[Val]]
    ) -> list[Val]:
        """Add up, over channels and the taps of all axes but the last, what lines give."""
        code, conv, slots = self.code, self.conv, self.slots
        count = conv.channels // conv.groups * math.prod(conv.window[:-1])
        with code.loop(0, count, 1, start) as loop:
            index, taps = loop.i, list[Val]()
            for size in reversed(conv.window[:-1]):
                taps.insert(0, code.binary("arith.remui", index, code.i64(size)))
                index = code.binary("arith.divui", index, code.i64(size))
            channel = code.mul(index, slots["x_channel"])
            base = code.at(reads.x, channel, memory_type(conv.x))
            line, inside = self.window.line(base, reads.row, taps)
            weights = code.mul(loop.i, conv.window[-1])
            w = code.at(reads.w, weights, memory_type(conv.w))
            with code.choose(inside, loop.carried) as chosen:
                chosen.next = add(line, w, loop.carried)
            loop.next = chosen.results
        return loop.results

    def _unrolled(self, line: Val, w: Val, total: Val, place: Val) -> Val:
        """The taps of the last axis, all inside x."""
        code, conv, tile = self.code, self.conv, self.tile
        for tap in range(conv.window[-1]):
            weight = load_wide(code, w, tap, conv.w, tile.element)
            value = self.window.whole(line, place, code.i64(tap))
            total = multiply_add(code, tile, code.splat(weight, tile.lanes), value, total)
        return total

    def _rolled(self, line: Val, w: Val, total: Val, place: Val, left: Val) -> Val:
        """The taps of the last axis, each masked."""
        code, conv, tile = self.code, self.conv, self.tile
        with code.loop(0, conv.window[-1], 1, [total]) as tap:
            weight = load_wide(code, w, tap.i, conv.w, tile.element)
            value = self.window.masked(line, place, tap.i, left)
            splat = code.splat(weight, tile.lanes)
            tap.next = [multiply_add(code, tile, splat, value, tap.carried[0])]
        return tap.results[0]
