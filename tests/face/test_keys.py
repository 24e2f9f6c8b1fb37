"""Keys of the compile cache: equal for equal work, different for any difference."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

import graphmill as gm
from graphmill import keys
from graphmill.codegen.cpu.target import target
from graphmill.driver import Options
from graphmill.keys import COMPILERS, Contents, _sources, build_id, cache_key, content
from graphmill.runtime import native
from graphmill.runtime.guards import Watch

DEFAULT = Options()
LARGE = np.random.default_rng(0).standard_normal((200, 200))


def _key(w: np.ndarray, spec: str = "f64[200, 200]", options: Options = DEFAULT, cpu="native"):
    function = gm.jit(lambda x: x @ w + w).trace(gm.spec(spec)).function
    return cache_key(function, options, target(cpu))


def test_equal_work_has_one_key():
    assert _key(LARGE) == _key(LARGE.copy()) == _key(np.asfortranarray(LARGE))


def test_a_watch_knows_the_contents_that_it_has_digested():
    w, small, frozen = LARGE.copy(), LARGE[0].copy(), LARGE.copy()
    frozen.flags.writeable = False
    watch = Watch(lambda x: x @ w + small + frozen, native.digest)
    watch.add_arrays([w.T])
    contents = Contents()
    contents.know(w, watch.digest_of(w))
    assert contents(w) == content(LARGE) == Contents()(w)
    contents.know(small, watch.digest_of(small))
    assert contents(small) == content(LARGE[0]) == content(np.repeat(small, 2)[::2])
    assert [watch.digest_of(a) for a in (frozen, w.T, LARGE)] == [None] * 3


def _edited(at: int) -> np.ndarray:
    array = LARGE.copy()
    array.view(np.uint8).reshape(-1)[at] ^= 1
    return array


DIFFERENT = {
    "first bit": (_edited(0),),
    "last byte": (_edited(LARGE.nbytes - 1),),
    "rows swapped": (LARGE[::-1].copy(),),
    "dtype": (LARGE.astype(np.float32), "f32[200, 200]"),
    "rows": (LARGE, "f64[201, 200]"),
    "pipeline": (LARGE, "f64[200, 200]", Options(pipeline="memory")),
    "checks": (LARGE, "f64[200, 200]", Options(check=("nan",))),
    "profile": (LARGE, "f64[200, 200]", Options(profiled=True)),
    "target": (LARGE, "f64[200, 200]", Options(), "x86-64-v3"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_any_difference_is_in_the_key(what):
    if what == "rows":
        f = gm.jit(lambda x: x @ LARGE)
        keys = {
            cache_key(f.trace(gm.spec(s)).function, Options(), target("native"))
            for s in ("f64[200, 200]", DIFFERENT[what][1])
        }
        assert len(keys) == 2
    else:
        assert _key(*DIFFERENT[what]) != _key(LARGE)


@pytest.mark.parametrize("package", COMPILERS)
def test_versions(package):
    try:
        known = version(package)
    except PackageNotFoundError:
        known = "none"
    assert keys.version(package) == f"{package}={known}"


def test_an_edited_source_changes_the_build(tmp_path):
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner" / "a.py"
    file.write_text("x = 1\n")
    before = set(_sources(str(tmp_path)))
    file.write_text("x = 22\n")
    after = set(_sources(str(tmp_path)))
    assert len(before) == len(after) == 1 and before != after
    assert set(_sources(str(tmp_path / "none"))) == set()
    assert len(build_id()) == 64
