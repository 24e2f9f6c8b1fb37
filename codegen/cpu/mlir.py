"""MLIR behind one thin module: text in, verified LLVM IR text out."""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphmill.codegen.cpu import bindings
from graphmill.codegen.cpu.bindings import DIAGNOSE, PRINT, Handle, Text

# canonicalize, cse, loop-invariant-code-motion, … as their makers are called
_BETTER = (
    "TransformsCanonicalizerPass",
    "TransformsCSEPass",
    "TransformsLoopInvariantCodeMotionPass",
)
PASSES = (
    *_BETTER, "ConversionSCFToControlFlowPass",
    *(f"ConversionConvert{name}ToLLVMPass" for name in ("Vector", "Math", "Complex")),
    "ConversionUBToLLVMConversionPass", "ConversionArithToLLVMConversionPass",
    "ConversionConvertFuncToLLVMPass", "ConversionConvertControlFlowToLLVMPass",
    "ConversionReconcileUnrealizedCastsPass",
)  # fmt: skip
# the dialects that some passes are for alone: they take their time where there is none of it, too
_FOR = {
    f"ConversionConvert{name}ToLLVMPass": f"{name.lower()}."
    for name in ("Vector", "Math", "Complex")
}


class LoweringError(RuntimeError):
    """Generated MLIR that does not verify or does not lower; `text` holds the module."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


def check(text: str) -> None:
    """Parse and verify MLIR text; a malformed module raises `LoweringError`."""
    with _parsed(text, bindings.mlir(PASSES), []):
        pass


def lower(text: str, optimise: bool = True) -> str:
    """Verified LLVM IR text for the MLIR module `text`, through upstream passes.

    Those that make the code better are left out unless `optimise`.
    """
    c, problems = bindings.mlir(PASSES), list[str]()
    with _parsed(text, c, problems) as (context, module):
        manager = c.mlirPassManagerCreate(context)
        try:
            for name, make in zip(PASSES, c.passes, strict=True):
                if (optimise or name not in _BETTER) and _FOR.get(name, "") in text:
                    c.mlirPassManagerAddOwnedPass(manager, make())
            # upstream's passes are trusted to keep a module valid; LLVM verifies what comes out
            c.mlirPassManagerEnableVerifier(manager, False)
            done = c.mlirPassManagerRunOnOp(manager, module)
        finally:
            c.mlirPassManagerDestroy(manager)
        if not done:
            raise LoweringError(f"generated MLIR does not lower: {_all(problems)}", text)
        _check_only_llvm(module, c, text)
        made = c.mlirTranslateModuleToLLVMIRToString(module)
        if not made:
            raise LoweringError(f"generated MLIR does not translate: {_all(problems)}", text)
        try:
            return _portable_floats(ctypes.string_at(made).decode())
        finally:
            c.LLVMDisposeMessage(made)


@contextmanager
def _parsed(text: str, c: Any, problems: list[str]) -> Iterator[tuple[Handle, Handle]]:
    """A context of one thread and the module's operation in it; `problems` grow as MLIR has them.

    The context loads dialects as they are met: there are dozens of them.
    """

    def diagnose(diagnostic: Any, _: object) -> int:
        parts: list[bytes] = []
        keep = PRINT(lambda data, size, _: parts.append(ctypes.string_at(data, size)))
        c.mlirDiagnosticPrint(diagnostic, keep, None)
        problems.append(b"".join(parts).decode(errors="replace"))
        return 1

    told = DIAGNOSE(diagnose)
    context = c.mlirContextCreateWithThreading(False)
    try:
        c.mlirContextAppendDialectRegistry(context, c.registry)
        c.mlirRegisterAllLLVMTranslations(context)
        c.mlirContextAttachDiagnosticHandler(context, told, None, None)
        source = text.encode()
        module = c.mlirModuleCreateParse(context, Text(source, len(source)))  # which verifies
        if not module.of:
            raise LoweringError(f"generated MLIR is malformed: {_all(problems)}", text)
        try:
            yield context, c.mlirModuleGetOperation(module)
        finally:
            c.mlirModuleDestroy(module)
    finally:
        c.mlirContextDestroy(context)


def _all(problems: list[str]) -> str:
    return "; ".join(problems) or "no reason given"


def _check_only_llvm(module: Handle, c: Any, text: str) -> None:
    """Refuse what the translator would crash on: an op outside the llvm dialect."""
    names = {n: _string(c.mlirIdentifierStr(Handle(n))) for n in _names(module, c)}
    left = {n for n in names.values() if not n.startswith("llvm.") and n != "builtin.module"}
    if left:
        raise LoweringError(f"ops left outside the llvm dialect: {sorted(left)}", text)


def _names(operation: Handle, c: Any) -> set[int]:
    """The addresses of the names of an operation and of those in it.

    Walked from here: what a signal's handler raises in a function that MLIR calls would be lost.
    """
    found, nested = set[int](), [operation]
    while nested:
        operation = nested.pop()
        found.add(c.mlirOperationGetName(operation).of)
        region = c.mlirOperationGetFirstRegion(operation)
        while region.of:
            block = c.mlirRegionGetFirstBlock(region)
            while block.of:
                operation = c.mlirBlockGetFirstOperation(block)
                while operation.of:
                    nested.append(operation)
                    operation = c.mlirOperationGetNextInBlock(operation)
                block = c.mlirBlockGetNextInRegion(block)
            region = c.mlirRegionGetNextInOperation(region)
    return found


def _string(text: Any) -> str:
    return ctypes.string_at(text.data, text.size).decode()


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
