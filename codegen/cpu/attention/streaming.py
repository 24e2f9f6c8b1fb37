"""Attention kernels: the fusion op, which schedule runs it, and its launch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.attention.few import emit_few
from graphmill.codegen.cpu.attention.panels import emit_panels
from graphmill.codegen.cpu.attention.problem import Problem, problem
from graphmill.codegen.cpu.contract.blocking import Tile, register_tile
from graphmill.codegen.cpu.host import Host
from graphmill.ir.attention import are_few, attention_in
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import f32, f64
from graphmill.ir.graph import Block, Op

MOST_ROWS = 12  # of the tile where panels are narrow
NARROW = 0.03  # what a vector less costs: keys and values are read more often

Info = Callable[[Op, str, bool], KernelInfo]


def emit_attention(host: Host, op: Op, block: Block, label: str, info: Info) -> None:
    """Write and launch the kernels of an attention fusion."""
    host.place(op)
    found = attention_in(block)
    rows, acc = found.queries, f64 if f64 in found.dtypes else f32
    few, tile = are_few(rows), register_tile(host.target, acc)
    if not few:
        tile = fitting(tile, rows)

    def begin(suffix: str) -> Problem:
        return problem(host, host.kernel(label + suffix), op, block, acc, tile)

    if few:
        assert isinstance(rows, int), "known, being few"
        emit_few(host, begin, lambda name: info(op, name, True), rows)
        return
    if isinstance(rows, int):
        _panels(host, begin(""), op, info)
        return
    single = host.code.compare("arith.cmpi", "eq", host.dim(rows), host.code.i64(1))
    with host.code.when(single):  # a prompt and its tokens may share one compilation
        emit_few(host, begin, lambda name: info(op, name, True), rows=1)
    with host.code.otherwise():
        _panels(host, begin("_panels"), op, info)


def _panels(host: Host, made: Problem, op: Op, info: Info) -> None:
    launch = emit_panels(host, made)
    host.launch(made.kernel, launch, info(op, made.kernel.name, True))


def fitting(tile: Tile, rows: DimLike) -> Tile:
    """The tile, narrower and taller where panels of that width leave fewer lanes empty."""
    if not isinstance(rows, int):
        return tile

    def cost(vectors: int) -> float:
        width = vectors * tile.lanes
        return -(-rows // width) * width * (1 + NARROW * (tile.vectors - vectors))

    vectors = min(range(tile.vectors, 0, -1), key=cost)
    height = min(MOST_ROWS, tile.rows * tile.vectors // vectors)
    return replace(tile, vectors=vectors, rows=height) if vectors < tile.vectors else tile
