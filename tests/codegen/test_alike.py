"""Launches that are alike share a function: with the same bits, for any layers around them."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu import alike, mlir
from graphmill.codegen.cpu.emit import Code, Unit
from graphmill.codegen.cpu.generate import write
from graphmill.driver import Options, optimise, target
from graphmill.runtime import knobs

random = np.random.default_rng(0)
WEIGHTS = [random.standard_normal((48, 48), np.float32) / 7 for _ in range(5)]


def layers(x, *weights):
    for w in weights:
        h = np.tanh(x @ w)
        x = h - h.mean(axis=1, keepdims=True)
    return x, np.sort(x, axis=0)[::2]


def looping(x, *weights):
    total = x
    for w in weights:
        total = gm.fori_loop(0, 3, lambda i, t, w=w: np.tanh(t @ w) + np.cumsum(t, axis=1), total)
    return total


@pytest.fixture
def eager(monkeypatch):
    """Even short functions stand for runs of few lines."""
    monkeypatch.setattr(alike, "LINES", 1)
    monkeypatch.setattr(alike, "LEAST", 1)


def results(f, arrays, threads=2):
    with gm.threads(threads), knobs.scope(cache=False):
        return gm.jit(f).compile(*arrays).run(*arrays)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [0, 1, 37, 700])
@pytest.mark.parametrize("f", [layers, looping])
def test_the_same_bits(f, rows, threads, monkeypatch):
    arrays = [random.standard_normal((rows, 48), np.float32), *WEIGHTS]
    monkeypatch.setattr(alike, "LINES", 1 << 30)
    expected = results(f, arrays, threads)
    monkeypatch.setattr(alike, "LINES", 1)
    monkeypatch.setattr(alike, "LEAST", 1)
    for one, other in zip(results(f, arrays, threads), expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_captured_weights_and_named_dims(eager):
    x = random.standard_normal((9, 48), np.float32)
    f = gm.jit(lambda x: layers(x, *WEIGHTS)[0])
    with knobs.scope(cache=False):
        compiled = f.compile(gm.spec("f32[n, 48]"))
    np.testing.assert_allclose(compiled.run(x)[0], layers(x, *WEIGHTS)[0], rtol=1e-4, atol=1e-5)


def test_the_entry_grows_by_a_call_for_each_layer():
    sizes, shared = [], []
    for count in (20, 40):
        specs = [gm.spec("f32[64, 48]"), *[gm.spec("f32[48, 48]")] * count]
        options = Options()
        planned = optimise(gm.jit(layers).trace(*specs).function, options)
        host = write(planned, target(options), False)
        shared.append(len(host.launchers))
        sizes.append(next(p for p in host.unit.parts if f"@{host.code.name}(" in p).count("\n"))
        assert "define" in mlir.lower(host.unit.text())
    assert shared[0] == shared[1] > 0
    assert sizes[1] - sizes[0] < 20 * 30


def _host() -> tuple[Unit, Code]:
    unit = Unit()
    return unit, Code(unit, "gm_host", [("p", "!llvm.ptr"), ("n", "i64")], internal=False)


def test_values_that_are_used_later_stay(eager):
    unit, code = _host()
    starts, at = [], code.args[0]
    for _ in range(3):
        starts.append(code.length)
        at = code.at(at, 5, "i64")  # what the next run reads
        code.store(code.mul(code.load(at, "i64", 8), 3), at, 8)
    starts.append(code.length)
    code.store(code.args[1], at, 8)
    assert alike.share_alike(code, starts) == ["gm_host_l0"]
    code.finish()
    host = unit.parts[-1]
    assert host.count("llvm.getelementptr") == 3 and host.count("call @gm_host_l0") == 3
    assert "muli" not in host and "define" in mlir.lower(unit.text())


def test_a_region_that_is_used_later_is_left(eager):
    unit, code = _host()
    starts, total = [], code.args[1]
    for _ in range(3):
        starts.append(code.length)
        with code.loop(0, code.args[1], 1, [total]) as loop:
            loop.next = [code.add(loop.carried[0], loop.i)]
        (total,) = loop.results
        code.store(total, code.args[0], 8)
    starts.append(code.length)
    assert alike.share_alike(code, starts) == []
    code.finish()
    assert "define" in mlir.lower(unit.text())


def test_memory_that_two_runs_use_is_one(eager):
    unit, code = _host()
    starts, common = [], code.alloca("i64", 2)
    for _ in range(2):
        starts.append(code.length)
        own = code.alloca("i64", 7)
        code.store(code.load(common, "i64", 8), own, 8)
        code.call_pointer(code.args[0], [own, common])
    starts.append(code.length)
    assert alike.share_alike(code, starts) == ["gm_host_l0"]
    code.finish()
    launcher, host = unit.parts
    assert launcher.count("llvm.alloca") == 1 == host.count("llvm.alloca")
    assert f"gm_host_l0({common}, %p)" in host and "define" in mlir.lower(unit.text())


def test_constants_and_types_tell_runs_apart(eager):
    unit, code = _host()
    starts = []
    for factor in (3, 4, 3):
        starts.append(code.length)
        code.store(code.mul(code.args[1], factor), code.args[0], 8)
    starts.append(code.length)
    assert alike.share_alike(code, starts) == ["gm_host_l0"]
    code.finish()
    assert unit.parts[-1].count("call @gm_host_l0") == 2
    assert "define" in mlir.lower(unit.text())
