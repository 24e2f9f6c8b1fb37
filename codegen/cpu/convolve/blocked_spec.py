"""What a convolution on blocked channels is, and how its results are cut into tiles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from graphmill.codegen.cpu.contract.blocking import Tile, compute_element
from graphmill.codegen.cpu.contract.dots import PLAIN, Dot
from graphmill.codegen.cpu.emit import vector
from graphmill.codegen.cpu.schedule import Choices, described
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dtypes import DType
from graphmill.ir.ops.blocked import blocks
from graphmill.records import record

_PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 28, 56)
_LATENCY = 8  # accumulators that keep two FMA units of latency 4 busy
_STEP = 4.0  # what a turn of the innermost loop costs besides, in multiply-adds
_LOAD = 0.1  # what a load costs that the multiply-adds do not hide


@record
class BlockedSpec:
    """`x [n, c/b, h, w, b]` with `w [o/k, c/groups/b, *window, b, k]` into `[n, o/block, *out,
    block]`, all sizes but the batch static, or where they are `free` lines and places, too.

    Channels and filters are those of one group. `lanewise`: groups of so many channels lie inside
    blocks (1: depthwise), and `channels` counts those of all; 0 for larger groups. `flat`: the
    lines and places stand for one axis of the result. `plain`: x is `[n, c, h, w]`, whose channels
    the kernel gathers into blocks. `dot`: channels are multiplied in its units, and w is
    `[o/k, c/groups/b, *window, b/u, k, u]` with units of u channels. `planes`: a third axis before
    these two, whose taps' sums are added up one after the other; w's window has it as well.
    """

    x: DType
    acc: DType
    out: DType
    channels: int
    filters: int
    groups: int
    x_block: int
    w_block: int
    block: int
    sizes: tuple[int, int]
    out_sizes: tuple[int, int]
    window: tuple[int, int]
    strides: tuple[int, int]
    low: tuple[int, int]
    dilation: tuple[int, int]
    lanewise: int = 0
    flat: bool = False
    plain: bool = False
    dot: Dot = PLAIN
    free: bool = False  # `sizes` and `out_sizes` are known at run time
    planes: Planes | None = None

    @property
    def x_blocks(self) -> int:
        """Blocks of x that one group reads."""
        return blocks(self.channels, self.x_block)

    @property
    def w_blocks(self) -> int:
        """Blocks of filters in one group."""
        return blocks(self.filters, self.w_block)

    @property
    def one_row(self) -> bool:
        """Whether the window is one row, which lies inside x for every line of results."""
        if self.planes is not None and self.planes.outside:
            return False
        last = (self.out_sizes[0] - 1) * self.strides[0]
        return self.window[0] == 1 and self.low[0] == 0 and last < self.sizes[0]

    @property
    def streams(self) -> bool:
        """Whether x, read once, is what comes from far away, and not the filters."""
        taps, filters = self.window[0] * self.window[1], self.w_blocks * self.filter_block
        near = self.plain or self.free  # gathered before
        return self.one_row and taps == 1 and not near and self.x_blocks * self.plane > filters

    @property
    def plane(self) -> int:
        """Elements of one block of x."""
        return self.sheet * (self.planes.tap.room if self.planes else 1)

    @property
    def sheet(self) -> int:
        """Elements of one block of x in two of its axes."""
        return self.sizes[0] * self.sizes[1] * self.x_block

    @property
    def deep(self) -> int:
        """The window along a third axis."""
        return self.planes.tap.size if self.planes else 1

    @property
    def out_planes(self) -> int:
        """Results along a third axis."""
        return self.planes.out if self.planes else 1

    def tap(self, axis: int) -> Tap:
        """The window along an axis."""
        return Tap(
            self.window[axis], self.strides[axis], self.dilation[axis], self.low[axis],
            self.sizes[axis],
        )  # fmt: skip

    @property
    def inner(self) -> int:
        """The block of channels in w."""
        return 1 if self.lanewise else self.x_block

    @property
    def filter_block(self) -> int:
        """Elements of one block of filters."""
        count = self.lanewise or self.x_blocks
        return count * self.deep * self.window[0] * self.window[1] * self.inner * self.w_block


@record
class Tap:
    """One axis of a window: size, step of the window, spread of its taps, padding before x."""

    size: int
    stride: int
    dilation: int
    low: int
    room: int  # elements of x along the axis

    def valid(self, place: int) -> tuple[int, int]:
        """The taps `first`..`past` of a place that lie inside x."""
        start = place * self.stride - self.low
        past = max(0, min(self.size, -((start - self.room) // self.dilation)))
        return min(max(0, -(start // self.dilation)), past), past


@record
class Planes:
    """The third axis of a convolution: its window, and how many results it has."""

    tap: Tap
    out: int

    @property
    def outside(self) -> bool:
        """Whether some result has all of its taps in the padding."""
        return any(first == past for first, past in map(self.tap.valid, range(self.out)))


@record
class Run:
    """`count` tiles of equal form, side by side from place `first` on.

    `taps` are the taps of each place that lie inside x; `shift` is the distance of the first tap
    of the first place from the column that the tile's address names.
    """

    first: int
    count: int
    taps: tuple[tuple[int, int], ...]
    shift: int

    @property
    def places(self) -> int:
        """Places of one tile."""
        return len(self.taps)

    def spans(self, window: int) -> Iterator[tuple[int, int, list[int]]]:
        """Taps `first`..`past` that lie inside x for the same places, and those places."""
        inside = [
            [i for i, (low, high) in enumerate(self.taps) if low <= tap < high]
            for tap in range(window)
        ]
        first = 0
        for past in range(1, window + 1):
            if past == window or inside[past] != inside[first]:
                if inside[first]:
                    yield first, past, inside[first]
                first = past

    @property
    def form(self) -> str:
        """The tile's form as part of a symbol: runs of equal taps."""
        text, at = "", 0
        while at < len(self.taps):
            end = at
            while end < len(self.taps) and self.taps[end] == self.taps[at]:
                end += 1
            low, high = self.taps[at]
            text += f"_{end - at}t{low}t{high}"
            at = end
        return f"{text}_{'m' if self.shift < 0 else ''}{abs(self.shift)}"


def runs(length: int, tiles: int, tap: Tap) -> Iterator[Run]:
    """A line of `length` places in `tiles` tiles of sizes that differ by one at most."""
    base, extra = divmod(length, tiles)
    found: list[Run] = []
    at = 0
    for number in range(tiles):
        size = base + (number < extra)
        taps = tuple(tap.valid(at + i) for i in range(size))
        column = at * tap.stride - tap.low
        made = Run(at, 1, taps, column - column_of(column, tap))
        last = found[-1] if found else None
        if last is not None and (last.taps, last.shift) == (made.taps, made.shift):
            found[-1] = Run(last.first, last.count + 1, last.taps, last.shift)
        else:
            found.append(made)
        at += size
    yield from found


def column_of(column: int, tap: Tap) -> int:
    """The nearest column inside x."""
    return max(0, min(column, tap.room - 1))


@record
class Shape:
    """The register tile of one target: `lanes` of MLIR type `element`, `parts` vectors a block."""

    element: str
    lanes: int
    parts: int
    registers: int

    @property
    def vector(self) -> str:
        """The MLIR type of one register."""
        return vector(self.element, self.lanes)

    @property
    def bytes(self) -> int:
        """Bytes of one element."""
        return int(self.element[1:]) // 8

    @property
    def tile(self) -> Tile:
        """One block of one place, as products know it."""
        return Tile(self.element, self.bytes * 8, 1, self.parts, self.lanes)


def shape_of(target: Target, acc: DType, block: int) -> Shape:
    """The registers for sums of `acc` in blocks of channels."""
    element = compute_element(acc)
    lanes = min(block, target.lanes(int(element[1:])))
    return Shape(element, lanes, block // lanes, target.registers)


@record
class Tiling:
    """How the results of one group are cut: `tiles` along a line, `parts` of the filter blocks,
    chunks of `lines`, slices of `depth` channels.

    `parts_outside`: all chunks of one part of the filters come one after the other, else all parts
    for one chunk of lines; what is larger, filters or x, is so read once.
    """

    tiles: int
    parts: int
    lines: int
    depth: int
    parts_outside: bool


def choices_of(spec: BlockedSpec, target: Target) -> Choices:
    """The choices of a convolution on blocked channels."""
    return target.choices(lambda: f"blocked {described(spec)}")


def tiling(spec: BlockedSpec, target: Target) -> Tiling:
    """The cut of the machine model, or the one that was measured to be better."""
    choices, model = choices_of(spec, target), _model(spec, target)
    cut = choices.pick("tile", (model.tiles, model.parts), _by_cost(spec, target))
    if cut != (model.tiles, model.parts):
        model = _sized(spec, target, *cut)
    depth = model.depth
    if not spec.lanewise:
        depth = choices.pick("depth", depth, _even(spec.channels, spec.x_block))
    lines = choices.pick("lines", model.lines, _even(spec.out_sizes[0]))
    outside = choices.pick("parts_outside", model.parts_outside, (True, False))
    return Tiling(*cut, lines, depth, outside)


def _even(size: int, unit: int = 1) -> Iterator[int]:
    """A size in parts of whole units: all of it, half of it, a third …"""
    count = -(-size // unit)
    yield from dict.fromkeys(-(-count // n) * unit for n in _PARTS if n <= count)


def _by_cost(spec: BlockedSpec, target: Target) -> Iterator[tuple[int, int]]:
    """All cuts, the quickest by the model first."""
    shape, width = shape_of(target, spec.acc, spec.w_block), spec.out_sizes[1]
    cuts = dict.fromkeys(cuts_of(spec, target))
    yield from sorted(cuts, key=lambda cut: line_cost(width, cut[0], spec.w_blocks, cut[1], shape))


@cache
def _model(spec: BlockedSpec, target: Target) -> Tiling:
    """The cut with the least estimated time, its slices and chunks sized for the caches."""
    shape = shape_of(target, spec.acc, spec.w_block)
    best: tuple[float, Tiling] | None = None
    for tiles, parts in cuts_of(spec, target):
        cut = _sized(spec, target, tiles, parts)
        chunks = -(-spec.out_sizes[0] // cut.lines)
        cost = line_cost(spec.out_sizes[1], tiles, spec.w_blocks, parts, shape)
        cost *= uneven(parts * spec.groups * chunks * spec.out_planes)
        if best is None or cost < best[0]:
            best = cost, cut
    return best[1] if best else _sized(spec, target, 0, 1)


def _sized(spec: BlockedSpec, target: Target, tiles: int, parts: int) -> Tiling:
    """A cut with slices and chunks for the caches."""
    shape = shape_of(target, spec.acc, spec.w_block)
    weights = spec.w_blocks * spec.filter_block * spec.x.itemsize
    outside = not spec.plain and weights > spec.x_blocks * spec.plane * spec.x.itemsize
    depth = depth_of(spec, -(-spec.w_blocks // parts), shape, target)
    return Tiling(tiles, parts, _lines(spec, parts, depth, target, outside), depth, outside)


def cuts_of(spec: BlockedSpec, target: Target) -> Iterator[tuple[int, int]]:
    """Tiles of a line and parts of the filters whose sums fit the registers."""
    shape = shape_of(target, spec.acc, spec.w_block)
    width, count = spec.out_sizes[1], spec.w_blocks
    for together in range(1, max(1, 4 // shape.parts) + 1):
        vectors = together * shape.parts
        most = max((shape.registers - 2 - vectors) // vectors, 1)
        if spec.lanewise > 1:
            most = shape.registers // 4  # beside the sums, permuted columns are kept
        for parts in {-(-count // together), min(count, 2 * -(-count // (2 * together)))}:
            fewest = -(-width // most)
            for tiles in range(fewest, min(width, 2 * fewest) + 1):
                yield tiles, parts


def direct_cost(spec: BlockedSpec, target: Target) -> float:
    """The estimated time of one image, in multiply-adds of a vector; what is padding is skipped."""
    cut = tiling(spec, target)
    if not cut.tiles:
        return 0.0
    shape = shape_of(target, spec.acc, spec.w_block)
    taps, inside = 1, 1.0
    for axis in (0, 1):
        tap = spec.tap(axis)
        valid = [past - first for first, past in map(tap.valid, range(spec.out_sizes[axis]))]
        taps, inside = taps * tap.size, inside * sum(valid) / (tap.size * len(valid))
    line = line_cost(spec.out_sizes[1], cut.tiles, spec.w_blocks, cut.parts, shape)
    sums = spec.out_sizes[0] * (spec.lanewise or spec.channels) * spec.groups
    return line * sums * taps * inside


def uneven(items: int) -> float:
    """What two threads of unlike shares lose, at half weight: there may be one, or more."""
    return 0.5 + -(-items // 2) / max(items, 1)


def line_cost(width: int, tiles: int, count: int, parts: int, shape: Shape) -> float:
    """Multiply-adds' time of one tap for a line of all filters."""
    total = 0.0
    for places, n in _sizes(width, tiles):
        for together, m in _sizes(count, parts):
            vectors = together * shape.parts
            work = max(places * vectors, _LATENCY) + _LOAD * (places + vectors) + _STEP
            total += work * n * m
    return total


def _sizes(length: int, parts: int) -> Iterator[tuple[int, int]]:
    """The sizes of even parts, and how many have each."""
    base, extra = divmod(length, parts)
    if extra:
        yield base + 1, extra
    if base:
        yield base, parts - extra


def depth_of(spec: BlockedSpec, together: int, shape: Shape, target: Target) -> int:
    """Channels of one slice: its filters stay in the second level while the lines go by, with
    those that follow; in the first where a channel has few and they come from far away."""
    taps = spec.window[0] * spec.window[1]
    each = taps * together * spec.w_block * shape.bytes
    room = target.l2 * 3 // 16
    if taps == 1 and not spec.streams:
        room = min(room, max(target.l1 // 3, _SLICE * each))
    fit = max(1, room // (each * spec.x_block))
    slices = max(1, -(-spec.x_blocks // fit))
    return max(1, -(-spec.x_blocks // slices)) * spec.x_block


def _lines(spec: BlockedSpec, parts: int, depth: int, target: Target, outside: bool) -> int:
    """Lines of one chunk: what they read stays in the second level, and threads have enough."""
    height = spec.out_sizes[0]
    line = spec.x_blocks * spec.sizes[1] * spec.x_block * spec.x.itemsize
    line = line * min(spec.window[1], spec.strides[1]) // spec.strides[1]
    read = min(spec.window[0], spec.strides[0])  # lines of x for a line of results
    fit = max(1, target.l2 * 3 // 8 // max(1, line * read))
    chunks = -(-height // fit)
    taps = spec.window[0] * spec.window[1]
    if depth >= spec.channels or taps == 1:  # else each chunk would read all filters anew
        chunks = max(chunks, -(-_ITEMS // (parts * spec.groups * spec.out_planes)))
    elif outside:
        chunks = 1
    return max(1, -(-height // max(1, min(chunks, height))))


_SLICE = 256  # channels, at least: partial sums are read and written for each slice
_ITEMS = 16  # of one image, so that threads end at about the same time
