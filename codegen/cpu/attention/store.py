"""Storing a panel of finished results: `width × queries` as the output wants it."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.attention.operands import times
from graphmill.codegen.cpu.attention.problem import Problem
from graphmill.codegen.cpu.contract.elements import store_as
from graphmill.codegen.cpu.contract.packing import pack_b
from graphmill.codegen.cpu.emit import Val
from graphmill.ir.dtypes import f32, f64


def stage_elements(problem: Problem) -> int:
    """Elements of the buffer that `store_panel` turns a panel in."""
    columns = problem.tile.columns
    return -(-problem.width // columns) * columns * columns


def store_panel(problem: Problem, sums: Val, out: Val, count: Val, stage: Val) -> None:
    """Store `count` columns of `sums`, `[width][columns]`, as rows of the output at `out`."""
    if problem.out.along == 1 and problem.out.across != 1:
        _columns(problem, sums, out, count)
    else:
        _rows(problem, sums, out, count, stage)


def _columns(problem: Problem, sums: Val, out: Val, count: Val) -> None:
    """The output is contiguous along the queries, as the panel is."""
    code, tile = problem.code, problem.tile
    with code.loop(0, problem.width) as at:
        target = problem.out.at(out, code.i64(0), at.i)
        for v in range(tile.vectors):
            start = v * tile.lanes
            value = code.load(_place(problem, sums, at.i, start), tile.vector, tile.bytes)
            mask = memory.tail_mask(code, code.add(count, -start), tile.lanes)
            store_as(code, value, target, start, problem.out.dtype, mask)


def _rows(problem: Problem, sums: Val, out: Val, count: Val, stage: Val) -> None:
    code, tile, width = problem.code, problem.tile, problem.width
    zero, columns = code.i64(0), tile.columns
    turn = pack_b(code.unit, tile, f64 if tile.bits == 64 else f32, "col")
    panels = -(-width // columns)
    code.call(
        turn,
        [sums, code.i64(1), code.i64(columns), code.i64(columns), code.i64(width), zero,
         code.i64(panels), stage],
    )  # fmt: skip
    with code.loop(0, count) as row:
        target = problem.out.at(out, row.i)
        for start in range(0, width, tile.lanes):
            panel, inside = divmod(start, columns)
            source = code.add(code.mul(row.i, columns), panel * columns * columns + inside)
            value = code.load(code.at(stage, source, tile.element), tile.vector, tile.bytes)
            store_vector(problem, value, target, start)


def store_vector(problem: Problem, value: Val, target: Val, start: int) -> None:
    """Store results of one query from element `start` of the head on, as many as there are."""
    code, out, lanes = problem.code, problem.out, problem.tile.lanes
    left = problem.width - start
    mask = None if left >= lanes else memory.tail_mask(code, code.i64(left), lanes)
    if out.across == 1:
        store_as(code, value, target, start, out.dtype, mask)
        return
    first = times(code, code.i64(start), out.across)
    memory.store_strided(code, value, target, first, out.across, out.dtype, mask=mask)


def _place(problem: Problem, sums: Val, row: Val, column: int) -> Val:
    code, tile = problem.code, problem.tile
    return code.at(sums, code.add(code.mul(row, tile.columns), column), tile.element)
