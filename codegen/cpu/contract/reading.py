"""Reading operands for packing: units of k from memory, converted on the way."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import load_wide, memory_element, resize
from graphmill.codegen.cpu.contract.spec import Prologue, Spot
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.ir.dtypes import DType, i16
from graphmill.records import record

_PART_BITS = {"i8": 8, "i16": 16, "bf16": 16}


@record
class Reader:
    """How elements of `dtype` become the units of `tile`; `shifted` adds 128 to every byte.

    With a prologue, whose slots hold `extra`, elements are at a `Spot` and units are elements.
    """

    tile: Tile
    dtype: DType
    shifted: bool = False
    prologue: Prologue | None = None
    extra: tuple[Val, ...] = ()

    def computed(self, code: Code, base: Val, at: Val | int, spot: Spot) -> Val:
        """The elements at a spot of B, stored from element `at` of `base` on."""
        element = self.tile.element
        if self.prologue is None:
            return load_wide(code, base, at, self.dtype, element, spot.lanes, spot.mask)
        value = memory.load(code, base, at, self.dtype, spot.lanes, mask=spot.mask)
        return self.prologue.apply(code, value, spot, self.extra)

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
        if spot is not None:
            return self.computed(code, base, at, spot)
        if self.tile.dot.group == 1:
            return load_wide(code, base, at, self.dtype, self.tile.element, lanes, mask)
        parts = []
        for j in range(self.tile.dot.group):
            row = code.at(base, code.mul(k_step, j), memory_element(self.dtype)) if j else base
            parts.append(self._load(code, row, at, lanes, mask))
        return self._join(code, parts)

    def along(self, code: Code, base: Val, unit: Val, lanes: int, spot: Spot | None) -> Val:
        """`lanes` units one after the other, where k is contiguous."""
        if spot is not None:
            return self.computed(code, base, unit, spot)
        group = self.tile.dot.group
        if group == 1:
            return load_wide(code, base, unit, self.dtype, self.tile.element, lanes)
        values = self._load(code, base, code.mul(unit, group), lanes * group)
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
        if spot is not None:
            return self.computed(code, base, at, spot)
        if self.tile.dot.group == 1:
            return load_wide(code, base, at, self.dtype, self.tile.element)
        parts = []
        for j in range(self.tile.dot.group):
            k = code.i64(j)
            if count is not None:
                k = code.binary("arith.minsi", k, code.add(count, -1))
            part = self._load(code, base, code.add(at, code.mul(k_step, k)), 0)
            if count is not None:
                here = code.compare("arith.cmpi", "slt", code.i64(j), count)
                part = code.select(here, part, code.const(0, part.type))
            parts.append(part)
        return self._join(code, parts)

    def _load(
        self, code: Code, base: Val, at: Val | int, lanes: int, mask: Val | None = None
    ) -> Val:
        """Elements as they lie in memory, those of bf16 as integers."""
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
