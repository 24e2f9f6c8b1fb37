"""What this machine offers Graphmill, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from graphmill.records import record


@record
class Finding:
    """One fact: `ok`, `missing` (something optional) or `bad` (something needed), and advice."""

    what: str
    state: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything; nothing here raises."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", _python), ("graphmill", _graphmill), ("numpy", lambda: _package("numpy")),
        ("cpu", _cpu), ("vectors", _vectors), ("caches", _caches), ("threads", _threads),
        ("memory", _memory), ("mlir", _mlir), ("llvmlite", _llvmlite), ("jit", _jit),
        ("cc", _cc), ("ziglang", _zig), ("qemu", _qemu), ("compile cache", _cache),
        ("triton", lambda: _optional("triton", "only the Triton back end needs it")),
        ("scikit-learn", lambda: _optional("scikit-learn", "the digits example needs it")),
    ]  # fmt: skip
    findings = []
    for what, look in checks:
        try:
            findings.append(look())
        except Exception as error:
            findings.append(Finding(what, "bad", f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.platform()}"
    state = "ok" if sys.version_info >= (3, 11) else "bad"
    return Finding("python", state, found, "" if state == "ok" else "Python 3.11 is needed")


def _graphmill() -> Finding:
    import graphmill

    return Finding("graphmill", "ok", f"{graphmill.__version__} in {Path(graphmill.__path__[0])}")


def _package(name: str) -> Finding:
    return Finding(name, "ok", version(name))


def _optional(name: str, advice: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", "not installed", advice)


def _cpu() -> Finding:
    from graphmill.runtime.devices import device

    facts = device("cpu").describe()
    return Finding("cpu", "ok", ", ".join(f"{k} {v}" if k != "model" else v
                                          for k, v in facts.items()))  # fmt: skip


def _vectors() -> Finding:
    from graphmill.codegen.cpu.target import machine, native

    target = native()
    known = ("avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512vnni", "avx512bf16", "amx-tile",
             "amx-int8", "amx-bf16", "neon", "sve", "dotprod", "bf16")  # fmt: skip
    has = [name for name in known if target.has(name)]
    denied = machine().has_tiles and not target.has_tiles
    return Finding(
        "vectors", "ok", f"{target.vector_bits} bits × {target.registers} registers, "
        f"{target.cpu}: {' '.join(has) or 'baseline'}"
        f"{', AMX not permitted to this process' if denied else ''}",
    )  # fmt: skip


def _caches() -> Finding:
    from graphmill.codegen.cpu.target import native

    target = native()
    sizes = (("L1", target.l1), ("L2", target.l2), ("L3", target.l3))
    return Finding("caches", "ok", ", ".join(f"{name} {size >> 10} KiB" for name, size in sizes))


def _threads() -> Finding:
    from graphmill.runtime.threads import available, num_threads

    total = os.cpu_count() or 1
    usable = available()
    found = f"{num_threads()} used; {usable} usable (affinity and cgroup) of {total}"
    return Finding("threads", "ok", found)


def _memory() -> Finding:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    mode = huge.read_text().split("[")[1].split("]")[0] if huge.exists() else "unknown"
    limit = _cgroup_memory()
    bounded = f", cgroup limit {limit / 2**30:.1f} GiB" if limit else ""
    return Finding("memory", "ok", f"{pages / 2**30:.1f} GiB{bounded}, huge pages: {mode}")


def _cgroup_memory() -> int | None:
    for path in ("memory.max", "memory/memory.limit_in_bytes"):
        file = Path("/sys/fs/cgroup") / path
        if file.exists():
            text = file.read_text().strip()
            if text.isdecimal() and int(text) < 1 << 60:
                return int(text)
    return None


def _mlir() -> Finding:
    for package in ("mlir", "torch_mlir"):
        if find_spec(package) is not None:
            name = package.replace("_", "-")
            try:
                found = version(name)
            except PackageNotFoundError:
                found = "version unknown"
            return Finding("mlir", "ok", f"{name} {found}")
    return Finding("mlir", "bad", "not installed", "pip install torch-mlir (it needs no torch)")


def _llvmlite() -> Finding:
    import llvmlite
    from llvmlite.binding import llvm_version_info

    number = ".".join(map(str, llvm_version_info))
    return Finding("llvmlite", "ok", f"{llvmlite.__version__}, LLVM {number}")


def _jit() -> Finding:
    """Compile and run a small function, without the disk cache."""
    import time

    import numpy as np

    from graphmill import driver
    from graphmill.ir.builder import function
    from graphmill.ir.types import tensor
    from graphmill.runtime.executable import Executable

    made = function(
        "doctor", {"x": tensor("f32", "n")}, lambda b, x: b.op("add", b.op("exp", x), x)
    )
    start = time.perf_counter()
    executable = Executable(driver.build(made, driver.Options()))
    seconds = time.perf_counter() - start
    x = np.linspace(-1, 1, 37, dtype=np.float32)
    (got,) = executable.run(x)
    if not np.allclose(got, np.exp(x) + x, rtol=1e-5):
        return Finding("jit", "bad", "a small function gives wrong numbers", "please report this")
    return Finding("jit", "ok", f"a small function compiles in {seconds:.2f} s and runs right")


def _cc() -> Finding:
    advice = "gm.build links with the ziglang package instead, or install a C compiler"
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            said = _first_line([path, "--version"])
            return Finding("cc", "ok", f"{path}: {said}")
    return Finding("cc", "missing", "no C compiler in PATH", advice)


def _zig() -> Finding:
    advice = "needed to build for other targets: pip install ziglang"
    return _optional("ziglang", advice)


def _qemu() -> Finding:
    for name in ("qemu-aarch64", "qemu-aarch64-static"):
        path = shutil.which(name)
        if path:
            return Finding("qemu", "ok", f"{path}: {_first_line([path, '--version'])}")
    advice = "only needed to run aarch64 libraries here: apt-get install qemu-user-static"
    return Finding("qemu", "missing", "no qemu-aarch64 in PATH", advice)


def _cache() -> Finding:
    from graphmill.runtime import knobs
    from graphmill.runtime.cache import Cache

    if not knobs.cache():
        return Finding("compile cache", "missing", "turned off by GRAPHMILL_CACHE=0")
    folder = knobs.cache_dir()
    info = Cache(folder, knobs.cache_size()).info()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK):
        return Finding(
            "compile cache", "missing", f"{folder} cannot be written",
            "set GRAPHMILL_CACHE_DIR to a folder of your own",
        )  # fmt: skip
    used = f"{info.entries} entries, {info.bytes >> 10} KiB of {info.limit >> 20} MiB"
    return Finding("compile cache", "ok", f"{folder}: {used}")


def _first_line(command: list[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return (said.stdout or said.stderr).strip().split("\n")[0]
