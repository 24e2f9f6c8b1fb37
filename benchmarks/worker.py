"""One process per framework: takes orders as JSON lines, answers with times.

Orders: hello · prepare WORKLOAD · round SECONDS · drop · fresh WORKLOAD · quit. They come from
`benchmarks.session`.
"""

import functools
import gc
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frameworks import FRAMEWORKS, Call, NotWritten
from benchmarks.workload import Workload
from benchmarks.workloads import WORKLOADS

SHORTEST_SAMPLE_NS = 50_000
LONGEST_SAMPLE_NS = 2_000_000_000


def reference(workload: Workload, scratch: Path) -> np.ndarray[Any, Any]:
    """The float64 reference, computed by whoever comes first and kept for the others."""
    path = scratch / f"{workload.name}-{sources()}.npy"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, workload.reference())
        partial.rename(path)
    array: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
    return array


@functools.cache
def sources() -> str:
    """A digest of what defines the workloads: references of other sources are not read."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def memory_reset() -> int:
    """Bytes in use now; from here on the peak is counted anew, where Linux lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return memory_peak()
    return status("VmRSS")


def memory_peak() -> int:
    """The most bytes that were in use at once."""
    if Path("/proc/self/status").exists():
        return status("VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def array(result: Any) -> np.ndarray[Any, Any]:
    """A framework's result as an array; NumPy cannot read torch's bfloat16."""
    narrow = "torch.bfloat16" in str(getattr(result, "dtype", ""))
    return np.asarray(result.float() if narrow else result)


def samples(call: Call, seconds: float) -> list[float]:
    """Seconds per call: samples long enough for the clock, at least two but of a slow call."""
    start = time.perf_counter_ns()
    call()
    once = max(time.perf_counter_ns() - start, 1)
    if once > LONGEST_SAMPLE_NS:
        return [once / 1e9]
    number = max(1, SHORTEST_SAMPLE_NS // once)
    end = time.perf_counter_ns() + int(seconds * 1e9)
    times: list[float] = []
    gc.disable()
    while len(times) < 2 or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        for _ in range(number):
            call()
        times.append((time.perf_counter_ns() - start) / number / 1e9)
    gc.enable()
    return times


class Worker:
    """The state of a worker: its framework, its threads and the call it has prepared."""

    def __init__(self, framework: str, threads: int, scratch: Path) -> None:
        self.framework = FRAMEWORKS[framework]
        self.threads = threads
        self.scratch = scratch
        self.call: Call | None = None

    def hello(self) -> dict[str, Any]:
        return {"version": self.framework.version()}

    def fresh(self, name: str) -> dict[str, Any]:
        """Seconds to the first result of a process that prepared nothing before, and memory."""
        before = memory_reset()
        answer = self.prepare(name, checked=False)
        if self.call is not None:
            self.call()
        return answer | {"memory": memory_peak() - before}

    def prepare(self, name: str, checked: bool = True) -> dict[str, Any]:
        workload = WORKLOADS[name].with_data()
        start = time.perf_counter()
        call = self.framework.prepare(workload, self.threads)
        first_result = call()
        first = time.perf_counter() - start
        answer: dict[str, Any] = {"first": first}
        if checked:
            error = workload.error(array(first_result), reference(workload, self.scratch))
            answer["error"] = error
            if not error <= workload.tolerance:
                return {"wrong": f"deviates by {error:.2g}, allowed {workload.tolerance:.2g}"}
        self.call = call
        return answer

    def round(self, seconds: float) -> dict[str, Any]:
        assert self.call is not None
        return {"times": samples(self.call, seconds)}

    def drop(self) -> dict[str, Any]:
        self.call = None
        gc.collect()
        return {}

    def answer(self, order: list[Any]) -> dict[str, Any]:
        """Carry out one order; a failure of the framework is an answer, too."""
        verb, *arguments = order
        try:
            result: dict[str, Any] = getattr(self, verb)(*arguments)
            return result
        except NotWritten:
            return {"absent": True}
        except Exception as error:
            first_line = str(error).strip().partition("\n")[0]
            return {"wrong": f"{type(error).__name__}: {first_line[:300]}"}


def main() -> None:
    name, threads, scratch = sys.argv[1:4]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a framework prints must not mix with the answers
    worker = Worker(name, int(threads), Path(scratch))
    for line in sys.stdin:
        order = json.loads(line)
        if order == ["quit"]:
            break
        print(json.dumps(worker.answer(order)), file=replies)


if __name__ == "__main__":
    main()
