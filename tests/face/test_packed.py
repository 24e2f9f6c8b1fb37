"""Packed weights are kept on disk, mapped by later processes, and never those of other contents."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import graphmill as gm
from graphmill import knobs, packed, recall
from graphmill.runtime import cache, shelf
from graphmill.runtime.cache import CacheWarning

PROGRAM = """
import sys, threading
import numpy as np
import graphmill as gm
from graphmill.codegen import constants

made = []
fill = constants.fill
constants.fill = lambda *args: made.append(1) or fill(*args)
w = np.random.default_rng(int(sys.argv[1])).standard_normal((1500, 1100), dtype=np.float32)
b = np.linspace(0, 1, 1100, dtype=np.float32)
if "frozen" in sys.argv:
    w.flags.writeable = False

def layer(x):
    return x @ w + b

x = np.ones((int(sys.argv[2]), 1500), np.float32)
f = gm.jit(layer)
assert np.allclose(f(x), x @ w + b, atol=1e-3)
if "edited" in sys.argv:
    w[700, 3] += 1
    assert np.allclose(f(x), x @ w + b, atol=1e-3)
maps = open("/proc/self/maps").read()
print("packed" if made else "-", "mapped" if ".gmw" in maps else "-")
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is mapped")


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)

    def run(*arguments, **variables):
        environment = os.environ | {"GRAPHMILL_CACHE_DIR": str(tmp_path / "cache")} | variables
        return subprocess.run(
            [sys.executable, str(path), *map(str, arguments)],
            env=environment, check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip

    return run


def files(tmp_path):
    return sorted((tmp_path / "cache" / "weights").glob("*.gmw"))


@pytest.mark.parametrize("kind", ["", "frozen"])
def test_later_processes_map_what_the_first_has_packed(kind, program, tmp_path):
    assert program(1, 100, kind)[1] == "-"
    (kept,) = files(tmp_path)
    assert program(1, 100, kind) == ["-", "mapped"]
    # other weights are others, at once and after an edit
    assert program(2, 100, kind)[1] == "-"
    assert len(files(tmp_path)) == 2
    if not kind:
        assert program(1, 100, "edited") == ["packed", "-"]
    os.chmod(kept, 0o600)
    with open(kept, "r+b") as file:
        file.truncate(4 << 20)
    assert program(1, 100, kind) == ["packed", "-"]
    assert program(1, 100, kind) == ["-", "mapped"]


def test_what_is_not_kept(program, tmp_path):
    program(1, 100, GRAPHMILL_CACHE_WEIGHTS="0")
    program(1, 100, GRAPHMILL_CACHE_WEIGHTS="6M")
    program(1, 100, GRAPHMILL_CACHE="0")
    assert not files(tmp_path)
    program(1, 100)
    assert len(files(tmp_path)) == 1
    assert program(1, 100, GRAPHMILL_CACHE_WEIGHTS="0") == ["packed", "-"]


def finish():
    for thread in threading.enumerate():
        if thread.name == "graphmill weights":
            thread.join()


def test_of_weights_that_change_the_first_are_kept(tmp_path):
    w = np.random.default_rng(0).standard_normal((1500, 1100), dtype=np.float32)
    x = np.ones((5, 1500), np.float32)
    f = gm.jit(lambda x: x @ w)
    packed._kept.clear()
    with knobs.scope(cache_dir=tmp_path / "cache"):
        for _ in range(3):
            w *= 2
            assert np.allclose(f(x), x @ w, atol=1e-2)
            finish()
    assert len(files(tmp_path)) == 1


def test_network_with_scaled_weights(tmp_path):
    """Steps with a second array: the scale of a folded norm counts, too."""
    filters = np.random.default_rng(0).standard_normal((256, 256, 5, 5), dtype=np.float32)
    x = np.random.default_rng(1).standard_normal((1, 256, 9, 9), dtype=np.float32)
    scales = [np.linspace(low, 2, 256, dtype=np.float32) for low in (1, 0.5)]

    def block(x, scale):
        y = gm.nn.conv2d(x, filters, padding=2)
        return gm.nn.batch_norm(y, scales[scale], scales[0], scales[0], scales[0])

    with knobs.scope(cache_dir=tmp_path / "cache"):
        found = []
        for _ in range(2):
            packed._kept.clear()
            fs = [gm.jit(block, static="scale") for _ in scales]
            found.append([f(x, number) for number, f in enumerate(fs)])
            finish()
        plain = [gm.jit(block, static="scale") for _ in scales]
        with knobs.scope(cache=False):
            wanted = [f(x, number) for number, f in enumerate(plain)]
    for results in found:
        for got, want in zip(results, wanted, strict=True):
            assert np.array_equal(got, want)
    assert not np.array_equal(*wanted)


def test_a_folder_that_is_read_only_is_used(program, tmp_path):
    program(1, 100)
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    weights = tmp_path / "cache" / "weights"
    os.chmod(weights, 0o500)
    try:
        assert program(1, 100) == ["-", "mapped"]
    finally:
        os.chmod(weights, 0o700)


def test_the_shelf_goes_with_the_cache(tmp_path):
    with knobs.scope(cache_dir=tmp_path, cache_size=1000):
        made = shelf.default()
        assert (made.folder, made.limit) == (tmp_path / "weights", 2000)
        assert shelf.default() is made
    with knobs.scope(cache_dir=tmp_path, cache=False):
        assert shelf.default() is None and cache.default() is None
    with knobs.scope(cache_dir=tmp_path, cache_weights=0):
        assert shelf.default() is None


def test_damaged_weights_are_packed_again(tmp_path, recwarn):
    w = np.random.default_rng(0).standard_normal((1500, 1100), dtype=np.float32)
    x = np.ones((5, 1500), np.float32)
    packed._kept.clear()

    def layer(x):
        return x @ w

    with knobs.scope(cache_dir=tmp_path / "cache"):
        wanted = gm.jit(layer)(x)
        finish()
        (path,) = files(tmp_path)
        os.chmod(path, 0o600)
        with open(path, "r+b") as file:
            file.seek(4 << 20)
            file.write(b"\xff" * 64)
        with pytest.warns(CacheWarning, match="damaged"):
            assert np.array_equal(gm.jit(layer)(x), wanted)


def test_copies_of_weights_are_not_made_again_to_be_mapped(tmp_path, monkeypatch):
    w = np.random.default_rng(0).standard_normal((1100, 1500), dtype=np.float32)
    x = np.ones((5, 1500), np.float32)
    packed._kept.clear()

    def layer(x):
        return x @ w.T

    with knobs.scope(cache_dir=tmp_path / "cache"):
        wanted = gm.jit(layer)(x)
        finish()
        made = []
        monkeypatch.setattr(recall, "_source", lambda *place: made.append(place))
        again = gm.jit(layer)
        assert np.array_equal(again(x), wanted) and not made
        assert packed.is_mapped(again.executables[0].artifact)
        w[3, 4] += 1  # seen, for the watch began before the weights were read
        monkeypatch.undo()
        assert np.allclose(again(x), x @ w.T, atol=1e-2)
        assert not packed.is_mapped(again.executables[0].artifact)
