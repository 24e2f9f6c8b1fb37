"""Reports of stored results: tables, the page, pictures, and what a resumed run keeps."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks import pictures, report, session

PEERS = ("numpy", "jax", "iree")


def results() -> dict[str, Any]:
    rows = {
        "softmax": {
            "graphmill": {"median": 2e-3, "minimum": 1e-3},
            "numpy": {"median": 8e-3, "minimum": 8e-3},
            "jax": {"median": 3e-3, "minimum": 3e-3},
        },
        "matmul_256": {
            "graphmill": {"median": 4e-4, "minimum": 4e-4},
            "numpy": {"median": 3e-4, "minimum": 3e-4},
            "jax": {"wrong": "deviates"},
        },
    }
    fresh = {"median": 0.5, "minimum": 0.4, "warm": 0.1, "memory": 34e6}
    return {
        "date": "2026-01-01",
        "machine": {"cpu": "a CPU", "cores": 2, "vectors": ["avx2"], "python": "3.11"},
        "versions": {"graphmill": "0.1.0", "numpy": "2", "jax": "1", "iree": None},
        "throughput": {"1": rows, "2": rows},
        "limits": {"1": {"gflops": 100.0, "read": 25.0, "copy": 20.0}},
        "fresh": {"softmax": {"graphmill": fresh, "jax": fresh}},
        "imports": {"jax": 0.3},
    }


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_tables() -> None:
    text = report.markdown(results())
    assert lines(text, "| softmax | 2.00 ms | 8.00 ms | **3.00 ms** | 1.50 |")
    assert lines(text, "| matmul_256 | 400 µs | **300 µs** | failed | 0.75 |")
    assert "Missing: IREE." in text
    assert lines(text, "| all | 2 | 1 | 1 | 1.06 | 0.75 (matmul_256) |")
    assert lines(text, "| all of NPBench | 1 | 1 | 1 | 1.50 | 1.50 (softmax) |")
    assert lines(text, "| NumPy | 2 | 1 | 1.73 |")
    assert lines(text, "| softmax | 34 MB | – | 34 MB |")
    assert lines(text, "- matmul_256, 1 threads, JAX: deviates")
    (share,) = lines(text, "| matmul_256 | matmul 256 × 256 by 256 × 256 | arithmetic |")
    assert share.endswith("| 83.9 | 2.0 | 84% |")


def test_results_without_anything_measured() -> None:
    empty = results() | {"throughput": {}, "limits": {}, "fresh": {}, "imports": {}}
    assert "Versions" in report.markdown(empty)


@pytest.mark.parametrize(
    "seconds, text", [(7.6e-7, "0.76 µs"), (0.0123, "12.3 ms"), (1.2, "1.20 s"), (150, "150 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_page_keeps_what_people_wrote(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f"# Before\n\n{report.BEGIN}\nstale\n{report.END}\n\n## Losses\n\nby hand \\1\n"
    )
    for _ in range(2):
        report.update_page(results(), page, tmp_path)
    text = page.read_text()
    assert text.startswith("# Before\n") and text.endswith("\n## Losses\n\nby hand \\1\n")
    assert text.count(report.BEGIN) == text.count(report.END) == 1
    assert "stale" not in text and "| softmax |" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place for results"):
        report.update_page(results(), page, tmp_path)


def test_the_page_of_the_documentation_has_a_place() -> None:
    text = (program.ROOT / "docs" / "benchmarks.md").read_text()
    assert text.index(report.BEGIN) < text.index(report.END) < text.index("## Losses")


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert pictures.draw(results(), tmp_path)
    for name in pictures.NAMES:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_resuming_keeps_rows_of_the_same_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = results()
    monkeypatch.setattr(session, "versions", lambda plan: stored["versions"])
    monkeypatch.setattr(program.machine, "describe", lambda: stored["machine"])
    plan: Any = None
    assert program.begin(plan, tmp_path, resume=True)["throughput"] == {}
    (tmp_path / "results.json").write_text(json.dumps(stored))
    assert program.begin(plan, tmp_path, resume=True) == stored
    assert program.begin(plan, tmp_path, resume=False)["throughput"] == {}
    stored["versions"] = stored["versions"] | {"jax": "2"}
    with pytest.raises(SystemExit, match="other versions"):
        program.begin(plan, tmp_path, resume=True)


def test_limits_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import limits

    monkeypatch.setattr(limits, "SIZE", 1 << 16)
    monkeypatch.setattr(limits, "ROUNDS", 1 << 10)
    for threads in (1, 2):
        found = limits.limits(threads)
        assert set(found) == {"gflops", "read", "copy"}
        assert all(0.01 < rate < 1e5 for rate in found.values())
