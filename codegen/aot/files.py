"""Files in place: whole under their name or not there, and large ones looked at without a copy."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the name `path` in one step once the block is done."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def mapped(path: Path, *, write: bool = False) -> Iterator[mmap.mmap]:
    """The bytes of a file that is not empty, as the system pages them in."""
    access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
    with (
        path.open("r+b" if write else "rb") as file,
        mmap.mmap(file.fileno(), 0, access=access) as m,
    ):
        yield m
