"""The machine model: register tile and cache blocks for a target and a pair of types."""

from __future__ import annotations

from graphmill.codegen.cpu.contract.dots import PLAIN, Dot, choose_dot
from graphmill.codegen.cpu.emit import vector
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dtypes import DType
from graphmill.records import record

LEAST_DEPTH = 256  # of slices of k: shorter ones read and write C too often
BLOCK = 384 << 10  # bytes of a block of A at most: what streams by wants room in L2 as well


@record
class Tile:
    """The register tile: `rows` × (`vectors` × `lanes`) accumulators of MLIR type `element`.

    Packed operands are units of `dot.group` values of k, as wide as an accumulator.
    """

    element: str
    bits: int
    rows: int
    vectors: int
    lanes: int
    dot: Dot = PLAIN

    @property
    def columns(self) -> int:
        """The width of a B panel."""
        return self.vectors * self.lanes

    @property
    def bytes(self) -> int:
        """Bytes of one accumulator element."""
        return self.bits // 8

    @property
    def vector(self) -> str:
        """The MLIR type of one accumulator register."""
        return vector(self.element, self.lanes)

    @property
    def unit(self) -> str:
        """The MLIR type of a packed unit."""
        return self.element if self.dot.group == 1 else "i32"

    @property
    def head(self) -> int:
        """Units at the start of a panel of B that hold what its sums start with."""
        return self.columns if self.dot.shifted else 0

    @property
    def is_float(self) -> bool:
        """Whether the accumulators are floats."""
        return self.element.startswith("f")


def compute_element(acc: DType) -> str:
    """The MLIR type products are summed in: f32, f64, i32 or i64.

    Integers wrap, so a narrow sum is the truncation of a wide one.
    """
    if acc.is_float:
        return "f64" if acc.bits == 64 else "f32"
    return "i64" if acc.bits == 64 else "i32"


def register_tile(
    target: Target, acc: DType, a: DType | None = None, b: DType | None = None, *,
    heads: bool = True,
) -> Tile:  # fmt: skip
    """The tile that keeps every FMA unit busy without spilling.

    16 registers hold 6 × 2 accumulators, 2 vectors of B and a broadcast of A; with 32 there is
    room for 6 × 4 of 512 bits. At 128 bits A's broadcasts take registers of their own and leave
    7 × 3. Operand types `a` and `b` choose the instruction for packed operands.
    """
    element = compute_element(acc)
    bits = int(element[1:])
    lanes = target.lanes(bits)
    if target.registers < 32:
        rows, vectors = 6, 2
    elif target.vector_bits >= 512:
        rows, vectors = 6, 4
    else:
        rows, vectors = 7, 3
    dot = PLAIN if a is None or b is None else choose_dot(target, a, b, element, heads=heads)
    return Tile(element, bits, rows, vectors, lanes, dot)


@record
class Blocks:
    """Cache blocks: `k` deep slices of both operands, `rows` of A kept in the second level."""

    k: int
    rows: int


def cache_blocks(target: Target, tile: Tile, depth: int | None = None) -> Blocks:
    """A slice of a B panel fills L1 or a small part of L2 (it is read in order), a block of A some
    of L2: more rows if k is known to be only `depth` units. Deep slices read and write C less
    often."""
    k = max(target.l1, target.l2 // 16) // (tile.columns * tile.bytes)
    k = max(LEAST_DEPTH, min(512, k // 32 * 32))
    block = 2 * BLOCK if tile.dot.amx else BLOCK  # whose products are over sooner than B is there
    rows = min(target.l2 * 5 // 8, block) // (max(1, min(k, depth or k)) * tile.bytes)
    return Blocks(k, max(tile.rows, min(64 * tile.rows, rows // tile.rows * tile.rows)))
