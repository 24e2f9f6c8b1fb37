"""The examples and the programs in the pages run, from any folder, without warnings."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "docs/getting_started.md",
    "docs/inspecting.md",
    "docs/ahead_of_time.md",
]


def run(program: list[str], folder: Path) -> str:
    """The program's output; fails with its errors. An uninstalled graphmill is found, too."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *sys.path]))
    result = subprocess.run(
        [sys.executable, "-W", "error", *program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "GRAPHMILL_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("page", PAGES)
def test_page_runs(page: str, tmp_path: Path) -> None:
    """A page's Python programs, in order, are one program that runs."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks))
    run([str(program)], tmp_path)


def test_quickstart(tmp_path: Path) -> None:
    output = run([str(ROOT / "examples/quickstart.py")], tmp_path)
    assert "fusion" in output
    assert "square roots: [1.        1.4142135 3.       ]" in output


def test_heat(tmp_path: Path) -> None:
    output = run([str(ROOT / "examples/heat.py")], tmp_path)
    difference = re.search(r"largest difference from NumPy: (\S+) degrees", output)
    assert difference and float(difference[1]) < 1e-3


def test_decode(tmp_path: Path) -> None:
    output = run([str(ROOT / "examples/decode.py")], tmp_path)
    assert "with and without caches: the same words" in output


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_digits(tmp_path: Path) -> None:
    """The main job, with the C program giving the answers of the compiled one."""
    program = [str(ROOT / "examples/digits/digits.py"), "--no-race", "--out", str(tmp_path)]
    output = run(program, tmp_path)
    assert "353 of 360 held-out images right" in output
    assert "classifies 360 images with the same answers" in output
    assert (tmp_path / "dump" / "report.html").exists()


def test_trained_weights_are_the_scripts(tmp_path: Path) -> None:
    """weights.npz is what train.py makes, up to the rounding of another BLAS."""
    import numpy as np

    copied = tmp_path / "digits"
    shutil.copytree(ROOT / "examples/digits", copied)
    (copied / "weights.npz").unlink()
    output = run([str(copied / "train.py")], tmp_path)
    right = re.search(r"held out: (\d+) of 360", output)
    assert right and int(right[1]) >= 345
    with (
        np.load(copied / "weights.npz") as made,
        np.load(ROOT / "examples/digits/weights.npz") as w,
    ):
        assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in w.items()}
