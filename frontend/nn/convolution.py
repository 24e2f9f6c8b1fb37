"""Convolutions (cross-correlations, as everywhere in deep learning) and their transpose.

x is [batch, channels, *spatial] (`data_format` "NCW", "NCHW", "NCDHW") or [batch, *spatial,
channels] ("NWC", "NHWC", "NDHWC"); the result has the same layout. Floats, integers or complex
numbers; 16-bit floats are summed in f32. `padding` is "valid", "same", or integers
(`windows.window`).
"""

from __future__ import annotations

from typing import Any

from graphmill.frontend import joining
from graphmill.frontend.core import Tracer, as_tracer, astype, emit, promote_args
from graphmill.frontend.describe import failure
from graphmill.frontend.nn import windows
from graphmill.frontend.nn.layer import Array, known, layer
from graphmill.frontend.nn.windows import Padding, Sizes
from graphmill.frontend.shaping import reshaped, transposed
from graphmill.ir.dims import DimLike, floordiv


@layer
def conv1d(
    x: Array, weight: Array, bias: Array = None, *, stride: Sizes = 1, padding: Padding = 0,
    dilation: Sizes = 1, groups: int = 1, data_format: str = "NCW",
) -> Array:  # fmt: skip
    """x with weight [out, in / groups, width] slid over it, plus bias [out]."""
    return _conv(1, x, weight, bias, stride, padding, dilation, groups, data_format)


@layer
def conv2d(
    x: Array, weight: Array, bias: Array = None, *, stride: Sizes = 1, padding: Padding = 0,
    dilation: Sizes = 1, groups: int = 1, data_format: str = "NCHW",
) -> Array:  # fmt: skip
    """x with weight [out, in / groups, height, width] slid over it, plus bias [out].

    With groups, each group of input channels makes its group of output channels; groups = in is a
    depthwise convolution.
    """
    return _conv(2, x, weight, bias, stride, padding, dilation, groups, data_format)


@layer
def conv3d(
    x: Array, weight: Array, bias: Array = None, *, stride: Sizes = 1, padding: Padding = 0,
    dilation: Sizes = 1, groups: int = 1, data_format: str = "NCDHW",
) -> Array:  # fmt: skip
    """x with weight [out, in / groups, depth, height, width] slid over it, plus bias [out]."""
    return _conv(3, x, weight, bias, stride, padding, dilation, groups, data_format)


def _conv(
    rank: int, x: Array, weight: Array, bias: Array, stride: Sizes, padding: Padding,
    dilation: Sizes, groups: int, data_format: str,
) -> Tracer:  # fmt: skip
    a, w = promote_args(x, weight)
    a = windows.channels_first(a, rank, data_format)
    sizes = _window_of(w, rank)
    if a.dims[1] != w.dims[1] * groups or w.dims[0] % groups:
        raise _channels(a, w, a.dims[1], w.dims[1] * groups, w.dims[0], groups)
    made = windows.window(a, sizes, stride, padding, dilation)
    result = emit(
        "conv", a, w, strides=made.strides, low=made.low, high=made.high, dilation=made.dilation,
        input_dilation=(1,) * rank, groups=groups,
    )  # fmt: skip
    return windows.as_given(_shifted(result, bias), rank, data_format)


def _window_of(w: Tracer, rank: int) -> list[int]:
    if w.ndim != rank + 2:
        raise failure(
            "GM014", f"weight of {w.ndim} axes", [w],
            why=f"it has {rank + 2}: two of channels, then the window.",
            hint="check the weight's shape.",
        )  # fmt: skip
    return [known(d, "the window's size", w) for d in w.dims[2:]]


def _channels(x: Tracer, w: Tracer, have: Any, take: Any, out: Any, groups: int) -> Exception:
    return failure(
        "GM014", f"{have} channels for a weight that takes {take} in {groups} groups", [x, w],
        why=f"each group takes the same number of input channels, and {groups} divides the "
        f"{out} output channels.",
        hint="check the weight's shape, groups= and data_format=.",
    )  # fmt: skip


def _shifted(y: Tracer, bias: Array) -> Any:
    """y plus one number per channel."""
    if bias is None:
        return y
    b = astype(as_tracer(bias), y.element)
    if b.dims != (y.dims[1],):
        raise failure("GM014", f"bias for {y.dims[1]} channels", [bias],
                      hint="there is one element per output channel.")  # fmt: skip
    return y + reshaped(b, (b.dims[0], *(1,) * (y.ndim - 2)))


@layer
def conv_transpose1d(
    x: Array, weight: Array, bias: Array = None, *, stride: Sizes = 1, padding: Any = 0,
    output_padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1, data_format: str = "NCW",
) -> Array:  # fmt: skip
    """conv1d's gradient in its input, as a layer: weight [in, out / groups, width], bias [out]."""
    given = (stride, padding, output_padding, dilation)
    return _conv_transpose(1, x, weight, bias, given, groups, data_format)


@layer
def conv_transpose2d(
    x: Array, weight: Array, bias: Array = None, *, stride: Sizes = 1, padding: Any = 0,
    output_padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1, data_format: str = "NCHW",
) -> Array:  # fmt: skip
    """conv2d's gradient in its input, as a layer: weight [in, out / groups, h, w], bias [out].

    A spatial size n becomes (n - 1) * stride - 2 * padding + dilation * (window - 1) + 1 +
    output_padding. `padding` is an integer or one per axis (Dumoulin and Visin 2016).
    """
    given = (stride, padding, output_padding, dilation)
    return _conv_transpose(2, x, weight, bias, given, groups, data_format)


@layer
def conv_transpose3d(
    x: Array, weight: Array, bias: Array = None, *, stride: Sizes = 1, padding: Any = 0,
    output_padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1, data_format: str = "NCDHW",
) -> Array:  # fmt: skip
    """conv3d's gradient in its input as a layer: weight [in, out / groups, *window], bias [out]."""
    given = (stride, padding, output_padding, dilation)
    return _conv_transpose(3, x, weight, bias, given, groups, data_format)


def _conv_transpose(
    rank: int, x: Array, weight: Array, bias: Array, given: tuple[Sizes, Any, Sizes, Sizes],
    groups: int, data_format: str,
) -> Tracer:  # fmt: skip
    a, w = promote_args(x, weight)
    a = windows.channels_first(a, rank, data_format)
    sizes = _window_of(w, rank)
    if a.dims[1] != w.dims[0] or (isinstance(w.dims[0], int) and w.dims[0] % groups):
        raise _channels(a, w, a.dims[1], w.dims[0], w.dims[1] * groups, groups)
    stride, padding, output_padding, dilation = given
    by, spread = windows.each(stride, rank, "stride"), windows.each(dilation, rank, "dilation")
    cut = windows.each(padding, rank, "padding", 0)
    more = windows.each(output_padding, rank, "output_padding", 0)
    full = [(k - 1) * d for k, d in zip(sizes, spread, strict=True)]
    low = [f - p for f, p in zip(full, cut, strict=True)]
    high = [f - p + m for f, p, m in zip(full, cut, more, strict=True)]
    if min(*low, *high) < 0:
        raise failure(
            "GM025", f"padding={padding!r} for a window of {sizes}",
            hint="padding is at most dilation * (window - 1); slice the result to cut more.",
        )  # fmt: skip
    result = emit(
        "conv", a, _turned(w, groups), strides=(1,) * rank, low=tuple(low), high=tuple(high),
        dilation=spread, input_dilation=by, groups=groups,
    )  # fmt: skip
    return windows.as_given(_shifted(result, bias), rank, data_format)


def _turned(w: Tracer, groups: int) -> Tracer:
    """[in, out / groups, *window] as the weight [out, in / groups, *window] of the adjoint."""
    axes = range(2, w.ndim)
    w = joining.flip(w, tuple(axes))
    taken, given = w.dims[:2]
    shape: list[DimLike] = [groups, floordiv(taken, groups), given, *w.dims[2:]]
    split = transposed(reshaped(w, shape), (0, 2, 1, *(axis + 1 for axis in axes)))
    return reshaped(split, (groups * given, shape[1], *w.dims[2:]))
