"""Where the arrays of an attention lie: strides and addresses for positions along the scores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from graphmill.codegen.cpu.contract.elements import memory_element
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import unravel
from graphmill.codegen.cpu.kernel import Kernel, contiguous
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Value
from graphmill.ir.views import MEMORY, Step, View
from graphmill.records import record

Stride = int | Val


@record
class Operand:
    """An array in memory, its axes named by the axes of the scores.

    `along` and `across` are the strides (elements) of its one walked axis, keys or queries, and
    of the elements of a head.
    """

    kernel: Kernel
    base: Val
    dtype: DType
    view: View
    keys: tuple[Hashable, ...]  # of the run-time strides of the base, if it is strided
    axes: tuple[int | None, ...]  # for each axis of the scores, the array's own
    along: Stride
    across: Stride

    def head(self, at: Mapping[int, Val]) -> Val:
        """The address of the first element for positions along the other axes."""
        code = self.kernel.code
        offset: Val = code.i64(0)
        for axis, position in at.items():
            own = self.axes[axis]
            if own is None:
                continue
            steps = self.view.axes[own]
            sizes = [self.kernel.size(step.size) for step in steps]
            for step, part in zip(steps, unravel(code, position, sizes), strict=True):
                offset = code.add(offset, times(code, part, self.stride(step)))
        return code.at(self.base, offset, memory_element(self.dtype))

    def at(self, head: Val, position: Val, element: Val | int = 0) -> Val:
        """The address of an element of the head at a position along the walked axis."""
        code = self.kernel.code
        offset = times(code, position, self.along)
        if element != 0:
            wide = code.i64(element) if isinstance(element, int) else element
            offset = code.add(offset, times(code, wide, self.across))
        return code.at(head, offset, memory_element(self.dtype))

    def stride(self, step: Step) -> Stride:
        """The distance of a step's positions in elements."""
        return _stride(self.kernel, self.keys, step)

    def order(self) -> str:
        """Which stride is 1, as `contract.packing` names it with a head's elements as rows."""
        if self.across == 1:
            return "col"
        return "row" if self.along == 1 else "strided"


def times(code: Code, value: Val, by: Stride) -> Val:
    """`value * by`."""
    if by == 0:
        return code.i64(0)
    return code.mul(value, by)


def operand(
    host: Host, kernel: Kernel, value: Value, buffer: Buffer, view: View,
    axes: Sequence[int | None], walked: int | None, element: int,
) -> Operand:  # fmt: skip
    """The operand that `view` of the host's `value`, which lies in `buffer`, is."""
    keys = tuple(buffer.strides or ())
    dtype = value.tensor.dtype
    base = host.source(kernel, value, buffer).pointer
    for step in view.start:
        base = kernel.code.at(
            base, _value(kernel, _stride(kernel, keys, step)), memory_element(dtype)
        )
    own = None if walked is None else axes[walked]
    along = Step(1, 0) if own is None else view.single(own)
    across = view.single(element)
    assert along is not None and across is not None, "the pass leaves other views outside"
    return Operand(
        kernel, base, dtype, view, keys, tuple(axes),
        _stride(kernel, keys, along), _stride(kernel, keys, across),
    )  # fmt: skip


def output_view(value: Value, core: Value) -> View:
    """How `core` lies in the memory of `value`, a transpose of it."""
    strides = list(contiguous(value.shape))
    while value is not core:
        assert value.op is not None and value.op.name == "transpose"
        perm = value.op.attrs["perm"]
        strides = [strides[perm.index(a)] for a in range(len(perm))]
        value = value.op.operands[0]
    axes = tuple(
        (Step(size, stride),) if size != 1 else ()
        for size, stride in zip(core.shape, strides, strict=True)
    )
    return View(value, axes)


def _stride(kernel: Kernel, keys: Sequence[Hashable], step: Step) -> Stride:
    by = kernel.size(step.stride)
    if step.axis == MEMORY:
        return by
    return times(kernel.code, kernel.value(keys[step.axis]), by)


def _value(kernel: Kernel, stride: Stride) -> Val:
    return kernel.code.i64(stride) if isinstance(stride, int) else stride
