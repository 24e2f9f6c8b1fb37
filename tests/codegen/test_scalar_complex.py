"""Complex ops against NumPy in extended precision: errors relative to the whole number."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from graphmill.codegen.cpu.complex import TABLE
from tests.codegen.harness import Kernels

pytestmark = pytest.mark.sampled(2)

TO_BOOL = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
           "gt": np.greater, "ge": np.greater_equal, "isnan": np.isnan, "isinf": np.isinf,
           "isfinite": np.isfinite}  # fmt: skip
UNARY = {
    "neg": np.negative, "square": np.square, "reciprocal": np.reciprocal, "sign": np.sign,
    "conj": np.conj, "round": np.round, "sqrt": np.sqrt, "exp": np.exp, "log": np.log,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
}  # fmt: skip
BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power}
ORDER = {"max": np.maximum, "min": np.minimum}
KINDS = {"c64": ("f32", np.complex64), "c128": ("f64", np.complex128)}


@cache
def kernels() -> Kernels:
    batch = Kernels()
    for kind, (real, _) in KINDS.items():
        for op in TABLE:
            arity = 2 if op in (*BINARY, *ORDER) or op in list(TO_BOOL)[:6] else 1
            out = "bool" if op in TO_BOOL else real if op == "abs" else kind
            batch.add_op(op, [kind] * arity, out, f"{op}_{kind}")
        batch.add_op("complex", [real, real], kind, f"complex_{kind}")
        batch.add_op("real", [kind], real, f"real_{kind}")
        batch.add_op("imag", [kind], real, f"imag_{kind}")
    return batch


def samples(kind: str, n: int = 6000) -> np.ndarray:
    rng, dtype = np.random.default_rng(3), KINDS[kind][1]
    sizes = rng.choice([0.01, 0.5, 1, 3, 12], n)
    z = (rng.normal(0, 1, n) + 1j * rng.normal(0, 1, n)) * sizes
    z[:200] = np.exp(1j * z[:200].real)  # |z| near 1
    return z.astype(dtype)


def assert_close(got: np.ndarray, want: np.ndarray, ulps: float) -> None:
    real = np.zeros(0, got.dtype).real.dtype
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(want), np.finfo(real).tiny).astype(np.float64)
        error = np.abs(got - want).astype(np.float64) / size / np.finfo(real).eps
    worst = error.argmax()
    assert error[worst] <= ulps, (error[worst], got[worst], want[worst])


def wider(z: np.ndarray) -> np.ndarray:
    return z.astype(np.complex128 if z.dtype == np.complex64 else np.clongdouble)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", UNARY)
def test_unary_is_numpys(op: str, kind: str) -> None:
    z = samples(kind)
    assert_close(kernels()(f"{op}_{kind}", z), UNARY[op](wider(z)), 6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", BINARY)
def test_binary_is_numpys(op: str, kind: str) -> None:
    a, b = samples(kind), samples(kind)[::-1] * (0.3 if op == "pow" else 1)
    assert_close(kernels()(f"{op}_{kind}", a, b), BINARY[op](wider(a), wider(b)),
                 100 if op == "pow" else 4)  # fmt: skip


def special(kind: str) -> tuple[np.ndarray, np.ndarray]:
    parts = np.array([0.0, -0.0, 1, -1, 2, np.inf, -np.inf, np.nan])
    z = (parts[:, None] + 0j).repeat(8, 1)
    z.imag = parts
    a, b = np.meshgrid(z.ravel(), z.ravel())
    return a.ravel().astype(KINDS[kind][1]), b.ravel().astype(KINDS[kind][1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", [*TO_BOOL, *ORDER, "conj", "neg", "add", "sub"])
def test_special_values_are_numpys(op: str, kind: str) -> None:
    a, b = special(kind)
    function = (TO_BOOL | ORDER | UNARY | BINARY)[op]
    args = (a, b) if function.nin == 2 else (a,)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(kernels()(f"{op}_{kind}", *args), function(*args))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ["sqrt", "exp", "log", "abs", "div"])
def test_infinities_and_zeros_are_numpys(op: str, kind: str) -> None:
    a, b = special(kind)
    args = (a, b) if op == "div" else (a,)
    function = {"abs": np.abs, "div": np.divide}.get(op) or UNARY[op]
    keep = ~np.isnan(a) & ~np.isnan(b) & (np.isfinite(b) if op == "div" else True)
    keep &= ~(np.isinf(a.imag) & (op == "exp")) & ~((op == "div") & np.isinf(a))
    args = tuple(v[keep] for v in args)
    with np.errstate(all="ignore"):
        got, want = kernels()(f"{op}_{kind}", *args), function(*args)
    np.testing.assert_allclose(got.real, want.real, rtol=1e-6)
    np.testing.assert_allclose(got.imag, want.imag, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_joining(kind: str) -> None:
    z = samples(kind, 100)
    re, im = kernels()(f"real_{kind}", z), kernels()(f"imag_{kind}", z)
    np.testing.assert_array_equal(re, z.real)
    np.testing.assert_array_equal(im, z.imag)
    np.testing.assert_array_equal(kernels()(f"complex_{kind}", re, im), z)
    assert_close(kernels()(f"abs_{kind}", z), np.abs(wider(z)), 1)
