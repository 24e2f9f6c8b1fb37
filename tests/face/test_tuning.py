"""Tuning: what wins is kept, used by later compilations, and never wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver, schedules, tuning
from graphmill.cli import main
from graphmill.codegen.cpu.contract.plan import make_plan
from graphmill.codegen.cpu.schedule import Schedule
from graphmill.codegen.cpu.target import native
from graphmill.driver import Options
from graphmill.frontend.trace import trace
from graphmill.ir.graph import Function
from graphmill.runtime import cache as disk

W = np.random.default_rng(0).standard_normal((33, 64), dtype=np.float32)
X = np.random.default_rng(1).standard_normal((21, 33), dtype=np.float32)
IMAGE = np.random.default_rng(2).standard_normal((1, 5, 9, 9), dtype=np.float32)
KERNEL = np.random.default_rng(3).standard_normal((7, 5, 3, 3), dtype=np.float32)


def layer(x: Any) -> Any:
    return np.maximum(x @ W, 0)


def traced(function: Any = layer, *arrays: Any) -> Function:
    return trace(function, arrays or (X,), {}).function


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMILL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(schedules, "_known", {})


@pytest.fixture
def favourite(monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """The schedule that alone seems quicker than the model's."""
    wanted = Schedule(rows=8, vectors=1)
    compiled = tuning.Kernel.compiled
    made: dict[int, Schedule] = {}

    def remembered(kernel: Any, target: Any, schedule: Schedule) -> Any:
        executable = compiled(kernel, target, schedule)
        made[id(executable)] = schedule
        return executable

    def turns(one: Any, other: Any, arrays: Any) -> tuple[float, float]:
        first, second = (1.0 if made[id(e)] == wanted else 2.0 for e in (one, other))
        return first, second

    monkeypatch.setattr(tuning.Kernel, "compiled", remembered)
    monkeypatch.setattr(tuning, "_turns", turns)
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.DEPTHS", (256,))
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.ROWS", (6, 8))
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.VECTORS", (1, 2))
    monkeypatch.setattr("graphmill.codegen.cpu.contract.space.BLOCKS", (48,))
    return wanted


def test_the_best_is_kept_and_used(favourite: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuning.Step] = []
    (found,) = tuning.tune(traced(), Options(), 60, steps.append)
    assert found.schedule == favourite and found.best == 1.0 and found.default == 2.0
    assert found.place.startswith("test_tuning.py:") and 0 < steps[-1].done <= 1
    monkeypatch.setattr(schedules, "_known", {})  # as in another process
    assert schedules.known(native()) == {found.kernel: favourite}
    (kernel,) = tuning.kernels(traced(), Options(), native())
    spec = kernel.product.spec
    assert make_plan(spec, driver.target(Options())).tile.rows == 8
    np.testing.assert_allclose(gm.jit(layer)(X), layer(X), rtol=1e-4, atol=1e-5)
    assert tuning.tune(traced(), Options(), 60) == []


def test_noise_is_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(0.5, 1.0), (1.0, 1.0)])
    monkeypatch.setattr(tuning, "_turns", lambda *_: next(answers, (1.0, 1.0)))
    monkeypatch.setattr(
        "graphmill.codegen.cpu.contract.space.coordinates",
        lambda *_: iter([(Schedule(rows=8, vectors=1),)]),
    )
    (found,) = tuning.tune(traced(), Options(), 60)
    assert found.schedule == Schedule()


def test_without_time_the_model_stands() -> None:
    (found,) = tuning.tune(traced(), Options(), 0)
    assert found.schedule == Schedule() and found.best == found.default > 0


def test_convolutions_and_loops_have_kernels() -> None:
    def body(x: Any) -> Any:
        def step(i: Any, y: Any) -> Any:
            return np.tanh(y @ W[:, :33])

        return gm.fori_loop(0, 3, step, x), gm.nn.conv2d(IMAGE * x[0, 0], KERNEL, padding=1)

    found = tuning.kernels(traced(body), Options(), native())
    assert any(not k.product.tile_only for k in found)


def test_symbolic_sizes_have_none() -> None:
    function = trace(layer, (gm.spec("f32[n, 33]"),), {}).function
    assert tuning.kernels(function, Options(), native()) == []
    assert tuning.tune(function, Options(), 1) == []


def test_a_wrong_candidate_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "agree", lambda *_: False)
    monkeypatch.setattr(
        "graphmill.codegen.cpu.contract.space.coordinates",
        lambda *_: iter([(Schedule(rows=8, vectors=1),)]),
    )
    with pytest.warns(tuning.TuningWarning, match="wrong with rows=8, vectors=1"):
        (found,) = tuning.tune(traced(), Options(), 60)
    assert found.schedule == Schedule()


@pytest.mark.parametrize(
    "content", [b"\xff", b"[1]", b'{"k": 3}', b'{"k": {"rows": "many"}}', b'{"k": {"x": 1}}']
)
def test_an_entry_that_makes_no_sense_is_nothing(content: bytes) -> None:
    store = disk.default()
    assert store is not None
    store.put(schedules.machine_key(native()), content)
    assert schedules.known(native()) == {}


def test_another_process_adds_meanwhile() -> None:
    one, two = Schedule(rows=8, vectors=1), Schedule(depth=128)
    schedules.remember(native(), {"a": one})
    store = disk.default()
    assert store is not None
    text = json.dumps({"b": two.as_dict()}).encode()
    store.put(schedules.machine_key(native()), text)
    schedules.remember(native(), {"c": one})
    schedules._known.clear()
    assert schedules.known(native()) == {"a": one, "b": two, "c": one}


def test_without_a_cache_it_holds_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")
    schedules.remember(native(), {"a": Schedule(depth=128)})
    assert schedules.known(native()) == {"a": Schedule(depth=128)}


def test_jit_tunes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(tuning, "tune", lambda function, options, seconds: asked.append(seconds))
    for _ in range(2):
        compiled = gm.jit(layer, tune=0.5)
        np.testing.assert_allclose(compiled(X), layer(X), rtol=1e-4, atol=1e-5)
    assert asked == [0.5]


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan"), "long"])
def test_jit_takes_seconds(wrong: Any) -> None:
    with pytest.raises(gm.GraphmillError, match="GM025"):
        gm.jit(layer, tune=wrong)


def test_other_targets_are_not_measured() -> None:
    with pytest.raises(ValueError, match="on this machine"):
        tuning.tune(traced(), Options(target="aarch64"), 1)
    assert driver.target(Options(target="x86-64-v3")).schedules == ()


def test_command(capsys: pytest.CaptureFixture[str], favourite: Schedule) -> None:
    arguments = ["tune", f"{__file__}:layer", "--spec", "f32[21,33]", "--seconds", "60"]
    main(arguments)
    out = capsys.readouterr().out
    assert "rows=8, vectors=1" in out and "2.00" in out
    main(arguments)
    assert "all were tuned before" in capsys.readouterr().out


def test_agreement() -> None:
    x = np.array([1.0, np.nan, np.inf], np.float32)
    assert tuning.agree([x], [x.copy()], 8)
    assert not tuning.agree([x + np.float32(1e-3)], [x], 8)
    assert not tuning.agree([np.array([1, 2])], [np.array([1, 3])], 8)
