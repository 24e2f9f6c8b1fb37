"""The contents of arrays that must stay as they are: noticing a write, wherever it comes from.

A frozen array is watched by its flag. Others are compared by a digest of their bytes; of large
ones only the ends are, and the kernel tells whether the whole pages between were written to
(`pages.py`), as far as it can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from graphmill.runtime import pages
from graphmill.runtime.cpython import HEAD, Pair, word
from graphmill.runtime.digests import MANY_BYTES, Batch, Task, of_elements

if TYPE_CHECKING:
    from graphmill.runtime.native import Digest

# so many times in a row, each within so many seconds, pages may read as written to while the bytes
# stay: then digests cost less
_PATIENCE, _QUIET = 16, 1.0
_FLAGS = HEAD + 48
# word positions behind the head of NumPy's arrays
_DATA, _NDIM, _SIZES, _STEPS, _DTYPE = 0, 1, 2, 3, 5

Array = np.ndarray[Any, Any]
Block = tuple[int, int, int]
AtOnce = Callable[[Iterable[Task]], None]


class Form:
    """What an array's memory is taken for, which assignments to its attributes change in place."""

    def __init__(self, array: Array) -> None:
        self.array, self._form = array, _form(array)

    def valid(self) -> bool:
        return _form(self.array) == self._form

    def words(self) -> list[Pair] | None:
        if not self.valid():
            return None
        base = id(self.array) + HEAD
        head = [(base + 8 * k, word(base + 8 * k)) for k in (_DATA, _NDIM, _SIZES, _STEPS, _DTYPE)]
        sizes, steps = (word(base + 8 * k) for k in (_SIZES, _STEPS))
        axes = [at + 8 * k for at in (sizes, steps) for k in range(self.array.ndim)]
        return head + [(at, word(at)) for at in axes]


def _form(array: Array) -> tuple[object, ...]:
    return array.dtype, array.shape, array.strides, array.__array_interface__["data"][0]


class Frozen(NamedTuple):
    """An array that is not writeable, and those whose memory it views, none of them writeable."""

    arrays: tuple[Array, ...]

    def valid(self) -> bool:
        return not any(array.flags.writeable for array in self.arrays)

    def words(self) -> list[Pair] | None:
        if not self.valid():
            return None
        # the word that holds NumPy's flags
        places = [id(array) + _FLAGS for array in self.arrays]
        return [(place, word(place)) for place in places]


def frozen(array: Array) -> Frozen | None:
    """What to watch of an array that nobody can write to as it is; None if somebody can."""
    chain = []
    base: Any = array
    while isinstance(base, np.ndarray) and not base.flags.writeable:
        chain.append(base)
        base = base.base
    return Frozen(tuple(chain)) if base is None or type(base) is bytes else None


class Memory(NamedTuple):
    """Memory that must stay as it is.

    Blocks as (address, bytes, digest of the bytes), watched pages as (address of their record,
    epoch in which they must be unwritten).
    """

    blocks: list[Block]
    regions: list[Pair]


class _Seen(NamedTuple):
    """When the pages' watch began, before the bytes were read; the bytes around the pages."""

    epoch: int
    ends: tuple[Block, ...]


class Bytes:
    """Memory that an array covers, and a digest of it: the native one where that is given."""

    def __init__(self, array: Array, digest: Digest | None, later: bool = False) -> None:
        """With `later` somebody else reads the bytes from now on, and calls `finish`."""
        self.owner, self.array = array, np.asarray(array)  # a subclass reshapes in its own way
        self.low, high = np.lib.array_utils.byte_bounds(array)
        self.size = high - self.low if array.size else 0
        self.native = digest
        watched = digest is not None and self.size >= MANY_BYTES
        # stays for good: the native path may be looking at it
        self.pages = pages.region(self.low, self.size, array) if watched else None
        self._watched = self.pages is not None
        self._false_alarms, self._last_alarm = 0, 0.0
        self.digest: int | bytes = 0
        self._seen = self._begin(populate=False) if later else None
        if not later:
            self.digest, self._seen = self._look()

    def finish(self, digest: int) -> None:
        """Take over the digest of all bytes, read by now."""
        if self._watched and (self._seen is None or not self._is_private()):
            self.digest, self._seen = self._look()
        else:
            self.digest = digest

    @staticmethod
    def known(array: Array, digest: Digest | None) -> Bytes | None:
        """What another watch has of that memory, if nobody has written since."""
        known = _watched.get(np.lib.array_utils.byte_bounds(array))
        if known is None or known.native is not digest or not known.unwritten():
            return None
        return known

    @staticmethod
    def of_all(arrays: Sequence[Array], digest: Digest, at_once: AtOnce) -> list[Bytes]:
        """One for each of these arrays, which `at_once` reads on several threads.

        Their watch begins here, while others read already. The largest are to come first.
        """
        found: list[Bytes] = []
        read: list[tuple[list[Bytes], Batch]] = []

        def begin(some: Sequence[Array]) -> list[Task]:
            new = []
            for array in some:
                one = Bytes.known(array, digest)
                if one is None:
                    one = Bytes(array, digest, later=True)
                    new.append(one)
                found.append(one)
            read.append((new, Batch(digest, [(one.low, one.size) for one in new])))
            return read[-1][1].tasks()

        def tasks() -> Iterator[Task]:
            yield from begin(arrays[:1])
            yield from begin(arrays[1:])

        at_once(tasks())
        for new, batch in read:
            for one, number in zip(new, batch.found(), strict=True):
                one.finish(number)
                if one.pages is not None:
                    _watched[one.low, one.low + one.size] = one
        return found

    def valid(self) -> bool:
        """Whether the bytes are what they were when this was made."""
        if self.unwritten():
            return True
        digest, seen = self._look()
        if digest != self.digest:
            return False
        # only now: another thread may be asking
        self._seen = seen
        self._count_alarm()
        return True

    def memory(self, digest: Digest) -> Memory | None:
        """What the native path looks at; None if the contents have changed already."""
        seen = self._seen
        if seen is not None and self.pages is not None:
            return Memory(list(seen.ends), [(self.pages.address, seen.epoch)])
        if isinstance(self.digest, int):  # what the native path compares with is from back then
            return Memory([(self.low, self.size, self.digest)], [])
        if not self.valid():
            return None
        return Memory([(self.low, self.size, digest(self.low, self.size))], [])

    def unwritten(self) -> bool:
        """Whether nobody can have written; False where only the digest tells."""
        seen, native = self._seen, self.native
        if seen is None or self.pages is None or native is None:
            return False
        return self.pages.untouched(seen.epoch) and all(native(a, n) == d for a, n, d in seen.ends)

    def _look(self) -> tuple[int | bytes, _Seen | None]:
        """The digest now, and what later writes are noticed by, which began to watch before it."""
        # nearly always all pages are there
        for populate in (False, True) if self._watched else ():
            seen = self._begin(populate)
            if seen is None:
                break
            digest = self._digest()
            if self._is_private():
                return digest, seen
        self._watched = False  # memory that others write to, too
        return self._digest(), None

    def _begin(self, populate: bool) -> _Seen | None:
        """Watch the pages from now on, if there are any and that can be."""
        if not self._watched or self.pages is None:
            return None
        epoch = self.pages.begin(populate)
        return None if epoch is None else _Seen(epoch, self._ends(self.pages))

    def _is_private(self) -> bool:
        """Whether all pages are untouched so far and nobody else's."""
        return self.pages is not None and self.pages.private()

    def _count_alarm(self) -> None:
        """Leave the pages alone where they read as written to all the time."""
        now = time.monotonic()
        self._false_alarms = self._false_alarms + 1 if now - self._last_alarm < _QUIET else 0
        self._last_alarm = now
        if self._false_alarms >= _PATIENCE:
            self._seen, self._watched = None, False

    def _ends(self, middle: pages.Region) -> tuple[Block, ...]:
        """The bytes before and behind the pages."""
        assert self.native is not None
        pieces = ((self.low, middle.start), (middle.stop, self.low + self.size))
        return tuple([(a, b - a, self.native(a, b - a)) for a, b in pieces if b > a])

    def _digest(self) -> int | bytes:
        if self.native is not None:
            return self.native(self.low, self.size)
        return of_elements(self.array)


# by first address and last; whoever is in it keeps the memory
_watched: WeakValueDictionary[tuple[int, int], Bytes] = WeakValueDictionary()
