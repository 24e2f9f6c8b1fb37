"""Libraries that Graphmill built: load one by what it says of itself, call it with NumPy arrays.

Before anything of the file runs it is checked: an ELF file for this machine, a Graphmill note in
it, and the SHA-256 that the note holds. Needs ctypes and NumPy only.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import platform
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphmill.codegen.artifact import ITEMSIZES, ArgSpec
from graphmill.runtime import buffers
from graphmill.runtime.buffers import Array
from graphmill.runtime.dims import DIM, Code, DimError, compile_dim, run, solve
from graphmill.runtime.donation import check_donated

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_MACHINES = {62: ("x86_64", "AMD64"), 183: ("aarch64", "arm64")}
_OWNER = b"Graphmill\0"
_DIGEST_BYTES = 32
_PT_NOTE = 4
_FORMAT = 2
_WORD = ctypes.c_int64
# shapes whose plan a function keeps; with symbolic dims there are many
_MAX_PLANS = 1024

_OK, _BAD_ARGUMENT, _BAD_DIM, _OUT_OF_MEMORY = range(4)


class LibraryError(RuntimeError):
    """A file is no library of Graphmill, is damaged, or its code failed; says which and why."""


def load(
    path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    verify: bool = True,
) -> Library:
    """Load a library that `gm.build` wrote; its functions are attributes that take NumPy arrays.

    A library with its weights in a file of their own loads that file from beside itself, or from
    `weights`. `verify=False` skips the checksum (after `patchelf`, say). Raises `LibraryError`,
    and `FileNotFoundError` where there is no file.
    """
    path = Path(path).absolute()
    name, digest = _check(path, verify)
    try:
        code = _open(path, digest)
    except OSError as error:
        raise LibraryError(f"{path}: the system cannot load it: {error}") from None
    library = Library(path, name, code)
    file = library.metadata["weights"]["file"]
    if file is not None:
        library.load_weights(weights or path.with_name(file))
    library.check()
    return library


_digests: dict[Path, bytes] = {}


def _open(path: Path, digest: bytes) -> ctypes.CDLL:
    """The system's handle; a path whose file was replaced is opened under a name of its own.

    The loader compares names before files, and would give the library that was there before.
    """
    if _digests.setdefault(path, digest) == digest:
        return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory(prefix="graphmill-") as folder:
        link = Path(folder) / path.name
        link.symlink_to(path)
        return ctypes.CDLL(str(link))


class Library:
    """A loaded library: `lib.predict(x)` calls its function `predict`."""

    def __init__(self, path: Path, name: str, code: ctypes.CDLL) -> None:
        self.path, self.name = path, name
        self._control = _Control(path, name, code)
        self.metadata: dict[str, Any] = self._control.metadata()
        self.functions: dict[str, Function] = {
            record["name"]: Function(record, code, self._control)
            for record in self.metadata["functions"]
        }

    @property
    def version(self) -> str:
        """The version that the library was built with."""
        return self._control.text("version")

    @property
    def threads(self) -> int:
        """Threads that a call may use; at first 1."""
        return int(self._control.threads())

    def set_threads(self, count: int) -> None:
        """Let calls use up to `count` threads; raises ValueError beyond 1 to 4096."""
        if not 1 <= count <= 1 << 20 or self._control.set_threads(count):
            raise ValueError(f"a thread count lies between 1 and 4096, not {count}")

    def check(self) -> None:
        """Raise `LibraryError` if this CPU lacks what the code needs; `load` does this."""
        if self._control.ready():
            raise LibraryError(f"{self.path}: {self._control.error()}")

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Map the file of weights; `load` does this. Raises `LibraryError`."""
        if self._control.load_weights(str(Path(path).absolute()).encode()):
            raise LibraryError(self._control.error())

    def release_memory(self) -> None:
        """Give the library's cached scratch memory back to the system."""
        self._control.release_memory()

    def __getattr__(self, name: str) -> Function:
        functions: dict[str, Function] = self.__dict__.get("functions", {})
        if name in functions:
            return functions[name]
        raise AttributeError(f"{self.name} has no function {name!r}: it has {', '.join(functions)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.functions]

    def __repr__(self) -> str:
        lines = [f"Library {self.name} {self.version} for {self.metadata['target']['name']}"]
        return "\n  ".join([*lines, *(repr(f) for f in self.functions.values())])


class _Control:
    """The fixed functions of a library, typed."""

    def __init__(self, path: Path, name: str, code: ctypes.CDLL) -> None:
        self._path, self._name, self._code = path, name, code
        integer, text = ctypes.c_int32, ctypes.c_char_p
        self._texts = {n: self._get(n, text) for n in ("version", "metadata", "last_error")}
        self.set_threads = self._get("set_threads", integer, integer)
        self.threads = self._get("threads", integer)
        self.ready = self._get("ready", integer)
        self.load_weights = self._get("load_weights", integer, text)
        self.release_memory = self._get("release_memory", None)

    def _get(self, name: str, result: Any, *arguments: Any) -> Any:
        try:
            function = self._code[f"gml_{self._name}_{name}"]
        except AttributeError as error:
            raise LibraryError(f"{self._path}: {error}") from None
        function.restype, function.argtypes = result, arguments
        return function

    def text(self, name: str) -> str:
        return bytes(self._texts[name]() or b"").decode("utf-8", "replace")

    def error(self) -> str:
        return self.text("last_error")

    def metadata(self) -> dict[str, Any]:
        try:
            facts = json.loads(self.text("metadata"))
        except (ValueError, RecursionError) as error:
            raise LibraryError(f"{self._path}: its metadata is damaged: {error}") from None
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            raise LibraryError(f"{self._path}: built by a Graphmill of another format")
        return facts


class Function:
    """One function of a library, called with arrays; results are new arrays, and those arguments
    whose memory was donated.

    Takes what a jitted function takes for the same specification: NumPy arrays, DLPack producers,
    Python numbers for 0-d inputs. Raises TypeError for a wrong number or dtype of arguments,
    ValueError for a wrong shape or a donated array that cannot be overwritten, MemoryError,
    `LibraryError` for what the code itself reports.
    """

    def __init__(self, record: Mapping[str, Any], code: ctypes.CDLL, control: _Control) -> None:
        self.name: str = record["name"]
        self.inputs = tuple(map(_spec, record["inputs"]))
        self.outputs = tuple(map(_spec, record["outputs"]))
        self.dims: tuple[dict[str, Any], ...] = tuple(record["dims"])
        positions = {dim["name"]: i for i, dim in enumerate(self.dims)}
        try:
            self._codes = [[compile_dim(d, positions) for d in s.shape] for s in self.inputs]
            self._sizes = [[compile_dim(d, positions) for d in s.shape] for s in self.outputs]
        except DimError as error:
            raise LibraryError(f"{self.name}: {error}") from None
        self._input_dtypes = [buffers.numpy_dtype(spec.dtype) for spec in self.inputs]
        self._output_dtypes = [buffers.numpy_dtype(spec.dtype) for spec in self.outputs]
        self._strided = [i for i, spec in enumerate(self.inputs) if spec.strided]
        self._plans: dict[tuple[tuple[int, ...], ...], tuple[list[int], list[list[int]]]] = {}
        self._control = control
        self._entry = code[record["symbol"]]
        self._entry.restype = ctypes.c_int32
        self._donated = {i: n for i, n in enumerate(record["donated"]) if n >= 0}
        self._names = [spec.name for spec in self.inputs]
        pointers = len(self.inputs) + len(self.outputs) - len(self._donated)
        self._entry.argtypes = (
            *[ctypes.c_void_p] * pointers,
            *[_WORD] * len(self.dims),
            *[ctypes.c_void_p] * len(self._strided),
        )

    def __call__(self, *args: Any) -> Any:
        """The output, or a tuple of the outputs when there are several."""
        arrays = self._arrays(args)
        dims, shapes = self._plan(arrays)
        check_donated(arrays, list(self._donated.values()), self._names)
        own = {
            i: buffers.empty(shapes[i], dtype)
            for i, dtype in enumerate(self._output_dtypes)
            if i not in self._donated
        }
        strides = [
            (_WORD * arrays[i].ndim)(*[step // arrays[i].itemsize for step in arrays[i].strides])
            for i in self._strided
        ]
        status = self._entry(*map(buffers.address, (*arrays, *own.values())), *dims, *strides)
        if status:
            raise self._error(status)
        given = {i: arrays[n] for i, n in self._donated.items()}
        outputs = [given[i] if i in given else own[i] for i in range(len(self.outputs))]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _plan(self, arrays: Sequence[Array]) -> tuple[list[int], list[list[int]]]:
        """Dims and output shapes for these arrays, remembered by their shapes."""
        key = tuple([array.shape for array in arrays])
        plan = self._plans.get(key)
        if plan is None:
            dims = self._bind(arrays)
            plan = dims, [[run(code, dims) for code in codes] for codes in self._sizes]
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _error(self, status: int) -> Exception:
        kinds = {_BAD_ARGUMENT: ValueError, _BAD_DIM: ValueError, _OUT_OF_MEMORY: MemoryError}
        return kinds.get(status, LibraryError)(self._control.error())

    def _arrays(self, args: Sequence[Any]) -> list[Array]:
        if len(args) != len(self.inputs):
            raise TypeError(f"{self.name} takes {len(self.inputs)} arguments, got {len(args)}")
        return [self._array(i, spec, args[i]) for i, spec in enumerate(self.inputs)]

    def _array(self, position: int, spec: ArgSpec, value: Any) -> Array:
        dtype = self._input_dtypes[position]
        if type(value) in (bool, int, float, complex) and not spec.shape:
            array = np.asarray(value)
            if not np.can_cast(array.dtype, dtype, "same_kind"):
                raise TypeError(self._mismatch(position, array))
            try:
                return np.array(value, dtype)
            except OverflowError:
                raise ValueError(f"{value} does not fit in {spec.dtype}") from None
        array = buffers.as_array(value)
        if array.dtype != dtype:
            raise TypeError(self._mismatch(position, array))
        if position in self._donated.values() and array.dtype.isnative:
            return array  # as it is, or not at all
        return buffers.fit(array, dtype, spec.strided)

    def _mismatch(self, position: int, array: Array, known: Mapping[str, int] | None = None) -> str:
        spec = self.inputs[position]
        values = ", ".join(f"{name} = {value}" for name, value in (known or {}).items())
        where = f" with {values}" if values else ""
        return (
            f"{self.name}: argument {position} ({spec.name}) is {buffers.describe(array)}, "
            f"the function wants {buffers.spell_spec(spec)}{where}"
        )

    def _bind(self, arrays: Sequence[Array]) -> list[int]:
        """Values of the symbolic dims, equal wherever they occur and within their bounds."""
        known: dict[int, int] = {}
        compound: list[tuple[int, Code, int]] = []
        for position, (codes, array) in enumerate(zip(self._codes, arrays, strict=True)):
            if array.ndim != len(codes):
                raise ValueError(self._mismatch(position, array))
            for code, size in zip(codes, array.shape, strict=True):
                if len(code) == 1 and code[0][0] == DIM:
                    known.setdefault(code[0][1], size)
                compound.append((position, code, size))
        # plain dims first, then those that stand in expressions with one unknown
        for _, code, size in compound:
            unknown = {value for kind, value in code if kind == DIM and value not in known}
            if len(unknown) == 1:
                dim = unknown.pop()
                fixed = [
                    (0, known[value]) if kind == DIM and value in known else (kind, value)
                    for kind, value in code
                ]
                value = solve(tuple(fixed), dim, size)
                if value is not None:
                    known[dim] = value
        named = {dim["name"]: known[i] for i, dim in enumerate(self.dims) if i in known}
        for name in (dim["name"] for dim in self.dims):
            if name not in named:
                raise ValueError(f"{self.name}: no argument gives the value of dim {name}")
        dims = list(named.values())
        for position, code, size in compound:
            if run(code, dims) != size:
                raise ValueError(self._mismatch(position, arrays[position], named))
        return dims

    def __repr__(self) -> str:
        parts = [", ".join(map(buffers.spell_spec, s)) for s in (self.inputs, self.outputs)]
        return f"{self.name}({parts[0]}) -> ({parts[1]})"


def _spec(record: Mapping[str, Any]) -> ArgSpec:
    if record["dtype"] not in ITEMSIZES:
        raise LibraryError(f"the library uses an unknown dtype {record['dtype']!r}")
    return ArgSpec(record["name"], record["dtype"], tuple(record["shape"]), bool(record["strided"]))


# ---- before anything is loaded


def _check(path: Path, verify: bool) -> tuple[str, bytes]:
    """The library's name and digest; raises unless it is whole, ours, and for this machine."""
    with path.open("rb") as file:
        if path.stat().st_size < _HEADER.size:
            raise LibraryError(f"{path} is no shared library (a 64-bit little-endian ELF file)")
        # pages of our own only where the checksum is put out of the way
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as data:
            at, name = _note(path, data)
            digest = data[at : at + _DIGEST_BYTES]
            data[at : at + len(digest)] = bytes(len(digest))
            if verify and hashlib.sha256(data).digest() != digest:
                raise LibraryError(f"{path} is damaged: its checksum does not match")
    return name, digest


def _note(path: Path, data: mmap.mmap) -> tuple[int, str]:
    """Where the checksum stands, and the library's name."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise LibraryError(f"{path} is no shared library (a 64-bit little-endian ELF file)")
    fields = _HEADER.unpack_from(data)
    machine, table, size, count = fields[2], fields[5], fields[9], fields[10]
    if size != _SEGMENT.size or table + size * count > len(data):
        raise LibraryError(f"{path} is damaged: it is cut short")
    for number in range(count):
        kind, _, offset, _, _, length, _, _ = _SEGMENT.unpack_from(data, table + size * number)
        if offset + length > len(data):
            raise LibraryError(f"{path} is damaged: it is cut short")
        found = _find(data, offset, offset + length) if kind == _PT_NOTE else None
        if found is not None:
            names = _MACHINES.get(machine, ())
            if platform.machine() not in names:
                built = names[0] if names else "another machine"
                raise LibraryError(f"{path} is for {built}, this is {platform.machine()}")
            return found
    raise LibraryError(f"{path} was not built by Graphmill")


def _find(data: mmap.mmap, at: int, end: int) -> tuple[int, str] | None:
    while at + 12 <= end:
        name_size, size, _ = struct.unpack_from("<III", data, at)
        owner, content = at + 12, at + 12 + (name_size + 3 & ~3)
        if data[owner : owner + name_size] == _OWNER and size > _DIGEST_BYTES:
            text = data[content + _DIGEST_BYTES : min(content + size, end)]
            return content, text.decode("ascii", "replace")
        at = content + (size + 3 & ~3)
    return None
