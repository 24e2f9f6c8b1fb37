"""Schedules that were measured on this machine, kept in the compile cache.

All of them are one sealed entry of the cache, named by the target, the thread count and our own
sources. Every compilation for this machine reads it once.
"""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

from graphmill.codegen.cpu.schedule import Schedule
from graphmill.runtime import cache as disk
from graphmill.runtime import threads

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target

Found = dict[str, Schedule]

_known: dict[str, Found] = {}  # by key, as this process last saw it


def machine_key(target: Target) -> str:
    """The key of a machine's schedules: the target, threads and our own sources."""
    from graphmill.keys import build_id

    plain = replace(target, schedules=())
    count = str(threads.num_threads())
    return disk.key_of("schedules", str(astuple(plain)), count, build_id())


def known(target: Target) -> Found:
    """The schedules that were measured on this machine, in this process or before."""
    store, key = disk.default(), machine_key(target)
    place = f"{store.folder if store else ''}/{key}"
    if place not in _known:
        _known[place] = _read(store.get(key, counted=False)) if store else {}
    return _known[place]


def with_known(target: Target) -> Target:
    """The target with what was measured on it."""
    return replace(target, schedules=tuple(sorted(known(target).items())))


def remember(target: Target, found: Found) -> None:
    """Add to what is known; on disk too, where another process may have added meanwhile."""
    store, key = disk.default(), machine_key(target)
    place = f"{store.folder if store else ''}/{key}"
    earlier = _read(store.get(key, counted=False)) if store else {}
    _known[place] = known(target) | earlier | found
    if store is not None:
        text = {name: schedule.as_dict() for name, schedule in _known[place].items()}
        store.put(key, json.dumps(text, sort_keys=True).encode())


def _read(content: bytes | None) -> Found:
    """The schedules of an entry; none where it is missing or says something else."""
    try:
        entry = json.loads(content or b"{}")
        return {str(name): Schedule.from_dict(chosen) for name, chosen in entry.items()}
    except (ValueError, AttributeError):
        return {}
