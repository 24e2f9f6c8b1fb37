"""Attention of many queries: panels of queries in the lanes, over blocks of keys.

For each panel of queries: its transpose is packed; then for each block of keys the scores are
`keys × queries` products, masks and biases are applied while the largest of each column is found,
the exponentials are formed and summed, and `width × queries` products are added to the results.
"""

from __future__ import annotations

import numpy as np

from graphmill.codegen.cpu.attention.masks import Turned, masks
from graphmill.codegen.cpu.attention.norm import divisor
from graphmill.codegen.cpu.attention.operands import Operand, times
from graphmill.codegen.cpu.attention.problem import At, Problem
from graphmill.codegen.cpu.attention.ranges import Ranges, ranges
from graphmill.codegen.cpu.attention.scratch import Scratch
from graphmill.codegen.cpu.attention.store import stage_elements, store_panel
from graphmill.codegen.cpu.contract.elements import (
    ceil_div,
    is_plain,
    least,
    load_wide,
    minus,
)
from graphmill.codegen.cpu.contract.microkernel import FETCHED, microkernel
from graphmill.codegen.cpu.contract.packing import pack_b
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.expr import Num, Scope, where
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index, unravel
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.math_exp import LOG2E, exp, exp2_falling, exp_falling
from graphmill.codegen.cpu.memory import tail_mask
from graphmill.ir.dims import DimLike, floordiv, product

BLOCK = 132  # keys of a block: their scores stay in the first levels of cache
BLOCKS = (48, 66, 96, 132, 192, 264, 384, 528)
TYPICAL = 256  # keys where their number is known at run time only


def emit_panels(host: Host, problem: Problem) -> Launch:
    """Write the kernel; work items are panels of queries, those of one head in a row."""
    panels = _Panels(host, problem)
    code = problem.code
    with code.loop(problem.kernel.begin, problem.kernel.end) as item:
        panels.item(item.i)
    panels.scratch.close(host)
    columns = problem.tile.columns
    count = floordiv(problem.rows + columns - 1, columns)
    keys = problem.keys if isinstance(problem.keys, int) else TYPICAL
    work = columns * keys * (problem.depth + problem.width) // problem.tile.lanes
    return Launch(product([*problem.items, count]), grain(work))


def _block(keys: DimLike, rows: int, most: int) -> tuple[int, int]:
    """Keys of a block, all about equally many, and of a tile."""
    if not isinstance(keys, int):
        return most // rows * rows, rows
    rows = max(1, min(rows, keys))
    even = -(-keys // max(1, -(-keys // most)))
    return max(1, min(-(-even // rows) * rows, keys)), rows


class _Panels:
    """The loops over one item: a panel of at most `tile.columns` queries."""

    def __init__(self, host: Host, problem: Problem) -> None:
        self.problem, self.code, self.tile = problem, problem.code, problem.tile
        self.unit, self.found = problem.kernel.unit, problem.found
        self.shifted = problem.found.softmax.shifted
        self.scope = Scope.of(self.code, problem.kernel.target)
        scale = problem.scale()
        self.scale = 1.0 if scale is None else scale
        self.factor = None if scale is None else scale * LOG2E
        most = problem.kernel.choices.pick("block", BLOCK, BLOCKS)
        self.block, self.height = _block(problem.keys, self.tile.rows, most)
        tile, slack, columns = self.tile, self.height, self.tile.columns
        self.scratch = Scratch(problem.kernel)
        self.queries = self._array(problem.depth * columns)
        self.scores = self.code.at(
            self._array((self.block + slack) * columns), slack * columns, tile.element
        )
        self.sums = self._array(problem.width * columns)
        self.stage = self._array(stage_elements(problem))
        self.largest, self.totals = self._array(columns), self._array(columns)
        self.k_wide = self._wide(problem.k, problem.depth, slack)
        self.v_wide = self._wide(problem.v, problem.width, 0)
        found = masks(problem)
        arrays = [self._array(self.block * columns) for _ in found]
        self.turned = Turned(problem, found, arrays)
        self.steps = [v * tile.lanes for v in range(tile.vectors)]

    def _array(self, elements: int) -> Val:
        return self.scratch.take(elements * self.tile.bytes)

    def _wide(self, operand: Operand, elements: int, slack: int) -> Val | None:
        """Memory for a block of 16-bit keys or values in the tile's type."""
        if is_plain(operand.dtype, self.tile.element):
            return None
        base = self._array((self.block + slack) * elements)
        return self.code.at(base, slack * elements, self.tile.element)

    # ---- an item

    def item(self, number: Val) -> None:
        """All blocks of keys for one panel."""
        code, problem, columns = self.code, self.problem, self.tile.columns
        rows, keys = problem.kernel.dim(problem.rows), problem.kernel.dim(problem.keys)
        panels = ceil_div(code, rows, columns)
        sizes = [problem.kernel.size(d) for d in problem.items]
        head, panel = unravel(code, number, [0, panels])
        self.at: At = dict(zip(self.found.items, unravel(code, head, sizes), strict=True))
        first = code.mul(self._spread(panel, panels), columns)
        self.first, self.left = first, least(code, minus(code, rows, first), code.i64(columns))
        self.tails = [
            tail_mask(code, code.add(self.left, -step), self.tile.lanes) for step in self.steps
        ]
        self.k_head, self.v_head = problem.k.head(self.at), problem.v.head(self.at)
        with problem.elements.scope():
            self._begin()
            last = code.add(code.add(first, self.left), -1)
            seen = ranges(problem, self.at, first, last, self.height)
            self._blocks(seen, keys)
            self._end()

    def _spread(self, panel: Val, panels: Val) -> Val:
        """Under a causal mask later panels take longer: alternate between the two ends."""
        code = self.code
        if not any(bound.slope for bound in self.problem.bounds):
            return panel
        half = code.binary("arith.divui", panel, code.i64(2))
        odd = code.binary("arith.remui", panel, code.i64(2))
        back = code.add(minus(code, panels, half), -1)
        return code.select(code.compare("arith.cmpi", "eq", odd, code.i64(0)), half, back)

    def _begin(self) -> None:
        """Pack the queries; nothing is seen yet."""
        code, q, tile = self.code, self.problem.q, self.tile
        start = q.at(q.head(self.at), self.first)
        pack = pack_b(self.unit, tile, q.dtype, q.order())
        strides = [s if isinstance(s, Val) else code.i64(s) for s in (q.across, q.along)]
        zero, one, depth = code.i64(0), code.i64(1), code.i64(self.problem.depth)
        code.call(pack, [start, *strides, depth, self.left, zero, one, self.queries])
        for step in self.steps:
            self._put(code.const(-np.inf, tile.vector), self.largest, step)
            self._put(code.const(0, tile.vector), self.totals, step)
        with code.loop(0, self.problem.width * tile.columns, tile.columns) as row:
            for step in self.steps:
                self._put(code.const(0, tile.vector), self.sums, code.add(row.i, step))

    def _blocks(self, seen: Ranges, keys: Val) -> None:
        """The keys that are seen; then, where a query saw none to speak of, the others."""
        code = self.code
        parts = [(seen.low, seen.high)]
        if seen.fill is not None:
            parts += [p for p, some in zip(((seen.high, keys), (code.i64(0), seen.low)),
                                           seen.bounded[::-1], strict=True) if some]  # fmt: skip
        with code.loop(0, len(parts)) as part:
            low, high = parts[0]
            for number, (start, end) in enumerate(parts[1:], 1):
                here = code.compare("arith.cmpi", "eq", part.i, code.i64(number))
                low, high = code.select(here, start, low), code.select(here, end, high)
            if seen.fill is not None:
                begun = code.compare("arith.cmpi", "eq", part.i, code.i64(0))
                needed = code.binary("arith.ori", begun, self._hardly(seen.fill))
                high = code.select(needed, high, low)
            with code.loop(low, high, self.block) as block, self.problem.elements.scope():
                count = least(code, minus(code, high, block.i), code.i64(self.block))
                self._block(block.i, count, seen)

    def _hardly(self, fill: float) -> Val:
        """Whether the largest score of some query is not far above that of hidden keys."""
        code, result = self.code, self.code.const(False, "i1")
        bound = code.const(fill / 2, self.tile.vector)
        for step, tail in zip(self.steps, self.tails, strict=True):
            small = code.compare("arith.cmpf", "ole", self._get(self.largest, step), bound)
            small = code.binary("arith.andi", small, tail)
            some = code.op(f"vector.reduction <or>, {small} : {small.type} into i1", "i1")
            result = code.binary("arith.ori", result, some)
        return result

    def _block(self, key: Val, count: Val, seen: Ranges) -> None:
        code = self.code
        self._products(key, count)
        self.turned.load(self.at, self.first, self.left, key, count)
        if self.problem.bounds:
            low, high = seen.clear
            inside = code.binary(
                "arith.andi", code.compare("arith.cmpi", "sge", key, low),
                code.compare("arith.cmpi", "sle", code.add(key, count), high),
            )  # fmt: skip
            with code.when(inside), self.problem.everywhere():
                self._prepare(key, count)
            with code.otherwise():
                self._prepare(key, count)
        else:
            self._prepare(key, count)
        self._powers(count)
        self._add(key, count)

    # ---- the steps of a block

    def _products(self, key: Val, count: Val) -> None:
        """Scores of `count` keys, `height` at a time, the last ones again where it is uneven."""
        code, k, tile = self.code, self.problem.k, self.tile
        depth, columns = code.i64(self.problem.depth), code.i64(tile.columns)
        fetched = code.i64(FETCHED)
        base, along, across = self._operand(
            k, self.k_head, key, count, self.k_wide, self.problem.depth
        )
        values = self.problem.v.at(self.v_head, key)

        def tiles(height: int) -> None:
            kernel = microkernel(self.unit, tile, height)
            with code.loop(0, count, height) as at:
                row = least(code, at.i, code.add(count, -height))
                source = code.at(base, times(code, row, along), tile.element)
                target = code.at(self.scores, code.mul(row, columns), tile.element)
                ahead = self.problem.v.at(values, row)
                strides = [s if isinstance(s, Val) else code.i64(s) for s in (along, across)]
                code.call(kernel, [source, *strides, self.queries, columns, depth, target, columns,
                                   code.i64(0), ahead, fetched, target, columns])  # fmt: skip

        if isinstance(self.problem.keys, int):
            tiles(self.height)
            return
        all_keys = self.problem.kernel.dim(self.problem.keys)
        with code.when(code.compare("arith.cmpi", "sge", all_keys, code.i64(self.height))):
            tiles(self.height)
        with code.otherwise():
            tiles(1)

    def _operand(
        self, operand: Operand, head: Val, key: Val, count: Val, wide: Val | None, elements: int
    ) -> tuple[Val, Val | int, Val | int]:
        """A block of keys or values in the tile's type: its address and strides."""
        source = operand.at(head, key)
        if wide is None:
            return source, operand.along, operand.across
        code, tile = self.code, self.tile
        with code.loop(0, count) as row:
            line = operand.at(source, row.i)
            target = code.at(wide, code.mul(row.i, elements), tile.element)
            lanes = tile.lanes if operand.across == 1 else 0
            bulk = elements // lanes * lanes if lanes else 0
            for start in range(0, bulk, tile.lanes):
                value = load_wide(code, line, start, operand.dtype, tile.element, lanes)
                code.store(value, code.at(target, start, tile.element), tile.bytes)
            with code.loop(bulk, elements) as at:
                index = times(code, at.i, operand.across)
                value = load_wide(code, line, index, operand.dtype, tile.element)
                code.store(value, code.at(target, at.i, tile.element), tile.bytes)
        return wide, elements, 1

    def _prepare(self, key: Val, count: Val) -> None:
        """Apply masks and biases; find the largest scores and scale what was summed before."""
        code, width = self.code, self.problem.width
        if not self.shifted and self.factor is not None:
            return
        before = [self._get(self.largest, step) for step in self.steps]
        with code.loop(0, count, 1, before) as row:
            row.next = [self._score(key, row.i, v, top) for v, top in enumerate(row.carried)]
        if not self.shifted:
            return
        scales = []
        for step, old, new in zip(self.steps, before, row.results, strict=True):
            self._put(new, self.largest, step)
            scale = self._power(self._num(old), self._shift(new))
            total = self._num(self._get(self.totals, step)) * scale
            self._put(total.val, self.totals, step)
            scales.append(scale)
        with code.loop(0, width * self.tile.columns, self.tile.columns) as at:
            for step, by in zip(self.steps, scales, strict=True):
                place = code.add(at.i, step)
                self._put((self._num(self._get(self.sums, place)) * by).val, self.sums, place)

    def _score(self, key: Val, row: Val, v: int, largest: Val) -> Val:
        """The score of a key for a vector of queries goes in its product's place; the largest."""
        code, problem = self.code, self.problem
        place = code.add(code.mul(row, self.tile.columns), self.steps[v])
        value = self._get(self.scores, place)
        if self.factor is None:
            with problem.elements.scope(self.tails[v]):
                queries = Index(code.add(self.first, self.steps[v]), 1)
                self.turned.row, self.turned.vector = row, v
                index = problem.index(self.at, queries, Index(code.add(key, row)))
                value = problem.score(value, index)
            self._put(value, self.scores, place)
        return self._num(value).max(self._num(largest)).val

    def _powers(self, count: Val) -> None:
        """Scores become exponentials, which are summed."""
        code = self.code
        shifts = [self._shift(self._get(self.largest, step)) for step in self.steps]
        with code.loop(0, count, 1, [self._get(self.totals, s) for s in self.steps]) as row:
            sums = []
            for step, shift, total in zip(self.steps, shifts, row.carried, strict=True):
                place = code.add(code.mul(row.i, self.tile.columns), step)
                power = self._power(self._num(self._get(self.scores, place)), shift)
                self._put(power.val, self.scores, place)
                sums.append((self._num(total) + power).val)
            row.next = sums
        for step, total in zip(self.steps, row.results, strict=True):
            self._put(total, self.totals, step)

    def _power(self, score: Num, shift: Num) -> Num:
        """The exponential of a score less `shift`.

        Where scores are plainly scaled they are still products here, and the scale goes into the
        one multiplication that changes the base to 2.
        """
        if self.factor is None:
            return exp_falling(score - shift) if self.shifted else exp(score)
        if not self.shifted:
            return exp(score * self.scale)
        return exp2_falling((score - shift) * self.factor)

    def _add(self, key: Val, count: Val) -> None:
        """Add the values, weighted by the exponentials."""
        code, tile, width = self.code, self.tile, self.problem.width
        base, along, across = self._operand(
            self.problem.v, self.v_head, key, count, self.v_wide, width
        )
        columns, fetched = code.i64(tile.columns), code.i64(FETCHED)
        tiles = -(-width // tile.rows)
        height, longer = divmod(width, tiles)
        strides = [s if isinstance(s, Val) else code.i64(s) for s in (across, along)]
        start = 0
        for rows, number in ((height + 1, longer), (height, tiles - longer)):
            if not number:
                continue
            kernel = microkernel(self.unit, tile, rows)
            with code.loop(start, start + rows * number, rows) as at:
                source = code.at(base, times(code, at.i, across), tile.element)
                target = code.at(self.sums, code.mul(at.i, columns), tile.element)
                code.call(kernel, [source, *strides, self.scores, columns, count, target, columns,
                                   code.i64(1), source, fetched, target, columns])  # fmt: skip
            start += rows * number

    def _end(self) -> None:
        """Divide by the sums of exponentials and store."""
        code, tile = self.code, self.tile
        totals = []
        for step, tail in zip(self.steps, self.tails, strict=True):
            largest = (self._num(self._get(self.largest, step)) * self.scale).val
            queries = Index(code.add(self.first, step), 1)
            known = largest, self._get(self.totals, step)
            total = self._num(divisor(self.problem, self.at, queries, *known, tail))
            totals.append(1.0 / total if self.shifted else total)
        with code.loop(0, self.problem.width * tile.columns, tile.columns) as row:
            for step, total in zip(self.steps, totals, strict=True):
                place = code.add(row.i, step)
                value = self._num(self._get(self.sums, place))
                done = value * total if self.shifted else value / total
                self._put(done.val, self.sums, place)
        out = self.problem.out
        store_panel(
            self.problem, self.sums, out.at(out.head(self.at), self.first), self.left, self.stage
        )

    # ---- values

    def _shift(self, largest: Val) -> Num:
        """What is subtracted from scores: the largest, 0 while there is none above -inf."""
        value = self._num(largest)
        return where(value.eq(-np.inf), 0.0, value)

    def _num(self, value: Val) -> Num:
        return Num(self.scope, value)

    def _get(self, base: Val, index: Val | int) -> Val:
        tile = self.tile
        return self.code.load(self.code.at(base, index, tile.element), tile.vector, tile.bytes)

    def _put(self, value: Val, base: Val, index: Val | int) -> None:
        tile = self.tile
        self.code.store(value, self.code.at(base, index, tile.element), tile.bytes)
