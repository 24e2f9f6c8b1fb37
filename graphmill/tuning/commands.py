"""What `graphmill tune` does, apart from printing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphmill.bench import duration
from graphmill.commands import CommandError, size_of, traced
from graphmill.driver import Options
from graphmill.schedules import Measured
from graphmill.tuning import Progress, Tuned, tune


def tuned(
    target: str, specs: Sequence[str], sizes: Sequence[str], seconds: float, progress: Progress
) -> Tuned:
    """Tune the kernels of a function for its specs; see `graphmill.tuning.tune`."""
    function, given = traced(target, specs), dict(map(size_of, sizes))
    for name in function.dims:
        if name not in given:
            raise CommandError(f"dim {name} has no size: give --size {name}=8")
    return tune(function, Options(), seconds, given, progress)


def rows(found: Mapping[str, Measured]) -> Iterator[list[str]]:
    """Rows of a table of measured schedules, the largest gain first."""
    for name, one in sorted(found.items(), key=lambda pair: pair[1].best / pair[1].default):
        times = duration(one.default), duration(one.best)
        yield [one.place, name, *times, f"{one.default / one.best:.2f}", str(one.schedule)]
