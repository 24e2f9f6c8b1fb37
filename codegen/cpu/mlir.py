"""The MLIR bindings behind one thin module: text in, verified LLVM IR text out."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import struct
from types import ModuleType
from typing import Any

PIPELINE = (
    "builtin.module(canonicalize,cse,convert-scf-to-cf,convert-vector-to-llvm,"
    "convert-math-to-llvm,convert-complex-to-llvm,convert-ub-to-llvm,convert-arith-to-llvm,"
    "convert-func-to-llvm,convert-cf-to-llvm,reconcile-unrealized-casts,canonicalize,cse)"
)


class LoweringError(RuntimeError):
    """Generated MLIR that does not verify or does not lower; `text` holds the module."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


@functools.cache
def _package() -> str:
    """The bindings to use: an installed `mlir` package, else the one in `torch_mlir`."""
    for name in ("mlir", "torch_mlir"):
        if importlib.util.find_spec(name) is not None:
            return name
    raise ImportError("no MLIR bindings found: pip install torch-mlir")


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{_package()}.{name}")


def parse(text: str) -> Any:
    """Parse and verify MLIR text; a malformed module raises `LoweringError`."""
    ir = _module("ir")
    context = ir.Context()
    context.enable_multithreading(False)
    try:
        module = ir.Module.parse(text, context)
        module.operation.verify()
    except ir.MLIRError as error:
        raise LoweringError(f"generated MLIR is malformed: {error}", text) from None
    return module


def lower(text: str, pipeline: str = PIPELINE) -> str:
    """Verified LLVM IR text for the MLIR module `text`, through upstream passes."""
    module = parse(text)
    manager = _module("passmanager").PassManager.parse(pipeline, module.context)
    try:
        manager.run(module.operation)
    except _module("ir").MLIRError as error:
        raise LoweringError(f"generated MLIR does not lower: {error}", text) from None
    _check_only_llvm(module, text)
    llvm_ir: str = _module("dialects.llvm").translate_module_to_llvmir(module.operation)
    return _portable_floats(llvm_ir)


def _check_only_llvm(module: Any, text: str) -> None:
    """Refuse what the translator would crash on: an op outside the llvm dialect."""

    def visit(op: Any) -> Any:
        name = op.operation.name
        if not name.startswith("llvm.") and name != "builtin.module":
            left.append(name)
        return ir.WalkResult.ADVANCE

    ir = _module("ir")
    left: list[str] = []
    module.operation.walk(visit)
    if left:
        raise LoweringError(f"ops left outside the llvm dialect: {sorted(set(left))}", text)


_FLOAT = re.compile(r"\b(float|double|half|bfloat) (-?\d+\.\d+(?:e[+-]?\d+)?|f?0x[0-9A-Fa-f]+)")


def _portable_floats(llvm_ir: str) -> str:
    """Rewrite float constants so that an older LLVM parser takes them: exact hexadecimal.

    New LLVM prints shortest decimals and `f0x…` bit patterns that older ones reject.
    """

    def fix(match: re.Match[str]) -> str:
        kind, number = match[1], match[2]
        if number.startswith("f0x"):
            return f"{kind} {_from_bits(kind, int(number[3:], 16))}"
        if number.startswith("0x") or kind in ("half", "bfloat"):
            return match[0]
        return f"{kind} 0x{_double_bits(_rounded(kind, float(number))):016X}"

    return _FLOAT.sub(fix, llvm_ir)


def _rounded(kind: str, value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) if kind == "float" else value


def _double_bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def _from_bits(kind: str, bits: int) -> str:
    if kind == "float":
        return f"0x{_double_bits(struct.unpack('<f', struct.pack('<I', bits))[0]):016X}"
    if kind == "double":
        return f"0x{bits:016X}"
    return f"0x{'H' if kind == 'half' else 'R'}{bits:04X}"
