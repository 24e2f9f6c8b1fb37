"""What was measured is kept: in one sealed entry, for all processes, and never trusted blindly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver, schedules
from graphmill.codegen.cpu.schedule import Schedule
from graphmill.codegen.cpu.target import native
from graphmill.driver import Options
from graphmill.runtime import cache as disk
from graphmill.runtime import threads
from graphmill.schedules import Measured, forget, known, machine_key, remember

ONE = Measured(Schedule((("tile", (8, 1)),)), 2e-3, 1e-3, "f.py:3", True)
TWO = Measured(Schedule((("depth", 128),)), 3e-3, 2e-3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMILL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(schedules, "_known", {})


def as_another_process() -> None:
    schedules._known.clear()


def test_what_is_found_is_there_again() -> None:
    remember(native(), {"a": ONE})
    as_another_process()
    assert known(native()) == {"a": ONE}
    assert driver.target(Options()).schedules == (("a", ONE.schedule),)


def test_the_models_own_schedule_changes_no_target() -> None:
    remember(native(), {"a": Measured(Schedule(), 1e-3, 1e-3, done=True)})
    assert driver.target(Options()) == native()


def entry(**kernels: Any) -> bytes:
    return json.dumps({"format": schedules.FORMAT, "kernels": kernels}).encode()


GOOD = {"schedule": {"tile": [8, 1]}, "default": 1, "best": 1, "place": "", "done": True}


@pytest.mark.parametrize(
    "content",
    [
        b"\xff", b"[1]", b"{}", b'{"format": 0, "kernels": {}}', entry(k=3), entry(k={}),
        entry(k=GOOD | {"schedule": {"tile": 1.5}}), entry(k=GOOD | {"default": "long"}),
        entry(k=GOOD | {"schedule": ["tile"]}),
    ],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_nothing(content: bytes) -> None:
    store = disk.default()
    assert store is not None
    store.put(machine_key(native()), content)
    with pytest.warns(disk.CacheWarning, match="make no sense"):
        assert known(native()) == {}


def test_a_damaged_entry_is_nothing() -> None:
    remember(native(), {"a": ONE})
    as_another_process()
    store = disk.default()
    assert store is not None
    path = next(store.folder.glob("*.gmc"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.warns(disk.CacheWarning, match="damaged"):
        assert known(native()) == {}


def test_another_process_adds_meanwhile() -> None:
    remember(native(), {"a": ONE})
    before = dict(schedules._known)
    as_another_process()
    remember(native(), {"b": TWO})
    schedules._known.clear()
    schedules._known.update(before)
    remember(native(), {"c": ONE})
    as_another_process()
    assert known(native()) == {"a": ONE, "b": TWO, "c": ONE}


ADD = """
from graphmill.codegen.cpu.schedule import Schedule
from graphmill.codegen.cpu.target import native
from graphmill.schedules import Measured, remember
import sys
for i in range(20):
    remember(native(), {f"{sys.argv[1]}{i}": Measured(Schedule(), 1.0, 1.0)})
"""


def test_two_that_write_lose_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # the key has the number of threads, which other tests change, and the place of our sources:
    # from the checkout's folder another process would import those that lie there
    monkeypatch.setenv("GRAPHMILL_NUM_THREADS", str(threads.num_threads()))
    both = [
        subprocess.Popen([sys.executable, "-c", ADD, name], cwd=tmp_path) for name in ("x", "y")
    ]
    assert [process.wait(200) for process in both] == [0, 0]
    assert known(native()).keys() == {f"{name}{i}" for name in "xy" for i in range(20)}


def test_without_a_cache_it_holds_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")
    remember(native(), {"a": TWO})
    assert known(native()) == {"a": TWO}


def test_forgetting() -> None:
    remember(native(), {"a": ONE, "b": TWO})
    assert forget(native()) == 2 and known(native()) == {}
    as_another_process()
    assert known(native()) == {}


W = np.random.default_rng(0).standard_normal((33, 65), dtype=np.float32)


def layer(x: Any) -> Any:
    return x @ W


def noted_in(folder: Path) -> str:
    (found,) = folder.glob("*/schedules.txt")
    return found.read_text()


def tile_of(text: str) -> str:
    return next(part for part in text.replace(",", " ").split() if part.startswith("tile="))


def test_libraries_have_what_was_measured_and_dumps_say_so(tmp_path: Path) -> None:
    specs = [gm.spec("f32[21, 33]")]
    with gm.dump(tmp_path / "before"):
        gm.build(layer, specs, tmp_path / "before.so")
    text = noted_in(tmp_path / "before")
    assert text.startswith("test_schedules.py:") and " default: " in text
    assert tile_of(text) != "tile=3x4"
    kernel = text.split("  ")[1]
    remember(native(), {kernel: Measured(Schedule((("tile", (3, 4)),)), 2.0, 1.0, "", True)})
    with gm.dump(tmp_path / "tuned"):
        built = gm.build(layer, specs, tmp_path / "tuned.so")
    text = noted_in(tmp_path / "tuned")
    assert " tuned: " in text and tile_of(text) == "tile=3x4"
    x = np.random.default_rng(0).standard_normal((21, 33), dtype=np.float32)
    np.testing.assert_allclose(gm.load(built.path).layer(x), layer(x), rtol=1e-4, atol=1e-4)

    schedules.write_file(tmp_path / "own.json", known(native()))
    forget(native())
    with gm.dump(tmp_path / "own"):
        gm.build(layer, specs, tmp_path / "own.so", schedules=tmp_path / "own.json")
    text = noted_in(tmp_path / "own")
    assert " own: " in text and tile_of(text) == "tile=3x4"


def test_a_file_that_holds_no_schedules(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text("{}")
    with pytest.raises(ValueError, match=r"wrong\.json holds no schedules"):
        gm.build(
            layer, [gm.spec("f32[21, 33]")], tmp_path / "l.so", schedules=tmp_path / "wrong.json"
        )
