"""Largest elements and means of windows.

x is [batch, channels, *spatial] (`data_format` "NCW", "NCHW", "NCDHW") or [batch, *spatial,
channels] ("NWC", "NHWC", "NDHWC"); the result has the same layout and dtype. `stride` is the
window's size unless given; `padding` as for convolutions (`windows.window`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.frontend import reductions
from graphmill.frontend.core import Tracer, as_tracer, astype, dim_value, emit
from graphmill.frontend.nn import windows
from graphmill.frontend.nn.layer import Array, floating, layer, like, wide
from graphmill.frontend.nn.windows import Padding, Sizes, Window
from graphmill.frontend.shaping import iota
from graphmill.ir.dtypes import i64


@layer
def max_pool1d(
    x: Array, window: Sizes, stride: Sizes | None = None, padding: Padding = 0,
    dilation: Sizes = 1, data_format: str = "NCW",
) -> Array:  # fmt: skip
    """The largest element of each window; padding never wins; integers too."""
    return _max_pool(1, x, window, stride, padding, dilation, data_format)


@layer
def max_pool2d(
    x: Array, window: Sizes, stride: Sizes | None = None, padding: Padding = 0,
    dilation: Sizes = 1, data_format: str = "NCHW",
) -> Array:  # fmt: skip
    """The largest element of each window; padding never wins; integers too."""
    return _max_pool(2, x, window, stride, padding, dilation, data_format)


@layer
def max_pool3d(
    x: Array, window: Sizes, stride: Sizes | None = None, padding: Padding = 0,
    dilation: Sizes = 1, data_format: str = "NCDHW",
) -> Array:  # fmt: skip
    """The largest element of each window; padding never wins; integers too."""
    return _max_pool(3, x, window, stride, padding, dilation, data_format)


def _max_pool(
    rank: int, x: Array, window: Sizes, stride: Sizes | None, padding: Padding, dilation: Sizes,
    data_format: str,
) -> Tracer:  # fmt: skip
    a = windows.channels_first(as_tracer(x), rank, data_format)
    sizes = windows.each(window, rank, "window")
    made = windows.window(a, sizes, sizes if stride is None else stride, padding, dilation)
    return windows.as_given(_slid(a, made, "max"), rank, data_format)


def _slid(x: Tracer, made: Window, monoid: str) -> Tracer:
    one, zero = (1, 1), (0, 0)
    return emit(
        "window_reduce", x, window=(*one, *made.sizes), strides=(*one, *made.strides),
        low=(*zero, *made.low), high=(*zero, *made.high), dilation=(*one, *made.dilation),
        monoid=monoid,
    )  # fmt: skip


@layer
def avg_pool1d(
    x: Array, window: Sizes, stride: Sizes | None = None, padding: Padding = 0,
    count_include_pad: bool = True, data_format: str = "NCW",
) -> Array:  # fmt: skip
    """The mean of each window, over the padding too if `count_include_pad`; floats."""
    return _avg_pool(1, x, window, stride, padding, count_include_pad, data_format)


@layer
def avg_pool2d(
    x: Array, window: Sizes, stride: Sizes | None = None, padding: Padding = 0,
    count_include_pad: bool = True, data_format: str = "NCHW",
) -> Array:  # fmt: skip
    """The mean of each window, over the padding too if `count_include_pad`; floats."""
    return _avg_pool(2, x, window, stride, padding, count_include_pad, data_format)


@layer
def avg_pool3d(
    x: Array, window: Sizes, stride: Sizes | None = None, padding: Padding = 0,
    count_include_pad: bool = True, data_format: str = "NCDHW",
) -> Array:  # fmt: skip
    """The mean of each window, over the padding too if `count_include_pad`; floats."""
    return _avg_pool(3, x, window, stride, padding, count_include_pad, data_format)


def _avg_pool(
    rank: int, x: Array, window: Sizes, stride: Sizes | None, padding: Padding, all_count: bool,
    data_format: str,
) -> Tracer:  # fmt: skip
    x = floating("avg_pool", x)
    a = windows.channels_first(wide(x), rank, data_format)
    sizes = windows.each(window, rank, "window")
    made = windows.window(a, sizes, sizes if stride is None else stride, padding, 1)
    total: Any = _slid(a, made, "sum")
    if all_count or not any((*made.low, *made.high)):
        area = 1
        for size in sizes:
            area *= size
        result = total * (1.0 / area) if area & (area - 1) == 0 else total / float(area)
    else:
        result = total / astype(as_tracer(_counts(a, made)), total.element)
    return windows.as_given(like(result, x), rank, data_format)


def _counts(x: Tracer, made: Window) -> Any:
    """How many elements of x each window holds: i64 of the result's spatial shape."""
    found: Any = 1
    rank = len(made.sizes)
    spatial = windows.places(x, made)
    for axis, size in enumerate(made.sizes):
        places, room = spatial[axis], x.dims[axis + 2]
        ramp: Any = np.arange(places) if isinstance(places, int) else iota(places)
        end: Any = room if isinstance(room, int) else dim_value(room, i64)
        start = ramp * made.strides[axis] - made.low[axis]
        count = np.maximum(np.minimum(start + size, end) - np.maximum(start, 0), 1)
        found = found * count[(slice(None), *(None for _ in range(rank - 1 - axis)))]
    return found


@layer
def global_avg_pool(x: Array, data_format: str = "NCHW", keepdims: bool = False) -> Array:
    """The mean over all spatial axes: [batch, channels], or with axes of size 1 if `keepdims`."""
    x = floating("global_avg_pool", x)
    return reductions.mean(x, _spatial(x, data_format), keepdims=keepdims)


@layer
def global_max_pool(x: Array, data_format: str = "NCHW", keepdims: bool = False) -> Array:
    """The largest over all spatial axes: [batch, channels], or with axes of size 1."""
    a = as_tracer(x)
    return reductions.max(a, _spatial(a, data_format), keepdims)


def _spatial(x: Tracer, data_format: str) -> Sequence[int]:
    rank = len(data_format) - 2 if len(data_format) - 2 in windows.FORMATS else 2
    windows.channels_first(x, rank, data_format)
    first = data_format == windows.FORMATS[rank][0]
    return tuple(range(2, x.ndim)) if first else tuple(range(1, x.ndim - 1))
