"""The profiler: `with profile("trace.json"):` records compile stages and kernels.

The file is a Chrome trace (open it in Perfetto or chrome://tracing), its kernels named after the
user's lines; `table()` sums calls, time, GB/s and GFLOP/s by line.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

from graphmill.codegen.artifact import Artifact
from graphmill.runtime.dims import evaluate
from graphmill.runtime.forks import renewed
from graphmill.runtime.profiling import active, record_into


class Interval(NamedTuple):
    """One thing that took time: nanoseconds of the monotonic clock, work done meanwhile."""

    name: str
    category: str
    location: str
    start: int
    stop: int
    thread: int
    flops: int = 0
    bytes: int = 0


class Row(NamedTuple):
    """All intervals of one user line: seconds in all, and the rates they come to."""

    location: str
    name: str
    calls: int
    seconds: float
    gbytes_per_second: float
    gflops: float


class Profile:
    """A recording, as a context manager; after the block `intervals` and `table()` are complete."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else os.fspath(path)
        self.intervals: list[Interval] = []
        self._lock = renewed(threading.Lock())

    def __enter__(self) -> Profile:
        if active() is not None:
            raise RuntimeError("a profile is being recorded already")
        from graphmill.runtime.threads import publish

        try:
            record_into(self)
            publish()
        except BaseException:  # a signal's handler
            record_into(None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from graphmill.runtime.threads import publish

        record_into(None)
        publish()
        if self.path is not None:
            import json

            with open(self.path, "w", encoding="utf-8") as file:
                json.dump(self.trace(), file)

    # -- recording -------------------------------------------------------------------------
    def add(self, interval: Interval) -> None:
        """Record one interval."""
        with self._lock:
            self.intervals.append(interval)

    @contextmanager
    def stage(self, name: str, category: str = "compile", location: str = "") -> Iterator[None]:
        """Record the time of a block."""
        start = time.monotonic_ns()
        try:
            yield
        finally:
            stop = time.monotonic_ns()
            self.add(Interval(name, category, location, start, stop, threading.get_native_id()))

    @contextmanager
    def call(self, artifact: Artifact, dims: Sequence[int]) -> Iterator[int]:
        """Record one call and its kernels; yields the address for the context's profile slot."""
        count = len(artifact.kernels)
        times = (ctypes.c_int64 * max(1, 2 * count))()
        with self.stage(artifact.name, "call"):
            yield ctypes.addressof(times)
        values = {spec.name: value for spec, value in zip(artifact.dims, dims, strict=True)}
        thread = threading.get_native_id()
        for k, kernel in enumerate(artifact.kernels):
            start, stop = times[2 * k], times[2 * k + 1]
            if stop:
                flops, size = evaluate(kernel.flops, values), evaluate(kernel.bytes, values)
                name, line = kernel.name, kernel.location
                self.add(Interval(name, "kernel", line, start, stop, thread, flops, size))

    # -- results ---------------------------------------------------------------------------
    def trace(self) -> dict[str, Any]:
        """The recording in Chrome's trace event format."""
        events: list[dict[str, Any]] = []
        for x in sorted(self.intervals, key=lambda x: (x.start, -x.stop)):
            seconds = max(x.stop - x.start, 1) / 1e9
            arguments: dict[str, Any] = {"line": x.location} if x.location else {}
            if x.category == "kernel":
                arguments |= {
                    "kernel": x.name,
                    "GB/s": round(x.bytes / seconds / 1e9, 3),
                    "GFLOP/s": round(x.flops / seconds / 1e9, 3),
                }
            events.append({
                "name": (x.location or x.name) if x.category == "kernel" else x.name,
                "cat": x.category,
                "ph": "X",
                "ts": x.start / 1e3,
                "dur": (x.stop - x.start) / 1e3,
                "pid": os.getpid(),
                "tid": x.thread,
                "args": arguments,
            })  # fmt: skip
        return {"traceEvents": events, "displayTimeUnit": "ns"}

    def rows(self) -> list[Row]:
        """Kernels summed by the user's line, the most expensive first."""
        groups: dict[str, list[Interval]] = {}
        for x in self.intervals:
            if x.category == "kernel":
                groups.setdefault(x.location or x.name, []).append(x)
        rows = []
        for line, group in groups.items():
            seconds = sum(x.stop - x.start for x in group) / 1e9
            rate = 1e-9 / max(seconds, 1e-9)
            size, flops = sum(x.bytes for x in group), sum(x.flops for x in group)
            names = ", ".join(sorted({x.name for x in group}))
            rows.append(Row(line, names, len(group), seconds, size * rate, flops * rate))
        return sorted(rows, key=lambda row: -row.seconds)

    def table(self) -> str:
        """The rows as aligned text: line, calls, milliseconds, share, GB/s, GFLOP/s, kernels."""
        rows = self.rows()
        total = sum(row.seconds for row in rows) or 1.0
        head = ("line", "calls", "ms", "%", "GB/s", "GFLOP/s", "kernels")
        cells = [
            (
                row.location, str(row.calls), f"{row.seconds * 1e3:.3f}",
                f"{100 * row.seconds / total:.1f}", f"{row.gbytes_per_second:.2f}",
                f"{row.gflops:.2f}", row.name,
            )
            for row in rows
        ]  # fmt: skip
        widths = [max(len(line[i]) for line in (head, *cells)) for i in range(len(head))]
        lines = []
        for line in (head, *cells):
            middle = [c.rjust(w) for c, w in zip(line[1:6], widths[1:6], strict=True)]
            lines.append("  ".join([line[0].ljust(widths[0]), *middle, line[6]]).rstrip())
        return "\n".join(lines)


def profile(path: str | os.PathLike[str] | None = None) -> Profile:
    """Record a profile: `with profile("trace.json") as p: ...; print(p.table())`."""
    return Profile(path)
