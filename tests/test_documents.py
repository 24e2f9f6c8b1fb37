"""The pages' programs run, and the facts they state about the tree are true."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_from_scratch_runs() -> None:
    program = [sys.executable, "-W", "error", str(ROOT / "docs" / "from_scratch.py")]
    run = subprocess.run(program, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "softmax: 3 kernels" in run.stdout
    assert "gelu: 1 kernels" in run.stdout


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)\b", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/index.md"])
def test_paths_in_code_spans_exist(page: str) -> None:
    """A folder or file of the tree named in a page is there."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    tops = "frontend|ir|passes|codegen|runtime|graphmill|examples|benchmarks|tests|docs"
    named = set(re.findall(rf"`((?:{tops})/[\w/.\-]*)`", text))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_scratch_compiler_agrees_on_odd_shapes() -> None:
    import numpy as np

    spec = importlib.util.spec_from_file_location("from_scratch", ROOT / "docs/from_scratch.py")
    assert spec and spec.loader
    scratch = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = scratch
    spec.loader.exec_module(scratch)
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 1), (1, 7), (5, 33)):
        x = rng.standard_normal(shape, dtype=np.float32) * 10
        for function in (scratch.softmax, scratch.gelu):
            expected = function(x.astype(np.float64))
            np.testing.assert_allclose(
                scratch.compile(function, [shape])(x), expected, rtol=2e-6, atol=1e-6
            )
