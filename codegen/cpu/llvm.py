"""LLVM IR text to object code and assembly, through llvmlite."""

from __future__ import annotations

import ctypes
import functools
import time
from typing import Any

from graphmill.codegen.cpu.target import Target
from graphmill.records import record


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


@functools.cache
def _initialise() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def machine(target: Target, level: int) -> Any:
    """An LLVM target machine (position-independent code) for `target`."""
    import llvmlite.binding as llvm

    _initialise()
    chosen = llvm.Target.from_triple(target.triple)
    return chosen.create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="small"
    )


def compile_ir(
    text: str, target: Target, *, level: int = 1, straight: bool = False, keep_text: bool = False
) -> Compiled:
    """Verify, optimise (`-O<level>`) and compile LLVM IR text for `target`.

    `straight` code is as it shall run but for the lowering's traces: three passes do. Threads may
    compile at the same time.
    """
    import llvmlite.binding as llvm

    tm = machine(target, 2)
    try:
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise LLVMError(f"generated LLVM IR is malformed: {error}") from None
    module.triple = target.triple
    module.data_layout = str(tm.target_data)
    start = time.perf_counter()
    _clean(module, tm) if straight else _optimise(module, tm, level)
    optimised = time.perf_counter()
    code = _emit(module, tm)
    seconds = optimised - start, time.perf_counter() - optimised
    if not keep_text:
        return Compiled(code, seconds=seconds)
    return Compiled(code, str(module), tm.emit_assembly(module), seconds)


def _optimise(module: Any, machine: Any, level: int) -> None:
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    _unlocked("LLVMPY_RunNewModulePassManager")(builder.getModulePassManager(), module, builder)


def _clean(module: Any, machine: Any) -> None:
    import llvmlite.binding as llvm

    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    run = _unlocked("LLVMPY_RunNewFunctionPassManager")
    for function in module.functions:
        if not function.is_declaration:
            run(passes, function, builder)


def _emit(module: Any, machine: Any) -> bytes:
    from llvmlite.binding import ffi

    with ffi.OutputString() as message:
        emit = _unlocked("LLVMPY_TargetMachineEmitToMemory")
        buffer = emit(machine, module, 1, message)
        if not buffer:
            raise LLVMError(f"LLVM generates no code: {message}")
    try:
        size = ffi.lib.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _unlocked(name: str) -> Any:
    """A function of llvmlite's library without the lock that llvmlite puts around all of them.

    The two long steps, optimising and generating code, touch nothing but their own context and
    target machine.
    """
    from llvmlite.binding import ffi

    function = getattr(ffi.lib, name)
    return getattr(function, "_cfn", function)
