"""Every elementary function against extended precision: its stated error bound in ulps.

Samples: all exponents of both signs, dense ranges where the function moves, special values.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.codegen import reference
from tests.codegen.harness import Kernels
from tests.codegen.reference import on_wide, ulps

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="needs a long double of 64 bits"
)

# op: reference, bound in ulp for f32 and f64
UNARY = {
    "exp": (on_wide(np.exp), 1.1, 1.1),
    "exp2": (on_wide(np.exp2), 1.1, 1.1),
    "expm1": (on_wide(np.expm1), 1.6, 1.8),
    "log": (on_wide(np.log), 0.9, 0.9),
    "log2": (on_wide(np.log2), 0.9, 0.9),
    "log10": (on_wide(np.log10), 0.9, 0.9),
    "log1p": (on_wide(np.log1p), 0.9, 0.9),
    "sin": (on_wide(np.sin), 1.8, 1.8),
    "cos": (on_wide(np.cos), 1.8, 1.8),
    "tan": (on_wide(np.tan), 1.6, 1.6),
    "asin": (on_wide(np.arcsin), 1.3, 1.3),
    "acos": (on_wide(np.arccos), 1.3, 1.3),
    "atan": (on_wide(np.arctan), 1.6, 2.0),
    "sinh": (on_wide(np.sinh), 1.7, 1.7),
    "cosh": (on_wide(np.cosh), 1.6, 1.6),
    "tanh": (on_wide(np.tanh), 1.4, 1.4),
    "asinh": (on_wide(np.arcsinh), 1.4, 1.4),
    "acosh": (on_wide(np.arccosh), 1.1, 1.1),
    "atanh": (on_wide(np.arctanh), 1.1, 1.1),
    "erf": (reference.erf, 1.1, 1.2),
    "erfc": (reference.erfc, 0.6, 3.5),
    "logistic": (reference.logistic, 2.0, 2.0),
    "cbrt": (on_wide(np.cbrt), 0.6, 0.6),
    "rsqrt": (on_wide(lambda x: 1 / np.sqrt(x)), 1.5, 1.5),
}
BINARY = {
    "pow": (on_wide(np.power), 0.6, 1.3),
    "atan2": (on_wide(np.arctan2), 1.6, 2.0),
    "hypot": (on_wide(np.hypot), 0.6, 0.6),
}
SPECIAL = (0, 1, 0.5, 2, 3, np.inf, np.nan, 1e-40, 1e30, 2.0**30, 0.75, 0.625, 88.8, 745.2)
DTYPES = {"f32": np.float32, "f64": np.float64}


@cache
def kernels() -> Kernels:
    batch = Kernels()
    for table, arity in ((UNARY, 1), (BINARY, 2)):
        for op in table:
            for kind in DTYPES:
                batch.add_op(op, [kind] * arity, kind, f"{op}_{kind}")
    batch.add_op("logaddexp", ["f64", "f64"], "f64", "logaddexp_f64")
    batch.add_op("logaddexp", ["f32", "f32"], "f32", "logaddexp_f32")
    return batch


@cache
def samples(kind: str) -> np.ndarray:
    """All exponents, dense ranges and special values, both signs."""
    dtype, rng = DTYPES[kind], np.random.default_rng(1)
    word = np.uint32 if kind == "f32" else np.uint64
    top = int(np.array(np.inf, dtype).view(word))
    far = rng.integers(0, top, 40000, dtype=word).view(dtype)
    spans = (1e-3, 0.4, 1, 2, 10, 100, 1e4) + ((750.0, 1e6) if kind == "f64" else ())
    dense = [rng.uniform(0, span, 12000) for span in spans]
    dense += [rng.uniform(1 - span, 1 + span, 12000) for span in (1e-6, 1e-3, 0.3)]
    nans = np.array([top + 1, top + (top >> 9) + 12345], word).view(dtype)
    special = [np.array(SPECIAL, dtype), nans]
    values = np.concatenate([far, *(d.astype(dtype) for d in dense), *special])
    return np.concatenate([values, -values])


@cache
def pairs(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of all exponents, of moderate values, near 1 to high powers, and special ones."""
    dtype, rng = DTYPES[kind], np.random.default_rng(2)
    any_two = rng.permutation(samples(kind))[:60000], rng.permutation(samples(kind))[:60000]
    special = np.meshgrid(*[np.array([*SPECIAL, *(-v for v in SPECIAL)], dtype)] * 2)
    n = 30000
    near, high = rng.uniform(0.99, 1.01, n), rng.uniform(-8000, 8000, n)
    base, exponent = np.exp(rng.uniform(-40, 40, n)), rng.uniform(-2, 2, n)
    whole, small = rng.integers(-30, 30, n), rng.integers(-9, 9, n)
    x = [any_two[0], special[0].ravel(), near, base, whole, rng.normal(0, 1, n)]
    y = [any_two[1], special[1].ravel(), high, exponent, small, rng.normal(0, 1, n)]
    first, second = (np.concatenate([v.astype(dtype) for v in side]) for side in (x, y))
    return first, second


def check(name: str, args: tuple[np.ndarray, ...], want: np.ndarray, bound: float) -> None:
    got = kernels()(name, *args)
    with np.errstate(all="ignore"):
        error = ulps(got, want)
    worst = error.argmax()
    where = [a[worst] for a in args]
    assert error[worst] <= bound, f"{error[worst]} ulp at {where}: {got[worst]}, {want[worst]}"


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("op", UNARY)
def test_unary_within_its_bound(op: str, kind: str) -> None:
    function, *bounds = UNARY[op]
    x = samples(kind)
    if op in ("erf", "erfc"):
        x = x[::7]
    with np.errstate(all="ignore"):
        want = function(x)
    check(f"{op}_{kind}", (x,), want, bounds[kind == "f64"])


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("op", BINARY)
def test_binary_within_its_bound(op: str, kind: str) -> None:
    function, *bounds = BINARY[op]
    x, y = pairs(kind)
    with np.errstate(all="ignore"):
        want = function(x, y)
    check(f"{op}_{kind}", (x, y), want, bounds[kind == "f64"])


@pytest.mark.parametrize("kind", DTYPES)
def test_logaddexp_within_two_ulps_of_the_larger_term(kind: str) -> None:
    x, y = pairs(kind)
    got = kernels()(f"logaddexp_{kind}", x, y)
    with np.errstate(all="ignore"):
        want = on_wide(np.logaddexp)(x, y)
        scale = np.spacing(np.maximum(np.abs(x), np.abs(y)).clip(0.7, np.finfo(x.dtype).max))
        good = np.abs(got - want) <= 2 * scale
    good |= (got == want.astype(got.dtype)) | (np.isnan(got) & np.isnan(want))
    assert good.all(), (x[~good][:3], y[~good][:3], got[~good][:3], want[~good][:3])


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("op", UNARY)
def test_scalar_code_gives_the_bits_of_vector_code(op: str, kind: str) -> None:
    x = samples(kind)[::997]
    one_by_one = np.concatenate([kernels()(f"{op}_{kind}", x[i : i + 1]) for i in range(len(x))])
    whole = kernels()(f"{op}_{kind}", x)
    np.testing.assert_array_equal(np.isnan(one_by_one), np.isnan(whole))
    known = ~np.isnan(whole)
    np.testing.assert_array_equal(one_by_one[known].view("u1"), whole[known].view("u1"))


def test_only_libm_is_called() -> None:
    kernels()("exp_f32", samples("f32")[:8])
    names = {
        line.split("@")[1].split("(")[0]
        for line in kernels().unit.parts
        if "@gm_" not in line and "@gm." not in line
    }
    assert names <= {"sin", "cos", "tan", "sinf", "cosf", "tanf"}
