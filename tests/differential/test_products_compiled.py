"""Products whose operands are computed from narrower arrays: one kernel, the values NumPy gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
I32, F32 = np.int32, np.float32


def constant(w: Array) -> Callable[[Array], Array]:
    return lambda x: x.astype(I32) @ w.astype(I32)


WIDENED: dict[str, Callable[[Array, Array], Array]] = {
    "both": lambda x, w: x.astype(I32) @ w.astype(I32),
    "transposed": lambda x, w: x.astype(I32) @ w.astype(I32).T.copy().T,
    "read twice": lambda x, w: (h := x.astype(I32)) @ w.astype(I32) + h.sum(),
    "chained": lambda x, w: (
        (x.astype(I32) @ w.astype(I32)).astype(np.int8).astype(I32) @ w.astype(I32).T
    ),
    "one": lambda x, w: x.astype(I32) @ w,
    "with a bias": lambda x, w: x.astype(I32) @ w.astype(I32) + w[0].astype(I32),
}


@pytest.mark.parametrize("name", WIDENED)
def test_widened_bytes(name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (9, 70)).astype(np.int8)
    w = rng.integers(-128, 128, (70, 50)).astype(I32 if name == "one" else np.int8)
    function = WIDENED[name]
    np.testing.assert_array_equal(gm.jit(function)(x, w), function(x, w))
    dynamic = gm.jit(function, dynamic={"x": ("batch", None)})
    for m in (0, 1, 5, 9):
        np.testing.assert_array_equal(dynamic(x[:m], w), function(x[:m], w))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("wide", [np.int8, np.uint8, np.int16])
def test_constant_weights(dtype: Any, wide: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (6, 70)).astype(dtype)
    w = rng.integers(-40000, 40000, (70, 50)).astype(wide)
    w.flags.writeable = False
    np.testing.assert_array_equal(gm.jit(constant(w))(x), constant(w)(x))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_widened_floats_are_exact_products(dtype: Any) -> None:
    rng = np.random.default_rng(2)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((9, 70), (70, 50)))
    x[0, 0] = 1e-39  # a subnormal bf16
    got = gm.jit(lambda x, w: x.astype(F32) @ w.astype(F32))(x, w)
    assert got.dtype == F32
    np.testing.assert_allclose(got, x.astype(F32) @ w.astype(F32), rtol=1e-5, atol=1e-5)


def test_no_copy_of_a_widened_operand() -> None:
    x, w = np.ones((64, 64), np.int8), np.ones((64, 64), np.int8)
    text = gm.jit(lambda x, w: x.astype(I32) @ w.astype(I32)).lower(x, w).ir("memory")
    assert "arena_bytes=0" in text and text.count("fusion") == 1


DEQUANTISED: dict[str, Callable[..., Array]] = {
    "a cast": lambda x, q, s, z: x @ q.astype(F32),
    "by column": lambda x, q, s, z: x @ ((q.astype(F32) - z) * s),
    "by row, transposed": lambda x, q, s, z: x @ ((q.T.astype(F32) - z[:, None]) * s[:, None]).T,
    "by a scalar": lambda x, q, s, z: x @ (q.astype(F32) * s[0]),
    "four bits": lambda x, q, s, z: x @ (((q & 15).astype(F32) - 8) * s),
    "with what follows": lambda x, q, s, z: np.maximum(x @ (q.astype(F32) * s) + z, 0) * s,
    "read elsewhere": lambda x, q, s, z: x @ (w := q.astype(F32) * s) + w.sum(0),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", DEQUANTISED)
def test_dequantised_weights(name: str, dtype: Any) -> None:
    """Few rows, many, none and a symbolic number; scales by value, q as it lies or strided."""
    rng = np.random.default_rng(3)
    q = rng.integers(-128, 128, (70, 67)).astype(np.int8).view(dtype)
    x, s, z = (rng.standard_normal(n).astype(F32) for n in ((40, 70), (67,), (67,)))
    function = DEQUANTISED[name]
    dynamic = gm.jit(function, dynamic={"x": ("batch", None)})
    compiled = gm.jit(function, threads=2)
    for m, given in [(40, q), (3, q), (1, np.repeat(q, 2, 1)[:, ::2])]:
        want = function(*(a.astype(np.float64) for a in (x[:m],)), given, s, z)
        for call in (compiled, dynamic):
            np.testing.assert_allclose(call(x[:m], given, s, z), want, rtol=1e-4, atol=1e-2)
    assert dynamic(x[:0], q, s, z).shape == (0, 67)


def test_dequantised_weights_are_not_stored() -> None:
    x, q, s = np.ones((8, 64), F32), np.ones((64, 64), np.int8), np.ones(64, F32)
    text = gm.jit(lambda x, q, s: x @ (q.astype(F32) * s)).lower(x, q, s).ir("memory")
    assert "arena_bytes=0" in text and text.count("fusion") == 1


def halves(p: Array, axis: int) -> Array:
    """The two 4-bit values of each byte."""
    return np.stack([p & 15, p >> 4], axis)


def repeated(x: Array, count: int) -> Array:
    """Each row as often as gives `count` rows."""
    return np.repeat(x, count // len(x), 0)


def by_rows(q: Array, s: Array, z: Array, k: int) -> Array:
    """`(q - z) * s` with a scale and a zero point for every few rows."""
    w = (q.reshape(len(s), -1, q.shape[-1]).astype(F32) - z[:, None]) * s[:, None]
    return w.reshape(k, -1)


def by_columns(q: Array, s: Array, z: Array, k: int) -> Array:
    """The same of a transposed matrix."""
    w = (q.reshape(len(q), len(s), -1).astype(F32) - z.T[:, :, None]) * s.T[:, :, None]
    return w.reshape(-1, k).T


# what shape the integers have, and the product with x
GROUPED: dict[str, tuple[str, Callable[..., Array]]] = {
    "repeated scales": ("kn", lambda x, q, s, z: x @ (q.astype(F32) * repeated(s, len(q)))),
    "zero points": ("kn", lambda x, q, s, z: x @ by_rows(q, s, z, len(q))),
    "transposed": ("nk", lambda x, q, s, z: x @ by_columns(q, s, z, q.shape[1])),
    "halves side by side": (
        "k/2 n",
        lambda x, p, s, z: np.maximum(x @ by_rows(halves(p, 1), s, z, 2 * len(p)) + z[0], 0),
    ),
    "halves behind each other": (
        "k/2 n",
        lambda x, p, s, z: (
            x @ ((np.concatenate([p & 15, p >> 4]).astype(F32) - 8) * repeated(s, 2 * len(p)))
        ),
    ),
    "halves, transposed": (
        "n k/2",
        lambda x, p, s, z: x @ by_columns(halves(p, -1), s, z, 2 * p.shape[1]),
    ),
}


@pytest.mark.parametrize("sizes", [(128, 70, 32), (60, 19, 10)], ids=str)
@pytest.mark.parametrize("name", GROUPED)
def test_weights_dequantised_by_groups(name: str, sizes: tuple[int, int, int]) -> None:
    """Few rows, many, none; groups of whole vectors and of no such; never stored as floats."""
    rng = np.random.default_rng(4)
    (k, n, group), (shape, function) = sizes, GROUPED[name]
    rows, columns = {"kn": (k, n), "nk": (n, k), "k/2 n": (k // 2, n), "n k/2": (n, k // 2)}[shape]
    q = rng.integers(0, 256, (rows, columns)).astype(np.uint8)
    shapes = ((40, k), (k // group, n), (k // group, n))
    x, s, z = (rng.standard_normal(d).astype(F32) for d in shapes)
    compiled, dynamic = gm.jit(function, threads=2), gm.jit(function, dynamic={"x": ("m", None)})
    for m in (40, 3, 1):
        want = function(x[:m].astype(np.float64), q, s.astype(np.float64), z.astype(np.float64))
        for call in (compiled, dynamic):
            got = call(x[:m], q, s, z)
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * abs(want).max())
    assert dynamic(x[:0], q, s, z).shape == (0, n)
    x[1, 3], x[0, 5] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        want = function(x[:3].astype(np.float64), q, s.astype(np.float64), z.astype(np.float64))
    np.testing.assert_allclose(compiled(x[:3], q, s, z), want, rtol=1e-3, atol=1e-3)
    text = compiled.lower(x[:3], q, s, z).ir("memory")
    assert int(text.partition("arena_bytes=")[2].partition("}")[0]) < k * n * 4, "stored as floats"


OUTER: dict[str, Callable[[Array, Array], Array]] = {
    "column by row": lambda x, y: x[:, None] @ y[None],
    "batches": lambda x, y: np.einsum("bik,bjk->bij", x.reshape(3, -1, 1), y.reshape(3, -1, 1)),
    "widened": lambda x, y: x[:, None].astype(np.float64) @ y[None].astype(np.float64) + 1,
}


@pytest.mark.parametrize("name", OUTER)
def test_outer_products_are_elementwise(name: str) -> None:
    x, y = np.linspace(-1, 1, 12, dtype=F32), np.linspace(0, 3, 21, dtype=F32)
    x[3] = np.nan
    np.testing.assert_allclose(gm.jit(OUTER[name])(x, y), OUTER[name](x, y), rtol=1e-6)
    assert "dot_general" not in gm.jit(OUTER[name]).lower(x, y).ir("memory")
