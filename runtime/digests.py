"""Digests of many pieces of memory, which threads take from a list without Python in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphmill.runtime.native import Digest

Task = Callable[[], object]
Piece = tuple[int, int]

# arrays from this size on are watched by their pages, and digested natively where that cannot be
MANY_BYTES = 1 << 16
_PER_THREAD = 16 << 20  # bytes that another thread is worth its start for
_HEAD, _ROW = 2, 3


def of_elements(array: np.ndarray[Any, Any]) -> bytes:
    """A digest of an array's elements in their order, whatever its layout; for small ones."""
    import hashlib

    plain = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    return hashlib.blake2b(plain.reshape(-1).view(np.uint8).data, digest_size=16).digest()


class Batch:
    """Digests of pieces of memory (address, bytes); the largest ones are to come first."""

    def __init__(self, digest: Digest, pieces: Sequence[Piece]) -> None:
        self._digest, self._bytes = digest, sum(size for _, size in pieces)
        self._words = np.zeros(_HEAD + _ROW * len(pieces), np.int64)
        self._words[1] = len(pieces)
        self._rows = self._words[_HEAD:].reshape(-1, _ROW)
        if pieces:
            self._rows[:, :2] = pieces

    def tasks(self) -> list[Task]:
        """What to do, each on any thread: with all of them done there is a digest of each piece."""
        count = min(len(self._rows), 1 + self._bytes // _PER_THREAD)
        return [self._run] * count

    def _run(self) -> None:
        self._digest.many(self._words.__array_interface__["data"][0])

    def found(self) -> list[int]:
        """The digests, in the order of the pieces."""
        return [int(number) for number in self._rows[:, 2]]
