"""Modules cut into pieces: they compile side by side and run as one, here and in a library."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu import llvm, mlir, split
from graphmill.codegen.cpu.emit import Code, Unit
from graphmill.runtime import knobs

random = np.random.default_rng(0)
W = random.standard_normal((64, 70), np.float32)
X = random.standard_normal((30, 64), np.float32)


def layer(x):
    h = np.tanh(x @ W) + np.arange(70, dtype=np.float32)
    return h / h.sum(axis=1, keepdims=True), np.sort(h, axis=1)


def twice(x):
    return (x @ W) @ W.T


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch):
    monkeypatch.setattr(split, "LINES", 1)
    monkeypatch.setattr(split, "MOST", 100)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("long", [1, 10_000])
def test_pieces_run_as_one(threads, long, monkeypatch):
    monkeypatch.setattr(split, "LONG", long)
    with gm.threads(threads), knobs.scope(cache=False):
        compiled = gm.jit(layer).compile(X)
        results = compiled.run(X)
    assert len(compiled._loaded.artifact.parts) >= 4
    for found, expected in zip(results, layer(X), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_pieces_in_a_library(tmp_path):
    specs = [gm.spec("f32[30, 64]")]
    with knobs.scope(cache=False):
        built = gm.build({"layer": (layer, specs), "twice": (twice, specs)}, path=tmp_path / "l.so")
    lib = gm.load(built.path)
    np.testing.assert_allclose(lib.twice(X), twice(X), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(lib.layer(X)[1], layer(X)[1], rtol=1e-4, atol=1e-4)


def _unit() -> Unit:
    """Two kernels that share a helper and a constant, and a host that calls them."""
    unit = Unit()
    symbol = unit.constant_bytes(b"12345678")
    shared = Code(unit, "gm.shared", [("x", "i64")], "i64")
    shared.finish(shared.load(shared.address_of(symbol), "i64", 8))
    for name in ("gm_a_body", "gm_a", "gm_b"):
        kernel = Code(unit, name, [("x", "i64")], "i64")
        kernel.finish(kernel.call("gm.shared", [kernel.args[0]], "i64"))
    host = Code(unit, "gm_host", [("x", "i64")], "i64", internal=False)
    total = host.add(host.call("gm_a", host.args, "i64"), host.call("gm_b", host.args, "i64"))
    host.finish(total)
    return unit


def test_what_stands_where():
    first, a, b = split.split(_unit(), ("gm_host",))
    assert [piece.kind for piece in (first, a, b)] == ["straight", "any", "any"]
    assert "func hidden @gm.shared(%x" in first.text and "func @gm_host(" in first.text
    assert "hidden @gm_a(i64) -> i64" in first.text and "mlir.global" in first.text
    assert "func internal @gm_a_body" in a.text and "func hidden @gm_a(%x" in a.text
    assert "mlir.global" not in b.text and "gm_a" not in b.text
    for piece in (first, a, b):
        assert "define" in mlir.lower(piece.text)


def test_long_entries_stand_alone_unless_they_loop(monkeypatch):
    monkeypatch.setattr(split, "LONG", 1)
    unit = _unit()
    host, *others = split.split(unit, ("gm_host",))
    (shared,) = (piece for piece in others if "func hidden @gm.shared(%x" in piece.text)
    kernels = [piece for piece in others if piece is not shared]
    assert (host.kind, host.effort, shared.kind, shared.effort) == ("straight", 0, "straight", 2)
    assert "func @gm_host(" in host.text and "@gm.shared" not in host.text
    assert [kernel.effort for kernel in kernels] == [2, 2]
    code = Code(unit, "gm_host_arena", [("n", "i64")], internal=False)
    with code.loop(code.i64(0), code.args[0], 1):
        code.call("gm_a", code.args, "i64")
    code.finish()
    first, *_ = split.split(unit, ("gm_host", "gm_host_arena"))
    assert first.effort == 2 and "@gm.shared" in first.text


def test_pieces_begin_while_others_are_written():
    unit, pieces = Unit(), []
    cutter = split.Cutter(unit, pieces.append)
    entry = Code(unit, "gm_host", [("x", "i64")], "i64", internal=False)

    def write(name: str, calls: str | None = None) -> None:
        code = Code(unit, name, [("x", "i64")], "i64")
        code.finish(code.call(calls, code.args, "i64") if calls else code.args[0])

    write("gm.shared")
    write("gm_a_body", "gm.shared")
    write("gm_a", "gm_a_body")
    entry.call("gm_a", entry.args, "i64")
    cutter.look(entry, ("gm_host",))
    shared, a = pieces
    assert "func hidden @gm.shared(%x" in shared.text  # others may call it
    assert "func internal @gm_a_body(%x" in a.text and "func hidden @gm_a(%x" in a.text
    entry.finish(entry.call("gm_a_body", entry.args, "i64"))  # against all expectation
    cutter.finish(("gm_host",))
    host, again = pieces[2:]
    assert "func hidden @gm_a_body(i64) -> i64" in host.text
    assert "func hidden @gm_a_body(%x" in again.text and "@gm_a(" not in again.text
    for piece in pieces:
        assert "define" in mlir.lower(piece.text)


def test_a_little_rest_is_no_piece(monkeypatch):
    monkeypatch.setattr(split, "LINES", 40)
    monkeypatch.setattr(split, "MOST", 1)
    unit = Unit()
    for n in range(13):
        code = Code(unit, f"gm_{n}", [("x", "i64")], "i64")
        code.finish(code.add(code.args[0], n))
    *_, last = split.split(unit, ())
    assert "@gm_12(%x" in last.text and "@gm_11(%x" in last.text


def test_little_text_is_one_piece(monkeypatch):
    monkeypatch.setattr(split, "LINES", 1000)
    unit = _unit()
    assert split.split(unit, ("gm_host",)) == [split.Piece(unit.text(), "any")]
    unit.plain.update(unit.parts)
    assert split.split(unit, ("gm_host",)) == [split.Piece(unit.text(), "plain")]


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (lambda x: np.tanh(x) * 2, ["plain"]),
        (lambda x: x @ W, []),
        (lambda x: x - x[:, :1], ["any"]),
        (lambda x: (x - x[:, :1]).sum(axis=1), ["any"]),
        (lambda x: (x - x[:1]).sum(axis=0), ["any"]),
        (lambda x: (x - x.mean(axis=1, keepdims=True)).var(axis=1), ["plain"]),
        (lambda x: np.exp(x @ W).sum(axis=1), ["plain"]),
        (lambda x: np.tanh(x @ W), []),
    ],
)
def test_how_kernels_are_optimised(function, kinds, monkeypatch):
    seen = []
    compile_ir = llvm.compile_ir

    def keep(text, target, **options):
        seen.append(options["kind"])
        return compile_ir(text, target, **options)

    with gm.threads(1), knobs.scope(cache=False):
        compiled = gm.jit(function)
        monkeypatch.setattr(llvm, "compile_ir", keep)
        compiled.compile(X)
    assert [kind for kind in dict.fromkeys(seen) if kind != "straight"] == kinds
