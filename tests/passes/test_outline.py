"""Layers become calls of one function where that changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.driver import Options, compile_function
from graphmill.ir.graph import Function, Module
from graphmill.ir.reference import interpret
from graphmill.passes import manager, outline
from graphmill.passes.manager import DEFAULT_PIPELINE, run_pipeline
from graphmill.runtime import knobs
from graphmill.runtime.executable import Executable

random = np.random.default_rng(0)
FLAT = DEFAULT_PIPELINE.replace("outline,", "")
N = 6
WIDTH = 24
WEIGHTS = [random.standard_normal((WIDTH, WIDTH), np.float32) / 5 for _ in range(2 * N)]
BIASES = [random.standard_normal(WIDTH, np.float32) for _ in range(N)]


def norm(x):
    c = x - x.mean(axis=-1, keepdims=True)
    return c / np.sqrt((c * c).mean(axis=-1, keepdims=True) + 1e-5)


def layer(x, w, v, b):
    h = norm(x)
    h = np.maximum(h @ w + b, 0) * 0.5
    return x + np.tanh(h @ v)


def layers(x, weights, biases):
    for n, b in enumerate(biases):
        x = layer(x, weights[2 * n], weights[2 * n + 1], b)
    return x


def plain(x, *given):
    return layers(x, given[: 2 * N], given[2 * N :])


def captured(x, *given):
    return norm(layers(np.tanh(x) + 1, WEIGHTS, BIASES))[:, :5]


def with_results(x, *given):
    """What each layer keeps for the caller."""
    kept = []
    for n in range(N):
        k = x @ given[2 * n]
        x = norm(x + np.tanh(k) @ given[2 * n + 1])
        kept.append(k)
    return x, *kept


def masked(x, *given):
    """A mask made outside, from an argument, and one from nothing."""
    mask = np.where(x[:, :1] > 0, np.float32(0), np.float32(-9))
    lower = np.tril(np.ones((WIDTH, WIDTH), np.float32))
    for n in range(N):
        x = norm(x @ (given[n] * lower) + mask) + x * np.float32(0.5)
    return x.sum(axis=0)


def two_carried(x, *given):
    y = x * 2
    for n in range(N):
        x, y = norm(y @ given[n]), np.tanh(x @ given[n + N] + y)
    return x, y


def transposed(x, *given):
    """Weights put through ops of their own, which constants let fold."""
    for n in range(N):
        scaled = norm(x) @ WEIGHTS[n].T.reshape(WIDTH, WIDTH) * (WEIGHTS[n + 1][0] * 2)
        x = np.tanh(scaled + given[n][0])
    return x


def tied(x, *given):
    """One layer's weights, reshaped or as they are, in the others, too."""
    row = given[1].reshape(WIDTH * WIDTH)[:WIDTH]
    bias = np.broadcast_to(given[2 * N + 1], x.shape)
    for n in range(N):
        x = norm(x @ given[n] + row) + np.tanh(x + bias) * given[2 * N + n]
    return x


NETS = [plain, captured, with_results, masked, two_carried, transposed]


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Even small layers of short functions."""
    monkeypatch.setitem(manager.LEAST_OPS, "outline", 8)
    monkeypatch.setattr(outline, "LEAST_LAYER", 4)
    monkeypatch.setattr(outline, "SMALL", 64)


def arguments(rows):
    return [random.standard_normal((rows, WIDTH), np.float32), *WEIGHTS, *BIASES]


def traced(f, *args) -> Function:
    return gm.jit(f).trace(*args).function


def outlined(function: Function) -> Module:
    found = outline.outline(run_pipeline(Module({function.name: function}), "inline,state"))
    run_pipeline(found, "dce")  # which verifies
    return found


def run(function: Function, pipeline: str, arrays):
    with knobs.scope(cache=False), gm.threads(1):
        return Executable(compile_function(function, Options(pipeline=pipeline))).run(*arrays)


@pytest.mark.parametrize("f", NETS)
def test_calls_compute_the_same(f):
    arrays = arguments(7)
    function = traced(f, *arrays)
    module = outlined(function)
    entry, called = module.functions.values()
    assert sum(op.name == "call" for op in entry.ops) >= N - 2
    assert len(called.ops) < len(function.ops) / 3
    again = run_pipeline(module, "inline").entry
    for one, other in zip(interpret(again, *arrays), interpret(function, *arrays), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("f", NETS)
def test_the_same_bits(f, rows):
    arrays = arguments(rows)
    function = traced(f, *arrays)
    found, expected = (run(function, pipeline, arrays) for pipeline in (DEFAULT_PIPELINE, FLAT))
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("f", [f for f in NETS if f is not masked])
def test_the_same_kernels(f):
    function = traced(f, *arguments(700))  # small ones of several layers may be one

    def kernels(pipeline):
        planned = run_pipeline(function, pipeline)
        ops = [op for op in planned.ops if op.name not in ("constant", "prepare", "reshape")]
        return sorted((op.attrs.get("kind", op.name), len(op.operands)) for op in ops)

    assert kernels(DEFAULT_PIPELINE) == kernels(FLAT)


def test_named_dims():
    specs = [gm.spec(f"f32[n, {WIDTH}]"), *(gm.spec(f"f32[{WIDTH}, {WIDTH}]") for _ in WEIGHTS)]
    function = traced(plain, *specs, *(gm.spec(f"f32[{WIDTH}]") for _ in BIASES))
    assert len(outlined(function).functions) == 2
    for rows in (0, 1, 13):
        arrays = arguments(rows)
        (found,) = run(function, DEFAULT_PIPELINE, arrays)
        np.testing.assert_allclose(found, plain(*arrays), rtol=1e-4, atol=1e-5)


def test_every_line_keeps_its_place():
    function = traced(plain, *arguments(7))
    places = {str(op.loc) for op in function.ops if op.name != "constant"}
    module = run_pipeline(outlined(function), "inline")
    assert {str(op.loc) for op in module.entry.ops if op.name != "constant"} == places


def same_weights(x, *given):
    for _ in range(N):
        x = norm(x @ given[0] + given[-1])
    return x


def read_behind(x, *given):
    inside = []
    for n in range(N):
        h = np.tanh(x @ given[2 * n])
        x = norm(x + h @ given[2 * n + 1])
        inside.append(h)
    return x, sum(inside)


def elementwise(x, *given):
    for n in range(N):
        x = np.tanh(x * given[n + 2 * N]) + 1
    return x + x @ given[0]


def skipping(x, *given):
    before = x
    for n in range(N):
        x, before = norm(x @ given[n]) + before, x
    return x


def images(x, *given):
    y = x.reshape(1, 1, -1, WIDTH)
    for n in range(N):
        y = np.tanh(gm.nn.conv2d(y, given[n][:3, :3].reshape(1, 1, 3, 3), padding="same"))
    return plain(x, *given), y


@pytest.mark.parametrize("f", [same_weights, read_behind, elementwise, images, tied])
def test_other_functions_stay_whole(f):
    function = traced(f, *arguments(7))
    assert len(outlined(function).functions) == 1


def test_what_goes_two_layers_on_is_carried_twice():
    arrays = arguments(5)
    function = traced(skipping, *arrays)
    found, expected = (run(function, pipeline, arrays) for pipeline in (DEFAULT_PIPELINE, FLAT))
    assert found[0].tobytes() == expected[0].tobytes()


def test_weights_of_one_layer_that_all_read_reshaped():
    arrays = arguments(7)
    function = traced(tied, *arrays)
    found, expected = (run(function, pipeline, arrays) for pipeline in (DEFAULT_PIPELINE, FLAT))
    assert found[0].tobytes() == expected[0].tobytes()


def test_dumps_show_the_function_as_a_whole():
    function = traced(plain, *arguments(7))
    shown = []
    run_pipeline(function, DEFAULT_PIPELINE, lambda stage, program, *_: shown.append(program))
    assert shown and all(isinstance(program, Function) for program in shown)
    assert all(op.name != "call" for program in shown for op in program.walk())
