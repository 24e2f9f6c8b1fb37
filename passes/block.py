"""Blocked channels: convolutions and what lies between them on a layout made for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import bf16
from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.ir.ops import blocked
from graphmill.ir.ops.base import is_known
from graphmill.ir.ops.control import is_constant
from graphmill.passes.dce import remove_dead
from graphmill.passes.fold import constant_of
from graphmill.passes.manager import register_pass
from graphmill.passes.prepare import prepared
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count
from graphmill.passes.structure import emit_like
from graphmill.records import record

MOST_TAPS = 128  # of a window: the code for the edges of a line grows with it
SMALL = 256  # places of an image whose channels are read as they lie, without packing any,
TILE = 16  # rows of a tile: fewer filters or channels leave most of it idle
DEEP = 96  # from so many channels on: the sums still have to be transposed
WORTH_PACKING = 2048  # places of a result from which weights are packed at run time


@record
class _Target:
    """What blocks are made for."""

    line: int  # bytes
    tiles: bool


@register_pass("block")
def block(function: Function, *, line: int = 64, tiles: bool = False) -> Function:
    """Gives convolutions channels in blocks of one cache line: `f32[n, c/16, h, w, 16]`.

    After it a convolution with known weights is a `blocked_conv`, and no value is converted
    between two of them: elementwise ops, pooling and concatenations work on blocks as well. What
    enters plain is read plain, what leaves is written plain. `line` is in bytes; 0 does nothing.
    With `tiles` the target multiplies tiles of bf16, which read plain channels: convolutions that
    suit them stay as they are.
    """
    if line == 0 or not any(op.name == "conv" for op in function.walk()):
        return function
    function = function.clone()
    _each_block(function.block, _Target(line, tiles))
    remove_dead(function.block)
    return function


def _each_block(inside: Block, given: _Target) -> None:
    for op in inside.ops:
        for region in op.regions:
            _each_block(region.block, given)
    rewrite(inside, _Blocks(given, _wanted(inside, given)).visit, only=set(inside.ops))


# ---- what can be blocked


def _lanes(op: Op, line: int) -> int:
    """Channels in one block: a line of their sums, which are f32 for 16-bit floats."""
    return line // max(op.operands[0].tensor.dtype.itemsize, 4)


def _lanewise(op: Op, line: int) -> int:
    """Channels of a group that lies inside a block with others, 0 for larger groups."""
    channels, filters = op.operands[0].shape[1], op.operands[1].shape[0]
    return blocked.lanewise(channels, filters, op.attrs["groups"], _lanes(op, line))


def _suits_tiles(op: Op) -> bool:
    """Whether tiles of pairs of bf16 can be told where to read x, and are not too empty."""
    (x, w), attrs = op.operands, op.attrs
    if x.tensor.dtype is not bf16 or not is_constant(w) or len(x.shape) > 4:
        return False
    known = is_known(*x.shape[1:], *op.result.shape[1:])
    neighbours = attrs["dilation"][-1] == 1 and product(w.shape[1:]) >= TILE  # type: ignore[operator]
    whole = w.shape[0] // attrs["groups"] >= TILE and (w.shape[1] >= TILE or neighbours)
    plain = set(attrs["input_dilation"]) == {1} and attrs["strides"][-1] <= 2
    return known and whole and plain and product(w.shape[2:]) <= MOST_TAPS  # type: ignore[operator]


def _obstacle(op: Op, given: _Target) -> str:
    """Why a convolution stays plain; empty if it need not."""
    x, w = (v.tensor for v in op.operands)
    line = given.line
    groups, size = op.attrs["groups"], _lanes(op, line)
    if given.tiles and _suits_tiles(op):
        return "by tiles"
    if not x.dtype.is_float:
        return f"of {x.dtype}"
    if not is_known(x.shape[1], *w.shape):
        return "channels known at run time"
    if x.rank > 4:
        narrow = given.tiles and x.dtype.bits < 32  # patches are read by tiles
        if narrow or x.rank > 5 or _lanewise(op, line) or not is_known(*x.shape[2:]):
            return "three axes"
    if any(by != 1 for by in op.attrs["input_dilation"]):
        return "transposed"
    if product(w.shape[2:]) > MOST_TAPS:  # type: ignore[operator]
        return "a large window"
    if not _lanewise(op, line):
        filters, channels = w.shape[0] // groups, w.shape[1]
        if groups > 1 and (filters % size or channels % size):
            return "groups of parts of blocks"
        if filters * 2 < size:
            return "few filters"
    places = product((op.result.shape[0], *op.result.shape[2:]))
    if not is_constant(op.operands[1]) and not _many(places):
        return "weights known at run time, for few places"
    return ""


def _many(places: object) -> bool:
    return not isinstance(places, int) or places >= WORTH_PACKING


def _is_read_once(x: Value) -> bool:
    """Whether one op reads an array, which is no constant or repeated one."""
    repeated = x.op is not None and x.op.name == "broadcast"
    return len(x.users) == 1 and not repeated and not is_constant(x)


def _is_product(op: Op) -> bool:
    """Whether a window of one element makes it a matrix product on plain arrays."""
    plain = (1,) * len(op.attrs["strides"])
    return tuple(op.operands[1].shape[2:]) == tuple(op.attrs["strides"]) == plain


def _small(channels: DimLike, spatial: Sequence[DimLike]) -> bool:
    """Whether a product alone is quicker with filters in lanes than with places."""
    places = product(spatial)
    if not isinstance(places, int) or not isinstance(channels, int):
        return False
    return places <= SMALL and channels >= DEEP


def _over_places(op: Op) -> bool:
    """A reduction over all spatial axes, to one value per channel."""
    rank = len(op.operands[0].shape) if op.name == "reduce" else 0
    return rank > 2 and tuple(op.attrs["axes"]) == tuple(range(2, rank))


def _keeps_channels(op: Op) -> bool:
    """An op on places alone, channel by channel."""
    attrs = op.attrs
    if op.name == "window_reduce":
        pairs = zip(attrs["window"], attrs["strides"], attrs["low"], attrs["high"], strict=True)
        return len(attrs["window"]) > 2 and list(pairs)[:2] == [(1, 1, 0, 0)] * 2
    if op.name == "pad":
        trivial = zip(attrs["low"], attrs["high"], attrs["interior"], strict=True)
        return len(attrs["low"]) > 2 and list(trivial)[:2] == [(0, 0, 0)] * 2
    return False


def _wanted(inside: Block, given: _Target) -> set[Value]:
    """Values that are read in blocks, by a convolution or on the way to one."""
    wanted: set[Value] = set()
    for op in reversed(inside.ops):
        if op.name == "conv" and not _obstacle(op, given):
            line = given.line
            if _lanewise(op, line) or op.operands[0].shape[1] >= _lanes(op, line):
                wanted.add(op.operands[0])
        elif _over_places(op):
            wanted.add(op.operands[0])
        elif op.results and op.result in wanted:
            joined = op.name == "concat" and op.attrs["axis"] == 1
            if joined or op.definition.fusion == "elementwise":
                wanted.update(op.operands)
            elif _keeps_channels(op):
                wanted.add(op.operands[0])
    return wanted


# ---- the rewriting


@record(frozen=False)
class _Blocks:
    """One block being rewritten: `twins` are the values that exist in blocks as well."""

    given: _Target
    wanted: set[Value]
    twins: dict[Value, Value] = field(default_factory=dict)

    @property
    def line(self) -> int:
        """Bytes of a block."""
        return self.given.line

    def visit(self, op: Op, b: Builder) -> Replacement:
        if op.name == "conv":
            return self._conv(op, b)
        if not any(v in self.twins for v in op.operands):
            return None
        if _over_places(op):
            return self._reduced(op, b)
        if _keeps_channels(op):
            return self._moved(op, b)
        if len(op.results) != 1 or op.result not in self.wanted:
            return None
        if op.definition.fusion == "elementwise":
            sizes = {self.twins[v].shape[-1] for v in op.operands if v in self.twins}
            size = sizes.pop()
            if sizes:
                return None
            return self._given(
                emit_like(op, [self._operand(v, size, b) for v in op.operands], b), op, b
            )
        if op.name == "concat" and op.attrs["axis"] == 1:
            return self._joined(op, b)
        return None

    def _conv(self, op: Op, b: Builder) -> Replacement:
        x, w = op.operands
        twin, wanted, size = self.twins.get(x), op.result in self.wanted, _lanes(op, self.line)
        obstacle = _obstacle(op, self.given)
        lanes = 0 if obstacle else _lanewise(op, self.line)
        if lanes and twin is not None and twin.shape[-1] != size:
            obstacle = "blocks of another dtype"
        if not obstacle and twin is None and not wanted:
            if _lanewise(op, self.line) == 1:
                obstacle = "depthwise alone"
            elif _is_product(op) and not _small(x.shape[1], op.result.shape[2:]):
                obstacle = "a product alone"
        if obstacle:
            count(f"plain convolutions: {obstacle}")
            return None
        few = twin is None and not lanes and (x.shape[1] < size or _is_product(op))
        given = 1 if lanes or few else size if twin is None else twin.shape[-1]
        if twin is None:
            # what no other op reads is converted by the convolution's kernel itself
            reads = few or (_is_read_once(x) and len(x.shape) < 5)
            twin = x if reads else self._operand(x, size, b)
        kept = {key: op.attrs[key] for key in ("strides", "low", "high", "dilation", "groups")}
        y = b.op(
            "blocked_conv", twin, _packed(w, given, size, b), **kept, channels=x.shape[1],
            filters=w.shape[0], block=size if wanted else 1,
        )  # fmt: skip
        count("blocked convolutions")
        return self._given(y, op, b) if wanted else y

    def _reduced(self, op: Op, b: Builder) -> Value:
        y = emit_like(op, [self.twins[op.operands[0]]], b)
        n, count_, size = y.shape
        flat = b.reshape(y, (n, count_ * size))
        return _first(flat, op.result.shape[1], b)

    def _moved(self, op: Op, b: Builder) -> Replacement:
        attrs, zeros = dict(op.attrs), op.name == "pad"
        for key, value in op.attrs.items():
            if isinstance(value, tuple):
                edge = 0 if zeros or key in ("low", "high") else 1
                attrs[key] = (*value, edge)
        operands = [self.twins[op.operands[0]], *op.operands[1:]]
        return self._given(b.emit(op.name, operands, attrs).result, op, b)

    def _joined(self, op: Op, b: Builder) -> Replacement:
        parts = [self.twins.get(v) for v in op.operands]
        whole = [
            p is not None and v.shape[1] % p.shape[-1] == 0
            for v, p in zip(op.operands, parts, strict=True)
        ]
        if not all(whole[:-1]) or None in parts:
            return None
        return self._given(b.op("concat", *(p for p in parts if p is not None), axis=1), op, b)

    def _given(self, y: Value, op: Op, b: Builder) -> Value:
        """y in blocks takes the place of the op's result: plain for those who read it so."""
        plain = _plain(y, op.result.shape[1], b)
        self.twins[plain] = y
        return plain

    def _operand(self, value: Value, size: int, b: Builder) -> Value:
        """A value of the plain shape in blocks of `size`."""
        if value in self.twins:
            return self.twins[value]
        array, op = constant_of(value), value.op
        if array is not None:
            return b.constant(blocked.blocked(array, size), value.tensor.dtype)
        if op is not None and op.name == "broadcast":
            return _repeated(op, size, b)
        count("values converted to blocks")
        self.twins[value] = _blocked(value, 1, size, b)
        return self.twins[value]


def _repeated(op: Op, size: int, b: Builder) -> Value:
    """A broadcast in blocks: what is repeated is converted, where it has channels at all."""
    (x,), axes, shape = op.operands, list(op.attrs["axes"]), op.result.shape
    lanes = (shape[0], blocked.blocks(shape[1], size), *shape[2:], size)
    if 1 not in axes or x.shape[axes.index(1)] == 1:
        return b.broadcast(x, lanes, axes)
    array, at = constant_of(x), axes.index(1)
    if array is not None:
        moved = np.moveaxis(array, at, 1) if array.ndim > 1 else array[None]
        parts = blocked.blocked(moved, size)
        back = np.moveaxis(parts, 1, at) if array.ndim > 1 else parts[0]
        small = b.constant(back, x.tensor.dtype)
    else:
        small = _blocked(x, at, size, b)
    return b.broadcast(small, lanes, [*axes, len(shape)])


def _blocked(x: Value, axis: int, size: int, b: Builder) -> Value:
    """x with `axis` cut into blocks, their lanes as the last axis; padded with zeros."""
    shape = list(x.shape)
    count_ = blocked.blocks(shape[axis], size)
    x = _padded(x, axis, count_ * size, b)
    split = b.reshape(x, (*shape[:axis], count_, size, *shape[axis + 1 :]))
    rank = len(shape) + 1
    return b.transpose(split, [*(i for i in range(rank) if i != axis + 1), axis + 1])


def _padded(x: Value, axis: int, to: int, b: Builder) -> Value:
    missing = to - x.shape[axis]
    if not missing:
        return x
    zeros = (0,) * len(x.shape)
    high = tuple(missing if i == axis else 0 for i in range(len(x.shape)))
    return b.op("pad", x, b.constant(0, x.tensor.dtype), low=zeros, high=high, interior=zeros)


def _plain(y: Value, channels: int, b: Builder) -> Value:
    """`[n, c/b, *spatial, b]` as `[n, channels, *spatial]`."""
    n, count_, *spatial, size = y.shape
    rank = len(y.shape)
    whole = b.transpose(y, (0, 1, rank - 1, *range(2, rank - 1)))
    return _first(b.reshape(whole, (n, count_ * size, *spatial)), channels, b)


def _first(x: Value, channels: int, b: Builder) -> Value:
    """The channels that are some, of those that fill whole blocks."""
    if x.shape[1] == channels:
        return x
    stop = tuple(channels if i == 1 else dim for i, dim in enumerate(x.shape))
    rank = len(stop)
    return b.op("slice", x, start=(0,) * rank, stop=stop, step=(1,) * rank)


def _packed(w: Value, given: int, size: int, b: Builder) -> Value:
    """The weights `[o, c, *window]` as `[o/size, c/given, *window, given, size]`."""

    def pack(b: Builder, w: Value) -> Value:
        return _blocked(_blocked(w, 1, given, b), 0, size, b)

    if is_constant(w):
        return prepared(b, [w], pack)
    count("weights packed at run time")
    return pack(b, w)
