"""An executable: an artifact's code in memory, and the checked call through ctypes.

A kernel cannot check its arguments and a crash cannot be caught, so everything is checked before
the call: number of arguments, dtype, rank, static dims, symbolic dims (equal wherever they occur,
within their bounds), alignment, strides and byte order. Outputs are new arrays, but for those that
take over a donated argument's memory: they are that argument.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphmill.codegen.artifact import ArgSpec, Artifact, ArtifactError, Constant
from graphmill.records import record
from graphmill.runtime import buffers, native, profiling
from graphmill.runtime.buffers import Array
from graphmill.runtime.dims import DIM, PUSH, Code, DimError, compile_dim, run, solve
from graphmill.runtime.donation import check_donated
from graphmill.runtime.layout import CONTEXT_WORDS, LAYOUT
from graphmill.runtime.loader import LoadedObject
from graphmill.runtime.threads import num_threads

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_ARENA = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
_ALIGN = 64  # bytes: a cache line, the widest vector
_WORD = ctypes.c_int64
_BYTE = np.dtype(np.uint8)
_FOREVER = 1 << 62
_ERROR_WORDS = 8
# NumPy's flags C_CONTIGUOUS and ALIGNED
_READY = 0x101
# shapes whose plan an executable keeps; with symbolic dims there are many
_MAX_PLANS = 1024
# a call that moves or computes less than this keeps the interpreter lock: releasing costs 50 ns
_SMALL_WORK = 1 << 16
# from so much work on, or so many bytes where the work depends on sizes, a call looks for signals
_LONG_WORK, _LONG_BYTES = 1 << 31, 1 << 26


_SCALAR_RANKS: dict[type, int] = {bool: 0, int: 1, float: 2, complex: 3}


class CheckError(RuntimeError):
    """A checked executable met a bad index or value.

    `code` tells the kind of check, `location` the user's line; `index` is the flat index or axis,
    `bad_index` the offending index value and `bound` its bound, `value` the first bad number.
    """

    def __init__(
        self, code: int, location: str, index: int, bad_index: int, bound: int, value: float
    ) -> None:
        self.code, self.location, self.index = code, location, index
        self.bad_index, self.bound, self.value = bad_index, bound, value
        super().__init__(
            f"{location or 'unknown line'}: check {code} failed at {index}: "
            f"index {bad_index} of {bound}, value {value}"
        )


class Input:
    """One input's specification, prepared for checking."""

    def __init__(self, spec: ArgSpec, position: int, dims: Mapping[str, int]) -> None:
        self.spec, self.position = spec, position
        self.dtype = buffers.numpy_dtype(spec.dtype)
        self.rank = len(spec.shape)
        self.codes: tuple[Code, ...] = tuple(compile_dim(d, dims) for d in spec.shape)

    def label(self) -> str:
        return f"argument {self.position} ({self.spec.name})"


@record
class _Plan:
    """What calls of the same shapes share: dims, also as words; outputs; scratch bytes."""

    dims: list[int]
    words: Any
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    arena: int


class State(Protocol):
    """What keeps an array between calls: the one item of `cell`."""

    lock: threading.Lock
    cell: list[Array]

    @property
    def value(self) -> Array:
        """The array now; nobody writes to it."""


class Executable:
    """Compiled code, ready to call: `run(*arrays)` checks, allocates, runs and returns arrays.

    `threads` fixes the thread count. Raises `ArtifactError` if the code does not load.
    """

    # what keeps arrays between calls, of the subclass with state
    reads: tuple[State, ...] = ()
    writes: tuple[State, ...] = ()
    locks: Sequence[threading.Lock] = ()

    def __init__(self, artifact: Artifact, *, threads: int | None = None) -> None:
        self.artifact = artifact
        self.threads = threads
        names = {dim.name: i for i, dim in enumerate(artifact.dims)}
        symbols = (artifact.entry, artifact.arena_entry)
        self._object = LoadedObject(artifact.object, symbols, parts=artifact.parts)
        self.code = self._object.addresses[artifact.entry]
        self.arena_code = self._object.addresses[artifact.arena_entry]
        self._entry = _ENTRY(self.code)
        self._arena = _ARENA(self.arena_code)
        try:
            self.inputs = [Input(spec, i, names) for i, spec in enumerate(artifact.inputs)]
            self.output_codes = [
                (buffers.numpy_dtype(spec.dtype), tuple(compile_dim(d, names) for d in spec.shape))
                for spec in artifact.outputs
            ]
        except DimError as error:
            raise ArtifactError(str(error)) from None
        self.constants = _placed(artifact.constants)
        self.donated = [(i, n) for i, n in enumerate(artifact.donated) if n >= 0]
        self._names = [spec.name for spec in artifact.inputs]
        long = artifact.loops or (self._work() or 0) >= _LONG_WORK
        self.poll = native.poll() if long else 0  # what looks for signals
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self._called = False
        first = CONTEXT_WORDS + _ERROR_WORDS
        slots = len(self.inputs) + len(artifact.outputs)
        self._block_words = first + slots + len(self.constants)
        self._positions = range(first, first + slots)
        self._constant_pointers = [
            (first + slots + i, buffers.address(array)) for i, array in enumerate(self.constants)
        ]

    # -- checking --------------------------------------------------------------------------
    def accepts(self, args: Sequence[Any]) -> bool:
        """Whether `run` would take these arguments."""
        try:
            self.bind(self._arrays(args))
        except (TypeError, ValueError):
            return False
        return True

    def _arrays(self, args: Sequence[Any]) -> list[Array]:
        if len(args) != len(self.inputs):
            raise TypeError(
                f"{self.artifact.name} takes {len(self.inputs)} arguments, got {len(args)}"
            )
        arrays = []
        for want, value in zip(self.inputs, args, strict=True):
            if type(value) is np.ndarray:
                array = value
            elif type(value) in _SCALAR_RANKS:
                array = _scalar(want, value)
            else:
                array = buffers.as_array(value)
            if array.dtype is not want.dtype and not array.dtype.isnative:
                array = buffers.native_order(array)
            if array.dtype is not want.dtype and array.dtype != want.dtype:
                raise TypeError(
                    f"{want.label()} is {buffers.describe(array)}, "
                    f"the code wants {buffers.spell_spec(want.spec)}"
                )
            arrays.append(array)
        return arrays

    def bind(self, arrays: Sequence[Array]) -> list[int]:
        """Values of the symbolic dims for arrays of the right dtypes; raises ValueError."""
        specs = self.artifact.dims
        values: list[int | None] = [None] * len(specs)
        later = []
        for want, array in zip(self.inputs, arrays, strict=True):
            if array.ndim != want.rank:
                raise ValueError(self._mismatch(want, array))
            for code, size in zip(want.codes, array.shape, strict=True):
                if len(code) == 1 and code[0][0] == DIM and values[code[0][1]] is None:
                    values[code[0][1]] = size
                elif len(code) > 1 or code[0][1] != size or code[0][0] == DIM:
                    later.append((want, array, code, size))
        for want, array, code, size in later:
            self._settle(want, array, code, size, values)
        for spec, value in zip(specs, values, strict=True):
            if value is None:
                raise ValueError(f"no argument gives the value of dim {spec.name}")
            if value < spec.lo or (spec.hi is not None and value > spec.hi):
                high = "" if spec.hi is None else f" and at most {spec.hi}"
                raise ValueError(f"dim {spec.name} is {value}: it must be at least {spec.lo}{high}")
        return [value for value in values if value is not None]

    def _settle(
        self, want: Input, array: Array, code: Code, size: int, values: list[int | None]
    ) -> None:
        """Check one dim against what is known, or solve it for the one dim that is not."""
        unknown = {i for op, i in code if op == DIM and values[i] is None}
        if len(unknown) == 1:
            position = unknown.pop()
            steps = tuple(
                (PUSH, values[i] or 0) if op == DIM and i != position else (op, i) for op, i in code
            )
            values[position] = solve(steps, position, size)
        if any(values[i] is None for op, i in code if op == DIM):
            raise ValueError(self._mismatch(want, array))
        if run(code, [value or 0 for value in values]) != size:
            raise ValueError(self._mismatch(want, array, values))

    def _mismatch(
        self, want: Input, array: Array, values: Sequence[int | None] | None = None
    ) -> str:
        known = [
            f"{spec.name} = {value}"
            for spec, value in zip(self.artifact.dims, values or (), strict=False)
            if value is not None
        ]
        where = f" with {', '.join(known)}" if known else ""
        return (
            f"{want.label()} is {buffers.describe(array)}, "
            f"the code wants {buffers.spell_spec(want.spec)}{where}"
        )

    # -- calling ---------------------------------------------------------------------------
    def run(self, *args: Any) -> tuple[Array, ...]:
        """Outputs for these arguments, as a tuple of new arrays and of donated arguments.

        Raises TypeError for a wrong number or dtype, ValueError for a wrong shape, `DonationError`,
        `CheckError` from a checked executable, MemoryError, and what a signal's handler raises:
        long loops look for signals.
        """
        arrays = self._arrays(args)
        workers = self.threads or num_threads()
        key = (workers, *[array.shape for array in arrays])
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(arrays, workers)
        if self.donated:
            check_donated(arrays, [n for _, n in self.donated], self._names)
        strides: list[int] = []
        for k, want in enumerate(self.inputs):
            array = arrays[k]
            if array.flags.num & _READY != _READY:
                array = arrays[k] = buffers.fit(array, want.dtype, want.spec.strided)
            if want.spec.strided:
                strides += [step // want.dtype.itemsize for step in array.strides]
        given = {i: arrays[n] for i, n in self.donated} if self.donated else {}
        outputs = tuple([
            given[i] if i in given else buffers.empty(shape, dtype)
            for i, (shape, dtype) in enumerate(plan.outputs)
        ])  # fmt: skip
        words = plan.words
        if strides:
            words = (_WORD * (len(plan.dims) + len(strides)))(*plan.dims, *strides)
        self._call(arrays, outputs, plan, words, workers)
        return outputs

    __call__ = run

    def _plan(self, arrays: Sequence[Array], workers: int) -> _Plan:
        """What all calls with arrays of these shapes on so many threads share."""
        dims = self.bind(arrays)
        words = (_WORD * max(1, len(dims)))(*dims)
        size = self.artifact.arena_bytes
        if size is None:
            size = self._arena(ctypes.addressof(words), workers)
        if size < 0:
            raise MemoryError(f"{self.artifact.name} wants {size} bytes of scratch memory")
        shapes = tuple(
            [(tuple([run(c, dims) for c in codes]), dtype) for dtype, codes in self.output_codes]
        )
        if self.artifact.dims and sum(a.nbytes for a in arrays) >= _LONG_BYTES:
            self.may_be_long()
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        return _Plan(dims, words, shapes, size)

    def _call(
        self,
        arrays: Sequence[Array],
        outputs: Sequence[Array],
        plan: _Plan,
        dims: Any,
        workers: int,
    ) -> None:
        divided = self.artifact.parallel and (self._called or workers > 1 or self.poll)
        waits = divided or self.artifact.profiled
        pool = native.pool() if waits else native.pool_at_hand()
        self._called = True
        address = buffers.address
        # one block: context, error record, pointers
        block = (_WORD * self._block_words)()
        base = ctypes.addressof(block)
        block[0] = pool.parallel_for
        block[1] = workers
        block[3] = base + 8 * CONTEXT_WORDS
        block[5] = pool.now
        block[LAYOUT["COUNTDOWN"]] = 0 if self.poll else _FOREVER
        block[LAYOUT["POLL"]] = self.poll
        scratch = None
        if plan.arena:
            scratch = buffers.empty((plan.arena + 64,), _BYTE)
            block[2] = address(scratch) + (-address(scratch) % 64)
        for position, pointer in self._constant_pointers:
            block[position] = pointer
        for position, array in zip(self._positions, (*arrays, *outputs), strict=True):
            block[position] = address(array)
        pointers = base + 8 * (CONTEXT_WORDS + _ERROR_WORDS)
        recorder = profiling.active()
        if recorder is None:
            unread = (_WORD * (2 * len(self.artifact.kernels)))()
            block[4] = ctypes.addressof(unread) if self.artifact.profiled else 0
            status = self._entry(base, pointers, ctypes.addressof(dims))
        else:
            with recorder.call(self.artifact, plan.dims) as times:
                block[4] = times if self.artifact.profiled else 0
                status = self._entry(base, pointers, ctypes.addressof(dims))
        raised = block[LAYOUT["STOPPED"] : LAYOUT["STOPPED_TRACEBACK"] + 1]
        if raised[0]:
            _raise(*raised)
        if status:
            raise self._error(status, block[CONTEXT_WORDS : CONTEXT_WORDS + _ERROR_WORDS])

    def _error(self, status: int, record: Sequence[int]) -> Exception:
        code, location, index, bad_index, bound, bits = record[:6]
        if code == 0:
            return RuntimeError(f"{self.artifact.name} failed with error code {status}")
        lines = self.artifact.locations
        value = float(np.int64(bits).view(np.float64))
        line = lines[location] if 0 <= location < len(lines) else ""
        return CheckError(code, line, index, bad_index, bound, value)

    def may_be_long(self) -> None:
        """Let calls from now on look for signals."""
        self.poll = self.poll or native.poll()

    def _work(self) -> int | None:
        """Operations and bytes of a call; None where they depend on sizes."""
        work = 0
        for kernel in self.artifact.kernels:
            if isinstance(kernel.flops, str) or isinstance(kernel.bytes, str):
                return None
            work += kernel.flops + kernel.bytes
        return work

    def is_small(self) -> bool:
        """Whether every call's work is known to be too small to release the interpreter lock."""
        work = self._work()
        few = bool(self.artifact.kernels) and not self.artifact.loops
        return few and work is not None and work < _SMALL_WORK


# raises in the caller what a signal's handler has raised in compiled code
_raise = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
    ("PyErr_Restore", ctypes.pythonapi)
)


def _bytes(constant: Constant) -> Array:
    if constant.data is None:
        raise ArtifactError(f"constant {constant.name} has no data: its source is to be applied")
    return np.frombuffer(constant.data, np.uint8)


def _placed(constants: Sequence[Constant]) -> list[Array]:
    """The constants' bytes, each from a 64-byte boundary on.

    Copies lie in one block, which NumPy puts on huge pages when it is large: a network reads all
    its weights in every call, and by small pages that is a miss of the address cache per 4 KiB.
    """
    found = [_bytes(constant) for constant in constants]
    loose = [
        i
        for i, (c, array) in enumerate(zip(constants, found, strict=True))
        if c.source is None or buffers.address(array) % _ALIGN
    ]
    block = np.empty(sum(found[i].size + _ALIGN for i in loose) + _ALIGN, np.uint8)
    at = -buffers.address(block) % _ALIGN
    for i in loose:
        place = block[at : at + found[i].size]
        place[:] = found[i]
        found[i] = place
        at += -(-place.size // _ALIGN) * _ALIGN
    return found


def _scalar(want: Input, value: complex) -> Array:
    """A Python number as a 0-d array of the wanted dtype; the kind may widen, never narrow."""
    ranks = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2, "c": 3}
    if _SCALAR_RANKS[type(value)] > ranks.get(want.dtype.kind, -1) or want.rank:
        raise TypeError(
            f"{want.label()} is a Python {type(value).__name__}, "
            f"the code wants {buffers.spell_spec(want.spec)}"
        )
    try:
        return np.array(value, dtype=want.dtype)
    except OverflowError:
        raise ValueError(f"{want.label()}: {value} does not fit in {want.spec.dtype}") from None
