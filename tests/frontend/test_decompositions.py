"""solve, inv, det, slogdet and cholesky, compiled, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime.executable import Executable

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


def rounding(dtype: str) -> float:
    return float(np.finfo(dtype).eps)


def well(shape: tuple[int, ...], dtype: str) -> Any:
    """Matrices far from singular whose rows have to be exchanged."""
    a = matrices(shape, dtype)
    return (a + 2 * shape[-1] ** 0.5 * np.eye(shape[-1])[::-1]).astype(dtype)


@pytest.mark.parametrize("dtype", [*REAL, *COMPLEX])
@pytest.mark.parametrize("size", [127, 193, 200, 258])
def test_large_matrices_on_one_thread_and_two(size: int, dtype: str) -> None:
    a, b = well((size, size), dtype), matrices((size, 21), dtype)
    definite = a @ a.conj().T + size * np.eye(size, dtype=dtype)
    below, above = (
        np.where(f(np.ones(a.shape, bool)), definite, np.nan) for f in (np.tril, np.triu)
    )
    below, above = below.astype(dtype), above.astype(dtype)
    run = gm.jit(lambda a, b, low, high: (
        np.linalg.solve(a, b), np.linalg.inv(a), *np.linalg.slogdet(a), np.linalg.cholesky(low),
        np.linalg.cholesky(high, upper=True),
    ))  # fmt: skip
    with gm.threads(1):
        one = run(a, b, below, above)
    two = run(a, b, below, above)
    for x, y in zip(one, two, strict=True):
        np.testing.assert_array_equal(x, y)
    x, inverse, sign, size_of, low, high = two
    limit = 40 * size * rounding(dtype)
    np.testing.assert_allclose(a @ x, b, atol=limit * 8)
    np.testing.assert_allclose(a @ inverse, np.eye(size), atol=limit)
    np.testing.assert_allclose((sign, size_of), np.linalg.slogdet(a), rtol=limit)
    np.testing.assert_array_equal(np.triu(low, 1), 0)
    np.testing.assert_array_equal(np.tril(high, -1), 0)
    np.testing.assert_allclose(low @ low.conj().T, definite, rtol=limit, atol=limit * size)
    np.testing.assert_allclose(high.conj().T @ high, definite, rtol=limit, atol=limit * size)
    below[size - 1, size - 1] = -1
    assert np.isnan(run(a, b, below, above)[4][-1, -1])


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
@pytest.mark.parametrize("dtype", REAL + COMPLEX)
def test_other_widths_of_registers(dtype: str, target: str) -> None:
    a, b = well((19, 19), dtype), matrices((19, 5), dtype)

    def run(a: Any, b: Any) -> Any:
        return (np.linalg.solve(a, b), *np.linalg.slogdet(a),
                np.linalg.cholesky(a @ np.conj(a.T)))  # fmt: skip

    options = Options(target=target)
    planned = driver.optimise(gm.jit(run).trace(a, b).function, options)
    found = Executable(driver.emit(planned, options), threads=1).run(a, b)
    for one, other in zip(found, run(a, b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e3 * rounding(dtype), atol=rounding(dtype))


@pytest.mark.parametrize("dtype", REAL + COMPLEX)
def test_matrices_that_lie_anyhow(dtype: str) -> None:
    a, b = well((3, 9, 9), dtype), matrices((3, 9, 4), dtype)
    laid = [(a.swapaxes(1, 2), b[:, ::-1]), (a[::-1, ::-1, ::-1], b[..., ::2]),
            (np.asfortranarray(a[1]), b[1, :, 0]), (a[:, :7, 2:], b[:, 2:, :0])]  # fmt: skip
    for x, y in laid:
        agree(lambda x, y: (np.linalg.solve(x, y), np.linalg.inv(x)), x, y)


@pytest.mark.parametrize("dtype", REAL + COMPLEX)
def test_tiny_and_huge_pivots(dtype: str) -> None:
    """Reciprocals of pivots neither overflow nor vanish."""
    limits = np.finfo(dtype)
    a, b = well((6, 6), dtype), matrices((6, 2), dtype)
    run = gm.jit(np.linalg.solve)
    for scale in (limits.tiny, limits.tiny * 2.0**30, limits.max / 2.0**8):
        scaled = (a * scale).astype(dtype)
        with np.errstate(all="ignore"):
            wanted = np.linalg.solve(scaled.astype(np.promote_types(dtype, "f8")) / float(scale), b)
        found = run(scaled, (b * (scale * 2.0**3)).astype(dtype)) / 2.0**3
        np.testing.assert_allclose(found, wanted, rtol=1e3 * rounding(dtype))


def test_missing_numbers_spread() -> None:
    a = well((10, 10), "f8")
    a[3, 4] = np.nan
    assert np.isnan(gm.jit(np.linalg.inv)(a)).any()
    assert np.isnan(gm.jit(np.linalg.det)(a))
    assert np.isnan(gm.jit(np.linalg.det)(np.full((3, 3), np.nan)))


def test_a_loop_solves_each_turn() -> None:
    a, b = well((20, 20), "c16"), matrices((20, 6), "c16")

    def run(a: Any, b: Any) -> Any:
        total = b
        for turn in range(12):
            total = total + np.linalg.solve(a + turn, b)
        return (total,)

    agree(run, a, b)
