"""Packed weights on disk: files that processes map instead of packing again, and share.

A file holds constants as kernels read them, under a key of their contents and form. It lies beside
a small entry of a `Cache` with digests of its blocks, which is written last and tells when it was
used. A reader compares the digests, but for a file that has been compared since the machine
started and has been in memory since, and that nobody has written to as its inode tells. A file that
is not in memory is left alone, and fetched for the next process: packing is quicker than a slow
disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from graphmill.runtime import cache as disk
from graphmill.runtime import knobs
from graphmill.runtime.blocks import BLOCK, StoppedError, Writing, address, digest
from graphmill.runtime.cache import Cache, CacheWarning

_SUFFIX = ".gmw"
_ENTRY_LIMIT = 1 << 62  # of entries there are as many as files
# a file takes at most this part of what is free on its disk
_SHARE_OF_FREE = 8
# a file of which less is in memory is fetched, not waited for
_RESIDENT = 0.9
_SAMPLES = 128
_POPULATE_READ = 22

Tasks = Sequence[Callable[[], object]]


class Shelf:
    """A folder of packed weights by key that holds at most `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._entries = Cache(folder, _ENTRY_LIMIT)

    def find(self, key: str, size: int, at_once: Callable[[Tasks], None]) -> memoryview | None:
        """The bytes kept under a key, mapped; None if there are none in memory, or damaged ones.

        `at_once` does several tasks, each of which leaves the interpreter lock alone.
        """
        text = self._entries.get(key, counted=False)
        if text is None:
            return None
        try:
            known = json.loads(text)
            blocks, compared = known["blocks"], known["seen"]
            with open(self._path(key), "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    self._drop(key)
                    return None
                seen = _identity(file.fileno())
                mapped = mmap.mmap(file.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        found = memoryview(mapped)
        if _resident(found) < _RESIDENT:
            self._note(key, blocks, None)  # what comes from the disk anew is to be compared
            threading.Thread(target=_fetch, args=(found,), daemon=True).start()
            return None
        if seen is None or compared != seen:
            if blocks != _digests(found, at_once):
                self._drop(key)
                return None
            self._note(key, blocks, seen)
        return found

    def keep(self, key: str, size: int, writing: Writing) -> bool:
        """Write bytes under a key and say so, unless the disk is short or somebody is at it."""
        try:
            return self._keep(key, size, writing)
        finally:
            writing.end()

    def _keep(self, key: str, size: int, writing: Writing) -> bool:
        if size > self.limit or not self._entries.ready(create=True) or not self._writable():
            return False
        path = self._path(key)
        unfinished = path.with_name(f".{path.name}.tmp")
        try:
            if path.exists() and self._entries.path(key).exists():
                return False
            if size > _free(self.folder) // _SHARE_OF_FREE:
                return False
            self._make_room(size)
            with open(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o600), "r+b", 0) as file:
                number = file.fileno()
                if not _locked(number, unfinished):
                    return False
                try:
                    blocks = writing.write(number)
                    os.fchmod(number, 0o400)
                    os.replace(unfinished, path)
                except BaseException:
                    unfinished.unlink(missing_ok=True)
                    raise
                self._note(key, blocks, _identity(number))
        except (FileNotFoundError, StoppedError):  # somebody has deleted the folder; no time
            return False
        except OSError as error:
            warnings.warn(f"packed weights not written: {error}", CacheWarning, stacklevel=2)
            return False
        return True

    def info(self) -> tuple[int, int]:
        """Number of files and their bytes."""
        sizes = [path.stat().st_size for path in self._files()]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Remove every file; returns how many there were."""
        files = self._files()
        self._entries.clear()
        for path in files:
            path.unlink(missing_ok=True)
        return len(files)

    def _path(self, key: str) -> Path:
        return self.folder / (key + _SUFFIX)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"[!.]*{_SUFFIX}"))

    def _note(self, key: str, blocks: Sequence[int], seen: Sequence[object] | None) -> None:
        if self._writable():
            self._entries.put(key, json.dumps({"blocks": blocks, "seen": seen}).encode())

    def _writable(self) -> bool:
        effective = os.access in os.supports_effective_ids
        return os.access(self.folder, os.W_OK, effective_ids=effective)

    def _drop(self, key: str) -> None:
        path = self._path(key)
        self._remove(path)
        warnings.warn(
            f"packed weights {path} are damaged; they are dropped", CacheWarning, stacklevel=3
        )

    def _remove(self, path: Path) -> None:
        for each in (self._entries.path(path.stem), path):
            with contextlib.suppress(OSError):
                each.unlink()

    def _make_room(self, size: int) -> None:
        """Remove the files unused for longest until there is room for so many bytes."""
        used = []
        for path in self._files():
            with contextlib.suppress(OSError):
                bytes, entry = path.stat().st_size, self._entries.path(path.stem)
                used.append((entry.stat().st_mtime if entry.exists() else 0.0, path, bytes))
        total = sum(bytes for _, _, bytes in used)
        for _, path, bytes in sorted(used):
            if total + size <= self.limit:
                return
            self._remove(path)
            total -= bytes


def _locked(file: int, path: Path) -> bool:
    """Whether this process alone writes to the file, which has its name still."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _digests(found: memoryview, at_once: Callable[[Tasks], None]) -> list[int]:
    whole = np.frombuffer(found, np.uint8)
    parts = [whole[start : start + BLOCK] for start in range(0, whole.size, BLOCK)]
    digests = [0] * len(parts)

    def look_at(number: int) -> None:
        digests[number] = digest(parts[number])

    at_once([partial(look_at, number) for number in range(len(parts))])
    return digests


def _fetch(found: memoryview) -> None:
    """Bring mapped memory in from the disk, on huge pages where the file system has them.

    Not by `mmap.madvise`, which keeps the interpreter lock.
    """
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    start = address(np.frombuffer(found, np.uint8))
    advise(start, len(found), mmap.MADV_HUGEPAGE)
    if advise(start, len(found), _POPULATE_READ) != 0:  # before Linux 5.14
        advise(start, len(found), mmap.MADV_WILLNEED)


def _resident(found: memoryview) -> float:
    """The share of mapped memory that can be read without the disk, by a few pages of it."""
    ask = ctypes.CDLL(None).mincore
    ask.argtypes = [ctypes.c_size_t] * 3
    start, answer = address(np.frombuffer(found, np.uint8)), np.ones(1, np.uint8)
    pages = len(found) // mmap.PAGESIZE
    places = range(0, pages, -(-pages // _SAMPLES))
    there = 0
    for place in places:
        ask(start + place * mmap.PAGESIZE, 1, address(answer))
        there += int(answer[0]) & 1
    return there / len(places)


def _identity(file: int) -> list[object] | None:
    """What changes when a file is written to or the machine starts anew; None if that is hidden."""
    status = os.fstat(file)
    boot = _boot()
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return [boot, status.st_dev, status.st_ino, status.st_size, *times] if boot else None


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


_default: Shelf | None = None


def default() -> Shelf | None:
    """The shelf beside the user's compile cache, None if it is turned off."""
    global _default
    store, limit = disk.default(), knobs.cache_weights()
    if store is None or not limit:
        return None
    asked = beside(store, limit)
    if _default is None or (_default.folder, _default.limit) != (asked.folder, asked.limit):
        _default = asked
    return _default


def beside(store: Cache, limit: int) -> Shelf:
    """The shelf that goes with a compile cache."""
    return Shelf(store.folder / "weights", limit)
