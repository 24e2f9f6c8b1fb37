"""Products whose left operand is computed while it is packed: never stored, NumPy's values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu.target import native
from tests.aot.conftest import needs_lld

pytestmark = pytest.mark.sampled(3)

Array = np.ndarray[Any, Any]
F32, I32, BF16 = np.float32, np.int32, ml_dtypes.bfloat16


def wide(q: Array, like: Array) -> Array:
    """Integers as numbers of the scales' dtype."""
    return q.astype(like.dtype)


# q (m, k), s and z (m,), t (k,), w (k, n)
ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "a cast": lambda q, s, z, t, w: wide(q, s) @ w,
    "by row": lambda q, s, z, t, w: ((wide(q, s) - z[:, None]) * s[:, None]) @ w,
    "along k": lambda q, s, z, t, w: (wide(q, s) * t) @ w,
    "transposed": lambda q, s, z, t, w: (w.T @ (wide(q, s).T * s)).T,
    "selected": lambda q, s, z, t, w: np.where(q > 3, wide(q, s) * t, z[:, None]) @ w + z[:, None],
    "read elsewhere": lambda q, s, z, t, w: (h := wide(q, s) * s[:, None]) @ w + h.sum(1)[:, None],
    "two products": lambda q, s, z, t, w: (h := wide(q, s) * s[:, None]) @ w * (h @ w[:, :1]),
}


def arguments(m: int, k: int, n: int, dtype: Any = np.int8) -> list[Array]:
    rng = np.random.default_rng(m + k + n)
    q = rng.integers(-128, 128, (m, k)).astype(np.int8).view(dtype)
    floats = [rng.standard_normal(d).astype(F32) for d in (m, m, k)]
    return [q, *floats, rng.standard_normal((k, n)).astype(F32)]


def check(got: Array, function: Callable[..., Array], given: list[Array]) -> None:
    want = function(*(a if a.dtype.kind in "iu" else a.astype(np.float64) for a in given))
    assert got.shape == want.shape
    finite = np.abs(want[np.isfinite(want)]).max(initial=1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-6 * finite)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8], ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dequantised_activations(name: str, dtype: Any) -> None:
    """Tiles of rows and few of them, few columns and many, q as it lies and strided."""
    function = ACTIVATIONS[name]
    compiled = gm.jit(function, threads=2)
    for sizes in [(7, 511, 333), (3, 70, 90), (45, 33, 2)]:
        given = arguments(*sizes, dtype)
        got = compiled(*given)
        check(got, function, given)
        if name == "by row":
            np.testing.assert_array_equal(gm.jit(function, threads=1)(*given), got)
        given[0] = np.repeat(given[0], 2, 1)[:, ::2]
        check(compiled(*given), function, given)


@pytest.mark.parametrize("name", ["by row", "along k"])
def test_unknown_sizes(name: str) -> None:
    """Any number of rows, none included; one value of k, none; what is not finite stays so."""
    function = ACTIVATIONS[name]
    axes = {"q": ("m", "k"), "s": ("m",), "z": ("m",), "t": ("k",), "w": ("k", "n")}
    compiled = gm.jit(function, dynamic=axes, threads=2)
    for sizes in [(40, 70, 67), (1, 70, 67), (0, 70, 67), (9, 1, 20), (9, 0, 20), (6, 31, 1)]:
        given = arguments(*sizes)
        check(compiled(*given), function, given)
    given = arguments(9, 50, 30)
    given[1][[2, 3, 4]] = np.inf, -np.inf, np.nan
    given[3][[5, 6]] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        check(compiled(*given), function, given)


MADE: dict[str, tuple[Callable[..., Array], tuple[Any, ...]]] = {
    "batched": (
        lambda q, s, w: (q.astype(F32) * s) @ w,
        ((np.int8, 3, 20, 40), (F32, 3, 20, 1), (F32, 3, 40, 30)),
    ),
    "batched, the right one": (
        lambda x, q, s: x @ (q.astype(F32) * s),
        ((F32, 3, 20, 40), (np.int8, 3, 40, 30), (F32, 3, 1, 30)),
    ),
    "batched, few rows": (
        lambda q, s, w: (q.astype(F32) * s) @ w,
        ((np.uint8, 3, 2, 40), (F32, 3, 1, 40), (F32, 3, 40, 30)),
    ),
    "rows of a batch": (
        lambda q, s, w: (q.astype(F32) * s) @ w,
        ((np.int8, 3, 20, 40), (F32, 3, 20, 1), (F32, 40, 30)),
    ),
    "both": (
        lambda q, s, p, t: np.maximum((q.astype(F32) * s) @ ((p.astype(F32) - 3) * t) + t, 0),
        ((np.int8, 20, 40), (F32, 20, 1), (np.uint8, 40, 30), (F32, 30)),
    ),
    "float64": (
        lambda q, s, w: (q.astype(np.float64) * s) @ w,
        ((np.int16, 20, 40), (np.float64, 20, 1), (np.float64, 40, 30)),
    ),
    "float16": (
        lambda h, s, w: (h.astype(F32) * s) @ w,
        ((np.float16, 20, 40), (F32, 20, 1), (F32, 40, 30)),
    ),
    "by blocks": (
        lambda q, s, w: (q.reshape(-1, 4, 10).astype(F32) * s[..., None]).reshape(20, 40) @ w,
        ((np.int8, 20, 40), (F32, 20, 4), (F32, 40, 30)),
    ),
    "repeated scales": (
        lambda q, s, w: (q.astype(F32) * np.repeat(s, 10, 1)) @ w,
        ((np.int8, 20, 40), (F32, 20, 4), (F32, 40, 30)),
    ),
    "rows by blocks of weights": (
        lambda q, s, p, t: (q.astype(F32) * s) @ (p.astype(F32) * np.repeat(t, 8, 0)),
        ((np.int8, 20, 40), (F32, 20, 1), (np.int8, 40, 30), (F32, 5, 30)),
    ),
    "blocks by blocks": (
        lambda q, s, p, t: (
            (q.astype(F32) * np.repeat(s, 8, 1)) @ (p.astype(F32) * np.repeat(t, 8, 0))
        ),
        ((np.int8, 20, 40), (F32, 20, 5), (np.int8, 40, 30), (F32, 5, 30)),
    ),
    "a deep product": (
        lambda q, s, w: (q.astype(F32) * s) @ w,
        ((np.int8, 8, 9000), (F32, 9000), (F32, 9000, 40)),
    ),
    "parts": (
        lambda x, w: np.maximum(x[2:22, 3:43] @ w[:, 5:35], 0),
        ((F32, 30, 50), (F32, 40, 40)),
    ),
    "parts of a batch": (
        lambda q, s, w: (q[:, 1:21].astype(F32) * s) @ w[1:, :, :30],
        ((np.int8, 3, 22, 40), (F32, 3, 20, 1), (F32, 4, 40, 31)),
    ),
    "every other row, columns": (
        lambda q, w: q[1::2, 4:44].astype(I32) @ w[5:45].astype(I32),
        ((np.int8, 41, 50), (np.int8, 50, 30)),
    ),
    "neighbours": (
        lambda q, w: (q[1:].astype(F32) * q[:-1].astype(F32)) @ w,
        ((np.int8, 20, 40), (F32, 40, 30)),
    ),
    "a row of an array as large": (
        lambda x, s, w: x @ (s[0] * w),
        ((F32, 20, 600), (F32, 600, 450), (F32, 600, 450)),
    ),
    "columns and what follows": (
        lambda q, s, w: (q.T.astype(F32) * s) @ w + s,
        ((np.int8, 40, 20), (F32, 20, 1), (F32, 40, 30)),
    ),
    "weights by columns": (
        lambda x, q, s: x[:, 2:] @ (q.T.astype(F32) * s),
        ((F32, 20, 42), (np.int8, 30, 40), (F32, 30)),
    ),
    "large and as wide": (
        lambda x, s, w: (np.maximum(x, 0) * s) @ w,
        ((F32, 600, 450), (F32, 450), (F32, 450, 20)),
    ),
}


def made(kinds: tuple[Any, ...]) -> list[Array]:
    rng = np.random.default_rng(5)
    shapes = [(np.dtype(kind), shape) for kind, *shape in kinds]
    return [
        rng.integers(0, 100, shape).astype(dtype) if dtype.kind in "iu"
        else rng.standard_normal(shape).astype(dtype) for dtype, shape in shapes
    ]  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_is_not_stored(name: str) -> None:
    """One kernel, no buffer, the right values for any number of threads."""
    function, kinds = MADE[name]
    given = made(kinds)
    compiled = gm.jit(function, threads=2)
    text = compiled.lower(*given).ir("memory")
    assert "arena_bytes=0" in text and text.count("= fusion") == 1
    check(compiled(*given), function, given)
    np.testing.assert_array_equal(gm.jit(function, threads=1)(*given), compiled(*given))
    given[0] = np.repeat(given[0], 2, -1)[..., ::2]
    check(compiled(*given), function, given)


def test_few_and_small_arrays_as_wide_are_stored() -> None:
    """They stay in the caches, and what else reads them computes more in passing."""
    x, w = np.ones((40, 50), F32), np.ones((50, 20), F32)
    assert gm.jit(lambda x, w: np.maximum(x, 0) @ w).lower(x, w).ir("memory").count("max ") == 1
    x = np.ones((600, 450), F32)
    function = gm.jit(lambda x, w: (x / np.sqrt((x * x).mean(1, keepdims=True))) @ w)
    assert "arena_bytes=1080" in function.lower(x, np.ones((450, 20), F32)).ir("memory")


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("sizes", [(40, 70, 67), (33, 64, 64), (7, 131, 20)], ids=str)
def test_bf16_and_bytes_in_units(sizes: tuple[int, int, int], order: str) -> None:
    """What instructions multiply several values of is computed as such."""
    m, k, n = sizes
    rng = np.random.default_rng(6)
    q, p = rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(-9, 9, (k, n))
    p = p.astype(np.int8)
    if order == "columns":
        q, p = np.asfortranarray(q), np.asfortranarray(p)

    def floats(q: Array, w: Array) -> Array:
        return (q.astype(BF16) * BF16(0.5)) @ w

    def weights(x: Array, p: Array) -> Array:
        return x @ (p.astype(BF16) - BF16(1))

    def nibbles(q: Array, p: Array) -> Array:
        return ((q & 15) - 8).astype(I32) @ (p + 1).astype(I32)

    x, w = q.astype(BF16), p.astype(BF16)
    for function, given in ((floats, (q, w)), (weights, (x, p))):
        want = function(*(a.astype(F32) if a.dtype == BF16 else a for a in given))
        got = gm.jit(function)(*given)
        assert got.dtype == BF16
        np.testing.assert_allclose(
            got.astype(F32), want, rtol=2**-7, atol=2**-7 * np.abs(want).max()
        )
    np.testing.assert_array_equal(gm.jit(nibbles)(q, p), nibbles(q, p))


@needs_lld
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_other_targets(target: str, tmp_path: Path) -> None:
    kinds = ["i8[m, 70]", "f32[m]", "f32[m]", "f32[70]", "f32[70, 33]"]
    function = ACTIVATIONS["by row"]
    specs, path = [gm.spec(kind) for kind in kinds], tmp_path / "libleft.so"
    gm.build({"left": (function, specs)}, path=path, target=target, linker="lld")
    if target == "aarch64" or (target == "x86-64-v4" and native().vector_bits < 512):
        return
    loaded = gm.load(path).left
    for m in (1, 23):
        given = arguments(m, 70, 33)
        check(loaded(*given), function, given)
