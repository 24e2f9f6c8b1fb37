"""Transposed convolutions as plain ones, one for each phase of the result.

Of the result's places along an axis, those `s` apart read the same taps of the window, where `s`
is the dilation of the input; the zeros between its elements are met by no tap. So there are `s`
phases an axis, each a convolution of x with every `s`-th tap (Shi et al., "Is the deconvolution
layer the same as a convolutional layer?", 2016). Neighbouring phases of one form are the filters
of one convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, product
from math import prod

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike, floordiv
from graphmill.ir.graph import Op, Value
from graphmill.records import record


@record
class _Run:
    """Neighbouring phases along one axis that are of one form.

    `count` of them; `taps` of the window each, `step` apart, that of the last phase from `first`
    on; `low` and `high` are the padding of x, negative where it is cropped.
    """

    count: int
    taps: int
    step: int
    first: int
    low: int
    high: int

    def stop(self, window: int) -> int:
        """Behind the last tap; with several phases, behind the last whole step in the window."""
        if self.count == 1:
            return self.first + self.step * (self.taps - 1) + 1
        return min(window, self.first + self.step * self.taps)


def has_phases(op: Op) -> bool:
    """Whether a convolution is transposed, and this pass knows its phases."""
    if all(by == 1 for by in op.attrs["input_dilation"]):
        return False
    runs = [_runs(op, axis) for axis in range(len(op.attrs["input_dilation"]))]
    static = op.operands[0].tensor.is_static and op.operands[1].tensor.is_static
    return all(
        found is not None and all(static or min(run.low, run.high) >= 0 for run in found)
        for found in runs
    )


def by_phases(op: Op, b: Builder) -> Value:
    """The convolution's result, put together from its phases."""
    steps = op.attrs["input_dilation"]
    rank = len(steps)
    runs = [_runs(op, axis) or [] for axis in range(rank)]
    found = {at: _phases(op, at, b) for at in product(*runs)}

    def joined(at: tuple[_Run, ...]) -> Value:
        axis = len(at)
        if axis == rank:
            return found[at]
        parts = [joined((*at, run)) for run in runs[axis]]
        return parts[0] if len(parts) == 1 else b.op("concat", *parts, axis=2 + axis)

    whole = joined(())  # [n, groups, *phases, filters of a group, *places]
    n, out, *sizes = op.result.shape
    pairs = [axis for i in range(rank) for axis in (3 + rank + i, 2 + i)]
    mixed = b.transpose(whole, (0, 1, 2 + rank, *pairs))
    places = [m * by for m, by in zip(whole.shape[3 + rank :], steps, strict=True)]
    result = b.reshape(mixed, (n, out, *places))
    if places == sizes:
        return result
    zeros, ones = (0,) * (2 + rank), (1,) * (2 + rank)
    return b.op("slice", result, start=zeros, stop=(n, out, *sizes), step=ones)


def _runs(op: Op, axis: int) -> list[_Run] | None:
    """The phases along an axis; None where the taps of a phase are not evenly spread."""
    attrs, window = op.attrs, op.operands[1].shape[2 + axis]
    n, size = op.operands[0].shape[2 + axis], op.result.shape[2 + axis]
    by, spread, low = attrs["input_dilation"][axis], attrs["dilation"][axis], attrs["low"][axis]
    if attrs["strides"][axis] != 1 or (by > 1 and spread > 1) or size == 0:
        return None
    places = floordiv(size + by - 1, by)
    more = places - n
    if not isinstance(window, int) or not isinstance(more, int):
        return None
    forms = []
    for phase in range(by):
        first = (low - phase) % by
        taps = max(0, -((first - window) // by))
        forms.append((taps, (low - phase - first) // by, first))
    runs = []
    for (taps, ahead), members in groupby(forms, key=lambda form: form[:2]):
        firsts = [first for _, _, first in members]
        high = more - ahead + (taps - 1) * spread
        runs.append(_Run(len(firsts), taps, by, firsts[-1], ahead, high))
    return runs


def _phases(op: Op, runs: Sequence[_Run], b: Builder) -> Value:
    """`[n, groups, *phases, filters of a group, *places]` for one run along each axis."""
    (x, w), groups = op.operands, op.attrs["groups"]
    n, out = op.result.shape[:2]
    counts, each = [run.count for run in runs], out // groups
    if any(run.taps == 0 for run in runs):
        sizes = [floordiv(size + run.step - 1, run.step)
                 for size, run in zip(op.result.shape[2:], runs, strict=True)]  # fmt: skip
        return b.full((n, groups, *counts, each, *sizes), 0, x.tensor.dtype)
    y = b.op(
        "conv", _cropped(x, runs, b), _taps(w, runs, groups, b), strides=(1,) * len(runs),
        low=tuple(max(run.low, 0) for run in runs), high=tuple(max(run.high, 0) for run in runs),
        dilation=op.attrs["dilation"], input_dilation=(1,) * len(runs), groups=groups,
    )  # fmt: skip
    return b.reshape(y, (n, groups, *counts, each, *y.shape[2:]))


def _cropped(x: Value, runs: Sequence[_Run], b: Builder) -> Value:
    """x without the ends that no phase of the runs reads."""
    if all(run.low >= 0 and run.high >= 0 for run in runs):
        return x
    start = [max(-run.low, 0) for run in runs]
    stop: list[DimLike] = [
        size - max(-run.high, 0) for size, run in zip(x.shape[2:], runs, strict=True)
    ]
    return b.op(
        "slice", x, start=(0, 0, *start), stop=(*x.shape[:2], *stop), step=(1,) * len(x.shape)
    )


def _taps(w: Value, runs: Sequence[_Run], groups: int, b: Builder) -> Value:
    """The filters of the phases: `[groups * phases * filters of a group, c, *taps]`."""
    out, channels, *window = w.shape
    rank = len(runs)
    stop = [run.stop(k) for k, run in zip(window, runs, strict=True)]
    step = [run.step if run.count == 1 else 1 for run in runs]
    start = [run.first for run in runs]
    w = b.op("slice", w, start=(0, 0, *start), stop=(out, channels, *stop), step=(1, 1, *step))
    room = [run.taps * (run.step if run.count > 1 else 1) for run in runs]
    missing = [want - have for want, have in zip(room, w.shape[2:], strict=True)]
    if any(missing):
        zeros, zero = (0,) * (2 + rank), b.constant(0, w.tensor.dtype)
        w = b.op("pad", w, zero, low=zeros, high=(0, 0, *missing), interior=zeros)
    pairs = [n for run, size in zip(runs, room, strict=True) for n in (run.taps, size // run.taps)]
    split = b.reshape(w, (groups, out // groups, channels, *pairs))
    kept = (*split.shape[:3], *(n for run in runs for n in (run.taps, run.count)))
    if kept != split.shape:
        zeros, ones = (0,) * len(kept), (1,) * len(kept)
        split = b.op("slice", split, start=zeros, stop=kept, step=ones)
    phases = [4 + 2 * i for i in range(rank)]
    several = tuple(axis for axis in phases if split.shape[axis] > 1)
    if several:
        split = b.op("reverse", split, axes=several)
    order = (0, *phases, 1, 2, *(axis - 1 for axis in phases))
    total = out * prod(run.count for run in runs)
    return b.reshape(b.transpose(split, order), (total, channels, *(run.taps for run in runs)))
