"""Loops along the last axis of arrays: one `iterate` kernel whose lines stay in the caches."""

import numpy as np
import pytest

import graphmill as gm
from tests.codegen.test_iterated import kernels

CASES = [((48, 16, 10), "f8"), ((3, 5, 7), "f4"), ((2, 33, 4), "c16"), ((40, 6), "f4"),
         ((5, 1, 3), "f8"), ((0, 4, 5), "f8")]  # fmt: skip


def in_python(low, high, body, state):
    for turn in range(low, high):
        state = body(turn, state)
    return state


def written(x, key, value):
    x = x.copy()
    x[key] = value
    return x


def thomas(loop, c, d, u, wind):
    """Down and up the lines of tridiagonal systems."""
    length = c.shape[-1]

    def down(k, state):
        c, d = state
        below = 0.25 * (wind[1:, ..., k] + wind[:-1, ..., k])
        scale = 1.0 / (2 + below - c[..., k - 1] * below)
        new = (u[..., k] - d[..., k - 1] * below + c[..., k + 1]) * scale
        return written(c, (..., k), below * scale), written(d, (..., k), new)

    c, d = loop(1, length - 1, down, (c, d))

    def up(k, state):
        found, out = state
        k = length - 2 - k
        found = d[..., k] - c[..., k] * found
        return found, written(out, (..., k), found * 2)

    return c, d, *loop(0, length - 1, up, (d[..., -1], u * 1.0))


def check(function, *args, lines=1):
    """As many kernels of lines, and equal bit by bit to the loop that Python runs."""
    compiled = gm.jit(lambda *args: function(gm.fori_loop, *args))
    assert kernels(lambda *args: function(gm.fori_loop, *args), *args).count("iterate") == lines
    kept = [a.copy() for a in args]
    want = function(in_python, *args)
    for threads in (1, 2):
        with gm.threads(threads):
            for a, b in zip(compiled(*args), want, strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
    for a, b in zip(args, kept, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_down_and_up(shape, dtype):
    rng = np.random.default_rng(0)
    c, d, u = (rng.uniform(-1, 1, shape).astype(dtype) for _ in range(3))
    wind = rng.uniform(-1, 1, (shape[0] + 1, *shape[1:])).astype(dtype)
    check(thomas, c, d, u, wind, lines=2 if c.size else 1)
    if shape == CASES[0][0]:
        check(thomas, c, d, u[::-1, ..., ::-1], np.asfortranarray(wind), lines=2)


def test_two_lines_of_one_start_and_old_elements():
    """Both begin as what else is read, and a turn reads what it is about to overwrite."""

    def run(loop, x):
        def body(k, state):
            a, b = state
            new = a[..., k] + b[..., k] + x[..., 11 - k]
            return written(a, (..., k), new), written(b, (..., k), a[..., k] * 2 - b[..., k - 1])

        return loop(0, 12, body, (x, x))

    check(run, np.random.default_rng(1).integers(-9, 9, (7, 21, 12)))


def test_numbers_and_places_beyond_the_ends():
    def run(loop, x):
        def body(k, state):
            a, scale = state
            return written(a, (..., k), a[..., k - 1] * scale), scale + 0.5

        return loop(0, x.shape[-1], body, (x, np.float64(1)))[:1]

    check(run, np.random.default_rng(2).normal(size=(9, 18, 6)))


def test_symbolic_sizes():
    def run(loop, x, y):
        def body(k, state):
            a, total = state
            total = total + a[..., k - 1] * y[..., k]
            return written(a, (..., k), total), total

        return loop(1, 6, body, (x, y[..., 0]))

    compiled = gm.jit(
        lambda x, y: run(gm.fori_loop, x, y), dynamic=dict.fromkeys("xy", ("n", "m", None))
    )
    for n, m in ((3, 7), (16, 16), (1, 1), (0, 5)):
        x, y = np.random.default_rng(n).normal(size=(2, n, m, 6))
        for a, b in zip(compiled(x, y), run(in_python, x, y), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)
    assert len(compiled.executables) == 1


def again(c, k):
    c = written(c, (..., k), c[..., k - 1] + 1)
    return written(c, (..., k), c[..., k] * 2)


APART = {  # bodies of which the elements or the turns meet otherwise
    "again": again,
    "neighbours": lambda c, k: written(c, (..., k), c[:, ::-1, k - 1]),
    "whole": lambda c, k: written(c, (..., k), c.sum(-1)),
    "another axis": lambda c, k: written(c, (0, ..., k), c[1, :, k - 1]),
    "two elements": lambda c, k: written(c, (..., slice(0, 2)), c[..., 1:3] + 1),
}


@pytest.mark.parametrize("name", APART)
def test_what_meets_is_no_line(name):
    body = APART[name]
    x = np.random.default_rng(3).integers(-9, 9, (4, 5, 6)).astype("f8")
    check(lambda loop, x: (loop(1, 5, lambda k, c: body(c, k), x),), x, lines=0)
