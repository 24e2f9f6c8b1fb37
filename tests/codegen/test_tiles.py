"""Kernels that read arrays across their rows give what NumPy gives, whatever the shape."""

import itertools

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu import tiles


@pytest.fixture(autouse=True)
def tiles_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "SMALL", 0)
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")


def array(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    return (rng.standard_normal(shape) * 50).astype(dtype)


SHAPES = (
    (1, 9),
    (9, 1),
    (8, 8),
    (31, 33),
    (64, 128),
    (33, 65),
    (100, 7),
    (0, 5),
    (5, 0),
    (70, 200),
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sum_with_a_transpose(shape: tuple[int, int]) -> None:
    x, y = array("f4", *shape), array("f4", *reversed(shape))
    np.testing.assert_array_equal(gm.jit(lambda x, y: x + y.T)(x, y), x + y.T)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "f2", "i4", "f4", "i8", "f8", "c8"])
def test_every_width(dtype: str) -> None:
    x, y = array(dtype, 37, 70), array(dtype, 70, 37)
    np.testing.assert_array_equal(gm.jit(lambda x, y: (y.T, x * y.T))(x, y)[1], x * y.T)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))), ids=str)
def test_every_order_of_three_axes(axes: tuple[int, ...]) -> None:
    x = array("f4", 19, 34, 67)
    np.testing.assert_array_equal(
        gm.jit(lambda x: np.transpose(x, axes) * 2)(x), x.transpose(axes) * 2
    )


def test_two_arrays_of_different_widths_and_one_along_the_rows() -> None:
    x, y, z = array("f4", 40, 90), array("f8", 90, 40), array("i2", 90, 40)
    result = gm.jit(lambda x, y, z: x * y.T - z.T)(x, y, z)
    np.testing.assert_allclose(result, x * y.T - z.T, rtol=1e-15)


@pytest.mark.parametrize("size", [1, 9, 50, 128])
def test_an_array_with_its_own_transpose(size: int) -> None:
    x = array("f4", size, size)
    np.testing.assert_array_equal(gm.jit(lambda x: (x - x.T) * x.T)(x), (x - x.T) * x.T)


def test_an_array_in_three_orders_and_in_none() -> None:
    x = array("f4", 24, 24, 24)

    def f(x: np.ndarray) -> np.ndarray:
        return x - x.transpose(2, 1, 0) * x.transpose(0, 2, 1) + x[::-1]

    np.testing.assert_allclose(gm.jit(f)(x), f(x), rtol=1e-6)


def test_own_transposes_are_tiled() -> None:
    text = gm.jit(lambda x: x + x.T).lower(array("f4", 64, 64)).mlir()
    assert "masked.gather" not in text and "vector.shuffle" in text


def test_one_compile_for_all_sizes() -> None:
    f = gm.jit(lambda x, y: x + y.T, dynamic={"x": ("n", "m"), "y": ("m", "n")})
    for shape in SHAPES:
        x, y = array("f4", *shape), array("f4", *reversed(shape))
        np.testing.assert_array_equal(f(x, y), x + y.T)


def test_strided_inputs() -> None:
    x, y = array("f4", 40, 130), array("f4", 65, 80)
    expected = x[:, ::2] + y[:, ::-2].T
    np.testing.assert_array_equal(gm.jit(lambda x, y: x + y.T)(x[:, ::2], y[:, ::-2]), expected)


def test_threads_do_not_change_the_result() -> None:
    x, y = array("f4", 300, 200), array("f4", 200, 300)
    results = [gm.jit(lambda x, y: x + y.T, threads=n)(x, y) for n in (1, 2)]
    np.testing.assert_array_equal(*results)


def test_large_transposes_take_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule is chosen for what it is made for, and not for what lies in the caches."""
    monkeypatch.undo()
    used = []
    emit = tiles.emit_tiles
    monkeypatch.setattr(tiles, "emit_tiles", lambda *args: used.append(1) or emit(*args))
    monkeypatch.setenv("GRAPHMILL_CACHE", "0")
    for size, expected in ((64, 0), (512, 1)):
        x = array("f4", size, size)
        gm.jit(lambda x, y: x + y.T)(x, x)
        assert len(used) == expected
