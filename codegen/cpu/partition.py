"""Dividing integers in memory by a pivot, a vector at a time."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.small_sort import bits_of, first_lanes, masked_store
from graphmill.codegen.cpu.target import Target


def together(target: Target) -> int:
    """How many vectors are read a turn: a choice of the next ones' side waits for all of them."""
    return 16 if target.vector_bits == 512 else 4


def least_count(target: Target, element: str) -> int:
    """How many integers `partition` takes at least."""
    return 2 * together(target) * target.lanes(int(element[1:]))


def partition(unit: Unit, target: Target, element: str) -> str:
    """The symbol of `i64 (home, count, pivot)`, which returns how many are less than the pivot.

    Those come first then, the rest behind them, in any order; there are at least
    `least_count`. What is read next lies where there is less room, so that there is always
    enough at both ends (Blacher et al. 2022); the outermost vectors wait aside.
    """
    lanes = target.lanes(int(element[1:]))
    symbol = f"gm.partition_{element}x{lanes}"
    if not unit.once(symbol):
        return symbol
    arguments = [("home", "!llvm.ptr"), ("count", "i64"), ("pivot", element)]
    code = Code(unit, symbol, arguments, "i64", traits=("noinline",))
    code.finish(_Division(code, target, element).run())
    return symbol


class _Division:
    def __init__(self, code: Code, target: Target, element: str) -> None:
        self.code, self.element = code, element
        self.lanes = target.lanes(int(element[1:]))
        self.size, self.kind = int(element[1:]) // 8, vector(element, self.lanes)
        self.home, self.count, pivot = code.args
        self.pivot = code.splat(pivot, self.lanes)
        self.packed, self.together = packing(code, target, self.kind), together(target)
        self.aside = code.alloca(element, 3 * self.together * self.lanes)

    def run(self) -> Val:
        """Read from either end; the number of those below is where the lower ones are written."""
        code, block = self.code, self.together * self.lanes
        self._keep(0, self._loaded(code.i64(0)))
        self._keep(1, self._loaded(code.add(self.count, -block)))
        inner = code.add(self.count, -2 * block)
        turns = code.binary("arith.shrui", inner, code.i64(block.bit_length() - 1))
        with code.loop(0, turns, 1, [code.i64(block), code.i64(0)]) as loop:
            left, below = loop.carried
            done = code.mul(loop.i, block)
            narrow = code.compare(
                "arith.cmpi", "sle", code.binary("arith.subi", left, below), code.i64(block)
            )
            right = code.add(code.binary("arith.subi", inner, done), left)  # the end of the unread
            values = self._loaded(code.select(narrow, left, code.add(right, -block)))
            end = code.add(code.binary("arith.subi", self.count, done), below)
            for value in values:
                below, end = self._write(value, below, end)
            loop.next = [code.select(narrow, code.add(left, block), left), below]
        left, below = loop.results
        done = code.mul(turns, block)
        end = code.add(code.binary("arith.subi", self.count, done), below)
        self._keep(2, self._loaded(left))
        below, end = self._write_rest(code.binary("arith.subi", inner, done), below, end)
        with code.loop(0, 2 * block, self.lanes, [below, end]) as outer:
            value = code.load(self._kept(0, outer.i), self.kind, self.size)
            outer.next = list(self._write(value, *outer.carried))
        return outer.results[0]

    def _keep(self, block: int, values: list[Val]) -> None:
        """Put a block aside until there is room for it."""
        for k, value in enumerate(values):
            place = self.code.i64(k * self.lanes)
            self.code.store(value, self._kept(block, place), self.size)

    def _kept(self, block: int, place: Val) -> Val:
        start = block * self.together * self.lanes
        return self.code.at(self.aside, self.code.add(place, start), self.element)

    def _at(self, place: Val) -> Val:
        return self.code.at(self.home, place, self.element)

    def _loaded(self, start: Val) -> list[Val]:
        places = [self.code.add(start, k * self.lanes) for k in range(self.together)]
        return [self.code.load(self._at(place), self.kind, self.size) for place in places]

    def _write(self, value: Val, below: Val, end: Val) -> tuple[Val, Val]:
        """Divide a vector between both ends, where there is room for a whole one."""
        code = self.code
        less = bits_of(code, code.compare("arith.cmpi", "slt", value, self.pivot))
        count = counted(code, less)
        after, before = code.add(below, count), code.add(code.add(end, -self.lanes), count)
        if self.packed.table is not None:
            both = self.packed(value, less)
            code.store(both, self._at(below), self.size)
            code.store(both, self._at(code.add(end, -self.lanes)), self.size)
            return after, before
        more = code.binary("arith.xori", less, code.const(-1, less.type))
        code.store(self.packed(value, less), self._at(below), self.size)
        ones = code.binary("arith.shrui", code.i64((1 << self.lanes) - 1), count)
        kept = code.op(f"arith.trunci {ones} : i64 to {less.type}", less.type)
        mask = vector("i1", self.lanes)
        kept = code.op(f"llvm.bitcast {kept} : {less.type} to {mask}", mask)
        masked_store(code, self.packed(value, more), self._at(before), kept)
        return after, before

    def _write_rest(self, count: Val, below: Val, end: Val) -> tuple[Val, Val]:
        """Divide what was left in the middle, less than a block."""
        code = self.code
        with code.loop(0, count, self.lanes, [below, end]) as loop:
            below, end = loop.carried
            inside = first_lanes(code, code.binary("arith.subi", count, loop.i), self.lanes)
            value = code.load(self._kept(2, loop.i), self.kind, self.size)
            compared = code.compare("arith.cmpi", "slt", value, self.pivot)
            less = bits_of(code, code.binary("arith.andi", compared, inside))
            more = code.binary("arith.xori", less, bits_of(code, inside))
            code.store(self.packed(value, less), self._at(below), self.size)
            others = counted(code, more)
            before = code.binary("arith.subi", end, others)
            kept = first_lanes(code, others, self.lanes)
            masked_store(code, self.packed(value, more), self._at(before), kept)
            loop.next = [code.add(below, counted(code, less)), before]
        return loop.results[0], loop.results[1]


def counted(code: Code, bits: Val) -> Val:
    """The number of set bits (i64)."""
    return code.unary("math.ctpop", code.op(f"arith.extui {bits} : {bits.type} to i64", "i64"))


class packing:
    """`packed(value, bits)`: the lanes whose bits are set, first.

    With a `table`, which has a permutation of bytes or words for all bits, the others follow. An
    instruction of AVX-512 does without where there are many lanes.
    """

    def __init__(self, code: Code, target: Target, kind: str) -> None:
        self.code, self.kind, self.target = code, kind, target
        like = Val("", kind)
        self.lanes, self.size = like.lanes, int(like.element[1:]) // 8
        self.table: Val | None = None
        bits = target.vector_bits
        if bits == 512 and self.lanes == 8:
            unit = 8  # bytes that are moved as one
        elif bits == 256:
            unit = 4
        elif bits == 128 and (not target.is_x86 or target.has("ssse3")):
            unit = 1
        else:
            return
        symbol = code.unit.constant_bytes(self._table(unit))
        self.table = code.first(f"llvm.mlir.addressof @{symbol} : !llvm.ptr", "!llvm.ptr")

    def _table(self, unit: int) -> bytes:
        made = bytearray()
        parts = self.size // unit
        for bits in range(1 << self.lanes):
            order = sorted(range(self.lanes), key=lambda lane: not bits >> lane & 1)
            made += bytes(lane * parts + part for lane in order for part in range(parts))
        return bytes(made)

    def __call__(self, value: Val, bits: Val) -> Val:
        code, kind = self.code, self.kind
        if self.table is None:
            mask = vector("i1", self.lanes)
            which = code.op(f"llvm.bitcast {bits} : {bits.type} to {mask}", mask)
            nothing = code.const(0, kind)
            return code.op(
                f'llvm.call_intrinsic "llvm.experimental.vector.compress"({value}, {which}, '
                f"{nothing}) : ({kind}, {mask}, {kind}) -> {kind}",
                kind,
            )
        row = code.op(f"arith.extui {bits} : {bits.type} to i64", "i64")
        length = 16 if self.target.vector_bits == 128 else 8
        address = code.at(self.table, code.mul(row, length), "i8")
        order = code.load(address, vector("i8", length), 8)
        name = {512: "x86.avx512.permvar.di.512", 256: "x86.avx2.permd"}.get(
            self.target.vector_bits
        )
        if name is not None:
            order = code.convert(
                "arith.extui", order, "i64" if self.target.vector_bits == 512 else "i32"
            )
        else:
            name = "x86.ssse3.pshuf.b.128" if self.target.is_x86 else "aarch64.neon.tbl1.v16i8"
        cast = code.op(f"llvm.bitcast {value} : {kind} to {order.type}", order.type)
        moved = code.op(
            f'llvm.call_intrinsic "llvm.{name}"({cast}, {order}) : ({order.type}, {order.type}) -> '
            f"{order.type}",
            order.type,
        )
        return code.op(f"llvm.bitcast {moved} : {order.type} to {kind}", kind)
