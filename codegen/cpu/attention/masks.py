"""Masks and biases that are stored query by query, turned so that queries are in the lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphmill.codegen.cpu.attention.problem import At, Problem
from graphmill.codegen.cpu.attention.visible import Shown
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.packing import pack_b
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.index import Index, Indices
from graphmill.codegen.cpu.kernel import Source, contiguous
from graphmill.ir.dtypes import DType, dtype
from graphmill.ir.graph import Value
from graphmill.records import record


@record
class Mask:
    """An argument of the kernel that has a value for each query and key, keys contiguous."""

    shown: Shown
    source: Source

    @property
    def stored(self) -> DType:
        """What packing reads it as."""
        return dtype("u8") if self.source.dtype.kind == "b" else self.source.dtype


def masks(problem: Problem) -> list[Mask]:
    """The arguments that are worth turning."""
    found, result = problem.found, []
    for value, source in problem.elements.sources.items():
        shown = _shown(value, problem)
        if shown is None or found.rows is None:
            continue
        row, key = shown.axes[found.rows], shown.axes[found.keys]
        plain = source.strides == contiguous(source.shape)
        same = source.dtype.is_float and (source.dtype.bits == 64) == (problem.tile.bits == 64)
        turnable = plain and (same or source.dtype.kind == "b")
        if row is not None and key == len(source.shape) - 1 and turnable:
            result.append(Mask(shown, source))
    return result


def _shown(value: Value, problem: Problem) -> Shown | None:
    """How an argument is repeated to the scores' shape, if all its users see it in one way."""
    full = tuple(problem.found.scores.shape)
    every = tuple(range(len(full)))
    ways: list[Shown] = []
    for user in value.users:
        if user.definition.family == "elementwise" and tuple(value.shape) == full:
            ways.append(Shown(value, every))
        elif user.name == "broadcast" and tuple(user.result.shape) == full:
            ways.append(Shown(user.result, every).source())
        else:
            return None
    return ways[0] if ways and all(way == ways[0] for way in ways) else None


class Turned:
    """The turned masks of one block: `[key][query]`, as `[count] * len(masks)` arrays."""

    def __init__(self, problem: Problem, found: Sequence[Mask], arrays: Sequence[Val]) -> None:
        self.problem, self.masks, self.arrays = problem, found, arrays
        self.row: Val | None = None
        self.vector = 0
        for mask, array in zip(found, arrays, strict=True):
            self._override(mask, array)

    def load(self, at: At, first: Val, left: Val, key: Val, count: Val) -> None:
        """Turn the masks for the queries from `first` on and `count` keys from `key` on."""
        code, found = self.problem.code, self.problem.found
        positions = {**at, found.keys: key}
        if found.rows is not None:
            positions[found.rows] = first
        for mask, array in zip(self.masks, self.arrays, strict=True):
            index = [Index(code.i64(0))] * len(mask.source.shape)
            for axis, own in enumerate(mask.shown.axes):
                if own is not None:
                    index[own] = Index(positions[axis])
            start = self.problem.elements.address(mask.source, tuple(index))
            assert found.rows is not None
            row = mask.shown.axes[found.rows]
            assert row is not None
            pitch = mask.source.strides[row]
            by = pitch if isinstance(pitch, Val) else self.problem.kernel.dim(pitch)
            pack = pack_b(code.unit, self._tile(mask), mask.stored, "col")
            zero, one = code.i64(0), code.i64(1)
            code.call(pack, [start, one, by, count, left, zero, one, array])

    def _tile(self, mask: Mask) -> Tile:
        tile = self.problem.tile
        return replace(tile, element="i32", bits=32) if mask.source.dtype.kind == "b" else tile

    def _override(self, mask: Mask, array: Val) -> None:
        """Let the mask's value be what lies in `array` at the present key and vector."""

        def value(index: Indices, guard: Val | None) -> Elem:
            code, tile = self.problem.code, self._tile(mask)
            assert self.row is not None
            at = code.add(code.mul(self.row, tile.columns), self.vector * tile.lanes)
            found = code.load(code.at(array, at, tile.element), tile.vector, tile.bytes)
            if mask.source.dtype.kind != "b":
                return found
            return code.compare("arith.cmpi", "ne", found, code.const(0, found.type))

        self.problem.elements.overrides[mask.shown.value] = value
