"""Every ufunc over the dtype table: values, dtypes and shapes are NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.frontend.ufuncs import RULES
from graphmill.ir.dtypes import ALL, bf16
from tests.frontend.comparing import agree, failure

DTYPES = [d for d in ALL if d is not bf16]
RULES.get(np.add)
UFUNCS = sorted(RULES, key=lambda f: f.__name__)
UNARY = [f for f in UFUNCS if f.nin == 1]
BINARY = [f for f in UFUNCS if f.nin == 2]
# IR ops whose meaning at these points is stated to differ from NumPy's.
SAFE_RIGHT = {"left_shift", "right_shift", "power", "float_power"}


def sample(dtype: Any, seed: int = 0, low: float = -3.0) -> np.ndarray[Any, Any]:
    """Twelve values around 0 of a dtype, some equal, some special."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(0, 2, 12).astype(bool)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else int(low), 6, 12).astype(dtype.numpy)
    values = rng.uniform(low, 3, 12).round(2)
    if dtype.kind == "c":
        return (values + 1j * rng.uniform(-2, 2, 12)).astype(dtype.numpy)
    values[:4] = [0.0, np.inf, np.nan, -0.0] if low < 0 else values[:4]
    return values.astype(dtype.numpy)


def supported(ufunc: np.ufunc, *dtypes: Any) -> bool:
    try:
        found = ufunc.resolve_dtypes(tuple(d.numpy for d in dtypes) + (None,) * ufunc.nout)
    except TypeError:
        return False
    return all(d in {x.numpy for x in ALL} for d in found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ufunc", UNARY, ids=lambda f: f.__name__)
def test_unary(ufunc: np.ufunc, dtype: Any) -> None:
    x = sample(dtype)
    if ufunc is np.reciprocal and dtype.is_integer:
        x[x == 0] = 1
    if not supported(ufunc, dtype) or (
        ufunc is np.frexp and dtype.name in ("bool", "i8", "u8", "f16")
    ):
        assert failure(lambda x: ufunc(x), x).code == "GM015"
        return
    agree(lambda x: ufunc(x), x, ulps=8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ufunc", BINARY, ids=lambda f: f.__name__)
def test_binary(ufunc: np.ufunc, dtype: Any) -> None:
    x, y = sample(dtype, 1), sample(dtype, 2, low=1.0)
    if ufunc is np.ldexp:
        y = np.arange(-6, 6, dtype="i4")
        if not dtype.is_float:
            return
    elif not supported(ufunc, dtype, dtype):
        assert failure(lambda x, y: ufunc(x, y), x, y).code == "GM015"
        return
    y = abs(y) if ufunc.__name__ in SAFE_RIGHT and dtype.kind != "u" and dtype.kind != "b" else y
    if ufunc in (np.floor_divide, np.remainder, np.fmod, np.divmod) and dtype.kind != "f":
        y[y == 0] = 1
    agree(lambda x, y: ufunc(x, y), x, y, ulps=8)


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("b", DTYPES, ids=str)
def test_promotion_of_two_arrays(a: Any, b: Any) -> None:
    x, y = np.ones(3, a.numpy), np.ones(3, b.numpy)
    agree(lambda x, y: (x + y, x * y, x == y, np.maximum(x, y), np.where(x == y, x, y)), x, y)
    agree(lambda x, y: x / y, x, y)


@pytest.mark.parametrize("scalar", [True, 3, 2.5, 1j], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_python_scalars_are_weak(dtype: Any, scalar: Any) -> None:
    x = np.ones(3, dtype.numpy)
    agree(lambda x: (x + scalar, scalar * x, x / scalar, np.where(x == 1, x, scalar)), x)
    agree(lambda x, s: x + s, x, scalar)


@pytest.mark.parametrize("scalar", [np.float64(2.5), np.int64(3), np.float32(1.5), np.bool_(1)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numpy_scalars_are_strong(dtype: Any, scalar: Any) -> None:
    agree(lambda x: (x + scalar, scalar * x), np.ones(3, dtype.numpy))


@pytest.mark.parametrize("other", [*DTYPES, 2, 2.5], ids=str)
def test_bf16_promotes_as_a_float(other: Any) -> None:
    from graphmill.frontend.trace import trace
    from graphmill.ir.dtypes import promote

    x = np.ones(3, bf16.numpy)
    y = other if isinstance(other, int | float) else np.ones(3, other.numpy)
    wanted = bf16 if isinstance(other, int | float) else promote(bf16, other)
    result = trace(lambda x, y: x + y, (x, y)).function.results[0]
    assert result.tensor.dtype is wanted


def test_bf16_math_stays_bf16() -> None:
    from graphmill.frontend.trace import trace

    x = np.ones(3, bf16.numpy)
    made = trace(lambda x: (np.exp(x), x @ x, x.sum(), x.mean(), -x, x > 0, x / 2), (x,))
    names = [str(r.tensor.dtype) for r in made.function.results]
    assert names == ["bf16"] * 5 + ["bool", "bf16"]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u4", "i8"])
@pytest.mark.parametrize("number", [300, -300, 2**40, -1])
def test_comparing_with_numbers_out_of_range(dtype: str, number: int) -> None:
    x = np.array([0, 1, 100], dtype)
    agree(lambda x: (x < number, x == number, number < x, x >= number), x)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 0.5, 2.0, -1, 1.5])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
def test_power_by_a_number(n: float, dtype: str) -> None:
    x = np.array([0.5, 1.5, 2.0], dtype)
    agree(lambda x: (x**n, np.power(x, n)), x, rtol=3e-7 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 2.0, 0.5])
def test_bool_power_by_a_number(n: float) -> None:
    agree(lambda x: (x**n, np.power(x, n)), np.array([True, False]))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_integer_power_by_a_number(n: int) -> None:
    agree(lambda x: x**n, np.array([-2, 0, 3]))


@pytest.mark.parametrize(
    "operate",
    [
        lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x // (y + 9),
        lambda x, y: x % (y + 9), lambda x, y: divmod(x, y + 9), lambda x, y: x & y,
        lambda x, y: x | y, lambda x, y: x ^ y, lambda x, y: x << (y & 3),
        lambda x, y: x >> (y & 3), lambda x, y: x < y, lambda x, y: x <= y, lambda x, y: x > y,
        lambda x, y: x >= y, lambda x, y: x == y, lambda x, y: x != y, lambda x, y: -x,
        lambda x, y: +x, lambda x, y: abs(x), lambda x, y: ~x, lambda x, y: x @ y,
        lambda x, y: 2 - x, lambda x, y: 2.0 / (y + 9), lambda x, y: 7 // (y + 9),
        lambda x, y: 7 % (y + 9), lambda x, y: divmod(7, y + 9), lambda x, y: 2 ** (y & 3),
        lambda x, y: 5 & x, lambda x, y: 5 | x, lambda x, y: 5 ^ x, lambda x, y: 1 << (y & 3),
        lambda x, y: 64 >> (y & 3), lambda x, y: np.int64(3) > x,
        lambda x, y: (1, 2, 3) * x, lambda x, y: x * np.arange(3), lambda x, y: np.arange(3) - x,
        lambda x, y: np.ones((3, 3), int) @ x, lambda x, y: x.__add__(y),
    ],
)  # fmt: skip
def test_operators(operate: Any) -> None:
    x, y = np.array([1, -2, 3]), np.array([4, 5, -6])
    agree(operate, x, y, rtol=1e-12)


def test_inplace_operators() -> None:
    def f(x: Any, y: Any) -> Any:
        x = x.copy()
        x += y
        x -= 2
        x *= y
        x **= 2
        x /= 3
        x //= 2
        x %= 7
        return x

    agree(f, np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), rtol=1e-12)


def test_out_and_where() -> None:
    def f(x: Any, y: Any) -> Any:
        x = x + 0
        np.add(x, y, out=x)
        np.multiply(x, 2, out=x, where=x > 6)
        np.exp(y, out=x[:1], where=y[:1] > 100)
        return x

    agree(lambda x, y: f(x, y), np.array([1.0, 2.0, 3.0]), np.array([4.0]))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.add.reduce(x), lambda x: np.add.reduce(x, axis=1, keepdims=True),
        lambda x: np.multiply.reduce(x, axis=None), lambda x: np.maximum.reduce(x, 1),
        lambda x: np.minimum.reduce(x, axis=(0, 1)), lambda x: np.logical_and.reduce(x),
        lambda x: np.logical_or.reduce(x, axis=1), lambda x: np.add.accumulate(x),
        lambda x: np.multiply.accumulate(x, axis=1), lambda x: np.maximum.accumulate(x, 1),
        lambda x: np.logaddexp.reduce(x), lambda x: np.logaddexp.reduce(x, axis=1, keepdims=True),
        lambda x: np.add.outer(x, x[0]), lambda x: np.greater.outer(x[0], x),
        lambda x: np.add.reduce(x, initial=5.0), lambda x: np.add.reduce(x, dtype="f4"),
    ],
)  # fmt: skip
def test_ufunc_methods(call: Any) -> None:
    agree(call, np.arange(12.0).reshape(3, 4) - 5, rtol=1e-6)


@pytest.mark.parametrize("ufunc", [np.add, np.subtract, np.multiply, np.maximum, np.minimum])
@pytest.mark.parametrize("key", [[0, 0, 2], slice(1, None), ([0, 1, 0], [1, 1, 1]), (0, [1, 1])])
def test_at_counts_equal_indices(ufunc: np.ufunc, key: Any) -> None:
    def f(x: Any) -> Any:
        x = x + 0
        ufunc.at(x, key, 3.0)
        return x

    agree(f, np.arange(12.0).reshape(3, 4))


def test_at_on_bools_is_or_and_and() -> None:
    def f(x: Any) -> Any:
        x = x.copy()
        np.add.at(x, [0, 0, 1], True)
        np.multiply.at(x, [2], False)
        return x

    agree(f, np.array([False, False, True, True]))


@pytest.mark.parametrize("name", ["f4", "f8"])
def test_frexp_and_ldexp_of_all_exponents(name):
    dtype, rng = np.dtype(name), np.random.default_rng(0)
    bits = rng.integers(0, 2 ** (8 * dtype.itemsize) - 1, 20000, dtype=f"u{dtype.itemsize}")
    tiny = (rng.random(2000) * np.finfo(dtype).tiny).astype(dtype)
    x = np.concatenate([bits.view(dtype), tiny, -tiny, np.array([0, -0.0, np.inf, 1], dtype)])
    n = rng.integers(-2400, 2400, x.size).astype("i4")
    n[::2] //= 8
    n[:2] = 2**31 - 1, -(2**31)
    got = gm.jit(lambda x, n: (*np.frexp(x), np.ldexp(x, n)))(x, n)
    with np.errstate(all="ignore"):
        want = (*np.frexp(x), np.ldexp(x, n))
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
