"""Sorting lines of 8- and 16-bit values: how often each value is there, then as many of each."""

from __future__ import annotations

from dataclasses import replace

from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val, vector
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, Indices
from graphmill.codegen.cpu.kernel import Kernel, Source, Storage
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import outer_positions, sweep
from graphmill.codegen.cpu.lowering import info_of, label
from graphmill.codegen.cpu.small_sort import bits_of, first_lanes, masked_store
from graphmill.ir.dims import product
from graphmill.ir.dtypes import DType, bf16, i8, i16
from graphmill.ir.graph import Op

LEAST = {8: 64, 16: 1 << 14}  # elements of a line from which counting is faster
GROUP = 64  # values whose counts are looked at as one
TABLES = {8: 4, 16: 1}  # neighbours count apart, lest equal ones wait for each other


def counts_values(op: Op) -> bool:
    """Whether the values are few beside a line's elements."""
    dtype, length = op.operands[0].tensor.dtype, op.operands[0].shape[op.attrs["axis"]]
    if dtype.bits > 16:
        return False
    return LEAST[dtype.bits] <= length < 1 << 31 if isinstance(length, int) else dtype.bits == 8


def sort_by_counting(host: Host, op: Op, output: Buffer) -> None:
    """Write the kernel, a line for a work item."""
    kernel = host.kernel(label(op))
    operand, axis = op.operands[0], op.attrs["axis"]
    last = axis == len(operand.shape) - 1 and output.strides is None
    if last:
        host.adopt(output)
    _Counting(host, op, kernel, output, last).run()
    length = operand.shape[axis]
    lines = product([dim for i, dim in enumerate(operand.shape) if i != axis])
    work = grain(4.0 * (length if isinstance(length, int) else 1024))
    host.launch(kernel, Launch(lines, work), info_of(op, kernel.name, True))


class _Counting:
    def __init__(self, host: Host, op: Op, kernel: Kernel, output: Buffer, last: bool) -> None:
        operand = op.operands[0]
        self.kernel, self.code, self.axis = kernel, kernel.code, op.attrs["axis"]
        self.shape, self.dtype = operand.shape, operand.tensor.dtype
        self.descending = op.attrs.get("descending", False)
        self.bits = self.dtype.bits
        self.raw = i8 if self.bits == 8 else i16
        self.values, self.tables = 1 << self.bits, TABLES[self.bits]
        self.element = "i64" if self.bits == 8 else "i32"  # of counts
        self.size = int(self.element[1:]) // 8
        each = self.tables * self.values * self.size
        storage = Storage(("sort scratch", len(host.kernels)), True)
        host.lend(storage, host.scratch(lambda code, dim: (code.i64(0), code.i64(each))))
        own = self.code.mul(kernel.worker, each)
        self.counts = self.code.at(kernel.pointer(storage), own, "i8")
        self.elements = Elements(kernel, {})
        self.source = self._bits(host.source(kernel, operand))
        self.target = self._bits(host.source(kernel, op.result, output))
        self.memory = kernel.pointer(output.storage) if last else None

    def _bits(self, source: Source) -> Source:
        return replace(source, dtype=self.raw)

    def run(self) -> None:
        code, others = self.code, [d for i, d in enumerate(self.shape) if i != self.axis]
        length = self.kernel.dim(self.shape[self.axis])
        with code.loop(self.kernel.begin, self.kernel.end) as item:
            outer = outer_positions(self.kernel, item.i, others)
            with self.elements.scope():
                self._count(outer, length)
                self._write(outer, code.mul(item.i, length), length)

    def _index(self, outer: tuple[Index, ...], along: Index) -> Indices:
        return (*outer[: self.axis], along, *outer[self.axis :])

    def _place(self, key: Val) -> Val:
        return self.code.at(self.counts, key, self.element)

    def _count(self, outer: tuple[Index, ...], length: Val) -> None:
        code, lanes = self.code, self.kernel.lanes * 4 // self.size
        kind = vector(self.element, lanes)
        with code.loop(0, self.tables * self.values, lanes) as clear:
            code.store(code.const(0, kind), self._place(clear.i), 4 * self.kernel.lanes)
        with code.loop(0, length) as loop:
            raw = self.elements.load(self.source, self._index(outer, Index(loop.i)))
            assert isinstance(raw, Val)
            key = code.convert("arith.extui", self._key(raw), "i64")
            if self.tables > 1:
                table = code.binary("arith.andi", loop.i, code.i64(self.tables - 1))
                key = code.add(key, code.mul(table, self.values))
            count = code.load(self._place(key), self.element, self.size)
            one = code.const(1, self.element)
            code.store(code.binary("arith.addi", count, one), self._place(key), self.size)

    def _write(self, outer: tuple[Index, ...], start: Val, length: Val) -> None:
        """Every value as often as it was counted, in groups of counts, most of which may be 0."""
        code = self.code
        with code.loop(0, self.values, GROUP, [code.i64(0)]) as group:
            some = self._some(group.i)
            with code.while_loop([some, group.carried[0]]) as one:
                left, at = one.carried
                code.test(one, code.compare("arith.cmpi", "ne", left, code.i64(0)))
                left, at = one.carried
                key = code.add(group.i, code.unary("math.cttz", left))
                count = code.load(self._place(key), self.element, self.size)
                end = code.add(at, code.convert("arith.extui", count, "i64")
                               if self.size < 8 else count)  # fmt: skip
                self._fill(outer, start, at, end, length, self._value(key))
                rest = code.binary("arith.andi", left, code.add(left, -1))
                one.next = [rest, end]
            group.next = [one.results[1]]

    def _some(self, first: Val) -> Val:
        """Which of a group of values are there, a bit for each; their counts in the first table."""
        code, lanes, some = self.code, self.kernel.lanes, self.code.i64(0)
        kind = vector(self.element, lanes)
        for start in range(0, GROUP, lanes):
            place = code.add(first, start)
            total = code.load(self._place(place), kind, self.size)
            for table in range(1, self.tables):
                more = code.load(self._place(code.add(place, table * self.values)), kind, 8)
                total = code.binary("arith.addi", total, more)
            if self.tables > 1:
                code.store(total, self._place(place), self.size)
            bits = bits_of(code, code.compare("arith.cmpi", "ne", total, code.const(0, kind)))
            bits = code.op(f"arith.extui {bits} : {bits.type} to i64", "i64")
            some = code.binary("arith.ori", some, code.binary("arith.shli", bits, code.i64(start)))
        return some

    def _fill(self, outer: tuple[Index, ...], start: Val, low: Val, high: Val, length: Val,
              value: Val) -> None:  # fmt: skip
        """The value from `low` to `high`; what lies behind may be written, it comes later."""
        code, lanes = self.code, self.kernel.lanes * 32 // self.bits
        if self.memory is None:
            sweep(self.elements, low, high, lambda at, _: self._put(outer, at, value))
            return
        wide, size = code.splat(value, lanes), self.bits // 8
        whole = code.binary("arith.minsi", high, code.add(length, -lanes + 1))
        first = code.at(self.memory, start, self.raw_name)
        with code.loop(low, whole, lanes) as loop:
            code.store(wide, code.at(first, loop.i, self.raw_name), size)
        steps = code.add(code.binary("arith.subi", whole, low), lanes - 1)
        steps = code.binary("arith.maxsi", steps, code.i64(0))
        done = code.add(low, code.binary("arith.andi", steps, code.i64(-lanes)))
        with code.loop(done, high, lanes) as rest:
            inside = first_lanes(code, code.binary("arith.subi", high, rest.i), lanes)
            masked_store(code, wide, code.at(first, rest.i, self.raw_name), inside)

    @property
    def raw_name(self) -> str:
        return f"i{self.bits}"

    def _put(self, outer: tuple[Index, ...], at: Index, value: Val) -> list[Val]:
        self.elements.store(self.target, self._index(outer, at), value)
        return []

    # ---- bits and their places among all, unsigned

    def _constant(self, value: int) -> Val:
        return self.code.const(value, self.raw_name)

    def _folded(self, bits: Val) -> Val:
        """Floats in the order of integers, and back."""
        code, most = self.code, (1 << self.bits - 1) - 1
        sign = code.binary("arith.shrsi", bits, self._constant(self.bits - 1))
        mask = code.binary("arith.andi", sign, self._constant(most))
        return code.binary("arith.xori", bits, mask)

    def _key(self, raw: Val) -> Val:
        code, kind = self.code, self.dtype.kind
        key = raw if kind != "f" else self._folded(raw)
        if kind in "if":
            key = code.binary("arith.xori", key, self._constant(-(1 << self.bits - 1)))
        if self.descending:
            key = code.binary("arith.xori", key, self._constant(-1))
        if kind != "f":
            return key
        size = code.binary("arith.andi", raw, self._constant((1 << self.bits - 1) - 1))
        missing = code.compare("arith.cmpi", "sgt", size, self._constant(_infinity(self.dtype)))
        return code.select(missing, self._constant(-1), key)

    def _value(self, key: Val) -> Val:
        code, kind = self.code, self.dtype.kind
        bits = code.op(f"arith.trunci {key} : i64 to {self.raw_name}", self.raw_name)
        last = code.compare("arith.cmpi", "eq", bits, self._constant(-1))
        if self.descending:
            bits = code.binary("arith.xori", bits, self._constant(-1))
        if kind in "if":
            bits = code.binary("arith.xori", bits, self._constant(-(1 << self.bits - 1)))
        if kind != "f":
            return bits
        missing = self._constant((1 << self.bits - 1) - 1)
        return code.select(last, missing, self._folded(bits))


def _infinity(dtype: DType) -> int:
    """The bits of an infinite float of 16 bits."""
    return 0x7F80 if dtype == bf16 else 0x7C00
