"""Locks across `os.fork`: in the child only the forking thread lives on.

A lock that another thread held then would stay held for ever. Ours are made new in the child; that
of llvmlite, which guards the state of LLVM, is taken before the fork, so that nobody is inside.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import Any

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_held: list[Any] = []


def renewed(lock: threading.Lock) -> threading.Lock:
    """The same lock, free in every forked child."""
    _locks.add(lock)
    return lock


def _before() -> None:
    ffi: Any = sys.modules.get("llvmlite.binding.ffi")
    lock = getattr(getattr(ffi, "lib", None), "_lock", None)
    if lock is not None:
        lock.__enter__()
        _held.append(lock)


def _after() -> None:
    while _held:
        _held.pop().__exit__(None, None, None)


def _in_child() -> None:
    _after()
    for lock in list(_locks):
        lock._at_fork_reinit()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
