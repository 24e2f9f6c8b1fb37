"""solve, inv, det, slogdet and cholesky, compiled, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphmill as gm

xp = gm.numpy
SHAPES = [(4, 4), (1, 1), (2, 3, 5, 5), (0, 0), (33, 33), (0, 3, 3)]
REAL, COMPLEX = ("f8", "f4"), ("c8", "c16")


def matrices(shape: tuple[int, ...], dtype: str) -> Any:
    rng = np.random.default_rng(sum(shape))
    a = rng.normal(size=shape)
    return (a + 1j * rng.normal(size=shape) if dtype[0] == "c" else a).astype(dtype)


def agree(function: Any, *arrays: Any) -> None:
    """Equal to NumPy within rounding times the condition of small random matrices."""
    found, wanted = gm.jit(function)(*arrays), function(*arrays)
    for one, other in zip(found, wanted, strict=True):
        other = np.asarray(other)
        assert one.dtype == other.dtype and one.shape == other.shape
        size = float(np.finfo(other.dtype).eps) * 3e3
        scale = float(np.max(np.abs(other), initial=1.0))
        np.testing.assert_allclose(one, other, rtol=size, atol=size * scale)


# every shape with real and complex numbers, half of them short ones
CASES = [(shape, kinds[i % 2]) for i, shape in enumerate(SHAPES) for kinds in (REAL, COMPLEX)]


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_agrees_with_numpy(shape: tuple[int, ...], dtype: str) -> None:
    a = matrices(shape, dtype)
    b = matrices((*shape[:-1], 3), dtype)

    def run(a: Any, b: Any) -> Any:
        product = a @ np.conj(xp.matrix_transpose(a)) + xp.eye(shape[-1], dtype=a.dtype)
        return (xp.linalg.solve(a, b), xp.linalg.inv(a), xp.linalg.det(a), *xp.linalg.slogdet(a),
                xp.linalg.cholesky(product), np.linalg.cholesky(product, upper=True))  # fmt: skip

    agree(run, a, b)


def test_vectors_integers_and_batches() -> None:
    a, v = matrices((2, 4, 4), "f8"), matrices((4,), "f8")
    whole = np.array([[2, 1, 0], [1, 3, 1], [0, 1, 4]])

    def run(a: Any, v: Any, i: Any) -> Any:
        return (np.linalg.solve(a, v), np.linalg.solve(a[0], a), np.linalg.inv(i),
                np.linalg.det(i), np.linalg.solve(a[0].astype("f4"), v))  # fmt: skip

    agree(run, a, v, whole)


def test_pivoting_is_needed() -> None:
    a = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [1e-20, 4.0, 0.0]])
    agree(lambda a: (np.linalg.inv(a), np.linalg.det(a), *np.linalg.slogdet(a)), a)


def test_singular_matrices() -> None:
    a = np.ones((3, 3))
    found = gm.jit(lambda a: (np.linalg.det(a), *np.linalg.slogdet(a), np.linalg.inv(a)))(a)
    assert found[0] == 0 and found[1] == 0 and found[2] == -np.inf
    assert not np.isfinite(found[3]).any()
    assert np.isnan(gm.jit(np.linalg.cholesky)(-a)).any()


def test_symbolic_size() -> None:
    run = gm.jit(lambda a, b: np.linalg.solve(a, b), dynamic={"a": ("n", "n"), "b": ("n",)})
    for n in (1, 3, 8):
        a, b = matrices((n, n), "f8"), matrices((n,), "f8")
        np.testing.assert_allclose(run(a, b), np.linalg.solve(a, b), rtol=1e-10)
    assert len(run.executables) == 1


@pytest.mark.parametrize("function", [np.linalg.inv, np.linalg.det, np.linalg.cholesky])
def test_mistakes(function: Any) -> None:
    with pytest.raises(gm.GraphmillError, match="GM014"):
        gm.jit(lambda a: function(a))(np.ones((3, 4)))
    with pytest.raises(gm.GraphmillError, match="GM015"):
        gm.jit(lambda a: function(a))(np.ones((3, 3), np.float16))
    with pytest.raises(gm.GraphmillError, match="GM014"):
        gm.jit(lambda a: np.linalg.solve(a, np.ones(4)))(np.ones((3, 3)))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [127, 129, 200, 390])
def test_cholesky_by_panels_reads_one_half(size, dtype):
    x = np.random.default_rng(size).random((size, size)).astype(dtype)
    a = x @ x.T + size * np.eye(size, dtype=dtype)
    half = np.where(np.tri(size, dtype=bool), a, np.nan).astype(dtype)
    got = gm.jit(np.linalg.cholesky)(half)
    np.testing.assert_array_equal(np.triu(got, 1), 0)
    np.testing.assert_allclose(got @ got.T, a, rtol=200 * np.finfo(dtype).eps)
    half[size - 1, size - 1] = -1
    assert np.isnan(gm.jit(np.linalg.cholesky)(half)[-1, -1])
