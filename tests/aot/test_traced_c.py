"""Traced functions with sizes that must divide and with variables, called from C."""

import numpy as np

import graphmill as gm
from tests.aot.conftest import needs_cc, run

MAIN = """
#include <stdio.h>
#include HEADER

int main(void) {
  double x[12], sums[3], all[12], total, next;
  int i;
  for (i = 0; i < 12; i++) x[i] = i;
  if (g_groups(x, sums, all, 3) != GML_OK) return 1;
  for (i = 0; i < 3; i++) printf("%g ", sums[i]);
  printf("%g %g\\n", all[0], all[11]);
  total = 10;
  for (i = 0; i < 2; i++) {
    if (g_step(x + 2, &total, sums, &next) != GML_OK) return 2;
    total = next;
  }
  printf("%g %g %d\\n", sums[0], total, g_groups(x, sums, all, -1) == GML_BAD_DIM);
  return g_groups(x, sums, all, 0);
}
"""


@needs_cc
def test_called_from_c(tmp_path):
    total = gm.Variable(0.0, "total")

    def groups(x):
        made = np.zeros(x.shape[0])
        made[:] = x * 2
        return x.reshape(-1, 4).sum(1), made

    def step(x):
        total.assign_add(x[0])
        return total * 100

    functions = {"groups": (groups, ["f64[n]"]), "step": (step, ["f64[1]"])}
    built = gm.build(functions, path=tmp_path / "libgroups.so", prefix="g_")
    (tmp_path / "main.c").write_text(MAIN)
    header = f'-DHEADER="{built.header}"'
    run("cc", "-std=c99", "-Wall", "-Werror", header, tmp_path / "main.c", f"-L{tmp_path}",
        "-lgroups", f"-Wl,-rpath,{tmp_path}", "-o", tmp_path / "main")  # fmt: skip
    assert run(tmp_path / "main").splitlines() == ["6 22 38 0 22", "1400 14 1"]
