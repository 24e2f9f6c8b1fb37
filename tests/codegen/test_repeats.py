"""Ops that are alike share a launcher: with the same bits, for any layers around them."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu import mlir, repeats
from graphmill.codegen.cpu.generate import write
from graphmill.driver import Options, optimise, target
from graphmill.runtime import knobs

random = np.random.default_rng(0)
WEIGHTS = [random.standard_normal((48, 48), np.float32) / 7 for _ in range(5)]
BYTES = [random.integers(-9, 9, (48, 48), np.int8) for _ in range(2)]
WIDE = [*[w.astype(np.int32) for w in BYTES], BYTES[0].astype(np.int32) * 500]


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


def captured(x, *weights):
    return layers(x, *WEIGHTS)


def integers(x, *weights):
    """Whose content decides how it is packed."""
    small = (x * 3).astype(np.int8)
    return tuple(small @ w + n for w in (*WIDE, *WIDE) for n in range(2))


def in_place(x, *weights):
    """Some write over what they read, others must not."""
    out = []
    for w in weights:
        y = np.tanh(x @ w)
        z = np.cumsum(np.exp(y - y.max(axis=1, keepdims=True)), axis=1)
        out.append(z + (x @ w.T).sum(axis=1, keepdims=True))
        x = z / z[:, -1:] + y
    return (x, *out)


def strided(x, *weights):
    for w in weights:
        x = np.tanh(x.T[: w.shape[0]].T @ w[::-1, ::-1].T + w[0])
    return x


def results(f, arrays, threads=2, specs=None):
    with gm.threads(threads), knobs.scope(cache=False):
        return gm.jit(f).compile(*(specs or arrays)).run(*arrays)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [0, 1, 37, 700])
@pytest.mark.parametrize("f", [layers, looping, captured, integers, in_place, strided])
def test_the_same_bits(f, rows, threads, monkeypatch):
    arrays = [random.standard_normal((rows, 48), np.float32), *WEIGHTS]
    monkeypatch.setattr(repeats, "LEAST", 1 << 30)
    expected = results(f, arrays, threads)
    monkeypatch.setattr(repeats, "LEAST", 1)
    for one, other in zip(results(f, arrays, threads), expected, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("rows", [1, 9])
def test_named_dims_and_strided_arguments(rows, monkeypatch):
    monkeypatch.setattr(repeats, "LEAST", 1)
    x = random.standard_normal((rows, 96), np.float32)[:, ::2]
    weights = [np.asfortranarray(w) for w in WEIGHTS]
    specs = [gm.spec("f32[n, 48] @ strided"), *[gm.spec("f32[48, 48] @ strided")] * len(WEIGHTS)]
    for f in (layers, in_place, captured):
        found = results(f, [x, *weights], specs=specs)
        for one, expected in zip(found, f(x, *weights), strict=True):
            np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-4)


def test_a_padded_convolution_per_layer(monkeypatch):
    """Each reserves memory of its own and has packed weights."""
    monkeypatch.setattr(repeats, "LEAST", 1)
    filters = [random.standard_normal((16, 16, 3, 3), np.float32) / 12 for _ in range(3)]
    x = random.standard_normal((2, 16, 9, 11), np.float32)

    def net(x):
        for w in filters:
            x = np.maximum(gm.nn.conv2d(x, w, padding="same"), 0) + x
        return x

    found = results(net, [x])
    monkeypatch.setattr(repeats, "LEAST", 1 << 30)
    assert found[0].tobytes() == results(net, [x])[0].tobytes()


def _hosts(f, counts):
    hosts = []
    for count in counts:
        specs = [gm.spec("f32[64, 48]"), *[gm.spec("f32[48, 48]")] * count]
        options = Options()
        planned = optimise(gm.jit(f).trace(*specs).function, options)
        hosts.append(write(planned, target(options), False))
    return hosts


def test_the_entry_grows_by_a_call_for_each_layer():
    hosts = _hosts(layers, (20, 40))
    sizes = [
        next(p for p in host.unit.parts if f"@{host.code.name}(" in p).count("\n") for host in hosts
    ]
    assert len(hosts[0].launchers) == len(hosts[1].launchers) > 0
    assert sizes[1] - sizes[0] < 20 * 30
    for host in hosts:
        assert "define" in mlir.lower(host.unit.text())


def test_each_kernel_keeps_a_row_of_its_own(monkeypatch):
    apart = _hosts(in_place, [12])[0]
    monkeypatch.setattr(repeats, "LEAST", 1 << 30)
    plain = _hosts(in_place, [12])[0]
    assert apart.launchers and not plain.launchers
    assert apart.kernels == plain.kernels
    assert apart.parallel == plain.parallel


def test_few_repeats_are_written_where_they_run():
    assert not _hosts(layers, [2])[0].launchers
