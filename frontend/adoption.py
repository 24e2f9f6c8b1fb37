"""NumPy's creation functions inside a traced function: `np.zeros(3)`, `np.zeros(x.shape[0])`.

They take no traced argument, so NumPy's protocols do not see the call, and the array they make
lives on the host: no traced value can be written into it, and it cannot have a symbolic size. A
function that fails for such a reason is traced once more with these functions adopted: called from
user code of that trace (no other thread, library or function) they make traced arrays, whose
elements Python code may still ask for (`known.py`).
"""

from __future__ import annotations

import functools
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
from graphmill.ir.dtypes import DTypeError, dtype

NAMES = (
    "zeros", "ones", "empty", "full", "eye", "identity", "tri", "arange", "linspace", "array",
    "asarray", "asanyarray", "ascontiguousarray", "copy", "r_", "c_",
)  # fmt: skip
_lock = threading.Lock()
_active = 0
_adopted: dict[str, Any] = {}
_originals: dict[str, Any] = {}


@contextmanager
def adopted() -> Iterator[None]:
    """Let `np.zeros` and the like be ours inside; other traces and threads get NumPy's."""
    global _active
    array_functions.table()  # made of NumPy's own functions, so before they are replaced
    with _lock:
        _active += 1
        if _active == 1:
            for name in NAMES:
                _originals[name] = getattr(np, name)
                _adopted[name] = _adopt(_originals[name], name)
                setattr(np, name, _adopted[name])
    try:
        yield
    finally:
        with _lock:
            _active -= 1
            for name in NAMES if _active == 0 else ():
                if getattr(np, name) is _adopted[name]:  # nobody has replaced ours meanwhile
                    setattr(np, name, _originals[name])


def _adopt(original: Any, name: str) -> Any:
    if name in ("r_", "c_"):
        return Concatenator(name, original)

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


def _traced(original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    if original is _originals["array"]:
        kwargs = {"copy": True, **kwargs}
    return array_functions.call(original, args, kwargs)
