"""The loops around AMX's micro-kernels: full tiles of 32 rows, then one with the rest."""

from __future__ import annotations

from graphmill.codegen.cpu.contract.amx import (
    LINE,
    ROWS,
    amx_kernel,
    configure,
    pack_tiles,
    release,
)
from graphmill.codegen.cpu.contract.elements import least, memory_element, minus
from graphmill.codegen.cpu.contract.plan import Plan
from graphmill.codegen.cpu.contract.slots import BODY, Slots
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmSpec, Prologue
from graphmill.codegen.cpu.contract.tiled import BlockA, Slice, Tiled
from graphmill.codegen.cpu.emit import Code, Unit, Val


def emit_tiled(
    unit: Unit, symbol: str, spec: GemmSpec, plan: Plan, epilogue: Epilogue | None,
    prologue: Prologue | None = None,
) -> None:  # fmt: skip
    """Write the kernel that computes the items `begin`..`end` of the product."""
    code = Code(unit, symbol, BODY, internal=False)
    loops_of(plan)(Slots(code, spec), symbol, spec, plan, epilogue, prologue).body()
    code.finish()


def loops_of(plan: Plan) -> type[Tiled]:
    """The loops for the plan's register tile."""
    return AmxTiled if plan.tile.dot.amx else Tiled


class AmxTiled(Tiled):
    """Tiles are configured for the height of the first ones, and for the last one as it comes."""

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

    def _tile(
        self, part: Slice, kernel: Val, head: list[Val], c: Val,
        where: tuple[Val, Val, Val, Val], ahead: Val,
    ) -> None:  # fmt: skip
        m, rows = self.spec.m, self.tile.rows
        even = m is not None and (m <= rows or m % rows == 0)
        if even:
            super()._tile(part, kernel, head, c, where, ahead)
            return
        code = self.code
        other = code.compare("arith.cmpi", "ne", where[2], self.base)
        with code.when(other):
            configure(code, self.config, where[2])
        super()._tile(part, kernel, head, c, where, ahead)
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

        pack = pack_tiles(code.unit, tile, spec.a, spec.a_order)
        assert part.elements is not None, "units have several values"
        with code.loop(*part.tiles) as at:
            row = self.start(at.i)
            source = code.at(a, code.mul(row, slot["a_m"]), element)
            args = [source, slot["a_m"], slot["a_k"], self._height_of(at.i), part.elements]
            code.call(pack, [*args, packed(at.i, row)])
        return packed, code.i64(LINE), code.i64(LINE * tile.rows)
