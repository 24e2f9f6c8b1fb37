"""`load` on files that are no library, damaged ones, and libraries of others: clear errors."""

import random
import sys
from pathlib import Path

import pytest

from graphmill.runtime.library import LibraryError, load


def changed(demo, folder, change):
    data = bytearray(demo.built.path.read_bytes())
    path = folder / "libdemo.so"
    path.write_bytes(change(data) or data)
    return path


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\necho hello\n", bytes(1000)])
def test_not_a_library(content, tmp_path):
    path = tmp_path / "libx.so"
    path.write_bytes(content)
    with pytest.raises(LibraryError, match="is no shared library"):
        load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "libx.so")


def test_a_library_of_others():
    import _ctypes

    with pytest.raises(LibraryError, match="was not built by Graphmill"):
        load(_ctypes.__file__ if hasattr(_ctypes, "__file__") else sys.executable)


def test_cut_short(demo, tmp_path):
    size = demo.built.path.stat().st_size
    for keep in [*range(64, size, 397), size - 1]:
        path = changed(demo, tmp_path, lambda data, keep=keep: data[:keep])
        with pytest.raises(LibraryError, match=r"damaged|not built by"):
            load(path)


def test_flipped_bits(demo, tmp_path):
    size = demo.built.path.stat().st_size
    for at in range(0, size, 211):
        bit = 1 << random.Random(at).randrange(8)
        path = changed(
            demo, tmp_path, lambda data, at=at, bit=bit: data.__setitem__(at, data[at] ^ bit)
        )
        with pytest.raises(LibraryError):
            load(path)


def test_a_changed_library_can_be_loaded_on_purpose(demo, tmp_path):
    path = changed(demo, tmp_path, lambda data: data + b"signature")
    with pytest.raises(LibraryError, match="checksum"):
        load(path)
    assert load(path, verify=False).version == "2.3.4"


def test_machine_of_another_kind(demo, tmp_path):
    path = changed(demo, tmp_path, lambda data: data.__setitem__(18, 243))
    with pytest.raises(LibraryError, match="is for another machine"):
        load(path)


def test_load_needs_neither_compiler_nor_llvm(demo):
    import subprocess

    code = (
        "import sys, numpy as np\nfrom graphmill.runtime.library import load\n"
        f"lib = load({str(demo.built.path)!r})\nassert lib.copy(np.arange(3.0)).sum() == 3\n"
        "heavy = {'llvmlite', 'mlir', 'torch_mlir', 'graphmill.ir'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, cwd=Path("/"))
