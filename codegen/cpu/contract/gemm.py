"""Matrix products: the public face of contraction on CPUs.

`emit_gemm` writes the kernels of one product into a unit; `pack_b` packs a constant right operand
at compile time. Work items are row tiles, or panels where C is wider than tall, times the batch, so
any contiguous range of items is a block of C, blocked for the caches inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.codegen.cpu.contract.elements import ceil_div
from graphmill.codegen.cpu.contract.packing import pack_b as emit_pack_b
from graphmill.codegen.cpu.contract.packing import pack_b_array
from graphmill.codegen.cpu.contract.plan import Plan, make_plan
from graphmill.codegen.cpu.contract.spec import (
    SLOTS,
    Epilogue,
    GemmKernel,
    GemmSpec,
    Phase,
    Place,
    Sizes,
)
from graphmill.codegen.cpu.contract.tiled import emit_tiled, row_tiles, scratch_layout
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.target import Target

__all__ = [
    "SLOTS", "Epilogue", "GemmKernel", "GemmSpec", "Phase", "Place", "Sizes", "emit_gemm",
    "pack_b", "packed_size",
]  # fmt: skip

_WORTH_A_THREAD = 1 << 20  # multiply-adds: some ten microseconds, well above a fork and join


def emit_gemm(
    unit: Unit, symbol: str, spec: GemmSpec, target: Target, epilogue: Epilogue | None = None
) -> GemmKernel:
    """Write the kernels of `spec` into `unit`; see `GemmKernel` for how they are run."""
    plan = make_plan(spec, target)
    emit_tiled(unit, symbol, spec, plan, epilogue)
    phases: tuple[Phase, ...] = ()
    if plan.b_mode == "shared":
        phases = (_pack_phase(unit, symbol, spec, plan),)

    def items(code: Code, sizes: Sizes) -> Val:
        panels = ceil_div(code, sizes.n, plan.tile.columns)
        most = code.binary("arith.maxsi", row_tiles(code, plan.tile, sizes.m), panels)
        empty = code.compare("arith.cmpi", "eq", code.mul(sizes.m, sizes.n), code.i64(0))
        return code.select(empty, code.i64(0), code.mul(most, sizes.batch))

    def grain(code: Code, sizes: Sizes) -> Val:
        work = code.mul(code.mul(sizes.m, sizes.n), code.mul(sizes.k, sizes.batch))
        one = code.i64(1)
        count = code.binary("arith.maxsi", items(code, sizes), one)
        each = code.binary("arith.maxsi", code.binary("arith.divui", work, count), one)
        return ceil_div_val(code, code.i64(_WORTH_A_THREAD), each)

    def shared(code: Code, sizes: Sizes) -> Val:
        if plan.b_mode != "shared":
            return code.i64(0)
        panels = ceil_div(code, sizes.n, plan.tile.columns)
        return code.mul(code.mul(panels, sizes.k), plan.tile.columns * plan.tile.bytes)

    def scratch(code: Code, sizes: Sizes) -> Val:
        return scratch_layout(code, spec, plan, sizes).bytes

    return GemmKernel((*phases, Phase(symbol, items, grain)), shared, scratch)


def ceil_div_val(code: Code, a: Val, b: Val) -> Val:
    """`ceil(a / b)` for positive values."""
    less = code.binary("arith.subi", code.add(a, b), code.i64(1))
    return code.binary("arith.divui", less, b)


def _pack_phase(unit: Unit, symbol: str, spec: GemmSpec, plan: Plan) -> Phase:
    """The first phase: all threads pack B's panels into the shared memory."""
    name = f"{symbol}_pack"
    args = (("data", "!llvm.ptr"), ("begin", "i64"), ("end", "i64"), ("worker", "i64"))
    code = Code(unit, name, args, internal=False)
    slot = {
        key: code.load(code.at(code.args[0], i, "i64"), _kind(key), 8)
        for i, key in enumerate(SLOTS)
        if key in ("b", "b_k", "b_n", "k", "n", "shared")
    }
    pack = emit_pack_b(unit, plan.tile, spec.b, spec.b_order)
    begin, end = code.args[1:3]
    order = [slot["b"], slot["b_k"], slot["b_n"], slot["k"], slot["n"]]
    code.call(pack, [*order, begin, end, slot["shared"]])
    code.finish()

    def items(code: Code, sizes: Sizes) -> Val:
        return ceil_div(code, sizes.n, plan.tile.columns)

    def grain(code: Code, sizes: Sizes) -> Val:
        each = code.add(code.mul(sizes.k, plan.tile.columns), 1)
        return ceil_div_val(code, code.i64(1 << 16), each)

    return Phase(name, items, grain)


def _kind(slot: str) -> str:
    return "!llvm.ptr" if slot in ("a", "b", "c", "shared", "scratch") else "i64"


def pack_b(array: np.ndarray[Any, Any], spec: GemmSpec, target: Target) -> np.ndarray[Any, Any]:
    """A constant `(k, n)` right operand in the panel format that `b_packed=True` reads."""
    return pack_b_array(array, make_plan(spec, target).tile)


def packed_size(spec: GemmSpec, target: Target) -> int:
    """Bytes of `pack_b`'s result; `spec.n` and `spec.k` must be static."""
    assert spec.n is not None and spec.k is not None, "a constant has static sizes"
    tile = make_plan(spec, target).tile
    return -(-spec.n // tile.columns) * tile.columns * spec.k * tile.bytes
