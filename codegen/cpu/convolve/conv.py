"""Convolutions: the public face. `emit_conv` chooses the algorithm and writes the kernels."""

from __future__ import annotations

from dataclasses import replace

from graphmill.codegen.cpu.contract.amx import LINE
from graphmill.codegen.cpu.contract.amx_tiled import loops_of
from graphmill.codegen.cpu.contract.blocking import register_tile
from graphmill.codegen.cpu.contract.elements import ceil_div, is_plain, most
from graphmill.codegen.cpu.contract.phases import GRAINS, kernel_of, nothing, piece
from graphmill.codegen.cpu.contract.plan import GROUP, Plan, packs_a, tile_plan
from graphmill.codegen.cpu.contract.slots import BODY
from graphmill.codegen.cpu.contract.space import packs_of_a
from graphmill.codegen.cpu.contract.spec import Epilogue, GemmKernel, Sizes
from graphmill.codegen.cpu.contract.tiled import row_tiles, scratch_layout
from graphmill.codegen.cpu.convolve.direct import Direct
from graphmill.codegen.cpu.convolve.patches import AmxPatches, PatchProduct
from graphmill.codegen.cpu.convolve.plain import emit_plain
from graphmill.codegen.cpu.convolve.spec import ConvSlots, ConvSpec, conv_sizes, slot_names
from graphmill.codegen.cpu.convolve.tap_plan import tap_plan
from graphmill.codegen.cpu.convolve.taps import emit_taps
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.schedule import UNMEASURED, Choices, described
from graphmill.codegen.cpu.target import Target

__all__ = ["ConvSpec", "algorithm", "conv_sizes", "emit_conv", "slot_names"]

_FEW_FILTERS = 2  # per group; below this a register tile is nearly empty


def choices_of(spec: ConvSpec, target: Target) -> Choices:
    """The choices of a convolution on plain channels."""
    if spec.acc.is_complex:
        return UNMEASURED
    return target.choices(lambda: f"conv {described(spec)}")


def algorithm(spec: ConvSpec, choices: Choices = UNMEASURED) -> str:
    """`taps` if w is in tiles, `plain` if complex, `direct` for few filters a group, `product` if
    1×1, else `patches`.

    Patches would do for all but complex ones, and where they were measured to be better they do.
    """
    if spec.in_tiles:
        return "taps"
    if spec.acc.is_complex:
        return "plain"
    model = "patches"
    if spec.filters // spec.groups <= _FEW_FILTERS:
        model = "direct"
    elif (
        all(n == 1 for n in (*spec.window, *spec.strides, *spec.input_dilation))
        and not any(spec.low)
        and spec.groups == 1
        and spec.sizes == spec.out_sizes
        and None not in spec.sizes
        and spec.contiguous
    ):
        model = "product"
    return choices.pick("algorithm", model, (model, "patches"))


def plan_of(spec: ConvSpec, target: Target, choices: Choices) -> Plan:
    """The register tile of the product; integers are multiplied in units."""
    patches = algorithm(spec, choices) == "patches"
    units = not spec.acc.is_float
    return tile_plan(spec.product(), target, choices, units=units, heads=not patches)


def emit_conv(
    unit: Unit, symbol: str, spec: ConvSpec, target: Target, epilogue: Epilogue | None = None
) -> GemmKernel:
    """Write the kernel of `spec` into `unit`; its slots are `slot_names`, its sizes `conv_sizes`.

    The epilogue's row is the channel, its column the position within the channel's results, its
    batch the image.
    """
    if spec.in_tiles:
        plan_of_taps = tap_plan(spec, target)
        assert plan_of_taps is not None, "or w would not be in tiles"
        return emit_taps(unit, symbol, spec, plan_of_taps, epilogue)
    choices, product = choices_of(spec, target), spec.product()
    chosen = algorithm(spec, choices)
    code = Code(unit, symbol, BODY, internal=False)
    slots = ConvSlots(code, spec)
    if chosen in ("plain", "direct"):
        if chosen == "plain":
            emit_plain(slots, epilogue)
        else:
            Direct(slots, register_tile(target, spec.acc), epilogue).body()
        code.finish()
        kernel = kernel_of((), symbol, lambda code, sizes: sizes.m, nothing, nothing)
        return replace(kernel, slots=slot_names(spec.rank))
    plan = plan_of(spec, target, choices)
    if chosen == "product":
        fits = (product.m or 0) <= plan.blocks.rows
        mode = choices.pick("b_mode", "group" if fits else "worker", ("group", "worker"))
        model = packs_a(product, plan.tile, target)
        pack_a = choices.pick("pack_a", model, packs_of_a(product, plan.tile))
        plan = replace(plan, b_mode=mode, pack_a=pack_a)
        loops_of(product, plan)(slots, symbol, product, plan, epilogue).body()
    else:
        pitch = GROUP * plan.tile.columns + 64 // plan.tile.bytes  # an odd number of cache lines
        plain, amx = is_plain(spec.w, plan.tile.element), plan.tile.dot.amx
        pack_a = bool(product.k and product.k % LINE) if amx else not plain
        plan = replace(plan, b_mode="group", pitch=pitch, pack_a=pack_a)
        (AmxPatches if amx else PatchProduct)(slots, symbol, plan, epilogue).body()
    code.finish()

    def items(code: Code, sizes: Sizes) -> Val:
        panels = ceil_div(code, sizes.n, plan.tile.columns)
        if chosen == "patches":
            return panels
        return most(code, panels, row_tiles(code, plan.tile, sizes.m))

    def scratch(code: Code, sizes: Sizes) -> Val:
        return scratch_layout(code, product, plan, sizes).bytes

    worth = choices.pick("grain", piece(plan.tile), GRAINS)
    kernel = kernel_of((), symbol, items, nothing, scratch, worth)
    return replace(kernel, slots=slot_names(spec.rank))
