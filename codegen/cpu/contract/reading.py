"""Reading operands for packing: units of k from memory, converted or computed on the way."""

from __future__ import annotations

from dataclasses import replace

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import load_wide, memory_element, resize
from graphmill.codegen.cpu.contract.spec import Prologue, Spot
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.ir.dtypes import DType, bf16, i16
from graphmill.records import record

_PART_BITS = {"i8": 8, "i16": 16, "bf16": 16}


@record
class Corner:
    """Where in an operand what is packed begins: its first k, row or column, and its matrix."""

    k: Val
    free: Val
    batch: Val


@record
class Reader:
    """How elements of `dtype` become the units of `tile`; `shifted` adds 128 to every byte.

    With a prologue, whose slots hold `extra`, elements are at a `Spot`.
    """

    tile: Tile
    dtype: DType
    shifted: bool = False
    prologue: Prologue | None = None
    extra: tuple[Val, ...] = ()

    def spot(
        self, code: Code, corner: Corner, unit: Val, at: Val | int, lanes: int = 0, *,
        along_k: bool = False, mask: Val | None = None,
    ) -> Spot | None:  # fmt: skip
        """Where the elements of a unit, `at` rows or columns from the corner, are in the operand;
        None where nothing needs to know."""
        if self.prologue is None:
            return None
        k = code.add(corner.k, code.mul(unit, self.tile.dot.group))
        return Spot(k, code.add(corner.free, at), corner.batch, lanes, along_k, mask)

    def computed(self, code: Code, base: Val, at: Val | int, spot: Spot) -> Val:
        """The elements at a spot of the operand, stored from element `at` of `base` on."""
        element, before = self.tile.element, self.prologue
        if before is None:
            return load_wide(code, base, at, self.dtype, element, spot.lanes, spot.mask)
        loaded: Elem | None = None
        if before.loads:
            loaded = memory.load(code, base, at, self.dtype, spot.lanes, mask=spot.mask)
        return before.apply(code, loaded, spot, self.extra)

    @property
    def name(self) -> str:
        """Part of the symbol of packing functions."""
        tile = self.tile
        return f"{self.dtype}_{tile.element}{tile.dot.name}"

    def across(
        self, code: Code, base: Val, k_step: Val, at: Val | int, lanes: int,
        spot: Spot | None = None, mask: Val | None = None,
    ) -> Val:  # fmt: skip
        """The units of `lanes` neighbouring rows or columns; `base` is the unit's first k."""
        if self.tile.dot.group == 1:
            if spot is not None:
                return self.computed(code, base, at, spot)
            return load_wide(code, base, at, self.dtype, self.tile.element, lanes, mask)
        parts = []
        for j in range(self.tile.dot.group):
            row = code.at(base, code.mul(k_step, j), memory_element(self.dtype)) if j else base
            parts.append(self.part(code, row, at, lanes, mask, _further(code, spot, j)))
        return self._join(code, parts)

    def along(self, code: Code, base: Val, unit: Val, lanes: int, spot: Spot | None) -> Val:
        """`lanes` units one after the other, where k is contiguous."""
        group = self.tile.dot.group
        if group == 1:
            if spot is not None:
                return self.computed(code, base, unit, spot)
            return load_wide(code, base, unit, self.dtype, self.tile.element, lanes)
        values = self.part(code, base, code.mul(unit, group), lanes * group, None, spot)
        part = f"i{_PART_BITS[self.tile.dot.part]}"
        values = resize(code, values, part, signed=self.dtype.kind == "i")
        kind = vector("i32", lanes)
        return self._shift(
            code, code.op(f"vector.bitcast {values} : {values.type} to {kind}", kind)
        )

    def one(
        self, code: Code, base: Val, k_step: Val, at: Val, count: Val | None, spot: Spot | None
    ) -> Val:
        """One unit, from strides; values of k from `count` on are zero."""
        if self.tile.dot.group == 1:
            if spot is not None:
                return self.computed(code, base, at, spot)
            return load_wide(code, base, at, self.dtype, self.tile.element)
        parts = []
        for j in range(self.tile.dot.group):
            k = code.i64(j)
            if count is not None:
                k = code.binary("arith.minsi", k, code.add(count, -1))
            place = code.add(at, code.mul(k_step, k))
            part = self.part(code, base, place, 0, None, _further(code, spot, k))
            if count is not None:
                here = code.compare("arith.cmpi", "slt", code.i64(j), count)
                part = code.select(here, part, code.const(0, part.type))
            parts.append(part)
        return self._join(code, parts)

    def part(
        self, code: Code, base: Val, at: Val | int, lanes: int, mask: Val | None = None,
        spot: Spot | None = None,
    ) -> Val:  # fmt: skip
        """Elements as units hold them or as they lie in memory, those of bf16 as integers."""
        if spot is not None:
            made = self.computed(code, base, at, replace(spot, lanes=lanes))
            if self.tile.dot.part == "bf16":
                return memory.to_memory(code, made, bf16)
            return resize(code, made, self.tile.dot.part)
        bits = i16 if self.dtype.bits == 16 else self.dtype
        value = memory.load(code, base, at, bits, lanes, mask=mask)
        assert isinstance(value, Val), "units hold real values"
        return value

    def _join(self, code: Code, parts: list[Val]) -> Val:
        """The values of a unit, each shifted to its place in 32 bits."""
        bits = _PART_BITS[self.tile.dot.part]
        unit: Val | None = None
        for j, part in enumerate(parts):
            wide = resize(code, part, f"i{bits}", signed=self.dtype.kind == "i")
            wide = code.convert("arith.extui", wide, "i32")
            if j:
                wide = code.binary("arith.shli", wide, code.const(bits * j, wide.type))
            unit = wide if unit is None else code.binary("arith.ori", unit, wide)
        assert unit is not None
        return self._shift(code, unit)

    def _shift(self, code: Code, unit: Val) -> Val:
        if not self.shifted:
            return unit
        return code.binary("arith.xori", unit, code.const(-0x7F7F7F80, unit.type))


def _further(code: Code, spot: Spot | None, k: Val | int) -> Spot | None:
    """The spot so many values of k further."""
    return None if spot is None else replace(spot, k=code.add(spot.k, k))
