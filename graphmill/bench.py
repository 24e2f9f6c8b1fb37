"""`graphmill bench`: a function of the user's, compiled, beside NumPy and what else is installed.

Each thread count is measured in a process of its own, started as `python -m graphmill.bench`, so
that every library reads the count where it starts. There the contestants take turns.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

Call = Callable[[], Any]
Prepare = Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], Call]

OURS = "graphmill"
PAUSE = 0.02  # lets spinning threads of one contestant go to sleep before the next one's turn
SHORTEST_SAMPLE_NS = 50_000
THREAD_VARIABLES = (
    "GRAPHMILL_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What to measure: a function, its arguments' specs, and against whom."""

    target: str
    specs: Sequence[str]
    sizes: Mapping[str, int] = field(default_factory=dict)
    against: Sequence[str] = ("numpy",)
    seed: int = 0
    rounds: int = 5
    seconds: float = 0.1


# ---- contestants: each makes a call without arguments that returns when the result is there


def by_graphmill(function: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Call:
    from graphmill.api import Jit, jit

    compiled = function if isinstance(function, Jit) else jit(function)
    return functools.partial(compiled, *given, **named)


def by_numpy(function: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Call:
    return functools.partial(plain(function), *given, **named)


def by_numba(function: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Call:
    import numba

    return functools.partial(numba.njit(plain(function)), *given, **named)


def by_jax(function: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Call:
    """With NumPy's name bound to jax.numpy; 64-bit types on, as NumPy has them."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    compiled = jax.jit(rebound(plain(function), np, jnp))
    arrays = jax.tree.map(jnp.asarray, (tuple(given), dict(named)))
    return lambda: jax.block_until_ready(compiled(*arrays[0], **arrays[1]))


def by_torch(function: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Call:
    """torch.compile, which takes NumPy code and arrays as they are."""
    import torch

    return functools.partial(torch.compile(plain(function), dynamic=False), *given, **named)


CONTESTANTS: dict[str, Prepare] = {
    OURS: by_graphmill, "numpy": by_numpy, "numba": by_numba, "jax": by_jax, "torch": by_torch,
}  # fmt: skip
TITLES = {
    OURS: "Graphmill", "numpy": "NumPy", "numba": "Numba", "jax": "JAX", "torch": "torch.compile",
}  # fmt: skip


def plain(function: Any) -> Any:
    """The user's function without `gm.jit` around it."""
    from graphmill.api import Jit

    return function.function if isinstance(function, Jit) else function


def rebound(function: Any, old: types.ModuleType, new: types.ModuleType) -> Any:
    """The function, and its module's that it may call, with another module under a name."""
    seen = function.__globals__
    scope: dict[str, Any] = {k: new if v is old else v for k, v in seen.items()}
    for name, value in seen.items():
        if isinstance(value, types.FunctionType) and value.__globals__ is seen:
            scope[name] = _moved(value, scope)
    return _moved(function, scope)


def _moved(function: types.FunctionType, scope: dict[str, Any]) -> types.FunctionType:
    made = types.FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


# ---- measuring, in the process that has the threads


def samples(call: Call, seconds: float) -> list[float]:
    """Seconds per call: at least two samples, each long enough for the clock."""
    start = time.perf_counter_ns()
    call()
    once = max(time.perf_counter_ns() - start, 1)
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


def largest_difference(got: Any, want: Any) -> float:
    """The largest deviation of any result, as a share of its largest value; NaN equals NaN."""
    from graphmill.frontend.trees import flatten

    worst = 0.0
    for a, b in zip(flatten(got)[0], flatten(want)[0], strict=True):
        x, y = (np.asarray(v).astype(np.complex128) for v in (a, b))
        if x.shape != y.shape:
            return float("inf")
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0, np.nan_to_num(np.abs(x - y), nan=np.inf))
        scale = np.max(np.abs(y), initial=0, where=np.isfinite(y))
        worst = max(worst, float(np.max(apart, initial=0) / max(scale, 1e-30)))
    return worst


def measure(request: Request) -> dict[str, dict[str, Any]]:
    """Each contestant's times, in this process and with its threads."""
    from graphmill.commands import arguments, find_function

    function = find_function(request.target)
    given, named = arguments(request.target, request.specs, request.sizes, request.seed)
    rows: dict[str, dict[str, Any]] = {}
    calls: dict[str, Call] = {}
    want: Any = None
    for name in ("numpy", OURS, *(n for n in request.against if n not in ("numpy", OURS))):
        try:
            copies = [a.copy() for a in given], {k: a.copy() for k, a in named.items()}
            call = CONTESTANTS[name](function, *copies)
            start = time.perf_counter()
            result = call()
            rows[name] = {"first": time.perf_counter() - start}
        except Exception as error:  # whatever another library raises on this function
            first_line = str(error).strip().partition("\n")[0]
            rows[name] = {"failed": f"{type(error).__name__}: {first_line[:200]}"}
            continue
        want = result if want is None else want
        rows[name]["difference"] = largest_difference(result, want)
        calls[name] = call
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(request.rounds):
        for name in list(calls) if turn % 2 == 0 else reversed(calls):
            time.sleep(PAUSE)
            times[name] += samples(calls[name], request.seconds)
    for name, values in times.items():
        rows[name] |= {"median": statistics.median(values), "best": min(values)}
    wanted = {OURS, *request.against}
    return {name: rows[name] for name in CONTESTANTS if name in rows and name in wanted}


# ---- the command


def compare(request: Request, threads: Sequence[int]) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of each thread count: contestant -> times, or why it has none."""
    from graphmill.commands import CommandError

    unknown = [name for name in request.against if name not in CONTESTANTS]
    if unknown:
        peers = ", ".join(name for name in CONTESTANTS if name != OURS)
        raise CommandError(f"--against {unknown[0]}: choose among {peers}")
    missing = [n for n in request.against if importlib.util.find_spec(n) is None]
    present = [n for n in request.against if n not in missing]
    ask = json.dumps(asdict(request) | {"against": present})
    found = {}
    for count in threads:
        path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
        environment = (
            os.environ | dict.fromkeys(THREAD_VARIABLES, str(count)) | {"PYTHONPATH": path}
        )
        run = subprocess.run(
            [sys.executable, "-m", "graphmill.bench", str(count)],
            input=ask, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if run.returncode:
            raise CommandError(run.stderr.strip().removeprefix("graphmill: "))
        rows = json.loads(run.stdout.splitlines()[-1])
        found[str(count)] = rows | {name: {"failed": "not installed"} for name in missing}
    return found


def duration(seconds: float) -> str:
    """Three digits in the unit that fits: 0.76 µs, 12.3 ms, 1.20 s."""
    value, unit = seconds * 1e6, "µs"
    for larger in ("ms", "s"):
        if value >= 1000:
            value, unit = value / 1000, larger
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def table(threads: str, rows: Mapping[str, Mapping[str, Any]], table: Table) -> Iterator[str]:
    """Fill one thread count's rows, the quickest first; yields what went wrong."""
    ours = rows[OURS].get("median")
    timed = {name: row for name, row in rows.items() if "median" in row}
    for name in sorted(timed, key=lambda name: float(timed[name]["median"])):
        row = timed[name]
        share = f"{row['median'] / ours:.2f}" if ours else "–"
        style = "bold green" if name == OURS else None
        numbers = (duration(row[key]) for key in ("median", "best", "first"))
        table.add_row(threads, TITLES[name], *numbers, share, f"{row['difference']:.1e}",
                      style=style)  # fmt: skip
    for name, row in rows.items():
        if "failed" in row:
            yield f"{TITLES[name]}, {threads} thread(s): {row['failed']}"


def main() -> None:
    """Measure what stdin asks for and print the rows as the last line of stdout."""
    from graphmill.commands import describe

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
    try:
        rows = measure(Request(**json.loads(sys.stdin.read())))
    except Exception as error:
        print(describe(error), file=sys.stderr)
        sys.exit(2)
    print(f"\n{json.dumps(rows)}")


if __name__ == "__main__":
    main()
