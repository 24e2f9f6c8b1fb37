"""Sorting values alone (no order wanted): a network over keys, which the values come back from."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val, vector
from graphmill.codegen.cpu.host import Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Storage
from graphmill.codegen.cpu.keys import key_bits, key_of, value_of
from graphmill.codegen.cpu.loops import sweep
from graphmill.codegen.cpu.lowering import info_of, label
from graphmill.codegen.cpu.networks import sort_columns, sort_vectors
from graphmill.codegen.cpu.scans import Lines
from graphmill.ir.graph import Op

LONGEST = 1 << 20  # from here on fewer sweeps over memory win


def sorts_values(op: Op) -> bool:
    """Whether a `sort` is one of values alone that a network does well."""
    (first, *others), axis = op.operands, op.attrs["axis"]
    length, dtype = first.shape[axis], first.tensor.dtype
    known = isinstance(length, int) and length <= LONGEST
    wide = dtype.bits > 8 or axis != len(first.shape) - 1  # few values: counting them is quicker
    return not others and not dtype.is_complex and known and wide


def sort_values(host: Host, op: Op) -> None:
    """Write the kernel; along another axis than the last, each lane is a line."""
    (output,), (operand,) = host.place(op), op.operands
    axis, descending, dtype = op.attrs["axis"], op.attrs["descending"], operand.tensor.dtype
    kernel = host.kernel(label(op))
    code, lanes, length = kernel.code, kernel.lanes, operand.shape[op.attrs["axis"]]
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    lines, elements = Lines(kernel, operand.shape, axis), Elements(kernel, {})
    element = f"i{key_bits(dtype)}"
    size = int(element[1:]) // 8
    vectors = length if lines.across else (length + lanes - 1) // lanes
    each = vectors * lanes * size
    storage = Storage(("sort scratch", kernel.name), True)
    host.lend(storage, host.scratch(lambda code, dim: (code.i64(0), dim(each))))
    scratch = kernel.pointer(storage)
    kind = vector(element, lanes)
    with code.loop(kernel.begin, kernel.end) as item:
        at, tail = lines.positions(item.i)
        keys = code.at(scratch, code.mul(kernel.worker, kernel.dim(each)), "i8")

        def place(position: Index) -> Val:
            step = lanes if lines.across else 1
            return code.at(keys, code.mul(position.base, step), element)

        def fill(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            value = elements.load(source, lines.index(at, position))
            assert isinstance(value, Val)
            key = key_of(code, value, dtype, descending)
            if elements.tail is not None and not lines.across:
                beyond = code.const((1 << int(element[1:]) - 1) - 1, kind)
                key = code.select(elements.tail, key, beyond)
            code.store(key, place(position), size * lanes)
            return carried

        def drain(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            key = code.load(place(position), kind, size * lanes)
            value = value_of(code, key, dtype, descending)
            elements.store(target, lines.index(at, position), value)
            return carried

        for body, network in (
            (fill, sort_columns if lines.across else sort_vectors),
            (drain, None),
        ):
            with elements.scope(tail):
                if lines.across:
                    with code.loop(0, kernel.dim(length)) as along:
                        body(Index(along.i), [])
                else:
                    sweep(elements, 0, kernel.size(length), body)
            if network is not None:
                network(code, keys, kernel.dim(vectors), kind)
    host.launch(kernel, lines.launch(40.0), info_of(op, kernel.name, True))
