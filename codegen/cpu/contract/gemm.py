"""Matrix products: the public face of contraction on CPUs.

`emit_gemm` writes the kernels of one product into a unit; `packing_of_b` says how a constant right
operand is packed before the first call. Work items are row tiles, or panels where C is wider than
tall, times the batch, so any contiguous range of items is a block of C, blocked for the caches
inside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graphmill.codegen.artifact import Step
from graphmill.codegen.cpu.contract.amx_tiled import emit_tiled
from graphmill.codegen.cpu.contract.blocking import Tile, register_tile
from graphmill.codegen.cpu.contract.elements import ceil_div, most
from graphmill.codegen.cpu.contract.grid import cells, grid_of
from graphmill.codegen.cpu.contract.packing import pack_b as emit_pack_b
from graphmill.codegen.cpu.contract.packing import panel_dtype, panel_steps
from graphmill.codegen.cpu.contract.phases import (
    GRAINS,
    PIECE,
    Count,
    kernel_of,
    nothing,
    piece,
)
from graphmill.codegen.cpu.contract.plan import Plan, explained, make_plan
from graphmill.codegen.cpu.contract.simple import emit_simple
from graphmill.codegen.cpu.contract.skinny import (
    Skinny,
    chosen,
    emit_skinny,
    scratch_elements,
    skinny,
)
from graphmill.codegen.cpu.contract.slices import emit_sliced, slices_of
from graphmill.codegen.cpu.contract.slots import BODY, Slots
from graphmill.codegen.cpu.contract.space import choices_of
from graphmill.codegen.cpu.contract.spec import (
    AS_THEY_LIE,
    SLOTS,
    Epilogue,
    GemmKernel,
    GemmSpec,
    Phase,
    Place,
    Prologue,
    Prologues,
    Sizes,
)
from graphmill.codegen.cpu.contract.symmetric import is_worth, mirror_phase
from graphmill.codegen.cpu.contract.tiled import panel_units, scratch_layout
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.target import Target

__all__ = [
    "SLOTS", "Epilogue", "GemmKernel", "GemmSpec", "Phase", "Place", "Prologue", "Prologues",
    "Sizes", "emit_gemm", "packed_size", "packing_of_b",
]  # fmt: skip


def emit_gemm(
    unit: Unit, symbol: str, spec: GemmSpec, target: Target, epilogue: Epilogue | None = None,
    prologues: Prologues = AS_THEY_LIE,
) -> GemmKernel:  # fmt: skip
    """Write the kernels of `spec` into `unit`; see `GemmKernel` for how they are run."""
    if spec.acc.is_complex:
        emit_simple(unit, symbol, spec, epilogue)
        return kernel_of((), symbol, lambda code, sizes: sizes.m, nothing, nothing)
    choices = choices_of(spec, target)
    if (shape := chosen(spec, choices)) is not None:
        worth = choices.pick("grain", PIECE, GRAINS)
        tile = register_tile(target, spec.acc)
        emit_skinny(unit, symbol, spec, tile, shape, epilogue, prologues)
        how = f"few rows or columns: {shape.kind}"
        return replace(_skinny_kernel(symbol, tile, shape, worth), how=how)
    if spec.symmetric and not is_worth(spec.m, spec.k, register_tile(target, spec.acc)):
        spec = replace(spec, symmetric=False)
    plan = make_plan(spec, target, choices, units=True)
    how = explained(plan)
    if (count := slices_of(spec, plan)) > 1:
        many = emit_sliced(unit, symbol, spec, plan, count, epilogue, prologues)
        how = f"{how}, {count} slices of k"
    else:
        many = _tiled_kernel(unit, symbol, spec, plan, epilogue, prologues)
    if spec.symmetric:
        many = replace(many, phases=(*many.phases, mirror_phase(unit, symbol, spec, target)))
        return replace(many, how=f"{how}, above the diagonal alone")
    many = replace(many, how=how)
    one = replace(spec, m=1)
    if spec.m is not None or (shape := skinny(one)) is None:
        return many
    name, tile = f"{symbol}_row", register_tile(target, spec.acc)
    emit_skinny(unit, name, one, tile, shape, epilogue, prologues)
    return _by_rows(_skinny_kernel(name, tile, shape, PIECE), many)


def _tiled_kernel(
    unit: Unit, symbol: str, spec: GemmSpec, plan: Plan, epilogue: Epilogue | None,
    prologues: Prologues,
) -> GemmKernel:  # fmt: skip
    emit_tiled(unit, symbol, spec, plan, epilogue, prologues)
    phases: tuple[Phase, ...] = ()
    if plan.b_mode == "shared":
        phases = (_pack_phase(unit, symbol, spec, plan, prologues.b),)

    def grid(code: Code, sizes: Sizes) -> Val:
        return grid_of(code, spec, plan, sizes, sizes.batch)

    def blocks(code: Code, sizes: Sizes) -> Val:
        return cells(code, grid(code, sizes))

    def shared(code: Code, sizes: Sizes) -> Val:
        if plan.b_mode != "shared":
            return code.i64(0)
        panels = ceil_div(code, sizes.n, plan.tile.columns)
        size = panel_units(code, plan.tile, sizes.k)
        return code.mul(code.mul(panels, size), plan.tile.bytes)

    def scratch(code: Code, sizes: Sizes) -> Val:
        return scratch_layout(code, spec, plan, sizes).bytes

    kernel = kernel_of(phases, symbol, blocks, shared, scratch, piece(plan.tile))
    return replace(kernel, grid=grid)


def _by_rows(one: GemmKernel, many: GemmKernel) -> GemmKernel:
    """`one` where there is a single row, which is not worth packing B, else `many`."""

    def chosen(phase: Phase, single: bool) -> Phase:
        def items(code: Code, sizes: Sizes) -> Val:
            count, none = phase.items(code, sizes), code.i64(0)
            here = code.compare("arith.cmpi", "eq", sizes.m, code.i64(1))
            return code.select(here, count, none) if single else code.select(here, none, count)

        return replace(phase, items=items)

    def larger(a: Count, b: Count) -> Count:
        return lambda code, sizes: most(code, a(code, sizes), b(code, sizes))

    phases = [chosen(p, k is one) for k in (one, many) for p in k.phases]
    return GemmKernel(
        tuple(phases), larger(one.shared, many.shared), larger(one.scratch, many.scratch),
        grid=many.grid, how=many.how,
    )  # fmt: skip


def _skinny_kernel(symbol: str, tile: Tile, shape: Skinny, worth: int) -> GemmKernel:
    def per_matrix(code: Code, sizes: Sizes) -> Val:
        return ceil_div(code, shape.count(sizes), shape.unit)

    def scratch(code: Code, sizes: Sizes) -> Val:
        size = code.add(code.mul(scratch_elements(code, shape, sizes), tile.bytes), 63)
        return code.op(f"arith.andi {size}, {code.i64(-64)} : i64", "i64")

    return kernel_of((), symbol, per_matrix, nothing, scratch, worth)


def _pack_phase(
    unit: Unit, symbol: str, spec: GemmSpec, plan: Plan, prologue: Prologue | None
) -> Phase:
    """The first phase: all threads pack B's panels into the shared memory."""
    name = f"{symbol}_pack"
    code = Code(unit, name, BODY, internal=False)
    slot = Slots(code, spec)
    pack = emit_pack_b(unit, plan.tile, spec.b, spec.b_order, prologue, symbol)
    begin, end = code.args[1:3]
    order = [slot["b"], slot["b_k"], slot["b_n"], slot["k"], slot["n"]]
    corner = [code.i64(0), code.i64(0), slot.data] if prologue else ()
    code.call(pack, [*order, begin, end, slot["shared"], *corner])
    code.finish()

    def items(code: Code, sizes: Sizes) -> Val:
        return ceil_div(code, sizes.n, plan.tile.columns)

    def grain(code: Code, sizes: Sizes) -> Val:
        each = code.add(code.mul(sizes.k, plan.tile.columns), 1)
        return ceil_div(code, code.i64(1 << 16), each)

    return Phase(name, items, grain)


def packing_of_b(
    spec: GemmSpec, target: Target
) -> tuple[tuple[Step, ...], tuple[int, ...], np.dtype[Any]]:
    """How a constant `(k, n)` right operand gets the panel format that `b_packed=True` reads.

    Steps (`codegen.constants`), and shape and dtype of their result.
    """
    assert spec.n is not None and spec.k is not None, "a constant has static sizes"
    tile = make_plan(spec, target, units=True).tile
    return *panel_steps(spec.k, spec.n, tile), panel_dtype(tile, spec.b)


def packed_size(spec: GemmSpec, target: Target) -> int:
    """Bytes of `pack_b`'s result; `spec.n` and `spec.k` must be static."""
    assert spec.n is not None and spec.k is not None, "a constant has static sizes"
    tile = make_plan(spec, target, units=True).tile
    size = tile.dot.units(spec.k) * tile.columns + tile.head
    return -(-spec.n // tile.columns) * size * tile.bytes
