"""Convolution by tiles that read lines of x tap by tap (`tap_plan`): kernel and loops."""

from __future__ import annotations

from graphmill.codegen.cpu.contract.amx import LINE, PREFIX, ROWS, configure, instruction, release
from graphmill.codegen.cpu.contract.blocking import compute_element
from graphmill.codegen.cpu.contract.dots import AMX_UNITS, Dot
from graphmill.codegen.cpu.contract.elements import ceil_div, least, minus, store_as
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.phases import nothing
from graphmill.codegen.cpu.contract.slots import BODY
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmKernel, Phase, Place, Sizes
from graphmill.codegen.cpu.convolve.spec import ConvSlots, ConvSpec, slot_names
from graphmill.codegen.cpu.convolve.tap_lines import lines_filler
from graphmill.codegen.cpu.convolve.tap_patches import patches_filler
from graphmill.codegen.cpu.convolve.tap_plan import UNIT, TapPlan, filter_tiles
from graphmill.codegen.cpu.convolve.tap_vectors import vectors_kernel
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.records import record

_WORTH_A_THREAD = 1 << 20  # multiply-adds
_TILE = ROWS * LINE  # bytes
_SUMS, _A, _B = (0, 1, 2, 3), (4, 5), (6, 7)  # tile registers, as products use them
_KERNEL = (
    ("a", "!llvm.ptr"), ("a_tile", "i64"), ("b", "!llvm.ptr"), ("b_pitch", "i64"),
    ("offsets", "!llvm.ptr"), ("taps", "i64"), ("blocks", "i64"), ("c", "!llvm.ptr"),
    ("c_pitch", "i64"),
)  # fmt: skip


def taps_kernel(unit: Unit, dot: Dot, tall: int, wide: int) -> str:
    """Symbol of the kernel of `tall` × `wide` tiles of sums.

    `(a, a_tile, b, b_pitch, offsets, taps, blocks, c, c_pitch)`: filters, tile after tile for each
    tap and block of units, and the bytes to those of the next 16; the first place, bytes from unit
    to unit; what each tap adds to the place; where sums go. All distances are bytes.
    """
    if not dot.amx:
        return vectors_kernel(unit, dot, _KERNEL, tall, wide)
    symbol = f"{PREFIX}taps_{dot.amx}_{tall}x{wide}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, _KERNEL, traits=("noinline",))
    a, a_tile, b, b_pitch, offsets, taps, blocks, c, c_pitch = code.args
    sums = [(_SUMS[2 * i + j], i, j) for i in range(tall) for j in range(wide)]
    for register, _, _ in sums:
        instruction(code, "tilezero", register)
    line, step = code.i64(LINE), code.mul(b_pitch, AMX_UNITS)
    with code.loop(0, taps, 1, [a]) as tap:
        offset = code.load(code.at(offsets, tap.i, "i64"), "i64", 8)
        with code.loop(0, blocks, 1, [*tap.carried, code.at(b, offset, "i8")]) as block:
            at_a, at_b = block.carried
            for j in range(wide):
                instruction(code, "tileloadd64", _B[j], code.at(at_b, LINE * j, "i8"), b_pitch)
            for i in range(tall):
                here = code.at(at_a, a_tile, "i8") if i else at_a
                instruction(code, "tileloadd64", _A[i], here, line)
                for j in range(wide):
                    instruction(code, dot.amx, _SUMS[2 * i + j], _A[i], _B[j])
            block.next = [code.at(at_a, _TILE, "i8"), code.at(at_b, step, "i8")]
        tap.next = block.results[:1]
    for register, i, j in sums:
        row = code.at(c, code.mul(c_pitch, ROWS), "i8") if i else c
        instruction(code, "tilestored64", register, code.at(row, LINE * j, "i8"), c_pitch)
    code.finish()
    return symbol


@record
class LinePlace(Place):
    """Where finished sums of a line go: `line` is its number, `at` the first place in it."""

    line: Val
    at: Val


def emit_taps(
    unit: Unit, symbol: str, spec: ConvSpec, plan: TapPlan, epilogue: Epilogue | None
) -> GemmKernel:
    """Write the kernel; its w is in tiles (`packing_of_filters`), its place a `LinePlace`."""
    code = Code(unit, symbol, BODY, internal=False)
    _Loops(code, symbol, spec, plan, epilogue).body()
    code.finish()
    each = plan.chunks(spec) * plan.parts  # items of some images and a group
    work = (spec.pixels or 0) * (spec.filters // spec.groups) * spec.taps * plan.images
    least_items = max(1, _WORTH_A_THREAD * each // max(1, work))

    def items(into: Code, sizes: Sizes) -> Val:
        images = into.binary("arith.divui", sizes.batch, into.i64(spec.groups))
        return into.mul(ceil_div(into, images, plan.images), each * spec.groups)

    def grain(into: Code, sizes: Sizes) -> Val:
        return into.i64(least_items)

    def scratch(into: Code, sizes: Sizes) -> Val:
        return into.i64(plan.scratch)

    phase = Phase(symbol, items, grain)
    return GemmKernel((phase,), nothing, scratch, slot_names(spec.rank))


class _Loops:
    """The kernel being written: items are numbered image by image, group by group, line by line,
    and the parts of the filters for one chunk of lines come one after the other."""

    def __init__(
        self, code: Code, symbol: str, spec: ConvSpec, plan: TapPlan, epilogue: Epilogue | None
    ) -> None:
        self.code, self.spec, self.plan, self.epilogue = code, spec, plan, epilogue
        self.slots = slots = ConvSlots(code, spec)
        self.extra = extra_slots(code, slots.data, epilogue, slots.first_extra)
        filler = patches_filler if plan.patches else lines_filler
        self.filler = filler(code.unit, symbol, spec, plan)
        self.height, self.width = plan.results(spec)
        self.own = spec.filters // spec.groups
        self.tiles = filter_tiles(spec)
        self.sums = code.at(slots.memory, plan.images * plan.image_bytes, "i8")
        self.element = compute_element(spec.acc)

    def body(self) -> None:
        code, spec, plan, slots = self.code, self.spec, self.plan, self.slots
        if plan.dot.amx:
            configure(code, code.alloca("i64", LINE // 8), code.i64(2 * ROWS))
        offsets = plan.offsets()
        self.offsets = code.alloca("i64", len(offsets))
        for number, offset in enumerate(offsets):
            code.store(code.i64(offset), code.at(self.offsets, number, "i64"), 8)
        chunks = plan.chunks(spec)
        images = code.binary("arith.divui", slots.sizes.batch, code.i64(spec.groups))
        with code.loop(slots.begin, slots.end) as item:
            rest, part = self._divided(item.i, plan.parts)
            rest, chunk = self._divided(rest, chunks)
            set_, group = self._divided(rest, spec.groups)
            first = code.mul(set_, plan.images)
            past = least(code, code.add(first, plan.images), images)
            low, high = (self._even(code.add(chunk, n), self.height, chunks) for n in (0, 1))
            at_first = code.compare("arith.cmpi", "eq", item.i, slots.begin)
            fresh = code.compare("arith.cmpi", "eq", part, code.i64(0))
            with code.when(code.binary("arith.ori", at_first, fresh)):
                self._fill(group, (first, past), (low, high))
            pairs = -(-self.tiles // 2)
            start, stop = (self._even(code.add(part, n), pairs, plan.parts) for n in (0, 1))
            with code.loop(start, stop) as pair, code.loop(first, past) as image:
                local = minus(code, image.i, first)
                x = code.at(slots.memory, code.mul(local, plan.image_bytes), "i8")
                with code.loop(low, high, plan.strip) as line:
                    count = least(code, minus(code, high, line.i), code.i64(plan.strip))
                    moved = code.mul(minus(code, line.i, low), plan.pitch)
                    self._strip(group, pair.i, code.at(x, moved, "i32"), count)
                    self._finish(image.i, group, pair.i, line.i, count)
        if plan.dot.amx:
            release(code)

    def _divided(self, number: Val, by: int) -> tuple[Val, Val]:
        code = self.code
        return tuple(code.binary(f"arith.{op}", number, code.i64(by)) for op in ("divui", "remui"))  # type: ignore[return-value]

    def _even(self, number: Val, whole: int, parts: int) -> Val:
        """Where part `number` of a whole begins."""
        return self.code.binary("arith.divui", self.code.mul(number, whole), self.code.i64(parts))

    def _fill(self, group: Val, images: tuple[Val, Val], lines: tuple[Val, Val]) -> None:
        """Lay out the lines of x that an item reads."""
        code, spec, plan, slots = self.code, self.spec, self.plan, self.slots
        channel = code.mul(code.mul(group, spec.channels // spec.groups), slots["x_channel"])
        start, count = lines[0], minus(code, lines[1], lines[0])
        if not plan.patches:
            start, count = code.add(start, plan.high.first), code.add(count, plan.high.span)
        with code.loop(*images) as image:
            at = code.add(code.mul(image.i, slots["x_image"]), channel)
            out = code.mul(minus(code, image.i, images[0]), plan.image_bytes)
            code.call(self.filler, [
                code.at(slots["x"], at, memory_type(spec.x)), start, count,
                code.at(slots.memory, out, "i8"),
            ])  # fmt: skip

    def _strip(self, group: Val, pair: Val, x: Val, lines: Val) -> None:
        """The sums of two tiles of filters at all places of some lines."""
        code, plan = self.code, self.plan
        taps = len(plan.offsets())
        filters = taps * plan.blocks * _TILE
        tile = code.add(code.mul(group, self.tiles), code.mul(pair, 2))
        w = code.at(self.slots["w"], code.mul(tile, filters), "i8")
        places = code.add(code.mul(code.add(lines, -1), plan.pitch), self.width)
        lone = code.compare("arith.cmpi", "eq", pair, code.i64(self.tiles // 2))
        with code.loop(0, places, 2 * AMX_UNITS) as at:
            left = minus(code, places, at.i)
            few = code.compare("arith.cmpi", "sle", left, code.i64(AMX_UNITS))
            kernel = code.select(few, self._kernel(lone, 1), self._kernel(lone, 2))
            code.call_pointer(kernel, [
                w, code.i64(filters), code.at(x, at.i, "i32"), code.i64(plan.rows * UNIT),
                self.offsets, code.i64(taps), code.i64(plan.blocks),
                code.at(self.sums, at.i, "i32"), code.i64(plan.sums * UNIT),
            ])  # fmt: skip

    def _kernel(self, lone: Val, wide: int) -> Val:
        """The kernel for so many tiles of places, and for the last tile of filters if `lone`."""
        code, dot = self.code, self.plan.dot
        one, two = (
            code.address_of(taps_kernel(code.unit, dot, tall, wide)) if needed else None
            for tall, needed in ((1, self.tiles % 2), (2, self.tiles > 1))
        )
        if one is None or two is None:
            return one or two  # type: ignore[return-value]
        return code.select(lone, one, two)

    # ---- what follows the sums

    def _finish(self, image: Val, group: Val, pair: Val, first: Val, lines: Val) -> None:
        code, plan = self.code, self.plan
        filter_ = code.mul(pair, 2 * ROWS)
        rows = least(code, code.i64(2 * ROWS), minus(code, code.i64(self.own), filter_))
        filter_ = code.add(filter_, code.mul(group, self.own))
        whole = self.width // AMX_UNITS * AMX_UNITS
        rest = [lane < self.width - whole for lane in range(AMX_UNITS)]
        with code.loop(0, rows) as row, code.loop(0, lines) as line:
            place = code.add(code.mul(row.i, plan.sums), code.mul(line.i, plan.pitch))
            sums = code.at(self.sums, place, self.element)
            where = (image, code.add(filter_, row.i), code.add(first, line.i))
            if whole:
                with code.loop(0, whole, AMX_UNITS) as at:
                    self._vector(sums, where, at.i, None)
            if any(rest):
                mask = code.const_lanes(rest, vector("i1", AMX_UNITS))
                self._vector(sums, where, code.i64(whole), mask)

    def _vector(self, sums: Val, where: tuple[Val, Val, Val], at: Val, mask: Val | None) -> None:
        code, spec = self.code, self.spec
        image, filter_, line = where
        index = code.add(code.mul(image, spec.filters), filter_)
        index = code.add(code.mul(index, self.height), line)
        index = code.mul(index, self.width)
        y = code.at(self.slots["y"], index, memory_type(spec.out))
        value = code.load(code.at(sums, at, self.element), vector(self.element, AMX_UNITS), 4)
        col = code.add(code.mul(line, self.width), at)
        place = LinePlace(filter_, col, image, AMX_UNITS, mask, self.extra, line, at)
        done = apply(code, self.epilogue, value, spec.acc, place)
        store_as(code, done, y, at, spec.out, mask)
