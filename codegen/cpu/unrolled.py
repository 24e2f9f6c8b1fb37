"""Reduce kernels with a short axis, whose positions are written out (`ir.forms`).

A work item takes all positions of the unrolled axes, so that what they share is computed once.
Lanes run along the last of the other axes, along rows or, where that axis is not reduced, across
them. With nothing but short reductions it is a loop kernel: each vector of lanes by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product as combinations

from graphmill.codegen.cpu import interleave
from graphmill.codegen.cpu.accumulate import accumulate
from graphmill.codegen.cpu.elem import Elem
from graphmill.codegen.cpu.element import Elements, Override
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.index import Index, Indices, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import item_range, outer_positions, row_blocks, sweep
from graphmill.codegen.cpu.memory import tail_mask
from graphmill.codegen.cpu.stages import Accumulator, unpack
from graphmill.ir.dims import DimLike, product
from graphmill.ir.forms import Axes, Form, is_short, without
from graphmill.ir.graph import Block, Op, Value

MOST = 512  # operations written out for short reductions alone

Positions = dict[int, Index]  # by axis of the full shape


def unrolled_form(form: Form, block: Block) -> Form | None:
    """The form with unrolled axes to write a kernel in, if it is one for this file."""
    if form.unrolled:
        return form
    if not is_short(form.full, form.axes) or not form.kept:
        return None
    count = product(form.shape(form.axes))
    assert isinstance(count, int)
    return Form(form.full, (), form.axes) if count * len(block.ops) <= MOST else None


def emit_unrolled(
    kernel: Kernel, form: Form, block: Block, sources: dict[Value, Source],
    outputs: Sequence[Source],
) -> Launch:  # fmt: skip
    """Write the kernel."""
    this = _Unrolled(kernel, form, block, Elements(kernel, sources), outputs)
    if not form.axes:
        return this.emit_loop()
    return this.emit_rows() if form.thin_axes[-1] in form.axes else this.emit_columns()


class _Unrolled:
    def __init__(
        self, kernel: Kernel, form: Form, block: Block, elements: Elements,
        outputs: Sequence[Source],
    ) -> None:  # fmt: skip
        self.kernel, self.form, self.block = kernel, form, block
        self.elements, self.outputs, self.code = elements, outputs, kernel.code
        sizes = form.shape(form.unrolled)
        self.combos = [
            dict(zip(form.unrolled, (Index(self.code.i64(n)) for n in at), strict=True))
            for at in combinations(*(range(n) for n in sizes if isinstance(n, int)))
        ]
        self.sweeps = _sweeps(block, form)
        self.woven = {
            arg: interleave.woven(elements, arg, source)
            for arg, source in elements.sources.items() if self._is_woven(source)
        }  # fmt: skip
        self.elements.overrides.update(self.woven)

    def _is_woven(self, source: Source) -> bool:
        return len(self.form.unrolled) == 1 and interleave.is_woven(source, len(self.combos))

    # ---- the three ways to go over the other axes

    def emit_loop(self) -> Launch:
        """Short reductions only: one vector of lanes after the other."""
        form, kernel = self.form, self.kernel
        shape = form.shape(form.thin_axes)
        blocks = row_blocks(shape[-1])
        with self.code.loop(kernel.begin, kernel.end) as item:
            outer, low, high = item_range(kernel, item.i, shape, blocks)

            def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
                self._store(dict(zip(form.thin_axes, (*outer, position), strict=True)))
                return carried

            with self.elements.scope():
                sweep(self.elements, low, high, body)
        return Launch(product((*shape[:-1], blocks)), grain(self._work(shape[-1])))

    def emit_rows(self) -> Launch:
        """Lanes along the reduced axis, one row of the others after the other."""
        form, kernel = self.form, self.kernel
        rows = without(form.thin_axes, form.axes)
        with self.code.loop(kernel.begin, kernel.end) as item, self.elements.scope():
            at = self._row(item.i, rows)
            for reduces in self._each_sweep():
                self._keep(reduces, self._over_row(reduces, at), across=True)
            self._store(at)
        length = product(form.full[i] for i in form.axes)
        return Launch(product(form.full[i] for i in rows), grain(self._work(length)))

    def _over_row(self, reduces: Sequence[Op], at: Positions) -> Sequence[Val]:
        form, kernel, elements = self.form, self.kernel, self.elements
        *outer, last = form.axes
        sizes = [kernel.size(form.full[i]) for i in outer]
        count = kernel.dim(product(form.full[i] for i in outer))
        carry = self._start(reduces, elements.lanes)
        with self.code.loop(0, count, 1, carry) as row, elements.scope():
            more = unravel(self.code, row.i, sizes)
            there = at | {i: Index(p) for i, p in zip(outer, more, strict=True)}

            def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
                return self._step(reduces, there | {last: position}, carried)

            row.next = list(sweep(elements, 0, kernel.size(form.full[last]), body, row.carried))
        return row.results

    def emit_columns(self) -> Launch:
        """Lanes along the last kept axis, down the reduced ones with the state in registers."""
        form, kernel, elements, code = self.form, self.kernel, self.elements, self.code
        *rows, last = without(form.thin_axes, form.axes)
        lanes, size = elements.lanes, form.full[last]
        groups = (size + lanes - 1) // lanes
        sizes = [kernel.size(form.full[i]) for i in form.axes]
        with code.loop(kernel.begin, kernel.end) as item:
            row = code.binary("arith.divui", item.i, kernel.dim(groups))
            start = code.mul(code.binary("arith.remui", item.i, kernel.dim(groups)), lanes)
            tail = None
            if not isinstance(size, int) or size % lanes:
                left = code.binary("arith.subi", kernel.dim(size), start)
                tail = tail_mask(code, left, lanes)
            with elements.scope(tail):
                at = self._row(row, tuple(rows)) | {last: Index(start, 1)}
                for reduces in self._each_sweep():
                    carry = self._start(reduces, lanes)
                    count = kernel.dim(product(form.full[i] for i in form.axes))
                    with code.loop(0, count, 1, carry) as down, elements.scope(tail):
                        positions = unravel(code, down.i, sizes)
                        there = {i: Index(p) for i, p in zip(form.axes, positions, strict=True)}
                        down.next = self._step(reduces, at | there, down.carried)
                    self._keep(reduces, down.results, across=False)
                self._store(at)
        work = self._work(product(form.full[i] for i in form.axes)) * lanes
        return Launch(product((*(form.full[i] for i in rows), groups)), grain(work))

    # ---- their parts

    def _work(self, length: DimLike) -> float:
        """Operations of one work item with `length` elements that are not unrolled."""
        count = length if isinstance(length, int) else 1024
        return count * len(self.combos) * flops_per_element(self.block.ops)

    def _row(self, row: Val, axes: Axes) -> Positions:
        found = outer_positions(self.kernel, row, [self.form.full[i] for i in axes])
        return dict(zip(axes, found, strict=True))

    def _each_sweep(self) -> Iterator[Sequence[Op]]:
        self.elements.overrides.clear()
        self.elements.overrides.update(self.woven)
        yield from self.sweeps

    def _places(self, value: Value, at: Positions) -> list[Indices]:
        """The positions of a value's elements, as many as it has along unrolled axes."""
        span = self.form.span(value.shape)
        assert span is not None, f"{value} has no shape of the kernel"
        found = {tuple((at | combo)[i] for i in span): None for combo in self.combos}
        return list(found)

    def _start(self, reduces: Sequence[Op], lanes: int) -> list[Val]:
        return [
            v for op in reduces for _ in self._states(op)
            for v in Accumulator.of(op).start(self.code, lanes)
        ]  # fmt: skip

    def _states(self, op: Op) -> list[Indices]:
        """Where along the unrolled axes the states of a reduction are."""
        nowhere = Index(self.code.i64(0))
        return self._places(op.operands[0], dict.fromkeys(self.form.all_axes, nowhere))

    def _step(self, reduces: Sequence[Op], at: Positions, carried: Sequence[Val]) -> list[Val]:
        result: list[Val] = []
        for op in reduces:
            parts = Accumulator.of(op).parts
            for index in self._places(op.operands[0], at):
                state = carried[len(result) : len(result) + parts]
                result += accumulate(self.elements, op, state, index)
        return result

    def _keep(self, reduces: Sequence[Op], states: Sequence[Val], *, across: bool) -> None:
        """Make the states, combined across lanes or lane by lane, the values of the reductions."""
        taken = 0
        for op in reduces:
            accumulator, found = Accumulator.of(op), dict[Indices, Elem]()
            span = self.form.span(op.result.shape)
            assert span is not None
            chosen = tuple(span.index(i) for i in self.form.unrolled if i in span)
            nowhere = dict.fromkeys(self.form.all_axes, Index(self.code.i64(0)))
            for index in self._places(op.result, nowhere):
                state = states[taken : taken + accumulator.parts]
                taken += accumulator.parts
                state = accumulator.across(self.kernel, state) if across else state
                found[tuple(index[k] for k in chosen)] = unpack(state)
            self.elements.overrides[op.result] = _looked_up(found, chosen)

    def _store(self, at: Positions) -> None:
        yielded = self.block.yielded
        places = [self._places(value, at) for value in yielded]
        values = [
            [self.elements.at(value, index) for index in there]
            for value, there in zip(yielded, places, strict=True)
        ]
        for output, there, found in zip(self.outputs, places, values, strict=True):
            if self._is_woven(output) and _are_rows(there):
                interleave.store(self.elements, output, there[0], found)  # type: ignore[arg-type]
                continue
            for index, element in zip(there, found, strict=True):
                self.elements.store(output, index, element)


def _are_rows(there: Sequence[Indices]) -> bool:
    """Whether these are all positions of the last axis, for lanes along the one before."""
    apart = len({index[-1] for index in there}) == len(there) > 1
    return apart and there[0][-2].step == 1


def _looked_up(found: dict[Indices, Elem], chosen: Axes) -> Override:
    return lambda index, guard: found[tuple(index[k] for k in chosen)]


def _sweeps(block: Block, form: Form) -> list[list[Op]]:
    """The reductions along the swept axes, by how many others each needs first."""
    depth: dict[Value, int] = {}
    found: list[list[Op]] = []
    for op in block.ops:
        level = max((depth.get(v, 0) for v in op.operands), default=0)
        if op.name == "reduce" and _is_swept(op, form):
            found += [[]] if level == len(found) else []
            found[level].append(op)
            level += 1
        for result in op.results:
            depth[result] = level
    return found


def _is_swept(op: Op, form: Form) -> bool:
    span = form.span(op.operands[0].shape)
    assert span is not None
    return tuple(sorted(span[i] for i in op.attrs["axes"])) == form.axes
