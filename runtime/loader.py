"""Loading object code into the process, with libc and libm and nothing else to link against.

Each object becomes a library of its own in one LLJIT instance. What it wants from outside is read
from its symbol table first: an object that names anything but libc's memory functions and libm does
not load.
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from graphmill.codegen.artifact import ArtifactError

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

_lock = threading.Lock()
_numbers = itertools.count()

_ELF = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB = 2


def symbols(code: bytes) -> tuple[set[str], set[str]]:
    """Names that a 64-bit ELF object gives to others and those that it wants from them.

    Raises `ArtifactError` if it is none.
    """
    try:
        header = _ELF.unpack_from(code)
        if header[:3] != (b"\x7fELF", 2, 1):
            raise ArtifactError("cannot load object code: not a 64-bit little-endian ELF object")
        offset, size, count = header[8], header[13], header[14]
        sections = [_SECTION.unpack_from(code, offset + k * size) for k in range(count)]
        given, wanted = set[str](), set[str]()
        for section in sections:
            if section[1] != _SYMTAB:
                continue
            text = sections[section[6]]
            for at in range(section[4], section[4] + section[5], _SYMBOL.size):
                name, info, _, where, _, _ = _SYMBOL.unpack_from(code, at)
                if name and (where == 0 or info >> 4):
                    (given if where else wanted).add(_text(code, text[4] + name))
        return given, wanted
    except (struct.error, IndexError) as error:
        raise ArtifactError(f"cannot load object code: damaged ELF object ({error})") from None


def _text(code: bytes, start: int) -> str:
    stop = code.find(b"\0", start)
    return code[start : stop if stop >= 0 else start].decode("ascii", "replace")


@cache
def _jit() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)


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
        import llvmlite.binding as llvm

        names = tuple(exported)
        if not system:
            _check(code, *parts)
        builder = llvm.JITLibraryBuilder()
        for image in (code, *parts):
            builder.add_object_img(image)
        for name in names:
            builder.export_symbol(name)
        with _lock:
            jit = _jit()
        try:
            self._tracker = builder.link(jit, f"gm{next(_numbers)}")
        except RuntimeError as error:
            raise ArtifactError(f"cannot load object code: {error}") from None
        self.addresses: dict[str, int] = {name: self._tracker[name] for name in names}


def _check(*images: bytes) -> None:
    # Mach-O: its symbols are left to the linker
    found = [symbols(code) for code in images if code[:4] != b"\xcf\xfa\xed\xfe"]
    given, wanted = (set[str]().union(*(pair[i] for pair in found)) for i in (0, 1))
    unknown = wanted - given - ALLOWED
    if unknown:
        raise ArtifactError(
            f"object code wants symbols beyond libc and libm: {', '.join(sorted(unknown))}"
        )


def _after_fork() -> None:
    # only the forking thread lives on; the lock may have been held by another
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
