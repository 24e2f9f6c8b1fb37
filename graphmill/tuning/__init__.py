"""Schedules found by measuring: `gm.jit(f, tune=seconds)` and `graphmill tune`.

Each kernel of a planned function becomes a function of its own (`kernels`). In a process apart
(`process`, `worker`) each choice that its generator makes is tried with other values (`search`):
compiled, compared with the model's results, and timed in turns with the best so far (`timing`).
What wins is kept in the compile cache (`graphmill.schedules`), and is part of the target of every
later compilation there.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.codegen.cpu.schedule import Schedule
from graphmill.ir.graph import Function
from graphmill.runtime import cache as disk
from graphmill.runtime import threads
from graphmill.schedules import Measured, known, machine_key, remember

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target
    from graphmill.driver import Options
    from graphmill.tuning.kernels import Kernel
    from graphmill.tuning.process import Event

Progress = Callable[["Step"], None]

LEAST = 1.0  # seconds that are worth starting a process for


class TuningWarning(UserWarning):
    """A candidate failed or gave wrong results: a bug of Graphmill's, and it is not used."""


@dataclass(frozen=True)
class Step:
    """One measurement: the kernel, its user's line and number, and what was tried.

    `ratio` is the time of what was tried as a share of the model's schedule, None if it was wrong;
    `best` the least so far; `done` the share of the time that is used up.
    """

    kernel: str
    place: str
    number: int
    kernels: int
    tried: str
    ratio: float | None
    best: float
    done: float


@dataclass
class Tuned:
    """What came of tuning: by kernel the findings, and whether the user broke it off."""

    found: dict[str, Measured] = field(default_factory=dict)
    interrupted: bool = False


def sizes_of(function: Function, arrays: Sequence[Any]) -> dict[str, int]:
    """The sizes of the named dims that a call with these arrays has."""
    sizes: dict[str, int] = {}
    for param, array in zip(function.params, arrays, strict=False):
        for dim, size in zip(param.tensor.shape, np.shape(array), strict=True):
            if str(dim) in function.dims:
                sizes[str(dim)] = size
    return sizes


def tune_once(
    function: Function, options: Options, seconds: float, sizes: Mapping[str, int]
) -> None:
    """Tune a function unless that was done before, on this machine, in any process."""
    from graphmill.codegen.cpu.target import native
    from graphmill.keys import cache_key

    store = disk.default()
    key = disk.key_of("tuned", cache_key(function, options, native()), machine_key(native()))
    if store is not None and store.get(key, counted=False) is not None:
        return
    if tune(function, options, seconds, sizes).interrupted:
        raise KeyboardInterrupt
    if store is not None:
        store.put(key, b"tuned")


def tune(
    function: Function, options: Options, seconds: float, sizes: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Tuned:  # fmt: skip
    """Search schedules for the kernels of a traced function for about `seconds`; keep the best.

    Named dims have the given `sizes`. Kernels that were searched to the end before are left alone.
    Only the machine that this runs on is tuned. Ctrl-C ends it early; what was found is kept.
    """
    from graphmill.codegen.cpu.target import native
    from graphmill.tuning.kernels import kernels

    if options.target != "native":
        raise ValueError(f"schedules are measured on this machine, not on {options.target}")
    end, target = time.monotonic() + seconds, native()
    before, sizes = known(target), dict(sizes or {})
    todo = [
        kernel for kernel in kernels(function, options, target, sizes)
        if not all(name in before and before[name].done for name in kernel.names)
    ]  # fmt: skip
    if not todo or seconds < LEAST:
        return Tuned()
    if not sys.executable:
        warnings.warn("no Python to tune in: sys.executable is empty", TuningWarning, stacklevel=2)
        return Tuned()
    return _Session(target, todo, sizes, end, progress).run()


class _Session:
    """One run of the worker, or several where candidates crash."""

    def __init__(
        self, target: Target, kernels: Sequence[Kernel], sizes: Mapping[str, int], end: float,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.target, self.kernels, self.sizes = target, kernels, sizes
        self.start, self.end, self.progress = time.monotonic(), end, progress
        self.banned: list[Any] = []
        self.trying: list[Any] = []
        self.best = dict.fromkeys(range(len(kernels)), 1.0)
        self.tuned = Tuned()

    def run(self) -> Tuned:
        from graphmill.tuning.process import WorkerError, write_kernels

        with tempfile.TemporaryDirectory(prefix="graphmill-tune-") as name:
            folder = Path(name)
            write_kernels(folder, self.kernels)
            while time.monotonic() + LEAST < self.end and not self.tuned.interrupted:
                try:
                    self._work(folder)
                    break
                except WorkerError as error:
                    self._failed(error)
                    if not self.trying or self.trying in self.banned:
                        break
                    self.banned.append(self.trying)
        return self.tuned

    def _work(self, folder: Path) -> None:
        from graphmill.tuning.process import Worker

        job = {
            "end": self.end, "sizes": self.sizes, "threads": threads.num_threads(),
            "kernels": [self._entry(kernel) for kernel in self.kernels], "banned": self.banned,
        }  # fmt: skip
        with Worker(folder, job, self.end) as worker:
            events = worker.events()
            while True:
                try:
                    for event in events:
                        self._heard(event)
                    return
                except KeyboardInterrupt:
                    if self.tuned.interrupted:
                        raise
                    self.tuned.interrupted = True
                    worker.stop()
                    events = worker.events()

    def _entry(self, kernel: Kernel) -> dict[str, Any]:
        found = known(self.target)
        start = {n: found[n].schedule.as_dict() for n in kernel.names if n in found}
        return {"count": kernel.count, "start": start}

    def _failed(self, error: Exception) -> None:
        """Say what the worker died of."""
        number, schedules = self.trying or (0, {})
        name = self.kernels[number].names[0]
        chosen = "; ".join(str(Schedule.from_dict(one)) for one in schedules.values()) or "default"
        warnings.warn(
            f"{name} with {chosen} {error}. It is not used; please report this",
            TuningWarning, stacklevel=4,
        )  # fmt: skip

    def _heard(self, event: Event) -> None:
        number, kind = event["kernel"], event["event"]
        if kind == "try":
            self.trying = [number, event["schedules"]]
        elif kind == "best":
            self._keep(number, event)
        elif kind == "tried":
            self._step(number, event)

    def _keep(self, number: int, event: Event) -> None:
        kernel = self.kernels[number]
        self.best[number] = event["best"] / event["default"]
        times = event["default"], event["best"]
        found = {
            name: Measured(
                Schedule.from_dict(event["schedules"].get(name, {})), *times, kernel.place,
                event["done"],
            )
            for name in kernel.names
        }  # fmt: skip
        self.tuned.found |= found
        remember(self.target, found)

    def _step(self, number: int, event: Event) -> None:
        kernel = self.kernels[number]
        shown = [str(Schedule.from_dict(one)) for one in event["schedules"].values()]
        if event["ratio"] is None:
            text = f"{kernel.names[0]} is wrong with {'; '.join(shown)}, which is not used"
            warnings.warn(f"{text}; please report this", TuningWarning, stacklevel=6)
        if self.progress is not None:
            used = (time.monotonic() - self.start) / max(self.end - self.start, 1e-9)
            self.progress(
                Step(
                    kernel.names[0], kernel.place, number, len(self.kernels), "; ".join(shown),
                    event["ratio"], self.best[number], min(1.0, used),
                )
            )  # fmt: skip
