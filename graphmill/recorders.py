"""What the driver tells about a compilation, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from graphmill.runtime import knobs


class Recorder(Protocol):
    """What the driver tells about a compilation, stage by stage."""

    @property
    def active(self) -> bool:
        """Whether anybody listens; where not, texts need not be made."""

    def stage(
        self, name: str, kind: str, text: str | Callable[[], str], seconds: float, **info: Any
    ) -> None:
        """A stage has ended: its name (`fuse`), kind (`ir mlir llvm asm text`), text and time.

        Optional `info`: `function` (the ir Function, for the graph and the user's sources),
        `stats` (what the pass counts), `kernels` (dicts with name, location, flops, bytes,
        parallel), anything else that JSON can hold.
        """

    def close(self) -> None:
        """The compilation is over: write what is written at the end."""


class SilentRecorder:
    """A recorder that drops everything."""

    active = False

    def stage(
        self, name: str, kind: str, text: str | Callable[[], str], seconds: float, **info: Any
    ) -> None:
        return None

    def close(self) -> None:
        return None


def recorder(name: str) -> Recorder:
    """The recorder for compiling the function `name`: to the dump folder, if one is set."""
    directory = knobs.dump()
    if directory is None:
        return SilentRecorder()
    from graphmill.dumping import DumpRecorder

    return DumpRecorder(directory, name)
