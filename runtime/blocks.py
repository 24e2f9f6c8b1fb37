"""Large files by blocks with a digest of each, written by one thread and whoever helps it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.runtime import native

BLOCK = 8 << 20

# bytes that stand from a place on
Piece = tuple[int, memoryview]


class StoppedError(Exception):
    """The time for writing was up."""


class Writing:
    """Pieces and zeros between them, on their way to a file of `size` bytes.

    Where file systems keep large pages, they are those of what is written at once.
    """

    def __init__(self, size: int, pieces: Sequence[Piece]) -> None:
        self._size, self._pieces = size, pieces
        self._digests = [0] * -(-size // BLOCK)
        self._left = iter(range(len(self._digests)))  # several threads may take the next
        self._changed = threading.Condition()
        self._file: int | None = None
        self._busy = 0
        self._until = float("inf")
        self._failure: BaseException | None = None
        self._is_over = False

    def write(self, file: int) -> list[int]:
        """Fill a file; digests of its blocks. Raises OSError, `StoppedError`."""
        try:
            os.ftruncate(file, 0)
            with self._changed:
                self._file = file
                self._changed.notify_all()
            self._work(file)
        finally:
            with self._changed:
                self._changed.wait_for(lambda: not self._busy)
                self._file = None
                self.end()
        if self._failure is not None:
            raise self._failure
        return self._digests

    def end(self) -> None:
        """Nobody has to wait for it any more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def help(self, seconds: float) -> None:
        """Write with the thread that is at it; what takes longer than so long is given up."""
        self._until = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(lambda: self._file is not None or self._is_over, seconds)
            file = self._file
            self._busy += file is not None
        if file is not None:
            self._work(file, counted=True)

    def _work(self, file: int, counted: bool = False) -> None:
        """Write blocks until none is left; `counted` among the busy threads already."""
        with self._changed:
            self._busy += not counted
        try:
            block = np.empty(BLOCK, np.uint8)
            for number in self._left:
                if time.monotonic() > self._until:
                    raise StoppedError
                self._digests[number] = self._write_block(file, number * BLOCK, block)
        except BaseException as error:
            self._failure, self._until = self._failure or error, 0.0
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _write_block(self, file: int, start: int, block: np.ndarray[Any, Any]) -> int:
        part = block[: min(BLOCK, self._size - start)]
        part[:] = 0
        for at, data in self._pieces:
            low, high = max(at, start), min(at + data.nbytes, start + part.size)
            if low < high:
                part[low - start : high - start] = np.frombuffer(data, np.uint8)[
                    low - at : high - at
                ]
        done = 0
        while done < part.size:
            done += os.pwrite(file, part[done:].data, start + done)
        return digest(part)


def digest(part: np.ndarray[Any, Any]) -> int:
    """A digest of a block."""
    fast = native.digest()
    if fast is not None:
        return fast(address(part), part.size)
    import hashlib

    return int.from_bytes(hashlib.blake2b(part.data, digest_size=8).digest(), "little")


def address(array: np.ndarray[Any, Any]) -> int:
    """Where an array's memory begins."""
    return int(array.__array_interface__["data"][0])
