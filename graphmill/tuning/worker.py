"""The process that compiles and times candidates: `python -m graphmill.tuning.worker FOLDER`.

A candidate that crashes or hangs takes this process with it, not the user's. It reads what to
search from the folder, says what happens in lines of JSON, and stops when its input is closed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphmill.codegen.cpu.schedule import Schedule
from graphmill.tuning.search import Schedules, Search, Tried

PROFILE = 0.3  # share of the time for compiling and timing kernels as the model says
SLIGHT = 0.005  # share of all kernels' time below which one is left alone


@dataclass
class Job:
    """What the folder asks for."""

    folder: Path
    end: float  # by the system's monotonic clock
    sizes: Mapping[str, int]
    threads: int
    kernels: Sequence[dict[str, Any]]
    banned: Sequence[Any]
    stopped: threading.Event = field(default_factory=threading.Event)

    def left(self) -> float:
        """Seconds until the end, 0 once the user wants no more."""
        return 0.0 if self.stopped.is_set() else max(0.0, self.end - time.monotonic())


def read_job(folder: Path) -> Job:
    """The job that `process.py` wrote."""
    entry = json.loads((folder / "job.json").read_text())
    return Job(folder, **entry)


def tell(event: str, **what: Any) -> None:
    """One line to the process that waits for it."""
    print(json.dumps({"event": event, **what}), flush=True)


def as_json(schedules: Schedules) -> dict[str, Any]:
    return {name: one.as_dict() for name, one in sorted(schedules.items()) if one.chosen}


def from_json(entry: Mapping[str, Any]) -> Schedules:
    return {name: Schedule.from_dict(one) for name, one in entry.items()}


def work(job: Job) -> None:
    """Time the kernels as they are, the dearest first; then search, the slowest first."""
    start, whole, found = time.monotonic(), job.left(), list[tuple[float, int, Search]]()
    for number, kernel in enumerate(job.kernels):
        if (time.monotonic() - start > PROFILE * whole and found) or not job.left():
            break
        if [number, {}] in job.banned:
            continue
        search = _search(job, number)
        found.append((search.model.seconds * kernel["count"], number, search))
        tell("timed", kernel=number, seconds=search.model.seconds)
    found.sort(key=lambda entry: -entry[0])
    total = sum(seconds for seconds, _, _ in found)
    for place, (seconds, number, search) in enumerate(found):
        if seconds < SLIGHT * total or not job.left():
            break
        rest = sum(entry[0] for entry in found[place:])
        share = time.monotonic() + job.left() * seconds / rest
        _run(job, number, search, share)


def _search(job: Job, number: int) -> Search:
    """The search for a kernel, begun."""
    from graphmill.codegen.cpu.target import native
    from graphmill.commands import read_program

    kernel = job.kernels[number]
    function = read_program(job.folder / str(number) / "function.gir").entry

    def begin(schedules: Schedules) -> None:
        tell("try", kernel=number, schedules=as_json(schedules))

    tell("try", kernel=number, schedules={})
    search = Search(
        function, native(), job.threads, job.sizes, from_json(kernel["start"]), begin,
        lambda schedules: [number, as_json(schedules)] in job.banned,
    )  # fmt: skip
    return search


def _run(job: Job, number: int, search: Search, share: float) -> None:
    def end() -> float:
        return time.perf_counter() + min(job.left(), share - time.monotonic())

    best = search.best
    tell("search", kernel=number)
    for tried in search.steps(end):
        _tell_tried(number, tried)
        if search.best is not best:
            best = search.best
            _tell_best(number, search, done=False)
    search.confirm()
    _tell_best(number, search, done=search.is_done)


def _tell_tried(number: int, tried: Tried) -> None:
    ratio = None if tried.ratio != tried.ratio else tried.ratio
    tell("tried", kernel=number, schedules=as_json(tried.schedules), ratio=ratio)


def _tell_best(number: int, search: Search, done: bool) -> None:
    tell(
        "best", kernel=number, schedules=as_json(search.best.schedules), done=done,
        default=search.model.seconds, best=search.best.seconds,
    )  # fmt: skip


def main() -> None:
    """Work until the end, or until the input is closed."""
    import graphmill.driver  # it tells the runtime where the worker pool's code comes from

    assert graphmill.driver
    job = read_job(Path(sys.argv[1]))

    def listen() -> None:
        sys.stdin.read()
        job.stopped.set()

    threading.Thread(target=listen, daemon=True).start()
    work(job)


if __name__ == "__main__":
    main()
