"""What one number for all lanes gains: division by it, powers by roots; sums of squares."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm

WORDS = {"f4": np.uint32, "f8": np.uint64}
SPECIAL = [0.0, 1.0, 2.0, 3.0, 49.0, 1e-30, 1e30, np.inf, np.nan]


def numbers(dtype: str, count: int) -> np.ndarray:
    """Special values of both signs, the ends of the range, and floats of all exponents."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    ends = [info.max, info.tiny, info.smallest_subnormal, 2.0**100, 2.0**-100, 2.0**126]
    some = np.array([*SPECIAL, *ends], dtype)
    far = rng.integers(0, np.iinfo(WORDS[dtype]).max, count, WORDS[dtype], True).view(dtype)
    return np.concatenate([some, -some, far, rng.standard_normal(count).astype(dtype)])


def distance(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Units in the last place; 0 for equal values, signs of zeros and NaN included."""
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)
    with np.errstate(all="ignore"):
        far = np.abs(got - want) / np.spacing(np.abs(want))
    return np.where(same, 0, np.where(np.isnan(far), np.inf, far))


@pytest.mark.parametrize("dtype", WORDS)
def test_division_by_one_number(dtype):
    """Correctly rounded but for quotients near the subnormal numbers."""
    divide = gm.jit(lambda x, d: x / d)
    x = numbers(dtype, 3000)
    least = np.finfo(dtype).tiny * 2.0**24
    powers = 2.0 ** np.arange(-60, 61, 7, dtype=dtype)  # whose reciprocal is one word
    for divisor in (*numbers(dtype, 40), *powers, -powers[3]):
        with np.errstate(all="ignore"):
            want = x / divisor
        error = distance(divide(x, np.asarray(divisor)), want)
        assert error.max() <= 1, (divisor, x[error.argmax()])
        assert not error[np.abs(want) > least].any(), divisor


def test_complex_rows_over_one_number():
    x = np.arange(20).reshape(2, 10) * (1 + 2j)
    divide = gm.jit(lambda x: (x / x.sum(1, keepdims=True), x / 3, x**0.5))
    want = x / x.sum(1, keepdims=True), x / 3, x**0.5
    for a, b in zip(divide(x), want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("exponent", [0.5, -0.5, 1.5, -1.5])
def test_powers_that_roots_make(dtype, exponent):
    x = numbers(dtype, 3000)
    got = gm.jit(lambda x: x ** np.asarray(exponent, dtype))(x)
    with np.errstate(all="ignore"):
        want = x.astype(np.longdouble) ** np.longdouble(exponent)
        assert distance(got, want.astype(dtype)).max() <= 2


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_integers_divided_by_a_constant(dtype):
    """Rounded down; all powers of two apart, the ends of the range and both signs."""
    info, rng = np.iinfo(dtype), np.random.default_rng(0)
    ends = np.array([info.min, info.min + 1, info.max, info.max - 1, 0, 1], dtype)
    x = np.concatenate([ends, rng.integers(info.min, info.max, 3001, dtype, endpoint=True)])
    divisors = [d for d in (1, 2, 3, 7, 10, 64, 127, info.max, -7) if info.min <= d <= info.max]
    divisors = [np.asarray(d, dtype) for d in divisors]
    got = gm.jit(lambda x: [(x // d, x % d) for d in divisors])(x)
    for d, (quotient, rest) in zip(divisors, got, strict=True):
        np.testing.assert_array_equal(quotient, x // d)
        np.testing.assert_array_equal(rest, x % d)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 17), (4, 1000), (5, 0)])
def test_normalised_rows(dtype, shape):
    """Sums of products and row-wise divisors, in one kernel, with NaN and infinities."""

    def rows(x, w):
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        return (x * w).sum(-1), centred / np.sqrt(variance + 1e-5), gm.nn.softmax(x, -1)

    x = np.random.default_rng(1).standard_normal(shape).astype(dtype) * 9
    if x.size:
        x[0, 1], x[1, 0] = np.nan, 80
    w = x[0, ::-1].copy()
    got = gm.jit(rows)(x, w)
    wide = (
        gm.jit(rows).trace(x.astype("f8"), w.astype("f8")).interpret(x.astype("f8"), w.astype("f8"))
    )
    tolerance = 3e-5 if dtype == "f4" else 1e-12
    for a, b in zip(got, wide, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
