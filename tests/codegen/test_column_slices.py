"""Reductions of tall arrays along their rows: cut into slices, whatever the dtype."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu import column_slices

pytestmark = pytest.mark.sampled(2)

SHAPES = [(70_001, 5), (1030, 2049), (3, 9000, 70), (20, 700, 33), (600, 500)]
REDUCTIONS = {
    "sum": (np.sum, ["f4", "f8", "c8", "i4", "u1"]),
    "max": (np.max, ["f4", "i2", "u1"]),
    "min": (np.min, ["f8", "i8"]),
    "all": (np.all, ["?"]),
    "any": (np.any, ["?"]),
}
KINDS = [(name, dtype) for name, (_, dtypes) in REDUCTIONS.items() for dtype in dtypes]
CASES = [(*kind, SHAPES[(2 * i + k) % len(SHAPES)]) for i, kind in enumerate(KINDS) for k in (0, 1)]


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == "?":
        return rng.random(shape) < 1e-4
    numbers = rng.standard_normal(shape) * 3
    with np.errstate(invalid="ignore"):
        return (numbers + 1j * numbers[::-1] if dtype[0] == "c" else numbers).astype(dtype)


def by_threads(function: Callable[..., Any], x: np.ndarray) -> list[Any]:
    """What code that is compiled once gives on one thread and on two."""
    jitted = gm.jit(function)
    results = []
    for n in (1, 2):
        with gm.threads(n):
            results.append(jitted(x))
    return results


@pytest.mark.parametrize("name, dtype, shape", CASES, ids=str)
def test_like_numpy(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    reduce, axis = REDUCTIONS[name][0], len(shape) - 2
    x = values(shape, dtype)
    expected = reduce(x, axis=axis)
    results = by_threads(lambda x: reduce(x, axis=axis), x)
    assert results[0].tobytes() == results[1].tobytes()
    if x.dtype.kind in "fc":
        wide = reduce(x.astype("c16" if x.dtype.kind == "c" else "f8"), axis=axis)
        np.testing.assert_allclose(results[0], wide, rtol=1e-4, atol=1e-2)
    else:
        assert np.array_equal(results[0], expected)
    assert results[0].dtype == expected.dtype


@pytest.mark.parametrize("n", [0, 1, 255, 513, 70_000])
def test_sizes_known_at_run_time(n: int) -> None:
    f = gm.jit(lambda x: (x.sum(axis=0) * 2, x.max(axis=0, initial=-9)), dynamic={"x": ("n", None)})
    x = values((n, 37), "f4")
    total, most = f(x)
    np.testing.assert_allclose(total, x.sum(axis=0, dtype="f8") * 2, rtol=1e-4, atol=1e-2)
    assert np.array_equal(most, x.max(axis=0, initial=-9))


def test_half_precision_and_nan() -> None:
    x = values((20_000, 9), "f4").astype(ml_dtypes.bfloat16)
    x[17_000, 4] = np.nan
    result = gm.jit(lambda x: x.max(axis=0))(x)
    assert np.isnan(result[4]) and np.isnan(result.astype("f4")).sum() == 1


def test_strided() -> None:
    x = values((40_000, 34), "f4")[::2, ::-3]
    result = gm.jit(lambda x: (x * x).sum(axis=0))(x)
    np.testing.assert_allclose(result, (x.astype("f8") ** 2).sum(axis=0), rtol=1e-4)


def standardised(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-2, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-2, keepdims=True) + 1)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-2, keepdims=True))
    return powers / powers.sum(-2, keepdims=True)


DTYPES = ["f4", "f8", "f2", "bf16"]
STAGES = {
    "standardised": standardised,
    "softmax": softmax,
    "moments": lambda x: (x.mean(-2), x.var(-2)),
    "all of it": lambda x: (x.mean(-2), standardised(x), softmax(x) * x.max(-2, keepdims=True)),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_that_need_others(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_slices, "WORTH_STAGES", 1)
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")
    kind = ml_dtypes.bfloat16 if dtype == "bf16" else np.dtype(dtype)
    turn = DTYPES.index(dtype) + list(STAGES).index(name)
    for shape in ((2000, 5), (513, 70), (3, 700, 33), (2, 3, 520, 16))[turn % 2 :: 2]:
        x = values(shape, "f4").astype(kind)
        expected = STAGES[name](x.astype("f8"))
        results = by_threads(STAGES[name], x)
        if not isinstance(expected, tuple):
            expected, results = (expected,), [(result,) for result in results]
        tolerance = {"f8": 1e-9, "f4": 1e-5}.get(dtype, 0.05)
        for one, two, wide in zip(*results, expected, strict=True):
            assert one.tobytes() == two.tobytes()
            np.testing.assert_allclose(one.astype("f8"), wide, rtol=tolerance, atol=tolerance)


def test_their_slices_run_in_parallel() -> None:
    f = gm.jit(lambda x: standardised(x))
    text = f.lower(np.ones((8192, 64), "f4")).mlir()
    assert all(f"{part}_body" in text for part in ("partial", "total", "full"))
    assert "_full_body" not in f.lower(np.ones((300, 64), "f4")).mlir()
