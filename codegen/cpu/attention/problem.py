"""One attention kernel being written: its arrays, sizes, register tile, and its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from graphmill.codegen.cpu import convert
from graphmill.codegen.cpu.attention.operands import Operand, operand, output_view
from graphmill.codegen.cpu.attention.visible import Bound, Shown, bounds
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import resize
from graphmill.codegen.cpu.element import Elements, Override
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index, Indices, zero
from graphmill.codegen.cpu.kernel import Kernel
from graphmill.ir.attention import Attention, attention_in, joined, unwidened
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, i64
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.views import view_of
from graphmill.records import record

At = Mapping[int, Val]  # positions along axes of the scores


@record
class Piece:
    """Keys and values of `size` positions from `start` on."""

    k: Operand
    v: Operand
    start: DimLike
    size: DimLike


@record(frozen=False)
class Problem:
    """The kernel, its operands, and how the block's masks and biases are evaluated."""

    kernel: Kernel
    found: Attention
    acc: DType
    tile: Tile
    q: Operand
    pieces: list[Piece]
    out: Operand
    elements: Elements
    bounds: list[Bound]

    @property
    def k(self) -> Operand:
        """All keys, where they lie in one piece."""
        (piece,) = self.pieces
        return piece.k

    @property
    def v(self) -> Operand:
        """All values, where they lie in one piece."""
        (piece,) = self.pieces
        return piece.v

    @property
    def code(self) -> Code:
        return self.kernel.code

    @property
    def rows(self) -> DimLike:
        """The number of queries that share keys."""
        return self.found.queries

    @property
    def keys(self) -> DimLike:
        size: DimLike = self.found.scores.shape[self.found.keys]
        return size

    @property
    def depth(self) -> int:
        """Elements of a query or key."""
        size = self.found.q.shape[self.found.q_depth]
        assert isinstance(size, int), "checked by the pass"
        return size

    @property
    def width(self) -> int:
        """Elements of a value."""
        size = self.found.v.shape[self.found.v_width]
        assert isinstance(size, int), "checked by the pass"
        return size

    @property
    def items(self) -> list[DimLike]:
        """The sizes of the axes that are neither queries nor keys."""
        return [self.found.scores.shape[a] for a in self.found.items]

    # ---- scores

    def index(self, at: At, row: Index, key: Index) -> Indices:
        """The index of scores at positions of the other axes."""
        named = {a: Index(position) for a, position in at.items()}
        named[self.found.keys] = key
        if self.found.rows is not None:
            named[self.found.rows] = row
        return tuple(named[a] for a in range(self.found.scores.tensor.rank))

    def score(self, product: Val, index: Indices) -> Val:
        """What the softmax is taken of where the product of query and key is `product`."""
        first = self.found.first.result
        value = convert.cast(self.code, product, self.acc, first.tensor.dtype)
        self.elements.overrides[first] = lambda at, guard: value
        result = self.elements.vector(self.found.scores, index)
        assert isinstance(result, Val)
        return resize(self.code, result, self.tile.element)

    def scale(self) -> float | None:
        """c > 0 where a score is c times the product of query and key; None for anything else."""
        op, first = self.found.scores.op, self.found.first
        if first.result.tensor.dtype is not self.acc or op is None:
            return None
        if op is first:
            return 1.0
        if op.name != "mul" or op.operands[0] is not first.result:
            return None
        source = Shown(op.operands[1], (None,) * op.result.tensor.rank).source().value.op
        if source is None or source.name != "constant" or source.attrs["value"].size != 1:
            return None
        factor = float(source.attrs["value"].flat[0])
        return factor if 0 < factor < np.inf else None

    def distance(self, bound: Bound, at: At) -> Val:
        """The sum of a bound's terms for an item."""
        start = zero(self.code)
        index = self.index(at, start, start)

        def value(shown: Shown) -> Val:
            rank = shown.value.tensor.rank
            own = [start] * rank
            for axis, position in zip(shown.axes, index, strict=True):
                if axis is not None:
                    own[axis] = position
            found = self.elements.at(shown.value, tuple(own))
            wide = convert.cast(self.code, found, shown.value.tensor.dtype, i64)
            assert isinstance(wide, Val)
            return wide

        total = self.code.i64(0)
        for sign, shown in bound.terms:
            name = "arith.addi" if sign > 0 else "arith.subi"
            total = self.code.binary(name, total, value(shown))
        return total

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Inside, every key is taken as visible to every query."""
        overrides = self.elements.overrides
        for bound in self.bounds:
            overrides[bound.test] = _always(self.code.const(not bound.negated, "i1"))
        with self.elements.scope():
            yield
        for bound in self.bounds:
            overrides.pop(bound.test, None)


def _always(value: Val) -> Override:
    return lambda at, guard: value


def problem(host: Host, kernel: Kernel, op: Op, block: Block, acc: DType, tile: Tile) -> Problem:
    """Everything a schedule needs to write the kernel of the fusion `op`."""
    found = attention_in(block)
    kernel.lanes = tile.lanes
    arrays = dict(zip(block.args, op.operands, strict=True))

    def array(of: Value, axes: tuple[int | None, ...], walked: int | None, own: int) -> Operand:
        view = view_of(of)
        value = arrays[view.base]
        return operand(host, kernel, value, host.buffers[value], view, axes, walked, own)

    pieces, start, axis = [], 0, found.k_axes[found.keys]
    assert axis is not None, "keys have their own axis"
    for k, v in joined(found):
        size = k.shape[axis]
        pieces.append(
            Piece(
                array(k, found.k_axes, found.keys, found.k_depth),
                array(v, found.v_axes, found.keys, found.v_width), start, size,
            )
        )  # fmt: skip
        start = start + size
    sources = {arg: host.source(kernel, arg, host.buffers[v]) for arg, v in arrays.items()}
    shown = output_view(block.yielded[0], found.result)
    return Problem(
        kernel, found, acc, tile,
        array(unwidened(found.q), found.q_axes, found.rows, found.q_depth), pieces,
        operand(
            host, kernel, op.result, host.buffers[op.result], shown, found.out_axes, found.rows,
            found.out_width,
        ),
        Elements(kernel, sources), bounds(found),
    )  # fmt: skip
