"""The C interfaces of LLVM and of MLIR, called through ctypes.

They stand in the libraries of two packages, `llvmlite` and `torch_mlir` (or `mlir`), whose Python
sides take longer to import than a small function to compile. Handles are opaque. Calls hold the
interpreter lock, so that no thread is inside when another one forks, but for LLVM's long ones.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int8, c_size_t, c_void_p
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Signatures = Mapping[str, tuple[Any, Sequence[Any]]]

# ---- LLVM, by llvmlite's library

TESTED = ("0.50.",)  # of llvmlite: that its functions are as below has been tested
_TEXT = POINTER(c_char_p)
# what takes long and touches nothing but its own module: without the interpreter lock
_LONG = ("RunNewModulePassManager", "TargetMachineEmitToMemory")
_PASSES = (
    "GlobalDCE", "IPSCCP", "SROA", "InstCombine", "SimplifyCFG", "LoopRotate", "LoopUnroll",
)  # fmt: skip
_LLVM: Signatures = {
    "InitializeNativeTarget": (None, ()),
    "InitializeNativeAsmPrinter": (None, ()),
    "InitializeAllTargetInfos": (None, ()),
    "InitializeAllTargets": (None, ()),
    "InitializeAllTargetMCs": (None, ()),
    "InitializeAllAsmPrinters": (None, ()),
    "GetProcessTriple": (None, (_TEXT,)),
    "GetHostCPUName": (None, (_TEXT,)),
    "GetHostCPUFeatures": (c_int, (_TEXT,)),
    "GetTargetFromTriple": (c_void_p, (c_char_p, _TEXT)),
    "CreateTargetMachine": (
        c_void_p,
        (c_void_p, c_char_p, c_char_p, c_char_p, c_int, c_char_p, c_char_p, c_int, c_int, c_char_p),
    ),
    "DisposeTargetMachine": (None, (c_void_p,)),
    "CreateTargetMachineData": (c_void_p, (c_void_p,)),
    "CopyStringRepOfTargetData": (None, (c_void_p, _TEXT)),
    "DisposeTargetData": (None, (c_void_p,)),
    "ContextCreate": (c_void_p, ()),
    "ContextDispose": (None, (c_void_p,)),
    "ParseAssembly": (c_void_p, (c_void_p, c_char_p, _TEXT)),
    "VerifyModule": (c_bool, (c_void_p, _TEXT)),
    "SetTarget": (None, (c_void_p, c_char_p)),
    "SetDataLayout": (None, (c_void_p, c_char_p)),
    "PrintModuleToString": (None, (c_void_p, _TEXT)),
    "DisposeModule": (None, (c_void_p,)),
    "CreatePipelineTuningOptions": (c_void_p, ()),
    "PTOSetLoopVectorization": (None, (c_void_p, c_bool)),
    "PTOSetSLPVectorization": (None, (c_void_p, c_bool)),
    "DisposePipelineTuningOptions": (None, (c_void_p,)),
    "CreatePassBuilder": (c_void_p, (c_void_p, c_void_p)),
    "DisposePassBuilder": (None, (c_void_p,)),
    "buildPerModuleDefaultPipeline": (c_void_p, (c_void_p, c_int)),
    "CreateNewModulePassManager": (c_void_p, ()),
    **{f"module_Add{name}Pass": (None, (c_void_p,)) for name in _PASSES},
    "RunNewModulePassManager": (None, (c_void_p, c_void_p, c_void_p)),
    "DisposeNewModulePassManger": (None, (c_void_p,)),
    "TargetMachineEmitToMemory": (c_void_p, (c_void_p, c_void_p, c_int, _TEXT)),
    "GetBufferStart": (c_void_p, (c_void_p,)),
    "GetBufferSize": (c_size_t, (c_void_p,)),
    "DisposeMemoryBuffer": (None, (c_void_p,)),
    "DisposeString": (None, (c_char_p,)),
}


@functools.cache
def llvm() -> Any:
    """LLVM's functions by name, without llvmlite's prefix; the target of this machine is there.

    Of another llvmlite than a tested one the functions are those that its own Python code has
    declared, which refuses wrong arguments.
    """
    folder = _folder("llvmlite")
    if folder is None:
        raise ImportError("no LLVM found: pip install llvmlite")
    names = {"darwin": "libllvmlite.dylib", "win32": "llvmlite.dll"}
    version = re.search(r"'(\d[\d.]*)", (folder / "_version.py").read_text())
    if version is not None and version[1].startswith(TESTED):
        path = str(folder / "binding" / names.get(sys.platform, "libllvmlite.so"))
        functions = _bound(ctypes.PyDLL(path), "LLVMPY_", _LLVM)
        long = _bound(ctypes.CDLL(path), "LLVMPY_", {name: _LLVM[name] for name in _LONG})
        vars(functions).update(vars(long))
    else:
        import llvmlite.binding

        library = llvmlite.binding.ffi.lib  # puts a lock around every function
        found = {name: getattr(library, f"LLVMPY_{name}") for name in _LLVM}
        functions = SimpleNamespace(**found | {name: found[name]._cfn for name in _LONG})
    functions.InitializeNativeTarget()
    functions.InitializeNativeAsmPrinter()
    return functions


def all_targets() -> None:
    """Let LLVM know the targets of other machines, too."""
    for part in ("TargetInfos", "Targets", "TargetMCs", "AsmPrinters"):
        getattr(llvm(), f"InitializeAll{part}")()


def told(ask: Callable[[Any], object]) -> str:
    """The text that `ask(place)` puts into the place, empty if none."""
    place = c_char_p()
    ask(ctypes.byref(place))
    if place.value is None:
        return ""
    text = place.value.decode()
    llvm().DisposeString(place)
    return text


# ---- MLIR, by the library below the Python bindings


class Handle(ctypes.Structure):
    """What MLIR's C interface passes around, by value."""

    _fields_ = (("of", c_void_p),)


class Text(ctypes.Structure):
    """A piece of text; the bytes must live as long as it."""

    _fields_ = (("data", c_char_p), ("size", c_size_t))


DIAGNOSE = ctypes.CFUNCTYPE(c_int8, Handle, c_void_p)
PRINT = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_void_p)
_MLIR: Signatures = {
    "mlirDialectRegistryCreate": (Handle, ()),
    "mlirRegisterAllDialects": (None, (Handle,)),
    "mlirContextCreateWithThreading": (Handle, (c_bool,)),
    "mlirContextAppendDialectRegistry": (None, (Handle, Handle)),
    "mlirContextAttachDiagnosticHandler": (ctypes.c_uint64, (Handle, DIAGNOSE, c_void_p, c_void_p)),
    "mlirContextDestroy": (None, (Handle,)),
    "mlirRegisterAllLLVMTranslations": (None, (Handle,)),
    "mlirDiagnosticPrint": (None, (Handle, PRINT, c_void_p)),
    "mlirModuleCreateParse": (Handle, (Handle, Text)),
    "mlirModuleGetOperation": (Handle, (Handle,)),
    "mlirModuleDestroy": (None, (Handle,)),
    "mlirOperationVerify": (c_bool, (Handle,)),
    "mlirOperationGetFirstRegion": (Handle, (Handle,)),
    "mlirOperationGetNextInBlock": (Handle, (Handle,)),
    "mlirRegionGetFirstBlock": (Handle, (Handle,)),
    "mlirRegionGetNextInOperation": (Handle, (Handle,)),
    "mlirBlockGetFirstOperation": (Handle, (Handle,)),
    "mlirBlockGetNextInRegion": (Handle, (Handle,)),
    "mlirOperationGetName": (Handle, (Handle,)),
    "mlirIdentifierStr": (Text, (Handle,)),
    "mlirPassManagerCreate": (Handle, (Handle,)),
    "mlirPassManagerEnableVerifier": (None, (Handle, c_bool)),
    "mlirPassManagerAddOwnedPass": (None, (Handle, Handle)),
    "mlirPassManagerRunOnOp": (c_int8, (Handle, Handle)),
    "mlirPassManagerDestroy": (None, (Handle,)),
    "mlirTranslateModuleToLLVMIRToString": (c_void_p, (Handle,)),
    "LLVMDisposeMessage": (None, (c_void_p,)),
}


@functools.cache
def mlir(passes: Sequence[str]) -> Any:
    """MLIR's functions by name, `passes` (their makers), and the `registry` of all dialects."""
    for package in ("mlir", "torch_mlir"):
        folder = _folder(package)
        for path in sorted((folder / "_mlir_libs").glob("lib*CAPI.*")) if folder else ():
            library = _lazily(path)
            functions = _bound(library, "", _MLIR)
            functions.passes = [getattr(library, f"mlirCreate{name}") for name in passes]
            for make in functions.passes:
                make.restype, make.argtypes = Handle, ()
            functions.registry = functions.mlirDialectRegistryCreate()
            functions.mlirRegisterAllDialects(functions.registry)
            return functions
    raise ImportError("no MLIR bindings found: pip install torch-mlir")


def _bound(library: ctypes.CDLL, prefix: str, signatures: Signatures) -> SimpleNamespace:
    found = {}
    for name, (result, arguments) in signatures.items():
        found[name] = function = getattr(library, prefix + name)
        function.restype, function.argtypes = result, arguments
    return SimpleNamespace(**found)


def _lazily(path: Path) -> ctypes.CDLL:
    """A library whose calls to itself are bound as they happen, not thousands of them at first."""
    mode = getattr(os, "RTLD_LAZY", None)
    if mode is None:
        return ctypes.PyDLL(str(path))
    load = ctypes.PyDLL(None).dlopen
    load.restype, load.argtypes = c_void_p, (c_char_p, c_int)
    # what cannot be loaded is tried again for the reason
    return ctypes.PyDLL(str(path), handle=load(os.fsencode(path), mode))


def _folder(package: str) -> Path | None:
    """Where an installed package is, which is not imported for that."""
    spec = importlib.util.find_spec(package)
    places = list((spec.submodule_search_locations if spec else None) or ())
    return Path(places[0]) if places else None
