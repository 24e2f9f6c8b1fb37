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
from graphmill.runtime.digests import MANY_BYTES, Batch, of_elements

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target
    from graphmill.driver import Options
    from graphmill.ir.graph import Function
    from graphmill.runtime.contents import AtOnce

Array = np.ndarray[Any, Any]

FORMAT = "3"  # raise it when generated code changes its meaning
COMPILERS = ("llvmlite", "torch_mlir", "mlir", "numpy")
LAYERS = ("ir", "frontend", "passes", "codegen", "runtime", "graphmill")


class Contents:
    """What `content` says of the arrays of one function, looked at once."""

    def __init__(self) -> None:
        # by the array as it is, then by memory seen in the same way, for as long as this lives
        self._of_array: dict[object, tuple[Array, str]] = {}
        self._known: dict[object, tuple[Array, str]] = {}

    def __call__(self, array: Array) -> str:
        found = self._of_array.get(_array(array))
        if found is None:
            place = _place(array)
            found = self._known.get(place) or (array, content(array))
            self._known[place] = found
            self._of_array[_array(array)] = array, found[1]
        return found[1]

    def read(self, arrays: Iterable[Array], at_once: AtOnce) -> None:
        """Look at the large ones of these arrays, on several threads."""
        large: dict[object, Array] = {}
        for array in arrays:
            large_enough = array.nbytes >= MANY_BYTES and array.flags.c_contiguous
            if not large_enough or _array(array) in self._of_array:
                continue
            if (place := _place(array)) not in self._known:
                large[place] = array
        fast = native.digest() if large else None
        if fast is None:
            return
        some = sorted(large.values(), key=lambda array: -array.nbytes)
        batch = Batch(fast, [(a.__array_interface__["data"][0], a.nbytes) for a in some])
        at_once(batch.tasks())
        for array, number in zip(some, batch.found(), strict=True):
            self.know(array, number)

    def know(self, array: Array, digest: int | bytes) -> None:
        """Take over a digest: the native one of a contiguous array, or that of its elements."""
        found = array, _text(array, digest)
        self._of_array[_array(array)] = self._known[_place(array)] = found


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


def content(array: Array) -> str:
    """A text that differs when the elements, dtype or shape of an array do."""
    fast = native.digest() if array.nbytes >= MANY_BYTES and array.flags.c_contiguous else None
    if fast is None:
        return _text(array, of_elements(array))
    return _text(array, fast(array.__array_interface__["data"][0], array.nbytes))


def _text(array: Array, digest: int | bytes) -> str:
    said = digest.hex() if isinstance(digest, bytes) else f"{digest:x}"
    return f"{array.dtype}{array.shape}:{said}"


def _array(array: Array) -> object:
    return id(array), array.shape, array.strides


def _place(array: Array) -> object:
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


def words_id() -> str:
    """The same of the sources of the runtime's native parts alone."""
    from graphmill.codegen import cpu

    parts = [version("llvmlite"), *_sources(cpu.__path__[0], (".words", "words.py"))]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def _sources(folder: str, names: tuple[str, ...] = (".py", ".words")) -> Iterator[str]:
    """Path, size and time of change of every file below a folder with such an end of its name."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.endswith(names):
            status = entry.stat()
            yield f"{entry.path}:{status.st_size}:{status.st_mtime_ns}"
        elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
            yield from _sources(entry.path, names)


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
