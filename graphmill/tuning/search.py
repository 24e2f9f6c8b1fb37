"""The search for one kernel: choice by choice, each candidate compiled, checked and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from graphmill.codegen.cpu.schedule import Choice, Notes, Schedule, Value
from graphmill.codegen.workers import Workers
from graphmill.ir.graph import Function
from graphmill.tuning.timing import agree, duel, quickest

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target
    from graphmill.runtime.executable import Executable

Schedules = Mapping[str, Schedule]  # by the kernels' names
Plan = frozenset[tuple[str, str, Value]]  # what every choice comes to

MOST_VALUES = 16  # of a choice: the first of a longer list
FOR_THREADS = ("grain",)  # choices that say nothing about one thread


class WrongResultError(Exception):
    """A candidate computed something else than the model's schedule."""


@dataclass(frozen=True, slots=True)
class Point:
    """Compiled schedules, the choices they come to, and seconds of one run."""

    schedules: Schedules
    choices: tuple[Choice, ...]
    executable: Executable
    seconds: float


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate's measurement: its time as a share of the best so far's, NaN if it was wrong."""

    schedules: Schedules
    ratio: float


class Search:
    """The search for one kernel; `begin` is told of a candidate before it is compiled.

    `start` are the schedules known so far; those that are `banned` are not tried.
    """

    def __init__(
        self, function: Function, target: Target, threads: int, sizes: Mapping[str, int],
        start: Schedules, begin: Callable[[Schedules], None] = lambda schedules: None,
        banned: Callable[[Schedules], bool] = lambda schedules: False,
    ) -> None:  # fmt: skip
        from graphmill.commands import random_arrays

        self.function, self.target, self.threads = function, target, threads
        self.begin, self.banned = begin, banned
        own = {name: size for name, size in sizes.items() if name in function.dims}
        self.arrays = random_arrays(function, own, seed=0)
        self.seen: set[Plan] = set()
        self.slowest = 0.0  # compilation
        self.is_done = False
        self.best = self.model = self._point({})
        self.wanted = self.model.executable.run(*self.arrays)
        self.model = replace(self.model, seconds=self._seconds(self.model))
        self.best = self.model
        if any(schedule.chosen for schedule in start.values()) and not banned(start):
            begin(start)
            with suppress(WrongResultError):
                self._consider(self._point(start))

    def steps(self, end: Callable[[], float]) -> Iterator[Tried]:
        """Try candidates until none is better, or until `end`; the best is in `best`.

        Each choice goes through its values, then the next; a better value of one may change
        what others are good for, so that all are gone through until nothing changes.
        """
        before = None
        while before is not self.best:
            before = self.best
            for choice in before.choices:
                if choice.name in FOR_THREADS and self.threads == 1:
                    continue
                for value in self._values(choice):
                    if time.perf_counter() + self.slowest >= end():
                        return
                    tried = self._attempt(choice, value)
                    if tried is not None:
                        yield tried
        self.is_done = True

    def confirm(self) -> None:
        """Once more at the end, in memory of its own: back to the model unless the best beats it.

        What was quicker when it was found may have been so for the machine's sake.
        """
        if not any(schedule.chosen for schedule in self.best.schedules.values()):
            return
        arrays = [array.copy() for array in self.arrays]
        last = duel(_loaded(self.best, arrays), _loaded(self.model, arrays))
        seconds = last.ratio * self.model.seconds
        self.best = replace(self.best, seconds=seconds) if last.is_gain else self.model

    @property
    def gain(self) -> float:
        """The model's time as a multiple of the best's."""
        return self.model.seconds / self.best.seconds

    def _values(self, choice: Choice) -> list[Value]:
        """The values to try: numbers from the model's outwards, others in the order given."""
        model, values = choice.model, [*choice.others, choice.model]
        if isinstance(model, int) and not isinstance(model, bool) and model > 0:
            values.sort(key=lambda v: abs(math.log(v / model)) if isinstance(v, int) and v else 0)
        return values[:MOST_VALUES]

    def _attempt(self, choice: Choice, value: Value) -> Tried | None:
        """Compile, compare and time the best with another value; None where it is nothing new."""
        name, schedules = choice.kernel, dict(self.best.schedules)
        chosen = None if value == choice.model else value
        schedules[name] = schedules.get(name, Schedule()).with_choice(choice.name, chosen)
        if self.banned(schedules) or self._plan(schedules) in self.seen:
            return None
        self.begin(schedules)
        try:
            return Tried(schedules, self._consider(self._point(schedules)))
        except WrongResultError:
            return Tried(schedules, math.nan)

    def _consider(self, point: Point) -> float:
        """Make a point the best if it is better than that and than the model's, beyond noise."""
        if not agree(self._run(point), self.wanted, self._terms()):
            raise WrongResultError
        best, found = self.best, duel(self._call(point), self._call(self.best))
        if found.is_gain:
            # timed once more, against the model and with all in other memory: luck does not count
            arrays = [array.copy() for array in self.arrays]
            again = duel(_loaded(point, arrays), _loaded(self.model, arrays))
            if again.is_gain:
                seconds = again.ratio * self.model.seconds
                self.best = replace(point, seconds=seconds)
        return found.ratio * best.seconds / self.model.seconds

    def _terms(self) -> int:
        """Roughly how many terms a sum has at most."""
        sizes = [size for array in self.arrays for size in array.shape]
        sizes += [s for op in self.function.block.ops for v in op.results for s in _static(v)]
        return 16 * max(sizes, default=1)

    # ---- candidates

    def _aimed(self, schedules: Schedules) -> Target:
        return replace(self.target, schedules=tuple(sorted(schedules.items())), notes=Notes())

    def _plan(self, schedules: Schedules) -> Plan:
        from graphmill.codegen.cpu.generate import write

        target = self._aimed(schedules)
        write(self.function, target, profiled=False)
        return _taken(target)

    def _point(self, schedules: Schedules) -> Point:
        """The kernel with these schedules, compiled and loaded."""
        from graphmill.codegen.cpu.generate import generate
        from graphmill.runtime.executable import Executable

        start, target = time.perf_counter(), self._aimed(schedules)
        artifact = generate(self.function, target, workers=Workers(self.threads))
        executable = Executable(artifact)
        self.seen.add(_taken(target))
        self.slowest = max(self.slowest, time.perf_counter() - start)
        notes = target.notes
        assert notes is not None
        return Point(schedules, tuple(notes.choices.values()), executable, math.inf)

    # ---- running

    def _call(self, point: Point) -> Callable[[], Any]:
        return lambda: point.executable.run(*self.arrays)

    def _run(self, point: Point) -> Any:
        return point.executable.run(*self.arrays)

    def _seconds(self, point: Point) -> float:
        return min(quickest(self._call(point)) for _ in range(3))


def _loaded(point: Point, arrays: Sequence[Any]) -> Callable[[], Any]:
    """A call of the point's code, loaded once more, with these arrays."""
    from graphmill.runtime.executable import Executable

    executable = Executable(point.executable.artifact)
    return lambda: executable.run(*arrays)


def _taken(target: Target) -> Plan:
    assert target.notes is not None
    return frozenset((c.kernel, c.name, c.taken) for c in target.notes.choices.values())


def _static(value: Any) -> list[int]:
    return [size for size in value.tensor.shape if isinstance(size, int)]
