"""How many threads a kernel may use: for the process, and within a `with threads(n)` block.

The default is what the process may really use: its CPU affinity, and a cgroup's CPU quota rounded
up. A block counts for the Python thread that entered it.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from graphmill.runtime import knobs, native, profiling

if TYPE_CHECKING:
    from pathlib import Path

MAX_THREADS = 4096

_lock = threading.RLock()
_local = threading.local()
# thread id -> its open blocks' counts; several threads may have some
_scopes: dict[int, list[int]] = {}
_chosen: int | None = None


def available(root: Path | None = None) -> int:
    """CPUs that this process may use: affinity, bounded by the cgroup's quota (v2 and v1)."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    if root is None:
        from pathlib import Path

        root = Path("/")
    quota = _quota(root)
    return max(1, min(count, math.ceil(quota))) if quota else max(1, count)


def _quota(root: Path) -> float | None:
    """CPUs allowed by the tightest cgroup above this process, None without a limit."""
    limits = []
    groups = _read(root / "proc/self/cgroup").splitlines()
    base = root / "sys/fs/cgroup"
    for line in groups:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = base if not controllers else base / "cpu"
        folder = mount / path.lstrip("/")
        # inside a container the path may lie outside of what is mounted: then only the top counts
        for place in [folder, *folder.parents]:
            limits.append(_limit(place))
            if place == mount:
                break
    limits.append(_limit(base))
    known = [x for x in limits if x]
    return min(known) if known else None


def _limit(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split()
    if not words:
        words = _read(folder / "cpu.cfs_quota_us").split()
        words += _read(folder / "cpu.cfs_period_us").split()
    try:
        quota, period = int(words[0]), int(words[1])
    except (IndexError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _default() -> int:
    global _chosen
    if _chosen is None:
        _chosen = _valid(knobs.num_threads() or available())
    return _chosen


def _valid(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"a thread count is an int, not {type(count).__name__}")
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(f"a thread count lies between 1 and {MAX_THREADS}, not {count}")
    return count


def num_threads() -> int:
    """Threads that a kernel called from this thread may use."""
    stack = getattr(_local, "stack", None)
    return int(stack[-1]) if stack else _default()


def set_num_threads(count: int) -> None:
    """Set the process's thread count; workers beyond it end at once."""
    global _chosen
    count = _valid(count)
    with _lock:
        _chosen = count
        publish()
    _trim()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block, kernels called from this thread use `count` threads."""
    count = _valid(count)
    stack: list[int] = _local.__dict__.setdefault("stack", [])
    me, depth = threading.get_ident(), len(stack)
    try:
        with _lock:
            stack.append(count)
            _scopes[me] = stack
            publish()
        yield
    finally:
        del stack[depth:]  # in one step: a signal's handler may raise between two
        with _lock:
            if not stack:
                _scopes.pop(me, None)
            publish()
        _trim()


def _trim() -> None:
    pool = native.loaded_pool()
    if pool is None:
        return
    with _lock:
        most = max([_default(), *(max(stack, default=1) for stack in _scopes.values())])
    pool.set_threads(most)


def publish(path: native.CallPath | None = None) -> None:
    """Tell the native call path, which does not record: Python does each call for a profile.

    Python also decides with blocks open in several threads. The path is the one that is loaded,
    unless it is given.
    """
    path = path or native.loaded_call_path()
    if path is None:
        return
    with _lock:
        scopes = [(thread, stack) for thread, stack in _scopes.items() if stack]
        path.set_host("HOST_THREADS", _default())
        path.set_host("HOST_BYPASS", profiling.active() is not None or len(scopes) > 1)
        owner, stack = next(iter(scopes), (0, [0]))
        path.set_host("HOST_SCOPE_OWNER", 0)
        path.set_host("HOST_SCOPE_THREADS", stack[-1])
        path.set_host("HOST_SCOPE_OWNER", owner)


def _after_fork() -> None:
    # only the forking thread lives on; its lock may have been held by another
    global _lock
    _lock = threading.RLock()
    me = threading.get_ident()
    for thread in [t for t in _scopes if t != me]:
        del _scopes[thread]
    publish()


os.register_at_fork(after_in_child=_after_fork)
