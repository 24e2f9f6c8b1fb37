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
    "convert-func-to-llvm,convert-cf-to-llvm,reconcile-unrealized-casts)"
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
    try:
        return ir.Module.parse(text, _context())  # which verifies
    except ir.MLIRError as error:
        raise LoweringError(f"generated MLIR is malformed: {error}", text) from None


def _context() -> Any:
    """A context of one thread that loads dialects as they are met: there are dozens of them."""
    ir = _module("ir")
    try:
        context = ir.Context(load_on_create_dialects=[])
    except TypeError:  # bindings that always load them all
        context = ir.Context()
    context.enable_multithreading(False)
    return context


def lower(text: str, pipeline: str = PIPELINE) -> str:
    """Verified LLVM IR text for the MLIR module `text`, through upstream passes."""
    module = parse(text)
    manager = _module("passmanager").PassManager.parse(pipeline, module.context)
    # upstream's passes are trusted to keep a module valid; LLVM verifies what comes out
    manager.enable_verifier(False)
    try:
        manager.run(module.operation)
    except _module("ir").MLIRError as error:
        raise LoweringError(f"generated MLIR does not lower: {error}", text) from None
    _check_only_llvm(module, text)
    # the extension module itself: the dialect's Python classes take a tenth of a second to load
    translate = _module("_mlir_libs._mlirDialectsLLVM").translate_module_to_llvmir
    llvm_ir: str = translate(module.operation)
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


_FLOAT = re.compile(
    r"\b(float|double|half|bfloat)\b|"
    r"(?<=[\s,(\[])(-?\d+\.\d+(?:e[+-]?\d+)?|f?0x[0-9A-Fa-f]+|[+-](?:inf|qnan))(?=[\s,)\]>])"
)


def _portable_floats(llvm_ir: str) -> str:
    """Rewrite float constants so that an older LLVM parser takes them: exact hexadecimal.

    New LLVM prints shortest decimals, `f0x…` bit patterns, `+inf` and `+qnan` that older ones
    reject. A constant is of the last type named before it on its line.
    """

    kind = ""

    def fix(match: re.Match[str]) -> str:
        nonlocal kind
        if match[1]:
            kind = match[1]
            return kind
        return _portable_float(kind, match[2])

    lines = llvm_ir.splitlines(keepends=True)
    return "".join(_FLOAT.sub(fix, line) if _may_hold_float(line) else line for line in lines)


_FRACTION = re.compile(r"\.\d")


def _may_hold_float(line: str) -> bool:
    """A quick test that leaves out nearly all lines."""
    found = _FRACTION.search(line) or "0x" in line or "inf" in line or "qnan" in line
    return bool(found) and ' c"' not in line and not line.startswith("!")


def _portable_float(kind: str, number: str) -> str:
    if number.startswith("f0x"):
        return _from_bits(kind, int(number[3:], 16))
    if number[1:] in ("inf", "qnan"):
        return _special(kind, number)
    if number.startswith("0x") or kind in ("half", "bfloat"):
        return number
    return f"0x{_double_bits(_rounded(kind, float(number))):016X}"


def _rounded(kind: str, value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) if kind == "float" else value


def _special(kind: str, name: str) -> str:
    """Infinity or the quiet NaN with a sign, by its bits in `kind`."""
    exponent, fraction = {"half": (5, 10), "bfloat": (8, 7)}.get(kind, (11, 52))
    bits = ((1 << exponent) - 1) << fraction | (name.endswith("qnan") << (fraction - 1))
    bits |= (name[0] == "-") << (exponent + fraction)
    return f"0x{bits:016X}" if fraction == 52 else _from_bits(kind, bits)


def _double_bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def _from_bits(kind: str, bits: int) -> str:
    if kind == "float":
        return f"0x{_double_bits(struct.unpack('<f', struct.pack('<I', bits))[0]):016X}"
    if kind == "double":
        return f"0x{bits:016X}"
    return f"0x{'H' if kind == 'half' else 'R'}{bits:04X}"
