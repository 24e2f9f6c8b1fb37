"""What the machine can do at best: multiply-adds, reading and copying memory.

`python -m benchmarks.limits THREADS` prints the rates of that many threads at once as JSON. The
kernels are a few lines of LLVM IR, compiled as Graphmill's own are, for the machine's vectors.
"""

import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CHAINS = 12  # independent sums: enough to fill the pipes, few enough for 16 registers
SIZE = 1 << 26  # floats; 256 MB, beyond every cache
ROUNDS = 1 << 20
REPEATS = 7


def kernel(name: str, lanes: int, body: Callable[[int, str], str], load: bool) -> str:
    """A loop over CHAINS vectors, each `body(chain, value)` of its last; the sum of all."""
    vector = f"<{lanes} x float>"
    chains = range(CHAINS)
    phis = [f"%a{c} = phi {vector} [ splat (float 1.0), %entry ], [ %b{c}, %loop ]" for c in chains]
    loads = [
        line
        for c in (chains if load else ())
        for line in (
            f"%o{c} = add i64 %i, {c * lanes}",
            f"%p{c} = getelementptr float, ptr %x, i64 %o{c}",
            f"%v{c} = load {vector}, ptr %p{c}, align 64",
        )
    ]
    steps = [f"%b{c} = {body(c, vector)}" for c in chains]
    sums = [f"%s{c} = fadd {vector} %b{c}, %{'b' if c == 1 else 's'}{c - 1}" for c in chains[1:]]
    lines = [
        f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
        f"define float @{name}(ptr %x, i64 %n) {{",
        "entry:",
        f"%m = load {vector}, ptr %x, align 64",
        "br label %loop",
        "loop:",
        "%i = phi i64 [ 0, %entry ], [ %j, %loop ]",
        *phis,
        *loads,
        *steps,
        f"%j = add i64 %i, {CHAINS * lanes}",
        "%again = icmp ult i64 %j, %n",
        "br i1 %again, label %loop, label %end",
        "end:",
        *sums,
        f"%r = extractelement {vector} %s{CHAINS - 1}, i32 0",
        "ret float %r",
        "}",
    ]
    return "\n".join(lines)


def compiled(text: str, name: str) -> tuple[Any, Any]:
    """The kernel as a ctypes function, and what keeps its code alive."""
    from graphmill.codegen.cpu.llvm import compile_ir
    from graphmill.codegen.cpu.target import native
    from graphmill.runtime.loader import LoadedObject

    code = LoadedObject(compile_ir(text, native()).object, (name,))
    signature = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_void_p, ctypes.c_int64)
    return signature(code.addresses[name]), code


def seconds(call: Callable[[int], Any], threads: int) -> float:
    """The shortest time in which `threads` calls, each with its number, run side by side."""
    times = []
    for _ in range(REPEATS):
        others = [threading.Thread(target=call, args=(i,)) for i in range(1, threads)]
        start = time.perf_counter()
        for other in others:
            other.start()
        call(0)
        for other in others:
            other.join()
        times.append(time.perf_counter() - start)
    return min(times)


def aligned(size: int) -> np.ndarray[Any, Any]:
    raw = np.ones(size + 16, np.float32)
    return raw[-raw.ctypes.data // 4 % 16 :][:size]


def limits(threads: int) -> dict[str, float]:
    """GFLOP/s in f32, GB/s read, GB/s copied (read and written) into mapped memory."""
    from graphmill.codegen.cpu.target import native

    lanes = native().lanes()
    step = CHAINS * lanes
    x, y = aligned(SIZE), aligned(SIZE)
    part = SIZE // threads // step * step

    def fma(chain: int, vector: str) -> str:
        arguments = f"{vector} %m, {vector} %m, {vector} %a{chain}"
        return f"call {vector} @llvm.fma.v{lanes}f32({arguments})"

    def add(chain: int, vector: str) -> str:
        return f"fadd {vector} %a{chain}, %v{chain}"

    multiply, kept = compiled(kernel("gm_bench_fma", lanes, fma, False), "gm_bench_fma")
    read, also_kept = compiled(kernel("gm_bench_read", lanes, add, True), "gm_bench_read")
    pieces = [(a[i * part : (i + 1) * part]) for a in (x, y) for i in range(threads)]
    found = {
        "gflops": 2.0 * ROUNDS * step * threads
        / seconds(lambda i: multiply(x.ctypes.data, ROUNDS * step), threads),
        "read": 4.0 * part * threads
        / seconds(lambda i: read(pieces[i].ctypes.data, part), threads),
        "copy": 8.0 * part * threads
        / seconds(lambda i: np.copyto(pieces[threads + i], pieces[i]), threads),
    }  # fmt: skip
    del kept, also_kept
    return {name: rate / 1e9 for name, rate in found.items()}


if __name__ == "__main__":
    count = int(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    print(json.dumps(limits(count)))
