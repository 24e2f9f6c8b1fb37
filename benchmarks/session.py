"""Drives the workers: one process per framework, rounds interleaved A B A B."""

import contextlib
import json
import math
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.frameworks import FRAMEWORKS, OURS, environment
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
PAUSE = 0.02  # lets a peer's spinning threads go to sleep before the next one is measured
COLD_RUNS = 3
SLOW_COMPILE = 5.0  # seconds; what takes longer is compiled cold once
PATIENCE = 10  # a framework that takes so many times the fastest's time gets one round only
LIMIT = 600  # seconds for one order; a framework that compiles longer is listed as failed


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    workloads: Sequence[str]
    frameworks: Sequence[str]
    threads: Sequence[int]
    rounds: int
    seconds: float
    python: str
    peers_python: str
    cold: bool = True
    kept: Path | None = None  # where references and compile caches stay for the next run

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        if self.kept:
            self.kept.mkdir(parents=True, exist_ok=True)
            yield str(self.kept.resolve())
            return
        with tempfile.TemporaryDirectory() as made:
            yield made

    def interpreter(self, framework: str) -> str:
        return self.python if framework == OURS else self.peers_python


class Process:
    """A worker process and its two pipes; one that dies or hangs is reported and replaced."""

    def __init__(self, plan: Plan, framework: str, threads: int, scratch: str) -> None:
        self.command = [plan.interpreter(framework), "-m", "benchmarks.worker"]
        self.command += [framework, str(threads), scratch]
        self.environment = environment(threads, scratch)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, *order: Any) -> dict[str, Any]:
        if self.process.poll() is not None:
            self.start()
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps(order), file=self.process.stdin, flush=True)
            if not select.select([self.process.stdout], [], [], LIMIT)[0]:
                self.process.kill()
                self.process.wait()
                return {"wrong": f"no answer within {LIMIT} s"}
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
            return answer
        except (BrokenPipeError, json.JSONDecodeError):
            return {"wrong": f"the process ended with status {self.process.wait()}"}

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(["quit"]), file=self.process.stdin, flush=True)
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def started(plan: Plan, threads: int, scratch: str) -> Iterator[dict[str, Process]]:
    processes = {name: Process(plan, name, threads, scratch) for name in plan.frameworks}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.close()


def versions(plan: Plan) -> dict[str, str | None]:
    """Each framework's version, None where it is missing."""
    with tempfile.TemporaryDirectory() as scratch, started(plan, 1, scratch) as processes:
        return {name: process.ask("hello").get("version") for name, process in processes.items()}


def measure(processes: dict[str, Process], name: str, plan: Plan) -> dict[str, dict[str, Any]]:
    """One row: every framework's median and minimum over interleaved rounds."""
    row = {f: process.ask("prepare", name) for f, process in processes.items()}
    times: dict[str, list[float]] = {f: [] for f in row if "first" in row[f]}
    longest = math.inf
    for turn in range(plan.rounds):
        order = [f for f, values in times.items() if min(values, default=0) <= longest]
        for framework in order if turn % 2 == 0 else reversed(order):
            time.sleep(PAUSE)
            answer = processes[framework].ask("round", plan.seconds)
            times[framework] += answer.get("times", [])
            if "wrong" in answer:
                row[framework] = answer
        longest = PATIENCE * min((min(t) for t in times.values() if t), default=math.inf)
    for framework, values in times.items():
        processes[framework].ask("drop")
        if values and "wrong" not in row[framework]:
            row[framework] |= {
                "median": statistics.median(values),
                "minimum": min(values),
                "samples": len(values),
            }
    return {f: answer for f, answer in row.items() if "absent" not in answer}


def throughput(
    plan: Plan, threads: int, done: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The rows of the plan's workloads, but for those that are done."""
    with plan.scratch() as scratch, started(plan, threads, scratch) as processes:
        for name in plan.workloads:
            if name not in done:
                yield name, measure(processes, name, plan)


def fresh(plan: Plan, name: str) -> dict[str, dict[str, float]]:
    """Per framework, of processes that did nothing before: first results and memory.

    `median` and `minimum` are seconds from a prepared import to the first result, `warm` the same
    with what the framework left in its caches on disk, `memory` the bytes above the import's.
    """
    timed = "cold" in WORKLOADS[name].tags
    firsts: dict[str, list[dict[str, float]]] = {}
    warm: dict[str, float] = {}
    for turn in range(COLD_RUNS if timed else 1):
        for framework in plan.frameworks:
            earlier = firsts.setdefault(framework, [])
            if earlier and earlier[0]["first"] > SLOW_COMPILE:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                earlier += first_result(plan, framework, name, scratch)
                if timed and turn == 0 and earlier:
                    for answer in first_result(plan, framework, name, scratch):
                        warm[framework] = answer["first"]
    row: dict[str, dict[str, float]] = {}
    for framework, answers in firsts.items():
        if not answers:
            continue
        cell = row[framework] = {"memory": statistics.median(a["memory"] for a in answers)}
        if timed:
            seconds = [a["first"] for a in answers]
            cell |= {"median": statistics.median(seconds), "minimum": min(seconds)}
            cell |= {"warm": warm[framework]} if framework in warm else {}
    return row


def first_result(plan: Plan, framework: str, name: str, scratch: str) -> list[dict[str, float]]:
    """What a new process answers; nothing where the framework cannot do the workload."""
    process = Process(plan, framework, 1, scratch)
    process.ask("hello")
    answer = process.ask("fresh", name)
    process.close()
    return [answer] if "first" in answer else []


def limits(plan: Plan, threads: int) -> dict[str, float]:
    """What the machine can do at best, measured in a process of its own."""
    run = subprocess.run(
        [plan.python, "-m", "benchmarks.limits", str(threads)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(run.stdout) if run.returncode == 0 else {}
    return found


IMPORT = "import time, numpy; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"


def imports(plan: Plan) -> dict[str, float]:
    """Seconds that importing a framework takes once NumPy is there (median of fresh processes)."""
    modules = {FRAMEWORKS[f].module: plan.interpreter(f) for f in plan.frameworks if f != "numpy"}
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(5):
            for module, python in modules.items():
                run = subprocess.run(
                    [python, "-c", IMPORT.format(module)],
                    cwd=ROOT,
                    env=environment(1, scratch),
                    capture_output=True,
                    text=True,
                )
                if run.returncode == 0:
                    times.setdefault(module, []).append(float(run.stdout))
    return {module: statistics.median(values) for module, values in times.items()}
