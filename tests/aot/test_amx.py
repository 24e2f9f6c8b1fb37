"""Libraries with AMX ask for it themselves; those without the instructions do not need it."""

import subprocess
import sys

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu.target import native
from tests.aot.conftest import LINKERS

# a process that has not asked, whose threads run before it loads the library
PROGRAM = """
import ctypes, sys, threading
import numpy as np
path, out = sys.argv[1:]
go = threading.Event()
a = np.arange(96 * 200, dtype=np.int8).reshape(96, 200)
b = np.arange(200 * 64, dtype=np.int8).reshape(200, 64)
found = []
def work():
    go.wait()
    c = np.zeros((96, 64), np.int32)
    status = library.t_product(*(ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)))
    found.append((status, c))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
library = ctypes.CDLL(path)
go.set()
for thread in threads:
    thread.join()
np.savez(out, status=[s for s, _ in found], c=[c for _, c in found], a=a, b=b)
"""


def product(a, b):
    return np.matmul(a.astype(np.int32), b.astype(np.int32))


@pytest.mark.parametrize("linker", LINKERS)
def test_a_library_asks_for_its_tiles(linker, tmp_path):
    specs = [gm.spec("i8[96, 200]"), gm.spec("i8[200, 64]")]
    path = tmp_path / "libt.so"
    built = gm.build(product, specs, path, target="x86-64-v4-amx", linker=linker)
    assert b"amx-int8" in built.path.read_bytes()
    if not native().is_x86:
        pytest.skip("the library is for x86-64")
    out = tmp_path / "out.npz"
    subprocess.run([sys.executable, "-c", PROGRAM, str(path), str(out)], check=True)
    with np.load(out) as found:
        if not native().has_tiles:
            assert (found["status"] == 4).all()
            return
        assert (found["status"] == 0).all()
        want = product(found["a"], found["b"])
        assert all((c == want).all() for c in found["c"])


def test_only_code_with_tiles_needs_them(tmp_path):
    specs = [gm.spec("f32[96, 200]"), gm.spec("f32[200, 64]")]
    built = gm.build(np.matmul, specs, tmp_path / "libt.so", target="x86-64-v4-amx")
    assert b"amx-int8" not in built.path.read_bytes()
