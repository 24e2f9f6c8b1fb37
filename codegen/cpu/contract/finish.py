"""Finishing sums: add earlier partial sums, apply the epilogue, convert, mask, store.

Of a tiled product only partial tiles, and the last slice of k where there is an epilogue or a
conversion, come this way; all others are stored by the micro-kernel itself.
"""

from __future__ import annotations

from contextlib import nullcontext

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import is_plain, memory_element, resize, store_as
from graphmill.codegen.cpu.contract.microkernel import add
from graphmill.codegen.cpu.contract.spec import SLOTS, Epilogue, Place, Prologue
from graphmill.codegen.cpu.elem import Elem, register_type
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.literals import plain as without_places
from graphmill.ir.dtypes import DType

_ARGS = (
    ("tile", "!llvm.ptr"), ("c", "!llvm.ptr"), ("c_m", "i64"), ("rows", "i64"), ("cols", "i64"),
    ("earlier", "i64"), ("last", "i64"), ("row", "i64"), ("col", "i64"), ("batch", "i64"),
    ("data", "!llvm.ptr"),
)  # fmt: skip


def extra_slots(
    code: Code, data: Val, work: Epilogue | Prologue | None, first: int
) -> tuple[Val, ...]:
    """The values of an epilogue's or prologue's own slots, which start at slot `first`."""
    kinds = work.slots if work else ()
    return tuple(
        code.load(code.at(data, first + i, "i64"), kind, 8) for i, kind in enumerate(kinds)
    )


def apply(code: Code, epilogue: Epilogue | None, value: Elem, acc: DType, place: Place) -> Elem:
    """The epilogue's result for finished sums, which it gets as `acc`."""
    if epilogue is None:
        return value
    if isinstance(value, Val):
        value = resize(code, value, register_type(acc), signed=acc.kind == "i")
    return epilogue.apply(code, value, place)


def finish_tile(
    unit: Unit,
    name: str,
    tile: Tile,
    acc: DType,
    out: DType,
    epilogue: Epilogue | None,
    first_extra: int = len(SLOTS),
    *,
    ragged: bool = True,
    sliced: bool = True,
) -> str:
    """Symbol of the function that finishes a buffered tile; shared when there is no epilogue.

    With one, it may be known that no tile is `ragged`, of fewer columns than others, and that k is
    not `sliced`.
    """
    symbol = f"{name}_finish" if epilogue else f"gm.finish_{tile.element}_{out}_x{tile.columns}"
    if not unit.once(symbol):
        return unit.merged.get(symbol, symbol)
    code = Code(unit, symbol, _ARGS, traits=("noinline",))
    finisher = _Finisher(code, tile, acc, out, epilogue, first_extra)
    finisher.sliced = sliced or epilogue is None
    finisher.partial = finisher.sliced and is_plain(out, tile.element)
    if ragged or epilogue is None:
        cols = code.args[4]
        whole = code.compare("arith.cmpi", "sge", cols, code.i64(tile.columns))
        with code.when(whole):
            finisher.rows(masked=False)
        with code.otherwise():
            finisher.rows(masked=True)
    else:
        finisher.rows(masked=False)
    code.finish()
    unit.apart[unit.parts[-1]] = "straight"  # its loops over a few rows are not worth unrolling
    return _one_for_equals(unit, symbol)


def _one_for_equals(unit: Unit, symbol: str) -> str:
    """The symbol of the function written last, or of an equal one that stands for it."""
    text = unit.parts[-1].replace(symbol, "")
    known = unit.finishers.setdefault(without_places(text) if unit.places else text, symbol)
    unit.merged[symbol] = known
    if known != symbol:
        unit.parts.pop()
        del unit.declarations[symbol]
        if unit.places is not None:
            unit.places.merge(known, symbol)
    return known


class _Finisher:
    sliced: bool  # whether sums may be of a slice of k that is not the last
    partial: bool  # whether C may hold sums of earlier slices

    def __init__(
        self,
        code: Code,
        tile: Tile,
        acc: DType,
        out: DType,
        epilogue: Epilogue | None,
        first_extra: int,
    ) -> None:
        self.code, self.tile, self.acc, self.out, self.epilogue = code, tile, acc, out, epilogue
        self.buffer, self.c, self.c_m, self.height, self.cols = code.args[:5]
        earlier, last, self.row, self.col, self.batch, data = code.args[5:]
        zero = code.i64(0)
        self.earlier = code.compare("arith.cmpi", "ne", earlier, zero)
        self.last = code.compare("arith.cmpi", "ne", last, zero)
        self.extra = extra_slots(code, data, epilogue, first_extra)

    def rows(self, *, masked: bool) -> None:
        code, tile = self.code, self.tile
        with code.loop(0, self.height) as row:
            source = code.at(self.buffer, code.mul(row.i, tile.columns), tile.element)
            target = code.at(self.c, code.mul(row.i, self.c_m), memory_element(self.out))
            end = self.cols if masked else code.i64(tile.columns)
            with code.loop(0, end, tile.lanes) as at:
                left = code.binary("arith.subi", self.cols, at.i)
                mask = memory.tail_mask(code, left, tile.lanes) if masked else None
                place = Place(
                    code.add(self.row, row.i), code.add(self.col, at.i), self.batch,
                    tile.lanes, mask, self.extra,
                )  # fmt: skip
                self._vector(source, target, at.i, place)

    def _vector(self, source: Val, target: Val, at: Val, place: Place) -> None:
        code, tile = self.code, self.tile
        value = code.load(code.at(source, at, tile.element), tile.vector, tile.bytes)
        if self.partial:
            value = self._add_earlier(value, target, at, place)
        if self.epilogue is None:
            store_as(code, value, target, at, self.out, place.mask)
            return
        with code.when(self.last) if self.sliced else nullcontext():
            done = apply(code, self.epilogue, value, self.acc, place)
            store_as(code, done, target, at, self.out, place.mask)
        if self.partial:
            with code.otherwise():
                store_as(code, value, target, at, self.out, place.mask)

    def _add_earlier(self, value: Val, target: Val, at: Val, place: Place) -> Val:
        """`value` plus the partial sums C holds from earlier slices of k."""
        code = self.code
        with code.choose(self.earlier, [value]) as chosen:
            old = memory.load(code, target, at, self.out, self.tile.lanes, mask=place.mask)
            assert isinstance(old, Val)
            chosen.next = [add(code, self.tile, value, old)]
        return chosen.results[0]
