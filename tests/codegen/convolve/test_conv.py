"""Convolutions against the IR's reference: windows, strides, padding, dilations, groups, types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphmill.codegen.cpu.contract.spec import Epilogue, Place
from graphmill.codegen.cpu.convolve.conv import ConvSpec, algorithm
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.ir import dtypes
from graphmill.ir.ops.contract import CONV

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
Conv = Callable[..., Array]


def reference(spec: ConvSpec, x: Array, w: Array, high: tuple[int, ...]) -> Array:
    wide = {"f": np.float64, "c": np.complex128}.get(spec.x.kind, np.int64)
    result = CONV.reference(
        x.astype(wide), w.astype(wide), strides=spec.strides, low=spec.low, high=high,
        dilation=spec.dilation, input_dilation=spec.input_dilation, groups=spec.groups,
    )  # fmt: skip
    return np.asarray(result)


def make(
    channels: int,
    filters: int,
    sizes: tuple[int, ...],
    window: tuple[int, ...],
    *,
    groups: int = 1,
    stride: int = 1,
    pad: int = 0,
    dilation: int = 1,
    spread: int = 1,
    dtype: dtypes.DType = dtypes.f32,
) -> ConvSpec:
    """A spec with the same stride, padding and dilations along every axis."""
    rank = len(sizes)
    span = [(n - 1) * spread + 1 + 2 * pad - ((k - 1) * dilation + 1)
            for n, k in zip(sizes, window, strict=True)]  # fmt: skip
    out = tuple(room // stride + 1 for room in span)
    acc = dtypes.f32 if dtype.is_float and dtype.bits == 16 else dtype
    return ConvSpec(
        dtype, dtype, acc, dtype, channels, filters, groups, sizes, out, window,
        (stride,) * rank, (pad,) * rank, (dilation,) * rank, (spread,) * rank,
    )  # fmt: skip


CASES = {
    "3x3": make(5, 7, (9, 11), (3, 3), pad=1),
    "3x3-wide": make(16, 32, (28, 28), (3, 3), pad=1),
    "3x3-deep": make(70, 20, (7, 7), (3, 3), pad=1),
    "3x3-valid": make(3, 8, (20, 37), (3, 3)),
    "7x7-stride-2": make(3, 16, (31, 33), (7, 7), pad=3, stride=2),
    "5x5-stride-3": make(4, 6, (17, 23), (5, 5), pad=2, stride=3),
    "1x1": make(19, 23, (10, 11), (1, 1)),
    "1x1-many": make(64, 200, (9, 9), (1, 1)),
    "1x1-deep": make(600, 130, (9, 31), (1, 1)),
    "1x1-stride-2": make(8, 12, (10, 11), (1, 1), stride=2),
    "dilated": make(4, 9, (15, 17), (3, 3), pad=2, dilation=2),
    "transposed": make(6, 5, (7, 8), (3, 3), pad=1, spread=2),
    "transposed-4x4": make(6, 5, (7, 8), (4, 4), pad=3, spread=3, dilation=2),
    "groups": make(12, 18, (9, 13), (3, 3), pad=1, groups=3),
    "depthwise": make(10, 10, (14, 27), (3, 3), pad=1, groups=10),
    "depthwise-stride-2": make(10, 10, (15, 35), (3, 3), pad=1, groups=10, stride=2),
    "depthwise-twice": make(6, 12, (9, 40), (5, 5), pad=2, groups=6),
    "depthwise-dilated": make(6, 6, (9, 40), (3, 3), pad=2, groups=6, dilation=2),
    "depthwise-transposed": make(4, 4, (6, 9), (3, 3), pad=1, groups=4, spread=2),
    "one-filter": make(9, 1, (12, 19), (3, 3), pad=1),
    "1d": make(6, 9, (40,), (5,), pad=2),
    "1d-stride-2": make(6, 9, (41,), (4,), pad=1, stride=2),
    "1d-depthwise": make(6, 6, (41,), (4,), pad=3, groups=6),
    "3d": make(3, 6, (5, 6, 7), (2, 3, 2), pad=1),
    "long-window": make(3, 4, (1, 50), (1, 21), pad=10),
}


def operands(spec: ConvSpec, batch: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    shapes = (
        (batch, spec.channels, *(size or 0 for size in spec.sizes)),
        (spec.filters, spec.channels // spec.groups, *spec.window),
    )
    if spec.x.is_integer:
        x, w = (rng.integers(-5, 6, shape).astype(spec.x.numpy) for shape in shapes)
    else:
        x, w = (rng.standard_normal(shape).astype(spec.x.numpy) for shape in shapes)
    return x, w


def compare(got: Array, want: Array, spec: ConvSpec, tolerance: float = 2e-6) -> None:
    assert got.shape == want.shape
    if spec.x.is_integer:
        np.testing.assert_array_equal(got, want.astype(got.dtype))
        return
    scale = np.abs(want).max(initial=1) * np.sqrt(spec.taps)
    np.testing.assert_allclose(got.astype(want.dtype), want, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", CASES)
def test_cases(conv: Conv, name: str, static: bool) -> None:
    spec = CASES[name]
    out = tuple(size or 0 for size in spec.out_sizes)
    high = spec.low
    if not static:
        none = (None,) * spec.rank
        spec = replace(spec, sizes=none, out_sizes=none)
    for batch, workers in [(1, 1), (2, 3)]:
        x, w = operands(CASES[name], batch)
        want = reference(spec, x, w, high)
        assert want.shape[2:] == out
        compare(conv(spec, x, w, out, workers=workers), want, spec)


def test_algorithms_are_all_covered() -> None:
    assert {algorithm(spec) for spec in CASES.values()} == {"direct", "product", "patches"}


@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i8", "i32", "c64", "c128"])
@pytest.mark.parametrize(
    "name", ["3x3", "depthwise", "7x7-stride-2", "1x1", "1x1-deep", "transposed"]
)
def test_types(conv: Conv, name: str, dtype: str) -> None:
    kind = dtypes.dtype(dtype)
    acc = dtypes.f32 if kind.is_float and kind.bits == 16 else kind
    spec = replace(CASES[name], x=kind, w=kind, acc=acc, out=kind)
    x, w = operands(spec, 2)
    tolerance = {"f16": 1e-3, "bf16": 1e-2}.get(dtype, 1e-6)
    compare(conv(spec, x, w, spec.out_sizes), reference(spec, x, w, spec.low), spec, tolerance)


@pytest.mark.parametrize("name", ["3x3", "depthwise", "7x7-stride-2", "1x1", "groups"])
def test_channels_last_input(conv: Conv, name: str) -> None:
    spec = replace(CASES[name], unit_step=False, contiguous=False)
    x, w = operands(spec, 2)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    compare(conv(spec, last, w, spec.out_sizes), reference(spec, x, w, spec.low), spec)


def add_bias(code: Code, acc: Val, place: Place) -> Val:
    """`acc + bias[channel] + 100 * image + position`."""
    bias = code.load(code.at(place.extra[0], place.row, acc.element), acc.element, 4)
    shift = code.add(code.mul(place.batch, 100), place.col)
    shift = code.op(f"arith.sitofp {shift} : i64 to f32", "f32")
    first = code.splat(code.binary("arith.addf", bias, shift), acc.lanes)
    lanes = code.const_lanes(range(acc.lanes), acc.type)
    return code.binary("arith.addf", code.binary("arith.addf", acc, first), lanes)


BIAS = Epilogue(add_bias, ("!llvm.ptr",))


@pytest.mark.parametrize(
    "name", ["3x3", "groups", "depthwise", "1x1", "1x1-deep", "3x3-deep", "1d"]
)
def test_epilogue(conv: Conv, name: str) -> None:
    spec = CASES[name]
    x, w = operands(spec, 2)
    bias = np.arange(spec.filters, dtype=np.float32)
    want = reference(spec, x, w, spec.low)
    position = np.arange(np.prod(want.shape[2:])).reshape(want.shape[2:])
    want = want + bias.reshape(-1, *[1] * spec.rank) + position
    want[1] += 100
    got = conv(spec, x, w, spec.out_sizes, epilogue=BIAS, extra=[bias.ctypes.data], workers=2)
    compare(got, want, spec)
