"""Keys of the compile cache: a hash of all that an artifact depends on."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.runtime import native
from graphmill.runtime.cache import key_of
from graphmill.runtime.digests import MANY_BYTES, Batch

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target
    from graphmill.driver import Options
    from graphmill.ir.graph import Function
    from graphmill.runtime.contents import AtOnce

FORMAT = "2"  # raise it when generated code changes its meaning
COMPILERS = ("llvmlite", "torch_mlir", "mlir", "numpy")
LAYERS = ("ir", "frontend", "passes", "codegen", "runtime", "graphmill")


class Contents:
    """What `content` says of the arrays of one function, looked at once."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[np.ndarray[Any, Any], str]] = {}

    def __call__(self, array: np.ndarray[Any, Any]) -> str:
        place = _place(array)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = array, content(array)
        return known[1]

    def read(self, arrays: Iterable[np.ndarray[Any, Any]], at_once: AtOnce) -> None:
        """Look at the large ones of these arrays, on several threads."""
        large: dict[object, np.ndarray[Any, Any]] = {}
        for array in arrays:
            large_enough = array.nbytes >= MANY_BYTES and array.flags.c_contiguous
            if large_enough and (place := _place(array)) not in self._known:
                large[place] = array
        fast = native.digest() if large else None
        if fast is None:
            return
        some = sorted(large.values(), key=lambda array: -array.nbytes)
        batch = Batch(fast, [(a.__array_interface__["data"][0], a.nbytes) for a in some])
        at_once(batch.tasks())
        for array, number in zip(some, batch.found(), strict=True):
            self.know(array, number)

    def know(self, array: np.ndarray[Any, Any], number: int) -> None:
        """Take over a native digest of a contiguous array."""
        self._known[_place(array)] = array, _text(array, number)


def cache_key(
    function: Function, options: Options, target: Target, contents: Contents | None = None
) -> str:
    """The key of a traced function's artifact: IR with constants, options, CPU, compiler."""
    from graphmill.ir.printer import print_function

    text = print_function(function, locations=True, content=contents or content)
    return key_of(text, *settings(options, target))


def settings(options: Options, target: Target) -> tuple[str, ...]:
    """What an artifact depends on beside the function: options, CPU, compiler."""
    return FORMAT, options.passes, str(options.profiled), str(astuple(target)), build_id()


def content(array: np.ndarray[Any, Any]) -> str:
    """A text that differs when the elements, dtype or shape of an array do."""
    fast = native.digest() if array.nbytes >= MANY_BYTES and array.flags.c_contiguous else None
    if fast is None:
        from graphmill.ir.literals import digest

        return digest(array)
    return _text(array, fast(array.__array_interface__["data"][0], array.nbytes))


def _text(array: np.ndarray[Any, Any], number: int) -> str:
    return f"{array.dtype}{array.shape}:{number:x}"


def _place(array: np.ndarray[Any, Any]) -> object:
    """The same for the same memory seen in the same way, for as long as the array lives."""
    return array.__array_interface__["data"][0], array.dtype, array.shape, array.strides


@cache
def build_id() -> str:
    """Our own sources and the compilers' versions: an edit of Graphmill invalidates the cache."""
    import graphmill

    parts = [platform.python_version(), *map(version, COMPILERS)]
    for root in graphmill.__path__:
        for layer in LAYERS:
            parts += sorted(_sources(os.path.join(root, layer)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sources(folder: str) -> Iterator[str]:
    """Path, size and time of change of every source file below a folder."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.endswith((".py", ".words")):
            status = entry.stat()
            yield f"{entry.path}:{status.st_size}:{status.st_mtime_ns}"
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from _sources(entry.path)


def version(package: str) -> str:
    """A package's version, from the name of its metadata's folder where that stands beside it.

    `importlib.metadata` takes longer than all else in a start from the cache.
    """
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        return f"{package}=none"
    place = os.path.dirname(folders[0])
    head, tail = f"{package}-", ".dist-info"
    found = [
        name[len(head) : -len(tail)]
        for name in os.listdir(place)
        if name.endswith(tail) and name[: len(head)].lower() == head
    ]
    if found:
        return f"{package}={'|'.join(sorted(found))}"
    from importlib import metadata

    try:
        return f"{package}={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        status = os.stat(folders[0])
        return f"{package}={status.st_size}:{status.st_mtime_ns}"
