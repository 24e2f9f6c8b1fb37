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

from graphmill.runtime import native
from graphmill.runtime.contents import Memory
from graphmill.runtime.dims import ADD, DIM, MUL, PUSH, SUB, Code, run
from graphmill.runtime.executable import Executable, Input
from graphmill.runtime.forms import Build, Call, Encoder, Node, flat, nodes
from graphmill.runtime.guards import Watch
from graphmill.runtime.layout import ARG, ENTRY, LAYOUT, OUT, STATE
from graphmill.runtime.native import CallPath

Words = np.ndarray[Any, np.dtype[np.int64]]

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
Kind = tuple[str, Any]


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


class Record(Encoder):
    """The native record of a signature; it keeps alive all that it points to."""

    def __init__(self, executable: Executable, kinds: Sequence[Kind], call: Call) -> None:
        super().__init__()
        artifact = executable.artifact
        self.executable = executable
        reads, writes = executable.reads, executable.writes
        later: list[int] = []
        fields = {
            "ARGS": len(executable.inputs),
            "GIVEN": len(executable.inputs) - len(reads),
            "INPUTS": len(artifact.inputs),
            "OUTPUTS": len(artifact.outputs),
            "SYMBOLS": len(artifact.dims),
            "CODE": executable.code,
            "ARENA_CODE": executable.arena_code if artifact.arena_bytes is None else 0,
            "ARENA_BYTES": artifact.arena_bytes or 0,
            "THREADS": executable.threads or 0,
            "RELEASE": int(not executable.is_small()),
            **self._result(call.result, len(artifact.outputs) - len(writes)),
            "ARG_RECORDS": self.words(self._arguments(kinds, later)),
            "LATER_DIMS": self.words([len(later) // 3, *later]),
            "OUT_RECORDS": self.words(self._outputs()),
            "BOUNDS": self.words(self._bounds()),
            "BOUND_INPUTS": self.words(self._bound_inputs()),
            "FORM": self.form(call.form, always=bool(reads or writes)),
            "VARIABLES": self._variables(),
            "DONATED": self._donated(),
            "POLLED": executable.poll,
        }
        self.entry = _words([fields[name] for name in ENTRY])

    def _result(self, result: Node | Build, count: int) -> dict[str, int]:
        """How the Python result is made, and of how many outputs."""
        how, build = "CALL", 0
        if not isinstance(result, Node):
            self.kept.append(result)
            build = id(result)
        elif result == flat(count):
            how = "SINGLE" if count == 1 else "TUPLE"
        else:
            how, build = "TREE", self.node(result)
        return {"RESULT": LAYOUT[f"RESULT_{how}"], "RESULT_COUNT": count, "BUILD": build}

    def _arguments(self, kinds: Sequence[Kind], later: list[int]) -> list[int]:
        words: list[int] = []
        for want, (kind, subject) in zip(self.executable.inputs, kinds, strict=True):
            fields = {
                "ARG_SIZE": len(ARG) - 1 + 3 * want.rank,
                "ARG_KIND": LAYOUT[kind],
                "ARG_SLOT": want.position,
                "ARG_DESCR": id(subject),
                "ARG_ND": want.rank,
                "ARG_SHIFT": want.dtype.itemsize.bit_length() - 1,
            }
            self.kept.append(subject)
            words += [fields[name] for name in ARG[:-1]]
            for axis, code in enumerate(want.codes):
                triple = _affine(code)
                if triple[0] == LAYOUT["LATER"]:
                    later += [want.position, axis, self._program(code)]
                words += triple
        return words

    def _outputs(self) -> list[int]:
        words: list[int] = []
        donated = dict(self.executable.donated)
        for number, (dtype, codes) in enumerate(self.executable.output_codes):
            fields = {
                "OUT_SIZE": len(OUT) - 1 + 2 * len(codes),
                "OUT_DESCR": id(dtype),
                "OUT_ND": len(codes),
                "OUT_ITEM": dtype.itemsize,
                "OUT_DONATED": donated.get(number, -1),
            }
            words += [fields[name] for name in OUT[:-1]]
            for code in codes:
                words += self._dim(code)
        return words

    def _dim(self, code: Code) -> list[int]:
        if len(code) == 1:
            operation, value = code[0]
            return [LAYOUT["DIM_STATIC" if operation == PUSH else "DIM_SYMBOL"], value]
        return [LAYOUT["DIM_PROGRAM"], self._program(code)]

    def _program(self, code: Code) -> int:
        return self.words([len(code), *(word for step in code for word in step)])

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

    def _donated(self) -> int:
        """The numbers of the arguments that results take over; 0 without any."""
        numbers = [n for _, n in self.executable.donated]
        return self.words([len(numbers), *numbers]) if numbers else 0

    def _variables(self) -> int:
        """The record of the state that the code reads and assigns; 0 without any."""
        reads, writes, locks = self.executable.reads, self.executable.writes, self.executable.locks
        if not reads and not writes:
            return 0
        if not writes and len(reads) < 2:
            locks = []  # one value is always whole
        methods = [x for lock in locks for x in (lock.acquire, lock.release, lock.locked)]
        cells = [state.cell for state in (*reads, *writes)]
        self.kept += [methods, cells]
        counts = [len(reads), len(writes), len(locks)]
        return self.words([*counts, *map(id, cells), *map(id, methods)])


def _affine(code: Code) -> list[int]:
    """What an axis of this size binds: symbol, factor, summand. What is no such is for later."""
    symbols = {i for op, i in code if op == DIM}
    if not symbols:
        return [LAYOUT["NO_SYMBOL"], 0, run(code, ())]
    if len(symbols) == 1 and all(op in (PUSH, DIM, ADD, SUB, MUL) for op, _ in code):
        (symbol,) = symbols
        sizes = [run(code, [probe] * (symbol + 1)) for probe in (0, 1, 2)]
        step = sizes[1] - sizes[0]
        if step > 0 and sizes[2] - sizes[1] == step:
            return [symbol, step, sizes[0]]
    return [LAYOUT["LATER"], 0, 0]


def _kind(want: Input, value: Any) -> Kind | None:
    """The record's kind for a leaf like this, and the dtype or class that it must be of."""
    if type(value) is np.ndarray:
        return ("KIND_STRIDED" if want.spec.strided else "KIND_ARRAY", want.dtype)
    if want.rank:
        return None
    known = _SCALAR_KINDS.get((type(value), want.spec.dtype))
    if known is not None:
        return (known, want.dtype)
    if (isinstance(value, np.generic) and value.dtype == want.dtype) or (
        type(value) is complex and want.spec.dtype == "c128"
    ):
        # look whether this class keeps its value where the others do
        array = np.asarray(value)
        if ctypes.string_at(id(value) + LAYOUT["NUMBER_VALUE"], array.nbytes) == array.tobytes():
            return ("KIND_NUMBER", type(value))
    return None


def record_for(executable: Executable, args: Sequence[Any], call: Call) -> Record | None:
    """The record for calls like this one, None if the native path cannot serve them."""
    artifact = executable.artifact
    words = len(artifact.dims) + sum(len(x.shape) for x in artifact.inputs if x.strided)
    pointers = len(artifact.inputs) + len(artifact.outputs) + len(artifact.constants)
    codes = [code for _, shape in executable.output_codes for code in shape]
    codes += [code for x in executable.inputs for code in x.codes]
    places = [n for top in (*call.form.positional, *call.form.named) for n in nodes(top)]
    given = [*args, *[state.value for state in executable.reads]]
    if (
        artifact.profiled
        # a checked call that fails on the way has overwritten them, and cannot be tried again
        or (executable.donated and artifact.locations)
        or len(given) != len(artifact.inputs)
        or len(artifact.outputs) > LAYOUT["MAX_OUTPUTS"]
        or pointers > LAYOUT["POINTERS"]
        or len(places) + 2 * len(artifact.outputs) + len(given) > LAYOUT["POINTERS"]
        or words > _MAX_SCRATCH_WORDS
        or any(len(code) > LAYOUT["MAX_PROGRAM"] for code in codes)
        or any(len(x.codes) > LAYOUT["MAX_RANK"] for x in executable.inputs)
        or any(len(shape) > LAYOUT["MAX_RANK"] for _, shape in executable.output_codes)
    ):
        return None
    if artifact.dims and not executable.is_small():  # sizes to come are not known here
        executable.may_be_long()
    kinds = [_kind(want, value) for want, value in zip(executable.inputs, given, strict=True)]
    known = [kind for kind in kinds if kind is not None]
    bound = {
        _affine(code)[0]
        for want, kind in zip(executable.inputs, kinds, strict=True)
        for code in want.codes
        if kind is not None and kind[0] in ("KIND_ARRAY", "KIND_STRIDED")
    }
    if len(known) < len(kinds) or not bound.issuperset(range(len(artifact.dims))):
        return None
    return Record(executable, known, call)


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

    def add(self, executable: Executable, args: Sequence[Any], call: Call) -> bool:
        """Try this executable's signature first from now on; False if only Python can serve it."""
        record = record_for(executable, args, call)
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
