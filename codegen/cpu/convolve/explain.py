"""How a convolution is computed and why, in words for dumps."""

from __future__ import annotations

from graphmill.codegen.cpu.contract.plan import tile_text
from graphmill.codegen.cpu.convolve.blocked_spec import BlockedSpec, direct_cost, shape_of, tiling
from graphmill.codegen.cpu.convolve.conv import algorithm, choices_of, plan_of
from graphmill.codegen.cpu.convolve.free import free_chunk
from graphmill.codegen.cpu.convolve.spec import ConvSpec
from graphmill.codegen.cpu.convolve.tap_plan import tap_plan
from graphmill.codegen.cpu.convolve.winograd_plan import Winograd, cost, fastest, obstacle, scratch
from graphmill.codegen.cpu.target import Target


def blocked_schedule(
    spec: BlockedSpec, target: Target, way: Winograd | None, allowed: int, in_call: bool
) -> str:
    """Of a convolution on blocked channels; `in_call`: its filters are known at run time."""
    if way is not None:
        return _winograd(spec, target, way, in_call) + _gathered(spec)
    shape, cut = shape_of(target, spec.acc, spec.w_block), tiling(spec, target)
    together = -(-spec.w_blocks // cut.parts)
    slices = 1 if spec.lanewise else -(-spec.channels // max(1, cut.depth))
    kind = "lane by lane" if spec.lanewise else "direct"
    words = (
        f"{kind} on blocks of {spec.x_block} and {spec.w_block}: {cut.tiles} tiles a line, of "
        f"{together} × {shape.parts} vectors; {cut.parts} parts of the filters, chunks of "
        f"{cut.lines} lines, {slices} slices of channels"
    )
    return f"{words}; {_saving(spec, target, allowed, in_call)}{_gathered(spec)}"


def free_schedule(spec: BlockedSpec, target: Target) -> str:
    """Of a convolution on blocked channels whose lines and places are known at run time."""
    chunk, cut = free_chunk(spec, target)
    kind = "lane by lane" if spec.lanewise else "direct"
    lines, places = chunk.out_sizes
    return (
        f"{kind} on blocks of {spec.x_block} and {spec.w_block}, sizes known at run time: chunks "
        f"of {lines} × {places} results, {cut.tiles} tiles a line; {cut.parts} parts of the filters"
    )


def _gathered(spec: BlockedSpec) -> str:
    """What a kernel that reads plain channels converts."""
    elements = spec.channels * spec.groups * spec.sizes[0] * spec.sizes[1]
    return f"; {elements * spec.x.itemsize} bytes of x to blocks" if spec.plain else ""


def _winograd(spec: BlockedSpec, target: Target, way: Winograd, in_call: bool) -> str:
    shape = shape_of(target, spec.acc, spec.w_block)
    high, wide = (way.tiles(length) for length in spec.out_sizes)
    used = spec.out_sizes[0] * spec.out_sizes[1] / (high * wide * way.tile**2)
    room = scratch(spec, shape, way)[-1] * shape.bytes
    share = cost(spec, target, way, in_call) / direct_cost(spec, target)
    return (
        f"Winograd F({way.tile} × {way.tile}, 3 × 3) on blocks of {spec.x_block}: {high} × {wide} "
        f"tiles, {used:.0%} of them used; products of {way.rows} × {way.vectors} vectors; "
        f"{way.parts} parts of the filters, chunks of {way.lines} lines, {room >> 10} KiB of "
        f"scratch; {share:.2f} of direct convolution's estimated time"
    )


def _saving(spec: BlockedSpec, target: Target, allowed: int, in_call: bool) -> str:
    """What Winograd's algorithm would take in place of direct convolution."""
    why_not = obstacle(spec)
    if why_not:
        return f"no Winograd: {why_not}"
    way = fastest(spec, target, in_call=in_call)
    if way is None:
        return "no Winograd: it would take longer"
    share = cost(spec, target, way, in_call) / direct_cost(spec, target)
    better = f"F({way.tile} × {way.tile}, 3 × 3) would take {share:.2f} of the estimated time"
    return f"{better}: winograd={way.tile} allows it" if way.tile > allowed else better


def plain_schedule(spec: ConvSpec, target: Target) -> str:
    """Of a convolution on plain arrays."""
    choices = choices_of(spec, target)
    chosen = algorithm(spec, choices)
    if chosen == "taps":
        return _taps(spec, target)
    if chosen == "plain":
        return "loops over complex numbers"
    if chosen == "direct":
        return "direct on plain arrays: few filters a group"
    plan = plan_of(spec, target, choices)
    what = "a matrix product" if chosen == "product" else "products with patches of the input"
    return f"{what}, {tile_text(plan.tile)}, on plain arrays"


def _taps(spec: ConvSpec, target: Target) -> str:
    plan = tap_plan(spec, target)
    assert plan is not None, "or w would not be in tiles"
    how = f"AMX, {plan.dot.amx}" if plan.dot.amx else "vectors of units of bytes"
    what = f"lines of x, tap by tap, {len(plan.phases)} phases"
    if plan.patches:
        what = "patches in units of neighbouring taps"
    return (
        f"{how} on {what}: {plan.pitch} places a line; {plan.parts} parts of the "
        f"filters, chunks of {plan.lines} lines of {plan.images} images, "
        f"{plan.scratch >> 10} KiB of scratch"
    )
