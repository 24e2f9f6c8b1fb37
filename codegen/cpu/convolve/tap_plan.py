"""Convolution by tiles that read lines of x where they lie, tap by tap: its layout and cuts.

The lines of x that some lines of results read are laid out in scratch memory once, in units of
neighbouring channels (four bytes) and with the padding: `[phase][unit][line][place]`. There the
results of all lines are one row of places, and what a tap of the window reads of it is the same
row, shifted: tiles of units × places are loaded from any place on. A window that moves by more
than one place reads each of its taps from one of as many *phases*, which hold every n-th line or
place. The zeros behind a line are those before the next one, so that few of the sums are of no use.

The layout without patches is that of Georganas et al., "Anatomy of High-Performance Deep Learning
Convolutions on SIMD Architectures" (2018); that one row of places is enough is known from
convolutions by the indirection of shifted products (Anderson et al., "Low-memory GEMM-based
convolution algorithms for deep neural networks", 2017).
"""

from __future__ import annotations

import math
from dataclasses import replace

from graphmill.codegen.cpu.contract.amx import LINE, ROWS
from graphmill.codegen.cpu.contract.blocking import compute_element
from graphmill.codegen.cpu.contract.dots import AMX_UNITS, Dot, choose_amx, choose_dot
from graphmill.codegen.cpu.convolve.spec import ConvSpec
from graphmill.codegen.cpu.target import Target
from graphmill.records import record

UNIT = 4  # bytes
STRIP = 1024  # places whose sums wait for what follows them, in a buffer for 32 filters
_ITEMS = 8  # of all images together, so that threads end at about the same time
_FEWEST = 128  # places of an item: filters are read anew for each
_MOST_TAPS = 128
_IDLE = 4  # how many times as many tiles as patches need are still quicker than patches


@record
class Phase:
    """Every `stride`-th line and place of x, from these numbers on."""

    line: int
    place: int


@record
class Axis:
    """One axis of the window: its taps as phases and shifts, `first` the least of these."""

    phases: tuple[int, ...]  # of each tap
    shifts: tuple[int, ...]  # of each tap, from the least on
    first: int
    stride: int
    size: int  # of x

    @property
    def span(self) -> int:
        """The largest shift."""
        return max(self.shifts)

    def inside(self, phase: int) -> tuple[int, int]:
        """The positions of a phase that lie inside x, counted from the first shift on."""
        return -self.first, max(0, -((phase - self.size) // self.stride)) - self.first


@record
class TapPlan:
    """How one convolution is cut: items are `lines` lines of `images` images for one of `parts` of
    the filters of a group. A line of results takes `pitch` places, of which the first count."""

    dot: Dot
    blocks: int  # tiles of units that hold a group's channels
    high: Axis
    wide: Axis
    phases: tuple[Phase, ...]
    pitch: int
    lines: int
    images: int
    parts: int
    strip: int  # lines whose sums are finished together
    patches: bool  # units are of neighbouring taps, see `tap_patches`

    @property
    def rows(self) -> int:
        """Places of one unit: all lines, one of zeros, and what tiles read beyond."""
        if self.patches:
            return _odd(self.lines * self.pitch + 2 * AMX_UNITS)
        places = (self.lines + self.high.span + 1) * self.pitch + 3 * AMX_UNITS
        return _odd(places + self.wide.span)

    @property
    def phase_bytes(self) -> int:
        """Bytes of one phase of an image."""
        return self.blocks * AMX_UNITS * self.rows * UNIT

    @property
    def image_bytes(self) -> int:
        """Bytes of the lines of one image."""
        return self.phase_bytes if self.patches else len(self.phases) * self.phase_bytes

    @property
    def sums(self) -> int:
        """Places in the buffer of sums, for each filter."""
        return _odd(self.strip * self.pitch + 2 * AMX_UNITS)

    @property
    def scratch(self) -> int:
        """Bytes of a worker's memory."""
        return self.images * self.image_bytes + 2 * ROWS * self.sums * UNIT

    def chunks(self, spec: ConvSpec) -> int:
        """Chunks of lines of one image."""
        return -(-self.results(spec)[0] // self.lines)

    def results(self, spec: ConvSpec) -> tuple[int, int]:
        """Lines of results and their places."""
        return _two(spec.out_sizes, 1)

    def offsets(self) -> list[int]:
        """Where each tap reads, in bytes from the first place of the first phase."""
        if self.patches:
            return [0]
        found = []
        for line, by_line in zip(self.high.phases, self.high.shifts, strict=True):
            for place, by_place in zip(self.wide.phases, self.wide.shifts, strict=True):
                number = self.phases.index(Phase(line, place))
                shift = by_line * self.pitch + by_place
                found.append(number * self.phase_bytes + shift * UNIT)
        return found


def _odd(places: int) -> int:
    """Places up to an odd number of cache lines, so that rows lie in different sets."""
    lines = -(-places // AMX_UNITS)
    return (lines | 1) * AMX_UNITS


def tap_plan(spec: ConvSpec, target: Target) -> TapPlan | None:
    """The plan for a convolution whose filters are packed; None where patches must do."""
    dot = _dot(spec, target)
    if dot is None or not _suits(spec, dot):
        return None
    high, wide = (_axis(spec, axis) for axis in (0, 1))
    phases = tuple(
        Phase(line, place)
        for line in sorted(set(high.phases))
        for place in sorted(set(wide.phases))
    )
    patches, width = _few_channels(spec, dot), _two(spec.out_sizes, 1)[1]
    blocks = patches or _blocks(spec.channels // spec.groups, spec)
    pitch = width if patches else _pitch(wide, width)
    plan = TapPlan(dot, blocks, high, wide, phases, pitch, 1, 1, 1, 1, bool(patches))
    return _cut(spec, plan, target)


def _dot(spec: ConvSpec, target: Target) -> Dot | None:
    """How units are multiplied: by tiles, or bytes by vectors where x has no sign and w has."""
    element = compute_element(spec.acc)
    dot = choose_amx(target, spec.w, spec.x, element)
    if dot is None and target.vector_bits == 512:
        dot = choose_dot(target, spec.w, spec.x, element, heads=False)
    return dot if dot is not None and (dot.amx or dot.part == "i8") else None


def _suits(spec: ConvSpec, dot: Dot) -> bool:
    """Whether x can be laid out so, and tiles are not too empty."""
    sizes = (*spec.sizes, *spec.out_sizes)
    if spec.rank > 2 or None in sizes or 0 in sizes or not spec.contiguous or not spec.unit_step:
        return False
    if any(by != 1 for by in spec.input_dilation) or spec.strides[-1] > 2:
        return False
    taps, each = math.prod(spec.window), spec.channels // spec.groups
    if taps > _MOST_TAPS or spec.filters // spec.groups < ROWS // 2:
        return False
    if taps == 1 and set(spec.strides) == {1} and not spec.acc.is_float:
        return False  # the product of matrices is as quick or quicker
    full = taps * _blocks(each, spec) <= _IDLE * _blocks(taps * each, spec)
    return full or _few_channels(spec, dot) > 0


def _blocks(values: int, spec: ConvSpec) -> int:
    """Tiles that hold so many values of k."""
    return -(-values * spec.x.itemsize // LINE)


def _few_channels(spec: ConvSpec, dot: Dot) -> int:
    """Tiles that hold a patch in units of neighbouring taps; 0 where channels fill tiles better."""
    if spec.dilation[-1] != 1:
        return 0
    each = spec.channels // spec.groups
    *lines, width = spec.window
    values = each * math.prod(lines) * -(-width // dot.group) * dot.group
    blocks = _blocks(values, spec)
    return blocks if 2 * blocks <= math.prod(spec.window) * _blocks(each, spec) else 0


def _two(sizes: tuple[int | None, ...], lead: int) -> tuple[int, int]:
    first, last = (lead, *sizes)[-2:]
    assert first is not None and last is not None, "checked before"
    return first, last


def _axis(spec: ConvSpec, axis: int) -> Axis:
    window, stride, low, dilation, size = (
        _two(values, lead)[axis]
        for values, lead in (
            (spec.window, 1), (spec.strides, 1), (spec.low, 0), (spec.dilation, 1), (spec.sizes, 1),
        )
    )  # fmt: skip
    at = [divmod(tap * dilation - low, stride) for tap in range(window)]
    first = min(shift for shift, _ in at)
    return Axis(
        tuple(phase for _, phase in at), tuple(shift - first for shift, _ in at), first, stride,
        size,
    )  # fmt: skip


def _pitch(wide: Axis, width: int) -> int:
    """Places of a line: its elements, and zeros that serve before the next line's as well."""
    read = width + wide.span
    past = max(wide.inside(phase)[1] for phase in wide.phases)
    return max(width, min(past, read), read - max(0, -wide.first))


def _cut(spec: ConvSpec, plan: TapPlan, target: Target) -> TapPlan:
    """The plan with items sized for the second cache level, and enough of them for threads."""
    height, batch = _two(spec.out_sizes, 1)[0], spec.batch or 1
    room, pairs = target.l2 * 3 // 8, -(-spec.filters // spec.groups // (2 * ROWS))

    def chunked(count: int) -> TapPlan:
        return replace(plan, lines=-(-height // count))

    chunks = 1
    while chunks < height and chunked(chunks).image_bytes > room:
        chunks += 1
    wanted = -(-_ITEMS // (batch * spec.groups))
    most = max(1, height * plan.pitch // _FEWEST)
    plan = chunked(max(chunks, min(wanted, most, height)))
    chunks = -(-height // plan.lines)
    images = 1
    weights = spec.filters // spec.groups * spec.taps * spec.w.itemsize
    if chunks == 1 and weights > target.l2 // 4:  # so that they are read less often
        images = max(1, min(batch, room // plan.image_bytes))
    parts = min(pairs, -(-_ITEMS // (-(-batch // images) * spec.groups * chunks)))
    strip = max(1, min(plan.lines, STRIP // plan.pitch))
    return replace(plan, images=images, parts=parts, strip=strip)


def filter_tiles(spec: ConvSpec) -> int:
    """Tiles of 16 filters in one group."""
    return -(-spec.filters // spec.groups // ROWS)


def packing_of_filters(
    spec: ConvSpec, plan: TapPlan
) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], tuple[int, ...]]:
    """Steps and shape that bring `[filters, channels / groups, *window]` into tiles: `[group]
    [tile of filters][tap][tile of channels][16 filters][64 bytes]`, zeros where there is none."""
    groups, taps = spec.groups, math.prod(spec.window)
    own, each, lanes = spec.filters // groups, spec.channels // groups, LINE // spec.w.itemsize
    tiles, blocks = filter_tiles(spec), plan.blocks
    if plan.patches:
        width, unit = spec.window[-1], plan.dot.group
        more, k = -width % unit, each * taps // width
        return (
            ("reshape", (groups, own, k, width)),
            ("pad", (0, tiles * ROWS - own, 0, more)),
            ("reshape", (groups, tiles * ROWS, k * (width + more))),
            ("pad", (0, 0, blocks * lanes - k * (width + more))),
            ("reshape", (groups, tiles, ROWS, blocks, lanes)),
            ("transpose", (0, 1, 3, 2, 4)),
        ), (groups, tiles, blocks, ROWS, lanes)
    steps = (
        ("reshape", (groups, own, each, taps)),
        ("pad", (0, tiles * ROWS - own, blocks * lanes - each, 0)),
        ("reshape", (groups, tiles, ROWS, blocks, lanes, taps)),
        ("transpose", (0, 1, 5, 3, 2, 4)),
    )
    return steps, (groups, tiles, taps, blocks, ROWS, lanes)
