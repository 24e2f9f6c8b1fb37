"""Sorting values alone (no order wanted): keys that the values come back from."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.column_sort import sort_across, sorts_columns
from graphmill.codegen.cpu.counting_sort import counts_values, sort_by_counting
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Kernel
from graphmill.codegen.cpu.keys import key_bits, key_of, value_of
from graphmill.codegen.cpu.line_sort import Line, Plan, Steps, sort_lines
from graphmill.codegen.cpu.loops import sweep
from graphmill.ir.graph import Op


def sort_values(host: Host, op: Op) -> None:
    """Sort by keys, in the result's own memory where they are as wide and lie as it does."""
    (output,), operand = host.place(op), op.operands[0]
    if sorts_columns(op):
        sort_across(host, op, output)
        return
    if counts_values(op):
        sort_by_counting(host, op, output)
        return
    shape, axis, dtype = operand.shape, op.attrs["axis"], operand.tensor.dtype
    element = f"i{key_bits(dtype)}"
    direct = dtype.bits == key_bits(dtype) and axis == len(shape) - 1 and output.strides is None
    same = direct and dtype.kind == "i" and not op.attrs.get("descending")
    partial = op.name == "partition"
    plan = Plan(
        op, shape, axis, element, lambda kernel: _Values(host, op, output, kernel),
        direct=output if direct else None, drains=not same, partial=partial,
    )  # fmt: skip
    sort_lines(host, plan)


class _Values(Steps):
    def __init__(self, host: Host, op: Op, output: Buffer, kernel: Kernel) -> None:
        self.source = host.source(kernel, op.operands[0])
        self.target = host.source(kernel, op.result, output)
        self.dtype, self.descending = op.operands[0].tensor.dtype, op.attrs.get("descending", False)
        self.ends = [host.source(kernel, place) for place in op.operands[1:]]

    def fill(self, line: Line, low: Val | int, high: Val | int) -> None:
        code, elements = line.kernel.code, line.elements

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            value = elements.load(self.source, line.index(position))
            assert isinstance(value, Val)
            line.put(key_of(code, value, self.dtype, self.descending), position.base)
            return carried

        sweep(elements, low, high, body)

    def drain(self, line: Line, low: Val | int, high: Val | int) -> None:
        code, elements = line.kernel.code, line.elements

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            value = value_of(code, line.take(position.base), self.dtype, self.descending)
            elements.store(self.target, line.index(position), value)
            return carried

        sweep(elements, low, high, body)

    def wanted(self, line: Line) -> tuple[Val, Val]:
        if not self.ends:
            return super().wanted(line)
        code = line.kernel.code
        first, last = (line.elements.load(end, ()) for end in self.ends)
        assert isinstance(first, Val) and isinstance(last, Val)
        return first, code.add(last, 1)
