"""LLVM IR text to object code and assembly."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

from graphmill.codegen.cpu import bindings
from graphmill.codegen.cpu.bindings import told
from graphmill.codegen.cpu.target import Target
from graphmill.records import record

_ASSEMBLY, _OBJECT = 0, 1

# How code is optimised, by what it is: `straight` is as it shall run but for the lowering's traces;
# in `plain` these passes and MLIR's find all that -O1 finds, in a quarter of its time. Elsewhere
# loops read what does not change in them from memory, which takes all of -O1.
Kind = Literal["straight", "plain", "any"]
_STRAIGHT = ("SROA", "InstCombine", "SimplifyCFG")
_PASSES = {
    "straight": _STRAIGHT,
    "plain": ("GlobalDCE", "IPSCCP", *_STRAIGHT, "LoopRotate", "LoopUnroll", "InstCombine"),
}


class LLVMError(RuntimeError):
    """LLVM IR that does not parse or verify."""


@record
class Compiled:
    """Object code and, when asked for, the optimised LLVM IR and the assembly.

    `seconds` are the times of the optimiser and of code generation.
    """

    object: bytes
    llvm_ir: str = ""
    assembly: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)


def compile_ir(
    text: str,
    target: Target,
    *,
    kind: Kind = "any",
    effort: int = 2,
    keep_text: bool = False,
) -> Compiled:
    """Verify, optimise and compile LLVM IR text to position-independent code.

    `effort` is the level of code generation: 0 takes a sixth of the time of 1. Threads may compile
    at the same time: each has a context of its own.
    """
    c = bindings.llvm()
    with ExitStack() as owned:

        def own(handle: Any, dispose: Callable[[Any], object]) -> Any:
            owned.callback(dispose, handle)
            return handle

        context = own(c.ContextCreate(), c.ContextDispose)
        module = _parsed(c, own, context, text)
        machine = own(_machine(c, target, effort), c.DisposeTargetMachine)
        layout = own(c.CreateTargetMachineData(machine), c.DisposeTargetData)
        c.SetTarget(module, target.triple.encode())
        c.SetDataLayout(module, told(lambda to: c.CopyStringRepOfTargetData(layout, to)).encode())
        options = own(c.CreatePipelineTuningOptions(), c.DisposePipelineTuningOptions)
        c.PTOSetLoopVectorization(options, False)
        c.PTOSetSLPVectorization(options, False)
        builder = own(c.CreatePassBuilder(machine, options), c.DisposePassBuilder)
        start = time.perf_counter()
        passes = own(_passes(c, builder, kind), c.DisposeNewModulePassManger)
        c.RunNewModulePassManager(passes, module, builder)
        optimised = time.perf_counter()
        code = _emit(c, machine, module, _OBJECT)
        seconds = optimised - start, time.perf_counter() - optimised
        if not keep_text:
            return Compiled(code, seconds=seconds)
        llvm_ir = told(lambda to: c.PrintModuleToString(module, to))
        assembly = _emit(c, machine, module, _ASSEMBLY).decode()
        return Compiled(code, llvm_ir, assembly, seconds)


def _parsed(c: Any, own: Callable[..., Any], context: Any, text: str) -> Any:
    module = None
    wrong = True

    def parse(to: Any) -> None:
        nonlocal module
        module = c.ParseAssembly(context, text.encode(), to)

    def verify(to: Any) -> None:
        nonlocal wrong
        wrong = c.VerifyModule(module, to)

    problem = told(parse)
    if module and not problem:
        own(module, c.DisposeModule)
        problem = told(verify)
    if wrong:
        raise LLVMError(f"generated LLVM IR is malformed: {problem}")
    return module


def _machine(c: Any, target: Target, effort: int) -> Any:
    chosen = None
    triple, cpu, features = (t.encode() for t in (target.triple, target.cpu, target.features))

    def choose(to: Any) -> None:
        nonlocal chosen
        chosen = c.GetTargetFromTriple(triple, to)

    problem = told(choose)
    if not chosen:
        bindings.all_targets()
        problem = told(choose)
    if not chosen:
        raise LLVMError(f"LLVM has no target {target.triple}: {problem}")
    machine = c.CreateTargetMachine(
        chosen, triple, cpu, features, effort, b"pic", b"small", 0, 0, b""
    )
    if not machine:
        raise LLVMError(f"LLVM makes no code for {target.triple}, {target.cpu}")
    return machine


def _passes(c: Any, builder: Any, kind: Kind) -> Any:
    if kind == "any":
        return c.buildPerModuleDefaultPipeline(builder, 1)
    passes = c.CreateNewModulePassManager()
    for name in _PASSES[kind]:
        getattr(c, f"module_Add{name}Pass")(passes)
    return passes


def _emit(c: Any, machine: Any, module: Any, kind: int) -> bytes:
    buffer = None

    def emit(to: Any) -> None:
        nonlocal buffer
        buffer = c.TargetMachineEmitToMemory(machine, module, kind, to)

    problem = told(emit)
    if not buffer:
        raise LLVMError(f"LLVM generates no code: {problem}")
    try:
        return ctypes.string_at(c.GetBufferStart(buffer), c.GetBufferSize(buffer))
    finally:
        c.DisposeMemoryBuffer(buffer)
