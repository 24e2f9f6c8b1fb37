"""`graphmill bench`: a user's function beside NumPy, in processes of their own."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from graphmill import bench
from graphmill.cli import main
from tests.cli import sample

SAMPLE = str(Path(__file__).with_name("sample.py"))
SHORT = ("--rounds", "1", "--seconds", "0")


def test_prints_times_of_both(capsys) -> None:
    main(["bench", f"{SAMPLE}:scores", "--spec", "f32[n,4]", "--spec", "w=f32[4,10]",
          "--size", "n=3", "--threads", "2", "--json", *SHORT])  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    (rows,) = found.values()
    assert list(found) == ["2"] and list(rows) == ["graphmill", "numpy"]
    assert all(0 < row["best"] <= row["median"] for row in rows.values())
    assert rows["graphmill"]["difference"] < 1e-5 and rows["numpy"]["difference"] == 0


def test_table_and_what_is_missing(capsys, monkeypatch) -> None:
    rows = {"graphmill": {"median": 1e-6, "best": 9e-7, "first": 0.2, "difference": 1e-7},
            "numpy": {"median": 3e-6, "best": 2e-6, "first": 1e-5, "difference": 0.0},
            "numba": {"failed": "not installed"}}  # fmt: skip
    monkeypatch.setattr(bench, "compare", lambda request, threads: {"1": rows})
    main(["bench", "a:b"])
    out = capsys.readouterr().out
    assert out.index("Graphmill") < out.index("NumPy") and "3.00" in out
    assert "Numba, 1 thread(s): not installed" in out


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("--spec", "f32[n]"), "dim n has no size"),
        (("--spec", "f32[3]", "--against", "matlab"), "choose among numpy, numba, jax, torch"),
        (("--spec", "f32[3]", "--threads", "0"), "write counts, such as 1,2"),
        ((), "missing a required argument"),
    ],
)
def test_errors(arguments, says, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", f"{SAMPLE}:softmax", *arguments, *SHORT])
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_a_contestant_that_fails_is_listed(monkeypatch) -> None:
    def refuse(*_):
        raise TypeError("no such function\nand more")

    monkeypatch.setitem(bench.CONTESTANTS, "numba", refuse)
    request = bench.Request(f"{SAMPLE}:softmax", ["f32[4]"], against=["numba"], rounds=1, seconds=0)
    rows = bench.measure(request)
    assert rows["numba"] == {"failed": "TypeError: no such function"}
    assert set(rows) == {"graphmill", "numba"}


def test_a_module_is_replaced_in_the_functions_of_a_file() -> None:
    other = types.ModuleType("other")
    other.exp = lambda x: x + 3
    moved = bench.rebound(sample.softmax, np, other)
    x = np.array([1.0, 3.0])
    assert moved(x).tolist() == [0.25, 0.75]
    assert np.allclose(sample.softmax(x), np.exp(x) / np.exp(x).sum())


def test_jax_gets_its_own_numpy(monkeypatch) -> None:
    pytest.importorskip("jax")
    call = bench.by_jax(sample.softmax, [np.arange(3.0)], {})
    assert np.allclose(call(), sample.softmax(np.arange(3.0)))
    assert "jax" in sys.modules


@pytest.mark.parametrize(
    "got, want, apart",
    [
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.inf], [1.0, np.inf], 0.0),
        ([1.0, 3.0], [1.0, 4.0], 0.25),
        ([1.0, np.nan], [1.0, 2.0], float("inf")),
        ([1.0], [1.0, 2.0], float("inf")),
        ([], [], 0.0),
    ],
)
def test_largest_difference(got, want, apart) -> None:
    assert bench.largest_difference(np.array(got), np.array(want)) == apart
