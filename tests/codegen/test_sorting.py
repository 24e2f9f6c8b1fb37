"""Sorting odd lengths, both axes, all dtypes, NaN, signed zeros, hard orders, against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from graphmill import driver, knobs
from graphmill.codegen.cpu import line_sort
from graphmill.driver import Options
from graphmill.ir.parser import parse_function
from graphmill.runtime.executable import Executable

SHORT = [((33,), 0), ((3, 100), 1), ((20, 17), 0), ((4, 0), 1)]
LONG = [*SHORT, ((1,), 0), ((7,), 0), ((16,), 0), ((5000,), 0), ((9, 16), 0), ((0, 4), 0)]
CASES = {"f4": LONG} | dict.fromkeys(["f8", "f2", "i1", "i8", "u4", "?"], SHORT)


def arrays(dtype: str) -> list[np.ndarray]:
    """Many equal values; NaN, infinities and both zeros; the ends of the range."""
    rng, made = np.random.default_rng(0), []
    for shape, _ in CASES[dtype]:
        x = rng.integers(0, 9, shape).astype(dtype)
        if dtype[0] in "iu" and x.size > 3:
            info = np.iinfo(dtype)
            x.flat[[0, 2, 3]] = info.max, info.min, info.max - 1
        elif dtype[0] == "f":
            x = rng.standard_normal(shape).astype(dtype)
            if x.size > 6:
                x.flat[:7] = np.nan, 0.0, -0.0, np.inf, -np.inf, -np.nan, 0.0
        made.append(x)
    return made


def sorts(*xs):
    cases = LONG if len(xs) == len(LONG) else SHORT
    pairs = list(zip(xs, cases, strict=True))
    values = [np.sort(x, axis=axis) for x, (_, axis) in pairs]
    return (*values, *[np.argsort(x, axis=axis, kind="stable") for x, (_, axis) in pairs])


@pytest.mark.parametrize("dtype", CASES)
def test_sort_and_stable_argsort(dtype):
    xs = arrays(dtype)
    for got, want in zip(gm.jit(sorts, threads=2)(*xs), sorts(*xs), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [31, 99])
def test_complex_numbers_with_parts_that_are_nan(size):
    parts = np.random.default_rng(0).choice([0.0, -0.0, 1, -1, np.inf, np.nan], (size, 2))
    x = parts.view(np.complex128)[:, 0]

    def orders(x):
        ordered, sides = np.sort(x), ("left", "right")
        places = [np.searchsorted(ordered, x, side=side) for side in sides]
        return ordered, np.argsort(x, kind="stable"), *places

    for got, want in zip(gm.jit(orders)(x), orders(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_other_vectors(target):
    xs, options = arrays("f4"), Options(target=target)
    planned = driver.optimise(gm.jit(sorts).trace(*xs).function, options)
    results = Executable(driver.emit(planned, options), threads=2).run(*xs)
    for got, want in zip(results, sorts(*xs), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "f2", "bfloat16"])
@pytest.mark.parametrize("descending", [False, True])
def test_few_values(dtype, descending):
    """Lines sorted by counting: of all lengths around a vector, equal, across, long."""
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    rng = np.random.default_rng(7)
    f = gm.jit(
        lambda x, y, z: [gm.numpy.sort(v, axis=0, descending=descending) for v in (x, y, z)]
        + [gm.numpy.sort(x[::-1][:, :2], axis=0, descending=descending)], threads=2,
    )  # fmt: skip
    sizes = (16390, 3), (20011,), (65, 5)
    drawn = [rng.integers(-(2**15), 2**15, size).astype("i2") for size in sizes]
    xs = [x.view(kind) if x.dtype.itemsize == np.dtype(kind).itemsize else x.astype(kind)
          for x in drawn]  # fmt: skip
    xs[0][:, 1] = xs[0][0, 0]
    for got, x in zip(f(*xs), [*xs, xs[0][:, :2]], strict=True):
        wide = x.astype("f4")
        want = np.sort(wide, axis=0)
        if descending:
            want = -np.sort(-wide, axis=0)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got.astype("f4"), want)
        if x.ndim == 1:
            negative = np.signbit(got.astype("f4")[got == 0])
            np.testing.assert_array_equal(negative, np.sort(negative)[:: 1 if descending else -1])


def test_counting_any_length_for_other_vectors():
    f = gm.jit(lambda x: np.sort(x, axis=-1), dynamic={"x": ("rows", "n")}, threads=2)
    x = np.random.default_rng(8).integers(-128, 128, (3, 1000)).astype("i1")
    for rows, size in ((3, 1000), (2, 0), (0, 3), (1, 1), (3, 63), (3, 65)):
        part = np.ascontiguousarray(x[:rows, :size])
        np.testing.assert_array_equal(f(part), np.sort(part, axis=-1))
    for target in ("x86-64-v2", "x86-64-v3"):
        options = Options(target=target)
        planned = driver.optimise(gm.jit(lambda x: np.sort(x)).trace(x).function, options)
        (got,) = Executable(driver.emit(planned, options), threads=2).run(x)
        np.testing.assert_array_equal(got, np.sort(x))


def hard(dtype: str, size: int) -> dict[str, np.ndarray]:
    """Orders that are hard for sorting by pivots, and keys whose high bits are equal."""
    rng = np.random.default_rng(1)
    ramp = np.arange(size)
    far = 1e300 if dtype == "f8" else np.iinfo(dtype).max
    near = (
        np.float64(1) + rng.integers(0, 500, size) * np.finfo("f8").eps if dtype == "f8" else ramp
    )
    return {
        "random": rng.permutation(size), "sorted": ramp, "reversed": ramp[::-1],
        "equal": np.full(size, 7), "two": rng.integers(0, 2, size), "few": rng.integers(0, 9, size),
        "pipe": np.minimum(ramp, size - ramp), "saw": ramp % 97,
        "ends": np.where(ramp % 3, far, -far),
        "close": np.where(ramp == 5, far, near),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["i4", "f8"])
@pytest.mark.parametrize("size", [300, 40000])  # the long one is divided between threads
def test_hard_orders(dtype, size):
    both = gm.jit(lambda x: (np.sort(x), np.argsort(x)), threads=2)
    for name, values in hard(dtype, size).items():
        x = values.astype(dtype)
        values, order = both(x)
        np.testing.assert_array_equal(values, np.sort(x), err_msg=name)
        np.testing.assert_array_equal(order, np.argsort(x, kind="stable"), err_msg=name)


@pytest.mark.parametrize("dtype", ["i4", "f8"])
def test_bad_pivots(dtype, monkeypatch):
    """What follows when samples have given bad pivots for long: the range of values is halved."""
    monkeypatch.setattr(line_sort, "most_levels", lambda code, count: code.i64(0))
    with knobs.scope(cache=False):
        sort = gm.jit(lambda x: np.sort(x))
        for name, values in hard(dtype, 3000).items():
            x = values.astype(dtype)
            np.testing.assert_array_equal(sort(x), np.sort(x), err_msg=name)


@pytest.mark.parametrize("dtype", ["f4", "u4", "i1", "f8"])
def test_symbolic_lines(dtype):
    """Their words have a place of as many bits as the line needs."""
    x = np.random.default_rng(2).standard_normal((5, 40000))
    x = x.astype(dtype) if dtype[0] == "f" else (x * 1e10).astype("i8").astype(dtype)
    f = gm.jit(
        lambda x: (np.sort(x, axis=-1), np.argsort(x, axis=-1)),
        dynamic={"x": ("rows", "columns")}, threads=2,
    )  # fmt: skip
    for rows, columns in ((5, 40000), (3, 700), (0, 5), (4, 0), (1, 1)):
        y = x[:rows, :columns]
        for got, want in zip(f(y), (np.sort(y), np.argsort(y, kind="stable")), strict=True):
            np.testing.assert_array_equal(got, want)


def test_short_runs_of_equal_leading_bits():
    """At every place of a vector; of equal keys, in order and not."""
    rng = np.random.default_rng(6)
    order = gm.jit(lambda x: np.argsort(x), dynamic={"x": ("n",)})
    for size in [*range(20), 63, 64, 65, 1000]:
        apart = rng.integers(-(2**63), 2**63 - 1, size)
        pairs = np.repeat(apart, 2)[:size]
        near = np.where(rng.random(size) < 0.1, apart, rng.integers(0, 500, size))
        for x in (apart, rng.permutation(pairs), near, pairs + rng.integers(-1, 1, size)):
            np.testing.assert_array_equal(order(x), np.argsort(x, kind="stable"))


def check_top_k(x):
    dtype, size = {"f4": "f32", "f8": "f64"}[x.dtype.str[1:]], x.shape[1]
    text = f"""func @f(%x: {dtype}[2, {size}]) -> ({dtype}[2, 100], i64[2, 100]) {{
      %v: {dtype}[2, 100], %o: i64[2, 100] = top_k %x {{k=100}}
      return %v, %o
    }}"""
    options = Options()
    planned = driver.optimise(parse_function(text), options)
    values, order = Executable(driver.emit(planned, options), threads=2).run(x)
    want = np.argsort(-x, axis=-1, kind="stable")[:, :100]
    np.testing.assert_array_equal(order, want)
    np.testing.assert_array_equal(values, np.take_along_axis(x, want, -1))


def test_top_k_of_long_lines():
    x = np.random.default_rng(3).integers(-50, 50, (2, 40000)).astype("f4")
    check_top_k(x)


@pytest.mark.parametrize("dtype", ["f4", "i8", "u1"])
def test_partition(dtype):
    rng = np.random.default_rng(4)
    for size in (1, 300, 40000):
        x = (50 * rng.standard_normal(size)).astype("i4").astype(dtype)
        for place in (0, size // 3, -1):
            got = gm.jit(lambda x, place=place: np.partition(x, place), threads=2)(x)
            want, middle = np.sort(x), place % size
            assert got[middle] == want[middle]
            assert (got[:middle] <= got[middle]).all() and (got[middle:] >= got[middle]).all()
            np.testing.assert_array_equal(np.sort(got), want)


PLACES = 0, 70, -1, [30, 70]


def orders(x):
    return tuple(np.argpartition(x, place, axis=1) for place in PLACES)


@pytest.mark.parametrize("dtype", ["f4", "i8", "f8"])
def test_argpartition(dtype):
    """Keys of 64 bits, too, whose leading bits are those of the ones asked for."""
    rng = np.random.default_rng(9)
    f = gm.jit(orders, dynamic={"x": (None, "n")}, threads=2)
    for size in (71, 300, 3000, 40000):
        drawn = (50 * rng.standard_normal((2, size))).astype("i4").astype(dtype)
        close = 1 + rng.integers(0, 500, (2, size)) * np.finfo("f8").eps
        close[:, 0] = -1e300
        for x in (drawn, close) if dtype == "f8" else (drawn,):
            want = np.argsort(x, axis=1, kind="stable")
            for order, place in zip(f(x), PLACES, strict=True):
                np.testing.assert_array_equal(np.sort(order), np.tile(np.arange(size), (2, 1)))
                first, last = np.min(place) % size, np.max(place) % size
                np.testing.assert_array_equal(order[:, first : last + 1], want[:, first : last + 1])
                got = np.take_along_axis(x, order, 1)
                assert (got[:, :first] <= got[:, first : first + 1]).all()
                assert (got[:, last:] >= got[:, last : last + 1]).all()


@pytest.mark.parametrize("size", [4000, 40000])
def test_top_k_of_close_keys(size):
    """Many keys whose leading bits are those of the k-th."""
    x = 1 + np.random.default_rng(3).integers(0, 5000, (2, size)) * np.finfo("f8").eps
    x[:, 5] = -1e300
    check_top_k(x)


@pytest.mark.parametrize("choose", [np.partition, np.argpartition])
@pytest.mark.parametrize("place", [5, -6, [0, 5]])
def test_places_that_an_axis_lacks(choose, place):
    """As NumPy: known sizes while tracing, others at run time."""
    x = np.arange(10.0).reshape(2, 5)
    with pytest.raises(ValueError):
        choose(x, place)
    with pytest.raises(ValueError, match=r"GM025.*kth = .*along 5 elements"):
        gm.jit(lambda x: choose(x, place))(x)
    f = gm.jit(lambda x: choose(x, place), dynamic={"x": (None, "n")})
    with pytest.raises(ValueError, match=r"GM062.*5 elements where a place .* takes 6"):
        f(x)
    longer = np.concatenate([x, x], 1)
    for _ in range(2):
        assert f(longer).shape == longer.shape
    with pytest.raises(ValueError, match="GM062"):
        f(x[:, :0])


def test_median_of_long_lines():
    x = np.random.default_rng(5).standard_normal((2, 40001))
    x[1, 7] = np.nan
    f = gm.jit(lambda x: (np.median(x, axis=1), np.percentile(x, 30, axis=1)))
    for got, want in zip(f(x), (np.median(x, axis=1), np.percentile(x, 30, axis=1)), strict=True):
        np.testing.assert_array_equal(got, want)
