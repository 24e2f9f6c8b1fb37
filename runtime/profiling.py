"""Which profile is being recorded, if any: what every call asks, apart from the profiler itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphmill.runtime.profiler import Profile

_active: Profile | None = None


def active() -> Profile | None:
    """The profile being recorded, if any."""
    return _active


def record_into(profile: Profile | None) -> None:
    """Record into another profile from now on, or into none."""
    global _active
    _active = profile


def stage(name: str, location: str = "") -> AbstractContextManager[None]:
    """Record a compile stage if a profile is on; costs nothing otherwise."""
    return nullcontext() if _active is None else _active.stage(name, "compile", location)
