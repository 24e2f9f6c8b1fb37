"""`gm.nn` compiled, and outside of a trace, against plain NumPy in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import graphmill as gm

pytestmark = pytest.mark.sampled(2)

nn = gm.nn
Array = NDArray[Any]
RNG = np.random.default_rng(5)

TOLERANCE = {"f8": 1e-13, "f4": 2e-6, "f2": 4e-3, "bf16": 3e-2}
SHAPES = ((), (1,), (7,), (3, 4), (2, 3, 33), (0, 5))


def array(shape: tuple[int, ...], dtype: str = "f8", scale: float = 2.0) -> Array:
    values = RNG.normal(size=shape) * scale
    return np.asarray(values).astype(ml_dtypes.bfloat16 if dtype == "bf16" else dtype)


def close(found: Any, wanted: Array, dtype: str = "f8", factor: float = 1.0) -> None:
    """Equal shapes, and values within the dtype's error relative to the largest."""
    assert found.shape == wanted.shape, f"{found.shape} is not {wanted.shape}"
    size = TOLERANCE[dtype] * factor
    scale = float(np.max(np.abs(wanted[np.isfinite(wanted)]), initial=1.0))
    np.testing.assert_allclose(found.astype("f8"), wanted, rtol=size, atol=size * scale)


erf = np.vectorize(math.erf, otypes=[float])


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softmax(x: Array, axis: Any = -1) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def log_softmax(x: Array, axis: Any = -1) -> Array:
    centred = x - x.max(axis, keepdims=True)
    return np.asarray(centred - np.log(np.exp(centred).sum(axis, keepdims=True)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2 if x.size else x,
    "sigmoid": logistic,
    "silu": lambda x: x * logistic(x),
    "swish": lambda x: x * logistic(x),
    "softplus": softplus,
    "mish": lambda x: x * np.tanh(softplus(x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "bf16"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, dtype: str) -> None:
    function = getattr(nn, name)
    inputs = [array(shape, dtype, 4.0) for shape in SHAPES]
    found = gm.jit(lambda xs: [function(x) for x in xs])(inputs)
    for x, y in zip(inputs, found, strict=True):
        wanted = np.asarray(ACTIVATIONS[name](x.astype("f8")))
        assert y.dtype == x.dtype
        close(y, wanted, dtype)
        close(np.asarray(function(x)), wanted, dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_extremes(name: str) -> None:
    x = np.array([-1e30, -200, -90, -1e-30, 0, 1e-30, 90, 200, 1e30], "f4")
    found = gm.jit(getattr(nn, name))(x)
    with np.errstate(over="ignore"):
        wanted = ACTIVATIONS[name](x.astype("f8"))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-36)
    assert np.isnan(gm.jit(getattr(nn, name))(np.array([np.nan], "f4"))).all()


def test_gelu_by_tanh() -> None:
    x = array((5, 9), "f4")
    wide = x.astype("f8")
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    found = gm.jit(lambda x: nn.gelu(x, approximate=True))(x)
    close(found, 0.5 * wide * (1 + np.tanh(inner)), "f4")


AXES: tuple[tuple[tuple[int, ...], Any], ...] = (
    ((4,), -1), ((3, 5), 0), ((3, 5), 1), ((2, 3, 5), (0, 2)), ((2, 3, 70), -1), ((3, 5), None),
    ((3, 1), 1), ((0, 5), 1),
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "bf16"])
def test_softmax_and_relatives(dtype: str) -> None:
    for shape, axis in AXES:
        x = array(shape, dtype, 5.0)
        wide = x.astype("f8")

        def run(x: Any, axis: Any = axis) -> Any:
            return (nn.softmax(x, axis), nn.log_softmax(x, axis), nn.logsumexp(x, axis),
                    nn.logsumexp(x, axis, keepdims=True))  # fmt: skip

        over = tuple(range(x.ndim)) if axis is None else axis
        parts = softmax(wide, over)
        total = np.log(np.exp(wide).sum(over, keepdims=True))
        wanted = (parts, wide - total, total.squeeze(over), total)
        for found in (gm.jit(run)(x), run(x)):
            for one, other in zip(found, wanted, strict=True):
                assert one.dtype == x.dtype
                close(one, other, dtype, 2)


def test_softmax_of_large_and_infinite() -> None:
    x = np.array([[1e4, 1e4 + 1, -1e30], [-np.inf, 0, 0], [1, 2, -np.inf]], "f4")
    found = gm.jit(lambda x: (nn.softmax(x), nn.log_softmax(x), nn.logsumexp(x, -1)))(x)
    wide = x.astype("f8")
    close(found[0], softmax(wide), "f4")
    np.testing.assert_allclose(found[1], log_softmax(wide), rtol=1e-6)
    np.testing.assert_allclose(found[2], [1e4 + 1.31326169, 0.69314718, 2.31326169], rtol=1e-6)
    edges = np.array([[-np.inf, -np.inf], [np.inf, 1]], "f4")
    assert gm.jit(lambda x: nn.logsumexp(x, 1))(edges).tolist() == [-np.inf, np.inf]


def standardised(x: Array, over: Any, eps: float) -> Array:
    return (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + eps)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "bf16"])
def test_layer_and_rms_norm(dtype: str) -> None:
    for shape, axis in (((3, 8), -1), ((2, 5, 6), (1, 2)), ((4, 70), 1), ((2, 6, 3), 1)):
        x = array(shape, dtype)
        over = tuple(np.atleast_1d(axis) % x.ndim)
        sizes = tuple(shape[i] for i in over)
        w, b = array(sizes, dtype), array(sizes, dtype)

        def run(x: Any, w: Any, b: Any, axis: Any = axis) -> Any:
            return (nn.layer_norm(x, w, b, axis), nn.rms_norm(x, w, axis),
                    nn.layer_norm(x, axis=axis, eps=0.1), nn.rms_norm(x, axis=axis))  # fmt: skip

        y = x.astype("f8")
        kept = [shape[i] if i in over else 1 for i in range(x.ndim)]
        scale, shift = (p.astype("f8").reshape(kept) for p in (w, b))
        root = np.sqrt((y * y).mean(over, keepdims=True) + 1e-6)
        wanted = (standardised(y, over, 1e-5) * scale + shift, y / root * scale,
                  standardised(y, over, 0.1), y / root)  # fmt: skip
        for found in (gm.jit(run)(x, w, b), run(x, w, b)):
            for one, other in zip(found, wanted, strict=True):
                assert one.dtype == x.dtype
                close(one, other, dtype, 4)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("spatial", [(), (5,), (3, 4)])
def test_group_norm(groups: int, spatial: tuple[int, ...]) -> None:
    x = array((2, 6, *spatial), "f4")
    w, b = array((6,), "f4"), array((6,), "f4")
    found = gm.jit(lambda x, w, b: nn.group_norm(x, groups, w, b))(x, w, b)
    y = x.astype("f8").reshape(2, groups, -1)
    kept = (6, *(1 for _ in spatial))
    wanted = standardised(y, 2, 1e-5).reshape(x.shape) * w.reshape(kept) + b.reshape(kept)
    close(found, wanted, "f4", 4)


@pytest.mark.parametrize("axis", [1, -1])
def test_batch_norm(axis: int) -> None:
    x = array((2, 5, 3, 5), "f4")
    mean, w, b = (array((5,), "f4") for _ in range(3))
    var = abs(array((5,), "f4"))
    found = gm.jit(lambda *p: nn.batch_norm(*p, axis=axis))(x, mean, var, w, b)
    kept = (5, 1, 1) if axis == 1 else (5,)
    parts = [p.astype("f8").reshape(kept) for p in (mean, var, w, b)]
    wanted = (x - parts[0]) / np.sqrt(parts[1] + 1e-5) * parts[2] + parts[3]
    close(found, wanted, "f4", 4)


def test_linear_embedding_one_hot() -> None:
    x, w, b = array((2, 5, 4)), array((4, 5)), array((5,))
    places = np.array([[0, 2], [3, 1]], "i4")

    def run(x: Any, w: Any, b: Any, places: Any) -> Any:
        return (nn.linear(x, w, b), nn.linear(x, w), nn.embedding(places, x[0].T),
                nn.one_hot(places, 4), nn.one_hot(places, 5, np.int64))  # fmt: skip

    wanted = (x @ w + b, x @ w, x[0].T[places], np.eye(4)[places], np.eye(5)[places])
    for found in (gm.jit(run)(x, w, b, places), run(x, w, b, places)):
        for one, other in zip(found, wanted, strict=True):
            close(one, other)
        assert (found[3].dtype, found[4].dtype) == (np.float32, np.int64)
    assert nn.one_hot(np.array([-1, 7]), 3).sum() == 0


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(axis: int, reduction: str) -> None:
    logits, target = array((4, 5, 3), "f4", 3.0), array((4, 5, 3), "f4")
    rest = (4, 5) if axis == -1 else (4, 3)
    labels = RNG.integers(0, logits.shape[axis], rest)
    spread = softmax(target.astype("f8"), axis).astype("f4")

    def run(logits: Any, labels: Any, spread: Any, target: Any) -> Any:
        options: dict[str, Any] = {"axis": axis, "reduction": reduction}
        return (nn.cross_entropy(logits, labels, **options),
                nn.cross_entropy(logits, spread, **options),
                nn.cross_entropy(logits, labels, label_smoothing=0.1, **options),
                nn.mse(logits, target, reduction))  # fmt: skip

    x = logits.astype("f8")
    logs = log_softmax(x, axis)
    chosen = -np.take_along_axis(logs, np.expand_dims(labels, axis), axis).squeeze(axis)
    each = (chosen, -(spread * logs).sum(axis), 0.9 * chosen - 0.1 * logs.mean(axis),
            (x - target) ** 2)  # fmt: skip
    combine: Any = {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction]
    for found in (gm.jit(run)(logits, labels, spread, target),
                  run(logits, labels, spread, target)):  # fmt: skip
        for one, other in zip(found, each, strict=True):
            assert one.dtype == np.float32
            close(one, np.asarray(combine(other)), "f4", 4)


def test_cross_entropy_of_large_logits_keeps_its_digits() -> None:
    logits = np.array([[1e4, 1e4 + 3, 1e4 - 2], [-3e4, 0, 3e4]], "f4")
    labels = np.array([1, 2])
    found = gm.jit(lambda x, y: nn.cross_entropy(x, y, reduction="none"))(logits, labels)
    logs = log_softmax(logits.astype("f8"))
    np.testing.assert_allclose(found, -logs[[0, 1], labels], rtol=1e-5, atol=1e-12)


def test_scopes_name_the_composites() -> None:
    x = array((4, 8), "f4")
    graph = gm.jit(lambda x: nn.softmax(nn.gelu(nn.layer_norm(x)))).trace(x)
    scopes = [op.scope for op in graph.function.block.ops]
    assert {s.split("/")[0] for s in scopes if s} == {"softmax", "gelu", "layer_norm"}


def test_one_compile_serves_all_sizes() -> None:
    @gm.jit(dynamic={"x": ("batch", "seq", None)})
    def run(x: Any, w: Any) -> Any:
        y = nn.linear(nn.layer_norm(x), w)
        return nn.softmax(nn.gelu(y)), nn.log_softmax(nn.silu(y), 1), nn.rms_norm(y)

    w = array((6, 5), "f4")
    for batch, seq in ((1, 1), (2, 7), (3, 16), (0, 4)):
        x = array((batch, seq, 6), "f4")
        found = run(x, w)
        y = standardised(x.astype("f8"), -1, 1e-5) @ w
        gelu = ACTIVATIONS["gelu"](y)
        close(found[0], softmax(gelu), "f4", 4)
        close(found[1], log_softmax(ACTIVATIONS["silu"](y), 1), "f4", 4)
        close(found[2], y / np.sqrt((y * y).mean(-1, keepdims=True) + 1e-6), "f4", 8)
    assert len(run.executables) == 1
