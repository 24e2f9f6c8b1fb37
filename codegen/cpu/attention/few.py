"""Attention of a few queries, as in decoding: keys in the lanes, parallel over chunks of keys.

Keys and values are read once, so their bandwidth is the limit. A work item forms the scores of one
head for a chunk of keys, the largest, the exponentials, their sum and the weighted values; where
there are several chunks a second kernel merges them (Dao et al., "Flash-Decoding", 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.attention.dots import dots
from graphmill.codegen.cpu.attention.operands import Operand, times
from graphmill.codegen.cpu.attention.problem import At, Piece, Problem
from graphmill.codegen.cpu.attention.ranges import Ranges, ranges
from graphmill.codegen.cpu.attention.scratch import Scratch
from graphmill.codegen.cpu.attention.store import store_vector
from graphmill.codegen.cpu.contract.elements import least, load_wide, minus, most, resize
from graphmill.codegen.cpu.contract.microkernel import multiply_add
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.expr import Num, Scope, where
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index, unravel
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.math_exp import exp, exp_falling
from graphmill.codegen.cpu.memory import load_strided, tail_mask
from graphmill.ir.dims import DimLike, floordiv, product

CHUNK = 512  # keys of one work item
LARGEST, TOTAL, START = 0, 1, 16  # a row of partial results: where its parts begin


def emit_few(
    host: Host,
    begin: Callable[[str], Problem],
    info: Callable[[str], KernelInfo],
    rows: int,
) -> None:
    """Write and launch the kernel, and the merging one; `begin` begins one of a given name."""
    first = begin("")
    few = _Few(host, first, rows)
    heads = product(first.items)
    with few.each() as item:
        head, chunk = unravel(few.code, item, [0, few.count])
        few.item(head, chunk)
        if few.chunks == 1:
            few.merge(head)
    work = min(few.typical, CHUNK) * (first.depth + first.width) * few.rows
    host.launch(first.kernel, Launch(heads * few.chunks, grain(work)), info(first.kernel.name))
    if few.chunks == 1:
        return
    last = _Few(host, begin("_merge"), rows)
    with last.each() as head:
        last.merge(head)
    work = first.width * few.rows * few.typical // CHUNK
    name = last.problem.kernel.name
    host.launch(last.problem.kernel, Launch(heads, grain(work)), KernelInfo(name))


class _Few:
    """One kernel: its scratch memory and the parts of its items."""

    def __init__(self, host: Host, problem: Problem, rows: int) -> None:
        self.host, self.problem, self.code = host, problem, problem.code
        self.tile, self.found = problem.tile, problem.found
        self.scope = Scope.of(self.code, problem.kernel.target)
        keys = problem.keys
        self.rows, self.typical = rows, keys if isinstance(keys, int) else 2 * CHUNK
        self.chunks: DimLike = 1
        if not isinstance(keys, int) or keys > CHUNK:
            self.chunks = floordiv(keys + CHUNK - 1, CHUNK)
        self.count = problem.kernel.size(self.chunks)
        lanes = self.tile.lanes
        self.vectors = -(-problem.width // lanes)
        self.pitch = START + self.vectors * lanes  # of a row of partial results
        rows_of_all = product(problem.items) * self.chunks * rows
        self.scratch = Scratch(problem.kernel, rows_of_all * (self.pitch * self.tile.bytes))
        self.depth = -(-problem.depth // lanes) * lanes
        self.queries = self.scratch.take(rows * self.depth * self.tile.bytes)
        self.span = CHUNK + lanes
        self.scores = self.scratch.take(rows * self.span * self.tile.bytes)

    @contextmanager
    def each(self) -> Iterator[Val]:
        """The loop over work items."""
        kernel = self.problem.kernel
        with self.code.loop(kernel.begin, kernel.end) as loop, self.problem.elements.scope():
            yield loop.i
        self.scratch.close(self.host)

    def _at(self, head: Val) -> At:
        sizes = [self.problem.kernel.size(d) for d in self.problem.items]
        return dict(zip(self.found.items, unravel(self.code, head, sizes), strict=True))

    def _ranges(self, at: At) -> Ranges:
        zero = self.code.i64(0)
        return ranges(self.problem, at, zero, self.code.i64(self.rows - 1), 1)

    # ---- a chunk

    def item(self, head: Val, chunk: Val, *, all_keys: bool = False) -> None:
        """The partial results of one head and chunk of keys, those hidden from all left out."""
        code, at = self.code, self._at(head)
        keys = self.problem.kernel.dim(self.problem.keys)
        low = code.mul(chunk, CHUNK)
        high = least(code, code.add(low, CHUNK), keys)
        if not all_keys and self.problem.bounds:
            seen = self._ranges(at)
            low, high = most(code, low, seen.low), least(code, high, seen.high)
        high = most(code, high, low)
        self._load_queries(at)
        largest = self._scores(at, low, high)
        count = minus(code, high, low)
        out = self._partial(head, chunk)
        totals = self._powers(count, largest)
        for row, (top, total) in enumerate(zip(largest, totals, strict=True)):
            self._put(top, out, row * self.pitch + LARGEST)
            self._put(total, out, row * self.pitch + TOTAL)
        self._values(at, low, count, out)

    def _partial(self, head: Val, chunk: Val) -> Val:
        rows = self.code.add(self.code.mul(head, self.count), chunk) if self.chunks != 1 else head
        offset = self.code.mul(rows, self.rows * self.pitch)
        return self.code.at(self.scratch.shared, offset, self.tile.element)

    def _load_queries(self, at: At) -> None:
        """The queries in the tile's type, padded with zeros."""
        code, q, tile = self.code, self.problem.q, self.tile
        head = q.head(at)
        for row in range(self.rows):
            source = q.at(head, code.i64(row))
            for start in range(0, self.depth, tile.lanes):
                value = self._vector(q, source, start, self.problem.depth - start)
                self._put(value, self.queries, row * self.depth + start)

    def _scores(self, at: At, low: Val, high: Val) -> list[Val]:
        """Store the scores of the chunk; returns the largest of each query."""
        largest = [self.code.const(-np.inf, self.tile.vector)] * self.rows
        for piece in self.problem.pieces:
            start, end = self._inside(piece, low, high)
            largest = self._scores_of(piece, at, (start, end), low, largest)
        return [self._across(top, lambda a, b: a.max(b)) for top in largest]

    def _inside(self, piece: Piece, low: Val, high: Val) -> tuple[Val, Val]:
        """The positions of `low … high` that a piece holds."""
        if len(self.problem.pieces) == 1:
            return low, high
        code, kernel = self.code, self.problem.kernel
        start = most(code, low, kernel.dim(piece.start))
        return start, most(code, least(code, high, kernel.dim(piece.start + piece.size)), start)

    def _scores_of(
        self, piece: Piece, at: At, keys: tuple[Val, Val], low: Val, largest: list[Val]
    ) -> list[Val]:
        code, problem, lanes = self.code, self.problem, self.tile.lanes
        head, first = piece.k.head(at), problem.kernel.dim(piece.start)
        last = minus(code, keys[1], first)
        least_of_all = code.const(-np.inf, self.tile.vector)
        with code.loop(*keys, lanes, largest) as loop:
            inside = tail_mask(code, minus(code, keys[1], loop.i), lanes)
            key = minus(code, loop.i, first)
            sums = dots(problem, piece.k, head, key, last, self.queries, self.depth, self.rows)
            following = []
            for row, (product_, top) in enumerate(zip(sums, loop.carried, strict=True)):
                with problem.elements.scope(inside):
                    place = problem.index(at, Index(code.i64(row)), Index(loop.i, 1))
                    score = problem.score(product_, place)
                score = code.select(inside, score, least_of_all)
                offset = code.add(minus(code, loop.i, low), row * self.span)
                self._put(score, self.scores, offset)
                following.append(self._num(score).max(self._num(top)).val)
            loop.next = following
        return loop.results

    def _powers(self, count: Val, largest: list[Val]) -> list[Val]:
        """Scores become exponentials; returns their sums."""
        code, totals = self.code, []
        shifts = [code.splat(self._shift(top), self.tile.lanes) for top in largest]
        zero = code.const(0, self.tile.vector)
        for row, shift in enumerate(shifts):
            with code.loop(0, count, self.tile.lanes, [zero]) as loop:
                offset = code.add(loop.i, row * self.span)
                x = self._num(self._get(self.scores, offset, self.tile.vector))
                power = exp_falling(x - self._num(shift)) if self.found.shifted else exp(x)
                self._put(power.val, self.scores, offset)
                loop.next = [(self._num(loop.carried[0]) + power).val]
            totals.append(self._across(loop.results[0], lambda a, b: a + b))
        return totals

    def _values(self, at: At, low: Val, count: Val, out: Val) -> None:
        """The values weighted by the exponentials, a few vectors of the head at a time."""
        code, tile = self.code, self.tile
        held = max(1, self.problem.kernel.target.registers // 2 // self.rows)
        zero = code.const(0, tile.vector)
        for first in range(0, self.vectors, held):
            some = range(first, min(first + held, self.vectors))
            sums = [zero] * (self.rows * len(some))
            for piece in self.problem.pieces:
                sums = self._values_of(piece, at, (low, code.add(low, count)), some, sums)
            for row in range(self.rows):
                for n, vector in enumerate(some):
                    to = row * self.pitch + START + vector * tile.lanes
                    self._put(sums[row * len(some) + n], out, to)

    def _values_of(
        self, piece: Piece, at: At, keys: tuple[Val, Val], some: range, sums: list[Val]
    ) -> list[Val]:
        code, tile, v = self.code, self.tile, piece.v
        head, first = v.head(at), self.problem.kernel.dim(piece.start)
        with code.loop(*self._inside(piece, *keys), 1, sums) as key:
            line, state = v.at(head, minus(code, key.i, first)), list(key.carried)
            for n, vector in enumerate(some):
                start = vector * tile.lanes
                value = self._vector(v, line, start, self.problem.width - start)
                for row in range(self.rows):
                    place = code.add(minus(code, key.i, keys[0]), row * self.span)
                    weight = code.splat(self._get(self.scores, place), tile.lanes)
                    to = row * len(some) + n
                    state[to] = multiply_add(code, tile, weight, value, state[to])
            key.next = state
        return key.results

    # ---- all chunks of a head

    def merge(self, head: Val) -> None:
        """Scale the chunks' results to the largest score of all, add, divide and store."""
        code = self.code
        fills = [b.fill for b in self.problem.bounds if b.fill != -np.inf]
        if fills:
            self._look_again(head, max(fills) / 2)
        at = self._at(head)
        out = self.problem.out.head(at)
        for row in range(self.rows):
            largest = self._largest(head, row)
            shift, lanes = self._shift(largest), self.tile.lanes
            start = [code.const(0, self.tile.element)]
            start += [code.const(0, self.tile.vector)] * self.vectors
            with code.loop(0, self._count(), 1, start) as chunk:
                partial = self._partial(head, chunk.i)
                scale = code.const(1, self.tile.element)
                if self.found.shifted:
                    top = self._get(partial, row * self.pitch + LARGEST)
                    scale = exp_falling(self._num(top) - self._num(shift)).val
                values = [self._get(partial, row * self.pitch + TOTAL)]
                for vector in range(self.vectors):
                    place = row * self.pitch + START + vector * lanes
                    values.append(self._get(partial, place, self.tile.vector))
                chunk.next = [
                    multiply_add(code, self.tile, value, code.splat(scale, value.lanes), sum_)
                    for value, sum_ in zip(values, chunk.carried, strict=True)
                ]
            total = self._num(chunk.results[0])
            if self.found.blind:
                total = where(self._num(largest).eq(-np.inf), 1.0, total)
            divisor = self._num(code.splat(total.val, lanes))
            target = self.problem.out.at(out, code.i64(row))
            for vector, sum_ in enumerate(chunk.results[1:]):
                store_vector(self.problem, (self._num(sum_) / divisor).val, target, vector * lanes)

    def _look_again(self, head: Val, bound: float) -> None:
        """Where a query saw no key to speak of, take the hidden ones in as well."""
        code, blind = self.code, self.code.const(False, "i1")
        for row in range(self.rows):
            small = self._num(self._largest(head, row)) <= bound
            blind = code.binary("arith.ori", blind, small.val)
        with code.when(blind), code.loop(0, self._count()) as chunk:
            self.item(head, chunk.i, all_keys=True)

    def _largest(self, head: Val, row: int) -> Val:
        code = self.code
        start = code.const(-np.inf, self.tile.element)
        with code.loop(0, self._count(), 1, [start]) as chunk:
            top = self._get(self._partial(head, chunk.i), row * self.pitch + LARGEST)
            chunk.next = [self._num(top).max(self._num(chunk.carried[0])).val]
        return chunk.results[0]

    def _count(self) -> Val:
        return self.code.i64(self.count) if isinstance(self.count, int) else self.count

    # ---- values

    def _vector(self, operand: Operand, line: Val, start: int, left: int) -> Val:
        """`lanes` elements of a head from `start` on, zeros beyond its end."""
        code, tile = self.code, self.tile
        mask = None if left >= tile.lanes else tail_mask(code, code.i64(left), tile.lanes)
        if mask is None and operand.across == 1:
            return load_wide(code, line, start, operand.dtype, tile.element, tile.lanes)
        first = times(code, code.i64(start), operand.across)
        value = load_strided(
            code, line, first, operand.across, operand.dtype, tile.lanes, mask=mask
        )
        assert isinstance(value, Val)
        return resize(code, value, tile.element)

    def _across(self, value: Val, combine: Callable[[Num, Num], Num]) -> Val:
        """All lanes of a vector combined, by halves."""
        code = self.code
        while value.lanes > 1:
            half = value.lanes // 2
            kind = f"vector<{half}x{value.element}>"
            parts = [
                code.op(f"vector.shuffle {value}, {value} {list(range(at, at + half))} : "
                        f"{value.type}, {value.type}", kind)
                for at in (0, half)
            ]  # fmt: skip
            value = combine(self._num(parts[0]), self._num(parts[1])).val
        return code.op(f"vector.extract {value}[0] : {value.element} from {value.type}",
                       value.element)  # fmt: skip

    def _shift(self, largest: Val) -> Val:
        value = self._num(largest)
        return where(value.eq(-np.inf), 0.0, value).val

    def _num(self, value: Val) -> Num:
        return Num(self.scope, value)

    def _get(self, base: Val, index: Val | int, kind: str = "") -> Val:
        tile = self.tile
        return self.code.load(self.code.at(base, index, tile.element), kind or tile.element,
                              tile.bytes)  # fmt: skip

    def _put(self, value: Val, base: Val, index: Val | int) -> None:
        self.code.store(value, self.code.at(base, index, self.tile.element), self.tile.bytes)
