"""Other targets: CPUs that lack what a library needs, and aarch64 under emulation."""

import ctypes
import glob
import shutil

import numpy as np
import pytest

from graphmill.codegen.aot import cpu
from graphmill.codegen.aot.library import build_library
from graphmill.codegen.aot.signature import BuildError
from graphmill.codegen.cpu.target import native, target
from graphmill.runtime.library import LibraryError, load
from tests.aot import kernels
from tests.aot.asking import ask_cpu, foreign_program
from tests.aot.conftest import LINKERS, needs_lld, run

X86 = cpu.architecture(native()) == "x86_64"
on_x86 = pytest.mark.skipif(not X86, reason="asks an x86-64 CPU")


@on_x86
@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-amx"])
def test_the_cpu_is_checked(name, linker, tmp_path):
    here = {f[1:] for f in native().features.split(",") if f[0] == "+"}
    plain = target(name).without_tiles()  # which the function does not use
    missing = [f for f in cpu.features(plain) if f not in here]
    part, w, bias = kernels.dense(target=name)
    built = build_library([part], tmp_path / "libd.so", target=target(name), linker=linker)
    x, out = np.ones((3, 6), np.float32), np.zeros((3, 5), np.float32)
    code = ctypes.CDLL(str(built.path))
    status = code.d_dense(*(ctypes.c_void_p(a.ctypes.data) for a in (x, out)), ctypes.c_int64(3))
    if missing:
        assert status == code.gml_d_ready() == 4
        with pytest.raises(LibraryError, match=f"built for {name}: the CPU lacks {missing[0]}"):
            load(built.path)
    else:
        np.testing.assert_allclose(out, np.tanh(x @ w + bias), rtol=1e-4)
        np.testing.assert_array_equal(load(built.path).dense(x), out)


@on_x86
def test_what_cpuid_says_is_what_llvm_says(tmp_path):
    """The check's table, run on this CPU, against LLVM's own detection, feature by feature."""
    here = {f[1:] for f in native().features.split(",") if f[0] == "+"}
    assert ask_cpu(list(cpu._X86), tmp_path) == here & set(cpu._X86)


def emulator():
    """The command that runs aarch64 programs here, or None."""
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    roots = glob.glob("/usr/aarch64-linux-gnu")
    return [qemu, "-L", roots[0]] if qemu and roots else None


needs_qemu = pytest.mark.skipif(
    emulator() is None,
    reason="no qemu-user with a C library (packages qemu-user, libc6-arm64-cross)",
)


@needs_lld
def test_aarch64_links_on_any_machine(tmp_path):
    part = kernels.dense(target="aarch64")[0]
    built = build_library([part], tmp_path / "libd.so", target=target("aarch64"), linker="lld")
    assert built.bytes < 100_000
    if X86:
        with pytest.raises(LibraryError, match="is for aarch64"):
            load(built.path)


@needs_lld
@needs_qemu
def test_aarch64_runs_under_emulation(tmp_path):
    part, w, bias = kernels.dense(target="aarch64")
    built = build_library([part], tmp_path / "libd.so", target=target("aarch64"), linker="lld")
    command = emulator()
    program = foreign_program(built, "d", target("aarch64"), command[-1], tmp_path)
    numbers, _, message = run(*command, program).rpartition(" d_dense")
    x = np.arange(12, dtype=np.float32).reshape(2, 6) / 8
    out = np.array(numbers.split(), float)
    np.testing.assert_allclose(out, np.tanh(x @ w + bias).ravel(), rtol=1e-4)
    assert message == ": x is NULL\n"


def test_a_foreign_target_needs_the_wheel(monkeypatch, tmp_path):
    from graphmill.codegen.aot import link

    other = "aarch64" if X86 else "x86-64-v3"
    monkeypatch.setattr(link, "_zig", lambda: None)
    with pytest.raises(BuildError, match="pip install ziglang"):
        build_library([kernels.copy(target=other)], tmp_path / "libf.so", target=target(other))
    with pytest.raises(BuildError, match="no system compiler"):
        link.find(target(other), "cc")


@needs_lld
def test_no_compiler_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    built = build_library([kernels.copy()], tmp_path / "libf.so", target=target())
    assert load(built.path).copy(np.arange(3.0)).tolist() == [0, 1, 2]
