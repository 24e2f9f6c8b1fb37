"""Products of a few queries with a vector of keys: one key in each lane of the results."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.attention.operands import Operand, times
from graphmill.codegen.cpu.attention.problem import Problem
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import least, resize
from graphmill.codegen.cpu.contract.microkernel import add, multiply_add
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.ir.dtypes import DType

UNROLLED = 8  # vectors of a head up to which its loop is written out


def dots(
    problem: Problem, k: Operand, head: Val, key: Val, end: Val, queries: Val, pitch: int, rows: int
) -> list[Val]:
    """For each query the products with the keys `key …`; lanes from `end` on hold anything.

    `queries` are rows `pitch` apart, in the tile's type and padded with zeros.
    """
    if k.along == 1 and k.across != 1:
        return _side_by_side(problem, k, head, key, end, queries, pitch, rows)
    code, tile = problem.code, problem.tile
    last = code.add(end, -1)
    lines = [
        k.at(head, least(code, code.add(key, lane), last)) for lane in range(tile.lanes)
    ]  # fmt: skip
    found = []
    for row in range(rows):
        query = code.at(queries, row * pitch, tile.element)
        sums = [code.const(0, tile.vector)] * tile.lanes
        whole = problem.depth // tile.lanes * tile.lanes
        if whole <= UNROLLED * tile.lanes:
            for start in range(0, whole, tile.lanes):
                sums = _step(problem, k, query, lines, code.i64(start), None, sums)
        else:
            with code.loop(0, whole, tile.lanes, sums) as at:
                at.next = _step(problem, k, query, lines, at.i, None, at.carried)
            sums = at.results
        if whole < problem.depth:
            mask = memory.tail_mask(code, code.i64(problem.depth - whole), tile.lanes)
            sums = _step(problem, k, query, lines, code.i64(whole), mask, sums)
        found.append(lane_sums(code, sums, tile))
    return found


def _step(
    problem: Problem, k: Operand, query: Val, lines: Sequence[Val], start: Val, mask: Val | None,
    sums: Sequence[Val],
) -> list[Val]:  # fmt: skip
    """Add the products of a vector of the head's elements."""
    code, tile = problem.code, problem.tile
    left = code.load(code.at(query, start, tile.element), tile.vector, tile.bytes)
    first = times(code, start, k.across)
    result = []
    for line, sum_ in zip(lines, sums, strict=True):
        right = _loaded(code, line, first, k.across, k.dtype, tile.lanes, mask)
        result.append(multiply_add(code, tile, left, resize(code, right, tile.element), sum_))
    return result


def _loaded(
    code: Code, line: Val, first: Val, step: int | Val, dtype: DType, lanes: int, mask: Val | None
) -> Val:
    value = memory.load_strided(code, line, first, step, dtype, lanes, mask=mask)
    assert isinstance(value, Val)
    return value


def _side_by_side(
    problem: Problem, k: Operand, head: Val, key: Val, end: Val, queries: Val, pitch: int, rows: int
) -> list[Val]:
    """Keys are contiguous along their positions: sums of rows."""
    code, tile = problem.code, problem.tile
    mask = memory.tail_mask(code, code.binary("arith.subi", end, key), tile.lanes)
    zero = code.const(0, tile.vector)
    with code.loop(0, problem.depth, 1, [zero] * rows) as at:
        line = k.at(head, key, at.i)
        right = _loaded(code, line, code.i64(0), 1, k.dtype, tile.lanes, mask)
        right = resize(code, right, tile.element)
        following = []
        for row, sum_ in enumerate(at.carried):
            place = code.at(queries, code.add(at.i, row * pitch), tile.element)
            left = code.splat(code.load(place, tile.element, tile.bytes), tile.lanes)
            following.append(multiply_add(code, tile, left, right, sum_))
        at.next = following
    return at.results


def lane_sums(code: Code, vectors: Sequence[Val], tile: Tile) -> Val:
    """A vector whose lane i is the sum of the lanes of vector i; there are as many as lanes."""
    rows = list(vectors)
    while len(rows) > 1:
        rows = [_pair(code, a, b, tile) for a, b in zip(rows[::2], rows[1::2], strict=True)]
    return rows[0]


def _pair(code: Code, a: Val, b: Val, tile: Tile) -> Val:
    """Neighbouring lanes added: those of a, then those of b."""
    kinds = f"{a.type}, {b.type}"
    even, odd = (
        code.op(f"vector.shuffle {a}, {b} {list(range(start, 2 * a.lanes, 2))} : {kinds}", a.type)
        for start in (0, 1)
    )
    return add(code, tile, even, odd)
