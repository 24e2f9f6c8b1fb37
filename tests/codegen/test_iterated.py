"""Loops whose elements do not meet run in registers, with the bits of the plain loop."""

import numpy as np
import pytest

import graphmill as gm
from graphmill.passes.manager import run_pipeline

SHAPES = [(1,), (16,), (5, 7), (3, 4, 1), (1000,), (2, 1025), (0,), (4, 0), (33, 65)]


def escape(x, turns):
    """Elements that come to rest at different times, some never."""

    def body(i, state):
        z, count = state
        inside = z * z < 4.0
        return np.where(inside, z * z + x, z), count + inside

    return gm.fori_loop(0, turns, body, (x * 0, x * 0))


def kernels(f, *args):
    """The kinds of the fusions of a traced function."""
    planned = run_pipeline(gm.jit(f).trace(*args).function)
    return [op.attrs["kind"] for op in planned.walk() if op.name == "fusion"]


def check(f, *args):
    """Compiled as an `iterate` kernel, and equal bit by bit to the loop that Python runs."""
    assert "iterate" in kernels(f, *args)
    got, want = gm.jit(f)(*args), f(*args)
    got, want = (x if isinstance(x, tuple) else (x,) for x in (got, want))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turns", [0, 1, 7, 32, 45, 100])
def test_shapes_and_lengths(shape, turns):
    x = np.random.default_rng(0).uniform(-3, 1, shape).astype(np.float32)
    check(lambda x: escape(x, turns), x)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "i2", "c8", "c16"])
def test_dtypes(dtype):
    x = np.random.default_rng(1).integers(-3, 4, (9, 31)).astype(dtype)
    check(lambda x: gm.fori_loop(0, 3, lambda i, z: z * z + x, x), x)


def test_flags_and_numbers_are_carried():
    def run(x):
        def body(i, state):
            flag, z, scale = state
            z = np.where(flag, z - scale, z + 0.5 * i)
            return z > 1.0, z, scale * 0.75

        return gm.fori_loop(2, 40, body, (x > 0, x, 1.5))[:2]

    check(run, np.linspace(-4, 4, 77))


def test_special_values_come_to_rest():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38, -2.0] * 5, np.float32)
    with np.errstate(all="ignore"):
        check(lambda x: escape(x, 64), x)


def test_captured_arrays_are_read_where_they_lie():
    def run(x, row, column):
        def body(i, z):
            return 0.5 * z + row * column[:, None] + x[::-1, ::-1]

        return gm.fori_loop(0, 6, body, x)

    rng = np.random.default_rng(2)
    check(run, rng.random((19, 37)), rng.random(37), rng.random(19))


@pytest.mark.parametrize("view", [np.s_[::2], np.s_[:, ::3], np.s_[::-1, 3:]])
def test_strided_inputs(view):
    x = np.random.default_rng(3).random((40, 66)).astype(np.float32)[view]
    check(lambda x: escape(x, 20), x)


def test_inputs_are_left_alone():
    x = np.ones((20, 50))
    before = x.copy()
    gm.jit(lambda x: gm.fori_loop(0, 5, lambda i, z: z * 2.0, x))(x)
    np.testing.assert_array_equal(x, before)


def test_symbolic_sizes():
    f = gm.jit(lambda x: escape(x, 40), dynamic={"x": ("n", "m")})
    for shape in [(3, 5), (1, 1), (40, 129), (0, 4)]:
        x = np.random.default_rng(4).uniform(-3, 1, shape).astype(np.float32)
        for got, want in zip(f(x), escape(x, 40), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads(threads):
    x = np.random.default_rng(5).uniform(-3, 1, (97, 503)).astype(np.float32)
    got = gm.jit(lambda x: escape(x, 50), threads=threads)(x)
    np.testing.assert_array_equal(got[1], escape(x, 50)[1])


def test_inside_another_loop():
    def run(x):
        def inner(k, y):
            return gm.fori_loop(0, 4, lambda i, z: np.cos(z) + k, y)

        return gm.fori_loop(0, 3, lambda k, y: inner(k, y) - y.mean(), x)

    x = np.linspace(0, 1, 50)
    assert "iterate" in kernels(run, x)
    np.testing.assert_allclose(gm.jit(run)(x), run(x), rtol=1e-12)


@pytest.mark.parametrize(
    "body",
    [
        lambda i, z: z - z.mean(),
        lambda i, z: np.roll(z, 1),
        lambda i, z: z[::-1],
        lambda i, z: z.astype(np.float16).astype(z.dtype) + z[i],
    ],
)
def test_elements_that_meet_stay_in_memory(body):
    x = np.linspace(0, 1, 60)

    def run(x):
        return gm.fori_loop(0, 5, body, x)

    assert "iterate" not in kernels(run, x)
    np.testing.assert_allclose(gm.jit(run)(x), run(x), rtol=1e-12)


def test_half_floats_round_every_turn():
    x = np.linspace(0, 1, 60).astype(np.float16)

    def run(x):
        return gm.fori_loop(0, 5, lambda i, z: z * 0.5 + x, x)

    assert "iterate" not in kernels(run, x)
    np.testing.assert_array_equal(gm.jit(run)(x), run(x))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "aarch64"])
def test_other_targets_compile(target, tmp_path):
    def f(x):
        return escape(x, 40)

    gm.build(f, [gm.spec("f32[n, 30]")], tmp_path / "libescape.so", target=target)


def test_what_is_read_elsewhere_is_not_overwritten():
    def run(x):
        start = np.cumsum(x)
        return gm.fori_loop(0, 3, lambda i, z: z + start[::-1] * start, start)

    x = np.random.default_rng(6).integers(0, 9, 3001).astype(np.float64)
    assert "iterate" in kernels(run, x)
    np.testing.assert_array_equal(gm.jit(run)(x), run(x))


def recurrence(x, w):
    """Numbers are carried, and each turn gives one."""

    def body(state, slices):
        left, most = state
        a, b = slices
        left = (a + left) / 9.0 + w[0] * b
        return (left, np.maximum(most, left)), left

    (left, most), found = gm.scan(body, (x[0], x[1]), (x, w))
    return found, left + most


@pytest.mark.parametrize("size", [2, 3, 17, 1000])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_recurrences(size, dtype):
    rng = np.random.default_rng(5)
    x, w = (rng.uniform(-1, 1, size).astype(dtype) for _ in range(2))
    assert "iterate" in kernels(recurrence, x, w)
    want = np.empty_like(x)
    left, most = x[0], x[1]
    for i in range(size):
        left = (x[i] + left) / x.dtype.type(9) + w[0] * w[i]
        most = np.maximum(most, left)
        want[i] = left
    got, total = gm.jit(recurrence)(x, w)
    np.testing.assert_allclose(got, want, rtol=50 * np.finfo(dtype).eps)
    np.testing.assert_allclose(total, left + most, rtol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("reverse", [False, True])
def test_recurrences_of_integers_that_pick(reverse):
    """What a turn gives is picked from an array at a place that the turn before gave."""
    n = 37
    follow = np.random.default_rng(2).permutation(n)

    def run(follow, start):
        def body(at, step):
            at = follow[at]
            return at, at * step

        return gm.scan(body, start, np.arange(20), reverse=reverse)

    assert "iterate" in kernels(run, follow, np.int64(3))
    at, given = gm.jit(run)(follow, np.int64(3))
    want, now = [0] * 20, 3
    for step in reversed(range(20)) if reverse else range(20):
        now = follow[now]
        want[step] = now * step
    assert at == now
    np.testing.assert_array_equal(given, want)


def test_no_turns_of_a_recurrence():
    got = gm.jit(lambda x, s: gm.scan(lambda c, v: (c + v, c), s, x))(np.empty(0), np.float64(2))
    assert got[0] == 2 and got[1].shape == (0,)


def gathered(f):
    """A loop of numbers whose turns may run side by side."""

    def run(x, low, start):
        def body(i, state):
            return tuple(f(s, x[i] * x[x.shape[0] - 1 - i]) for s in state)

        return gm.fori_loop(low, x.shape[0], body, (start, start))

    return run


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 100])
@pytest.mark.parametrize("f, dtype", [
    (np.maximum, "f8"), (np.minimum, "f4"), (np.maximum, "i8"), (np.minimum, "u1"),
    (np.add, "i4"), (np.multiply, "i2"), (np.logical_and, "?"), (np.logical_or, "?"),
    (np.add, "f8"), (np.multiply, "f4"), (np.maximum, "c16"),
])  # fmt: skip
def test_turns_side_by_side(f, dtype, size):
    rng = np.random.default_rng(size)
    x = rng.integers(-9 if dtype != "u1" else 0, 9, size).astype(dtype)
    if dtype.startswith("f") and size > 15:
        x[3] = np.nan
    start = np.dtype(dtype).type(1)
    run = gathered(f)
    with np.errstate(all="ignore"):
        for low in (0, 1, size):
            want = start
            for i in range(low, size):
                want = f(want, x[i] * x[size - 1 - i])
            for got in gm.jit(run)(x, low, start):
                np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "f4" else 1e-12)
                assert got.dtype == x.dtype


def test_turns_that_need_the_one_before_stay_in_order():
    def run(x):
        def body(i, state):
            most, last = state
            return np.maximum(most, x[i] - last), x[i] + most * 0

        return gm.fori_loop(0, x.shape[0], body, (np.float64(-9), np.float64(0)))

    x = np.random.default_rng(4).random(50)
    most, last = -9.0, 0.0
    for value in x:
        most, last = max(most, value - last), value
    assert gm.jit(run)(x) == (most, last)
