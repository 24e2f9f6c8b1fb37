"""Dispatch: from a call's arguments to the executable of their signature.

The first call of a signature compiles it, once, however many threads make that call at the same
time; other signatures compile meanwhile. Later calls with plain arrays never enter Python code:
they run in the native call path (`fastcall.py`). `Dispatcher` is made to be subclassed by the face.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.records import record
from graphmill.runtime import buffers, native, profiling
from graphmill.runtime.buffers import Array
from graphmill.runtime.executable import Executable
from graphmill.runtime.forks import renewed
from graphmill.runtime.guards import Watch

if TYPE_CHECKING:
    from graphmill.runtime.fastcall import FastFunction
    from graphmill.runtime.forms import Call

# entries of the dictionary from concrete signatures to executables; with symbolic dims there are
# as many signatures as sizes, so it is emptied when full
_MAX_KEYS = 4096

Compile = Callable[[tuple[Any, ...]], Executable]


def pattern(args: Sequence[Any]) -> tuple[Any, ...]:
    """Dtypes and ranks, types of numbers: what symbolic dims do not change."""
    # a dtype's number stands for it: hashing the dtype itself takes a microsecond
    return tuple([(x.dtype.num, x.ndim) if type(x) is np.ndarray else type(x) for x in args])


class Dispatcher:
    """A callable that compiles per signature: `compile(args) -> Executable` makes an executable.

    Subclasses override `general(*args, **kwargs)`, the Python path of a call: it flattens its
    arguments to a list of arrays and numbers, has `call_flat` run them and builds its result. Calls
    whose form it describes take the native path from then on.
    """

    # an instance's own `__call__`: the type's slot finds the builtin there, with no Python frame
    __slots__ = (
        "__call__", "__dict__", "__weakref__", "_building", "_called", "_compile", "_executables",
        "_fast", "_lock", "_make_watch", "_settled", "_table", "_watch",
    )  # fmt: skip
    __call__: Callable[..., Any]

    def __init__(self, compile: Compile, *, watch: Callable[[], Watch] | None = None) -> None:
        """`watch()` tells what else the executables depend on; when it changes, all are dropped."""
        self._compile = compile
        self._make_watch = watch
        self._watch: Watch | None = None
        self._lock = renewed(threading.Lock())
        self._building: dict[Hashable, _Build] = {}
        self.forget()

    def forget(self) -> None:
        """Drop every executable: the next call compiles again."""
        with self._lock:
            self._watch = None
            self._table: dict[Hashable, Executable] = {}
            self._executables: list[_Made] = []
            self._fast: FastFunction | None = None
            # executables called once, and what calls have been offered to the native path
            self._called: set[Executable] = set()
            self._settled: set[Hashable] = set()
            self.__call__ = self.general

    @property
    def executables(self) -> tuple[Executable, ...]:
        """All executables compiled so far, the oldest first."""
        return tuple([made.executable for made in self._executables])

    def signature(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """What an executable depends on in its arguments: dtypes and shapes, types of numbers."""
        return tuple([(x.dtype.num, x.shape) if type(x) is np.ndarray else type(x) for x in args])

    def group(self, args: tuple[Any, ...]) -> Hashable:
        """Signatures that one compilation serves; a subclass leaves symbolic sizes out of it."""
        return self.signature(args)

    # -- calling ---------------------------------------------------------------------------
    def general(self, *args: Any) -> Any:
        """The Python path: positional arrays and numbers in, one array or a tuple out."""

        def describe(executable: Executable) -> Call:
            from graphmill.runtime.forms import Call, Form, flat, leaves

            return Call(Form(leaves(len(args))), flat(len(executable.artifact.outputs)))

        outputs = self.call_flat(args, way=len(args), describe=describe)
        return outputs[0] if len(outputs) == 1 else outputs

    def call_flat(
        self,
        args: Sequence[Any],
        *,
        key: Hashable = None,
        way: Hashable = None,
        describe: Callable[[Executable], Call | None] | None = None,
    ) -> tuple[Array, ...]:
        """Run flat arguments, compiling if their signature is new.

        `key` stands for all else that the executable depends on (tree, static values, options),
        `way` for how the arguments were passed; `describe(executable)` gives the form of such calls
        and of their result, None where only Python can serve them.
        """
        self._check_watch(self._fast)
        values = tuple([x if type(x) in _PLAIN else buffers.as_array(x) for x in args])
        for x in values:
            if type(x) is np.ndarray and not x.dtype.isnative:
                values = tuple([buffers.native_order(x) for x in values])
        executable = self._find(values, key)
        outputs = executable.run(*values)
        if describe is not None and profiling.active() is None:
            such = (executable, way, *map(type, args))
            if such not in self._settled:
                self._add_fast(executable, args, such, describe)
        return outputs

    def lookup(self, args: tuple[Any, ...], key: Hashable = None) -> Executable:
        """The executable for flat arguments (arrays and numbers), compiled if there is none."""
        self._check_watch(None)
        return self._find(args, key)

    def _find(self, args: tuple[Any, ...], key: Hashable) -> Executable:
        # profiled executables are others than the plain ones
        options = (key, profiling.active() is not None)
        full = (options, self.signature(args))
        found = self._table.get(full)
        if found is not None:
            return found
        group = (options, self.group(args))
        mine, build = _Build(), None
        try:  # its end is single steps: a signal's handler may raise between any two
            with self._lock:
                found = self._table.get(full) or self._accepting(args, options)
                if found is not None:
                    self._remember(full, found)
                    return found
                build = self._building.get(group)
                if build is None or not build.is_under_way():
                    build = self._building[group] = mine
            if build is mine:
                return self._build(full, args, options)
        finally:
            try:
                if build is mine:
                    self._building.pop(group, None)
            finally:
                mine.over.release()
        build.wait()
        return self._find(args, key)

    def _build(
        self,
        full: Hashable,
        args: tuple[Any, ...],
        options: Hashable,
    ) -> Executable:
        executable = self._compile(args)
        if self._watch is not None:
            # what tracing itself has changed, such as a count of traces, is no edit
            self._watch.look()
        with self._lock:
            self._executables.append(_Made(options, pattern(args), executable))
            self._remember(full, executable)
        return executable

    def _check_watch(self, came_by: FastFunction | None) -> None:
        """Drop all executables if what they were made from has changed.

        A call that came by a native function has had its guards checked there.
        """
        if self._make_watch is None or (came_by is not None and not came_by.guard_failed):
            return
        if self._watch is not None and not self._watch.valid():
            self.forget()
        if self._watch is None:
            self._watch = self._make_watch()
            return
        # a dict may have moved: tell the native function the new places
        if self._fast is not None and self._fast.guard_failed:
            self._fast.guard(self._watch)

    def covers(self, array: Array) -> bool:
        """Whether a write to this array's memory drops the executables."""
        return self._watch is not None and self._watch.covers(array)

    def undisturbed(self) -> bool:
        """Whether no watched array has been written to since the executables were dropped last."""
        return self._watch is None or self._watch.arrays_valid()

    def watch_arrays(self, arrays: Sequence[Array]) -> None:
        """Compile again, too, when one of these arrays is written to; for `compile` to call."""
        if self._watch is not None:
            self._watch.add_arrays(arrays)

    def digest_of(self, array: Array) -> int | None:
        """The native digest of a watched array's memory, if it was taken."""
        return None if self._watch is None else self._watch.digest_of(array)

    def watch_values(self, values: Iterable[Any]) -> None:
        """Compile again, too, when what one of these values holds changes; as `watch_arrays`."""
        if self._watch is not None:
            self._watch.add_values(values)

    def _accepting(self, args: tuple[Any, ...], options: Hashable) -> Executable | None:
        """An executable with symbolic dims that takes these sizes."""
        kinds = pattern(args)
        for made in reversed(self._executables):
            symbolic = made.options == options and made.executable.artifact.dims
            if symbolic and made.pattern == kinds and made.executable.accepts(args):
                return made.executable
        return None

    def _remember(self, full: Hashable, executable: Executable) -> None:
        if len(self._table) >= _MAX_KEYS:
            self._table.clear()
        self._table[full] = executable

    def _add_fast(
        self,
        executable: Executable,
        args: Sequence[Any],
        such: Hashable,
        describe: Callable[[Executable], Call | None],
    ) -> None:
        """Let calls like this one take the native path."""
        if executable not in self._called and native.loaded_call_path() is None:
            # the first call ever shall not wait for the call path's own compilation
            self._called.add(executable)
            return
        if len(self._settled) >= _MAX_KEYS:
            self._settled.clear()
        path, call = native.call_path(), describe(executable)
        if path is not None and call is not None:
            from graphmill.runtime.fastcall import FastFunction

            with self._lock:
                function = self._fast or FastFunction(path, self.general)
                function.guard_with(self._watch)  # before it serves what is watched since
                if function.add(executable, args, call):
                    self._fast = function
                    self.__call__ = function.function
        self._settled.add(such)


_PLAIN = frozenset((np.ndarray, bool, int, float, complex))


@record
class _Made:
    options: Hashable
    pattern: Hashable
    executable: Executable


class _Build:
    """One compilation under way, for the threads that wait for it."""

    def __init__(self) -> None:
        self.over = threading.Lock()  # held until then
        self.over.acquire()
        self.thread, self.process = threading.get_ident(), os.getpid()

    def is_under_way(self) -> bool:
        """Whether somebody is at it, in this process."""
        return self.process == os.getpid() and self.over.locked()

    def wait(self) -> None:
        """Return when the compilation is over, whether it has failed or not."""
        if self.thread == threading.get_ident():
            raise RecursionError("a function's compilation needs that function compiled already")
        with self.over:
            return
