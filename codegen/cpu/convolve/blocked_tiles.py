"""Micro-kernels of convolutions on blocked channels: a tile of places of one line of results.

Sums stay in registers over all channels and taps. A tile knows which taps of its places lie
inside x, so that padding costs nothing and needs no branch. Tiles of one form are shared by all
convolutions of a unit: sizes and strides of arrays are arguments.
"""

from __future__ import annotations

from dataclasses import replace

from graphmill.codegen.cpu.contract.elements import least, load_wide, store_as
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.microkernel import add, multiply_add
from graphmill.codegen.cpu.contract.spec import Epilogue, Place
from graphmill.codegen.cpu.convolve.blocked_spec import BlockedSpec, Run, Shape
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val, vector
from graphmill.records import record

_DENSE = (
    ("x", "!llvm.ptr"), ("x_block", "i64"), ("x_line", "i64"), ("w", "!llvm.ptr"),
    ("w_filters", "i64"), ("w_channels", "i64"), ("channels", "i64"), ("lines", "i64"),
    ("out", "!llvm.ptr"), ("out_block", "i64"), ("earlier", "i64"), ("ahead", "i64"),
)  # fmt: skip
_BESIDE = ("beside", "i64")
SLOTS = ("x", "w", "y", "batch", "scratch", "scratch_bytes")  # of a kernel's data
_LANES = (
    ("x", "!llvm.ptr"), ("x_line", "i64"), ("w", "!llvm.ptr"), ("lines", "i64"),
    ("out", "!llvm.ptr"),
)  # fmt: skip
_WHERE = (
    ("data", "!llvm.ptr"), ("image", "i64"), ("block", "i64"), ("line", "i64"), ("place", "i64"),
)  # fmt: skip
_SOON = 10  # channels until a line is read: the second level has answered by then


def _symbol(kind: str, spec: BlockedSpec, shape: Shape, run: Run) -> str:
    stride, spread, types = spec.strides[1], spec.dilation[1], f"{spec.x}_{shape.element}"
    traits = ("row" if spec.one_row else "") + ("x" if spec.streams else "")
    return (
        f"gm.conv_{kind}{spec.dot.name}_{types}x{shape.lanes}_b{spec.x_block}x{spec.w_block}"
        f"_w{spec.window[1]}{traits}s{stride}d{spread}{run.form}"
    )


def dense_tile(
    unit: Unit, spec: BlockedSpec, shape: Shape, run: Run, together: int, *, beside: bool = False
) -> str:
    """Symbol of the tile of `together` blocks of filters.

    `(x, x_block, x_line, w, w_filters, w_channels, channels, lines, out, out_block, earlier,
    ahead)`: distances of x's blocks and of the lines that the window's rows read, of w's blocks of
    filters and of channels; how many channels and rows of the window; where the sums go, how far
    apart their blocks are, and whether to add what is there from earlier channels; how far behind
    x, where it `streams`, or the first block of filters lies what is read soon. It is prefetched,
    as are the sums, and with `beside` what lies that many bytes behind them.
    """
    symbol = _symbol(f"dense{together}{'b' if beside else ''}", spec, shape, run)
    if unit.once(symbol):
        args = (*_DENSE, _BESIDE) if beside else _DENSE
        code = Code(unit, symbol, args, traits=("noinline",))
        _Dense(code, spec, shape, run, together).write()
    return symbol


class _Dense:
    """The dense tile being written; `near` are sums that are about to be stored."""

    near: Val

    def __init__(
        self, code: Code, spec: BlockedSpec, shape: Shape, run: Run, together: int
    ) -> None:
        self.code = code
        self.spec, self.shape, self.run, self.together = spec, shape, run, together
        self.vectors = together * shape.parts

    def write(self) -> None:
        code, spec = self.code, self.spec
        x, x_block, _, w, _, w_channels, channels = code.args[:7]
        zero = code.const(0, self.shape.vector)
        start = [zero] * (self.run.places * self.vectors)
        count = channels
        if spec.x_block > 1:
            more = code.add(channels, spec.x_block - 1)
            count = code.binary("arith.divui", more, code.i64(spec.x_block))
        with code.loop(0, count, 1, start) as block:
            xs = code.at(x, code.mul(block.i, x_block), memory_type(spec.x))
            ws = code.at(w, code.mul(block.i, w_channels), memory_type(spec.x))
            left = code.binary("arith.subi", channels, code.mul(block.i, spec.x_block))
            inner = code.binary("arith.minsi", left, code.i64(spec.x_block))
            self.near = self._sums_of(block.i)
            block.next = self._rows(xs, ws, inner, block.carried)
        self._store(block.results)
        code.finish()

    def _sums_of(self, turn: Val) -> Val:
        """Where sums go whose lines a turn over a block of channels prefetches, one a channel."""
        code, (out, out_block) = self.code, self.code.args[8:10]
        number, more = (
            code.binary(f"arith.{op}", turn, code.i64(self.together)) for op in ("remui", "divui")
        )
        last = -(-self.run.places // self.spec.x_block) - 1  # beyond are other tiles' sums
        place = code.mul(least(code, more, code.i64(last)), self.spec.x_block * self.spec.w_block)
        return code.at(out, code.add(code.mul(number, out_block), place), self.shape.element)

    def _rows(self, x: Val, w: Val, inner: Val, sums: list[Val]) -> list[Val]:
        """All rows of the window that lie inside x, for one block of channels."""
        code, spec = self.code, self.spec
        if spec.one_row:
            return self._channels(x, w, inner, sums)
        row = spec.window[1] * spec.inner * spec.w_block
        with code.loop(0, code.args[7], 1, sums) as line:
            here = code.at(x, code.mul(line.i, code.args[2]), memory_type(spec.x))
            first = code.at(w, code.mul(line.i, row), memory_type(spec.x))
            line.next = self._channels(here, first, inner, line.carried)
        return line.results

    def _channels(self, x: Val, w: Val, inner: Val, sums: list[Val]) -> list[Val]:
        """All channels of a block of x, for one row of the window."""
        code, spec, w_filters = self.code, self.spec, self.code.args[4]
        filters = [
            code.at(w, code.mul(w_filters, j), memory_type(spec.x)) if j else w
            for j in range(self.together)
        ]
        for first, past, inside in self.run.spans(spec.window[1]):
            with code.loop(first, past, 1, sums) as tap:
                column = code.mul(tap.i, spec.dilation[1] * spec.x_block)
                here = code.at(x, column, memory_type(spec.x))
                at = code.mul(tap.i, spec.inner * spec.w_block)
                there = [code.at(w, at, memory_type(spec.x)) for w in filters]
                tap.next = self._tap(inside, here, there, inner, tap.carried)
            sums = tap.results
        return sums

    def _tap(
        self, inside: list[int], x: Val, filters: list[Val], inner: Val, sums: list[Val]
    ) -> list[Val]:
        """All channels of a block at one tap, for the places `inside` x there."""
        code, spec = self.code, self.spec
        if spec.x_block == 1:
            self._prefetch_filters(filters)
            return self._step(inside, x, filters, sums)
        with code.loop(0, inner, spec.dot.group, sums) as channel:
            at = code.mul(channel.i, spec.w_block)
            here = code.at(x, channel.i, memory_type(spec.x))
            moved = [code.at(w, at, memory_type(spec.x)) for w in filters]
            self._prefetch(at, channel.i, x, moved)
            channel.next = self._step(inside, here, moved, channel.carried)
        return channel.results

    def _prefetch(self, at: Val, channel: Val, x: Val, filters: list[Val]) -> None:
        """For each channel a line of each block of filters, of the sums, of what comes next."""
        code, spec = self.code, self.spec
        self._prefetch_filters(filters)
        near = code.at(self.near, at, self.shape.element)
        code.prefetch(near, write=True)
        for beside in code.args[len(_DENSE) :]:
            code.prefetch(near, beside)
        following = filters[0]
        if spec.streams:
            place = code.mul(channel, spec.strides[1] * spec.x_block // spec.dot.group)
            following = code.at(x, place, memory_type(spec.x))
        code.prefetch(code.at(following, code.args[11], memory_type(spec.x)), near=False)

    def _prefetch_filters(self, filters: list[Val]) -> None:
        code, spec = self.code, self.spec
        for w in filters:
            soon = _SOON * spec.w_block * spec.dot.group
            code.prefetch(code.at(w, soon, memory_type(spec.x)))

    def _step(self, inside: list[int], x: Val, filters: list[Val], sums: list[Val]) -> list[Val]:
        """One channel, or unit of channels: the outer product of the places' elements and a vector
        of filters."""
        code, spec, shape = self.code, self.spec, self.shape
        sums, tile = list(sums), replace(shape.tile, dot=spec.dot)
        loaded = [
            self._load(w, part * shape.lanes * spec.dot.group, shape.lanes)
            for w in filters
            for part in range(shape.parts)
        ]
        for place in inside:
            column = place * spec.strides[1] + self.run.shift
            left = code.splat(self._load(x, column * spec.x_block, 0), shape.lanes)
            for v, right in enumerate(loaded):
                at = place * self.vectors + v
                sums[at] = multiply_add(code, tile, left, right, sums[at])
        return sums

    def _load(self, base: Val, at: int, lanes: int) -> Val:
        """Elements as the sums' type, or units as they lie."""
        code, spec, shape = self.code, self.spec, self.shape
        if spec.dot.group == 1:
            return load_wide(code, base, at, spec.x, shape.element, lanes)
        address = code.at(base, at, memory_type(spec.x))
        return code.load(address, vector("i32", lanes), spec.x.itemsize * spec.dot.group)

    def _store(self, sums: list[Val]) -> None:
        code, shape, spec = self.code, self.shape, self.spec
        out, out_block, earlier = code.args[8:11]

        def each(accumulate: bool) -> None:
            for j in range(self.together):
                base = code.at(out, code.mul(out_block, j), shape.element) if j else out
                for place in range(self.run.places):
                    for part in range(shape.parts):
                        at = place * spec.w_block + part * shape.lanes
                        address = code.at(base, at, shape.element)
                        value = sums[place * self.vectors + j * shape.parts + part]
                        if accumulate:
                            old = code.load(address, shape.vector, shape.bytes)
                            value = add(code, shape.tile, old, value)
                        code.store(value, address, shape.bytes)

        with code.when(code.compare("arith.cmpi", "ne", earlier, code.i64(0))):
            each(True)
        with code.otherwise():
            each(False)


@record
class BlockedPlace(Place):
    """Where finished sums go: `row` is the block of channels (the channel in a plain result),
    `col` the place in its line (of the first lane in a plain result), `lane` the first in its
    block."""

    line: Val
    lane: Val
    plane: Val | None = None  # of a third axis


def lanes_tile(
    unit: Unit, spec: BlockedSpec, shape: Shape, run: Run, name: str, epilogue: Epilogue | None
) -> str:
    """Symbol of the tile of a convolution whose groups lie inside blocks: in each lane a filter.

    `(x, x_line, w, lines, out)` as for `dense_tile`; with an epilogue, which few sums make dear
    to do by itself, also the kernel's data and where the tile's first place is.
    """
    symbol = _symbol(f"lanes{spec.lanewise}x{spec.window[0]}", spec, shape, run)
    if epilogue is not None:
        symbol = f"{name}_{symbol.removeprefix('gm.')}"
    if not unit.once(symbol):
        return symbol
    args = _LANES if epilogue is None else (*_LANES, *_WHERE)
    code = Code(unit, symbol, args, traits=("noinline",))
    x, x_line, w, lines, out, *where = code.args
    window, block, size = spec.window[1], spec.w_block, shape.lanes
    extra = extra_slots(code, where[0], epilogue, len(SLOTS)) if where else ()
    for part in range(shape.parts):
        lane = code.i64(part * size)
        start = [code.const(0, shape.vector)] * run.places
        with code.loop(0, lines, 1, start) as line:
            here = code.at(x, code.mul(line.i, x_line), memory_type(spec.x))
            row = code.add(code.mul(line.i, window * block), lane)
            ws = code.at(w, row, memory_type(spec.x))
            line.next = _Lanes(code, spec, shape, run, part).row(here, ws, line.carried)
        for place, value in enumerate(line.results):
            at = code.add(lane, place * block)
            if epilogue is None:
                code.store(value, code.at(out, at, shape.element), shape.bytes)
                continue
            _, image, number, row, first = where
            col = code.add(first, place)
            goal = BlockedPlace(number, col, image, size, None, extra, row, lane)
            done = apply(code, epilogue, value, spec.acc, goal)
            store_as(code, done, out, at, spec.out)
    code.finish()
    return symbol


@record
class _Lanes:
    """One row of the window of a lanes tile, for the vector `part` of a block."""

    code: Code
    spec: BlockedSpec
    shape: Shape
    run: Run
    part: int

    def row(self, x: Val, w: Val, sums: list[Val]) -> list[Val]:
        """The sums with what a row of x gives; each column of x is loaded and permuted once."""
        code, spec, shape, sums = self.code, self.spec, self.shape, list(sums)
        member_size = spec.window[0] * spec.window[1] * spec.w_block
        for member in range(spec.lanewise):
            columns: dict[int, Val] = {}
            for first, past, inside in self.run.spans(spec.window[1]):
                for tap in range(first, past):
                    at = member * member_size + tap * spec.w_block
                    weight = load_wide(code, w, at, spec.x, shape.element, shape.lanes)
                    for place in inside:
                        column = place * spec.strides[1] + tap * spec.dilation[1] + self.run.shift
                        if column not in columns:
                            columns[column] = self._column(x, column, member)
                        value = columns[column]
                        sums[place] = multiply_add(code, shape.tile, value, weight, sums[place])
        return sums

    def _column(self, x: Val, column: int, member: int) -> Val:
        """In each lane the channel number `member` of its group."""
        code, spec, shape, each = self.code, self.spec, self.shape, self.spec.lanewise
        first = self.part * shape.lanes
        wide = max(shape.lanes, each)  # a group may be wider than a register
        start = first // wide * wide
        at = column * spec.x_block + start
        value = load_wide(code, x, at, spec.x, shape.element, wide)
        if each == 1:
            return value
        lanes = range(first - start, first - start + shape.lanes)
        order = [lane // each * each + member for lane in lanes]
        return code.op(
            f"vector.shuffle {value}, {value} {order} : {value.type}, {value.type}", shape.vector
        )
