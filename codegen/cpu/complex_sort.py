"""Stable orders of lines of complex numbers: a radix sort by each part.

Least significant digit first with 8-bit digits (Knuth, TAOCP 3, 5.2.5); digits that all keys share
are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.elem import Complex
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Kernel, Source, Storage
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import outer_positions
from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Op

SHORT = 32  # lines up to this length are sorted by insertion
DIGIT = 8
BUCKETS = 1 << DIGIT


class Lines:
    """The loop over all lines along an axis, with scratch memory for keys and their origins."""

    def __init__(self, host: Host, kernel: Kernel, op: Op, axis: int, descending: bool) -> None:
        self.kernel, self.code, self.axis = kernel, kernel.code, axis
        self.descending = descending
        self.shape: tuple[DimLike, ...] = op.operands[0].shape
        self.elements = Elements(kernel, {})
        self.length = kernel.dim(self.shape[axis])
        each = (4 * 8 * self.shape[axis] + 63) // 64 * 64
        base = host.scratch(lambda code, dim: (code.i64(0), dim(each)))
        storage = Storage(("sort scratch", kernel.name), True)
        host.lend(storage, base)
        scratch = kernel.pointer(storage)
        own = self.code.at(scratch, self.code.mul(kernel.worker, kernel.dim(each)), "i8")
        self.arrays = [own]
        for number in range(1, 4):
            offset = self.code.mul(self.length, number)
            self.arrays.append(self.code.at(own, offset, "i64"))

    def __enter__(self) -> Lines:
        self._loop = self.code.loop(self.kernel.begin, self.kernel.end)
        item = self._loop.__enter__()
        others = [d for i, d in enumerate(self.shape) if i != self.axis]
        self._outer = outer_positions(self.kernel, item.i, others)
        self._scope = self.elements.scope()
        self._scope.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._scope.__exit__(None, None, None)
        self._loop.__exit__(None, None, None)

    def launch(self) -> Launch:
        """How to run it: a line costs some forty operations an element."""
        length = self.shape[self.axis]
        others = product(d for i, d in enumerate(self.shape) if i != self.axis)
        return Launch(others, grain(40.0 * (length if isinstance(length, int) else 1024)))

    def index(self, along: Index) -> tuple[Index, ...]:
        """The full index of position `along` on the line."""
        outer = list(self._outer)
        return (*outer[: self.axis], along, *outer[self.axis :])

    def sorted(self, source: Source) -> Val:
        """Sort the line; returns the array of origins (i64) in sorted order."""
        code = self.code
        keys, origins, spare_keys, spare_origins = self.arrays
        with code.loop(0, self.length) as loop:
            code.store(loop.i, code.at(origins, loop.i, "i64"), 8)
        # by which parts are NaN, the real one, the imaginary one: last key first
        for part in (1, 0, None):
            with code.loop(0, self.length) as loop:
                origin = code.load(code.at(origins, loop.i, "i64"), "i64", 8)
                value = self.elements.load(source, self.index(Index(origin)))
                assert isinstance(value, Complex)
                key = _ordered(code, value, part, self.descending)
                code.store(key, code.at(keys, loop.i, "i64"), 8)
            short = code.compare("arith.cmpi", "sle", self.length, code.i64(SHORT))
            with code.when(short):
                _insertion(code, keys, origins, self.length)
            with code.otherwise():
                _radix(code, (keys, origins), (spare_keys, spare_origins), self.length)
        return origins


def _ordered(code: Code, value: Complex, part: int | None, descending: bool) -> Val:
    """A signed i64 that sorts as a part of `value` does; NaN is the largest either way.

    Without a part: numbers, a NaN in the imaginary part alone, in the real one alone, in both.
    """
    if part is not None:
        return _ordered_float(code, (value.re, value.im)[part], descending)
    re, im = (code.compare("arith.cmpf", "uno", x, x) for x in (value.re, value.im))
    return code.add(
        code.select(re, code.i64(2), code.i64(0)), code.convert("arith.extui", im, "i64")
    )


def _ordered_float(code: Code, value: Val, descending: bool) -> Val:
    width = 64 if value.type == "f64" else 32
    missing = code.compare("arith.cmpf", "uno", value, value)
    value = code.binary("arith.addf", value, code.const(0.0, value.type))  # -0 becomes 0
    bits = code.op(f"arith.bitcast {value} : {value.type} to i{width}", f"i{width}")
    sign = code.binary("arith.shrsi", bits, code.const(width - 1, bits.type))
    mask = code.const((1 << (width - 1)) - 1, bits.type)
    bits = code.binary("arith.xori", bits, code.binary("arith.andi", sign, mask))
    if width == 32:
        bits = code.convert("arith.extsi", bits, "i64")
    if descending:
        bits = code.binary("arith.xori", bits, code.i64(-1))
    return code.select(missing, code.i64((1 << (width - 1)) - 1), bits)


def _insertion(code: Code, keys: Val, origins: Val, length: Val) -> None:
    with code.loop(1, length) as loop:
        key = code.load(code.at(keys, loop.i, "i64"), "i64", 8)
        origin = code.load(code.at(origins, loop.i, "i64"), "i64", 8)
        with code.while_loop([loop.i]) as back:
            (place,) = back.carried
            before = code.add(place, -1)
            some = code.compare("arith.cmpi", "sgt", place, code.i64(0))
            safe = code.binary("arith.maxsi", before, code.i64(0))
            previous = code.load(code.at(keys, safe, "i64"), "i64", 8)
            larger = code.compare("arith.cmpi", "sgt", previous, key)
            code.test(back, code.binary("arith.andi", some, larger))
            (place,) = back.carried
            before = code.add(place, -1)
            for array in (keys, origins):
                moved = code.load(code.at(array, before, "i64"), "i64", 8)
                code.store(moved, code.at(array, place, "i64"), 8)
            back.next = [before]
        code.store(key, code.at(keys, back.results[0], "i64"), 8)
        code.store(origin, code.at(origins, back.results[0], "i64"), 8)


def _radix(code: Code, a: Sequence[Val], b: Sequence[Val], length: Val) -> None:
    """Sort keys and origins in `a` by eight digits, with `b` as the other half of each pass."""
    counts = code.alloca("i64", BUCKETS)
    start = [*a, *b]
    with code.loop(0, 64, DIGIT, start) as digit:
        keys, origins, new_keys, new_origins = digit.carried
        bucket = _Bucket(code, digit.i)
        with code.loop(0, BUCKETS) as loop:
            code.store(code.i64(0), code.at(counts, loop.i, "i64"), 8)
        with code.loop(0, length) as loop:
            key = code.load(code.at(keys, loop.i, "i64"), "i64", 8)
            _bump(code, counts, bucket.of(key))
        first = code.load(keys, "i64", 8)
        full = code.load(code.at(counts, bucket.of(first), "i64"), "i64", 8)
        useful = code.compare("arith.cmpi", "ne", full, length)
        with code.choose(useful, list(digit.carried)) as moved:
            with code.loop(0, BUCKETS, 1, [code.i64(0)]) as loop:
                slot = code.at(counts, loop.i, "i64")
                count = code.load(slot, "i64", 8)
                code.store(loop.carried[0], slot, 8)
                loop.next = [code.add(loop.carried[0], count)]
            with code.loop(0, length) as loop:
                key = code.load(code.at(keys, loop.i, "i64"), "i64", 8)
                origin = code.load(code.at(origins, loop.i, "i64"), "i64", 8)
                place = _bump(code, counts, bucket.of(key))
                code.store(key, code.at(new_keys, place, "i64"), 8)
                code.store(origin, code.at(new_origins, place, "i64"), 8)
            moved.next = [new_keys, new_origins, keys, origins]
        digit.next = moved.results
    _bring_home(code, digit.results[:2], a, length)


class _Bucket:
    """The digit of a key; the sign bit is turned so that negative keys come first."""

    def __init__(self, code: Code, shift: Val) -> None:
        self.code, self.shift = code, shift

    def of(self, key: Val) -> Val:
        code = self.code
        unsigned = code.binary("arith.xori", key, code.i64(-(1 << 63)))
        digit = code.binary("arith.shrui", unsigned, self.shift)
        return code.binary("arith.andi", digit, code.i64(BUCKETS - 1))


def _bump(code: Code, counts: Val, bucket: Val) -> Val:
    """Increase a counter; returns what it was."""
    slot = code.at(counts, bucket, "i64")
    count = code.load(slot, "i64", 8)
    code.store(code.add(count, 1), slot, 8)
    return count


def _bring_home(code: Code, found: Sequence[Val], home: Sequence[Val], length: Val) -> None:
    """Copy the sorted arrays to `home` when they ended in the other half."""
    size = code.mul(length, 8)
    a, b = (code.op(f"llvm.ptrtoint {p} : !llvm.ptr to i64", "i64") for p in (found[0], home[0]))
    with code.when(code.compare("arith.cmpi", "ne", a, b)):
        for source, target in zip(found, home, strict=True):
            code.line(
                f'"llvm.intr.memcpy"({target}, {source}, {size}) <{{isVolatile = false}}> : '
                "(!llvm.ptr, !llvm.ptr, i64) -> ()"
            )
