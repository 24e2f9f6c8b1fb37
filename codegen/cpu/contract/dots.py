"""Instructions that multiply several values of k at once and add the products to a wide sum.

A *unit* holds `group` neighbouring values of k in the width of one accumulator; panels and tiles
are packed in units, so the loops around the micro-kernel see a shorter k and nothing else.

Integer sums stay exact modulo 2^32. `vpdpbusd` multiplies unsigned bytes of one operand by signed
ones of the other without saturation; where both are signed, A is packed with 128 added and the
sums start at -128 times the column sums of B, which B's packing writes at the head of a panel.
`pmaddwd` adds two products of 16-bit values, of which only (-32768)² twice wraps, as sums do.

AMX multiplies tiles of 16 rows by 16 units (`amx.py`), bytes of either sign.
"""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dtypes import DType, bf16, i8, i16, u8
from graphmill.records import record


@record
class Dot:
    """One way to multiply: `group` values of MLIR type `part` in a unit.

    `shifted`: A's bytes are packed with 128 added. `swapped`: B's bytes are the unsigned ones.
    `fused`: one instruction multiplies and adds. `amx`: the instruction that multiplies tiles.
    """

    name: str
    group: int = 1
    part: str = ""
    shifted: bool = False
    swapped: bool = False
    fused: bool = True
    amx: str = ""

    @property
    def step(self) -> int:
        """Packed operands have a multiple of so many units of k."""
        return AMX_UNITS if self.amx else 1

    def units(self, k: int) -> int:
        """How many packed units hold `k` values."""
        return -(-k // (self.group * self.step)) * self.step


AMX_UNITS = 16  # in a row of a tile
PLAIN = Dot("")
_BYTES = {
    (u8, i8): Dot("us", 4, "i8"),
    (i8, i8): Dot("ss", 4, "i8", shifted=True),
    (i8, u8): Dot("su", 4, "i8", swapped=True),
}
_TILES = {
    (u8, i8): Dot("tus", 4, "i8", amx="tdpbusd"),
    (i8, i8): Dot("tss", 4, "i8", amx="tdpbssd"),
    (i8, u8): Dot("tsu", 4, "i8", amx="tdpbsud"),
    (u8, u8): Dot("tuu", 4, "i8", amx="tdpbuud"),
    (bf16, bf16): Dot("tbf", 2, "bf16", amx="tdpbf16ps"),
}


def choose_amx(target: Target, a: DType, b: DType, element: str) -> Dot | None:
    """The instruction for tiles of `a` and `b` summed as `element`; None if there is none."""
    dot = _TILES.get((a, b))
    if dot is None or element != ("f32" if dot.part == "bf16" else "i32"):
        return None
    feature = "amx-bf16" if dot.part == "bf16" else "amx-int8"
    return (
        dot
        if target.has("amx-tile") and target.has(feature) and target.vector_bits == 512
        else None
    )


def choose_dot(
    target: Target, a: DType, b: DType, element: str, *, heads: bool = True
) -> Dot:  # fmt: skip
    """The fastest instruction of `target` for products of `a` and `b` summed as `element`.

    CPUs with AVX512_FP16 do a quarter as many `vdpbf16ps` as f32 multiply-adds, which have half
    the products (measured: 0.8 against 0.2 ns); others as many. Without `heads`, sums start at 0.
    """
    if not target.triple.startswith("x86_64"):
        return PLAIN
    if element == "f32" and a is b is bf16 and _wide(target, "avx512bf16"):
        return PLAIN if target.has("avx512fp16") else Dot("bf", 2, "bf16")
    if element != "i32" or not {a, b} <= {i8, u8, i16}:
        return PLAIN
    vnni = _wide(target, "avx512vnni") or (target.vector_bits < 512 and target.has("avxvnni"))
    dot = _BYTES.get((a, b), PLAIN)
    if vnni and dot is not PLAIN and (heads or not dot.shifted):
        return dot
    return Dot("wv" if vnni else "w", 2, "i16", fused=vnni)


def _wide(target: Target, feature: str) -> bool:
    """Whether an AVX-512 feature is there for vectors of the target's width."""
    return target.has(feature) and (target.vector_bits == 512 or target.has("avx512vl"))


def multiply_units(code: Code, dot: Dot, a: Val, b: Val, acc: Val) -> Val:
    """`acc` plus the products of the values in the units of `a` and `b` (vectors of i32)."""
    kind = vector(dot.part, acc.lanes * dot.group)
    a, b = (code.op(f"vector.bitcast {x} : {x.type} to {kind}", kind) for x in (a, b))
    bits = acc.lanes * 32
    if dot.part == "i16" and not dot.fused:
        name = {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"}[bits]
        return code.binary("arith.addi", acc, _intrinsic(code, name, [a, b], acc.type))
    name = {"i8": "avx512.vpdpbusd", "i16": "avx512.vpdpwssd", "bf16": "avx512bf16.dpbf16ps"}[
        dot.part
    ]
    pair = [b, a] if dot.swapped else [a, b]
    return _intrinsic(code, f"{name}.{bits}", [acc, *pair], acc.type)


def _intrinsic(code: Code, name: str, args: list[Val], kind: str) -> Val:
    types = ", ".join(arg.type for arg in args)
    names = ", ".join(map(str, args))
    return code.op(f'llvm.call_intrinsic "llvm.x86.{name}"({names}) : ({types}) -> {kind}', kind)
