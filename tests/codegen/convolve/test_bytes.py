"""Convolutions of bytes and 16-bit integers in units of k: exact on every shape and target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu import llvm, mlir
from graphmill.codegen.cpu.convolve.conv import ConvSpec, emit_conv, plan_of
from graphmill.codegen.cpu.emit import Unit
from graphmill.codegen.cpu.schedule import UNMEASURED
from graphmill.codegen.cpu.target import target
from graphmill.ir import dtypes
from graphmill.ir.ops.contract import CONV
from tests.codegen.contract.test_units import filled
from tests.codegen.convolve.test_conv import CASES, make, reference

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]

PAIRS = [("i8", "i8"), ("u8", "i8"), ("i8", "u8"), ("u8", "u8"), ("i16", "i8")]
NAMES = [n for n, spec in CASES.items() if spec.x is dtypes.f32 and spec.batch is None]
SHAPES = {
    "many-channels": make(64, 40, (12, 12), (3, 3), pad=1),
    "whole-lines": make(128, 64, (9, 10), (3, 3), pad=1),
    "wide-1x1": make(192, 70, (11, 11), (1, 1)),
    "strided": make(33, 64, (15, 17), (3, 3), pad=1, stride=2),
}


def of(spec: ConvSpec, x: str, w: str) -> ConvSpec:
    acc = dtypes.i32
    return replace(spec, x=dtypes.dtype(x), w=dtypes.dtype(w), acc=acc, out=acc)


@pytest.mark.parametrize("name", [*NAMES, *SHAPES])
def test_sums_are_exact(conv: Callable[..., Array], name: str) -> None:
    rng = np.random.default_rng(0)
    base = (CASES | SHAPES)[name]
    at = sorted([*NAMES, *SHAPES]).index(name)
    for types in (PAIRS[at % 5], PAIRS[(at + 2) % 5]):
        spec = of(base, *types)
        sizes = [size or 0 for size in spec.sizes]
        x = filled(rng, (2 * spec.channels, int(np.prod(sizes))), spec.x)
        x = x.reshape(2, spec.channels, *sizes)
        w = filled(rng, (spec.filters, spec.taps), spec.w)
        w = w.reshape(spec.filters, -1, *spec.window)
        want = reference(spec, x, w, spec.low).astype(np.int32)
        for workers in (1, 3):
            got = conv(spec, x, w, spec.out_sizes, workers=workers)
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_quantised_layer_is_one_kernel(stride: int) -> None:
    """Filters that the function closes over stay bytes, and results are requantised in place."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (2, 64, 13, 14)).astype(np.uint8)
    w = rng.integers(-128, 128, (40, 64, 3, 3)).astype(np.int8)
    w.flags.writeable = False
    scale = np.float32(2.0**-12)

    def layer(x: Any) -> Any:
        y = gm.nn.conv2d(x.astype(np.int32), w.astype(np.int32), stride=stride, padding=1)
        return np.clip(np.round(y.astype(np.float32) * scale) + 3, 0, 255).astype(np.uint8)

    sums = np.asarray(
        CONV.reference(
            x.astype(np.int64), w.astype(np.int64), strides=(stride, stride), low=(1, 1),
            high=(1, 1), dilation=(1, 1), input_dilation=(1, 1), groups=1,
        )
    )  # fmt: skip
    want = np.clip(np.round(sums.astype(np.float32) * scale) + 3, 0, 255).astype(np.uint8)
    layer_of = gm.jit(layer)
    np.testing.assert_array_equal(layer_of(x), want)
    assert layer_of.lower(x).ir("memory").count("fusion") == 1


@pytest.mark.parametrize(
    "name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-amx", "aarch64"]
)
def test_every_target_compiles(name: str) -> None:
    machine = target(name)
    unit = Unit(machine.vector_bits)
    spec = of(SHAPES["whole-lines"], "u8", "i8")
    emit_conv(unit, "gm_conv", spec, machine)
    made = llvm.compile_ir(mlir.lower(unit.text()), machine, keep_text=True)
    assert ("tdpbsud" in made.assembly) is (name == "x86-64-v4-amx")
    assert plan_of(spec, machine, UNMEASURED).tile.head == 0
