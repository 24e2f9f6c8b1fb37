"""LLVM IR text to object code and assembly, through llvmlite."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from typing import Any

from graphmill.codegen.cpu.target import Target

_LOCK = threading.Lock()  # LLVM's global context, which llvmlite parses into, is not thread-safe


class LLVMError(RuntimeError):
    """LLVM IR that does not parse or verify."""


@dataclass(frozen=True, slots=True)
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


@functools.cache
def machine(target: Target, level: int) -> Any:
    """The LLVM target machine (position-independent code) for `target`."""
    import llvmlite.binding as llvm

    _initialise()
    chosen = llvm.Target.from_triple(target.triple)
    return chosen.create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="small"
    )


def compile_ir(text: str, target: Target, *, level: int = 1, keep_text: bool = False) -> Compiled:
    """Verify, optimise (`-O<level>`) and compile LLVM IR text for `target`."""
    import llvmlite.binding as llvm

    with _LOCK:
        tm = machine(target, 2)
        try:
            module = llvm.parse_assembly(text)
            module.verify()
        except RuntimeError as error:
            raise LLVMError(f"generated LLVM IR is malformed: {error}") from None
        module.triple = target.triple
        module.data_layout = str(tm.target_data)
        options = llvm.create_pipeline_tuning_options(speed_level=level)
        options.loop_vectorization = False
        options.slp_vectorization = False
        builder = llvm.create_pass_builder(tm, options)
        start = time.perf_counter()
        builder.getModulePassManager().run(module, builder)
        optimised = time.perf_counter()
        code = bytes(tm.emit_object(module))
        seconds = optimised - start, time.perf_counter() - optimised
        if not keep_text:
            return Compiled(code, seconds=seconds)
        return Compiled(code, str(module), tm.emit_assembly(module), seconds)
