"""Which pages were written to, from the kernel's own record: noticing edits without reading.

Linux 6.7 and later keep it for ranges under userfaultfd's asynchronous write protection: the first
write to a page clears a bit, with no signal and no handler, and PAGEMAP_SCAN tells whether all
bits of a range still stand, in a microsecond and one more per few thousand pages. Only private
anonymous memory counts, for only there does every write go through this process's page tables.
A lost registration, a page that moved or was swapped out read as written: the caller looks then.

Writes past the page tables are not seen: a device's, to memory pinned for it before.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
import threading
import weakref
from functools import cache
from pathlib import Path

from graphmill.runtime import knobs
from graphmill.runtime.forks import renewed
from graphmill.runtime.layout import LAYOUT

PAGE = mmap.PAGESIZE
_MAX_REGIONS = 8192  # each may split a mapping in three, of the 65530 that a process has

_SYSCALL = {"x86_64": 323, "aarch64": 282, "riscv64": 282}
_USER_MODE_ONLY = 1
_API, _WP_ASYNC = 0xAA, 1 << 15
_MODE_WP = 2
_MADV_WIPEONFORK, _MADV_POPULATE_READ = 18, 22
# kinds of pages in PAGEMAP_SCAN
_WPALLOWED, _WRITTEN, _FILE, _PRESENT = 1, 2, 4, 8
_SCAN = struct.Struct("12q")


def _request(direction: int, kind: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | kind << 8 | number


_UFFDIO_API = _request(3, _API, 0x3F, 24)
_UFFDIO_REGISTER = _request(3, _API, 0, 32)
_UFFDIO_UNREGISTER = _request(2, _API, 1, 16)
_UFFDIO_WRITEPROTECT = _request(3, _API, 6, 24)
PAGEMAP_SCAN = _request(3, ord("f"), 16, 96)

_lock = renewed(threading.Lock())
_tracker: Tracker | None = None
_refused = False


class Region:
    """Whole pages of one array, watched for writes.

    `epoch` counts how often the watch began anew: contents seen in one epoch are the contents still
    while `untouched(epoch)`.
    """

    def __init__(self, tracker: Tracker, start: int, stop: int) -> None:
        self.tracker, self.start, self.stop = tracker, start, stop
        # what the kernel is asked, and room for its answer: the first page that was written to
        # and, behind that, another question
        self._words = (ctypes.c_int64 * (LAYOUT["REGION_WORDS"] + _SCAN.size // 8))()
        self.address: int = ctypes.addressof(self._words)
        found = self.address + 8 * LAYOUT["REGION_FOUND"]
        self._words[LAYOUT["REGION_PROCESS"]] = tracker.address
        for place, kinds in (("REGION_SCAN", _WRITTEN), ("REGION_WORDS", _WRITTEN | _FILE)):
            _SCAN.pack_into(self._words, 8 * LAYOUT[place], *self._scan(kinds, found))

    def _scan(self, of: int, found: int) -> list[int]:
        """The kernel's struct that asks for a page of these kinds, or not there, or not watched."""
        kinds = of | _WPALLOWED | _PRESENT
        answer = [found, 1, 1]
        return [96, 0, self.start, self.stop, 0, *answer, _WPALLOWED | _PRESENT, 0, kinds, of]

    def untouched(self, epoch: int) -> bool:
        """Whether no page was written to since that epoch began. Never true by mistake."""
        scan = self.address + 8 * LAYOUT["REGION_SCAN"]
        # in this order: a new epoch is counted before its watch begins
        return self.tracker.scan(scan) and self._words[0] == epoch

    def begin(self, populate: bool = True) -> int | None:
        """Watch from now on: the epoch that it is, or None where that cannot be.

        While nothing was written it stays the same, for others may rely on it. Pages that are not
        there cannot be watched: `populate` makes them, for as much time as reading them takes.
        """
        with _lock:
            if self.untouched(self._words[0]):
                return self._words[0]
            self.tracker.count_overlapping(self)
            epoch = self._words[0]
            return epoch if self.tracker.protect(self.start, self.stop, populate) else None

    def count(self) -> None:
        """An epoch ends, for the watch of some of its pages begins anew."""
        self._words[0] += 1

    def private(self) -> bool:
        """Whether all pages are untouched so far and this process's own, seen by no other."""
        return self.tracker.scan(self.address + 8 * LAYOUT["REGION_WORDS"])


class Tracker:
    """The process's two descriptors: one to watch ranges by, one to ask what was written to."""

    def __init__(self) -> None:
        """Raises OSError where the system has no such thing, or refuses it."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        for name in ("ioctl", "madvise"):
            getattr(self._libc, name).argtypes = [ctypes.c_size_t] * 2 + [ctypes.c_void_p]
        self._libc.madvise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
        # by first address and last
        self._regions: dict[tuple[int, int], weakref.ref[Region]] = {}
        # a page that a forked child finds zeroed: the descriptors are about its parent's memory
        self._page = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._page.madvise(_MADV_WIPEONFORK)
        self._process = ctypes.c_int64.from_buffer(self._page)
        self.address = ctypes.addressof(self._process)
        self._watching = self._userfaultfd()
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._process.value = self._pagemap + 1

    def _userfaultfd(self) -> int:
        number = _SYSCALL[os.uname().machine]
        flags = os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY
        made = int(self._libc.syscall(number, flags))
        if made < 0:
            raise OSError(ctypes.get_errno(), "no userfaultfd")
        if not self._ioctl(made, _UFFDIO_API, _API, _WP_ASYNC, 0):
            os.close(made)
            raise OSError(ctypes.get_errno(), "no asynchronous write protection")
        return made

    def _ioctl(self, descriptor: int, request: int, *words: int) -> bool:
        block = (ctypes.c_uint64 * len(words))(*words)
        return bool(self._libc.ioctl(descriptor, request, block) == 0)

    @property
    def alive(self) -> bool:
        """Whether this is the process that made it."""
        return self._process.value != 0

    def region(self, start: int, stop: int, owner: object) -> Region | None:
        """Whole pages to watch, the same object for the same pages; `owner` keeps them mapped."""
        with _lock:
            place = start, stop
            known = self._regions.get(place)
            if known is not None and (found := known()) is not None:
                return found
            if len(self._regions) >= _MAX_REGIONS:
                return None
            made = Region(self, start, stop)
            self._regions[place] = weakref.ref(made)
            # no lock: a collection may come while this thread holds it
            end = weakref.finalize(made, self._release, start, stop, owner)
            end.atexit = False
            return made

    def count_overlapping(self, region: Region) -> None:
        """Count an epoch for all regions with pages in common: they would miss what it saw."""
        start, stop = region.start, region.stop
        # a copy, which no collection interrupts: it may drop some
        for (low, high), known in self._regions.copy().items():
            if low < stop and start < high and (other := known()) is not None:
                other.count()

    def protect(self, start: int, stop: int, populate: bool) -> bool:
        """Begin to watch these pages; False where they cannot be."""
        if not self.alive:
            return False
        if populate and self._libc.madvise(start, stop - start, _MADV_POPULATE_READ) != 0:
            return False  # a device's memory, or none
        return self._ioctl(
            self._watching, _UFFDIO_REGISTER, start, stop - start, _MODE_WP, 0
        ) and self._ioctl(self._watching, _UFFDIO_WRITEPROTECT, start, stop - start, 1)

    def scan(self, block: int) -> bool:
        """Whether the kernel finds no page of those that the block asks for."""
        return self.alive and self._libc.ioctl(self._pagemap, PAGEMAP_SCAN, block) == 0

    def _release(self, start: int, stop: int, owner: object) -> None:
        known = self._regions.get((start, stop))
        if known is not None and known() is None:  # not one that was made since
            del self._regions[start, stop]
        if self.alive:
            self._ioctl(self._watching, _UFFDIO_UNREGISTER, start, stop - start)


def region(address: int, size: int, owner: object) -> Region | None:
    """The whole pages within this memory, to be watched; None where digests must do."""
    start, stop = -(-address // PAGE) * PAGE, (address + size) // PAGE * PAGE
    tracker = _current() if start < stop else None
    return tracker.region(start, stop, owner) if tracker is not None else None


def _current() -> Tracker | None:
    """This process's tracker."""
    global _tracker, _refused
    wanted = knobs.track_writes()
    if not (_possible() if wanted is None else wanted):
        return None
    with _lock:
        if (_tracker is None or not _tracker.alive) and not _refused:
            try:
                _tracker = Tracker()
            except (OSError, KeyError, AttributeError):
                _tracker, _refused = None, True
        return _tracker


@cache
def _possible() -> bool:
    """Whether asking the system for it is safe: a filter of system calls may kill who asks."""
    if not sys.platform.startswith("linux") or os.uname().machine not in _SYSCALL:
        return False
    try:
        release = tuple(int(part) for part in os.uname().release.split(".")[:2])
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except (OSError, ValueError):
        return False
    return release >= (6, 7) and "\nSeccomp:\t0\n" in status
