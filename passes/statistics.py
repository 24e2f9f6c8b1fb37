"""What passes count while they run: `count("merged")`, `note("kept apart: …")`.

The runner opens a recording around each pass; outside of one, counting does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Statistics = dict[str, int]

_current: ContextVar[Statistics | None] = ContextVar("graphmill_pass_statistics", default=None)


def count(key: str, by: int = 1) -> None:
    """Add to a number of the pass that runs."""
    statistics = _current.get()
    if statistics is not None and by:
        statistics[key] = statistics.get(key, 0) + by


@contextmanager
def recording() -> Iterator[Statistics]:
    """Collect what is counted inside."""
    statistics: Statistics = {}
    token = _current.set(statistics)
    try:
        yield statistics
    finally:
        _current.reset(token)
