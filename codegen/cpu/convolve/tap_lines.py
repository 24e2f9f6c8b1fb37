"""Lines of x as units of channels with the padding, for tiles that read them tap by tap."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.dots import AMX_UNITS
from graphmill.codegen.cpu.contract.elements import resize
from graphmill.codegen.cpu.convolve.spec import ConvSpec
from graphmill.codegen.cpu.convolve.tap_plan import TapPlan
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.ir.dtypes import i8, i16

_ARGS = (("x", "!llvm.ptr"), ("first", "i64"), ("count", "i64"), ("out", "!llvm.ptr"))
_UNROLLED = 8  # vectors of a line that are written one by one, if all are inside x
_KIND = vector("i32", AMX_UNITS)


def lines_filler(unit: Unit, symbol: str, spec: ConvSpec, plan: TapPlan) -> str:
    """Symbol of `(x, first, count, out)`: lays out the `count` lines that a tap may read, of all
    phases, from shift `first` on; x is a group's first channel of an image."""
    name = f"{symbol}_lines"
    code = Code(unit, name, _ARGS, traits=("noinline",))
    _Filler(code, spec, plan).write()
    code.finish()
    return name


class _Filler:
    def __init__(self, code: Code, spec: ConvSpec, plan: TapPlan) -> None:
        self.code, self.spec, self.plan = code, spec, plan
        self.x, self.first, self.count, self.out = code.args
        self.dtype = i8 if spec.x.bits == 8 else i16  # bits, as they are
        self.line, self.lines = plan.wide.size, plan.high.size
        self.wide = sorted({phase.place for phase in plan.phases})

    def write(self) -> None:
        """Whole units, then the last channels, then what pads them in a tile."""
        code, plan, group = self.code, self.plan, self.plan.dot.group
        each = self.spec.channels // self.spec.groups
        whole, rest = divmod(each, group)
        with code.loop(0, whole) as unit:
            self._unit(unit.i, group)
        if rest:
            self._unit(code.i64(whole), rest)
        # whatever lies in further units meets filters of zeros, but floats may be infinite
        if self.spec.x.is_float:
            with code.loop(-(-each // group), plan.blocks * AMX_UNITS) as unit:
                self._unit(unit.i, 0)

    def _unit(self, unit: Val, channels: int) -> None:
        """All lines of one unit, of which so many `channels` exist, phase by phase of the lines."""
        code, plan = self.code, self.plan
        plane = self.lines * self.line
        source = code.at(self.x, code.mul(unit, plan.dot.group * plane), memory_type(self.dtype))
        for phase in sorted({p.line for p in plan.phases}):
            targets = {
                p.place: code.at(
                    self.out,
                    code.add(code.mul(unit, plan.rows), n * plan.phase_bytes // 4),
                    "i32",
                )
                for n, p in enumerate(plan.phases)
                if p.line == phase
            }
            with code.loop(0, code.add(self.count, 1)) as line:
                number = code.add(self.first, line.i)
                at = code.add(code.mul(number, plan.high.stride), phase)
                good = code.compare("arith.cmpi", "ult", at, code.i64(self.lines))
                more = code.compare("arith.cmpi", "slt", line.i, self.count)
                start = code.mul(line.i, plan.pitch)
                here = {p: code.at(target, start, "i32") for p, target in targets.items()}
                if not channels:
                    self._zeros(here)
                    continue
                with code.when(code.binary("arith.andi", good, more)):
                    read = code.mul(at, self.line)
                    self._read(code.at(source, read, memory_type(self.dtype)), channels, here)
                with code.otherwise():
                    self._zeros(here)

    def _zeros(self, targets: dict[int, Val]) -> None:
        code = self.code
        for target in targets.values():
            with code.loop(0, self.plan.pitch, AMX_UNITS) as at:
                code.store(code.const(0, _KIND), code.at(target, at.i, "i32"), 4)

    def _read(self, source: Val, channels: int, targets: dict[int, Val]) -> None:
        """One line: vectors at its ends one by one, those between them in a loop if many."""
        starts = list(range(0, self.plan.pitch, AMX_UNITS))
        inside = [at for at in starts if all(all(m) for m in self._masks(at))]
        if len(inside) > _UNROLLED:
            with self.code.loop(inside[0], inside[-1] + 1, AMX_UNITS) as at:
                self._vector(source, channels, targets, at.i, None)
            starts = [at for at in starts if at not in inside]
        for start in starts:
            self._vector(source, channels, targets, self.code.i64(start), self._masks(start))

    def _masks(self, at: int) -> list[list[bool]]:
        """Which elements that 16 places from `at` on read lie inside x."""
        stride, first = self.plan.wide.stride, self.plan.wide.first
        start = (at + first) * stride
        return [
            [0 <= start + AMX_UNITS * n + lane < self.line for lane in range(AMX_UNITS)]
            for n in range(stride)
        ]

    def _vector(
        self, source: Val, channels: int, targets: dict[int, Val], at: Val,
        masks: list[list[bool]] | None,
    ) -> None:  # fmt: skip
        """16 places of every phase."""
        code, stride = self.code, self.plan.wide.stride
        first = code.mul(code.add(at, self.plan.wide.first), stride)
        parts = [
            self._units(
                source, code.add(first, AMX_UNITS * n), channels, masks[n] if masks else None
            )
            for n in range(stride)
        ]
        for phase, target in targets.items():
            value = parts[0]
            if stride == 2:
                order = list(range(phase, 2 * AMX_UNITS, 2))
                kinds = f"{_KIND}, {_KIND}"
                value = code.op(f"vector.shuffle {parts[0]}, {parts[1]} {order} : {kinds}", _KIND)
            code.store(value, code.at(target, at, "i32"), 4)

    def _units(self, source: Val, at: Val, channels: int, inside: list[bool] | None) -> Val:
        """Units of 16 neighbouring elements; zeros where they are not `inside`."""
        code, bits = self.code, 32 // self.plan.dot.group
        result = code.const(0, _KIND)
        if inside is not None and not any(inside):
            return result
        mask = None
        if inside is not None and not all(inside):
            mask = code.const_lanes(inside, vector("i1", AMX_UNITS))
        for channel in range(channels):
            index = code.add(at, channel * self.lines * self.line)
            value = memory.load(code, source, index, self.dtype, AMX_UNITS, mask=mask)
            assert isinstance(value, Val)
            value = resize(code, value, "i32", signed=False)
            value = code.binary("arith.shli", value, code.const(bits * channel, _KIND))
            result = code.binary("arith.ori", result, value)
        return result
