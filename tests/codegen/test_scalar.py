"""Every exact elementwise op against NumPy, over dtypes, special values and both modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import ml_dtypes
import numpy as np
import pytest

from graphmill.codegen.cpu.scalar import supported
from graphmill.ir.dtypes import ALL, dtype
from tests.codegen.harness import Kernels

pytestmark = pytest.mark.sampled(3)

COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
TO_BOOL = (*COMPARE, "isnan", "isinf", "isfinite", "signbit")


def same(x: np.ndarray) -> np.ndarray:
    return x


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype({"f4": np.float64, "f8": np.longdouble}.get(x.dtype.str[1:], x.dtype))


def rint(x: np.ndarray) -> np.ndarray:
    return np.rint(x) if x.dtype.kind == "f" else x


NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide,
    "square": np.square, "neg": np.negative, "reciprocal": np.reciprocal,
    "floordiv": np.floor_divide, "mod": np.remainder, "rem": np.fmod,
    "max": np.maximum, "min": np.minimum, "clamp": np.clip,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "select": np.where,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": np.left_shift, "shr": np.right_shift, "popcount": np.bitwise_count,
    "abs": np.absolute, "sign": np.sign, "copysign": np.copysign, "signbit": np.signbit,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "nextafter": np.nextafter,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": rint,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "conj": np.conj, "real": same,
    "fma": lambda a, b, c: wide(a) * wide(b) + wide(c), "pow": np.power,
}  # fmt: skip
ARITY = {"select": 3, "clamp": 3, "fma": 3}
BINARY = {
    *COMPARE, "add", "sub", "mul", "div", "floordiv", "mod", "rem", "max", "min", "and", "or",
    "xor", "shl", "shr", "pow", "copysign", "nextafter",
}  # fmt: skip
ROUNDED = {"fma": 1, "rsqrt": 2}  # ulp, where NumPy rounds at other places


def cases() -> Iterator[tuple[str, str]]:
    for op, kind in sorted(supported()):
        if op in NUMPY and not (op == "pow" and kind == "f"):
            yield from ((op, d.name) for d in ALL if d.kind == kind and kind != "c")


def arity(op: str) -> int:
    return ARITY.get(op, 2 if op in BINARY else 1)


def out_type(op: str, name: str) -> str:
    return "bool" if op in TO_BOOL else name


@cache
def kernels() -> Kernels:
    batch = Kernels()
    for op, name in cases():
        ins = [name] * arity(op)
        if op == "select":
            ins[0] = "bool"
        batch.add_op(op, ins, out_type(op, name), f"{op}_{name}")
    return batch


def samples(name: str) -> np.ndarray:
    kind = dtype(name)
    rng = np.random.default_rng(7)
    if kind.kind == "b":
        return rng.integers(0, 2, 60).astype(np.bool_)
    if kind.kind in "iu":
        info = np.iinfo(kind.numpy)
        special = [0, 1, 2, 3, 5, 7, info.max, info.max - 1, info.min, info.min + 1, kind.bits]
        special += [-1 % (info.max + 1) if kind.kind == "u" else -1, info.max // 3, 13]
        values = [*special, *rng.integers(info.min, info.max, 40, endpoint=True, dtype=kind.numpy)]
        return np.array(values, kind.numpy)
    info = ml_dtypes.finfo(kind.numpy)
    tiny, least, big = (float(v) for v in (info.tiny, info.smallest_subnormal, info.max))
    special = [0.0, 1.0, 0.5, 1.5, 2.5, 3.0, 0.3, tiny, least, 3 * least, big, big / 2, np.inf]
    special += [np.nan, 7.75, 1e4, 2.0**-10, 1 / 3]
    values = [*special, *(-v for v in special), *rng.normal(0, 3, 24), *rng.normal(0, 1e4, 9)]
    return np.array(values).astype(kind.numpy)


def operands(op: str, name: str) -> list[np.ndarray]:
    one = samples(name)
    if arity(op) == 1:
        return [one]
    a, b = (x.ravel() for x in np.meshgrid(one, one, indexing="ij"))
    if op == "clamp":
        with np.errstate(all="ignore"):
            return [a, np.minimum(b, b[::-1]), np.maximum(b, b[::-1])]
    if arity(op) == 3:
        return [samples("bool").repeat(len(a))[: len(a)] if op == "select" else b[::-1], a, b]
    return [a, b]


def expected(op: str, name: str, args: list[np.ndarray]) -> np.ndarray:
    kind = dtype(name)
    half = kind.kind == "f" and kind.bits == 16
    with np.errstate(all="ignore"):
        if half and op not in ("nextafter",):
            args = [a.astype("f4") if a.dtype != np.bool_ else a for a in args]
        if kind.kind == "b" and op == "sub":
            return np.logical_xor(*args)
        if kind.kind == "b" and op == "square":
            return args[0]
        result = NUMPY[op](*args)
        return result.astype(dtype(out_type(op, name)).numpy)


def assert_same(got: np.ndarray, want: np.ndarray, ulps: int = 0) -> None:
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    word = np.dtype(f"i{got.itemsize}")
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    a, b = (x[~nan].view(word) for x in (got, want))
    a, b = (np.where(x < 0, np.iinfo(word).min - x, x) for x in (a, b))
    gap = np.abs(a - b)
    assert gap.max(initial=0) <= ulps, (got[~nan][gap.argmax()], want[~nan][gap.argmax()])


@pytest.mark.parametrize(("op", "name"), list(cases()), ids=lambda x: str(x))
def test_op_is_numpys(op: str, name: str) -> None:
    args = operands(op, name)
    if op == "pow" and dtype(name).kind == "i":
        args[1] = np.abs(args[1] % 40)
    if op == "reciprocal" and dtype(name).kind in "iu":
        args[0] = args[0][args[0] != 0]  # undefined in NumPy
    assert_same(kernels()(f"{op}_{name}", *args), expected(op, name, args), ROUNDED.get(op, 0))
