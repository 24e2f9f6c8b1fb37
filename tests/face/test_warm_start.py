"""A start from the compile cache: nothing that only compiling needs is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import numpy as np
import graphmill as gm

w = np.ones((300, 300), np.float32)
f = gm.jit(lambda x: np.tanh(x @ w) + x)
x = np.full((300, 300), 0.001, np.float32)
assert abs(float(f(x)[0, 0]) - np.tanh(0.3) - 0.001) < 1e-5
ours = ("frontend.trace", "frontend.ufuncs", "ir.printer", "ir.ops", "ir.verifier", "passes.fuse")
others = ("llvmlite", "mlir", "torch_mlir", "ml_dtypes")
print(*[n for n in (*others, *(f"graphmill.{name}" for name in ours)) if n in sys.modules])
mapped = open("/proc/self/maps").read()
print(*[n for n in ("libllvmlite", "CAPI") if n in mapped])
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="LLVM links other objects"
)
def test_no_part_of_the_compiler_is_loaded(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"GRAPHMILL_CACHE_DIR": str(tmp_path / "cache")}
    loaded = [
        subprocess.run(
            [sys.executable, str(program)],
            env=environment, check=True, capture_output=True, text=True,
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    assert {"libllvmlite", "CAPI", "graphmill.frontend.trace"} <= set(loaded[0])
    # compiling needs the libraries, not the packages around them
    assert not {"llvmlite", "mlir", "torch_mlir", "ml_dtypes"} & set(loaded[0])
    assert loaded[1] == []
