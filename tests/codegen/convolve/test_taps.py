"""Convolutions by tiles that read lines of x tap by tap: any shape, bytes and bf16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.constants import apply
from graphmill.codegen.cpu import llvm, mlir
from graphmill.codegen.cpu.convolve.conv import ConvSpec, emit_conv
from graphmill.codegen.cpu.convolve.tap_plan import packing_of_filters, tap_plan
from graphmill.codegen.cpu.emit import Unit
from graphmill.codegen.cpu.target import Target, native, target
from graphmill.ir import dtypes
from graphmill.passes.manager import run_pipeline
from graphmill.runtime import knobs
from tests.codegen.contract.test_units import filled
from tests.codegen.convolve.test_conv import make, reference

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]

needs_amx = pytest.mark.skipif(not native().has_tiles, reason="this machine has no usable AMX")
AMX = target("x86-64-v4-amx")
SIGNS = [("i8", "i8"), ("u8", "i8"), ("i8", "u8"), ("u8", "u8")]
CASES = {
    "whole-tiles": make(64, 32, (8, 8), (3, 3), pad=1),
    "odd": make(70, 40, (13, 19), (3, 3), pad=1),
    "few-channels": make(18, 9, (15, 17), (3, 3), pad=1),
    "stride-2": make(66, 33, (13, 34), (3, 3), pad=1, stride=2),
    "stride-2-even": make(64, 48, (16, 16), (2, 2), stride=2),
    "dilated": make(64, 20, (15, 17), (3, 3), pad=2, dilation=2),
    "dilated-stride-2": make(64, 20, (17, 16), (3, 3), pad=3, dilation=3, stride=2),
    "valid": make(64, 16, (9, 40), (3, 5)),
    "1x1-stride-2": make(65, 50, (13, 11), (1, 1), stride=2),
    "much-padding": make(48, 20, (3, 4), (3, 3), pad=5),
    "only-padding": make(48, 20, (2, 2), (1, 1), pad=4, stride=2),
    "groups": make(128, 72, (9, 10), (3, 3), pad=1, groups=2),
    "long-lines": make(32, 16, (5, 301), (3, 3), pad=1),
    "long-lines-stride-2": make(32, 16, (5, 601), (3, 3), pad=1, stride=2),
    "1d": make(64, 40, (77,), (5,), pad=2),
    "1d-stride-2": make(64, 40, (77,), (4,), pad=1, stride=2),
    "deep": make(512, 96, (7, 7), (3, 3), pad=1),
    "image": make(3, 20, (31, 37), (7, 7), pad=3, stride=2),
    "image-long": make(3, 16, (9, 250), (3, 3), pad=1),
    "few-channels-grouped": make(12, 32, (9, 20), (3, 5), pad=2, groups=2),
    "few-channels-dilated-down": replace(
        make(5, 16, (14, 9), (3, 3), pad=1), dilation=(2, 1), low=(2, 1), out_sizes=(14, 9)
    ),
    "few-channels-1d": make(6, 16, (50,), (9,), pad=4, stride=2),
    "stride-3-down": replace(
        make(64, 16, (16, 16), (3, 3), pad=1),
        strides=(3, 1), out_sizes=(6, 16),
    ),
}  # fmt: skip


def of(spec: ConvSpec, x: str, w: str, batch: int | None) -> ConvSpec:
    acc = dtypes.f32 if x == "bf16" else dtypes.i32
    types = dtypes.dtype(x), dtypes.dtype(w)
    return replace(
        spec, x=types[0], w=types[1], acc=acc, out=acc, batch=batch, in_tiles=True
    )  # fmt: skip


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: dtypes.DType) -> Array:
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.numpy)
    return filled(rng, (shape[0], int(np.prod(shape[1:]))), dtype).reshape(shape)


def operands(
    spec: ConvSpec, batch: int, machine: Target | None = None
) -> tuple[Array, Array, Array]:
    """x, w, and w in tiles."""
    rng = np.random.default_rng(0)
    x = values(rng, (batch, spec.channels, *(size or 0 for size in spec.sizes)), spec.x)
    w = values(rng, (spec.filters, spec.channels // spec.groups, *spec.window), spec.w)
    plan = tap_plan(spec, machine or native())
    assert plan is not None
    steps, shape = packing_of_filters(spec, plan)
    tiles = np.ascontiguousarray(apply(w, steps))
    assert tiles.shape == shape
    return x, w, tiles


@needs_amx
@pytest.mark.parametrize("name", CASES)
def test_bytes_are_exact(conv: Callable[..., Array], name: str) -> None:
    for batch, types in zip((1, 3, None, 9), SIGNS, strict=True):
        spec = of(CASES[name], *types, batch)
        x, w, tiles = operands(spec, batch or 2)
        want = reference(spec, x, w, _high(spec)).astype(np.int32)
        for workers in (1, 3):
            got = conv(spec, x, tiles, spec.out_sizes, workers=workers)
            np.testing.assert_array_equal(got, want)


def _high(spec: ConvSpec) -> tuple[int, ...]:
    """The padding behind x with which the reference gives as many results."""
    return tuple(
        (out - 1) * stride + (size - 1) * dilation + 1 - room - low
        for out, stride, size, dilation, room, low in zip(
            spec.out_sizes, spec.strides, spec.window, spec.dilation, spec.sizes, spec.low,
            strict=True,
        )
    )  # fmt: skip


@pytest.mark.skipif(not native().has("avx512vnni"), reason="this machine has no VNNI of 512 bits")
@pytest.mark.parametrize("name", CASES)
def test_vectors_give_the_same(conv: Callable[..., Array], name: str) -> None:
    machine = native().without_tiles()
    for batch in (1, None, 9):
        spec = of(CASES[name], "u8", "i8", batch)
        x, w, tiles = operands(spec, batch or 2, machine)
        want = reference(spec, x, w, _high(spec)).astype(np.int32)
        for workers in (1, 3):
            got = conv(spec, x, tiles, spec.out_sizes, workers=workers, machine=machine)
            np.testing.assert_array_equal(got, want)
    signed = of(CASES[name], "i8", "i8", None)
    assert tap_plan(signed, machine) is None, "its instruction has one unsigned operand"


@needs_amx
@pytest.mark.parametrize("name", CASES)
def test_pairs_of_bf16(conv: Callable[..., Array], name: str) -> None:
    spec = of(CASES[name], "bf16", "bf16", None)
    x, w, tiles = operands(spec, 2)
    x[-1, -1] = np.inf  # reaches what reads it, and nothing else
    x[0, 0, ..., 0] = np.nan
    with np.errstate(invalid="ignore"):
        want = reference(spec, x, w, _high(spec))
    got = [conv(spec, x, tiles, spec.out_sizes, workers=workers) for workers in (1, 3)]
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(np.isfinite(got[0]), np.isfinite(want))
    finite = np.isfinite(want)
    scale = 1e-6 * np.abs(want[finite]).max(initial=1) * np.sqrt(spec.taps)
    np.testing.assert_allclose(got[0][finite], want[finite], rtol=0, atol=scale)


@pytest.mark.parametrize("types", [("u8", "i8"), ("bf16", "bf16")], ids="-".join)
def test_kernels_compile_without_amx_here(types: tuple[str, str]) -> None:
    spec = of(CASES["odd"], *types, None)
    unit = Unit(AMX.vector_bits)
    emit_conv(unit, "gm_conv", spec, AMX)
    made = llvm.compile_ir(mlir.lower(unit.text()), AMX, keep_text=True)
    assert "tdpbf16ps" in made.assembly or "tdpbsud" in made.assembly


def test_other_targets_have_no_plan() -> None:
    spec = of(CASES["odd"], "u8", "i8", None)
    assert tap_plan(spec, AMX) is not None
    for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"):
        assert tap_plan(spec, target(name)) is None


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", ["u8", "bf16"])
def test_a_layer_with_a_residual(dtype: str, stride: int) -> None:
    """What follows the sums reads other arrays at their line and place."""
    rng = np.random.default_rng(1)
    kind = dtypes.dtype(dtype).numpy
    x = rng.integers(0, 8, (2, 64, 13, 14)).astype(kind)
    w = rng.integers(-4, 4, (40, 64, 3, 3)).astype(np.int8 if dtype == "u8" else kind)
    w.flags.writeable = False
    bias = rng.standard_normal((40, 1, 1)).astype(np.float32)
    places = tuple(-(-size // stride) for size in (13, 14))
    other = rng.standard_normal((2, 40, *places)).astype(np.float32)
    wide = np.int32 if dtype == "u8" else kind

    def layer(x: Any, other: Any) -> Any:
        y = gm.nn.conv2d(x.astype(wide), w.astype(wide), stride=stride, padding=1)
        return np.maximum(y.astype(np.float32) * np.float32(0.5) + bias + other, 0)

    spec = replace(
        make(64, 40, (13, 14), (3, 3), pad=1, stride=stride), x=dtypes.f32, w=dtypes.f32
    )  # fmt: skip
    sums = reference(spec, x, w, (1, 1)).astype(kind if dtype == "bf16" else np.int32)
    want = np.maximum(sums.astype(np.float32) * np.float32(0.5) + bias + other, 0)
    with knobs.scope(cache=False):
        layer_of = gm.jit(layer)
        np.testing.assert_allclose(layer_of(x, other), want, rtol=1e-2, atol=1e-4)
        text = layer_of.lower(x, other).asm()
    if native().has_tiles:
        assert "amx_taps" in text


@pytest.mark.parametrize("dtype", ["u8", "bf16"])
def test_a_strided_argument_is_copied(dtype: str) -> None:
    rng = np.random.default_rng(2)
    kind = dtypes.dtype(dtype).numpy
    last = rng.integers(0, 9, (2, 11, 10, 32)).astype(kind)
    w = rng.integers(-9, 9, (24, 32, 3, 3)).astype(np.int8 if dtype == "u8" else kind)
    w.flags.writeable = False
    wide = np.int32 if dtype == "u8" else kind

    def layer(x: Any) -> Any:
        return gm.nn.conv2d(x.astype(wide), w.astype(wide), padding=1)

    x = last.transpose(0, 3, 1, 2)
    with knobs.scope(cache=False):
        layer_of = gm.jit(layer)
        np.testing.assert_array_equal(layer_of(x), layer_of(np.ascontiguousarray(x)))


def test_what_block_leaves_plain_suits_tiles() -> None:
    """The pass knows no target: its rule must be no wider than the plan's."""
    left = 0
    for channels in (1, 2, 3, 5, 8, 15, 16, 17, 33, 100):
        for window in ((1, 1), (1, 3), (3, 1), (2, 8), (3, 3), (7, 7), (16, 1)):
            for stride, dilation in ((1, 1), (2, 1), (1, 3), (3, 1)):
                spec = make(
                    channels, 16, (61, 62), window, stride=stride, dilation=dilation,
                    dtype=dtypes.bf16,
                )  # fmt: skip
                x = np.zeros((1, channels, 61, 62), dtypes.bf16.numpy)
                w = np.zeros((16, channels, *window), dtypes.bf16.numpy)
                w.flags.writeable = False
                traced = gm.jit(
                    lambda x, w=w, stride=stride, dilation=dilation: gm.nn.conv2d(
                        x, w, stride=stride, dilation=dilation
                    )
                ).trace(x)
                made = run_pipeline(traced.function, "block{tiles=true}")
                if any(op.name == "conv" for op in made.ops):
                    left += 1
                    assert tap_plan(replace(spec, in_tiles=True), AMX) is not None, spec
    assert left > 50
