"""Matrix products against NumPy: shapes, orders, types, batches, epilogues, special values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphmill.codegen.constants import apply
from graphmill.codegen.cpu.contract.gemm import (
    Epilogue,
    GemmSpec,
    Place,
    packed_size,
    packing_of_b,
)
from graphmill.codegen.cpu.contract.plan import make_plan
from graphmill.codegen.cpu.contract.slices import slices_of
from graphmill.codegen.cpu.contract.tiled import may_overlap
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.target import native, target
from graphmill.ir import dtypes

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
Gemm = Callable[..., Array]

ORDERS = ("row", "col", "strided")
SHAPES = [
    (1, 1, 1), (6, 16, 8), (7, 17, 9), (7, 333, 511), (40, 33, 300), (13, 5, 600), (3, 3, 0),
    (0, 4, 5), (4, 0, 5), (1, 40, 33), (40, 1, 33), (2, 300, 70), (300, 3, 70), (5, 7, 1),
    (260, 200, 530), (40, 10, 33), (90, 70, 200),
]  # fmt: skip


def matrix(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: dtypes.DType, order: str = "row"
) -> Array:
    """Random values of `dtype` laid out in the wanted order."""
    values: Array
    if dtype.is_integer:
        whole = np.iinfo(dtype.numpy)
        low, high = (whole.min, whole.max) if dtype.bits <= 16 else (whole.min and -9, 9)
        values = rng.integers(low, high, shape, endpoint=True).astype(dtype.numpy)
    else:
        values = rng.standard_normal(shape).astype(dtype.numpy)
        if dtype.is_complex:
            values = values + 1j * rng.standard_normal(shape).astype(dtype.numpy)
    if order == "row":
        return values
    if order == "col":
        return np.ascontiguousarray(values.swapaxes(-1, -2)).swapaxes(-1, -2)
    *lead, rows, columns = shape
    wide = np.zeros((*lead, rows * 2, columns * 3), values.dtype)
    wide[..., ::2, ::3] = values
    return wide[..., ::2, ::3]


def exact(a: Array, b: Array) -> Array:
    """The product in the widest type of its kind."""
    wide = {"f": np.float64, "V": np.float64, "c": np.complex128}.get(a.dtype.kind, np.int64)
    product: Array = a.astype(wide) @ b.astype(wide)
    return product


def check(got: Array, a: Array, b: Array, tolerance: float = 1e-5) -> None:
    """Equal for integers, else within `tolerance` of the sum of magnitudes."""
    want = exact(a, b)
    if got.dtype.kind in "iu":
        np.testing.assert_array_equal(got, want.astype(got.dtype))
        return
    scale = np.abs(a.astype(want.dtype)) @ np.abs(b.astype(want.dtype)) + 1e-30
    assert got.shape == want.shape
    error = np.abs(got.astype(want.dtype) - want) / scale.real
    assert error.size == 0 or error.max() < tolerance


@pytest.mark.parametrize("b_order", ORDERS)
@pytest.mark.parametrize("a_order", ORDERS)
def test_any_size_and_order(gemm: Gemm, a_order: str, b_order: str) -> None:
    rng = np.random.default_rng(0)
    f32 = dtypes.f32
    spec = GemmSpec(f32, f32, f32, f32, a_order=a_order, b_order=b_order)
    random = [tuple(int(x) for x in rng.integers(1, 41, 3)) for _ in range(40)]
    for m, n, k in SHAPES + random:
        a, b = matrix(rng, (m, k), f32, a_order), matrix(rng, (k, n), f32, b_order)
        for workers in (1, 3):
            check(gemm(spec, a, b, workers=workers), a, b)


# each order of a and each of b with every shape, the pairs of them with every third
STATIC = [
    (a, ORDERS[(i + j) % 3], shape) for i, shape in enumerate(SHAPES) for j, a in enumerate(ORDERS)
]


@pytest.mark.parametrize(("a_order", "b_order", "shape"), STATIC)
def test_static_size(gemm: Gemm, a_order: str, b_order: str, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    f32 = dtypes.f32
    m, n, k = shape
    spec = GemmSpec(f32, f32, f32, f32, m, n, k, a_order, b_order)
    a, b = matrix(rng, (m, k), f32, a_order), matrix(rng, (k, n), f32, b_order)
    check(gemm(spec, a, b), a, b)
    check(gemm(spec, a, b, workers=2), a, b)


RAGGED = [
    (7, 333, 300), (13, 97, 30), (150, 150, 60), (200, 345, 20), (33, 211, 300), (200, 345, 400),
]  # fmt: skip


@pytest.mark.parametrize("name", ["native", "x86-64-v3"])
@pytest.mark.parametrize("shape", RAGGED)
def test_last_panel_of_known_sizes(gemm: Gemm, shape: tuple[int, int, int], name: str) -> None:
    """It has fewer vectors, or begins in the one before: the bits are the same for all threads."""
    rng = np.random.default_rng(11)
    f32, (m, n, k) = dtypes.f32, shape
    a, b = matrix(rng, (m, k), f32), matrix(rng, (k, n), f32)
    bias = matrix(rng, (n,), f32)
    spec, machine = GemmSpec(f32, f32, f32, f32, m, n, k), target(name)
    plan = make_plan(spec, machine)
    assert name != "native" or machine.vector_bits < 512 or plan.narrow or may_overlap(spec, plan)
    got = [gemm(spec, a, b, workers=workers, target=machine) for workers in (1, 2, 3)]
    check(got[0], a, b)
    for other in got[1:]:
        np.testing.assert_array_equal(other, got[0])
    some = gemm(spec, a, b, epilogue=BIAS, extra=[bias.ctypes.data], workers=2, target=machine)
    want = np.maximum(exact(a, b) + bias, np.arange(m)[:, None])
    np.testing.assert_allclose(some, want, rtol=1e-4, atol=1e-4)


DEEP = [
    ("f32", "f32", 12, 64, 8192), ("f32", "f32", 13, 70, 5003), ("bf16", "f32", 24, 100, 9001),
    ("i8", "i32", 9, 300, 5001), ("u8", "i32", 9, 300, 5001), ("i8", "i32", 20, 100, 8200),
]  # fmt: skip


# floats and bytes in every order, the others in one
DEEP_ORDERS = [
    (case, order)
    for i, case in enumerate(DEEP)
    for order in (ORDERS if i in (0, 3) else ORDERS[i % 3 :][:1])
]


@pytest.mark.parametrize(
    ("case", "order"),
    DEEP_ORDERS,
    ids=lambda c: c if isinstance(c, str) else f"{c[0]}-{c[2]}x{c[3]}x{c[4]}",
)
def test_deep_products_are_cut_alike(
    gemm: Gemm, case: tuple[str, str, int, int, int], order: str
) -> None:
    """Slices of k are work items: any number of workers gives the same bits."""
    rng = np.random.default_rng(8)
    of, acc = dtypes.dtype(case[0]), dtypes.dtype(case[1])
    m, n, k = case[2:]
    spec = GemmSpec(of, of, acc, acc, m, n, k, order, order, batch=2)
    assert slices_of(spec, make_plan(spec, native(), units=True)) > 1
    a, b = matrix(rng, (2, m, k), of, order), matrix(rng, (2, k, n), of, order)
    got = [gemm(spec, a, b, workers=workers) for workers in (1, 2, 5)]
    check(got[0], a, b)
    for other in got[1:]:
        np.testing.assert_array_equal(other, got[0])
    if acc is dtypes.f32:
        bias = matrix(rng, (n,), acc)
        some = gemm(spec, a, b, epilogue=BIAS, extra=[bias.ctypes.data], workers=3)
        shift = 100 * np.arange(2)[:, None, None]
        want = np.maximum(exact(a, b) + bias + shift, np.arange(m)[:, None])
        np.testing.assert_allclose(some, want, rtol=1e-4, atol=1e-3)


def test_deep_product_with_a_packed_constant(gemm: Gemm) -> None:
    rng = np.random.default_rng(9)
    f32 = dtypes.f32
    m, n, k = 20, 70, 6000
    spec = GemmSpec(f32, f32, f32, f32, m, n, k, b_packed=True)
    assert slices_of(spec, make_plan(spec, native(), units=True)) > 1
    a, b = matrix(rng, (m, k), f32), matrix(rng, (k, n), f32)
    steps, _, dtype = packing_of_b(spec, native())
    panels = np.ascontiguousarray(apply(b, steps), dtype)
    check(gemm(spec, a, b, packed=panels, workers=3), a, b)


TYPES = [
    ("f64", "f64", "f64", "f64", 1e-13), ("f16", "f16", "f32", "f16", 1e-3),
    ("bf16", "bf16", "f32", "bf16", 1e-2), ("bf16", "bf16", "f32", "f32", 1e-6),
    ("f16", "f32", "f32", "f32", 1e-6), ("i8", "i8", "i32", "i32", 0),
    ("u8", "i8", "i32", "i32", 0), ("i8", "i8", "i32", "i64", 0),
    ("i8", "i8", "i8", "i8", 0), ("i16", "i16", "i16", "i16", 0), ("u8", "u8", "u8", "u8", 0),
    ("i32", "i32", "i32", "i32", 0), ("i64", "i64", "i64", "i64", 0),
    ("c64", "c64", "c64", "c64", 1e-6), ("c128", "f64", "c128", "c128", 1e-14),
    ("u64", "u64", "u64", "u64", 0), ("u32", "u32", "u32", "u32", 0),
]  # fmt: skip


@pytest.mark.parametrize("types", TYPES, ids=lambda t: "-".join(map(str, t[:4])))
def test_types(gemm: Gemm, types: tuple[str, str, str, str, float]) -> None:
    rng = np.random.default_rng(2)
    a_type, b_type, acc, out = (dtypes.dtype(name) for name in types[:4])
    for order in ("row", "col"):
        spec = GemmSpec(a_type, b_type, acc, out, a_order=order, b_order=order)
        for m, n, k in [(7, 17, 9), (40, 50, 300), (1, 3, 0), (13, 37, 64)]:
            a, b = matrix(rng, (m, k), a_type, order), matrix(rng, (k, n), b_type, order)
            check(gemm(spec, a, b, workers=2), a, b, types[4])


@pytest.mark.parametrize("sizes", [(None, None, None), (7, 20, 33)])
@pytest.mark.parametrize("b_order", ORDERS)
def test_batch(gemm: Gemm, b_order: str, sizes: tuple[int | None, ...]) -> None:
    rng = np.random.default_rng(3)
    f32 = dtypes.f32
    for batch in (1, 2, 5):
        m, n, k = (size or 11 for size in sizes)
        spec = GemmSpec(f32, f32, f32, f32, *sizes, "row", b_order, batch=None)
        a, b = matrix(rng, (batch, m, k), f32), matrix(rng, (batch, k, n), f32, b_order)
        for workers in (1, 2, 3):
            check(gemm(spec, a, b, workers=workers), a, b)


def test_broadcast_batch(gemm: Gemm) -> None:
    rng = np.random.default_rng(4)
    f32 = dtypes.f32
    spec = GemmSpec(f32, f32, f32, f32, batch=4)
    a = matrix(rng, (4, 9, 30), f32)
    b = np.broadcast_to(matrix(rng, (30, 21), f32), (4, 30, 21))
    check(gemm(spec, a, b), a, b)


@pytest.mark.parametrize("static", [False, True])
def test_packed_constant(gemm: Gemm, static: bool) -> None:
    rng = np.random.default_rng(5)
    f32 = dtypes.f32
    for m, n, k in [(1, 10, 64), (17, 40, 300), (100, 512, 784)]:
        spec = GemmSpec(f32, f32, f32, f32, m if static else None, n, k, b_packed=True)
        a, b = matrix(rng, (m, k), f32), matrix(rng, (k, n), f32)
        steps, shape, dtype = packing_of_b(spec, native())
        panels = np.ascontiguousarray(apply(b, steps), dtype)
        assert panels.shape == shape and panels.nbytes == packed_size(spec, native())
        check(gemm(spec, a, b, packed=panels, workers=2), a, b)


def add_bias(code: Code, acc: Val, place: Place) -> Val:
    """`max(acc + bias[col] + 100 * batch, row)`, with masked loads by hand."""
    bias = code.at(place.extra[0], place.col, acc.element)
    if place.mask is None:
        loaded = code.load(bias, acc.type, 4)
    else:
        loaded = code.op(
            f"llvm.intr.masked.load {bias}, {place.mask}, {code.const(0, acc.type)} "
            f"{{alignment = 4 : i32}} : (!llvm.ptr, {place.mask.type}, {acc.type}) -> {acc.type}",
            acc.type,
        )
    hundred = code.mul(place.batch, 100)
    shift = code.splat(code.op(f"arith.sitofp {hundred} : i64 to f32", "f32"), acc.lanes)
    row = code.splat(code.op(f"arith.sitofp {place.row} : i64 to f32", "f32"), acc.lanes)
    total = code.binary("arith.addf", code.binary("arith.addf", acc, loaded), shift)
    return code.binary("arith.maximumf", total, row)


BIAS = Epilogue(add_bias, ("!llvm.ptr",))


@pytest.mark.parametrize("out", ["f32", "f16"])
def test_epilogue(gemm: Gemm, out: str) -> None:
    rng = np.random.default_rng(6)
    f32 = dtypes.f32
    spec = GemmSpec(f32, f32, f32, dtypes.dtype(out), batch=None)
    for m, n, k in [(1, 1, 1), (7, 17, 9), (12, 32, 700), (13, 37, 600), (4, 9, 0)]:
        a, b = matrix(rng, (2, m, k), f32), matrix(rng, (2, k, n), f32)
        bias = matrix(rng, (n,), f32)
        got = gemm(spec, a, b, epilogue=BIAS, extra=[bias.ctypes.data], workers=2)
        shift = 100 * np.arange(2)[:, None, None]
        want = np.maximum(exact(a, b) + bias + shift, np.arange(m)[:, None])
        np.testing.assert_allclose(got, want, rtol=1e-4 if out == "f32" else 2e-3, atol=1e-4)


def test_special_values(gemm: Gemm) -> None:
    f32 = dtypes.f32
    spec = GemmSpec(f32, f32, f32, f32)
    rng = np.random.default_rng(7)
    for special in (np.inf, -np.inf, np.nan):
        a, b = matrix(rng, (13, 21), f32), matrix(rng, (21, 18), f32)
        a[3, 20], b[0, 17] = special, special
        with np.errstate(invalid="ignore"):
            want = a.astype(np.float64) @ b.astype(np.float64)
        np.testing.assert_allclose(gemm(spec, a, b), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(None, None, None), (130, 460, 170)], ids=["any", "known"])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_threads_gives_the_same_bits(
    gemm: Gemm, batch: int, sizes: tuple[int | None, ...]
) -> None:
    rng = np.random.default_rng(10)
    f32 = dtypes.f32
    spec = GemmSpec(f32, f32, f32, f32, *sizes, batch=None if sizes[0] is None else batch)
    given = [(130, 460, 170)] if None not in sizes else [(9, 2000, 300), (900, 50, 90)]
    for m, n, k in given:
        a, b = matrix(rng, (batch, m, k), f32), matrix(rng, (batch, k, n), f32)
        first = gemm(spec, a, b)
        check(first, a, b)
        for workers in (2, 3, 4, 7):
            np.testing.assert_array_equal(gemm(spec, a, b, workers=workers), first)
