"""Products on AMX: exact for bytes of either sign, within f32's rounding for bf16, on any shape."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.constants import apply
from graphmill.codegen.cpu import llvm, mlir
from graphmill.codegen.cpu.contract.dots import choose_amx, choose_dot
from graphmill.codegen.cpu.contract.gemm import GemmSpec, emit_gemm, packed_size, packing_of_b
from graphmill.codegen.cpu.contract.plan import make_plan
from graphmill.codegen.cpu.emit import Unit
from graphmill.codegen.cpu.target import native, target
from graphmill.ir import dtypes
from tests.codegen.contract.test_units import filled, laid_out

Array = np.ndarray[Any, Any]
Gemm = Callable[..., Array]

needs_amx = pytest.mark.skipif(not native().has_tiles, reason="this machine has no usable AMX")
AMX = target("x86-64-v4-amx")
SIGNS = [("i8", "i8"), ("u8", "i8"), ("i8", "u8"), ("u8", "u8")]
ORDERS = [("row", "row"), ("col", "col"), ("row", "col"), ("strided", "strided")]
# m, n, k: below, at and beyond tiles of 16 and 32 rows, 32 columns and 64 bytes, chunks of k
SHAPES = [
    (1, 1, 1), (16, 32, 64), (17, 33, 65), (32, 64, 128), (33, 31, 63), (100, 70, 300), (5, 40, 0),
    (40, 5, 700), (65, 100, 1600), (70, 45, 3100),
]  # fmt: skip


def spec_of(a: str, b: str, orders: tuple[str, str] = ("row", "row")) -> GemmSpec:
    """A product of any sizes, which the machine model gives to tiles."""
    acc = dtypes.f32 if a == "bf16" else dtypes.i32
    types = dtypes.dtype(a), dtypes.dtype(b)
    return GemmSpec(*types, acc, acc, a_order=orders[0], b_order=orders[1])


def on_tiles(spec: GemmSpec) -> bool:
    return bool(make_plan(spec, native(), units=True).tile.dot.amx)


@needs_amx
@pytest.mark.parametrize("types", SIGNS, ids="-".join)
@pytest.mark.parametrize("orders", ORDERS, ids="-".join)
def test_bytes_are_exact(gemm: Gemm, types: tuple[str, str], orders: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    spec = spec_of(*types, orders)
    assert on_tiles(spec)
    for m, n, k in SHAPES:
        a, b = filled(rng, (m, k), spec.a), filled(rng, (k, n), spec.b)
        want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
        given = laid_out(a, orders[0]), laid_out(b, orders[1])
        for workers in (1, 2, 3):
            np.testing.assert_array_equal(gemm(spec, *given, workers=workers), want)


@needs_amx
@pytest.mark.parametrize(
    "shape", [(64, 64, 64), (40, 96, 192), (33, 70, 130), (1200, 40, 64), (70, 45, 1300)]
)
@pytest.mark.parametrize("out", ["i32", "i8"])
def test_known_sizes(gemm: Gemm, shape: tuple[int, int, int], out: str) -> None:
    rng = np.random.default_rng(1)
    m, n, k = shape
    spec = replace(spec_of("u8", "i8"), m=m, n=n, k=k, out=dtypes.dtype(out))
    assert on_tiles(spec)
    a, b = filled(rng, (m, k), spec.a), filled(rng, (k, n), spec.b)
    want = (a.astype(np.int64) @ b.astype(np.int64)).astype(spec.out.numpy)
    np.testing.assert_array_equal(gemm(spec, a, b, workers=2), want)


@needs_amx
@pytest.mark.parametrize("types", SIGNS, ids="-".join)
def test_constants_are_packed_alike(gemm: Gemm, types: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    for m, n, k in [(7, 80, 37), (40, 33, 130)]:
        spec = replace(spec_of(*types), n=n, k=k, b_packed=True)
        a, b = filled(rng, (m, k), spec.a), filled(rng, (k, n), spec.b)
        steps, shape, dtype = packing_of_b(spec, native())
        panels = np.ascontiguousarray(apply(b, steps), dtype)
        assert panels.shape == shape and panels.nbytes == packed_size(spec, native())
        want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
        np.testing.assert_array_equal(gemm(spec, a, b, packed=panels, workers=2), want)


@needs_amx
@pytest.mark.parametrize("orders", ORDERS, ids="-".join)
def test_bf16_rounds_as_f32_does(gemm: Gemm, orders: tuple[str, str]) -> None:
    """Sums of n products err by at most n + 1 roundings of f32; threads do not matter."""
    rng = np.random.default_rng(3)
    spec = spec_of("bf16", "bf16", orders)
    assert on_tiles(spec)
    for m, n, k in SHAPES:
        a = rng.standard_normal((m, k)).astype(dtypes.bf16.numpy)
        b = rng.standard_normal((k, n)).astype(dtypes.bf16.numpy)
        given = laid_out(a, orders[0]), laid_out(b, orders[1])
        one = gemm(spec, *given)
        wide = a.astype(np.float64), b.astype(np.float64)
        bound = (k + 1) * 2.0**-24 * (np.abs(wide[0]) @ np.abs(wide[1]))
        assert (np.abs(one - wide[0] @ wide[1]) <= bound).all()
        for workers in (2, 3):
            np.testing.assert_array_equal(gemm(spec, *given, workers=workers), one)


@needs_amx
def test_special_values_of_bf16(gemm: Gemm) -> None:
    """Infinities and NaN as IEEE has them; padding takes no part; subnormals count as zero."""
    spec = spec_of("bf16", "bf16")
    a, b = np.ones((40, 70), dtypes.bf16.numpy), np.ones((70, 45), dtypes.bf16.numpy)
    a[0, 69], a[1, 69], a[2, 3], a[39, 69] = np.inf, np.nan, 1e-39, -np.inf
    got = gemm(spec, a, b)
    assert np.isposinf(got[0]).all() and np.isnan(got[1]).all() and np.isneginf(got[39]).all()
    np.testing.assert_array_equal(got[2], 69)
    np.testing.assert_array_equal(got[3:39], 70)
    a[:], b[:] = 1e-30, 1e-9
    np.testing.assert_array_equal(gemm(spec, a, b), 0)


@needs_amx
def test_batches_epilogues_and_long_sums() -> None:
    rng = np.random.default_rng(4)

    def dense(x: Any, w: Any, scale: Any, rest: Any) -> Any:
        y = np.matmul(x.astype(np.int32), w.astype(np.int32))
        return np.maximum(y * scale, 0) + rest

    x = rng.integers(-128, 128, (3, 50, 200)).astype(np.int8)
    w = rng.integers(-128, 128, (3, 200, 70)).astype(np.int8)
    scale = rng.random((70,)).astype(np.float32)
    rest = rng.random((3, 50, 70)).astype(np.float32)
    for _ in range(2):
        want = dense(x, w, scale, rest)
        np.testing.assert_allclose(gm.jit(dense)(x, w, scale, rest), want, rtol=1e-6)
    long = rng.integers(-128, 128, (48, 20000)).astype(np.int8)
    wide = rng.integers(-128, 128, (20000, 40)).astype(np.int8)
    product = gm.jit(lambda a, b: np.matmul(a.astype(np.int32), b.astype(np.int32)))
    np.testing.assert_array_equal(product(long, wide), long.astype(np.int32) @ wide)


@needs_amx
def test_threads_call_at_the_same_time() -> None:
    """Threads that ran before the permission was asked for may use tiles, too."""
    rng = np.random.default_rng(5)
    a = rng.integers(-128, 128, (200, 300)).astype(np.int8)
    b = rng.integers(-128, 128, (300, 150)).astype(np.int8)
    want = a.astype(np.int32) @ b.astype(np.int32)
    product = gm.jit(lambda a, b: np.matmul(a.astype(np.int32), b.astype(np.int32)))
    same = []

    def work() -> None:
        same.extend(bool((product(a, b) == want).all()) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 200


@pytest.mark.parametrize("types", [*SIGNS, ("bf16", "bf16")], ids="-".join)
def test_code_for_tiles_compiles_everywhere(types: tuple[str, str]) -> None:
    unit = Unit(AMX.vector_bits)
    emit_gemm(unit, "gm_product", spec_of(*types, ("col", "col")), AMX)
    made = llvm.compile_ir(mlir.lower(unit.text()), AMX, keep_text=True)
    dot = choose_amx(AMX, *map(dtypes.dtype, types), "f32" if types[0] == "bf16" else "i32")
    assert dot is not None and made.object
    for name in (dot.amx, "ldtilecfg", "tileloadd", "tilestored", "tilerelease"):
        assert name in made.assembly


def test_tiles_are_for_targets_that_name_them() -> None:
    i8, bf16 = dtypes.i8, dtypes.bf16
    for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"):
        assert choose_amx(target(name), i8, i8, "i32") is None
    assert choose_amx(AMX.without_tiles(), i8, i8, "i32") is None
    assert choose_amx(AMX, i8, i8, "i64") is None
    assert choose_amx(AMX, bf16, dtypes.f32, "f32") is None
    assert choose_dot(AMX, bf16, bf16, "f32").group == 1  # vdpbf16ps is slow beside tiles


@pytest.mark.parametrize(
    ("types", "sizes", "tiles"),
    [
        (("bf16", "bf16"), (1024, 1024, 1024), True), (("bf16", "bf16"), (16, 16, 16), False),
        (("i8", "i8"), (64, 64, 64), True), (("i8", "i8"), (32, 32, 32), False),
        (("i8", "i8"), (5, 1024, 1024), False), (("i8", "i8"), (512, 512, 16), False),
    ],
)  # fmt: skip
def test_small_products_use_vectors(
    types: tuple[str, str], sizes: tuple[int, int, int], tiles: bool
) -> None:
    m, n, k = sizes
    spec = replace(spec_of(*types), m=m, n=n, k=k)
    assert bool(make_plan(spec, AMX, units=True).tile.dot.amx) is tiles
