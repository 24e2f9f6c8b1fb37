"""Weights in a file of their own: checked before use, refused when damaged or another's."""

import shutil

import numpy as np
import pytest

from graphmill.codegen.aot import weights
from graphmill.codegen.aot.library import build_library
from graphmill.codegen.aot.signature import BuildError
from graphmill.codegen.artifact import Artifact, Constant
from graphmill.codegen.cpu.target import target
from graphmill.runtime.library import Library, LibraryError, _check, _open, load
from tests.aot import kernels
from tests.aot.conftest import LINKERS, needs_cc, run

pytestmark = pytest.mark.sampled(2)

X = np.ones((2, 6), np.float32)


@pytest.fixture(scope="module", params=LINKERS)
def apart(request, tmp_path_factory):
    """A library with its weights beside it, its folder, and what it must compute."""
    folder = tmp_path_factory.mktemp(f"apart_{request.param}")
    part, w, bias = kernels.dense()
    built = build_library(
        [part], folder / "libd.so", target=target(), embed_weights=False, linker=request.param
    )
    return built, np.tanh(X @ w + bias)


def fresh(apart, folder):
    """The library copied to `folder`, so that it starts without weights; and its weights' path."""
    built, _ = apart
    for path in (built.path, built.weights):
        shutil.copy(path, folder / path.name)
    name, digest = _check(folder / "libd.so", True)
    path = folder / "libd.so"
    return Library(path, name, _open(path, digest)), folder / built.weights.name


def test_load_finds_them(apart):
    built, expected = apart
    lib = load(built.path)
    np.testing.assert_allclose(lib.dense(X), expected, rtol=1e-4)
    assert lib.metadata["weights"]["file"] == "d.weights" == built.weights.name
    assert built.weights.stat().st_size == weights.HEADER + 192
    lib.load_weights("/nowhere")  # they are there: nothing to do


def test_a_call_before_loading(apart, tmp_path):
    lib, path = fresh(apart, tmp_path)
    with pytest.raises(LibraryError, match="call gml_d_load_weights first"):
        lib.dense(X)
    lib.load_weights(path)
    np.testing.assert_allclose(lib.dense(X), apart[1], rtol=1e-4)


def test_weights_elsewhere(apart, tmp_path):
    lib, path = fresh(apart, tmp_path)
    moved = path.rename(tmp_path / "other.bin")
    with pytest.raises(LibraryError, match=r"d\.weights cannot be opened"):
        load(lib.path)
    assert load(lib.path, weights=moved).dense(X).shape == (2, 5)


# every byte of the header that has a meaning, its padding aside, and some of the block
@pytest.mark.parametrize("at", [*range(32), 4096, 4099, 4200, -65, -1])
def test_a_changed_byte(apart, tmp_path, at):
    lib, path = fresh(apart, tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(LibraryError, match="damaged or belongs to another library"):
        lib.load_weights(path)


@pytest.mark.parametrize("size", [0, 100, 4096, 4287])
def test_cut_short(apart, tmp_path, size):
    lib, path = fresh(apart, tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(LibraryError, match="another size"):
        lib.load_weights(path)


def test_swapped_words_are_noticed(apart, tmp_path):
    lib, path = fresh(apart, tmp_path)
    data = bytearray(path.read_bytes())
    data[4096:4104], data[4104:4112] = data[4104:4112], data[4096:4104]
    path.write_bytes(data)
    with pytest.raises(LibraryError, match="damaged"):
        lib.load_weights(path)


def test_weights_of_another_build(apart, tmp_path):
    lib, _ = fresh(apart, tmp_path)
    other = build_library(
        [kernels.dense(seed=9)[0]], tmp_path / "libo.so", target=target(), embed_weights=False
    )
    with pytest.raises(LibraryError, match="belongs to another library"):
        lib.load_weights(other.weights)


@needs_cc
def test_the_c_example_loads_them(apart):
    folder = apart[0].path.parent
    run("cc", "-Wall", "-Werror", "d_main.c", "-L.", "-ld", "-Wl,-rpath,.", "-o", "p", cwd=folder)
    assert run("./p", cwd=folder).startswith("d 1.0.0\ndense out:")


def test_embedded_needs_no_file(tmp_path):
    built = build_library([kernels.dense()[0]], tmp_path / "libd.so", target=target())
    assert built.weights is None and load(built.path).metadata["weights"]["file"] is None
    load(built.path).load_weights("/nowhere")


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 63, 64, 100])
def test_checksum_does_not_depend_on_the_pieces(cut):
    data = np.random.default_rng(0).bytes(4096)
    assert weights.checksum([data[:cut], data[cut:]]) == weights.checksum([data])
    assert weights.checksum([data, bytes(64)]) != weights.checksum([data])


def test_constants_of_the_wrong_size(tmp_path):
    part = kernels.dense()[0]
    bad = Artifact("f", part.entry, part.target, part.object, part.inputs, part.outputs, part.dims,
                   arena_bytes=None, constants=(Constant("w", "f32", (3,), bytes(8)),))  # fmt: skip
    with pytest.raises(BuildError, match="constant w has 8 bytes, its shape needs 12"):
        build_library([bad], tmp_path / "libf.so", target=target())


def test_many_megabytes(tmp_path):
    """Eight million weights: linked in seconds, in the library's file once."""
    made, w, bias = kernels.dense(rows=2048, cols=4096)
    built = build_library([made], tmp_path / "libbig.so", target=target())
    assert built.bytes - built.weight_bytes < 40_000 and built.weight_bytes > 32 << 20
    x = np.random.default_rng(0).standard_normal((1, 2048), np.float32)
    np.testing.assert_allclose(load(built.path).dense(x), np.tanh(x @ w + bias), atol=2e-3)
