"""Libraries whose functions overwrite a donated argument, from C and from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from tests.aot.conftest import needs_cc, run

MAIN = """
#include <stdio.h>
#include HEADER

int main(void) {
  float cache[6] = {0, 1, 2, 3, 4, 5}, new[2] = {10, 20}, sum;
  int64_t at;
  for (at = 0; at < 3; at += 2)
    if (g_step(cache, new, &at, &sum, 3) != GML_OK) return 1;
  for (at = 0; at < 6; at++) printf("%g ", cache[at]);
  printf("%g\\n", sum);
  return g_step(cache, 0, &at, &sum, 3) != GML_BAD_ARGUMENT;
}
"""


@gm.jit(donate="cache")
def step(cache: Any, new: Any, at: Any) -> Any:
    cache[at] = new
    return cache.sum(), cache


def build(folder: Path) -> Any:
    specs = ["f32[n, 2]", "f32[2]", "i64[]"]
    return gm.build({"step": (step, specs)}, path=folder / "libsteps.so", prefix="g_")


def test_from_python(tmp_path: Path) -> None:
    built = build(tmp_path)
    header = " ".join(Path(built.header).read_text().split())
    assert "cache: input, overwritten with the output out[1]" in header
    assert "g_step(float *cache, const float *" in header
    library = gm.load(built.path)
    cache = np.zeros((4, 2), np.float32)
    for at in range(3):
        total, found = library.step(cache, np.ones(2, np.float32), np.int64(at))
        assert found is cache and total == 2 * (at + 1)
    with pytest.raises(ValueError, match="shares memory"):
        library.step(cache, cache[0], np.int64(0))
    cache.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        library.step(cache, np.ones(2, np.float32), np.int64(0))


@needs_cc
def test_from_c(tmp_path: Path) -> None:
    built = build(tmp_path)
    (tmp_path / "main.c").write_text(MAIN)
    options = ["-std=c99", "-Wall", "-Werror", f'-DHEADER="{built.header}"', f"-L{tmp_path}"]
    run("cc", *options, tmp_path / "main.c", "-lsteps", f"-Wl,-rpath,{tmp_path}",
        "-o", tmp_path / "main")  # fmt: skip
    assert run(tmp_path / "main").split() == ["10", "20", "2", "3", "10", "20", "65"]
    run("cc", *options, tmp_path / "steps_main.c", "-lsteps", f"-Wl,-rpath,{tmp_path}",
        "-o", tmp_path / "example")  # fmt: skip
    assert len(run(tmp_path / "example").splitlines()) == 3
