"""Convolutions and pools of `gm.nn` against plain loops in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import graphmill as gm

pytestmark = pytest.mark.sampled(2)

nn = gm.nn
FORMS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
Array = NDArray[Any]
RNG = np.random.default_rng(9)


def array(*shape: int, dtype: str = "f4") -> Array:
    return RNG.normal(size=shape).astype(dtype)


def pairs(padding: Any, sizes: Any, spans: Any, strides: Any) -> list[tuple[int, int]]:
    """The padding of each spatial axis, from its definition."""
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    if padding == "same":
        totals = [max((-(-n // s) - 1) * s + k - n, 0)
                  for n, k, s in zip(sizes, spans, strides, strict=True)]  # fmt: skip
        return [(t // 2, t - t // 2) for t in totals]
    listed = padding if isinstance(padding, tuple) else (padding,) * len(sizes)
    return [p if isinstance(p, tuple) else (p, p) for p in listed]


def slid(
    x: Array, window: Any, strides: Any, padding: Any, dilation: Any, fill: float
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Each place of the window over x [batch, channels, *spatial], and the elements under it."""
    spans = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    sides = pairs(padding, x.shape[2:], spans, strides)
    padded = np.pad(x.astype("f8"), [(0, 0), (0, 0), *sides], constant_values=fill)
    counts = [(n - k) // s + 1
              for n, k, s in zip(padded.shape[2:], spans, strides, strict=True)]  # fmt: skip
    for place in product(*map(range, counts)):
        starts = [p * s for p, s in zip(place, strides, strict=True)]
        key = [slice(a, a + n, d) for a, n, d in zip(starts, spans, dilation, strict=True)]
        yield place, padded[(slice(None), slice(None), *key)]


def gathered(places: Iterator[tuple[tuple[int, ...], Array]]) -> Array:
    """Results [batch, channels] at places, as one array."""
    found = dict(places)
    counts = [max(p[i] for p in found) + 1 for i in range(len(next(iter(found))))]
    first = next(iter(found.values()))
    out = np.empty((*first.shape, *counts))
    for place, value in found.items():
        out[(slice(None), slice(None), *place)] = value
    return out


def convolved(x: Array, w: Array, strides: Any, padding: Any, dilation: Any, groups: int) -> Array:
    k = w.astype("f8").reshape(groups, w.shape[0] // groups, *w.shape[1:])

    axes = list(range(1, w.ndim))

    def at(part: Array) -> Array:
        split = part.reshape(part.shape[0], groups, w.shape[1], *part.shape[2:])
        each = [np.tensordot(split[:, g], k[g], (axes, axes)) for g in range(groups)]
        return np.concatenate(each, 1)

    return gathered((p, at(part)) for p, part in slid(x, w.shape[2:], strides, padding,
                                                      dilation, 0.0))  # fmt: skip


# x, weight, stride, padding, dilation, groups
CONVOLUTIONS: list[tuple[Any, ...]] = [
    ((2, 3, 8, 7), (4, 3, 3, 3), (1, 1), 0, (1, 1), 1),
    ((1, 3, 9, 9), (5, 3, 3, 3), (2, 2), "same", (1, 1), 1),
    ((1, 3, 8, 11), (2, 3, 3, 4), (2, 3), "same", (1, 1), 1),
    ((2, 4, 9, 8), (6, 2, 3, 3), (1, 2), 1, (1, 1), 2),
    ((1, 8, 10, 10), (8, 1, 3, 3), (1, 1), "same", (2, 2), 8),
    ((1, 4, 7, 7), (8, 1, 5, 5), (2, 2), 2, (1, 1), 4),
    ((3, 16, 6, 5), (8, 16, 1, 1), (1, 1), "valid", (1, 1), 1),
    ((1, 2, 12, 9), (3, 2, 3, 2), (1, 1), ((2, 1), (0, 3)), (3, 2), 1),
    ((1, 1, 3, 3), (1, 1, 3, 3), (1, 1), "valid", (1, 1), 1),
    ((2, 3, 20), (5, 3, 4), (2,), "same", (1,), 1),
    ((1, 6, 15), (6, 2, 3), (1,), (2,), (2,), 3),
    ((2, 4, 9), (4, 1, 5), (1,), "same", (1,), 4),
    ((1, 3, 5, 6, 7), (4, 3, 3, 2, 3), (1, 1, 1), 1, (1, 1, 1), 1),
    ((2, 4, 5, 4, 6), (6, 2, 3, 3, 3), (2, 1, 2), "same", (1, 1, 1), 2),
    ((1, 5, 4, 5, 6), (5, 1, 3, 3, 3), (1, 1, 1), ((1, 1), (0, 2), (2, 1)), (1, 1, 2), 5),
    ((1, 17, 4, 3, 5), (20, 17, 2, 1, 3), (1, 2, 1), ((1, 0), (0, 0), (1, 1)), (2, 1, 1), 1),
]


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(case: tuple[Any, ...], layout: str) -> None:
    shape, window, strides, padding, dilation, groups = case
    x, w, b = array(*shape), array(*window), array(window[0])
    rank = len(shape) - 2
    function, form = getattr(nn, f"conv{rank}d"), FORMS[rank]
    wanted = convolved(x, w, strides, padding, dilation, groups) + b.reshape(-1, *(1,) * rank)
    given = x
    if layout == "last":
        form = form[0] + form[2:] + "C"
        given, wanted = np.moveaxis(x, 1, -1), np.moveaxis(wanted, 1, -1)

    def run(x: Any, w: Any, b: Any) -> Any:
        return function(x, w, b, stride=strides, padding=padding, dilation=dilation,
                        groups=groups, data_format=form)  # fmt: skip

    for found in (gm.jit(run)(given, w, b), run(given, w, b)):
        assert found.dtype == np.float32 and found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4"])
def test_convolution_dtypes(dtype: str) -> None:
    x, w = (array(*shape, dtype="f8") * 3 for shape in ((1, 2, 6, 5), (3, 2, 3, 3)))
    x, w = x.astype(dtype), w.astype(dtype)
    found = gm.jit(lambda x, w: nn.conv2d(x, w, padding=1))(x, w)
    wanted = convolved(x, w, (1, 1), 1, (1, 1), 1)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found.astype("f8"), wanted, rtol=2e-3, atol=0.05)


# x, weight, stride, padding, output_padding, dilation, groups
TRANSPOSED: list[tuple[Any, ...]] = [
    ((1, 3, 4, 5), (3, 2, 3, 3), (1, 1), (0, 0), (0, 0), (1, 1), 1),
    ((2, 3, 4, 3), (3, 4, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1),
    ((1, 4, 3, 3), (4, 2, 4, 2), (2, 3), (1, 0), (0, 1), (1, 1), 2),
    ((1, 2, 3, 4), (2, 1, 3, 3), (2, 1), (2, 1), (0, 0), (2, 1), 2),
    ((2, 16, 5, 4), (16, 17, 4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 1),
    ((1, 5, 6, 3), (5, 8, 2, 2), (2, 3), (0, 0), (1, 0), (1, 1), 1),
    ((1, 8, 3, 4), (8, 1, 3, 5), (2, 4), (0, 1), (1, 2), (1, 1), 8),
    ((1, 3, 4, 4), (3, 9, 3, 3), (3, 2), (1, 2), (0, 1), (1, 3), 1),
    ((2, 6, 7), (6, 4, 4), (3,), (2,), (1,), (1,), 2),
    ((1, 4, 3, 2, 4), (4, 3, 3, 2, 4), (2, 1, 2), (1, 0, 1), (1, 0, 0), (1, 1, 1), 1),
]


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_transposed_convolution(case: tuple[Any, ...]) -> None:
    """Each input element adds the weight, times itself, at its place."""
    shape, window, stride, padding, more, dilation, groups = case
    rank = len(shape) - 2
    x, w, b = array(*shape), array(*window), array(window[1] * groups)
    sizes = [
        (n - 1) * s + d * (k - 1) + 1 + m
        for n, s, d, k, m in zip(shape[2:], stride, dilation, window[2:], more, strict=True)
    ]
    full = np.zeros((shape[0], window[1] * groups, *sizes))
    inside, outside = shape[1] // groups, window[1]
    for n, c, *place in np.ndindex(shape):
        g = c // inside
        axes = zip(place, stride, dilation, window[2:], strict=True)
        key = [slice(p * s, p * s + (k - 1) * d + 1, d) for p, s, d, k in axes]
        full[(n, slice(g * outside, (g + 1) * outside), *key)] += x[n, c, *place] * w[c]
    inner = [slice(p, size - p) for p, size in zip(padding, sizes, strict=True)]
    wanted = full[(slice(None), slice(None), *inner)] + b.reshape(-1, *(1,) * rank)
    function = getattr(nn, f"conv_transpose{rank}d")

    def run(x: Any, w: Any, b: Any) -> Any:
        return function(x, w, b, stride=stride, padding=padding, output_padding=more,
                        dilation=dilation, groups=groups)  # fmt: skip

    for found in (gm.jit(run)(x, w, b), gm.jit(lambda x: run(x, w, b))(x)):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


# x, window, stride, padding, dilation
POOLS: list[tuple[Any, ...]] = [
    ((2, 3, 8, 6), (2, 2), None, 0, (1, 1)),
    ((1, 2, 9, 9), (3, 3), (2, 2), 1, (1, 1)),
    ((1, 2, 9, 8), (3, 3), (2, 2), "same", (1, 1)),
    ((1, 3, 7, 5), (3, 2), (1, 2), "same", (1, 1)),
    ((1, 2, 8, 9), (2, 3), (3, 1), ((1, 0), (0, 2)), (1, 1)),
    ((1, 2, 9, 9), (3, 3), (1, 1), 1, (2, 2)),
    ((2, 3, 11), (3,), None, 0, (1,)),
    ((1, 1, 9), (4,), (2,), "same", (1,)),
    ((1, 2, 5, 6, 7), (2, 3, 2), (1, 2, 3), ((1, 0), (0, 1), (1, 1)), (2, 1, 1)),
]


def averaged(x: Array, window: Any, strides: Any, padding: Any, all_count: bool) -> Array:
    ones = (1,) * len(window)
    sums = gathered(
        (p, part.reshape(*part.shape[:2], -1).sum(-1))
        for p, part in slid(x, window, strides, padding, ones, 0.0)
    )
    counts = gathered(
        (p, part.reshape(*part.shape[:2], -1).sum(-1))
        for p, part in slid(np.ones_like(x), window, strides, padding, ones, float(all_count))
    )
    return sums / counts


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pools(case: tuple[Any, ...], layout: str) -> None:
    shape, window, stride, padding, dilation = case
    x = array(*shape)
    rank = len(window)
    strides = stride or window
    largest, mean = getattr(nn, f"max_pool{rank}d"), getattr(nn, f"avg_pool{rank}d")
    wanted = [
        gathered((p, part.reshape(*part.shape[:2], -1).max(-1))
                 for p, part in slid(x, window, strides, padding, dilation, -np.inf)),
        averaged(x, window, strides, padding, True),
        averaged(x, window, strides, padding, False),
    ]  # fmt: skip
    form = FORMS[rank]
    if layout == "last":
        form, x = form[0] + form[2:] + "C", np.moveaxis(x, 1, -1)
        wanted = [np.moveaxis(y, 1, -1) for y in wanted]

    def run(x: Any) -> Any:
        return [
            largest(x, window, stride, padding, dilation, data_format=form),
            mean(x, window, stride, padding, data_format=form),
            mean(x, window, stride, padding, count_include_pad=False, data_format=form),
        ]

    for found in (gm.jit(run)(x), run(x)):
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == np.float32 and one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)


def test_global_pools() -> None:
    x = array(2, 3, 5, 4)

    def run(x: Any) -> Any:
        return (nn.global_avg_pool(x), nn.global_max_pool(x, keepdims=True),
                nn.global_avg_pool(np.moveaxis(x, 1, -1), "NHWC"),
                nn.global_max_pool(x[..., 0], "NCW"))  # fmt: skip

    found = gm.jit(run)(x)
    wide = x.astype("f8")
    wanted = (wide.mean((2, 3)), wide.max((2, 3), keepdims=True), wide.mean((2, 3)),
              wide[..., 0].max(2))  # fmt: skip
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)


def test_one_compile_serves_all_sizes() -> None:
    w = array(4, 3, 3, 3)

    @gm.jit(dynamic={"x": ("batch", None, "rows", "columns")})
    def run(x: Any) -> Any:
        y = nn.relu(nn.conv2d(x, w, padding="same"))
        return nn.max_pool2d(y, 2), nn.avg_pool2d(y, 3, 1, 1, count_include_pad=False)

    for batch, rows, columns in ((1, 4, 4), (2, 7, 5), (3, 6, 9)):
        x = array(batch, 3, rows, columns)
        y = np.maximum(convolved(x, w, (1, 1), "same", (1, 1), 1), 0)
        largest = gathered((p, part.max((2, 3)))
                           for p, part in slid(y, (2, 2), (2, 2), 0, (1, 1), -np.inf))  # fmt: skip
        found = run(x)
        np.testing.assert_allclose(found[0], largest, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(
            found[1], averaged(y, (3, 3), (1, 1), 1, False), rtol=1e-4, atol=2e-5
        )
    assert len(run.executables) == 1


X, W = array(1, 4, 5, 5), array(6, 4, 3, 3)
MISTAKES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "channels": ("GM014", lambda x: nn.conv2d(x, W[:, :3])),
    "groups": ("GM014", lambda x: nn.conv2d(x, W[:5, :2], groups=2)),
    "rank of x": ("GM014", lambda x: nn.conv2d(x[0], W)),
    "rank of weight": ("GM014", lambda x: nn.conv2d(x, W[0])),
    "bias": ("GM014", lambda x: nn.conv2d(x, W, np.ones(4, "f4"))),
    "window too large": ("GM017", lambda x: nn.conv2d(x, W, dilation=3)),
    "padding": ("GM025", lambda x: nn.conv2d(x, W, padding="full")),
    "negative padding": ("GM025", lambda x: nn.max_pool2d(x, 2, padding=-1)),
    "stride": ("GM025", lambda x: nn.conv2d(x, W, stride=0)),
    "layout": ("GM025", lambda x: nn.max_pool2d(x, 2, data_format="CHWN")),
    "padding beyond the window": ("GM025", lambda x: nn.conv_transpose2d(x, W[:4], padding=4)),
    "group norm": ("GM017", lambda x: nn.group_norm(x, 3)),
    "softmax of integers": ("GM015", lambda x: nn.softmax(np.sign(x).astype(int))),
    "norm weight": ("GM014", lambda x: nn.layer_norm(x, np.ones(4, "f4"))),
    "reduction": ("GM025", lambda x: nn.mse(x, x, "max")),
    "labels": ("GM014", lambda x: nn.cross_entropy(x, np.zeros(3, int))),
    "heads": ("GM014", lambda x: nn.attention(x, x[:, :3], x[:, :3])),
    "mask": ("GM014", lambda x: nn.attention(x, x, x, np.ones((4, 5), bool))),
    "odd head": ("GM014", lambda x: nn.rotary_embedding(x)),
    "one_hot of floats": ("GM020", lambda x: nn.one_hot(x, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    code, function = MISTAKES[name]
    for call in (function, gm.jit(function)):
        with pytest.raises(gm.GraphmillError, match=code) as caught:
            call(X)
        assert caught.value.hint
