"""Stores that bypass the caches, for results too large to wait there for whoever reads them.

A plain store first reads the line it writes into, and pushes another out of the cache; one that
bypasses them does neither, but its reader finds the line in memory only. Which is better depends on
the size and the machine, and is measured there (`Target.bypass`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.ir.dims import product

Bypass = Mapping[Source, Val]  # arrays that may be stored past the caches, and whether they are


def bypassing(kernel: Kernel, outputs: Sequence[Source]) -> Bypass:
    """Which outputs are stored past the caches where the flag (i1) holds: those that are `final`.

    Such a store wants a vector's alignment, which is looked at when the kernel runs. The kernel
    ends with a `fence`.
    """
    final = [output for output in outputs if output.final]
    sizes = [product(output.shape) for output in final]
    total = sum(n * o.dtype.itemsize for n, o in zip(sizes, final, strict=True) if type(n) is int)
    whole, known = kernel.target.vector_bits // 8, all(isinstance(size, int) for size in sizes)
    if not known or total < kernel.target.l2 or any(_row_bytes(o) % whole for o in final):
        return {}
    model = 0 < kernel.target.bypass <= total
    if not kernel.choices.pick("bypass", model, (True, False)):
        return {}
    code, bits = kernel.code, kernel.code.i64(0)
    for output in final:
        at = code.op(f"llvm.ptrtoint {output.pointer} : !llvm.ptr to i64", "i64")
        bits = code.binary("arith.ori", bits, at)
    low = code.binary("arith.andi", bits, code.i64(whole - 1))
    flag = code.compare("arith.cmpi", "eq", low, code.i64(0))
    return dict.fromkeys(final, flag)


def _row_bytes(output: Source) -> int:
    """The distance of the rows of an array of known size; 0 where it is one row."""
    last = output.shape[-1] if output.shape else 1
    one = all(size == 1 for size in output.shape[:-1])
    return 0 if one or not isinstance(last, int) else last * output.dtype.itemsize


def fence(kernel: Kernel, bypass: Bypass) -> None:
    """Let what went past the caches be in memory before anybody is told that the work is done."""
    if bypass and kernel.target.is_x86:
        kernel.code.line('llvm.call_intrinsic "llvm.x86.sse.sfence"() : () -> ()')
