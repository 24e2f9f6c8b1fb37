"""Blocked channels: which convolutions, what lies between them, the same values as plain ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.ir.graph import Function
from graphmill.ir.reference import interpret
from graphmill.passes.manager import all_passes, run_pipeline
from graphmill.passes.statistics import recording
from graphmill.runtime.executable import Executable

Array = np.ndarray[Any, Any]
nn = gm.nn
RNG = np.random.default_rng(0)


def weights(filters: int, channels: int, window: int = 3) -> Array:
    scale = np.sqrt(channels * window * window)
    return (RNG.standard_normal((filters, channels, window, window)) / scale).astype(np.float32)


A, B, C, D = weights(32, 3), weights(32, 32), weights(40, 32, 1), weights(24, 40)
DEPTHWISE, GROUPED, HALVES = weights(32, 1), weights(36, 12), weights(64, 32)
QUARTERS = weights(24, 4)
BIAS = RNG.standard_normal(40).astype(np.float32)


def stack(x: Any) -> Any:
    """First layer, residual, depthwise, pooling, 1x1 with bias, odd channels."""
    y = nn.relu(nn.conv2d(x, A, stride=2, padding=1))
    y = nn.relu(nn.conv2d(y, B, padding=1) + y)
    y = nn.max_pool2d(nn.conv2d(y, DEPTHWISE, padding=1, groups=32), 3, 2, 1)
    y = nn.conv2d(nn.relu(nn.conv2d(y, C, BIAS)), D, padding=1)
    return nn.global_avg_pool(y), y


def branches(x: Any) -> Any:
    """Concatenated channels, averages, padding, gates from pooled values."""
    y = nn.relu(nn.conv2d(x, A, padding=1))
    z = np.concatenate([nn.conv2d(y, B, padding=1), nn.avg_pool2d(y, 3, 1, 1)], axis=1)
    gate = 1 / (1 + np.exp(-nn.global_avg_pool(z, keepdims=True)))
    z = nn.conv2d(z * gate, np.concatenate([HALVES] * 2, axis=1), padding=1, groups=1)
    z = nn.conv2d(np.pad(z, ((0, 0), (0, 0), (1, 1), (0, 2))), HALVES, groups=2)
    z = nn.relu(nn.conv2d(z, D[:, :1].repeat(64, axis=1)))
    return nn.conv2d(z, QUARTERS, padding=1, groups=6)


def planned(
    f: Callable[..., Any], x: Array, pipeline: str = "simplify,absorb,block,dce"
) -> Function:
    return run_pipeline(gm.jit(f).trace(x).function, pipeline)


def test_a_stack_stays_in_blocks() -> None:
    x = np.zeros((2, 3, 33, 35), np.float32)
    made = planned(stack, x)
    names = [op.name for op in made.ops]
    assert names.count("blocked_conv") == 5 and "conv" not in names
    assert names.count("transpose") == 1, "only the result is converted"


@pytest.mark.parametrize("program", [stack, branches])
@pytest.mark.parametrize("threads", [1, 2])
def test_values_are_those_of_plain_convolutions(program: Callable[..., Any], threads: int) -> None:
    x = RNG.standard_normal((2, 3, 33, 35)).astype(np.float32)
    traced = gm.jit(program).trace(x)
    want = interpret(traced.function, x)
    options = driver.Options()
    artifact = driver.emit(driver.optimise(traced.function, options), options)
    for a, b in zip(Executable(artifact, threads=threads).run(x), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [1, 5, 7, 13, 16])
def test_products_of_small_images_take_blocks(side: int) -> None:
    """Lines are merged there: what follows the sums still sees lines and columns."""
    w, v = weights(40, 130, 1), weights(100, 40, 1)
    x, z = (RNG.standard_normal((2, c, side, side)).astype(np.float32) for c in (130, 100))
    by_line, by_column = (RNG.standard_normal(s).astype(np.float32) for s in ((side, 1), (side,)))

    def f(x: Any, z: Any) -> Any:
        y = nn.relu(nn.conv2d(x, w) * by_line + by_column)
        return y, nn.conv2d(y, v) * by_line + by_column + z, nn.conv2d(x, w) - by_column

    traced = gm.jit(f).trace(x, z)
    names = [op.name for op in run_pipeline(traced.function, "simplify,block,dce").ops]
    assert names.count("blocked_conv") == 3 and "conv" not in names
    for a, b in zip(gm.jit(f)(x, z), interpret(traced.function, x, z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_one_compile_for_all_batches() -> None:
    compiled = gm.jit(stack, dynamic={"x": ("n", None, None, None)})
    for batch in (1, 0, 3):
        x = RNG.standard_normal((3, 3, 17, 19)).astype(np.float32)
        want = interpret(gm.jit(stack).trace(x).function, x)
        for a, b in zip(compiled(x[:batch]), want, strict=True):
            np.testing.assert_allclose(a, b[:batch], rtol=1e-4, atol=1e-4)


def known(program: Callable[..., Any], x: Array) -> list[Array]:
    return interpret(gm.jit(program).trace(x).function, x)


@pytest.mark.parametrize("program", [lambda x: stack(x), lambda x: (branches(x),)])
def test_one_compile_for_all_sizes(program: Callable[..., Any]) -> None:
    """Smaller than a tile, larger than a chunk; what is pooled, added and joined, too."""
    compiled = gm.jit(program, dynamic={"x": (None, None, "h", "w")})
    traced = compiled.trace(np.zeros((2, 3, 17, 19), np.float32)).function
    names = [op.name for op in run_pipeline(traced, "simplify,absorb,block,dce").ops]
    assert "blocked_conv" in names and "conv" not in names
    for sizes in ((17, 19), (4, 130), (33, 7)):
        x = RNG.standard_normal((2, 3, *sizes)).astype(np.float32)
        for a, b in zip(compiled(x), known(program, x), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_windows_and_images_of_any_size() -> None:
    """No place, one place, a window that sees padding only."""

    def f(x: Any) -> Any:
        y = nn.relu(nn.conv2d(x, A, padding=2, stride=2))
        return nn.conv2d(y, B, padding=1)

    compiled = gm.jit(f, dynamic={"x": ("n", None, "h", "w")})
    for shape in ((1, 3, 1, 1), (2, 3, 0, 0), (0, 3, 5, 5), (2, 3, 1, 60), (1, 3, 2, 0)):
        x = RNG.standard_normal(shape).astype(np.float32)
        np.testing.assert_allclose(compiled(x), known(f, x)[0], rtol=1e-4, atol=1e-4)


def reasons(f: Callable[..., Any], *arrays: Array) -> set[str]:
    simplified = run_pipeline(gm.jit(f).trace(*arrays).function, "simplify")
    with recording() as statistics:
        all_passes()["block"].run(simplified)
    return {key for key in statistics if key.startswith("plain convolutions")}


X, X2 = np.zeros((1, 32, 8, 8), np.float32), np.zeros((1, 36, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("f", "arrays", "reason"),
    [
        (lambda x: nn.conv2d(x, C), [X], "a product alone"),
        (lambda x: nn.conv2d(x, DEPTHWISE, groups=32), [X], "depthwise alone"),
        (lambda x: nn.conv2d(x, GROUPED, groups=3), [X2], "groups of parts of blocks"),
        (lambda x: nn.conv2d(x, B[:3]), [X], "few filters"),
        (lambda x, w: nn.conv2d(x, w), [X, B], "weights known at run time, for few places"),
        (lambda x: nn.conv2d(x, B.astype(np.int32)), [X.astype(np.int32)], "of i32"),
        (lambda x: nn.conv_transpose2d(x, B, stride=2), [X], "transposed"),
    ],
)
def test_what_stays_plain(f: Callable[..., Any], arrays: list[Array], reason: str) -> None:
    assert reasons(f, *arrays) == {f"plain convolutions: {reason}"}


WIDE = B.astype(np.float64)


def mixed(x: Any) -> Any:
    """Blocks of 16 and, in f64, of 8 channels meet."""
    y = nn.relu(nn.conv2d(x, B, padding=1))
    z = nn.conv2d(y.astype(np.float64), WIDE, padding=1)
    z = nn.conv2d(z + y.astype(np.float64), WIDE, padding=1)
    return nn.conv2d(y.astype(np.float64), WIDE[:, :1], groups=32), nn.conv2d(z, WIDE)


def test_dtypes_of_other_blocks_meet() -> None:
    x = RNG.standard_normal((1, 32, 9, 8)).astype(np.float32)
    compiled = gm.jit(mixed)
    for got, want in zip(compiled(x), compiled.trace(x).interpret(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("of", "tolerance"), [(ml_dtypes.bfloat16, 0.05), (np.float16, 0.005)])
def test_16_bit_networks_stay_in_blocks(of: type, tolerance: float) -> None:
    narrow = [np.asarray(w, of) for w in (A, B, DEPTHWISE, B)]

    def network(x: Any) -> Any:
        y = nn.relu(nn.conv2d(x, narrow[0], stride=2, padding=1))
        y = nn.relu(nn.conv2d(y, narrow[1], padding=1) + y)
        y = nn.conv2d(y, narrow[2], padding=1, groups=32)
        return nn.conv2d(y, narrow[3])

    x = RNG.standard_normal((2, 3, 21, 19)).astype(of)
    compiled = gm.jit(network)
    names = [op.name for op in planned(network, x, "simplify,block").ops]
    assert names.count("blocked_conv") == 4
    got = compiled(x)
    (want,) = compiled.trace(x).interpret(x)
    assert got.dtype == np.dtype(of)
    wide = np.asarray(want, np.float32)
    np.testing.assert_allclose(got.astype(np.float32), wide, rtol=tolerance, atol=tolerance)


def test_bf16_stays_plain_where_the_target_has_tiles_for_it() -> None:
    narrow = [np.asarray(w, ml_dtypes.bfloat16) for w in (A, B, DEPTHWISE)]

    def network(x: Any) -> Any:
        y = nn.conv2d(nn.conv2d(x, narrow[0], stride=2, padding=1), narrow[1], padding=1)
        return nn.conv2d(y, narrow[2], padding=1, groups=32)

    x = np.zeros((2, 3, 21, 19), ml_dtypes.bfloat16)
    names = [op.name for op in planned(network, x, "simplify,block{tiles=true}").ops]
    assert names.count("conv") == 3 and "blocked_conv" not in names


def test_weights_known_at_run_time_are_packed_for_many_places() -> None:
    x = RNG.standard_normal((1, 32, 48, 48)).astype(np.float32)
    f = gm.jit(lambda x, w: nn.conv2d(x, w, padding=1))
    assert "blocked_conv" in str(f.lower(x, B).ir("block"))
    (want,) = f.trace(x, B).interpret(x, B)
    np.testing.assert_allclose(f(x, B), want, rtol=1e-4, atol=1e-4)


def test_the_option_turns_it_off() -> None:
    x = np.zeros((2, 3, 33, 35), np.float32)
    off = planned(stack, x, "simplify,block{line=0}")
    assert "blocked_conv" not in {op.name for op in off.walk()}
