"""Planning a reduce kernel: which reductions run in which sweep, what each sweep keeps."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import scalar
from graphmill.codegen.cpu.elem import Complex, Elem, constant, splat
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.kernel import Kernel
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, f32
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.ops.reduce import identity
from graphmill.records import record

COSTLY = 8.0  # operations from which a value is kept for the next sweep, not computed again


@record
class Plan:
    """A reduce kernel: its block, full shape, reduced axes and the reductions sweep by sweep."""

    block: Block
    shape: tuple[DimLike, ...]
    reduced: tuple[int, ...]
    sweeps: tuple[tuple[Op, ...], ...]
    kept: tuple[Value, ...]  # full values that are costly and needed in a later sweep again

    @property
    def kept_axes(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.shape)) if i not in self.reduced)

    @property
    def kept_shape(self) -> tuple[DimLike, ...]:
        return tuple(self.shape[i] for i in self.kept_axes)

    @property
    def last_reduced(self) -> bool:
        """Whether the innermost axis is a reduced one."""
        return len(self.shape) - 1 in self.reduced

    @property
    def full_yields(self) -> list[int]:
        """Numbers of the yields that have the full shape."""
        return [i for i, v in enumerate(self.block.yielded) if self.is_full(v)]

    @property
    def reduced_yields(self) -> list[int]:
        """Numbers of the yields that have the reduced shape."""
        return [i for i, v in enumerate(self.block.yielded) if not self.is_full(v)]

    @property
    def single_stage(self) -> bool:
        """Whether one sweep and an epilogue on reduced values is all there is."""
        return len(self.sweeps) == 1 and not self.full_yields

    def is_full(self, value: Value) -> bool:
        return tuple(value.shape) == self.shape


def plan_of(block: Block) -> Plan:
    """Order the reductions of a block into sweeps by what they depend on."""
    reduces = [op for op in block.ops if op.name == "reduce"]
    shape = tuple(reduces[0].operands[0].shape)
    depth: dict[Value, int] = {}
    for op in block.ops:
        level = max((depth.get(v, 0) for v in op.operands), default=0)
        for result in op.results:
            depth[result] = level + (op.name == "reduce")
    count = max(depth[op.result] for op in reduces)
    sweeps = tuple(
        tuple(op for op in reduces if depth[op.result] == level) for level in range(1, count + 1)
    )
    reduced = tuple(sorted(reduces[0].attrs["axes"]))
    return Plan(block, shape, reduced, sweeps, _kept(block, shape, sweeps, depth))


def _kept(
    block: Block,
    shape: tuple[DimLike, ...],
    sweeps: Sequence[Sequence[Op]],
    depth: dict[Value, int],
) -> tuple[Value, ...]:
    """Costly full values that more than one sweep wants, those nearest their users."""
    wanted: dict[Value, set[int]] = {}

    def want(value: Value, sweep: int) -> None:
        if value.op is None or tuple(value.shape) != shape or sweep in wanted.get(value, ()):
            return
        wanted.setdefault(value, set()).add(sweep)
        for operand in value.op.operands:
            want(operand, sweep)

    for number, reduces in enumerate(sweeps):
        for op in reduces:
            want(op.operands[0], number)
    for value in block.yielded:
        want(value, len(sweeps))
    shared = {v for v, uses in wanted.items() if len(uses) > 1 and _cost(v, shape) >= COSTLY}
    for value in block.yielded:
        shared.discard(value)
    return tuple(
        v for v in shared if not any(u.result in shared for u in v.users if u.results)
        or any(u.name == "reduce" for u in v.users)
    )  # fmt: skip


def _cost(value: Value, shape: tuple[DimLike, ...]) -> float:
    """Operations to compute a full value from what is loaded or reduced."""
    if value.op is None or tuple(value.shape) != shape:
        return 0.0
    return value.op.definition.flops + sum(_cost(v, shape) for v in value.op.operands)


# ---- accumulators


_COMBINE = {
    "sum": "add", "prod": "mul", "max": "max", "min": "min", "all": "and", "any": "or",
}  # fmt: skip


@record
class Accumulator:
    """The state of one reduction: its monoid and dtype (16-bit floats accumulate in f32)."""

    monoid: str
    dtype: DType
    op: Op | None = None  # what it computes, for dumps

    @staticmethod
    def of(op: Op) -> Accumulator:
        return Accumulator(op.attrs["monoid"], op.operands[0].tensor.dtype, op)

    @property
    def parts(self) -> int:
        """Registers it takes: two for complex numbers."""
        return 2 if self.dtype.is_complex else 1

    def start(self, code: Code, lanes: int) -> list[Val]:
        """The neutral element."""
        return pack(constant(code, identity(self.monoid, self.dtype), self.dtype, lanes))

    def combine(self, kernel: Kernel, state: Sequence[Val], value: Elem) -> list[Val]:
        """The state after `value`."""
        lanes = state[0].lanes
        left, right = unpack(state), splat(kernel.code, value, lanes)
        types = [self.dtype, self.dtype]
        name = _COMBINE[self.monoid]
        with kernel.code.located(self.op):
            return pack(
                scalar.apply(kernel.code, kernel.target, name, [left, right], types, self.dtype)
            )

    def masked(self, kernel: Kernel, state: Sequence[Val], value: Elem, mask: Val) -> list[Val]:
        """The state after `value` where the mask holds."""
        after = self.combine(kernel, state, value)
        return [kernel.code.select(mask, a, b) for a, b in zip(after, state, strict=True)]

    def across(self, kernel: Kernel, state: Sequence[Val]) -> list[Val]:
        """The lanes of a vector state combined into one scalar, by halves."""
        while state[0].lanes > 1:
            state = self.halved(kernel, state)
        return self.first(kernel, state)

    def halved(self, kernel: Kernel, state: Sequence[Val]) -> list[Val]:
        """The two halves of a vector state combined."""
        code, lanes = kernel.code, state[0].lanes // 2
        halves = []
        for part in state:
            kind = vector(part.element, lanes)
            low = f"vector.extract_strided_slice {part} {{offsets = [0], sizes = [{lanes}], "
            high = low.replace("offsets = [0]", f"offsets = [{lanes}]")
            tail = f"strides = [1]}} : {part.type} to {kind}"
            halves.append((code.op(low + tail, kind), code.op(high + tail, kind)))
        return self.combine(kernel, [a for a, _ in halves], unpack([b for _, b in halves]))

    def first(self, kernel: Kernel, state: Sequence[Val]) -> list[Val]:
        """The first lane of a vector state."""
        return [
            kernel.code.op(f"vector.extract {p}[0] : {p.element} from {p.type}", p.element)
            for p in state
        ]

    @property
    def memory(self) -> DType:
        """The dtype a state is stored as."""
        return f32 if self.dtype.bits == 16 and self.dtype.is_float else self.dtype


def absorbing(accumulators: Sequence[Accumulator]) -> bool:
    """Whether all are `any` or `all`, which nothing changes once they are true or false."""
    return all(accumulator.monoid in ("any", "all") for accumulator in accumulators)


def absorbed(code: Code, accumulators: Sequence[Accumulator], states: Sequence[Val]) -> Val:
    """Whether nothing can change the states, scalars or vectors, of such reductions (i1)."""
    found: list[Val] = []
    for accumulator, state in zip(accumulators, states, strict=True):
        if accumulator.monoid == "all":
            state = code.binary("arith.xori", state, code.const(True, state.type))
        if state.lanes:
            state = code.op(f"vector.reduction <or>, {state} : {state.type} into i1", "i1")
        found.append(state)
    result = found[0]
    for state in found[1:]:
        result = code.binary("arith.andi", result, state)
    return result


def pack(value: Elem) -> list[Val]:
    """An element as a list of registers."""
    return [value.re, value.im] if isinstance(value, Complex) else [value]


def unpack(parts: Sequence[Val]) -> Elem:
    """Registers as an element."""
    return Complex(parts[0], parts[1]) if len(parts) == 2 else parts[0]


def merged(
    kernel: Kernel, accumulators: Sequence[Accumulator], a: Sequence[Val], b: Sequence[Val]
) -> list[Val]:
    """The states of several reductions, side by side in `a` and `b`, combined pairwise."""
    result: list[Val] = []
    for accumulator in accumulators:
        span = slice(len(result), len(result) + accumulator.parts)
        result += accumulator.combine(kernel, a[span], unpack(b[span]))
    return result
