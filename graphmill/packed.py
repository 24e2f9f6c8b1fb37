"""Constants with their data: mapped from the shelf of packed weights, else packed from the arrays.

What is large is put on the shelf, in the background, by the first process that had to pack it.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphmill.codegen.constants import ALIGN, BINARY, complete
from graphmill.codegen.workers import Workers
from graphmill.keys import build_id
from graphmill.runtime.cache import key_of
from graphmill.runtime.threads import num_threads

if TYPE_CHECKING:
    from graphmill.codegen.artifact import Artifact, Constant
    from graphmill.codegen.constants import Array
    from graphmill.runtime.blocks import Writing
    from graphmill.runtime.shelf import Shelf

Task = Callable[[], object]
Sources = Callable[[], "Sequence[Array]"]
Complete = Callable[["Artifact", Sources, "Sequence[str]"], "Artifact | None"]

FORMAT = "1"
LEAST = 4 << 20  # bytes that packing takes milliseconds for
_LOW_PRIORITY = 10
_PATIENCE = 2.0  # seconds that the process's end is put off for, at most

# forms of what this process has put on the shelf: of weights that change, the first alone
_kept: set[str] = set()
_at_work: dict[threading.Thread, Writing] = {}


def in_turn(tasks: Iterable[Task]) -> None:
    """Do tasks on this thread."""
    for task in tasks:
        task()


def at_once(tasks: Iterable[Task], meanwhile: Task = lambda: None) -> None:
    """Do tasks that leave the interpreter lock alone, on all threads.

    `meanwhile` is done by this thread, once others are busy.
    """
    with Workers(num_threads()) as workers:
        some = False
        for task in tasks:
            workers.start(task)
            some = True
        if some:
            meanwhile()


def completed(artifact: Artifact, sources: Sources, contents: Sequence[str]) -> Artifact:
    """The artifact with the data of all its constants; `contents` are what its sources hold.

    Those are asked for only where they are packed.
    """
    found = mapped(artifact, sources, contents)
    return found or complete(artifact, sources(), num_threads(), contents)


def mapped(
    artifact: Artifact,
    sources: Sources,
    contents: Sequence[str],
    at_once: Callable[[Iterable[Task]], None] = at_once,
) -> Artifact | None:
    """The same, if its constants can be mapped from the shelf."""
    places, size = _places(artifact.constants)
    store = _shelf() if size >= LEAST else None
    if store is None:
        return None
    found = store.find(_key(artifact.constants, contents), size, at_once)
    if found is None:
        return None
    constants = list(artifact.constants)
    for number, at in places.items():
        constant = constants[number]
        constants[number] = replace(constant, data=found[at : at + constant.nbytes])
    return replace(artifact, constants=tuple(constants))


def keep(artifact: Artifact, contents: Sequence[str]) -> threading.Thread | None:
    """Put the packed constants on the shelf, in a thread that the process helps at its end.

    `contents` are what the artifact's sources held while it was made, and hold now; empty where
    that is not known.
    """
    places, size = _places(artifact.constants)
    store = _shelf() if contents and size >= LEAST else None
    if store is None:
        return None
    if is_mapped(artifact):  # that is where they are from
        return None
    pieces = [(at, memoryview(artifact.constants[n].data or b"")) for n, at in places.items()]
    form = repr([(c.steps, c.dtype, c.shape) for c in artifact.constants])
    if form in _kept:
        return None
    _kept.add(form)
    from graphmill.runtime.blocks import Writing

    key, writing = _key(artifact.constants, contents), Writing(size, pieces)

    def write() -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
        try:
            store.keep(key, size, writing)
        finally:
            _at_work.pop(threading.current_thread(), None)

    thread = threading.Thread(target=write, name="graphmill weights", daemon=True)
    _at_work[thread] = writing
    thread.start()
    return thread


def _shelf() -> Shelf | None:
    from graphmill.runtime import shelf

    return shelf.default()


@atexit.register
def _finish() -> None:
    """At the process's end: write with threads that others may keep from their work."""
    for thread, writing in list(_at_work.items()):
        if thread.is_alive():  # not in a forked child
            writing.help(_PATIENCE)
            thread.join(_PATIENCE)


def is_large(artifact: Artifact) -> bool:
    """Whether its constants have a place on the shelf."""
    return _places(artifact.constants)[1] >= LEAST


def is_mapped(artifact: Artifact) -> bool:
    """Whether the constants that have a source are all from the shelf, and there are some."""
    data = [memoryview(c.data or b"") for c in artifact.constants if c.source is not None]
    return bool(data) and all(isinstance(one.obj, mmap.mmap) for one in data)


def _places(constants: Sequence[Constant]) -> tuple[dict[int, int], int]:
    """Where constants that have a source begin on the shelf, by number; the bytes of all."""
    places, at = {}, 0
    for number, constant in enumerate(constants):
        if constant.source is not None:
            places[number] = at
            at += -(-constant.nbytes // ALIGN) * ALIGN
    return places, at


def _key(constants: Sequence[Constant], contents: Sequence[str]) -> str:
    """What the bytes of all constants with a source depend on."""
    parts = [FORMAT, build_id()]
    for constant in constants:
        if constant.source is not None:
            others = [constants[n[0]] for name, n in constant.steps if name in BINARY]
            own = [hashlib.sha256(c.data or b"").hexdigest() for c in others if c.source is None]
            form = repr((constant.steps, constant.dtype, constant.shape, own))
            parts += [contents[constant.source], form]
    return key_of("weights", *parts)
