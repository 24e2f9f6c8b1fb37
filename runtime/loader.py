"""Loading object code into the process, with libc and libm and nothing else to link against.

Each object becomes a library of its own in one LLJIT instance; the symbols it may use are given to
it by address from a fixed list, so an object that names anything else does not load.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from graphmill.codegen.artifact import ArtifactError

# What code generation may leave to the system: memory functions, and libm for what it has not
# vectorised itself (each also as float).
LIBC = ("memcpy", "memmove", "memset", "memcmp", "malloc", "calloc", "realloc", "free")
LIBM = tuple(
    name + suffix
    for name in [
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "copysign",
        "cos",
        "cosh",
        "erf",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "fabs",
        "fdim",
        "floor",
        "fma",
        "fmax",
        "fmin",
        "fmod",
        "frexp",
        "hypot",
        "ldexp",
        "lgamma",
        "llrint",
        "llround",
        "log",
        "log10",
        "log1p",
        "log2",
        "lrint",
        "lround",
        "modf",
        "nearbyint",
        "nextafter",
        "pow",
        "remainder",
        "rint",
        "round",
        "sin",
        "sincos",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "tgamma",
        "trunc",
    ]
    for suffix in ("", "f")
)

_lock = threading.Lock()
_numbers = itertools.count()


def address_of(name: str) -> int | None:
    """Address of a symbol of the running process (libc, libm, libpython), if it has one."""
    for library in _libraries():
        try:
            function = getattr(library, name)
        except AttributeError:
            continue
        return ctypes.cast(function, ctypes.c_void_p).value
    return None


@cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    import ctypes.util

    libraries = [ctypes.CDLL(None), ctypes.pythonapi]
    name = ctypes.util.find_library("m") if address_of_in(libraries[0], "cos") is None else None
    return (*libraries, ctypes.CDLL(name)) if name else tuple(libraries)


def address_of_in(library: ctypes.CDLL, name: str) -> int | None:
    """Address of a symbol in one library."""
    try:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    except AttributeError:
        return None


@cache
def _allowed() -> dict[str, int]:
    found = {name: address_of(name) for name in (*LIBC, *LIBM)}
    return {name: address for name, address in found.items() if address}


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
        symbols: Iterable[str],
        imports: Mapping[str, int] | None = None,
        *,
        system: bool = False,
    ) -> None:
        """Load `code` and look up `symbols`; `imports` replaces the libc and libm list.

        `system=True` is for the runtime's own parts: they may use any symbol of the process.

        Raises `ArtifactError` for bytes that are no object for this machine, and for symbols that
        are missing or not allowed.
        """
        import llvmlite.binding as llvm

        names = tuple(symbols)
        with _lock:
            jit = _jit()
        self._check(code)
        builder = llvm.JITLibraryBuilder().add_object_img(code)
        if system:
            builder.add_current_process()
            imports = imports or {}
        for name, address in (_allowed() if imports is None else imports).items():
            builder.import_symbol(name, address)
        for name in names:
            builder.export_symbol(name)
        try:
            self._tracker = builder.link(jit, f"gm{next(_numbers)}")
        except RuntimeError as error:
            raise ArtifactError(f"cannot load object code: {error}") from None
        self.addresses: dict[str, int] = {name: self._tracker[name] for name in names}

    @staticmethod
    def _check(code: bytes) -> None:
        # LLVM aborts the process on some inputs that are not objects at all
        if code[:4] not in (b"\x7fELF", b"\xcf\xfa\xed\xfe"):
            raise ArtifactError("cannot load object code: neither ELF nor Mach-O")
