"""Loading object code into the process, with libc and libm and nothing else to link against.

Objects for x86-64 are linked by `runtime.elf`, all others by LLVM, each as a library of its own in
one LLJIT instance. What an object wants from outside is read from its symbol table first: one that
names anything but libc's memory functions and libm does not load.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from graphmill.codegen.artifact import ArtifactError
from graphmill.runtime.elf import X86_64, Linked, Object
from graphmill.runtime.forks import renewed

# What code generation may leave to the system: memory functions, and libm for what it has not
# vectorised itself (each also as float).
LIBC = ("memcpy", "memmove", "memset", "memcmp", "malloc", "calloc", "realloc", "free")
_LIBM = (
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos",
    "cosh", "erf", "erfc", "exp", "exp2", "expm1", "fabs", "fdim", "floor", "fma", "fmax", "fmin",
    "fmod", "frexp", "hypot", "ldexp", "lgamma", "llrint", "llround", "log", "log10", "log1p",
    "log2", "lrint", "lround", "modf", "nearbyint", "nextafter", "pow", "remainder", "rint",
    "round", "roundeven", "sin", "sincos", "sinh", "sqrt", "tan", "tanh", "tgamma", "trunc",
)  # fmt: skip
LIBM = tuple(name + suffix for name in _LIBM for suffix in ("", "f"))
# the linker's own name for the table of a position-independent object's outside addresses
ALLOWED = frozenset((*LIBC, *LIBM, "_GLOBAL_OFFSET_TABLE_"))

_lock = renewed(threading.Lock())
_numbers = itertools.count()


def symbols(code: bytes) -> tuple[set[str], set[str]]:
    """Names that a 64-bit ELF object gives to others and those that it wants from them.

    Raises `ArtifactError` if it is none.
    """
    of = Object(code)
    given = {s.name for s in of.symbols if s.section and s.is_global}
    return given, {s.name for s in of.symbols if not s.section and s.name}


class LoadedObject:
    """Object code in memory; its addresses hold as long as this object lives."""

    def __init__(
        self,
        code: bytes,
        exported: Iterable[str],
        *,
        parts: Sequence[bytes] = (),
        system: bool = False,
    ) -> None:
        """Load `code` with `parts` and look up `exported`; raises `ArtifactError` if that fails.

        `system=True` is for the runtime's own parts: they may use any symbol of the process.
        """
        images = (code, *parts)
        if not system:
            _check(*images)
        link = _link_here if os.uname().machine == "x86_64" else _link_with_llvm
        try:
            self._kept, self.addresses = link(images, tuple(exported))
        except ArtifactError as error:
            raise ArtifactError(f"cannot load object code: {error}") from None


def _check(*images: bytes) -> None:
    # Mach-O: its symbols are left to the linker
    found = [symbols(code) for code in images if code[:4] != b"\xcf\xfa\xed\xfe"]
    given, wanted = (set[str]().union(*(pair[i] for pair in found)) for i in (0, 1))
    unknown = wanted - given - ALLOWED
    if unknown:
        raise ArtifactError(
            f"object code wants symbols beyond libc and libm: {', '.join(sorted(unknown))}"
        )


Addresses = dict[str, int]


def _link_here(images: Sequence[bytes], names: Sequence[str]) -> tuple[object, Addresses]:
    objects = [Object(image) for image in images]
    if any(of.machine != X86_64 for of in objects):
        raise ArtifactError("it is for another machine")
    linked = Linked(objects, _resolve)
    missing = [name for name in names if name not in linked.addresses]
    if missing:
        raise ArtifactError(f"it does not define {', '.join(missing)}")
    return linked, {name: linked.addresses[name] for name in names}


@cache
def _resolve(name: str) -> int:
    """The address of a symbol of the process, or of libm where nothing has loaded that."""
    for library in (None, "libm.so.6"):
        with contextlib.suppress(AttributeError, OSError):
            return ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value or 0
    raise ArtifactError(f"the system's libraries have no {name}")


def _link_with_llvm(images: Sequence[bytes], names: Sequence[str]) -> tuple[object, Addresses]:
    import llvmlite.binding as llvm

    builder = llvm.JITLibraryBuilder()
    for image in images:
        builder.add_object_img(image)
    for name in names:
        builder.export_symbol(name)
    with _lock:
        jit = _jit()
    try:
        tracker = builder.link(jit, f"gm{next(_numbers)}")
    except RuntimeError as error:
        raise ArtifactError(str(error)) from None
    return tracker, {name: tracker[name] for name in names}


@cache
def _jit() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
