"""Dividing integers in memory by a pivot, a vector at a time."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.codegen.cpu.small_sort import first_lanes, masked_load, masked_store
from graphmill.codegen.cpu.target import Target

TOGETHER = 4  # vectors a turn


def partition(unit: Unit, target: Target, element: str) -> str:
    """The symbol of `i64 (from, below, others, count, pivot)`, which returns how many are below.

    What is less than the pivot goes to `below`, the rest to `others`, each in its old order. One of
    the two may be `from`: less is written than was read. Both have room for `count` integers.
    """
    lanes = target.lanes(int(element[1:]))
    symbol = f"gm.partition_{element}x{lanes}"
    if not unit.once(symbol):
        return symbol
    pointers = [(name, "!llvm.ptr") for name in ("from", "below", "others")]
    arguments = [*pointers, ("count", "i64"), ("pivot", element)]
    code = Code(unit, symbol, arguments, "i64", traits=("noinline",))
    division = _Division(code, target, element)
    count = code.args[3]
    whole = [
        code.binary("arith.andi", count, code.i64(-step)) for step in (TOGETHER * lanes, lanes)
    ]
    with code.loop(0, whole[0], TOGETHER * lanes, [code.i64(0)]) as loop:
        loop.next = [division.turn(loop.i, loop.carried[0], TOGETHER)]
    with code.loop(whole[0], whole[1], lanes, loop.results) as rest:
        rest.next = [division.turn(rest.i, rest.carried[0], 1)]
    some = code.compare("arith.cmpi", "slt", whole[1], count)
    with code.choose(some, rest.results) as tail:
        tail.next = [division.tail(whole[1], rest.results[0])]
    code.finish(tail.results[0])
    return symbol


class _Division:
    def __init__(self, code: Code, target: Target, element: str) -> None:
        self.code, self.element = code, element
        self.lanes = target.lanes(int(element[1:]))
        self.size, self.kind = int(element[1:]) // 8, vector(element, self.lanes)
        self.source, self.below, self.others, self.count, pivot = code.args
        self.pivot = code.splat(pivot, self.lanes)
        self.packed = packing(code, target, self.kind)

    def turn(self, at: Val, below: Val, together: int) -> Val:
        """Divide whole vectors from `at` on; all are read before one is written."""
        code = self.code
        places = [code.add(at, k * self.lanes) for k in range(together)]
        values = [
            code.load(code.at(self.source, place, self.element), self.kind, self.size)
            for place in places
        ]
        for place, value in zip(places, values, strict=True):
            less = bits_of(code, code.compare("arith.cmpi", "slt", value, self.pivot))
            more = code.binary("arith.xori", less, code.const(-1, less.type))
            others = code.binary("arith.subi", place, below)
            for bits, array, position in (
                (less, self.below, below), (more, self.others, others),
            ):  # fmt: skip
                target = code.at(array, position, self.element)
                code.store(self.packed(value, bits), target, self.size)
            below = code.add(below, counted(code, less))
        return below

    def tail(self, at: Val, below: Val) -> Val:
        """Divide the last integers, fewer than a vector."""
        code = self.code
        inside = first_lanes(code, code.binary("arith.subi", self.count, at), self.lanes)
        address = code.at(self.source, at, self.element)
        value = masked_load(code, address, inside, code.const(0, self.kind))
        compared = code.compare("arith.cmpi", "slt", value, self.pivot)
        less = bits_of(code, code.binary("arith.andi", compared, inside))
        more = code.binary("arith.xori", less, bits_of(code, inside))
        others = code.binary("arith.subi", at, below)
        for bits, array, position in ((less, self.below, below), (more, self.others, others)):
            kept = first_lanes(code, counted(code, bits), self.lanes)
            masked_store(
                code, self.packed(value, bits), code.at(array, position, self.element), kept
            )
        return code.add(below, counted(code, less))


def bits_of(code: Code, mask: Val) -> Val:
    """A mask as an integer of as many bits as it has lanes."""
    return code.op(f"llvm.bitcast {mask} : {mask.type} to i{mask.lanes}", f"i{mask.lanes}")


def counted(code: Code, bits: Val) -> Val:
    """The number of set bits (i64)."""
    return code.unary("math.ctpop", code.op(f"arith.extui {bits} : {bits.type} to i64", "i64"))


class packing:
    """`packed(value, bits)`: the lanes whose bits are set, first, in their order.

    One instruction of AVX-512, else a permutation of bytes or words that a table has for all bits.
    """

    def __init__(self, code: Code, target: Target, kind: str) -> None:
        self.code, self.kind, self.target = code, kind, target
        like = Val("", kind)
        self.lanes, self.size = like.lanes, int(like.element[1:]) // 8
        self.table: Val | None = None
        bits = target.vector_bits
        if bits == 256 or (bits == 128 and (not target.is_x86 or target.has("ssse3"))):
            unit = 4 if bits == 256 else 1  # bytes that are moved as one
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
        wide = self.target.vector_bits == 256
        row = code.op(f"arith.extui {bits} : {bits.type} to i64", "i64")
        length = 8 if wide else 16
        address = code.at(self.table, code.mul(row, length), "i8")
        order = code.load(address, vector("i8", length), 8)
        if wide:
            order = code.convert("arith.extui", order, "i32")
            name = "llvm.x86.avx2.permd"
        else:
            name = (
                "llvm.x86.ssse3.pshuf.b.128"
                if self.target.is_x86
                else ("llvm.aarch64.neon.tbl1.v16i8")
            )
        cast = code.op(f"llvm.bitcast {value} : {kind} to {order.type}", order.type)
        moved = code.op(
            f'llvm.call_intrinsic "{name}"({cast}, {order}) : ({order.type}, {order.type}) -> '
            f"{order.type}",
            order.type,
        )
        return code.op(f"llvm.bitcast {moved} : {order.type} to {kind}", kind)
