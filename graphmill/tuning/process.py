"""Runs the process that searches (`worker.py`), hears what it finds, and outlives its crashes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphmill.dumping import save_constants
from graphmill.ir.printer import constants_of, print_function
from graphmill.tuning.kernels import Kernel

COMMAND = [sys.executable, "-m", "graphmill.tuning.worker"]
GRACE = 1.0  # seconds that the worker may take beyond its time
SILENCE = 30.0  # seconds without a word after which a candidate hangs

Event = dict[str, Any]


class WorkerError(RuntimeError):
    """The worker ended before its time; `how` says by what."""


def write_kernels(folder: Path, kernels: Sequence[Kernel]) -> None:
    """The kernels' IR and constants, for the worker to read."""
    for number, kernel in enumerate(kernels):
        own = folder / str(number)
        own.mkdir()
        (own / "function.gir").write_text(print_function(kernel.function), encoding="utf-8")
        save_constants(own / "constants.npz", constants_of(kernel.function))


class Worker:
    """A running worker. `events` ends with its time; raises `WorkerError` if it dies or hangs."""

    def __init__(self, folder: Path, job: Mapping[str, Any], end: float) -> None:
        self.end = end
        self._text = b""  # heard of a line that is not whole yet
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        self._errors = (folder / "errors.txt").open("w+b")
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        count = str(job["threads"])
        environment = os.environ | {
            "PYTHONPATH": path, "GRAPHMILL_NUM_THREADS": count, "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [*COMMAND, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment,
            start_new_session=True,  # Ctrl-C is for us: we ask it to stop
        )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def stop(self) -> None:
        """Ask it to come to an end at once."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.end = min(self.end, time.monotonic() + GRACE)

    def events(self) -> Iterator[Event]:
        """What it says, until it is done or its time and the grace are over."""
        assert self._process.stdout is not None
        source, heard = self._process.stdout.fileno(), time.monotonic()
        while True:
            now = time.monotonic()
            if now >= self.end + GRACE:
                return
            if now - heard > SILENCE:
                raise WorkerError(f"hangs: nothing was heard of it for {SILENCE:.0f} s")
            if not select.select([source], [], [], 0.1)[0]:
                continue
            data = os.read(source, 1 << 16)
            heard = time.monotonic()
            *lines, self._text = (self._text + data).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    yield json.loads(line)
            if not data:
                self._check_end()
                return

    def _check_end(self) -> None:
        code = self._process.wait()
        if code:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise WorkerError(f"ended by {how}" + (f": {said[-1]}" if said else ""))
