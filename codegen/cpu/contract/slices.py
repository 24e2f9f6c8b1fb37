"""Deep products of few tiles: slices of k are work items, their sums are added up afterwards.

How k is cut follows from the sizes alone and slices are added in order, so that a result does not
depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import replace

from graphmill.codegen.cpu.contract.amx_tiled import loops_of
from graphmill.codegen.cpu.contract.elements import ceil_div, least, memory_element, store_as
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.grid import cells, grid_of
from graphmill.codegen.cpu.contract.microkernel import add
from graphmill.codegen.cpu.contract.packing import units
from graphmill.codegen.cpu.contract.phases import kernel_of, piece, worth_a_thread
from graphmill.codegen.cpu.contract.plan import Plan, count_of_tiles
from graphmill.codegen.cpu.contract.slots import BODY, Slots
from graphmill.codegen.cpu.contract.spec import (
    SLOTS,
    Epilogue,
    GemmKernel,
    GemmSpec,
    Phase,
    Place,
    Prologues,
    Sizes,
)
from graphmill.codegen.cpu.contract.tiled import scratch_layout
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.launch import WORK
from graphmill.codegen.cpu.memory import tail_mask

ENOUGH = 64  # work items, for any number of threads
SHORTEST = 512  # values of k in a slice: beside their products the additions are nothing
ALIGNED = 64  # slices start at multiples of so many units of k: of any vector's lanes
FEWEST = 4  # slices that are worth a second phase


def slices_of(spec: GemmSpec, plan: Plan) -> int:
    """Into how many slices of k the product is cut; 1 where its tiles are work enough."""
    sizes = (spec.m, spec.n, spec.k, spec.batch)
    if None in sizes or (spec.b_packed and plan.tile.head):
        return 1
    m, n, k, batch = (size or 0 for size in sizes)
    items = batch * max(count_of_tiles(m, plan.tile), -(-n // plan.tile.columns))
    worth = m * n * k * batch // worth_a_thread(plan.tile)
    count = min(k // SHORTEST, worth, -(-ENOUGH // max(items, 1)))
    if count < FEWEST:
        return 1
    depth = plan.tile.dot.units(k)
    length = -(-depth >> (count.bit_length() - 1))
    return -(-depth // (-(-length // ALIGNED) * ALIGNED))  # no slice is empty


class SlicedSlots(Slots):
    """Slots whose matrices are slices of k, with their sums behind each other in shared memory."""

    def __init__(self, code: Code, spec: GemmSpec, plan: Plan, count: int) -> None:
        super().__init__(code, spec)
        self.count = count
        pitch = code.i64(_pitch(spec, plan))
        self._values |= {
            "c": self["shared"], "c_m": pitch, "c_batch": code.mul(pitch, self.sizes.m),
        }  # fmt: skip
        assert spec.batch is not None, "only known sizes are cut"
        self.spec = replace(spec, batch=spec.batch * count)
        length = ceil_div(code, units(code, plan.tile, self.sizes.k), count)
        self.length = code.mul(ceil_div(code, length, ALIGNED), ALIGNED)

    def part(self, batch: Val, depth: Val) -> tuple[Val, Val, Val]:
        code, count = self.code, self.code.i64(self.count)
        first = code.mul(code.binary("arith.remui", batch, count), self.length)
        end = least(code, code.add(first, self.length), depth)
        return code.binary("arith.divui", batch, count), least(code, first, end), end


def _pitch(spec: GemmSpec, plan: Plan) -> int:
    """The distance of rows of a slice's sums: whole vectors."""
    assert spec.n is not None, "only known sizes are cut"
    return -(-spec.n // plan.tile.lanes) * plan.tile.lanes


def emit_sliced(
    unit: Unit, symbol: str, spec: GemmSpec, plan: Plan, count: int, epilogue: Epilogue | None,
    prologues: Prologues,
) -> GemmKernel:  # fmt: skip
    """Write the kernels of `spec`: one sums `count` slices of k, one adds them up."""
    name, tile = f"{symbol}_slices", plan.tile
    part = replace(spec, out=spec.acc)
    kept = plan.b_mode == "packed" or (plan.b_mode == "direct" and not (spec.n or 0) % tile.columns)
    plan = replace(plan, b_mode=plan.b_mode if kept else "group", direct_c=True)
    code = Code(unit, name, BODY, internal=False)
    slots = SlicedSlots(code, part, plan, count)
    loops_of(plan)(slots, name, part, plan, None, prologues).body()
    code.finish()
    _emit_total(unit, symbol, spec, plan, count, epilogue)

    def grid(code: Code, sizes: Sizes) -> Val:
        return grid_of(code, spec, plan, sizes, code.mul(sizes.batch, count))

    def blocks(code: Code, sizes: Sizes) -> Val:
        return code.mul(cells(code, grid(code, sizes)), count)

    def rows(code: Code, sizes: Sizes) -> Val:
        return code.mul(sizes.m, sizes.batch)

    def shared(code: Code, sizes: Sizes) -> Val:
        return code.mul(rows(code, sizes), count * _pitch(spec, plan) * tile.bytes)

    def scratch(code: Code, sizes: Sizes) -> Val:
        return scratch_layout(code, part, plan, sizes).bytes

    row_work = max(1, WORK // max(1, count * (spec.n or 0)))
    total = Phase(symbol, rows, lambda code, sizes: code.i64(row_work))
    sliced = kernel_of((), name, blocks, shared, scratch, piece(tile))
    return replace(sliced, phases=(*sliced.phases, total), grid=grid)


def _emit_total(
    unit: Unit, symbol: str, spec: GemmSpec, plan: Plan, count: int, epilogue: Epilogue | None
) -> None:
    """Write the kernel that adds up the slices of the rows `begin`..`end` of all matrices."""
    code, tile = Code(unit, symbol, BODY, internal=False), plan.tile
    slot = Slots(code, spec)
    extra = extra_slots(code, slot.data, epilogue, len(SLOTS))
    pitch, m, n = _pitch(spec, plan), slot.sizes.m, slot.sizes.n
    step = code.mul(m, pitch)
    with code.loop(slot.begin, slot.end) as item:
        batch, row = (code.binary(f"arith.{op}ui", item.i, m) for op in ("div", "rem"))
        first = code.add(code.mul(code.mul(batch, step), count), code.mul(row, pitch))
        sums = code.at(slot["shared"], first, tile.element)
        c = code.add(code.mul(batch, slot["c_batch"]), code.mul(row, slot["c_m"]))
        target = code.at(slot["c"], c, memory_element(spec.out))

        def vector_at(col: Val, mask: Val | None, sums: Val = sums, target: Val = target,
                      row: Val = row, batch: Val = batch) -> None:  # fmt: skip
            here = code.at(sums, col, tile.element)
            total = code.load(here, tile.vector, tile.bytes)
            with code.loop(1, count, 1, [total]) as more:
                other = code.at(here, code.mul(step, more.i), tile.element)
                value = code.load(other, tile.vector, tile.bytes)
                more.next = [add(code, tile, more.carried[0], value)]
            place = Place(row, col, batch, tile.lanes, mask, extra)
            done = apply(code, epilogue, more.results[0], spec.acc, place)
            store_as(code, done, target, col, spec.out, mask)

        whole = code.op(f"arith.andi {n}, {code.i64(-tile.lanes)} : i64", "i64")
        with code.loop(0, whole, tile.lanes) as at:
            vector_at(at.i, None)
        with code.when(code.compare("arith.cmpi", "slt", whole, n)):
            left = code.binary("arith.subi", n, whole)
            vector_at(whole, tail_mask(code, left, tile.lanes))
    code.finish()
