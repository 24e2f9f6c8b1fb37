"""Functions without a traced argument inside a traced function: `np.zeros(3)`, `len(x)`.

They take no traced argument, so NumPy's protocols do not see the call, and the array they make
lives on the host: no traced value can be written into it, and it cannot have a symbolic size. A
function that fails for such a reason is traced once more with these functions adopted: called from
user code of that trace (no other thread, library or function) they make traced arrays, whose
elements Python code may still ask for (`known.py`). So does `len(x)` give a symbolic size.
"""

from __future__ import annotations

import builtins
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphmill.frontend import array_functions, locations
from graphmill.frontend.concatenators import Concatenator
from graphmill.frontend.core import constant, holds_traced
from graphmill.frontend.state import adopting
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dtypes import DTypeError, dtype

NAMES = (
    "zeros", "ones", "empty", "full", "eye", "identity", "tri", "arange", "linspace", "array",
    "asarray", "asanyarray", "ascontiguousarray", "copy", "r_", "c_",
)  # fmt: skip
# where each is looked up when user code calls it
PLACES: tuple[tuple[Any, str], ...] = (*((np, name) for name in NAMES), (builtins, "len"))
_lock = threading.Lock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
_active: set[object] = set()  # a mark for each trace that has them
_adopted: dict[str, Any] = {}
_originals: dict[str, Any] = {}


@contextmanager
def adopted() -> Iterator[None]:
    """Let `np.zeros` and the like be ours inside; other traces and threads get NumPy's."""
    array_functions.table()  # made of NumPy's own functions, so before they are replaced
    mark = object()
    try:
        with _lock:
            if not _active:
                _restore()  # what was left where a signal's handler has raised in it
                for home, name in PLACES:
                    _originals[name] = getattr(home, name)
                    _adopted[name] = _adopt(_originals[name], name)
                    setattr(home, name, _adopted[name])
            _active.add(mark)
        yield
    finally:
        _active.discard(mark)
        with _lock:
            if not _active:
                _restore()


def _restore() -> None:
    for home, name in PLACES:
        ours = _adopted.get(name)
        if ours is not None and getattr(home, name) is ours:  # nobody has replaced it meanwhile
            setattr(home, name, _originals[name])


def _adopt(original: Any, name: str) -> Any:
    if name in ("r_", "c_"):
        return Concatenator(name, original)
    if name == "len":
        return _length(original)

    @functools.wraps(original)
    def create(*args: Any, **kwargs: Any) -> Any:
        if not adopting() or "like" in kwargs or not locations.calls(sys._getframe(1), name):
            return original(*args, **kwargs)
        if holds_traced((args, kwargs)):
            return _traced(original, args, kwargs)
        made = original(*args, **kwargs)
        try:
            dtype(made.dtype)
        except DTypeError:
            return made  # text or objects: no part of a graph
        return constant(made)

    return create


def _length(original: Callable[[Any], int]) -> Callable[[Any], Any]:
    @functools.wraps(original)
    def length(x: Any, /) -> Any:
        """A symbolic size where Python's own `len` could only fail."""
        if type(x) is Tracer and adopting() and x.dims and not isinstance(x.dims[0], int):
            return x.shape[0]
        return original(x)

    return length


def _traced(original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if original is _originals["array"]:
        kwargs = {"copy": True, **kwargs}
    return array_functions.call(original, args, kwargs)
