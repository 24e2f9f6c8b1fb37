"""The loops around AMX's micro-kernels: full tiles of 32 rows, then one with the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

from graphmill.codegen.cpu.contract.amx import (
    LINE,
    ROWS,
    amx_kernel,
    configure,
    pack_tiles,
    release,
)
from graphmill.codegen.cpu.contract.dots import AMX_UNITS
from graphmill.codegen.cpu.contract.elements import least, memory_element, minus, most
from graphmill.codegen.cpu.contract.finish import finish_tile
from graphmill.codegen.cpu.contract.microkernel import FETCHED
from graphmill.codegen.cpu.contract.parts import Ahead, PanelB, Slice
from graphmill.codegen.cpu.contract.plan import Plan
from graphmill.codegen.cpu.contract.slots import BODY, Slots
from graphmill.codegen.cpu.contract.spec import AS_THEY_LIE, Epilogue, GemmSpec, Prologues
from graphmill.codegen.cpu.contract.tiled import BlockA, Tiled, may_overlap
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.records import record


def emit_tiled(
    unit: Unit, symbol: str, spec: GemmSpec, plan: Plan, epilogue: Epilogue | None,
    prologues: Prologues = AS_THEY_LIE,
) -> None:  # fmt: skip
    """Write the kernel that computes the items `begin`..`end` of the product.

    Its loops are those of all products of such a plan, which tell the numbers of columns and of
    sums by the slots; what finishes a tile is the product's own.
    """
    code = Code(unit, symbol, BODY, internal=False)
    if prologues:
        loops_of(plan)(Slots(code, spec), symbol, spec, plan, epilogue, prologues).body()
    else:
        tile, k = plan.tile, spec.k
        finish = finish_tile(
            unit, symbol, tile, spec.acc, spec.out, epilogue,
            ragged=spec.n is None or spec.n % tile.columns > 0,
            sliced=plan.split_k and (k is None or tile.dot.units(k) > plan.blocks.k),
        )  # fmt: skip
        loops = _shared_loops(unit, spec, plan, epilogue)
        code.call(loops, [*code.args, code.address_of(finish)])
    code.finish()


def _shared_loops(unit: Unit, spec: GemmSpec, plan: Plan, epilogue: Epilogue | None) -> str:
    """Symbol of `(data, begin, end, worker, finish)`, the loops of a plan."""
    narrow = plan.narrow and spec.n is not None and spec.n < plan.tile.columns
    overlaps = epilogue is None and may_overlap(spec, plan)
    if not (narrow or spec.symmetric or overlaps):
        spec = replace(spec, n=None, k=None)
    content = sha256(repr((spec, plan, epilogue is None)).encode()).hexdigest()
    symbol = f"gm.product_{spec.a}_{spec.b}_{content[:12]}"
    if unit.once(symbol):
        code = Code(unit, symbol, (*BODY, ("finish", "!llvm.ptr")), traits=("noinline",))
        slots = Slots(code, spec)
        loops_of(plan)(slots, symbol, spec, plan, epilogue, finisher=code.args[-1]).body()
        code.finish()
    return symbol


def loops_of(plan: Plan) -> type[Tiled]:
    """The loops for the plan's register tile."""
    return AmxTiled if plan.tile.dot.amx else Tiled


@record
class Chunk:
    """Whether a chunk of a slice of k is its first and its last."""

    first: Val
    last: Val


class AmxTiled(Tiled):
    """Tiles are configured for the height of the first ones, and for the last one as it comes."""

    fetched = FETCHED // AMX_UNITS

    def body(self) -> None:
        self.config = self.code.alloca("i64", LINE // 8)
        configure(self.code, self.config, self.base)
        super().body()
        release(self.code)

    def _heights(self) -> None:
        code = self.code
        self.base = least(code, self.sizes.m, code.i64(self.tile.rows))
        kernels = [
            code.address_of(amx_kernel(code.unit, self.tile, blocks)) for blocks in self._blocks()
        ]
        self.kernels = []
        for height in (self.base, self._height_of(code.add(self.tiles, -1))):
            few = code.compare("arith.cmpi", "sle", height, code.i64(ROWS))
            self.kernels.append(code.select(few, kernels[0], kernels[-1]))

    def _blocks(self) -> list[int]:
        """Tiles above each other that heights need."""
        m, rows = self.spec.m, self.tile.rows
        if m is None:
            return [1, 2]
        return sorted({1 if height <= ROWS else 2 for height in (min(m, rows), m % rows or rows)})

    def start(self, tile: Val) -> Val:
        return least(self.code, self.code.mul(tile, self.tile.rows), self.sizes.m)

    def _height_of(self, tile: Val) -> Val:
        left = minus(self.code, self.sizes.m, self.code.mul(tile, self.tile.rows))
        return least(self.code, left, self.code.i64(self.tile.rows))

    def _panel(
        self, part: Slice, tiles: tuple[Val, Val], block_a: BlockA, c: Val, panel_b: PanelB,
        panel: Val,
    ) -> None:  # fmt: skip
        """A chunk of k for all tiles before the next: its part of the panel stays in L1."""
        if not self.plan.chunk:
            super()._panel(part, tiles, block_a, c, panel_b, panel)
            return
        code, element = self.code, self.tile.element
        a_at, a_m, a_k = block_a
        b, b_k = panel_b.at(code, self.tile, panel, part.k)
        col, valid = self._columns(panel)
        with code.loop(0, most(code, part.length, 1), self.plan.chunk) as turn:
            left = minus(code, part.length, turn.i)
            length = least(code, left, code.i64(self.plan.chunk))
            chunk = Chunk(
                code.compare("arith.cmpi", "eq", turn.i, code.i64(0)),
                code.compare("arith.cmpi", "eq", left, length),
            )
            here = code.at(b, code.mul(turn.i, b_k), element)
            following = code.at(here, code.mul(length, b_k), element)
            along_a = code.mul(code.binary("arith.divui", turn.i, code.i64(AMX_UNITS)), a_k)
            with code.loop(*tiles) as at:
                row, height, kernel = self._rows(at.i, valid)
                head = [code.at(a_at(at.i, row), along_a, "i8"), a_m, a_k, here, b_k, length]
                ahead = self._share(at.i, part, length, following, here)
                self._chunk(part, chunk, kernel, head, c, (row, col, height, valid), at.i, ahead)

    def _chunk(
        self, part: Slice, chunk: Chunk, kernel: Val, head: list[Val], c: Val,
        where: tuple[Val, Val, Val, Val], at: Val, ahead: Ahead,
    ) -> None:  # fmt: skip
        """One tile: sums of earlier chunks are added, and the last one's go to C."""
        code, tile = self.code, self.tile
        local = code.mul(minus(code, at, part.tiles[0]), tile.rows * tile.columns)
        sums = code.at(self.sums, local, tile.element)
        target, earlier = self._target(c, where), self._earlier(part)
        direct = self._is_direct(part, where[3])
        no = code.const(False, "i1")
        known = code.select(chunk.first, code.select(direct, earlier, no), code.const(True, "i1"))
        flag = code.op(f"arith.extui {known} : i1 to i64", "i64")
        pitch, width = self.slot["c_m"], code.i64(tile.columns)
        near = [code.select(chunk.first, *pair) for pair in ((target, sums), (pitch, width))]
        ends = code.select(chunk.last, direct, no)
        into = [code.select(ends, *pair) for pair in ((target, sums), (pitch, width))]
        with self._high(where[2]):
            code.call_pointer(kernel, [*head, *into, flag, *ahead, *near])
        with code.when(code.select(direct, no, chunk.last)):
            self._finish(part, sums, target, where)

    def _tile(
        self, part: Slice, kernel: Val, head: list[Val], c: Val,
        where: tuple[Val, Val, Val, Val], ahead: Ahead,
    ) -> None:  # fmt: skip
        with self._high(where[2]):
            super()._tile(part, kernel, head, c, where, ahead)

    @contextmanager
    def _high(self, height: Val) -> Iterator[None]:
        """Code for a tile of `height` rows, which the last one may have fewer of than others."""
        code, m, rows = self.code, self.spec.m, self.tile.rows
        if m is not None and (m <= rows or m % rows == 0):
            yield
            return
        other = code.compare("arith.cmpi", "ne", height, self.base)
        with code.when(other):
            configure(code, self.config, height)
        yield
        with code.when(other):
            configure(code, self.config, self.base)

    def _block_a(self, part: Slice, a: Val) -> BlockA:
        code, slot, tile, spec = self.code, self.slot, self.tile, self.spec
        element, size = memory_element(spec.a), spec.a.itemsize
        a = code.at(a, code.mul(code.mul(part.k, tile.dot.group), slot["a_k"]), element)
        if not self.plan.pack_a:

            def direct(_: Val, row: Val) -> Val:
                return code.at(a, code.mul(row, slot["a_m"]), element)

            return direct, code.mul(slot["a_m"], size), code.i64(LINE)
        room = code.mul(part.length, tile.rows)

        def packed(at: Val, _: Val) -> Val:
            local = code.binary("arith.subi", at, part.tiles[0])
            return code.at(self.memory, code.mul(local, room), tile.element)

        before = self.prologues.a
        pack = pack_tiles(code.unit, tile, spec.a, spec.a_order, before, self.symbol)
        assert part.elements is not None, "units have several values"
        with code.loop(*part.tiles) as at:
            row = self.start(at.i)
            source = code.at(a, code.mul(row, slot["a_m"]), element)
            args = [source, slot["a_m"], slot["a_k"], self._height_of(at.i), part.elements]
            args.append(packed(at.i, row))
            code.call(pack, [*args, *(self._corner(part, row) if before else ())])
        return packed, code.i64(LINE), code.i64(LINE * tile.rows)
