"""Tuning: what wins beyond noise is kept and used; nothing a candidate does harms the user."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver, schedules, tuning
from graphmill.cli import main
from graphmill.codegen.cpu.schedule import Schedule
from graphmill.codegen.cpu.target import native
from graphmill.driver import Options
from graphmill.frontend.trace import trace
from graphmill.ir.graph import Function
from graphmill.tuning import process, search, timing
from graphmill.tuning.kernels import Kernel, kernels
from graphmill.tuning.search import Point, Search
from graphmill.tuning.timing import Duel

W = np.random.default_rng(0).standard_normal((33, 64), dtype=np.float32)
X = np.random.default_rng(1).standard_normal((21, 33), dtype=np.float32)
IMAGE = np.random.default_rng(2).standard_normal((1, 5, 9, 9), dtype=np.float32)
KERNEL = np.random.default_rng(3).standard_normal((7, 5, 3, 3), dtype=np.float32)


def layer(x: Any) -> Any:
    return np.maximum(x @ W, 0)


def traced(function: Any = layer, *arrays: Any) -> Function:
    return trace(function, arrays or (X,), {}).function


def the_kernel(function: Any = layer, *arrays: Any) -> Kernel:
    (kernel,) = kernels(traced(function, *arrays), Options(), native(), {})
    return kernel


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMILL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(schedules, "_known", {})


# ---- kernels


def test_kernels_of_every_kind_are_found() -> None:
    def body(x: Any) -> Any:
        def step(i: Any, y: Any) -> Any:
            return np.tanh(y @ W[:, :33])

        image = gm.nn.conv2d(IMAGE * x[0, 0], KERNEL, padding=1)
        return gm.fori_loop(0, 3, step, x), image, gm.nn.softmax(x), (x * x).sum(0)

    found = kernels(traced(body), Options(), native(), {})
    kinds = {name.split()[0].split("_")[0] for kernel in found for name in kernel.names}
    assert {"gemm", "conv", "reduce", "mul"} <= kinds
    assert all(kernel.place.startswith("test_tuning.py:") for kernel in found)
    assert [k.estimate for k in found] == sorted((k.estimate for k in found), reverse=True)


def test_prepared_weights_are_constants() -> None:
    """A folded norm makes a weight of weights when the code is loaded: no kernel of its own."""
    scale = np.linspace(0.5, 2, 7, dtype=np.float32)

    def block(x: Any) -> Any:
        y = gm.nn.conv2d(x, KERNEL, padding=1)
        return gm.nn.relu(gm.nn.batch_norm(y, scale, scale, scale, scale))

    optimised = driver.optimise(traced(block, IMAGE), Options(), stop="fuse")
    assert any(op.name == "prepare" for op in optimised.walk())
    (kernel,) = kernels(traced(block, IMAGE), Options(), native(), {})
    assert [v.tensor.shape for v in kernel.function.params] == [IMAGE.shape]


def test_equal_kernels_are_one() -> None:
    def twice(x: Any) -> Any:
        return layer(layer(x)[:, :33])

    counts = [
        k.count for k in kernels(traced(twice), Options(), native(), {}) if "gemm" in k.names[0]
    ]
    assert counts == [2]


def test_symbolic_sizes_are_those_of_the_call() -> None:
    function = trace(layer, (gm.spec("f32[n, 33]"),), {}).function
    assert kernels(function, Options(), native(), {}) == []
    (kernel,) = kernels(function, Options(), native(), {"n": 21})
    assert list(kernel.function.dims) == ["n"]
    assert tuning.sizes_of(function, [X]) == {"n": 21}
    found = Search(kernel.function, native(), 1, {"n": 21}, {})
    assert found.arrays[0].shape == (21, 33)


# ---- the search


@dataclass
class Favourite:
    """Timing in which one value of one choice is twice as quick as all others."""

    name: str
    value: Any

    def seconds(self, point: Point) -> float:
        chosen = [schedule.get(self.name) for schedule in point.schedules.values()]
        return 1.0 if self.value in chosen else 2.0

    def duel(self, one: Any, other: Any) -> Duel:
        first, second = (self.seconds(call.__closure__[0].cell_contents) for call in (one, other))
        return Duel((first,) * 7, (second,) * 7)


@pytest.fixture
def favourite(monkeypatch: pytest.MonkeyPatch) -> Favourite:
    wanted = Favourite("tile", (8, 1))
    monkeypatch.setattr(search, "duel", wanted.duel)
    monkeypatch.setattr(search, "_loaded", lambda point, arrays: lambda: point)
    monkeypatch.setattr(search, "quickest", lambda call: 2.0)
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.DEPTHS", (256,))
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.ROWS", (6, 8))
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.VECTORS", (1, 4))
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.BLOCKS", (48,))
    return wanted


def never() -> float:
    return float("inf")


def test_the_best_is_found(favourite: Favourite) -> None:
    found = Search(the_kernel().function, native(), 1, {}, {})
    tried = list(found.steps(never))
    (schedule,) = found.best.schedules.values()
    assert schedule.get("tile") == (8, 1) and found.is_done
    assert (found.model.seconds, found.best.seconds) == (2.0, 1.0)
    assert 0.5 in [step.ratio for step in tried] and len(tried) > 1


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_for_threads_is_not_tried_on_one(threads: int, favourite: Favourite) -> None:
    kernel = the_kernel(lambda x: gm.nn.conv2d(x, KERNEL), IMAGE)
    found = Search(kernel.function, native(), threads, {}, {})
    schedules = [one for tried in found.steps(never) for one in tried.schedules.values()]
    assert ("grain" in [name for one in schedules for name, _ in one.chosen]) == (threads > 1)
    assert found.is_done


def test_what_is_known_is_where_it_starts(favourite: Favourite) -> None:
    kernel = the_kernel()
    start = {kernel.names[0]: Schedule((("tile", (8, 1)),))}
    found = Search(kernel.function, native(), 1, {}, start)
    assert found.best.schedules == start and found.best.seconds == 1.0


def test_noise_is_no_gain(monkeypatch: pytest.MonkeyPatch, favourite: Favourite) -> None:
    answers = iter([Duel((1.0,) * 7, (2.0,) * 7), Duel((1.99,) * 7, (2.0,) * 7)])
    monkeypatch.setattr(search, "duel", lambda *_: next(answers, Duel((3.0,), (2.0,))))
    found = Search(the_kernel().function, native(), 1, {}, {})
    list(found.steps(never))
    assert found.best is found.model


@pytest.mark.parametrize(("last", "kept"), [(1.0, True), (1.99, False), (3.0, False)])
def test_the_best_must_win_again_at_the_end(
    last: float, kept: bool, monkeypatch: pytest.MonkeyPatch, favourite: Favourite
) -> None:
    found = Search(the_kernel().function, native(), 1, {}, {})
    list(found.steps(never))
    monkeypatch.setattr(search, "duel", lambda *_: Duel((last,) * 7, (2.0,) * 7))
    found.confirm()
    assert (found.best is not found.model) is kept
    assert found.best.seconds == (last if kept else 2.0)


def test_a_wrong_candidate_is_dropped(
    monkeypatch: pytest.MonkeyPatch, favourite: Favourite
) -> None:
    monkeypatch.setattr(search, "agree", lambda *_: False)
    found = Search(the_kernel().function, native(), 1, {}, {})
    assert {step.ratio == step.ratio for step in found.steps(never)} == {False}
    assert found.best is found.model


def test_what_is_banned_is_not_tried(favourite: Favourite) -> None:
    found = Search(the_kernel().function, native(), 1, {}, {}, banned=lambda schedules: True)
    assert list(found.steps(never)) == [] and found.is_done


@pytest.mark.parametrize(
    ("one", "other", "gain"),
    [
        ([0.9] * 7, [1.0] * 7, True),
        ([0.99] * 7, [1.0] * 7, False),  # too little
        ([0.9] * 5 + [1.1] * 2, [1.0] * 7, False),  # not in nearly all turns
        ([0.9] * 6 + [1.1], [1.0] * 7, True),
        ([0.9] * 7, [1.0] * 6 + [0.9], False),  # not at best
        ([2.0], [1.0], False),  # given up after a turn
    ],
)
def test_a_gain_is_more_than_noise(
    one: Sequence[float], other: Sequence[float], gain: bool
) -> None:
    assert Duel(tuple(one), tuple(other)).is_gain is gain


def test_a_duel_ends_where_there_is_no_hope(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timing.quickest(lambda: time.sleep(0.01)) >= 0.01
    monkeypatch.setattr(timing, "quickest", lambda call: call())
    assert len(timing.duel(lambda: 1.3, lambda: 1.0).one) == 1
    assert len(timing.duel(lambda: 1.2, lambda: 1.0).one) == timing.TURNS


def test_agreement() -> None:
    x = np.array([1.0, np.nan, np.inf], np.float32)
    assert timing.agree([x], [x.copy()], 8)
    assert not timing.agree([x + np.float32(1e-3)], [x], 8)
    assert not timing.agree([np.array([1, 2])], [np.array([1, 3])], 8)
    assert timing.agree([x.astype(np.complex64)], [x.astype(np.complex64)], 8)


# ---- the process


class Running:
    """Seconds in which this process may run: without those for which the machine holds it up."""

    def __enter__(self) -> Running:
        self.seconds, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self.count)
        self.thread.start()
        return self

    def count(self) -> None:
        before = time.monotonic()
        while not self.over.wait(0.02):
            now = time.monotonic()
            self.seconds += min(now - before, 0.2)
            before = now

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def test_a_real_search_keeps_its_time() -> None:
    steps: list[tuning.Step] = []
    with Running() as running:
        tuned = tuning.tune(traced(), Options(), 4, progress=steps.append)
    assert running.seconds < 4 + process.GRACE + 10
    assert not tuned.interrupted and set(tuned.found) <= {the_kernel().names[0]}
    assert all(step.place.startswith("test_tuning.py:") and step.done <= 1 for step in steps)
    np.testing.assert_allclose(gm.jit(layer)(X), layer(X), rtol=1e-4, atol=1e-5)


SCRIPT = """
import json, os, pathlib, sys, time
job = json.loads((pathlib.Path(sys.argv[1]) / "job.json").read_text())
def tell(event, **what):
    print(json.dumps({"event": event, "kernel": 0, **what}), flush=True)
schedules = {NAME: {"tile": [8, 1]}}
best = dict(schedules=schedules, default=2.0, best=1.0, done=True)
"""


def worker_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a script of these lines take the worker's part."""
    script = folder / "worker.py"
    script.write_text(SCRIPT.replace("NAME", repr(the_kernel().names[0])) + does)
    monkeypatch.setattr(process, "COMMAND", [sys.executable, str(script)])


def test_what_the_worker_finds_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that('tell("best", **best)', tmp_path, monkeypatch)
    tuned = tuning.tune(traced(), Options(), 100)
    (name,) = tuned.found
    assert driver.target(Options()).schedules == ((name, Schedule((("tile", (8, 1)),))),)
    np.testing.assert_allclose(gm.jit(layer)(X), layer(X), rtol=1e-4, atol=1e-5)
    assert tuning.tune(traced(), Options(), 100).found == {}  # it is done


CRASH = """
tell("try", schedules=schedules)
if not job["banned"]:
    sys.stderr.write("LLVM ERROR: no\\n"); sys.stderr.flush()
    os.abort()
assert job["banned"] == [[0, schedules]]
tell("best", **(best | {"schedules": {}, "best": 2.0}))
"""


def test_a_crash_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that(CRASH, tmp_path, monkeypatch)
    with pytest.warns(tuning.TuningWarning, match=r"tile=8x1 ended by signal 6: LLVM ERROR: no"):
        tuned = tuning.tune(traced(), Options(), 100)
    (found,) = tuned.found.values()
    assert found.schedule == Schedule() and found.done


def test_what_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that(CRASH.replace("os.abort()", "time.sleep(1000)"), tmp_path, monkeypatch)
    events, workers = process.Worker.events, []

    def heard(self: process.Worker) -> Iterator[process.Event]:
        """Only when the first one has spoken, its silence is short: all else may take long."""
        workers.append(self)
        monkeypatch.setattr(process, "SILENCE", 1000.0)
        for event in events(self):
            monkeypatch.setattr(process, "SILENCE", 0.1 if len(workers) == 1 else 1000.0)
            yield event

    monkeypatch.setattr(process.Worker, "events", heard)
    with pytest.warns(tuning.TuningWarning, match="tile=8x1 hangs"):
        assert len(tuning.tune(traced(), Options(), 100).found) == 1


def test_a_worker_that_fails_at_once_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_that('sys.exit("no memory")', tmp_path, monkeypatch)
    with pytest.warns(tuning.TuningWarning, match="exit code 1: no memory") as warned:
        assert tuning.tune(traced(), Options(), 100).found == {}
    assert len(warned) == 1


def test_time_is_over_though_the_worker_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_that('tell("best", **best); time.sleep(1000)', tmp_path, monkeypatch)
    events, start = process.Worker.events, time.monotonic()

    def heard(self: process.Worker) -> Iterator[process.Event]:
        for event in events(self):
            yield event
            self.end = time.monotonic()  # it is over with the first word, whenever that comes

    monkeypatch.setattr(process.Worker, "events", heard)
    assert len(tuning.tune(traced(), Options(), 1000).found) == 1
    assert time.monotonic() - start < 250


INTERRUPT = """
tell("tried", schedules=schedules, ratio=0.9)
sys.stdin.read()
tell("best", **best)
"""


def test_ctrl_c_keeps_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that(INTERRUPT, tmp_path, monkeypatch)

    def interrupt(step: tuning.Step) -> None:
        raise KeyboardInterrupt

    tuned = tuning.tune(traced(), Options(), 60, progress=interrupt)
    assert tuned.interrupted and len(tuned.found) == 1
    assert schedules.known(native()) == tuned.found


def test_a_wrong_result_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that('tell("tried", schedules=schedules, ratio=None)', tmp_path, monkeypatch)
    with pytest.warns(tuning.TuningWarning, match="is wrong with tile=8x1"):
        tuning.tune(traced(), Options(), 100)


# ---- the faces


def test_jit_tunes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def tune(function: Any, options: Any, seconds: float, sizes: Any) -> tuning.Tuned:
        asked.append((seconds, sizes))
        return tuning.Tuned()

    monkeypatch.setattr(tuning, "tune", tune)
    for _ in range(2):
        compiled = gm.jit(layer, tune=0.5, dynamic={"x": ("n", None)})
        np.testing.assert_allclose(compiled(X), layer(X), rtol=1e-4, atol=1e-5)
    assert asked == [(0.5, {"n": 21})]


SECOND_PROCESS = """
import sys
import numpy as np
import graphmill as gm
from graphmill import schedules, tuning
from graphmill.codegen.cpu.target import native
from graphmill.tuning import process

if sys.argv[1] == "second":
    tuning.tune = None  # there is nothing to do
else:
    entry = tuning._Session._entry
    tuning._Session._entry = lambda self, one: entry(self, one) | {"names": one.names}
    process.COMMAND = [sys.executable, sys.argv[2]]
layers = [np.random.default_rng(k).standard_normal((64, 64), np.float32) / 8 for k in range(3)]

def network(x):
    for w in layers:
        x = gm.nn.softmax(np.maximum(x @ w, 0) + x)
    return x

x = np.random.default_rng(9).standard_normal((40, 64), np.float32)
plain, tuned = gm.jit(network)(x), gm.jit(network, tune=100)(x)
np.testing.assert_allclose(tuned, plain, rtol=1e-4, atol=1e-6)
print({name: found.schedule.as_dict() for name, found in schedules.known(native()).items()})
"""


FINDS_ALL = """
for number, kernel in enumerate(job["kernels"]):
    schedules = {name: {"tile": [8, 1]} for name in kernel["names"] if "gemm" in name}
    tell("best", **(best | {"kernel": number, "schedules": schedules}))
"""


def test_another_process_uses_what_was_tuned(tmp_path: Path) -> None:
    script, worker = tmp_path / "network.py", tmp_path / "worker.py"
    script.write_text(SECOND_PROCESS)
    worker.write_text(SCRIPT.replace("NAME", "''") + FINDS_ALL)
    said = [
        subprocess.run(
            [sys.executable, script, turn, worker], check=True, capture_output=True, text=True
        ).stdout
        for turn in ("first", "second")
    ]
    assert said[0] == said[1] and "gemm" in said[0]


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan"), "long"])
def test_jit_takes_seconds(wrong: Any) -> None:
    with pytest.raises(gm.GraphmillError, match="GM025"):
        gm.jit(layer, tune=wrong)


def test_other_targets_are_not_measured() -> None:
    with pytest.raises(ValueError, match="on this machine"):
        tuning.tune(traced(), Options(target="aarch64"), 1)
    assert driver.target(Options(target="x86-64-v3")).schedules == ()


def test_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_that('tell("best", **best)', tmp_path, monkeypatch)
    arguments = ["tune", f"{__file__}:layer", "--spec", "f32[21,33]", "--seconds", "100"]
    main(arguments)
    row = next(line for line in capsys.readouterr().out.splitlines() if "gemm" in line)
    assert "2.00 s" in row and "1.00 s" in row and "tile=8x1" in row
    main(arguments)
    assert "nothing to show" in capsys.readouterr().out
    main(["tune", "--show"])
    assert "tile=8x1" in capsys.readouterr().out
    main(["tune", "--clear"])
    assert "forgotten: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune"], "tune needs a function"),
        (["tune", f"{__file__}:layer", "--spec", "f32[n,33]"], "dim n has no size"),
    ],
)
def test_command_says_what_is_missing(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
