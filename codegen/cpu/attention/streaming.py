"""Attention kernels: the fusion op, which schedule runs it, and its launch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphmill.codegen.artifact import KernelInfo
from graphmill.codegen.cpu.attention.few import emit_few
from graphmill.codegen.cpu.attention.panels import emit_panels
from graphmill.codegen.cpu.attention.problem import Problem, problem
from graphmill.codegen.cpu.attention.visible import bounds
from graphmill.codegen.cpu.contract.blocking import Tile, register_tile
from graphmill.codegen.cpu.contract.space import tiles
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.lowering import choices_of
from graphmill.codegen.cpu.schedule import UNMEASURED
from graphmill.ir.attention import Attention, are_few, attention_in, joined
from graphmill.ir.dtypes import f32, f64
from graphmill.ir.graph import Block, Op

MOST_ROWS = 8  # of the tile where panels are narrow
MOST_FEW = 12  # queries of which the form may be measured
NARROW = 0.05  # what a single vector costs: keys and values are read more often

Info = Callable[[Op, str, bool], KernelInfo]


def emit_attention(host: Host, op: Op, block: Block, label: str, info: Info) -> None:
    """Write and launch the kernels of an attention fusion."""
    host.place(op)
    found = attention_in(block)
    rows, acc = found.queries, f64 if f64 in found.dtypes else f32
    few, tile = are_few(rows), register_tile(host.target, acc)
    choices = choices_of(host, op, block)
    if isinstance(rows, int) and rows <= MOST_FEW and len(joined(found)) == 1:
        few = choices.pick("few", few, (True, False))
    if not few:
        tile = fitting(tile, found)
        height, vectors = choices.pick("tile", (tile.rows, tile.vectors), tiles(host.target))
        tile = replace(tile, rows=height, vectors=vectors)

    def begin(suffix: str) -> Problem:
        own = UNMEASURED if suffix else choices
        return problem(host, host.kernel(label + suffix, own), op, block, acc, tile)

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


def fitting(tile: Tile, found: Attention) -> Tile:
    """The tile, narrower and taller where panels of that width leave fewer lanes empty.

    Under a causal mask a narrow panel also sees fewer keys that only some of its queries see.
    """
    rows = found.queries
    if not isinstance(rows, int):
        return tile
    keys = found.scores.shape[found.keys]
    count = keys if isinstance(keys, int) else rows
    causal = any(bound.slope for bound in bounds(found))

    def cost(vectors: int) -> float:
        width = vectors * tile.lanes
        seen = max(count - (rows - width) / 2, width) if causal else count
        return -(-rows // width) * width * seen * (1 + NARROW / vectors**2)

    vectors = min(range(tile.vectors, 0, -1), key=cost)
    height = min(MOST_ROWS, tile.rows * tile.vectors // vectors)
    return replace(tile, vectors=vectors, rows=height) if vectors < tile.vectors else tile
