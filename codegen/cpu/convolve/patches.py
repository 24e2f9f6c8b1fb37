"""Convolution as a product of the filters with patches of x, packed on the fly.

A group of panels (patches of neighbouring results) is packed for a slice of k and multiplied with
all filters while it is in the caches; the matrix of patches never exists as a whole.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.elements import least, minus
from graphmill.codegen.cpu.contract.plan import GROUP, Plan
from graphmill.codegen.cpu.contract.spec import Epilogue
from graphmill.codegen.cpu.contract.tiled import PanelB, Slice, Tiled
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
        with code.loop(low, high, GROUP) as first, code.loop(0, self.sizes.k, depth) as k:
            end = least(code, code.add(first.i, GROUP), high)
            left = minus(code, self.sizes.k, k.i)
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
                part = Slice(k.i, length, last, (rows.i, stop), (first.i, end), batch)
                self._panels(part, self._block_a(part, w), y, b)


def _emit_packer(unit: Unit, symbol: str, conv: ConvSpec, plan: Plan) -> str:
    """Symbol of the function that packs `count` patches from `first`: rows of a slice of k."""
    name = f"{symbol}_patches"
    code = Code(unit, name, _ARGS, traits=("noinline",))
    slots = ConvSlots(code, conv)
    x, start, length, first, count, out = code.args[4:]
    tile = plan.tile
    window = Window(slots, code, tile.element, tile.lanes)
    width = slots.out[-1]
    with code.loop(0, length) as k:
        channel, taps = decode(code, conv, code.add(start, k.i))
        base = code.at(x, code.mul(channel, slots["x_channel"]), memory_type(conv.x))
        target = code.at(out, code.mul(k.i, plan.pitch), tile.element)
        end = code.add(first, count)
        low = code.binary("arith.divui", first, width)
        high = code.add(code.binary("arith.divui", code.add(end, -1), width), 1)
        with code.loop(low, high) as row:
            line, inside = window.line(base, row.i, taps)
            edge = code.mul(row.i, width)
            begin = code.binary("arith.maxsi", edge, first)
            run = minus(code, least(code, code.add(edge, width), end), begin)
            here = code.at(target, minus(code, begin, first), tile.element)
            with code.when(inside), code.loop(0, run, tile.lanes) as at:
                place = code.add(minus(code, begin, edge), at.i)
                value = window.vector(line, place, taps[-1], minus(code, run, at.i))
                code.store(value, code.at(here, at.i, tile.element), tile.bytes)
            with code.otherwise(), code.loop(0, run, tile.lanes) as at:
                zero = code.const(0, tile.vector)
                code.store(zero, code.at(here, at.i, tile.element), tile.bytes)
    code.finish()
    return name


def decode(code: Code, conv: ConvSpec, k: Val) -> tuple[Val, list[Val]]:
    """Channel and taps of one value of k."""
    taps: list[Val] = []
    for size in reversed(conv.window):
        taps.insert(0, code.binary("arith.remui", k, code.i64(size)))
        k = code.binary("arith.divui", k, code.i64(size))
    return k, taps
