"""How a product's kernels are run: work items, and how many are worth a thread."""

from __future__ import annotations

from collections.abc import Callable

from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import ceil_div, most
from graphmill.codegen.cpu.contract.spec import GemmKernel, Phase, Sizes
from graphmill.codegen.cpu.emit import Code, Val

WORTH_A_THREAD = 1 << 19  # multiply-adds: some ten microseconds, worth cutting C or the sum for
PIECE = 1 << 17  # the least that a thread takes: the pool knows what is worth waking one
AMX_SHIFT = 3  # by how much both are more for tiles
GRAINS = (PIECE, 1 << 19, 1 << 21)

Count = Callable[[Code, Sizes], Val]


def worth_a_thread(tile: Tile) -> int:
    """Multiply-adds that C or the sum is cut for."""
    return WORTH_A_THREAD << AMX_SHIFT if tile.dot.amx else WORTH_A_THREAD


def piece(tile: Tile) -> int:
    """The least multiply-adds that a thread takes."""
    return PIECE << AMX_SHIFT if tile.dot.amx else PIECE


def nothing(code: Code, sizes: Sizes) -> Val:
    """No memory, or no items."""
    return code.i64(0)


def kernel_of(
    phases: tuple[Phase, ...], symbol: str, per_matrix: Count, shared: Count, scratch: Count,
    worth: int = PIECE,
) -> GemmKernel:  # fmt: skip
    """A kernel of `per_matrix` items for each matrix of the batch, none when C is empty.

    A thread takes items of `worth` multiply-adds at least.
    """

    def items(code: Code, sizes: Sizes) -> Val:
        empty = code.compare("arith.cmpi", "eq", code.mul(sizes.m, sizes.n), code.i64(0))
        count = code.mul(per_matrix(code, sizes), sizes.batch)
        return code.select(empty, code.i64(0), count)

    def grain(code: Code, sizes: Sizes) -> Val:
        work = code.mul(code.mul(sizes.m, sizes.n), code.mul(sizes.k, sizes.batch))
        each = code.binary("arith.divui", work, most(code, items(code, sizes), 1))
        return ceil_div(code, code.i64(worth), most(code, each, 1))

    return GemmKernel((*phases, Phase(symbol, items, grain)), shared, scratch)
