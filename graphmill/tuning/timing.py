"""Which of two compiled kernels is quicker, on a machine where other programs run, too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphmill.ir.dtypes import dtype

Call = Callable[[], Any]

TURNS = 7  # of each, one after the other
TURN_SECONDS = 0.004
GAIN = 0.97  # of the other's time: what is less of a gain may be noise
HOPELESS = 1.25  # times the other's in its first turn: no need to look again


@dataclass(frozen=True, slots=True)
class Duel:
    """Seconds of the two in each of their turns."""

    one: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The time of one as a share of the other's in the same turn: the median."""
        return statistics.median(a / b for a, b in zip(self.one, self.other, strict=True))

    @property
    def is_gain(self) -> bool:
        """Whether one is quicker beyond noise: on the whole, at best, and in nearly all turns."""
        wins = sum(a < b for a, b in zip(self.one, self.other, strict=True))
        at_best = min(self.one) < GAIN * min(self.other)
        return self.ratio < GAIN and at_best and wins >= len(self.one) - 1 >= 1


def duel(one: Call, other: Call) -> Duel:
    """Let two take turns, first now one, now the other."""
    times: tuple[list[float], list[float]] = [], []
    for turn in range(TURNS):
        for call, kept in ((one, times[0]), (other, times[1]))[:: -1 if turn % 2 else 1]:
            kept.append(quickest(call))
        if turn == 0 and times[0][0] > HOPELESS * times[1][0]:
            break
    return Duel(tuple(times[0]), tuple(times[1]))


def quickest(call: Call) -> float:
    """Seconds of the quickest run of one turn."""
    best, end = float("inf"), time.perf_counter() + TURN_SECONDS
    while True:
        start = time.perf_counter()
        call()
        stop = time.perf_counter()
        best = min(best, stop - start)
        if stop >= end:
            return best


def agree(got: Sequence[Any], wanted: Sequence[Any], terms: int) -> bool:
    """Whether results differ by no more than the order of `terms` sums explains."""
    for a, b in zip(got, wanted, strict=True):
        if a.dtype.kind in "biu":
            if not np.array_equal(a, b):
                return False
            continue
        kind = dtype(a.dtype)
        wide = np.complex128 if kind.is_complex else np.float64
        x, y = a.astype(wide), b.astype(wide)
        unit = 2.0 ** -{16: 7, 32: 23, 64: 52}[kind.bits // (2 if kind.is_complex else 1)]
        scale = float(np.max(np.abs(y), initial=0.0, where=np.isfinite(y)))
        if not np.allclose(x, y, rtol=0, atol=4 * terms**0.5 * unit * scale, equal_nan=True):
            return False
    return True
