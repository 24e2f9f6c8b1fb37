"""From which size on results are better stored past the caches, measured once on each machine.

The copy is also read at once: what that loses by finding it in memory only counts, too.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np

from graphmill.codegen.cpu import probe
from graphmill.codegen.cpu.target import Target
from graphmill.runtime.loader import LoadedObject

LARGEST = 1 << 26  # bytes of a copy that are tried
TURNS = 3  # of each, one after the other


def bypass_bytes(target: Target) -> int:
    """The least bytes at which copying past the caches pays here, 0 if it does not."""
    names = (probe.PLAIN, probe.BYPASS)
    code = LoadedObject(probe.object_code(target), names)
    word = ctypes.c_int64
    plain, bypass = (
        ctypes.CFUNCTYPE(ctypes.c_float, word, word, word)(code.addresses[n]) for n in names
    )
    to, given = _aligned(LARGEST), _aligned(LARGEST)
    size = 2 << max(target.l2 - 1, probe.STEP).bit_length()
    while size <= LARGEST:
        given[:size] = 0
        addresses = to.ctypes.data, given.ctypes.data
        plain(*addresses, size)  # its pages are there from now on
        times = [[_seconds(f, *addresses, size) for f in (plain, bypass)] for _ in range(TURNS)]
        best = [min(turn[i] for turn in times) for i in (0, 1)]
        if best[1] < best[0]:
            return size
        size *= 2
    return 0


def _aligned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def _seconds(function: Any, *args: int) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start
