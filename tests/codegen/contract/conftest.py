"""Runs emitted contractions: compiles a unit and plays `parallel_for` with direct calls."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from graphmill.codegen.cpu import llvm as backend
from graphmill.codegen.cpu import mlir
from graphmill.codegen.cpu.contract.gemm import (
    Epilogue,
    GemmKernel,
    GemmSpec,
    Sizes,
    emit_gemm,
)
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.target import Target, native
from tests.codegen.harness import llvm_machine

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
_PLAN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


def aligned(size: int) -> np.ndarray[Any, Any]:
    """`size` bytes on a cache line."""
    raw = np.full(size + 64, 0xB5, np.uint8)  # as memory is that was used before
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


class Kernels:
    """The phases of one kernel as callables, and the values it asks of its caller."""

    def __init__(
        self,
        unit: Unit,
        phases: Sequence[Any],
        memory: Sequence[Callable[[Code, Any], Val]],
        sizes: Callable[[Code, Val], Any],
        target: Target | None = None,
    ) -> None:
        code = Code(unit, "gm_plan", (("out", "!llvm.ptr"), ("sizes", "!llvm.ptr")), internal=False)
        given = sizes(code, code.args[1])
        wanted = [f for p in phases for f in (p.items, p.grain)] + list(memory)
        for i, emit in enumerate(wanted):
            code.store(emit(code, given), code.at(code.args[0], i, "i64"), 8)
        code.finish()
        names = [phase.symbol for phase in phases]
        compiled = backend.compile_ir(mlir.lower(unit.text()), target or native())
        self._jit = llvm.create_lljit_compiler(llvm_machine(native()))
        builder = llvm.JITLibraryBuilder().add_object_img(compiled.object).add_current_process()
        for name in (*names, "gm_plan"):
            builder.export_symbol(name)
        self._tracker = builder.link(self._jit, "kernels")
        self._bodies = [_BODY(self._tracker[name]) for name in names]
        self._plan = _PLAN(self._tracker["gm_plan"])
        self._count = len(wanted)

    def plan(self, sizes: Iterable[int]) -> list[int]:
        """Items and grain of every phase, then the memory asked for."""
        out, given = np.zeros(self._count, np.int64), np.array(list(sizes), np.int64)
        self._plan(out.ctypes.data, given.ctypes.data)
        return out.tolist()

    def run(self, data: np.ndarray[Any, Any], plan: list[int], workers: int) -> None:
        """All phases, each cut into `workers` ranges."""
        for body, items in zip(self._bodies, plan[: 2 * len(self._bodies) : 2], strict=True):
            cuts = [items * w // workers for w in range(workers + 1)]
            for worker, (begin, end) in enumerate(itertools.pairwise(cuts)):
                if begin < end:
                    body(data.ctypes.data, begin, end, worker)


def gemm_sizes(code: Code, given: Val) -> Sizes:
    """m, n, k, batch and threads from an array of i64."""
    return Sizes(*(code.load(code.at(given, i, "i64"), "i64", 8) for i in range(5)))


@functools.cache
def compiled_gemm(spec: GemmSpec, epilogue: Epilogue | None, target: Target) -> Kernels:
    """The kernels of one spec, compiled once per test run."""
    unit = Unit(target.vector_bits)
    kernel: GemmKernel = emit_gemm(unit, "gm_product", spec, target, epilogue)
    return Kernels(
        unit, kernel.phases, (kernel.shared, kernel.scratch, kernel.grid), gemm_sizes, target
    )


def run_gemm(
    spec: GemmSpec,
    a: np.ndarray[Any, Any],
    b: np.ndarray[Any, Any],
    *,
    packed: np.ndarray[Any, Any] | None = None,
    epilogue: Epilogue | None = None,
    extra: Sequence[int] = (),
    workers: int = 1,
    target: Target | None = None,
) -> np.ndarray[Any, Any]:
    """`a @ b` through the emitted kernels; `packed` replaces `b`'s memory."""
    kernels = compiled_gemm(spec, epilogue, target or native())
    batch = a.shape[0] if a.ndim == 3 else 1
    (m, k), n = a.shape[-2:], b.shape[-1]
    lead = (batch,) if a.ndim == 3 else ()
    guard = 8  # columns beyond the result, which no kernel may touch
    whole = np.full((*lead, m, n + guard), 99, spec.out.numpy)
    c = whole[..., :n]
    plan = kernels.plan((m, n, k, batch, workers))
    *_, shared_bytes, scratch_bytes, grid = plan
    shared, scratch = aligned(shared_bytes), aligned(scratch_bytes * workers)

    def strides(x: np.ndarray[Any, Any]) -> list[int]:
        own = [step // x.itemsize for step in x.strides]
        return own if x.ndim == 3 else [0, *own]

    (a_batch, a_m, a_k), (b_batch, b_k, b_n), (c_batch, c_m, _) = map(strides, (a, b, c))
    source = b if packed is None else packed
    if packed is not None:
        b_batch = packed.strides[0] // packed.itemsize if packed.ndim == 4 else 0
    data = np.array(
        [a.ctypes.data, source.ctypes.data, c.ctypes.data, m, n, k, a_m, a_k, b_k, b_n, c_m,
         batch, a_batch, b_batch, c_batch, shared.ctypes.data, scratch.ctypes.data,
         scratch_bytes, grid, *extra], np.int64,
    )  # fmt: skip
    kernels.run(data, plan, workers)
    assert (whole[..., n:] == whole.dtype.type(99)).all(), "a store beyond the matrix"
    return c


@pytest.fixture
def gemm() -> Callable[..., np.ndarray[Any, Any]]:
    return run_gemm
