"""Lowerings of sorting and selection."""

from __future__ import annotations

from collections.abc import Callable

from graphmill.codegen.cpu.complex_sort import Lines
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Kernel
from graphmill.codegen.cpu.lowering import info_of, label, lowers
from graphmill.codegen.cpu.order_sort import Drain, Place, sort_orders
from graphmill.codegen.cpu.value_sort import sort_values
from graphmill.ir.graph import Op


@lowers("sort")
def _sort(host: Host, op: Op) -> None:
    if len(op.operands) == 1 and not op.operands[0].tensor.dtype.is_complex:
        sort_values(host, op)
        return
    outputs = host.place(op)

    def make(kernel: Kernel) -> Drain:
        sources = [host.source(kernel, v) for v in op.operands]
        targets = [host.source(kernel, r, b) for r, b in zip(op.results, outputs, strict=True)]

        def write(elements: Elements, index: Place, at: Index, origin: Index) -> None:
            for source, target in zip(sources, targets, strict=True):
                value = elements.load(source, index(origin))
                elements.store(target, index(at), value)

        return write

    _ordered(host, op, op.attrs["axis"], op.attrs["descending"], make)


@lowers("partition")
def _partition(host: Host, op: Op) -> None:
    sort_values(host, op)


@lowers("argpartition")
def _argpartition(host: Host, op: Op) -> None:
    _argsort(host, op)


@lowers("argsort")
def _argsort(host: Host, op: Op) -> None:
    (output,), axis = host.place(op), op.attrs["axis"]

    def make(kernel: Kernel) -> Drain:
        target = host.source(kernel, op.result, output)

        def write(elements: Elements, index: Place, at: Index, origin: Index) -> None:
            elements.store(target, index(at), origin.base)

        return write

    _ordered(host, op, axis, op.attrs.get("descending", False), make, direct=output)


@lowers("top_k")
def _top_k(host: Host, op: Op) -> None:
    outputs = host.place(op)

    def make(kernel: Kernel) -> Drain:
        source = host.source(kernel, op.operands[0])
        targets = [host.source(kernel, r, b) for r, b in zip(op.results, outputs, strict=True)]
        values, numbers = targets

        def write(elements: Elements, index: Place, at: Index, origin: Index) -> None:
            elements.store(values, index(at), elements.load(source, index(origin)))
            elements.store(numbers, index(at), origin.base)

        return write

    axis = len(op.operands[0].shape) - 1
    _ordered(host, op, axis, True, make, k=op.attrs["k"])


def _ordered(
    host: Host, op: Op, axis: int, descending: bool, make: Callable[[Kernel], Drain],
    *, direct: Buffer | None = None, k: int | None = None,
) -> None:  # fmt: skip
    """Write what `make` says for every place of the sorted lines of the first operand."""
    operand = op.operands[0]
    if not operand.tensor.dtype.is_complex:
        last = axis == len(operand.shape) - 1 and direct is not None and direct.strides is None
        sort_orders(host, op, axis, descending, make, direct=direct if last else None, k=k)
        return
    kernel = host.kernel(label(op))
    write, source = make(kernel), host.source(kernel, operand)
    with Lines(host, kernel, op, axis, descending) as lines:
        order = lines.sorted(source)
        code = kernel.code
        with code.loop(0, lines.length) as place:
            origin = code.load(code.at(order, place.i, "i64"), "i64", 8)
            write(lines.elements, lines.index, Index(place.i), Index(origin))
    host.launch(kernel, lines.launch(), info_of(op, kernel.name, True))
