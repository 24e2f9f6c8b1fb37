"""Sorting short lines that lie across: a vector of neighbouring lines at a time, by a network."""

from __future__ import annotations

from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val, vector
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Storage
from graphmill.codegen.cpu.keys import key_bits, key_of, value_of
from graphmill.codegen.cpu.lowering import info_of, label
from graphmill.codegen.cpu.networks import sort_columns
from graphmill.codegen.cpu.scans import Lines
from graphmill.ir.graph import Op

LONGEST = 1024  # of a line: the network's work grows with the square of its logarithm


def sorts_columns(op: Op) -> bool:
    """Whether the lines are short and not along the last axis."""
    shape, axis = op.operands[0].shape, op.attrs["axis"]
    length = shape[axis]
    return axis != len(shape) - 1 and isinstance(length, int) and length <= LONGEST


def sort_across(host: Host, op: Op, output: Buffer) -> None:
    """Write the kernel: every lane is a line."""
    operand, axis, descending = op.operands[0], op.attrs["axis"], op.attrs.get("descending", False)
    dtype, length = operand.tensor.dtype, operand.shape[op.attrs["axis"]]
    kernel = host.kernel(label(op))
    code, lanes, bits = kernel.code, kernel.lanes, key_bits(dtype)
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    lines, elements = Lines(kernel, operand.shape, axis), Elements(kernel, {})
    size, kind = lanes * bits // 8, vector(f"i{bits}", lanes)
    each, storage = length * size, Storage(("sort scratch", kernel.name), True)
    host.lend(storage, host.scratch(lambda code, dim: (code.i64(0), dim(each))))
    scratch = kernel.pointer(storage)
    with code.loop(kernel.begin, kernel.end) as item:
        at, tail = lines.positions(item.i)
        keys = code.at(scratch, code.mul(kernel.worker, kernel.dim(each)), "i8")
        with elements.scope(tail):
            with code.loop(0, kernel.dim(length)) as along:
                value = elements.load(source, lines.index(at, Index(along.i)))
                assert isinstance(value, Val)
                key = key_of(code, value, dtype, descending)
                code.store(key, code.at(keys, code.mul(along.i, size), "i8"), size)
            sort_columns(code, keys, kernel.dim(length), kind)
            with code.loop(0, kernel.dim(length)) as along:
                key = code.load(code.at(keys, code.mul(along.i, size), "i8"), kind, size)
                value = value_of(code, key, dtype, descending)
                elements.store(target, lines.index(at, Index(along.i)), value)
    host.launch(kernel, lines.launch(40.0), info_of(op, kernel.name, True))
