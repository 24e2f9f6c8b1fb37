"""Convolution as a product of the filters with patches of x, packed on the fly.

A group of panels (patches of neighbouring results) is packed for a slice of k and multiplied with
all filters while it is in the caches; the matrix of patches never exists as a whole.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.amx_tiled import AmxTiled
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import ceil_div, least, minus
from graphmill.codegen.cpu.contract.parts import PanelB, Slice
from graphmill.codegen.cpu.contract.plan import GROUP, Plan
from graphmill.codegen.cpu.contract.spec import Epilogue
from graphmill.codegen.cpu.contract.tiled import Tiled
from graphmill.codegen.cpu.convolve.spec import ConvSlots, ConvSpec
from graphmill.codegen.cpu.convolve.window import Window
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val

_ARGS = (
    ("data", "!llvm.ptr"), ("begin", "i64"), ("end", "i64"), ("worker", "i64"),
    ("x", "!llvm.ptr"), ("k", "i64"), ("length", "i64"), ("first", "i64"), ("count", "i64"),
    ("out", "!llvm.ptr"),
)  # fmt: skip


class PatchProduct(Tiled):
    """The loops of a tiled product, B's panels being packed from patches."""

    def __init__(
        self, slots: ConvSlots, symbol: str, plan: Plan, epilogue: Epilogue | None
    ) -> None:
        super().__init__(slots, symbol, slots.spec, plan, epilogue)
        self.slots = slots
        self.packer = _emit_packer(self.code.unit, symbol, slots.conv, plan)

    def body(self) -> None:
        for batch, low, high in self.slots.matrices(self.panels):
            self._image(batch, low, high)

    def _image(self, batch: Val, low: Val, high: Val) -> None:
        code, slots, tile, plan = self.code, self.slots, self.tile, self.plan
        _, group = slots.image_and_group(batch)
        w_index = code.mul(group, code.mul(self.sizes.m, self.sizes.k))
        w = code.at(slots["w"], w_index, memory_type(self.spec.a))
        y = code.at(slots["y"], code.mul(batch, slots["c_batch"]), memory_type(self.spec.out))
        x = slots.x_base(batch)
        width, depth = GROUP * tile.columns, self.scratch.depth
        with code.loop(low, high, GROUP) as first, code.loop(0, self.depth, depth) as k:
            end = least(code, code.add(first.i, GROUP), high)
            left = minus(code, self.depth, k.i)
            length = least(code, left, depth)
            pixel = code.mul(first.i, tile.columns)
            count = least(code, minus(code, self.sizes.n, pixel), code.i64(width))
            given = [x, k.i, length, pixel, count, self.b_memory]
            code.call(self.packer, [*code.args[:4], *given])
            back = minus(code, code.i64(0), pixel)
            base = code.at(self.b_memory, back, tile.element)
            b = PanelB(base, code.i64(tile.columns), code.i64(plan.pitch), from_slice=True)
            last = code.compare("arith.cmpi", "sle", left, depth)
            step = self.scratch.tiles if plan.pack_a else self.tiles
            with code.loop(0, self.tiles, step) as rows:
                stop = least(code, code.add(rows.i, step), self.tiles)
                elements = None
                if (unit := tile.dot.group) > 1:
                    rest = minus(code, self.sizes.k, code.mul(k.i, unit))
                    elements = least(code, rest, code.mul(length, unit))
                part = Slice(k.i, length, last, (rows.i, stop), (first.i, end), batch, elements)
                self._panels(part, self._block_a(part, w), y, b)


class AmxPatches(AmxTiled, PatchProduct):
    """The same with AMX's tiles."""


def _emit_packer(unit: Unit, symbol: str, conv: ConvSpec, plan: Plan) -> str:
    """Symbol of the function that packs `count` patches from `first`: rows of a slice of k.

    A row is a unit of k; where k ends inside one it holds the last value again, which meets zero.
    """
    name = f"{symbol}_patches"
    code = Code(unit, name, _ARGS, traits=("noinline",))
    slots = ConvSlots(code, conv)
    x, start, length, first, count, out = code.args[4:]
    tile = plan.tile
    window = Window(slots, code, tile.element, tile.lanes)
    width, end = slots.out[-1], code.add(first, count)
    low = code.binary("arith.divui", first, width)
    high = code.add(code.binary("arith.divui", code.add(end, -1), width), 1)
    if tile.dot.step > 1:  # units that pad k are read, but meet zero
        used = minus(code, ceil_div(code, slots.sizes.k, tile.dot.group), start)
        length = least(code, length, used)
    with code.loop(0, length) as k:
        target = code.at(out, code.mul(k.i, plan.pitch), tile.element)
        sources = _sources(code, slots, x, code.add(start, k.i), tile)
        with code.loop(low, high) as row:
            edge = code.mul(row.i, width)
            begin = code.binary("arith.maxsi", edge, first)
            run = minus(code, least(code, code.add(edge, width), end), begin)
            here = code.at(target, minus(code, begin, first), tile.element)
            lines = [(*window.line(base, row.i, taps), taps[-1]) for base, taps in sources]
            place = minus(code, begin, edge)
            _pack_run(window, tile, lines, place, run, here)
    code.finish()
    return name


def _sources(
    code: Code, slots: ConvSlots, x: Val, unit: Val, tile: Tile
) -> list[tuple[Val, list[Val]]]:
    """Channel and taps of each value of k in a unit."""
    found = []
    last = code.add(slots.sizes.k, -1)
    for j in range(tile.dot.group):
        k = unit
        if tile.dot.group > 1:
            k = least(code, code.add(code.mul(unit, tile.dot.group), j), last)
        channel, taps = decode(code, slots.conv, k)
        at = code.mul(channel, slots["x_channel"])
        found.append((code.at(x, at, memory_type(slots.conv.x)), taps))
    return found


def _pack_run(
    window: Window, tile: Tile, lines: list[tuple[Val, Val, Val]], place: Val, run: Val, out: Val
) -> None:
    """The units of `run` neighbouring results of a line, of which the first is at `place`."""
    code = window.code
    zero = code.const(0, tile.vector)
    if tile.dot.group == 1:
        line, inside, tap = lines[0]
        with code.when(inside), code.loop(0, run, tile.lanes) as at:
            value = window.vector(line, code.add(place, at.i), tap, minus(code, run, at.i))
            code.store(value, code.at(out, at.i, tile.element), tile.bytes)
        with code.otherwise(), code.loop(0, run, tile.lanes) as at:
            code.store(zero, code.at(out, at.i, tile.element), tile.bytes)
        return
    bits = 32 // tile.dot.group
    with code.loop(0, run, tile.lanes) as at:
        unit = zero
        for j, (line, inside, tap) in enumerate(lines):
            with code.choose(inside, [zero]) as read:
                left = minus(code, run, at.i)
                read.next = [window.vector(line, code.add(place, at.i), tap, left)]
            value = code.binary(
                "arith.andi", read.results[0], code.const((1 << bits) - 1, zero.type)
            )
            value = code.binary("arith.shli", value, code.const(bits * j, zero.type))
            unit = code.binary("arith.ori", unit, value)
        code.store(unit, code.at(out, at.i, tile.element), tile.bytes)


def decode(code: Code, conv: ConvSpec, k: Val) -> tuple[Val, list[Val]]:
    """Channel and taps of one value of k."""
    taps: list[Val] = []
    for size in reversed(conv.window):
        taps.insert(0, code.binary("arith.remui", k, code.i64(size)))
        k = code.binary("arith.divui", k, code.i64(size))
    return k, taps
