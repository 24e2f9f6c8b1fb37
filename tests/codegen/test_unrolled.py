"""Short reductions, written out: alone, with what reads their results, inside longer reductions."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime.executable import Executable
from tests.differential.compiled import assert_close

rng = np.random.default_rng(0)


def pulls(p, mass):
    d = p[:, None, :] - p[:, :, None]
    squares = (d * d).sum(0) + p.dtype.type(0.01)
    return (d * squares**-1.5 * mass).sum(2)


def pulls_by_point(p, mass):
    """The same with the coordinates last."""
    d = p[None] - p[:, None]
    squares = (d * d).sum(-1, keepdims=True) + p.dtype.type(0.01)
    return (d * squares**-1.5 * mass[:, None]).sum(1)


def pulls_on_columns(p, mass):
    """The sum goes over the first of both points."""
    d = p[:, None, :] - p[:, :, None]
    return (d * np.sqrt((d * d).sum(0)) * mass[:, None]).sum(1)


def energy(p, mass):
    d = p[:, None, :] - p[:, :, None]
    return (mass / ((d * d).sum(0) + p.dtype.type(0.1))).sum(1)


def both(p, mass):
    d = p[:, None, :] - p[:, :, None]
    squares = (d * d).sum(0) + p.dtype.type(0.01)
    return (d * squares).sum(2), (mass * squares).max(1)


def weights(p, mass):
    """Rows in two sweeps, and a length of what they give."""
    d = p[:, None, :] - p[:, :, None]
    score = -(d * d).sum(0)
    e = np.exp(score - score.max(1, keepdims=True))
    mean = (d * (e * mass)).sum(2) / e.sum(1)
    return mean, np.sqrt((mean * mean).sum(0))


PAIRS = [pulls, pulls_on_columns, energy, both, weights]


def points(count: int, dtype: str, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
    p = rng.standard_normal((count, 3) if last else (3, count)).astype(dtype)
    return p, rng.uniform(0.5, 1, count).astype(dtype)


def check(function, *args, target="native", threads=2):
    made = gm.jit(function).trace(*args)
    options = Options(target=target)
    compiled = Executable(
        driver.emit(driver.optimise(made.function, options), options), threads=threads
    )
    wide = [a.astype("f8") if a.dtype.kind == "f" else a for a in args]
    got = compiled.run(*args)
    want = gm.jit(function).trace(*wide).interpret(*wide)
    with np.errstate(all="ignore"):
        assert_close(got, [w.astype(g.dtype) for w, g in zip(want, got, strict=True)])


@pytest.mark.parametrize("count", [1, 2, 15, 16, 33, 130])
@pytest.mark.parametrize("function", PAIRS)
def test_pairs_of_points(function, count):
    check(function, *points(count, "f4"))


@pytest.mark.parametrize("count", [1, 17, 70])
def test_pairs_of_points_with_coordinates_last(count):
    check(pulls_by_point, *points(count, "f4", last=True))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("function", PAIRS)
def test_other_targets(function, target):
    check(function, *points(35, "f8" if function is energy else "f4"), target=target, threads=1)


def test_pairs_are_stored_nowhere():
    """One kernel, and no array of the pairs' size."""
    p, mass = points(64, "f4")
    made = driver.optimise(gm.jit(pulls).trace(p, mass).function, Options())
    assert [op.name for op in made.ops] == ["fusion", "return"]
    inside = gm.jit(lambda p, m: gm.fori_loop(0, 3, lambda i, p: p + pulls(p, m), p))
    made = driver.optimise(inside.trace(p, mass).function, Options())
    sizes = [r.tensor.size for op in made.walk() if op.name == "fusion" for r in op.results]
    assert max(sizes) == p.size


def test_strided_and_special_values():
    p, mass = points(66, "f4")
    p[0, 1], p[2, 5], p[0, 8] = np.inf, -np.inf, 1e-42
    p, mass = np.repeat(p, 2, 1)[:, ::2], mass[::-1]
    with np.errstate(all="ignore"):
        got, want = gm.jit(energy)(p, mass), energy(p, mass)
    assert np.isnan(want).sum() == 2
    np.testing.assert_allclose(got, want, rtol=1e-4)


def reductions(x, axis):
    positive = x > 0
    lengths = np.sqrt(np.square(x).sum(axis)), (x * x + 1).prod(axis)
    return x.sum(axis), x.max(axis), positive.any(axis), positive.all(axis), *lengths


def with_full_values(x, axis):
    unit = x / (1 + abs(x).sum(axis, keepdims=True))
    return unit, gm.nn.softmax(x, axis), x.max(axis) - x.min(axis)


@pytest.mark.parametrize("function", [reductions, with_full_values])
def test_short_axes(function):
    """First, middle and last; of length 1 to 8; beside empty, odd and long ones."""
    for shape, axis in [
        ((3, 37), 0), ((37, 3), 1), ((5, 8, 19), 1), ((4, 1, 2), 2), ((2, 0, 7), 2), ((9, 40, 3), 2)
    ]:  # fmt: skip
        x = (rng.standard_normal(shape) * 3).astype("f4")
        if x.size:
            x.flat[:: max(1, x.size // 5)] = 2
            x.flat[:5] = [0, np.nan, np.inf, -np.inf, -0.0]
        check(lambda x, axis=axis: function(x, axis), x)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", "f2", "f8", "c8", "c16"])
def test_short_axes_of_every_kind(dtype):
    x = (rng.standard_normal((21, 4)) * 5 + 6).astype(dtype)
    x = x + x.dtype.type(1j) * x[::-1] if x.dtype.kind == "c" else x
    check(lambda x: (x.sum(1), x.prod(1), (x * x).sum(1, keepdims=True) + x), x)
    symbolic = gm.jit(lambda x: (x * x).sum(1), dynamic={"x": ("rows", None)})
    for rows in (0, 1, 21):
        np.testing.assert_allclose(symbolic(x[:rows]), np.square(x[:rows]).sum(1), rtol=1e-2)
