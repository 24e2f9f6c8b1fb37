"""Reduce kernels whose last axis is reduced: one row after another, lanes along the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu.accumulate import accumulate
from graphmill.codegen.cpu.bypass import bypassing, fence
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.element import Elements, Override, fixed
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.index import Index, Indices, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source, contiguous
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import (
    CHAINS,
    UNROLLS,
    Merge,
    outer_positions,
    sweep,
    sweep_until,
)
from graphmill.codegen.cpu.stages import Accumulator, Plan, absorbed, absorbing, merged, unpack
from graphmill.codegen.cpu.widths import lanes_for
from graphmill.ir.dims import product
from graphmill.ir.graph import Op, Value

Done = Callable[[Sequence[Val]], Val]
ROW_BYTES = 64 << 10  # a row of kept values up to this size stays on the stack
LAST = 2  # elements at the end of a growing row
CHEAP = 12.0  # operations per element up to which a sweep runs several chains


def emit_rows(
    kernel: Kernel, plan: Plan, sources: dict[Value, Source], outputs: Sequence[Source],
    growing: bool = False,
) -> Launch:  # fmt: skip
    """Write the kernel; work items are rows (positions of the kept axes).

    The last elements of a `growing` row have just been stored, one by one: they are added one by
    one, too. A vector's load, masked or not, would wait until all of it has reached the cache.
    """
    elements = Elements(kernel, sources, lanes_for(kernel, plan.block))
    rows = _Rows(kernel, plan, elements, outputs, growing)
    full = [outputs[i] for i in plan.full_yields]
    elements.bypass = bypassing(kernel, full) if len(plan.reduced) == 1 else {}
    with kernel.code.loop(kernel.begin, kernel.end) as item, elements.scope():
        rows.emit(item.i)
    fence(kernel, elements.bypass)
    length = product(plan.shape[i] for i in plan.reduced)
    work = length if isinstance(length, int) else 1024
    cost = work * flops_per_element(plan.block.ops)
    return Launch(product(plan.kept_shape), grain(cost))


class _Rows:
    """Writing the sweeps over one row."""

    def __init__(
        self, kernel: Kernel, plan: Plan, elements: Elements, outputs: Sequence[Source],
        growing: bool,
    ) -> None:  # fmt: skip
        self.kernel, self.plan, self.elements = kernel, plan, elements
        self.outputs = outputs
        self.code = kernel.code
        self.whole = self._whole() if growing else None  # where whole vectors end
        keep = bool(plan.kept) and kernel.choices.pick("keep", True, (True, False))
        self.spilled = {v: self._row_buffer(v) for v in plan.kept if keep and self._fits(v)}
        self.written: set[Value] = set()

    def _fits(self, value: Value) -> bool:
        length = product(self.plan.shape[i] for i in self.plan.reduced)
        size = value.tensor.dtype.itemsize
        return (
            isinstance(length, int) and length * size <= ROW_BYTES and len(self.plan.reduced) == 1
        )

    def _row_buffer(self, value: Value) -> Source:
        dtype = value.tensor.dtype
        length = self.plan.shape[-1]
        assert isinstance(length, int)
        count = length * (2 if dtype.is_complex else 1)
        pointer = self.code.alloca(memory_type(dtype), count)
        return Source(pointer, dtype, (length,), (1,))

    def emit(self, row: Val) -> None:
        """All sweeps over the row of number `row`, then the epilogue."""
        plan, elements = self.plan, self.elements
        kept = outer_positions(self.kernel, row, plan.kept_shape)
        at = dict(zip(plan.kept_axes, kept, strict=True))
        self.written.clear()
        for value in list(elements.overrides):
            del elements.overrides[value]
        for number, reduces in enumerate(plan.sweeps):
            ahead, elements.ahead = elements.ahead, self._next_row if number else elements.ahead
            states = self._sweep(at, reduces)
            elements.ahead = ahead
            for op, state in zip(reduces, states, strict=True):
                if self.whole is None:
                    scalar = Accumulator.of(op).across(self.kernel, state)
                else:
                    scalar = self._with_last(op, self.whole, state)
                elements.overrides[op.result] = fixed(unpack(scalar))
        for i in plan.reduced_yields:
            elements.store(self.outputs[i], kept, elements.at(plan.block.yielded[i], kept))
        if plan.full_yields:
            self._last(at)

    # ---- a growing row

    def _whole(self) -> Val:
        return self.code.binary("arith.andi", self._old(), self.code.i64(-self.elements.lanes))

    def _old(self) -> Val:
        """The elements before the last ones; all of them where there are few."""
        code, size = self.code, self.kernel.dim(self.plan.shape[-1])
        some = code.compare("arith.cmpi", "sge", size, code.i64(LAST))
        return code.select(some, code.add(size, -LAST), size)

    def _with_last(self, op: Op, at: Val, state: Sequence[Val]) -> list[Val]:
        """The state of all lanes combined, and with it the elements from `at` on: by halves of a
        vector, which are no branches that a processor would guess wrong, then the last ones."""
        code, elements, accumulator = self.code, self.elements, Accumulator.of(op)
        old, lanes = self._old(), elements.lanes
        while lanes > 1:
            state = accumulator.halved(self.kernel, state)
            lanes //= 2
            if lanes == 1:
                state = accumulator.first(self.kernel, state)
            bit = code.binary("arith.andi", old, code.i64(lanes))
            some = code.compare("arith.cmpi", "ne", bit, code.i64(0))
            with code.choose(some, list(state)) as this, elements.scope(), elements.narrow(lanes):
                this.next = accumulate(elements, op, state, (Index(at, int(lanes > 1)),))
            state, at = this.results, code.add(at, bit)
        size = self.kernel.dim(self.plan.shape[-1])
        some = code.compare("arith.cmpi", "slt", old, size)
        with code.choose(some, list(state)) as this, elements.scope():
            now = list(state)
            for number in range(LAST):
                now = accumulate(elements, op, now, (Index(code.add(old, number)),))
            this.next = now
        return this.results

    # ---- sweeps

    def _sweep(self, at: dict[int, Index], reduces: Sequence[Op]) -> list[list[Val]]:
        """Accumulate the reductions of one sweep over the row."""
        accumulators = [Accumulator.of(op) for op in reduces]
        carry = [v for a in accumulators for v in a.start(self.code, self.elements.lanes)]
        store = [
            v for v in self.spilled
            if v not in self.written and any(_needs(op.operands[0], v) for op in reduces)
        ]  # fmt: skip

        def body(index: Indices, carried: Sequence[Val]) -> Sequence[Val]:
            for value in store:
                self._spill(value, index)
            result: list[Val] = []
            taken = 0
            for op, accumulator in zip(reduces, accumulators, strict=True):
                state = carried[taken : taken + accumulator.parts]
                taken += accumulator.parts
                known = op.operands[0] in self.spilled
                result += accumulate(self.elements, op, state, index, known)
            return result

        done = self._done(accumulators, store)
        final = self._over_row(at, body, carry, *self._merge(reduces, accumulators), done)
        for value in store:
            self.written.add(value)
            self.elements.overrides[value] = self._reload(value)
        states, taken = [], 0
        for accumulator in accumulators:
            states.append(list(final[taken : taken + accumulator.parts]))
            taken += accumulator.parts
        return states

    def _done(self, accumulators: Sequence[Accumulator], kept: Sequence[Value]) -> Done | None:
        """How to tell that the rest of a row changes nothing, if it may not."""
        if kept or not absorbing(accumulators):
            return None
        return lambda states: absorbed(self.code, accumulators, states)

    def _merge(
        self, reduces: Sequence[Op], accumulators: Sequence[Accumulator]
    ) -> tuple[Merge | None, int]:
        """How to combine two states, and how many chains there are: one if a step is long."""
        if len(self.plan.reduced) > 1:
            return None, 1
        work = sum(_work(op.operands[0]) for op in reduces)
        number = self.plan.sweeps.index(tuple(reduces))
        model = CHAINS if work <= CHEAP else 1
        chains = self.kernel.choices.pick(f"chains{number or ''}", model, (1, 2, 4, 8))
        if chains == 1:
            return None, 1
        return (lambda a, b: merged(self.kernel, accumulators, a, b)), chains

    def _over_row(
        self,
        at: dict[int, Index],
        body: Callable[[Indices, Sequence[Val]], Sequence[Val]],
        carry: Sequence[Val],
        merge: Merge | None = None,
        together: int = 0,
        done: Done | None = None,
    ) -> Sequence[Val]:
        """Run `body(full index, carried)` over all positions of the reduced axes."""
        plan, code = self.plan, self.code
        outer = plan.reduced[:-1]

        def inner(positions: dict[int, Index], carried: Sequence[Val]) -> Sequence[Val]:
            def step(position: Index, state: Sequence[Val]) -> Sequence[Val]:
                full = {**at, **positions, len(plan.shape) - 1: position}
                return body(tuple(full[i] for i in range(len(plan.shape))), state)

            size = self.kernel.size(plan.shape[-1]) if self.whole is None else self.whole
            if done is not None and not outer:
                return sweep_until(self.elements, size, step, carried, merge, done)
            return sweep(self.elements, 0, size, step, carried, merge=merge, together=together)

        if not outer:
            return inner({}, carry)
        sizes = [self.kernel.size(plan.shape[i]) for i in outer]
        count = self.kernel.dim(product(plan.shape[i] for i in outer))
        with code.loop(0, count, 1, carry) as loop, self.elements.scope():
            positions = unravel(code, loop.i, sizes)
            named = {axis: Index(p) for axis, p in zip(outer, positions, strict=True)}
            loop.next = list(inner(named, loop.carried))
        return loop.results

    def _last(self, at: dict[int, Index]) -> None:
        """Compute and store the full results."""
        plan = self.plan

        def body(index: Indices, carried: Sequence[Val]) -> Sequence[Val]:
            results = [self.elements.at(plan.block.yielded[i], index) for i in plan.full_yields]
            for i, result in zip(plan.full_yields, results, strict=True):
                self.elements.store(self.outputs[i], index, result)
            return carried

        together = self.kernel.choices.pick("unroll", 1, UNROLLS)
        self._over_row(at, body, [], together=together)

    def _next_row(self, source: Source) -> Val | None:
        """The distance to the same place of the next row: a later sweep reads warm memory and has
        time to ask for it. Without stores that bypass the caches, which leave them idle, it costs.
        """
        plan, code, bypass = self.plan, self.code, self.elements.bypass
        if not bypass or (source.shape, source.strides) != (plan.shape, contiguous(plan.shape)):
            return None
        size = self.kernel.dim(plan.shape[-1] * source.dtype.itemsize)
        return code.select(next(iter(bypass.values())), size, code.i64(0))

    # ---- values kept from one sweep to the next

    def _spill(self, value: Value, index: Indices) -> None:
        self.elements.store(self.spilled[value], index[-1:], self.elements.at(value, index))

    def _reload(self, value: Value) -> Override:
        source = self.spilled[value]
        return lambda index, guard: self.elements.load(source, index[-1:], guard)


def _needs(value: Value, wanted: Value) -> bool:
    """Whether computing `value` computes `wanted`."""
    if value is wanted:
        return True
    return value.op is not None and any(_needs(v, wanted) for v in value.op.operands)


def _work(value: Value) -> float:
    """Operations to compute a value inside the kernel."""
    if value.op is None or value.op.name == "reduce":
        return 0.0
    return value.op.definition.flops + sum(_work(v) for v in value.op.operands)
