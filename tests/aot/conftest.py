"""Libraries built once, with each linker there is, for the tests of this folder."""

import shutil
import subprocess
from types import SimpleNamespace

import pytest

from graphmill.codegen.aot import link
from graphmill.codegen.aot.library import build_library
from graphmill.codegen.cpu.target import target
from graphmill.runtime.library import load
from tests.aot import kernels

# tools that some machines lack; the reasons tell what to install
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler (package gcc)")
needs_cxx = pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler (package g++)")
needs_lld = pytest.mark.skipif(link._zig() is None, reason="no linker (pip install ziglang)")

LINKERS = [pytest.param("cc", marks=needs_cc), pytest.param("lld", marks=needs_lld)]


@pytest.fixture(scope="session", params=LINKERS)
def demo(request, tmp_path_factory):
    """A library of three functions: what was built, loaded, and the weights it was built with."""
    folder = tmp_path_factory.mktemp(f"demo_{request.param}")
    dense, w, bias = kernels.dense()
    parts = [dense, kernels.copy(), kernels.pick()]
    built = build_library(
        parts, folder / "libdemo.so", target=target("native"), linker=request.param,
        version="2.3.4", options={"threads": 2},
    )  # fmt: skip
    return SimpleNamespace(built=built, lib=load(built.path), w=w, bias=bias)


def run(*command, cwd=None):
    """Run a command that must succeed; its output."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
