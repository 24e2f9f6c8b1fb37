"""The compile cache on disk: content-hash keys to verified bytes, shared by all processes.

An entry is one file, written beside its place and renamed into it, so a reader sees all of it or
nothing. It carries a checksum over key and content: a damaged entry is dropped with a warning and
counts as missing. When the folder outgrows its limit, the entries unused for longest go first.
Entries are machine code, so a folder that others can write to is not used at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from graphmill.codegen.artifact import Artifact, ArtifactError
from graphmill.records import record
from graphmill.runtime import knobs
from graphmill.signals import pass_on

_MAGIC = b"GMCACHE1"
_PACK_MAGIC = b"GMPACK01"
_PACK_ENTRY = struct.Struct("<64sQ")
_SUFFIX = ".gmc"
_MAX_ENTRY = 4 << 30
# what a writer that died may leave lies about this long
_STALE_SECONDS = 3600


class CacheWarning(UserWarning):
    """The cache could not be used, or an entry was damaged; work goes on without it."""


class PackError(ValueError):
    """A pack file is damaged or no pack at all."""


@record
class CacheInfo:
    """State of a cache: its folder, how full it is, what it did in this process."""

    folder: Path
    entries: int
    bytes: int
    limit: int
    hits: int
    misses: int


class Cache:
    """A folder of entries by key (64 hexadecimal digits) that holds at most `limit` bytes."""

    def __init__(self, folder: str | os.PathLike[str], limit: int) -> None:
        self.folder, self.limit = Path(folder), limit
        self.hits = self.misses = 0
        self._usable: bool | None = None

    # -- entries ---------------------------------------------------------------------------
    def get(self, key: str, counted: bool = True) -> bytes | None:
        """The content stored under a key, None if there is none or it is damaged.

        Only what is `counted` shows in `info` as a hit or a miss.
        """
        content = self._read(key, counted)
        return None if content is None else bytes(content)

    def _read(self, key: str, counted: bool = True) -> memoryview | None:
        path = self.path(key)
        try:
            data = path.read_bytes() if self.ready(create=False) else None
        except OSError as error:
            pass_on(error)
            data = None
        content = None if data is None else _open(key, data)
        if data is not None and content is None:
            self._drop(path, f"compile cache entry {path} is damaged; it is dropped and rebuilt")
        if content is None:
            self.misses += counted
            return None
        self.hits += counted
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store content under a key; a folder that cannot be written gives one warning."""
        self.path(key)  # raises for what is no key
        if len(content) > min(self.limit, _MAX_ENTRY):
            return
        try:
            for _ in range(2):
                # somebody may delete the folder at any time: then it is made anew
                with contextlib.suppress(FileNotFoundError):
                    if self.ready(create=True):
                        self._write(key, content)
                    return
                self._usable = None
        except OSError as error:
            pass_on(error)
            self._usable = False
            warnings.warn(f"compile cache not written: {error}", CacheWarning, stacklevel=2)

    def _write(self, key: str, content: bytes) -> None:
        import tempfile

        with tempfile.NamedTemporaryFile(
            dir=self.folder, prefix=".", suffix=".tmp", delete=False
        ) as file:
            try:
                file.write(_head(key, content))
                file.write(content)
                file.close()
                os.replace(file.name, self.path(key))
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise
        self._evict()

    def artifact(self, key: str) -> Artifact | None:
        """The artifact stored under a key; one that cannot be read is dropped with a warning."""
        content = self._read(key)
        if content is None:
            return None
        try:
            return Artifact.from_bytes(content, verified=True)
        except ArtifactError as error:
            self._drop(self.path(key), f"compile cache entry dropped: {error}")
            return None

    def get_or_build(self, key: str, build: Callable[[], bytes]) -> bytes:
        """The content under a key, built and stored if missing."""
        content = self.get(key)
        if content is None:
            content = build()
            self.put(key, content)
        return content

    # -- the whole folder ------------------------------------------------------------------
    def info(self) -> CacheInfo:
        """Number and bytes of entries, hits and misses of this process."""
        sizes = [entry.stat().st_size for entry in self._entries()]
        return CacheInfo(self.folder, len(sizes), sum(sizes), self.limit, self.hits, self.misses)

    def clear(self) -> int:
        """Remove every entry; returns how many there were."""
        count = 0
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
                count += 1
        return count

    def pack(self, path: str | os.PathLike[str]) -> int:
        """Write all sound entries to one file that `unpack` takes elsewhere; returns how many."""
        import tempfile

        target = Path(path)
        count = 0
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            try:
                file.write(_PACK_MAGIC)
                for entry in sorted(self._entries(), key=lambda e: e.name):
                    key = entry.name.removesuffix(_SUFFIX)
                    content = self.get(key)
                    if content is not None:
                        sealed = _head(key, content) + content
                        file.write(_PACK_ENTRY.pack(key.encode(), len(sealed)) + sealed)
                        count += 1
                file.close()
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
        return count

    def unpack(self, path: str | os.PathLike[str]) -> int:
        """Import a pack's entries; returns how many.

        They are machine code that will run: import only what you would run. Every entry is
        verified before the first is stored; raises `PackError` for a damaged file.
        """
        with open(path, "rb") as file:
            for _ in _unpacked(file):
                pass
            file.seek(0)
            count = 0
            for key, content in _unpacked(file):
                self.put(key, content)
                count += 1
        return count

    # -- inside ----------------------------------------------------------------------------
    def path(self, key: str) -> Path:
        """The file of an entry, whether it is there or not."""
        if not _is_key(key):
            raise ValueError(f"a cache key is 64 hexadecimal digits, not {key!r}")
        return self.folder / (key + _SUFFIX)

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as folder:
                listed = list(folder)
        except OSError:
            return
        for entry in listed:
            if entry.name.endswith(_SUFFIX) and _is_key(entry.name.removesuffix(_SUFFIX)):
                yield entry

    def ready(self, create: bool) -> bool:
        """Whether the folder is there and ours alone."""
        if create and self._usable and not self.folder.is_dir():
            self._usable = None  # somebody has deleted it
        if self._usable is None:
            try:
                if create:
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                status = self.folder.stat()
            except FileNotFoundError:
                return False
            except OSError as error:
                pass_on(error)
                self._usable = False
                warnings.warn(f"compile cache not used: {error}", CacheWarning, stacklevel=3)
                return False
            others = status.st_mode & 0o022 or status.st_uid != os.geteuid()
            self._usable = not others
            if others:
                warnings.warn(
                    f"compile cache {self.folder} not used: other users can write to it",
                    CacheWarning,
                    stacklevel=3,
                )
        return self._usable

    def _drop(self, path: Path, message: str) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
        warnings.warn(message, CacheWarning, stacklevel=4)

    def _evict(self) -> None:
        """Bring the folder to nine tenths of the limit if it is beyond it; clear old leftovers."""
        listed = []
        with os.scandir(self.folder) as folder:
            for entry in folder:
                with contextlib.suppress(FileNotFoundError):
                    listed.append((entry.stat(), entry))
        total = sum(status.st_size for status, _ in listed)
        goal = self.limit * 9 // 10 if total > self.limit else self.limit
        now = time.time()
        for status, entry in sorted(listed, key=lambda pair: pair[0].st_mtime):
            stale = entry.name.endswith(".tmp") and now - status.st_mtime > _STALE_SECONDS
            over = total > goal and entry.name.endswith(_SUFFIX)
            if stale or over:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
                total -= status.st_size
            elif total <= goal and now - status.st_mtime <= _STALE_SECONDS:
                break


def _is_key(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def key_of(*parts: str | bytes) -> str:
    """A key from all that the content depends on; parts keep their boundaries."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(struct.pack("<cQ", b"s" if isinstance(part, str) else b"b", len(data)))
        digest.update(data)
    return digest.hexdigest()


def _head(key: str, content: bytes | memoryview) -> bytes:
    """What stands before an entry's content: a checksum over key and content."""
    digest = hashlib.sha256(key.encode())
    digest.update(content)
    return _MAGIC + digest.digest()


def _open(key: str, data: bytes) -> memoryview | None:
    content = memoryview(data)[len(_MAGIC) + 32 :]
    return content if data[: len(_MAGIC) + 32] == _head(key, content) else None


def _unpacked(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    if file.read(len(_PACK_MAGIC)) != _PACK_MAGIC:
        raise PackError("not a pack of a Graphmill compile cache")
    while head := file.read(_PACK_ENTRY.size):
        if len(head) != _PACK_ENTRY.size:
            raise PackError("the pack is cut short")
        name, size = _PACK_ENTRY.unpack(head)
        key = name.decode("ascii", "replace")
        if not _is_key(key) or size > _MAX_ENTRY:
            raise PackError("the pack is damaged")
        # a damaged size must not ask for more memory than the file has bytes
        left = os.fstat(file.fileno()).st_size - file.tell()
        content = _open(key, file.read(size)) if size <= left else None
        if content is None:
            raise PackError(f"the pack's entry {key} is damaged")
        yield key, bytes(content)


_default: Cache | None = None


def default() -> Cache | None:
    """The user's cache as the knobs say, None if it is turned off."""
    global _default
    if not knobs.cache():
        return None
    folder, limit = knobs.cache_dir(), knobs.cache_size()
    if _default is None or _default.folder != folder or _default.limit != limit:
        _default = Cache(folder, limit)
    return _default
