"""Integers divided by numbers known while compiling, which multiplications do, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm

DIVISORS = (
    1, 2, 3, 5, 7, 8, 10, 64, 100, 127, 641, 1000, 65537, 10**9, 2**31 - 1, 2**31, 2**32 + 1,
    10**18, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1,
)  # fmt: skip


@pytest.mark.parametrize("name", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_quotients_and_remainders(name):
    dtype, rng = np.dtype(name), np.random.default_rng(0)
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.min + 1, info.max, info.max - 1, 0], dtype)
    any_number = rng.integers(info.min, info.max, 4000, dtype=dtype, endpoint=True)
    x = np.concatenate([any_number, np.arange(-60, 60).astype(dtype), ends])
    known = [d for n in DIVISORS for d in (n, -n) if info.min <= d <= info.max]

    def f(x):
        return [x // dtype.type(d) for d in known], [x % dtype.type(d) for d in known]

    with np.errstate(over="ignore"):  # the least number by -1
        wanted = f(x)
    for got, want in zip(gm.jit(f)(x), wanted, strict=True):
        for divisor, a, b in zip(known, got, want, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"by {divisor}")
