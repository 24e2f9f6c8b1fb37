"""Whether a trace has drawn from NumPy's random numbers: such a trace is not like the next one.

Code that only could draw, as a model does that makes its weights in `__init__`, traces alike in
every process. Which of the two it is, is seen while the first process traces.
"""

from __future__ import annotations

import importlib
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphmill.runtime.forks import renewed

_lock = renewed(threading.Lock())
_uses = [0]
_watching: set[object] = set()  # a mark for each block


class _Counted(types.ModuleType):
    """NumPy's module `random`, for whoever takes it from `numpy`; counts all that is done to it."""

    def __getattribute__(self, name: str) -> Any:
        _uses[0] += 1
        return getattr(_random(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        _uses[0] += 1
        setattr(_random(), name, value)

    def __delattr__(self, name: str) -> None:
        _uses[0] += 1
        delattr(_random(), name)


def _random() -> types.ModuleType:
    """The module itself: an import statement would take what stands in its place."""
    return importlib.import_module("numpy.random")


_counted = _Counted("random")


@contextmanager
def watched(wanted: bool) -> Iterator[Callable[[], bool]]:
    """Tells, if that is wanted, whether anybody has used `numpy.random` within the block.

    Other threads find the same functions there; what they draw counts, too.
    """
    if not wanted:
        yield lambda: False
        return
    real, space, before, mark = _random(), vars(np), _uses[0], object()
    try:
        with _lock:
            _watching.add(mark)
            if space["random"] is real:
                space["random"] = _counted
        yield lambda: _uses[0] != before
    finally:
        _watching.discard(mark)
        with _lock:
            if not _watching and space["random"] is _counted:
                space["random"] = real
