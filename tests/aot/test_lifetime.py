"""Libraries that leave: closed while workers sleep, processes that end while calls run."""

import subprocess
import sys

import pytest

from graphmill.codegen.aot.library import build_library
from tests.aot import kernels
from tests.aot.conftest import needs_cc, run

CLOSE = """
import _ctypes, ctypes, os, time
for _ in range(20):
    library = ctypes.CDLL({path!r})
    assert library.gml_d_set_threads(4) == 0
    x, out = (ctypes.c_float * 384)(), (ctypes.c_float * 320)()
    for _ in range(3):
        assert library.d_dense(x, out, ctypes.c_int64(64)) == 0
    assert library.d_dense(None, out, ctypes.c_int64(64)) == 1
    assert len(os.listdir("/proc/self/task")) == 4
    _ctypes.dlclose(library._handle)
    assert len(os.listdir("/proc/self/task")) == 1
    assert "libd.so" not in open("/proc/self/maps").read()
"""

# main returns while other threads are inside calls
ENDING = """
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include "d.h"
static void *forever(void *unused) {
  float *x = calloc(6 * 500, 4), *out = calloc(5 * 500, 4);
  for (;;) if (d_dense(x, out, 500) != GML_OK) abort();
  return unused;
}
int main(void) {
  pthread_t t;
  gml_d_set_threads(2);
  for (int i = 0; i < 3; ++i) pthread_create(&t, 0, forever, 0);
  usleep(20000);
  return 0;
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifetime")
    build_library([kernels.dense()[0]], folder / "libd.so")
    return folder


def test_closing_ends_the_workers(folder):
    code = CLOSE.format(path=str(folder / "libd.so"))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


@needs_cc
def test_a_process_may_end_during_calls(folder):
    (folder / "ending.c").write_text(ENDING)
    run("cc", "-O1", "ending.c", "-L.", "-ld", "-pthread", "-Wl,-rpath,.", "-o", "e", cwd=folder)
    for _ in range(15):
        subprocess.run(["./e"], check=True, cwd=folder, timeout=200)
