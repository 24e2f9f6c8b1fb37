"""Patches of few channels as units of neighbouring taps, which AMX tiles read as they lie.

Units of channels would be mostly empty. Here a row holds, for one channel and line of the window,
what some neighbouring taps read at each place: a vector of x, its elements repeated by one shuffle.
"""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.dots import AMX_UNITS
from graphmill.codegen.cpu.contract.microkernel import opaque
from graphmill.codegen.cpu.convolve.spec import ConvSpec
from graphmill.codegen.cpu.convolve.tap_plan import UNIT, TapPlan
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.ir.dtypes import i8, i16

_ARGS = (("x", "!llvm.ptr"), ("first", "i64"), ("count", "i64"), ("out", "!llvm.ptr"))
_KIND, _BYTES = vector("i32", AMX_UNITS), vector("i8", 4 * AMX_UNITS)
_UNROLLED = 8  # vectors of a line that are written one by one, if all are inside x


def patches_filler(unit: Unit, symbol: str, spec: ConvSpec, plan: TapPlan) -> str:
    """Symbol of `(x, first, count, out)`: the patches of `count` lines of results from `first` on;
    x is a group's first channel of an image."""
    name = f"{symbol}_patches"
    code = Code(unit, name, _ARGS, traits=("noinline",))
    _Patches(code, spec, plan).write()
    code.finish()
    return name


class _Patches:
    def __init__(self, code: Code, spec: ConvSpec, plan: TapPlan) -> None:
        self.code, self.spec, self.plan = code, spec, plan
        self.dtype = i8 if spec.x.bits == 8 else i16  # bits, as they are
        self.lanes = AMX_UNITS * plan.dot.group
        self.group = plan.dot.group
        self.sets = -(-len(plan.wide.shifts) // self.group)  # units of taps of a line

    def write(self) -> None:
        """Channel by channel and line by line of the window; behind them rows of zeros."""
        code, spec, plan = self.code, self.spec, self.plan
        x, first, count, out = code.args
        self.order = self._order()
        channels, window = spec.channels // spec.groups, len(plan.high.shifts)
        (low, *_), (by, *_) = spec.low[-2:], spec.dilation[-2:]
        if spec.rank == 1:
            low, by = 0, 1
        lines = plan.high.size
        with code.loop(0, channels) as channel, code.loop(0, window) as tap:
            source = code.at(x, code.mul(channel.i, lines * plan.wide.size), self.element)
            number = code.add(code.mul(channel.i, window), tap.i)
            row = code.at(out, code.mul(number, self.sets * plan.rows), "i32")
            with code.loop(0, count) as line:
                at = code.mul(code.add(first, line.i), plan.high.stride)
                at = code.add(code.add(at, code.mul(tap.i, by)), -low)
                here = code.at(row, code.mul(line.i, plan.pitch), "i32")
                good = code.compare("arith.cmpi", "ult", at, code.i64(lines))
                with code.when(good):
                    self._line(code.at(source, code.mul(at, plan.wide.size), self.element), here)
                with code.otherwise():
                    self._line(None, here)
        if spec.x.is_float:  # filters of zeros would meet infinities
            used = channels * window * self.sets
            with code.loop(used, plan.blocks * AMX_UNITS) as unit:
                row = code.at(out, code.mul(unit.i, plan.rows), "i32")
                with code.loop(0, code.mul(count, plan.pitch), AMX_UNITS) as place:
                    code.store(code.const(0, _KIND), code.at(row, place.i, "i32"), UNIT)

    @property
    def element(self) -> str:
        """The MLIR type of an element's bits."""
        return memory_type(self.dtype)

    def _line(self, source: Val | None, out: Val) -> None:
        """All units of taps of one line of x, or zeros."""
        code, plan = self.code, self.plan
        for number in range(self.sets):
            row = code.at(out, number * plan.rows, "i32")
            if source is None:
                with code.loop(0, plan.pitch, AMX_UNITS) as place:
                    code.store(code.const(0, _KIND), code.at(row, place.i, "i32"), UNIT)
                continue
            firsts = {at: self._first(number, at) for at in range(0, plan.pitch, AMX_UNITS)}
            inside = [at for at, first in firsts.items() if all(self._inside(first))]
            if len(inside) > _UNROLLED:
                with code.loop(inside[0], inside[-1] + 1, AMX_UNITS) as place:
                    moved = code.mul(place.i, plan.wide.stride)
                    value = self._units(source, code.add(moved, self._first(number, 0)), None)
                    code.store(value, code.at(row, place.i, "i32"), UNIT)
                firsts = {at: first for at, first in firsts.items() if at not in inside}
            for start, first in firsts.items():
                value = self._units(source, code.i64(first), self._inside(first))
                code.store(value, code.at(row, start, "i32"), UNIT)

    def _first(self, number: int, at: int) -> int:
        """The element of x where a set of units of the places from `at` on begins."""
        return at * self.plan.wide.stride + number * self.group - self.spec.low[-1]

    def _inside(self, first: int) -> list[bool]:
        """Which of the elements from `first` on lie inside a line of x."""
        return [0 <= first + lane < self.plan.wide.size for lane in range(self.lanes)]

    def _units(self, source: Val, first: Val, inside: list[bool] | None) -> Val:
        """16 units of neighbours from element `first` of the line on."""
        code, lanes, mask = self.code, self.lanes, None
        if inside is not None and not any(inside):
            return code.const(0, _KIND)
        if inside is not None and not all(inside):
            mask = code.const_lanes(inside, vector("i1", lanes))
        value = memory.load(code, source, first, self.dtype, lanes, mask=mask)
        assert isinstance(value, Val)
        return self._repeated(value)

    def _repeated(self, value: Val) -> Val:
        """A unit for each place: words go to the quarter of the register that needs them, and
        there each byte is taken as often as places need it."""
        code, stride, size = self.code, self.plan.wide.stride, self.spec.x.itemsize
        words = [quarter * stride * size + word for quarter in range(4) for word in range(4)]
        if value.type != _KIND:
            value = code.op(f"vector.bitcast {value} : {value.type} to {_KIND}", _KIND)
        value = code.op(f"vector.shuffle {value}, {value} {words} : {_KIND}, {_KIND}", _KIND)
        value = code.op(f"vector.bitcast {value} : {_KIND} to {_BYTES}", _BYTES)
        value = code.op(
            f'llvm.call_intrinsic "llvm.x86.avx512.pshuf.b.512"({value}, {self.order}) : '
            f"({_BYTES}, {_BYTES}) -> {_BYTES}",
            _BYTES,
        )
        return code.op(f"vector.bitcast {value} : {_BYTES} to {_KIND}", _KIND)

    def _order(self) -> Val:
        """The byte that each byte of a quarter is; LLVM must not know it, or it takes the shuffle
        apart into many."""
        code, stride, size = self.code, self.plan.wide.stride, self.spec.x.itemsize
        quarter = bytes(
            (place * stride + tap) * size + byte
            for place in range(4)
            for tap in range(self.group)
            for byte in range(size)
        )
        table = opaque(code, code.address_of(code.unit.constant_bytes(4 * quarter)))
        return code.load(table, _BYTES, 64)
