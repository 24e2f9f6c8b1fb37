"""Values as strides over other values' memory: what views of an array need no copy.

A transpose, reshape, slice, broadcast, or a gather at a constant position only tells where the
elements of its operand lie. `view_of` follows such ops and gives the strides of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from graphmill.ir.dims import DimLike, mod, product
from graphmill.ir.graph import Op, Value
from graphmill.records import record

MEMORY = -1  # the `axis` of a step whose stride counts elements of contiguous memory


@record
class Step:
    """`size` positions that lie `stride` elements apart, times the run-time stride of base axis
    `axis` where the base is strided."""

    size: DimLike
    stride: DimLike
    axis: int = MEMORY


Axis = tuple[Step, ...]  # row-major: the last step varies fastest


@record
class View:
    """The elements of a value in the memory of `base`: where it starts, and each axis's steps.

    `ops` are the ops between, those nearest to the base first.
    """

    base: Value
    axes: tuple[Axis, ...]
    start: tuple[Step, ...] = ()  # their strides add up
    ops: tuple[Op, ...] = ()

    def single(self, axis: int) -> Step | None:
        """The one step along `axis`; None where it takes several."""
        steps = self.axes[axis]
        if not steps:
            return Step(1, 0)
        return steps[0] if len(steps) == 1 else None


def view_of(value: Value, follow: Callable[[Op], bool] = lambda op: True) -> View:
    """How `value` lies in the memory of the farthest value that `follow` and the strides allow."""
    op = value.op
    if op is not None and op.name in _VIEWS and follow(op):
        below = view_of(op.operands[0], follow)
        made = _VIEWS[op.name](op, below)
        if made is not None:
            return replace(made, ops=(*below.ops, op))
    strided = value.tensor.layout == "strided"
    axes = []
    for axis, size in enumerate(value.shape):
        stride = 1 if strided else product(value.shape[axis + 1 :])
        axes.append(_merged([Step(size, stride, axis if strided else MEMORY)]))
    return View(value, tuple(axes))


def _merged(steps: Sequence[Step]) -> Axis:
    """The same positions in as few steps as possible."""
    found: list[Step] = []
    for step in steps:
        if step.size == 1:
            continue
        last = found[-1] if found else None
        if last and last.axis == step.axis and last.stride == step.stride * step.size:
            found[-1] = Step(last.size * step.size, step.stride, step.axis)
        else:
            found.append(step)
    return tuple(found)


def _transpose(op: Op, below: View) -> View | None:
    return View(below.base, tuple(below.axes[a] for a in op.attrs["perm"]), below.start)


def _broadcast(op: Op, below: View) -> View | None:
    axes: list[Axis] = [_merged([Step(size, 0)]) for size in op.attrs["shape"]]
    for source, axis in enumerate(op.attrs["axes"]):
        if op.operands[0].shape[source] == op.attrs["shape"][axis]:
            axes[axis] = below.axes[source]
    return View(below.base, tuple(axes), below.start)


def _slice(op: Op, below: View) -> View | None:
    axes: list[Axis] = []
    start = list(below.start)
    for axis, (low, by) in enumerate(zip(op.attrs["start"], op.attrs["step"], strict=True)):
        size = op.result.shape[axis]
        if size == op.operands[0].shape[axis]:
            axes.append(below.axes[axis])
            continue
        step = below.single(axis)
        if step is None:
            return None
        start.append(Step(1, step.stride * low, step.axis))
        axes.append(_merged([Step(size, step.stride * by, step.axis)]))
    return View(below.base, tuple(axes), tuple(start))


def _gather(op: Op, below: View) -> View | None:
    """At constant positions, one along each of the gathered axes."""
    start = list(below.start)
    for axis, index in zip(op.attrs["axes"], op.operands[1:], strict=True):
        size, step = op.operands[0].shape[axis], below.single(axis)
        if index.op is None or index.op.name != "constant" or index.shape or step is None:
            return None
        at = int(np.asarray(index.op.attrs["value"]))
        if not isinstance(size, int) or not -size <= at < size:
            return None
        start.append(Step(1, step.stride * (at % size), step.axis))
    rest = [steps for axis, steps in enumerate(below.axes) if axis not in op.attrs["axes"]]
    return View(below.base, tuple(rest), tuple(start))


def _reshape(op: Op, below: View) -> View | None:
    steps = [step for axis in below.axes for step in axis]
    axes: list[Axis] = []
    for size in op.result.shape:
        taken = _take(steps, size)
        if taken is None:
            return None
        axes.append(_merged(taken))
    return View(below.base, tuple(axes), below.start) if not steps else None


def _take(steps: list[Step], size: DimLike) -> list[Step] | None:
    """Remove from the front of `steps` as many positions as `size`; None if they do not split."""
    taken: list[Step] = []
    left = size
    while left != 1:
        if not steps:
            return None
        first = steps.pop(0)
        if left == first.size or _divides(first.size, left):
            taken.append(first)
            left = _quotient(left, first.size)
        elif _divides(left, first.size):
            inner = _quotient(first.size, left)
            taken.append(Step(left, first.stride * inner, first.axis))
            steps.insert(0, Step(inner, first.stride, first.axis))
            left = 1
        else:
            return None
    return taken


def _divides(a: DimLike, b: DimLike) -> bool:
    """Whether `b` is known to be a multiple of `a`."""
    return a != 0 and b != 0 and mod(b, a) == 0


def _quotient(a: DimLike, b: DimLike) -> DimLike:
    return 1 if a == b else a // b


_VIEWS: dict[str, Callable[[Op, View], View | None]] = {
    "transpose": _transpose, "broadcast": _broadcast, "slice": _slice, "gather": _gather,
    "reshape": _reshape,
}  # fmt: skip
