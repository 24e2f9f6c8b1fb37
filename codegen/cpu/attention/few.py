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
from graphmill.codegen.cpu.attention.norm import divisor
from graphmill.codegen.cpu.attention.operands import Operand, times
from graphmill.codegen.cpu.attention.problem import At, Piece, Problem
from graphmill.codegen.cpu.attention.ranges import Ranges, ranges
from graphmill.codegen.cpu.attention.scratch import Scratch
from graphmill.codegen.cpu.attention.store import store_vector
from graphmill.codegen.cpu.attention.tiles import Tiles
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
CHUNKS = (128, 256, 512, 1024, 2048)
DOTS = 2  # queries up to which products are summed key by key, from keys as they lie
LARGEST, TOTAL, START = 0, 1, 16  # a row of partial results: where its parts begin


def emit_few(
    host: Host,
    begin: Callable[[str], Problem],
    info: Callable[[str], KernelInfo],
    rows: int,
) -> None:
    """Write and launch the kernel, and the merging one; `begin` begins one of a given name."""
    first = begin("")
    chunk = first.kernel.choices.pick("chunk", CHUNK, CHUNKS)
    few = _Few(host, first, rows, chunk)
    heads = product(first.items)
    with few.each() as item:
        head, number = unravel(few.code, item, [0, few.count])
        few.item(head, number)
        if few.chunks == 1:
            few.merge(head)
    work = min(few.typical, chunk) * (first.depth + first.width) * few.rows
    if few.tiles is not None:
        work //= few.tile.lanes  # in tiles a vector of products takes one operation
    host.launch(first.kernel, Launch(heads * few.chunks, grain(work)), info(first.kernel.name))
    if few.chunks == 1:
        return
    last = _Few(host, begin("_merge"), rows, chunk)
    with last.each() as head:
        last.merge(head)
    work = first.width * few.rows * few.typical // chunk
    name = last.problem.kernel.name
    host.launch(last.problem.kernel, Launch(heads, grain(work)), KernelInfo(name))


class _Few:
    """One kernel: its scratch memory and the parts of its items."""

    def __init__(self, host: Host, problem: Problem, rows: int, chunk: int) -> None:
        self.chunk = chunk
        self.host, self.problem, self.code = host, problem, problem.code
        self.tile, self.found = problem.tile, problem.found
        self.shifted = problem.found.softmax.shifted
        self.scope = Scope.of(self.code, problem.kernel.target)
        keys = problem.keys
        self.rows, self.typical = rows, keys if isinstance(keys, int) else 2 * chunk
        self.chunks: DimLike = 1
        if not isinstance(keys, int) or keys > chunk:
            self.chunks = floordiv(keys + chunk - 1, chunk)
        self.count = problem.kernel.size(self.chunks)
        lanes = self.tile.lanes
        self.vectors = -(-problem.width // lanes)
        self.pitch = START + self.vectors * lanes  # of a row of partial results
        rows_of_all = product(problem.items) * self.chunks * rows
        self.scratch = Scratch(problem.kernel, rows_of_all * (self.pitch * self.tile.bytes))
        self.depth = -(-problem.depth // lanes) * lanes
        self.queries = self.scratch.take(rows * self.depth * self.tile.bytes)
        slack = self.tile.columns
        self.span = chunk + slack
        scores = self.scratch.take((rows * self.span + slack) * self.tile.bytes)
        self.scores = self.code.at(scores, slack, self.tile.element)
        self.tiles = Tiles(problem, self.scratch, rows, chunk) if rows > DOTS else None

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
        low = code.mul(chunk, self.chunk)
        high = least(code, code.add(low, self.chunk), keys)
        if not all_keys and self.problem.bounds:
            seen = self._ranges(at)
            low, high = most(code, low, seen.low), least(code, high, seen.high)
        high = most(code, high, low)
        self._load_queries(at)
        for piece in self.problem.pieces:
            self._products(piece, at, (low, high))
        out = self._partial(head, chunk)
        with code.loop(0, self.rows) as row:
            self._powers(at, row.i, (low, high), self._line(out, row.i, self.pitch))
        self._values(at, (low, high), out)

    def _partial(self, head: Val, chunk: Val) -> Val:
        rows = self.code.add(self.code.mul(head, self.count), chunk) if self.chunks != 1 else head
        return self._line(self.scratch.shared, rows, self.rows * self.pitch)

    def _load_queries(self, at: At) -> None:
        """The queries in the tile's type, padded with zeros."""
        code, q, tile = self.code, self.problem.q, self.tile
        head = q.head(at)
        with code.loop(0, self.rows) as row:
            source = q.at(head, row.i)
            target = self._line(self.queries, row.i, self.depth)
            for start in range(0, self.depth, tile.lanes):
                value = self._vector(q, source, start, self.problem.depth - start)
                self._put(value, target, start)

    def _inside(self, piece: Piece, keys: tuple[Val, Val]) -> tuple[Val, Val, Val]:
        """The positions in a piece, from … to, of the `keys` that it holds; its first's in them."""
        code, kernel = self.code, self.problem.kernel
        if len(self.problem.pieces) == 1:
            return *keys, code.i64(0)
        first = kernel.dim(piece.start)
        start = most(code, keys[0], first)
        end = most(code, least(code, keys[1], kernel.dim(piece.start + piece.size)), start)
        return minus(code, start, first), minus(code, end, first), minus(code, start, keys[0])

    def _products(self, piece: Piece, at: At, keys: tuple[Val, Val]) -> None:
        """Store the products of the queries with the keys of a chunk that a piece holds."""
        code, lanes = self.code, self.tile.lanes
        start, end, offset = self._inside(piece, keys)
        out = code.at(self.scores, offset, self.tile.element)
        if self.tiles is not None:
            given = (self.queries, self.depth)
            self.tiles.scores(piece, at, (start, end), given, (out, self.span))
            return
        head = piece.k.head(at)
        with code.loop(start, end, lanes) as key:
            found = dots(self.problem, piece.k, head, key.i, end, self.queries, self.depth,
                         self.rows)  # fmt: skip
            for row, sums in enumerate(found):
                self._put(sums, out, code.add(minus(code, key.i, start), row * self.span))

    def _powers(self, at: At, row: Val, keys: tuple[Val, Val], out: Val) -> None:
        """Products become exponentials of scores; `out` gets the largest score and their sum."""
        code, problem, tile = self.code, self.problem, self.tile
        scores, hidden = self._line(self.scores, row, self.span), code.const(-np.inf, tile.vector)
        with code.loop(*keys, tile.lanes, [hidden]) as key:
            place = minus(code, key.i, keys[0])
            inside = tail_mask(code, minus(code, keys[1], key.i), tile.lanes)
            with problem.elements.scope(inside):
                index = problem.index(at, Index(row), Index(key.i, 1))
                score = problem.score(self._get(scores, place, tile.vector), index)
            score = code.select(inside, score, hidden)
            self._put(score, scores, place)
            key.next = [self._num(score).max(self._num(key.carried[0])).val]
        largest = self._across(key.results[0], lambda a, b: a.max(b))
        shift = self._num(code.splat(self._shift(largest), tile.lanes))
        with code.loop(
            0, minus(code, keys[1], keys[0]), tile.lanes, [code.const(0, tile.vector)]
        ) as key:
            x = self._num(self._get(scores, key.i, tile.vector))
            power = exp_falling(x - shift) if self.shifted else exp(x)
            self._put(power.val, scores, key.i)
            key.next = [(self._num(key.carried[0]) + power).val]
        self._put(largest, out, LARGEST)
        self._put(self._across(key.results[0], lambda a, b: a + b), out, TOTAL)

    def _values(self, at: At, keys: tuple[Val, Val], out: Val) -> None:
        """The values weighted by the exponentials."""
        code, tile = self.code, self.tile
        results = code.at(out, START, tile.element)
        for number, piece in enumerate(self.problem.pieces):
            start, end, offset = self._inside(piece, keys)
            weights = (code.at(self.scores, offset, tile.element), self.span)
            if self.tiles is None:
                self._sums(piece, at, (start, end), weights[0], results, number > 0)
            else:
                count = minus(code, end, start)
                self.tiles.weighted(piece, at, start, count, weights, (results, self.pitch),
                                    number > 0)  # fmt: skip

    def _sums(
        self, piece: Piece, at: At, keys: tuple[Val, Val], weights: Val, out: Val, add: bool
    ) -> None:
        """Add values key by key, a few vectors of the head at a time."""
        code, tile, v = self.code, self.tile, piece.v
        held = max(1, self.problem.kernel.target.registers // 2 // self.rows)
        head, zero = v.head(at), code.const(0, tile.vector)
        for first in range(0, self.vectors, held):
            places = [
                (row, vector, row * self.pitch + vector * tile.lanes)
                for vector in range(first, min(first + held, self.vectors))
                for row in range(self.rows)
            ]
            sums = [self._get(out, to, tile.vector) if add else zero for _, _, to in places]
            with code.loop(*keys, 1, sums) as key:
                line, state = v.at(head, key.i), []
                for (row, vector, _), sum_ in zip(places, key.carried, strict=True):
                    start = vector * tile.lanes
                    if row == 0:
                        value = self._vector(v, line, start, self.problem.width - start)
                    place = code.add(minus(code, key.i, keys[0]), row * self.span)
                    weight = code.splat(self._get(weights, place), tile.lanes)
                    state.append(multiply_add(code, tile, weight, value, sum_))
                key.next = state
            for (_, _, to), sum_ in zip(places, key.results, strict=True):
                self._put(sum_, out, to)

    # ---- all chunks of a head

    def merge(self, head: Val) -> None:
        """Scale the chunks' results to the largest score of all, add, divide and store."""
        fills = [b.fill for b in self.problem.bounds if b.fill != -np.inf]
        if fills:
            self._look_again(head, max(fills) / 2)
        at = self._at(head)
        out = self.problem.out.head(at)
        with self.code.loop(0, self.rows) as row:
            self._finish(head, at, row.i, self.problem.out.at(out, row.i))

    def _finish(self, head: Val, at: At, row: Val, target: Val) -> None:
        """Store one query's results at `target`."""
        code, lanes = self.code, self.tile.lanes
        largest = self._largest(head, row)
        shift = self._shift(largest)
        start = [code.const(0, self.tile.element)]
        start += [code.const(0, self.tile.vector)] * self.vectors
        with code.loop(0, self._count(), 1, start) as chunk:
            partial = self._line(self._partial(head, chunk.i), row, self.pitch)
            scale = code.const(1, self.tile.element)
            if self.shifted:
                top = self._get(partial, LARGEST)
                scale = exp_falling(self._num(top) - self._num(shift)).val
            values = [self._get(partial, TOTAL)]
            for vector in range(self.vectors):
                values.append(self._get(partial, START + vector * lanes, self.tile.vector))
            chunk.next = [
                multiply_add(code, self.tile, value, code.splat(scale, value.lanes), sum_)
                for value, sum_ in zip(values, chunk.carried, strict=True)
            ]
        total = divisor(self.problem, at, Index(row), largest, chunk.results[0])
        by = self._num(code.splat(total, lanes))
        for vector, sum_ in enumerate(chunk.results[1:]):
            store_vector(self.problem, (self._num(sum_) / by).val, target, vector * lanes)

    def _look_again(self, head: Val, bound: float) -> None:
        """Where a query saw no key to speak of, take the hidden ones in as well."""
        code = self.code
        with code.loop(0, self.rows, 1, [code.const(False, "i1")]) as row:
            small = self._num(self._largest(head, row.i)) <= bound
            row.next = [code.binary("arith.ori", row.carried[0], small.val)]
        with code.when(row.results[0]), code.loop(0, self._count()) as chunk:
            self.item(head, chunk.i, all_keys=True)

    def _largest(self, head: Val, row: Val) -> Val:
        code = self.code
        start = code.const(-np.inf, self.tile.element)
        with code.loop(0, self._count(), 1, [start]) as chunk:
            partial = self._line(self._partial(head, chunk.i), row, self.pitch)
            top = self._get(partial, LARGEST)
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

    def _line(self, base: Val, row: Val, pitch: int) -> Val:
        return self.code.at(base, self.code.mul(row, pitch), self.tile.element)

    def _get(self, base: Val, index: Val | int, kind: str = "") -> Val:
        tile = self.tile
        return self.code.load(self.code.at(base, index, tile.element), kind or tile.element,
                              tile.bytes)  # fmt: skip

    def _put(self, value: Val, base: Val, index: Val | int) -> None:
        self.code.store(value, self.code.at(base, index, self.tile.element), self.tile.bytes)
