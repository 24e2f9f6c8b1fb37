"""Schedules found by measuring: `gm.jit(f, tune=seconds)` and `graphmill tune`.

Each matrix product of a planned function becomes a function of its own. Coordinate by coordinate
of its space (`codegen.cpu.contract.space`) the candidates are compiled, compared with the default's
results and timed in turns with the best so far. What wins is kept in the compile cache, in one
sealed entry for the machine, and is part of the target of every later compilation there.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.codegen.cpu.schedule import Schedule
from graphmill.codegen.workers import Workers
from graphmill.ir.graph import Block, Function, Op, Value, clone_op
from graphmill.runtime import cache as disk
from graphmill.runtime import threads
from graphmill.schedules import known, machine_key, remember

if TYPE_CHECKING:
    from graphmill.codegen.cpu.contract.plan import Plan
    from graphmill.codegen.cpu.contract.space import Product
    from graphmill.codegen.cpu.target import Target
    from graphmill.driver import Options
    from graphmill.runtime.executable import Executable

Progress = Callable[["Step"], None]

TURNS = 5  # of the candidate and of the best so far
TURN_SECONDS = 0.004
GAIN = 0.97  # of the best time: what is less of a gain may be noise
CONTROL = ("while", "cond", "scan")


class TuningWarning(UserWarning):
    """A candidate gave wrong results: a bug of Graphmill's, and the candidate is dropped."""


@dataclass(frozen=True)
class Step:
    """One measurement: which kernel, what was tried, how long it and the best so far take."""

    kernel: str
    place: str
    tried: Schedule
    seconds: float
    best: float
    done: float  # the share of the time that is used up


@dataclass(frozen=True)
class Tuned:
    """A kernel's result: seconds of the machine model's schedule and of the best one."""

    kernel: str
    place: str
    default: float
    best: float
    schedule: Schedule


# ---- kernels


@dataclass(frozen=True)
class Kernel:
    """A product of the user's, as a function that computes it alone."""

    product: Product
    function: Function
    place: str

    def compiled(self, target: Target, schedule: Schedule) -> Executable:
        """The kernel with a schedule, loaded."""
        from graphmill.codegen.cpu.generate import generate
        from graphmill.runtime.executable import Executable

        chosen = replace(target, schedules=((self.product.name, schedule),))
        artifact = generate(self.function, chosen, workers=Workers(threads.num_threads()))
        return Executable(artifact)


def kernels(function: Function, options: Options, target: Target) -> list[Kernel]:
    """The products of a function whose schedule can be chosen, each once."""
    from graphmill import driver
    from graphmill.codegen.cpu.generate import write
    from graphmill.passes.manager import run_pipeline

    if "fuse" not in options.passes or "memory" not in options.passes:
        return []
    fused = driver.optimise(function, options, stop="fuse")
    found: dict[str, Kernel] = {}
    for op in _kernel_ops(fused.block):
        alone = _alone(op)
        if alone is None:
            continue
        planned = run_pipeline(alone, "memory")
        for product in write(planned, target, profiled=False).products:
            if product.is_tuned:
                kernel = Kernel(product, planned, str(op.loc or function.name))
                found.setdefault(product.name, kernel)
    return list(found.values())


def _kernel_ops(block: Block) -> Iterator[Op]:
    """The products that are kernels, those in loops and branches too."""
    for op in block.ops:
        if op.name in CONTROL:
            for region in op.regions:
                yield from _kernel_ops(region.block)
        elif op.definition.fusion == "contract" or any(
            inner.definition.fusion == "contract"
            for region in op.regions
            for inner in region.block.ops
        ):
            yield op


def _alone(op: Op) -> Function | None:
    """A function of the op's operands, constants inside; None where a size is symbolic."""
    operands = list(dict.fromkeys(op.operands))
    if not all(v.tensor.is_static for v in (*operands, *op.results)):
        return None
    given = [v for v in operands if not _constant(v)]
    made = Function("tuned", [v.type for v in given], [f"x{i}" for i in range(len(given))], {})
    mapping: dict[Value, Value] = dict(zip(given, made.params, strict=True))
    for value in operands:
        if _constant(value) and value.op is not None:
            made.block.append(clone_op(value.op, mapping))
    copy = clone_op(op, mapping)
    made.block.append(copy)
    from graphmill.ir.builder import Builder

    Builder(made.block).end(*copy.results)
    return made


def _constant(value: Value) -> bool:
    return value.op is not None and value.op.name == "constant"


# ---- the search


def tune_once(function: Function, options: Options, seconds: float) -> None:
    """Tune a function unless that was done before, on this machine, in any process."""
    from graphmill.codegen.cpu.target import native
    from graphmill.keys import cache_key

    store = disk.default()
    if store is None:
        tune(function, options, seconds)
        return
    key = disk.key_of("tuned", cache_key(function, options, native()), machine_key(native()))
    if store.get(key, counted=False) is None:
        tune(function, options, seconds)
        store.put(key, b"tuned")


def tune(
    function: Function, options: Options, seconds: float, progress: Progress | None = None
) -> list[Tuned]:
    """Search schedules for the products of a traced function for about `seconds`; keep the best.

    Kernels that are known already are left alone. Only the machine that this runs on is tuned.
    """
    from graphmill.codegen.cpu.target import native

    if options.target != "native":
        raise ValueError(f"schedules are measured on this machine, not on {options.target}")
    target = native()
    todo = [k for k in kernels(function, options, target) if k.product.name not in known(target)]
    todo.sort(key=lambda kernel: -kernel.product.work)
    start, results = time.perf_counter(), []
    for number, kernel in enumerate(todo):
        begun = time.perf_counter()
        left = seconds - (begun - start)
        share = left * kernel.product.work / sum(k.product.work for k in todo[number:])
        whole = start, start + seconds
        results.append(Search(kernel, target, begun + share, whole, progress).run())
        remember(target, {kernel.product.name: results[-1].schedule})
    return results


class Search:
    """The search for one kernel until `end`; all of them run from `start` until `until`."""

    def __init__(
        self, kernel: Kernel, target: Target, end: float, whole: tuple[float, float],
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.kernel, self.target, self.end = kernel, target, end
        self.start, self.until = whole
        self.progress = progress
        self.arrays = _arrays(kernel.function)
        self.schedule = Schedule()
        self.best = kernel.compiled(target, self.schedule)
        self.seen = {self.plan(self.schedule)}
        self.wanted = self.best.run(*self.arrays)
        self.default = self.seconds = min(samples(self.best, self.arrays))

    def run(self) -> Tuned:
        """The best of every coordinate in turn, as far as the time goes."""
        from graphmill.codegen.cpu.contract.space import coordinates

        kernel, model = self.kernel, self.best
        tile, before = self.plan(self.schedule).tile, None
        while before != self.schedule and time.perf_counter() < self.end:
            before = self.schedule
            for values in coordinates(kernel.product, self.target, tile):
                for value in values:
                    if time.perf_counter() < self.end:
                        self.attempt(replace(self.schedule, **value.as_dict()))
        if self.best is not model:  # once more side by side: noise must not pass for a gain
            ours, defaults = _turns(self.best, model, self.arrays)
            self.seconds, self.default = ours, defaults
            if ours >= GAIN * defaults:
                self.schedule, self.seconds = Schedule(), defaults
        name = kernel.product.name
        return Tuned(name, kernel.place, self.default, self.seconds, self.schedule)

    def plan(self, schedule: Schedule) -> Plan:
        """What a schedule comes to here."""
        from graphmill.codegen.cpu.contract.plan import make_plan

        product = self.kernel.product
        chosen = replace(self.target, schedules=((product.name, schedule),))
        return make_plan(product.spec, chosen, units=True)

    def attempt(self, schedule: Schedule) -> None:
        """Compile, compare and time a schedule of a new plan; it becomes the best if it is."""
        plan = self.plan(schedule)
        if plan in self.seen:
            return
        self.seen.add(plan)
        candidate = self.kernel.compiled(self.target, schedule)
        if not agree(candidate.run(*self.arrays), self.wanted, self.kernel.product.spec.k or 1):
            text = f"{self.kernel.product.name} is wrong with {schedule}, which is not used"
            warnings.warn(f"{text}; please report this", TuningWarning, stacklevel=2)
            return
        seconds, best = _turns(candidate, self.best, self.arrays)
        if seconds < GAIN * best:
            self.schedule, self.best, self.seconds = schedule, candidate, seconds
        if self.progress is not None:
            now = time.perf_counter()
            share = min(1.0, (now - self.start) / max(self.until - self.start, 1e-9))
            name, place = self.kernel.product.name, self.kernel.place
            self.progress(Step(name, place, schedule, seconds, self.seconds, share))


def samples(executable: Executable, arrays: Sequence[Any]) -> list[float]:
    """Seconds of single runs during one turn, at least two."""
    times: list[float] = []
    end = time.perf_counter() + TURN_SECONDS
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        executable.run(*arrays)
        times.append(time.perf_counter() - start)
    return times


def _turns(one: Executable, other: Executable, arrays: Sequence[Any]) -> tuple[float, float]:
    """The shortest times of two that take turns."""
    found: tuple[list[float], list[float]] = [], []
    for _ in range(TURNS):
        found[0].extend(samples(one, arrays))
        found[1].extend(samples(other, arrays))
    return min(found[0]), min(found[1])


def agree(got: Sequence[Any], wanted: Sequence[Any], terms: int) -> bool:
    """Whether results differ by no more than the order of `terms` sums explains."""
    for a, b in zip(got, wanted, strict=True):
        if a.dtype.kind in "biu":
            if not np.array_equal(a, b):
                return False
            continue
        from graphmill.ir.dtypes import dtype

        x, y = a.astype(np.float64), b.astype(np.float64)
        unit = 2.0 ** -{16: 7, 32: 23, 64: 52}[dtype(a.dtype).bits]
        scale = float(np.max(np.abs(y), initial=0.0, where=np.isfinite(y)))
        if not np.allclose(x, y, rtol=0, atol=4 * terms**0.5 * unit * scale, equal_nan=True):
            return False
    return True


def _arrays(function: Function) -> list[Any]:
    from graphmill.commands import random_arrays

    return random_arrays(function, {}, seed=0)
