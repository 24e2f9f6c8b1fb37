"""Records for the native call path: what one signature of one executable looks like to it.

`FastFunction` owns the builtin function behind a compiled function's `__call__` and the table of
signatures that it tries, newest first; what the records cannot say stays on the Python path.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphmill.runtime import native
from graphmill.runtime.contents import Memory
from graphmill.runtime.dims import DIM, PUSH, Code
from graphmill.runtime.executable import Executable
from graphmill.runtime.guards import Watch
from graphmill.runtime.layout import ARG, ENTRY, LAYOUT, OUT, STATE
from graphmill.runtime.native import CallPath

Words = NDArray[np.int64]

# signatures in the native table; a function with more of them finds the rest in a dictionary
MAX_SIGNATURES = 32
_METH_FASTCALL_KEYWORDS = 0x80 | 0x02
_MAX_SCRATCH_WORDS = 200
_SCALAR_KINDS = {
    (float, "f64"): "KIND_FLOAT64",
    (float, "f32"): "KIND_FLOAT32",
    (int, "i64"): "KIND_INT64",
    (bool, "bool"): "KIND_BOOL",
}


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_method: _MethodDef | None = None


def _words(values: Sequence[int]) -> Words:
    return np.array(values, dtype=np.int64)


def _address(words: Words) -> int:
    return int(words.__array_interface__["data"][0])


class Record:
    """The native record of a signature; it keeps alive all that it points to."""

    def __init__(self, executable: Executable, kinds: Sequence[str], result: str) -> None:
        artifact = executable.artifact
        self.executable = executable
        self.kept: list[Any] = []
        fields = {
            "ARGS": len(executable.inputs),
            "INPUTS": len(artifact.inputs),
            "OUTPUTS": len(artifact.outputs),
            "SYMBOLS": len(artifact.dims),
            "CODE": executable.code,
            "ARENA_CODE": executable.arena_code if artifact.arena_bytes is None else 0,
            "ARENA_BYTES": artifact.arena_bytes or 0,
            "THREADS": executable.threads or 0,
            "RELEASE": int(not executable.is_small()),
            "RESULT": LAYOUT[f"RESULT_{result.upper()}"],
            "ARG_RECORDS": self._keep(self._arguments(kinds)),
            "OUT_RECORDS": self._keep(self._outputs()),
            "BOUNDS": self._keep(self._bounds()),
            "BOUND_INPUTS": self._keep(self._bound_inputs()),
        }
        self.entry = _words([fields[name] for name in ENTRY])

    def _keep(self, values: list[int]) -> int:
        words = _words(values)
        self.kept.append(words)
        return _address(words)

    def _arguments(self, kinds: Sequence[str]) -> list[int]:
        words: list[int] = []
        for want, kind in zip(self.executable.inputs, kinds, strict=True):
            fields = {
                "ARG_SIZE": len(ARG) - 1 + want.rank,
                "ARG_KIND": LAYOUT[kind],
                "ARG_SLOT": want.position,
                "ARG_DESCR": id(want.dtype),
                "ARG_ND": want.rank,
                "ARG_SHIFT": want.dtype.itemsize.bit_length() - 1,
            }
            words += [fields[name] for name in ARG[:-1]]
            words += [-1 - i if op == DIM else i for ((op, i),) in want.codes]
        return words

    def _outputs(self) -> list[int]:
        words: list[int] = []
        for dtype, codes in self.executable.output_codes:
            fields = {
                "OUT_SIZE": len(OUT) - 1 + 2 * len(codes),
                "OUT_DESCR": id(dtype),
                "OUT_ND": len(codes),
                "OUT_ITEM": dtype.itemsize,
            }
            words += [fields[name] for name in OUT[:-1]]
            for code in codes:
                words += self._dim(code)
        return words

    def _dim(self, code: Code) -> list[int]:
        if len(code) == 1:
            operation, value = code[0]
            return [LAYOUT["DIM_STATIC" if operation == PUSH else "DIM_SYMBOL"], value]
        program = [len(code), *(word for step in code for word in step)]
        return [LAYOUT["DIM_PROGRAM"], self._keep(program)]

    def _bounds(self) -> list[int]:
        most = (1 << 62) - 1
        specs = self.executable.artifact.dims
        return [x for spec in specs for x in (spec.lo, most if spec.hi is None else spec.hi)]

    def _bound_inputs(self) -> list[int]:
        artifact = self.executable.artifact
        first = len(artifact.inputs) + len(artifact.outputs)
        pairs = [
            word
            for position, array in enumerate(self.executable.constants, first)
            for word in (position, int(array.__array_interface__["data"][0]))
        ]
        return [len(pairs) // 2, *pairs]


def record_for(executable: Executable, args: Sequence[Any], result: str) -> Record | None:
    """The record for calls like this one, None if the native path cannot serve them."""
    artifact = executable.artifact
    words = len(artifact.dims) + sum(len(x.shape) for x in artifact.inputs if x.strided)
    pointers = len(artifact.inputs) + len(artifact.outputs) + len(artifact.constants)
    programs = [code for _, codes in executable.output_codes for code in codes]
    if (
        artifact.profiled
        or len(args) != len(artifact.inputs)  # variables are inputs too
        or not 1 <= len(artifact.outputs) <= LAYOUT["MAX_OUTPUTS"]
        or pointers > LAYOUT["POINTERS"]
        or words > _MAX_SCRATCH_WORDS
        or any(len(code) > LAYOUT["MAX_PROGRAM"] for code in programs)
        or any(len(x.codes) > LAYOUT["MAX_RANK"] for x in executable.inputs)
        or any(len(codes) > LAYOUT["MAX_RANK"] for _, codes in executable.output_codes)
        or any(len(code) != 1 for x in executable.inputs for code in x.codes)
        or (result == "single" and len(artifact.outputs) != 1)
    ):
        return None
    kinds = []
    for want, value in zip(executable.inputs, args, strict=True):
        kind = _SCALAR_KINDS.get((type(value), want.spec.dtype))
        if type(value) is np.ndarray:
            kind = "KIND_STRIDED" if want.spec.strided else "KIND_ARRAY"
        elif want.rank:
            kind = None
        if kind is None:
            return None
        kinds.append(kind)
    found = {
        code[0][1]
        for want, kind in zip(executable.inputs, kinds, strict=True)
        for code in want.codes
        if code[0][0] == DIM and kind in ("KIND_ARRAY", "KIND_STRIDED")
    }
    if len(found) != len(artifact.dims):
        return None
    return Record(executable, kinds, result)


class FastFunction:
    """A builtin function that tries native records and calls `slow(*args, **kwargs)` otherwise."""

    def __init__(self, path: CallPath, slow: Callable[..., Any]) -> None:
        self._state = np.zeros(len(STATE), dtype=np.int64)
        # a call in another thread may still be reading an older record: none is ever dropped
        self._kept: list[Record] = []
        self._records: list[Record] = []
        self._publish()
        self.guard(None)
        new = ctypes.pythonapi.PyCFunction_NewEx
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        method = ctypes.addressof(_method_definition(path))
        self.function: Callable[..., Any] = new(method, (self._state, slow, self), None)

    def add(self, executable: Executable, args: Sequence[Any], result: str) -> bool:
        """Try this executable's signature first from now on; False if only Python can serve it."""
        record = record_for(executable, args, result)
        if record is None:
            return False
        self._records = [record, *self._records[: MAX_SIGNATURES - 1]]
        self._kept.append(record)
        self._publish()
        return True

    def guard(self, watch: Watch | None) -> None:
        """Serve calls only while all that `watch` knows is as it was when it looked."""
        pairs = watch.words() if watch is not None else []
        memory = watch.memory(native.digest) if watch is not None else Memory([], [])
        if pairs is None or memory is None:
            # what cannot be looked at natively is never served natively
            pairs, memory = [(_address(self._state), 0)], Memory([], [])
        tables: tuple[Sequence[tuple[int, ...]], ...] = (pairs, *memory)
        guards = _words([x for rows in tables for x in (len(rows), *itertools.chain(*rows))])
        self._state[LAYOUT["STATE_GUARDS"]] = _address(guards)
        # readers hold the interpreter lock while they look, so the old words may go; the watch
        # keeps alive what the addresses lie in
        self._guards = (guards, watch)
        self._guarded_by = None if watch is None else (id(watch), watch.version)
        self._state[LAYOUT["STATE_FAILED"]] = 0

    def guard_with(self, watch: Watch | None) -> None:
        """Guard by `watch` unless that is so already."""
        if self._guarded_by != (None if watch is None else (id(watch), watch.version)):
            self.guard(watch)

    @property
    def guard_failed(self) -> bool:
        """Whether a call has found a guarded word changed since `guard`."""
        return bool(self._state[LAYOUT["STATE_FAILED"]])

    def _publish(self) -> None:
        entries = [_address(record.entry) for record in self._records]
        table = _words([len(entries), *entries])
        self._state[LAYOUT["STATE_TABLE"]] = _address(table)
        self._table = table


def _method_definition(path: CallPath) -> _MethodDef:
    global _method
    if _method is None:
        _method = _MethodDef(
            b"compiled", path.addresses["gm_call"], _METH_FASTCALL_KEYWORDS, b"A compiled function."
        )
    return _method
