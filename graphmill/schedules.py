"""Schedules that were measured on this machine, kept in the compile cache.

All of them are one sealed entry of the cache, named by the target, the thread count and our own
sources. Every compilation for this machine reads it once.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphmill.codegen.cpu.schedule import Choice, Notes, Schedule, shown
from graphmill.records import record
from graphmill.runtime import cache as disk
from graphmill.runtime import threads

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target

FORMAT = 1  # of the entry


@record
class Measured:
    """What was found for one kernel: seconds of the model's schedule and of the best one.

    `done`: the whole space was searched; else there is more to try.
    """

    schedule: Schedule
    default: float
    best: float
    place: str = ""
    done: bool = False


Found = dict[str, Measured]

_known: dict[str, Found] = {}  # by key, as this process last saw it


def machine_key(target: Target) -> str:
    """The key of a machine's schedules: the target, threads and our own sources."""
    from graphmill.keys import build_id

    plain = replace(target, schedules=(), notes=None)
    count = str(threads.num_threads())
    return disk.key_of("schedules", str(FORMAT), str(astuple(plain)), count, build_id())


def known(target: Target) -> Found:
    """What was measured on this machine, in this process or before, by kernel."""
    store, key = disk.default(), machine_key(target)
    place = f"{store.folder if store else ''}/{key}"
    if place not in _known:
        _known[place] = _read(store, key)
    return _known[place]


def with_known(target: Target) -> Target:
    """The target with what was measured on it to be better than its model."""
    found = sorted((name, one.schedule) for name, one in known(target).items())
    return replace(target, schedules=tuple(pair for pair in found if pair[1].chosen))


def with_own(target: Target, own: Sequence[tuple[str, Schedule]]) -> Target:
    """The target with the user's own schedules in place of what was measured for their kernels."""
    if not own:
        return target
    return replace(target, schedules=tuple(sorted((dict(target.schedules) | dict(own)).items())))


def noted(notes: Notes, own: Mapping[str, Schedule]) -> str:
    """A line per kernel with choices: the user's line, whose schedule it has, and what it is."""
    by_kernel: dict[str, list[Choice]] = {}
    for choice in notes.choices.values():
        by_kernel.setdefault(choice.kernel, []).append(choice)
    lines = []
    for kernel, choices in by_kernel.items():
        changed = any(choice.taken != choice.model for choice in choices)
        source = ("own" if kernel in own else "tuned") if changed else "default"
        text = ", ".join(f"{choice.name}={shown(choice.taken)}" for choice in choices)
        lines.append(f"{notes.places[kernel] or '?'}  {kernel}  {source}: {text}")
    return "\n".join(lines)


def write_file(path: Path, found: Found) -> None:
    """Write schedules as JSON, for `read_file` here or on another machine."""
    path.write_text(_text(found) + "\n", encoding="utf-8")


def read_file(path: Path) -> tuple[tuple[str, Schedule], ...]:
    """The schedules in a file of `write_file`; ValueError where it says something else."""
    try:
        found = _found(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} holds no schedules: {error}") from None
    return tuple(sorted((name, one.schedule) for name, one in found.items()))


def remember(target: Target, found: Found) -> None:
    """Add to what is known; on disk too, where another process may have added meanwhile."""
    store, key = disk.default(), machine_key(target)
    place = f"{store.folder if store else ''}/{key}"
    with _alone(store, key):
        _known[place] = known(target) | _read(store, key) | found
        if store is not None:
            store.put(key, _text(_known[place]).encode())


def forget(target: Target) -> int:
    """Drop all that is known; returns how many kernels that were."""
    store, key = disk.default(), machine_key(target)
    place = f"{store.folder if store else ''}/{key}"
    count = len(known(target))
    with _alone(store, key):
        _known[place] = {}
        if store is not None and count:
            store.put(key, _text({}).encode())
    return count


@contextmanager
def _alone(store: disk.Cache | None, key: str) -> Iterator[None]:
    """Inside, no other process changes the entry, where the system has locks for files."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):
            import fcntl

            if store is not None:
                store.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = stack.enter_context((store.folder / f"{key}.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _text(found: Found) -> str:
    kernels = {
        name: {
            "schedule": one.schedule.as_dict(), "default": one.default, "best": one.best,
            "place": one.place, "done": one.done,
        }
        for name, one in found.items()
    }  # fmt: skip
    return json.dumps({"format": FORMAT, "kernels": kernels}, sort_keys=True)


def _read(store: disk.Cache | None, key: str) -> Found:
    """The schedules of an entry; none, and a warning, where it says something else."""
    content = None if store is None else store.get(key, counted=False)
    if content is None:
        return {}
    try:
        return _found(content)
    except ValueError as error:
        warnings.warn(
            f"the measured schedules in the compile cache make no sense ({error}); "
            "kernels are compiled by the machine model until they are tuned again",
            disk.CacheWarning, stacklevel=2,
        )  # fmt: skip
        return {}


def _found(content: bytes) -> Found:
    """What a text of schedules says; ValueError where it makes no sense."""
    try:
        entry = json.loads(content)
        if entry["format"] != FORMAT:
            raise ValueError(f"format {entry['format']} is unknown")
        return {str(name): _measured(one) for name, one in entry["kernels"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _measured(one: dict[str, Any]) -> Measured:
    schedule = Schedule.from_dict(one["schedule"])
    times = float(one["default"]), float(one["best"])
    return Measured(schedule, *times, str(one["place"]), one["done"] is True)
