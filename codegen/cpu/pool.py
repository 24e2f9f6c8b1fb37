"""The native worker pool: its LLVM IR and object code for a target, for JIT and libraries alike.

Symbols: `gm_parallel_for(ctx, body, data, n, grain)` as in the executable ABI, `gm_pool_now()`,
`gm_pool_set_threads(n)` (keep at most n - 1 workers) and `gm_pool_workers()`. It needs nothing but
libc and pthreads. The source is `pool.words` and `costs.words`, in the language of `words.py`.
"""

from __future__ import annotations

from pathlib import Path

from graphmill.codegen.cpu.words import to_llvm, to_object

SYMBOLS = ("gm_parallel_for", "gm_pool_now", "gm_pool_set_threads", "gm_pool_workers")


def source() -> str:
    """The pool's source text."""
    here = Path(__file__)
    parts = [here.with_name(f"{name}.words") for name in ("pool", "costs")]
    return "\n".join(part.read_text(encoding="utf-8") for part in parts)


def llvm_ir(triple: str) -> str:
    """LLVM IR text of the pool for a target triple."""
    return to_llvm(source(), triple)


def object_code(triple: str = "", cpu: str = "", features: str = "") -> bytes:
    """Relocatable object of the pool, for the machine here when no triple is given."""
    # in a library it is compiled once and runs often; here the first call waits for it
    return to_object(source(), triple, cpu, features, effort=1 if triple else 0)
