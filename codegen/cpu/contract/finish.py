"""Finishing a tile of C: add earlier partial sums, apply the epilogue, convert, mask, store.

Only partial tiles, and the last slice of k where there is an epilogue or a conversion, come this
way; all others are stored by the micro-kernel itself.
"""

from __future__ import annotations

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import memory_element, narrow
from graphmill.codegen.cpu.contract.microkernel import add
from graphmill.codegen.cpu.contract.spec import SLOTS, Epilogue, Place
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.ir.dtypes import DType

_ARGS = (
    ("tile", "!llvm.ptr"), ("c", "!llvm.ptr"), ("c_m", "i64"), ("rows", "i64"), ("cols", "i64"),
    ("earlier", "i64"), ("last", "i64"), ("row", "i64"), ("col", "i64"), ("batch", "i64"),
    ("data", "!llvm.ptr"),
)  # fmt: skip


def finish_tile(unit: Unit, name: str, tile: Tile, out: DType, epilogue: Epilogue | None) -> str:
    """Symbol of the function that finishes a buffered tile; shared when there is no epilogue."""
    symbol = f"{name}_finish" if epilogue else f"gm_finish_{tile.element}_{out}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, _ARGS, attrs='passthrough = ["noinline"]')
    cols = code.args[4]
    whole = code.compare("arith.cmpi", "sge", cols, code.i64(tile.columns))
    finisher = _Finisher(code, tile, out, epilogue)
    with code.when(whole):
        finisher.rows(masked=False)
    with code.otherwise():
        finisher.rows(masked=True)
    code.finish()
    return symbol


class _Finisher:
    def __init__(self, code: Code, tile: Tile, out: DType, epilogue: Epilogue | None) -> None:
        self.code, self.tile, self.out, self.epilogue = code, tile, out, epilogue
        self.buffer, self.c, self.c_m, self.height, self.cols = code.args[:5]
        earlier, last, self.row, self.col, self.batch, self.data = code.args[5:]
        zero = code.i64(0)
        self.earlier = code.compare("arith.cmpi", "ne", earlier, zero)
        self.last = code.compare("arith.cmpi", "ne", last, zero)
        self.extra = self._extra()
        self.bounce = code.alloca(memory_element(out), tile.lanes)

    def _extra(self) -> tuple[Val, ...]:
        if self.epilogue is None:
            return ()
        code = self.code
        return tuple(
            code.load(code.at(self.data, len(SLOTS) + i, "i64"), kind, 8)
            for i, kind in enumerate(self.epilogue.slots)
        )

    def rows(self, *, masked: bool) -> None:
        code, tile = self.code, self.tile
        with code.loop(0, self.height) as row:
            source = code.at(self.buffer, code.mul(row.i, tile.columns), tile.element)
            target = code.at(self.c, code.mul(row.i, self.c_m), memory_element(self.out))
            end = self.cols if masked else code.i64(tile.columns)
            with code.loop(0, end, tile.lanes) as at:
                mask = self._mask(at.i) if masked else None
                place = Place(
                    code.add(self.row, row.i), code.add(self.col, at.i), self.batch,
                    tile.lanes, mask, self.extra,
                )  # fmt: skip
                self._vector(source, target, at.i, place)

    def _mask(self, at: Val) -> Val:
        code, lanes = self.code, self.tile.lanes
        left = code.binary("arith.subi", self.cols, at)
        index = code.op(f"arith.index_cast {left} : i64 to index", "index")
        return code.op(f"vector.create_mask {index} : vector<{lanes}xi1>", vector("i1", lanes))

    def _vector(self, source: Val, target: Val, at: Val, place: Place) -> None:
        code, tile = self.code, self.tile
        value = code.load(code.at(source, at, tile.element), tile.vector, tile.bytes)
        address = code.at(target, at, memory_element(self.out))
        if memory_element(self.out) == tile.element:
            value = self._add_earlier(value, address, place)
        if self.epilogue is None:
            self._store(narrow(code, value, self.out), address, place, at)
            return
        with code.when(self.last):
            done = self.epilogue.apply(code, value, place)
            self._store(narrow(code, done, self.out), address, place, at)
        if memory_element(self.out) == tile.element:
            with code.otherwise():
                self._store(value, address, place, at)

    def _add_earlier(self, value: Val, address: Val, place: Place) -> Val:
        """`value` plus the partial sums C holds from earlier slices of k."""
        code, tile = self.code, self.tile
        kind = tile.vector
        result = code.fresh(kind)
        code.line(f"{result} = scf.if {self.earlier} -> ({kind}) {{")
        if place.mask is None:
            old = code.load(address, kind, tile.bytes)
        else:
            zero = code.const(0, kind)
            old = masked_load(code, address, place.mask, zero)
        total = add(code, tile, value, old)
        code.line(f"scf.yield {total} : {kind}")
        code.line("} else {")
        code.line(f"scf.yield {value} : {kind}")
        code.line("}")
        return result

    def _store(self, value: Val, address: Val, place: Place, at: Val) -> None:
        code, size = self.code, self.out.itemsize
        if place.mask is None:
            code.store(value, address, size)
        elif size >= 4:
            masked_store(code, value, address, place.mask)
        else:  # narrow types have no masked store: by way of memory, element by element
            code.store(value, self.bounce, size)
            left = code.binary("arith.subi", self.cols, at)
            end = code.binary("arith.minsi", left, code.i64(self.tile.lanes))
            element = memory_element(self.out)
            with code.loop(0, end) as lane:
                one = code.load(code.at(self.bounce, lane.i, element), element, size)
                code.store(one, code.at(address, lane.i, element), size)


def masked_load(code: Code, address: Val, mask: Val, other: Val) -> Val:
    """Load the lanes of `mask`, `other` elsewhere; element types of 4 or 8 bytes."""
    kind = other.type
    return code.op(
        f"llvm.intr.masked.load {address}, {mask}, {other} {{alignment = 4 : i32}} : "
        f"(!llvm.ptr, {mask.type}, {kind}) -> {kind}", kind,
    )  # fmt: skip


def masked_store(code: Code, value: Val, address: Val, mask: Val) -> None:
    """Store the lanes of `mask`; element types of 4 or 8 bytes."""
    code.line(
        f"llvm.intr.masked.store {value}, {address}, {mask} {{alignment = 4 : i32}} : "
        f"{value.type}, {mask.type} into !llvm.ptr"
    )
