"""Windows over spatial axes: their strides, dilation and padding, and where the channels are."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from graphmill.frontend.describe import failure
from graphmill.frontend.shaping import transposed
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dims import DimLike, floordiv
from graphmill.records import record

Padding = str | int | Sequence[Any]
Sizes = int | Sequence[int]

FORMATS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


@record
class Window:
    """A sliding window: one entry per spatial axis; `low` and `high` are the padding."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def spans(self) -> tuple[int, ...]:
        """The extent of the window, gaps of the dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.sizes, self.dilation, strict=True))


def each(value: Any, rank: int, what: str, least: int = 1) -> tuple[int, ...]:
    """One integer per spatial axis from one for all or several."""
    listed = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    try:
        found = tuple(operator.index(v) for v in listed)
    except TypeError:
        found = ()
    if len(found) != rank or any(v < least for v in found):
        raise failure(
            "GM025", f"{what}={value!r}",
            hint=f"pass an integer of {least} or more, or {rank} of them.",
        )  # fmt: skip
    return found


def window(
    x: Tracer, sizes: Sequence[int], strides: Any, padding: Padding, dilation: Any
) -> Window:
    """The window over the spatial axes of x [batch, channels, *spatial].

    `padding` is "valid" (none), "same" (the result has ceil(size / stride) places, an odd element
    of padding at the end), an integer for all sides, or per axis an integer or a (low, high) pair.
    """
    rank = len(sizes)
    by, spread = each(strides, rank, "stride"), each(dilation, rank, "dilation")
    spans = [(k - 1) * d + 1 for k, d in zip(sizes, spread, strict=True)]
    if isinstance(padding, str):
        pairs = _named(x, padding, spans, by)
    else:
        listed = padding if isinstance(padding, tuple | list) else (padding,) * rank
        if len(listed) != rank:
            raise _bad_padding(padding, rank)
        pairs = [_pair(p, padding, rank) for p in listed]
    made = Window(tuple(sizes), by, spread, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))
    _check_fit(x, made)
    return made


def _named(x: Tracer, padding: str, spans: Sequence[int], by: Sequence[int]) -> list[Any]:
    if padding.lower() == "valid":
        return [(0, 0)] * len(spans)
    if padding.lower() != "same":
        raise _bad_padding(padding, len(spans))
    pairs = []
    for dim, span, step in zip(x.dims[2:], spans, by, strict=True):
        if step == 1:
            total = span - 1
        elif isinstance(dim, int):
            total = max((-(-dim // step) - 1) * step + span - dim, 0)
        else:
            raise failure(
                "GM005", f'padding="same" with stride {step} along the dim {dim}', [x],
                why="the padding would differ with the size.", hint="pass the padding as integers.",
            )  # fmt: skip
        pairs.append((total // 2, total - total // 2))
    return pairs


def _pair(entry: Any, padding: Any, rank: int) -> tuple[int, int]:
    listed = tuple(entry) if isinstance(entry, tuple | list) else (entry, entry)
    if len(listed) != 2 or not all(isinstance(p, int) and p >= 0 for p in listed):
        raise _bad_padding(padding, rank)
    return listed[0], listed[1]


def _bad_padding(padding: Any, rank: int) -> Exception:
    return failure(
        "GM025", f"padding={padding!r}",
        hint=f'use "valid", "same", an integer, or for each of the {rank} axes an integer or a '
        "(low, high) pair.",
    )  # fmt: skip


def _check_fit(x: Tracer, made: Window) -> None:
    for axis, (dim, span) in enumerate(zip(x.dims[2:], made.spans, strict=True)):
        room = dim + made.low[axis] + made.high[axis]
        if isinstance(room, int) and room < span:
            raise failure(
                "GM017", f"a window of {span} in {room} elements", [x],
                why=f"spatial axis {axis} has {dim} elements, {room} with the padding.",
                hint='pad (padding="same"), or use a smaller window or dilation.',
            )  # fmt: skip


def places(x: Tracer, made: Window) -> tuple[DimLike, ...]:
    """How many places the window takes along each spatial axis."""
    return tuple(
        floordiv(dim + low + high - span, step) + 1
        for dim, low, high, span, step in zip(
            x.dims[2:], made.low, made.high, made.spans, made.strides, strict=True
        )
    )


def channels_first(x: Tracer, rank: int, data_format: str) -> Tracer:
    """x [batch, channels, *spatial] from the layout that `data_format` names."""
    first, last = FORMATS[rank]
    if data_format not in (first, last):
        raise failure("GM025", f"data_format={data_format!r}", hint=f'use "{first}" or "{last}".')
    if x.ndim != rank + 2:
        raise failure(
            "GM014", f"x of {x.ndim} axes where {data_format} has {rank + 2}", [x],
            hint="give a single sample a batch axis: x[None].",
        )  # fmt: skip
    if data_format == first:
        return x
    return transposed(x, (0, rank + 1, *range(1, rank + 1)))


def as_given(x: Tracer, rank: int, data_format: str) -> Tracer:
    """The inverse of `channels_first`."""
    if data_format == FORMATS[rank][0]:
        return x
    return transposed(x, (0, *range(2, rank + 2), 1))
