"""Every name of the array API standard 2024.12, compiled, on NumPy arrays, and by NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphmill as gm
from tests.frontend.comparing import same

pytestmark = pytest.mark.sampled(2)

xp = gm.numpy
RNG = np.random.default_rng(11)

VALUES: dict[str, Any] = {
    "a": RNG.normal(size=(3, 4)),
    "b": RNG.normal(size=(3, 4)).astype("f4"),
    "c": RNG.normal(size=(2, 3, 4)),
    "m": RNG.normal(size=(4, 4)),
    "v": RNG.normal(size=4),
    "w": np.array([3.0, -1.0, np.nan, 2.0, -1.0, np.inf]),
    "i": RNG.integers(-5, 6, (3, 4)),
    "j": RNG.integers(0, 3, (3, 4)).astype("i4"),
    "u": RNG.integers(0, 200, (3, 4)).astype("u1"),
    "t": RNG.integers(0, 2, (3, 4)).astype(bool),
    "z": RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4)),
    "s": np.array(2.5),
    "k": np.array(2),
    "e": np.zeros((0, 4)),
    "q": np.sort(RNG.normal(size=9)),
    "f": RNG.normal(size=(3, 4)).astype("f2"),
}

# Each line is compiled as one function of the arrays it names.
CASES = """
arange(4) + v | arange(1, 5) + v | arange(0, 8, 2, dtype=i.dtype) + v | arange(4.0) * b[0]
asarray(a) + 1 | asarray([1, 2, 3, 4]) + v | asarray(2.5) * b | asarray(i, dtype=float32)
asarray(s) | empty((2, 3)) * 0 + s | empty_like(a) * 0 | eye(3) @ a | eye(3, 4) + a
eye(4, k=-1) * m | eye(3, 4, k=1, dtype=int32) + j | full((3, 4), 7) + i | full((), 2.0) + s
full_like(i, 3) + i | full((2,), True) | full_like(a, 2, dtype=int8) + i | linspace(0, 1, 4) + v
linspace(0.0, s, 5) | linspace(0, 4, 4, endpoint=False) + v | meshgrid(v, arange(3))[1]
meshgrid(v, v, indexing="ij") | meshgrid(v, q, s[None])[0] | ones((3, 4)) - a | ones_like(b)
ones_like(i, dtype=float32) | ones(4) | tril(a) | tril(c, k=1) | triu(a, k=-1) | triu(c) | triu(i)
zeros((3, 4)) + a | zeros_like(z) | zeros(4, dtype=bool) | zeros_like(t) | zeros(()) + s
from_dlpack(a) + 1 | astype(a, int32) | astype(i, float32) | astype(t, int8) | astype(a, bool)
astype(i, complex128) | broadcast_arrays(v, a) | broadcast_to(v, (3, 4)) | broadcast_to(s, (2, 2))
broadcast_arrays(s, e) | clip(a, -0.5, 0.5) | clip(i, 0, None) | clip(i, -2, 3)
clip(a, None, 0.0) | clip(s, 0, 1) | clip(e, 0, 1) | clip(b, b - 1, b + 1) | clip(u, 10, 100)
real(a) | imag(b) | real(z) | imag(z) | conj(i) | add(a, 1) | multiply(b, 2.0) | subtract(i, 1)
divide(i, 2) | pow(a, 2) | maximum(b, 0) | add(u, u) | add(a, v) | add(s, b) | add(e, v)
equal(i, 1) | less(a, v) | logical_not(i) | add(i, j) | add(t, i)
take(a, asarray([0, 2]), axis=0) | take(v, asarray([3, -1, 0])) | take(c, j[0], axis=1)
take_along_axis(a, argsort(a), axis=-1) | take_along_axis(i, asarray([[1]]), axis=0)
matmul(a, m) | matmul(m, v) | matmul(v, v) | matmul(c, m) | matmul(i, j.T) | matmul(z, m)
matrix_transpose(c) | matrix_transpose(a) | tensordot(a, m, axes=1) | tensordot(v, v, axes=0)
tensordot(a, c, axes=((0, 1), (1, 2))) | tensordot(a, b) | vecdot(a, v) | vecdot(z, z)
vecdot(a, b, axis=0) | vecdot(i, j) | tensordot(e, m, axes=1) | matmul(e, v) | concat([a, b])
concat((a, i), axis=1) | concat([v, q], axis=None) | concat([e, a]) | concat([t, u])
expand_dims(a, axis=1) | expand_dims(s, axis=0) | expand_dims(e, axis=-1) | flip(a)
flip(a, axis=1) | flip(c, axis=(0, 2)) | flip(s) | flip(e) | moveaxis(c, 0, -1)
moveaxis(c, (0, 1), (1, 0)) | permute_dims(c, (2, 0, 1)) | permute_dims(e, (1, 0)) | repeat(a, 2)
repeat(a, 3, axis=1) | repeat(a, [1, 0, 2], axis=0) | reshape(a, (4, 3)) | reshape(a, (-1,))
reshape(e, (4, 0)) | reshape(s, (1, 1)) | reshape(c, (3, -1), copy=True) | roll(a, 1)
roll(a, -2, axis=1) | roll(e, 3) | roll(c, (1, 2), axis=(0, 2)) | squeeze(a[None], 0)
squeeze(s[None, None], (0, 1)) | stack([a, b]) | stack([s, s]) | stack((a, i), axis=-1)
tile(a, (2, 1)) | tile(v, (2, 2)) | tile(c, (2,)) | unstack(a) | unstack(c, axis=-1) | unstack(v)
argmax(a) | argmax(a, axis=0) | argmin(i, axis=1, keepdims=True) | argmin(w) | argmax(w)
argmax(t) | argmin(s) | count_nonzero(i) | count_nonzero(i, axis=0)
count_nonzero(t, axis=(0, 1), keepdims=True) | count_nonzero(e, axis=0) | searchsorted(q, a)
searchsorted(q, v, side="right") | searchsorted(v, q, sorter=argsort(v)) | where(t, a, b)
where(t, i, 0) | where(a > 0, s, v) | where(t, 1.0, a) | argsort(a) | argsort(i, axis=0)
argsort(w) | sort(a) | sort(w) | sort(i, axis=0) | sort(t) | sort(e, axis=0) | argsort(c, axis=1)
sort(u, axis=-1) | cumulative_sum(v) | cumulative_sum(i, axis=1)
cumulative_sum(a, axis=0, include_initial=True) | cumulative_sum(t, axis=0) | cumulative_prod(v)
cumulative_prod(j, axis=0, include_initial=True) | cumulative_sum(u, axis=1, dtype=int32) | max(a)
max(i, axis=0) | max(c, axis=(0, 2), keepdims=True) | min(a, axis=1) | min(u) | max(s) | max(w)
mean(a) | mean(i) | mean(c, axis=(0, 2)) | mean(z) | mean(f) | mean(s) | prod(v) | prod(j, axis=1)
prod(e) | prod(t) | prod(z, axis=0) | std(a) | var(a) | std(c, axis=1, correction=1)
var(b, axis=0, keepdims=True) | var(i) | var(z) | std(v, correction=1.5) | sum(a) | sum(i, axis=0)
sum(u) | sum(t, axis=1) | sum(e) | sum(e, axis=0) | sum(b, dtype=float64)
sum(c, axis=(), keepdims=True) | sum(f, axis=0) | sum(z, axis=-1, keepdims=True) | sum(s) | all(t)
all(t, axis=1) | any(i, axis=(0, 1), keepdims=True) | any(e) | all(e) | all(a) | any(w) | diff(a)
diff(v, n=2) | diff(a, axis=0, prepend=a[:1]) | diff(v, append=asarray([0.0])) | diff(i)
linalg.cross(a[:, :3], a[:, 1:]) | linalg.diagonal(c) | linalg.diagonal(a, offset=1)
linalg.matmul(a, m) | linalg.matrix_norm(c) | linalg.matrix_norm(a, ord=1)
linalg.matrix_norm(a, ord=inf, keepdims=True) | linalg.matrix_power(m, 3) | linalg.outer(v, q)
linalg.matrix_transpose(a) | linalg.tensordot(a, m, axes=1) | linalg.trace(c) | linalg.trace(i)
linalg.trace(a, offset=-1) | linalg.vecdot(v, a) | linalg.vector_norm(a) | linalg.vector_norm(z)
linalg.vector_norm(c, axis=(0, 1)) | linalg.vector_norm(a, axis=1, ord=1)
linalg.vector_norm(v, ord=inf) | linalg.vector_norm(v, ord=3, keepdims=True)
"""

UNARY_NAMES = """
abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor
imag isfinite isinf isnan log log1p log2 log10 logical_not negative positive real reciprocal round
sign signbit sin sinh sqrt square tan tanh trunc"""
BINARY_NAMES = """
add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
copysign divide equal floor_divide greater greater_equal hypot less less_equal logaddexp
logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow remainder
subtract"""
OTHER_NAMES = """
arange argmax argmin argsort asarray astype broadcast_arrays broadcast_to can_cast clip
concat count_nonzero cumulative_prod cumulative_sum diff e empty empty_like expand_dims eye
finfo flip from_dlpack full full_like iinfo inf isdtype linspace matmul matrix_transpose max
mean meshgrid min moveaxis nan newaxis nonzero ones ones_like permute_dims pi prod repeat
reshape result_type roll searchsorted sort squeeze stack std sum take take_along_axis tensordot
tile tril triu unique_all unique_counts unique_inverse unique_values unstack var vecdot where
zeros zeros_like all any bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64
complex64 complex128 __array_namespace_info__ __array_api_version__"""
LINALG_NAMES = """
cholesky cross det diagonal eigh eigvalsh inv matmul matrix_norm matrix_power
matrix_rank matrix_transpose outer pinv qr slogdet solve svd svdvals tensordot trace vecdot
vector_norm"""
UNARY, BINARY, LINALG = UNARY_NAMES.split(), BINARY_NAMES.split(), LINALG_NAMES.split()
STANDARD = UNARY + BINARY + OTHER_NAMES.split()


def expressions(line: str) -> list[str]:
    return [part.strip() for part in line.split(" | ")]


def compiled_case(text: str, namespace: Any) -> tuple[Callable[..., Any], list[str]]:
    """The expression as a function of the arrays it names, its functions from a namespace."""
    code = compile(text, "case", "eval")
    names = [n for n in dict.fromkeys(code.co_names) if n in VALUES]
    scope = {n: getattr(namespace, n) for n in code.co_names if hasattr(namespace, n)}
    scope = {n: f for n, f in scope.items() if n not in VALUES}
    return eval(f"lambda {', '.join(names)}: {text}", scope), names


def quietly(function: Callable[..., Any], *args: Any) -> Any:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*args)


def lists(result: Any) -> Any:
    """Tuples and lists alike: NumPy gives either where the standard says list."""
    return [lists(r) for r in result] if isinstance(result, list | tuple) else result


@pytest.mark.parametrize("line", CASES.strip().splitlines(), ids=lambda line: line[:40])
def test_gives_numpy_result(line: str) -> None:
    texts = expressions(line)
    parts = [compiled_case(text, xp) for text in texts]
    made = gm.jit(lambda given: [f(*(given[n] for n in names)) for f, names in parts])
    given = {n: VALUES[n] for _, names in parts for n in names}
    results = made(given)
    for text, (eager, names), found in zip(texts, parts, results, strict=True):
        arrays = [VALUES[n] for n in names]
        numpy, _ = compiled_case(text, np)
        wanted = lists(quietly(numpy, *arrays))
        try:
            same(lists(found), wanted, ulps=64)
            same(lists(quietly(eager, *arrays)), wanted)
        except AssertionError as problem:
            raise AssertionError(f"{text}: {problem}") from None


SAMPLES = [
    (dtype, shape)
    for dtype in ("b1", "i4", "i8", "u1", "f2", "f4", "f8", "c8", "c16")
    for shape in ((3, 5), (), (0, 3))
]  # fmt: skip


def sample(dtype: str, shape: tuple[int, ...], seed: int) -> Any:
    rng = np.random.default_rng(seed)
    if dtype == "b1":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype[0] in "iu":
        return np.asarray(rng.integers(0 if dtype[0] == "u" else -3, 6, shape)).astype(dtype)
    x = np.asarray(rng.uniform(-2, 2, shape))
    return (x + 1j * rng.uniform(-2, 2, shape) if dtype[0] == "c" else x).astype(dtype)


def accepted(function: Any, *arrays: Any) -> bool:
    try:
        quietly(function, *arrays)
    except (TypeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", UNARY + BINARY)
def test_elementwise_over_dtypes(name: str) -> None:
    ours, numpy = getattr(xp, name), getattr(np, name)
    arity = 1 if name in UNARY else 2
    cases = [[sample(d, s, n) for n in range(arity)] for d, s in SAMPLES]
    if "shift" in name:
        cases = [[abs(x) if x.dtype.kind in "iu" else x for x in case] for case in cases]
    cases = [case for case in cases if accepted(numpy, *case)]
    assert len(cases) >= 6
    found = gm.jit(lambda given: [ours(*case) for case in given])(cases)
    for case, one in zip(cases, found, strict=True):
        wanted = np.asarray(quietly(numpy, *case))
        same(one, wanted, ulps=64)
        same(np.asarray(quietly(ours, *case)), wanted)


def test_all_names_are_there() -> None:
    missing = [name for name in STANDARD if not hasattr(xp, name)]
    missing += [name for name in LINALG if not hasattr(xp.linalg, name)]
    assert not missing
    assert {*STANDARD} <= {*xp.__all__}
    assert {*LINALG} == {*xp.linalg.__all__}


def test_all_names_are_tested() -> None:
    words = "".join(c if c.isalnum() or c == "_" else " " for c in CASES).split()
    elsewhere = {
        "can_cast", "finfo", "iinfo", "isdtype", "result_type", "nonzero", "unique_all",
        "unique_counts", "unique_inverse", "unique_values", "e", "pi", "nan", "inf", "newaxis",
        "__array_namespace_info__", "__array_api_version__",
    }  # fmt: skip
    dtypes = set(xp.__array_namespace_info__().dtypes())
    assert not {*STANDARD} - {*words, *UNARY, *BINARY} - elsewhere - dtypes


VALUE_DEPENDENT = ("nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values")
DECOMPOSITIONS = ("eigh", "eigvalsh", "matrix_rank", "pinv", "qr", "svd", "svdvals")


@pytest.mark.parametrize("name", VALUE_DEPENDENT + DECOMPOSITIONS)
def test_names_that_cannot_be_traced_say_why(name: str) -> None:
    ours, numpy = (xp, np) if name in VALUE_DEPENDENT else (xp.linalg, np.linalg)
    with pytest.raises(gm.GraphmillError, match="GM010") as caught:
        gm.jit(lambda x: getattr(ours, name)(x))(VALUES["m"])
    assert caught.value.why and caught.value.hint
    symmetric = VALUES["m"] + VALUES["m"].T
    found, wanted = getattr(ours, name)(symmetric), getattr(numpy, name)(symmetric)
    for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, wanted)),
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1", "b1", "f2"])
def test_descending_order(dtype: str) -> None:
    x = np.random.default_rng(3).integers(0, 4, (3, 7)).astype(dtype)
    if dtype == "f4":
        x[1, 2] = np.nan

    def both(x: Any) -> Any:
        return [xp.sort(x, descending=True), xp.argsort(x, axis=0, descending=True)]

    key = np.where(np.isnan(x), -np.inf, x.astype("f8"))
    order = np.argsort(-key, axis=0, stable=True)
    values = -np.sort(-x.astype("f8"), axis=-1)
    for found in (gm.jit(both)(x), both(x)):
        np.testing.assert_array_equal(found[0].astype("f8"), values)
        np.testing.assert_array_equal(found[1], order)


def test_dtypes_and_limits() -> None:
    assert xp.float32 == np.dtype("f4") and xp.bfloat16 == ml_dtypes.bfloat16
    assert xp.result_type(xp.int8, xp.uint8) == xp.int16
    assert xp.result_type(VALUES["b"], 1.0) == xp.float32
    assert xp.result_type(VALUES["b"], VALUES["a"]) == xp.float64
    assert xp.result_type(xp.bfloat16, xp.float16) == xp.float32
    assert xp.can_cast(xp.int8, xp.int16) and not xp.can_cast(VALUES["a"], xp.float32)
    assert xp.finfo(xp.float32).eps == np.finfo("f4").eps and xp.finfo(xp.bfloat16).bits == 16
    assert xp.finfo(VALUES["z"]).bits == 64
    assert xp.iinfo(VALUES["u"]).max == 255
    assert xp.newaxis is None and xp.e == np.e and xp.pi == np.pi
    assert xp.inf == np.inf and np.isnan(xp.nan)


@pytest.mark.parametrize("kind", ["bool", "signed integer", "unsigned integer", "integral",
                                  "real floating", "complex floating", "numeric"])  # fmt: skip
def test_isdtype(kind: str) -> None:
    for dtype in xp.__array_namespace_info__().dtypes().values():
        assert xp.isdtype(dtype, kind) == np.isdtype(dtype, kind)
    assert xp.isdtype(xp.bfloat16, kind) == (kind in ("real floating", "numeric"))
    assert xp.isdtype(xp.int8, (kind, xp.int8))


def test_namespace_info() -> None:
    info = xp.__array_namespace_info__()
    assert xp.__array_api_version__ == "2024.12"
    assert info.devices() == [info.default_device()] == ["cpu"]
    assert info.default_dtypes()["real floating"] == xp.float64
    assert set(info.dtypes(kind="real floating")) == {"float32", "float64"}
    assert not info.capabilities()["data-dependent shapes"]


def test_traced_arrays_know_their_namespace() -> None:
    def normalised(x: Any) -> Any:
        space = x.__array_namespace__()
        return space.exp(x) / space.sum(space.exp(x))

    x = VALUES["a"]
    np.testing.assert_allclose(gm.jit(normalised)(x), normalised(x), rtol=1e-14)


def test_symbolic_sizes() -> None:
    @gm.jit(dynamic={"x": ("n", None)})
    def f(x: Any) -> Any:
        out = xp.zeros((x.shape[0], 2))
        out[:, 0] = xp.sum(x, axis=1)
        out[:, 1] = xp.arange(x.shape[0])
        return xp.concat([out, xp.ones((1, 2))]), xp.full(x.shape, 2.0) * x, xp.eye(x.shape[0])

    for n in (0, 1, 5):
        x = np.arange(3.0 * n).reshape(n, 3)
        out, doubled, eye = f(x)
        wanted = np.stack([x.sum(1), np.arange(n)], 1)
        np.testing.assert_array_equal(out, np.concatenate([wanted, np.ones((1, 2))]))
        np.testing.assert_array_equal(doubled, 2 * x)
        np.testing.assert_array_equal(eye, np.eye(n))


MISTAKES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "take of several axes without axis": ("GM016", lambda x: xp.take(x, [0])),
    "complex to real": ("GM018", lambda x: xp.astype(x + 0j, xp.float32)),
    "device": ("GM025", lambda x: xp.zeros(3, device="cuda")),
    "finfo of integers": ("GM015", lambda x: xp.finfo(xp.int8)),
    "iinfo of floats": ("GM015", lambda x: xp.iinfo(x)),
    "unknown kind": ("GM025", lambda x: xp.isdtype(x.dtype, "floating")),
    "unsupported dtype": ("GM019", lambda x: xp.zeros(3, dtype="S3")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_raise_alike_inside_and_outside(name: str) -> None:
    code, function = MISTAKES[name]
    for call in (function, gm.jit(function)):
        with pytest.raises(gm.GraphmillError, match=code):
            call(VALUES["a"])
