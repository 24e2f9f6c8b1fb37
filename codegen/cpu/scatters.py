"""Writing into part of an array: `scatter` and `dynamic_update_slice`."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import convert, scalar
from graphmill.codegen.cpu.control import copy_array
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, Indices, both, shifted, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source, contiguous
from graphmill.codegen.cpu.launch import Launch, flops_per_element, grain
from graphmill.codegen.cpu.loops import item_range, row_blocks, sweep, sweep_aligned
from graphmill.codegen.cpu.lowering import body_of, info_of, label, lowers
from graphmill.codegen.cpu.reductions import write_single
from graphmill.ir.builder import Builder
from graphmill.ir.dims import product
from graphmill.ir.dtypes import i64
from graphmill.ir.graph import Block, Op, Value, clone_op

LONG = 128  # elements of a window's row from which it is worth to align stores
_COMBINE = {"add": "add", "mul": "mul", "min": "min", "max": "max"}


def _start(host: Host, op: Op, written: Value) -> Buffer:
    """The result's buffer, holding the operand."""
    (output,) = host.place(op)
    copy_array(host, host.buffers[written], output, written)
    return output


@lowers("dynamic_update_slice")
def _update(host: Host, op: Op) -> None:
    """A bare update or an `update` fusion: each element of the window is computed where it goes."""
    block = body_of(op)
    update = block.yielded[0].op
    assert update is not None
    array, window, *starts = update.operands
    output = _start(host, op, op.operands[array.index])
    kernel = host.kernel(label(op))
    elements = Elements(kernel, {
        arg: host.source(kernel, arg, output if arg is array else host.buffers[operand])
        for arg, operand in zip(block.args, op.operands, strict=True)
    })  # fmt: skip
    target, shape = elements.sources[array], window.shape
    first = [
        elements.wrapped(s, (), dim, size)
        for s, dim, size in zip(starts, array.shape, shape, strict=True)
    ]
    if any(inner.name == "reduce" for inner in block.ops):
        buffers = [host.buffers[operand] for operand in op.operands]
        buffers[array.index] = output
        address = elements.address(target, tuple(first))
        launch = _reduce_into(host, kernel, block, buffers, address)
        host.launch(kernel, launch, info_of(op, kernel.name, False))
        return
    if product(shape) == 1:
        value = _unshaped(window)
        here = (Index(kernel.code.i64(0)),) * len(value.shape)
        elements.store(target, tuple(first), elements.at(value, here))
        host.launch(kernel, Launch(1, 1), info_of(op, kernel.name, False))
        return
    blocks = row_blocks(shape[-1])
    width = shape[-1] if isinstance(shape[-1], int) else 64
    with kernel.code.loop(kernel.begin, kernel.end) as item, elements.scope():
        outer, low, high = item_range(kernel, item.i, shape, blocks)

        def place(position: Index) -> Indices:
            index = (*outer, position)
            return tuple(shifted(kernel.code, i, s.base) for i, s in zip(index, first, strict=True))

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            elements.store(target, place(position), elements.at(window, (*outer, position)))
            return carried

        if width < LONG:
            sweep(elements, low, high, body)
        else:
            begin = Index(kernel.code.i64(low) if isinstance(low, int) else low)
            sweep_aligned(elements, low, high, body, target, place(begin))
    launch = Launch(product((*shape[:-1], blocks)), grain(width * flops_per_element(block.ops)))
    host.launch(kernel, launch, info_of(op, kernel.name, True))


def _unshaped(window: Value) -> Value:
    """The one element of a window before it was given the array's rank."""
    op = window.op
    return op.operands[0] if op is not None and op.name == "reshape" else window


def _reduce_into(
    host: Host, kernel: Kernel, block: Block, buffers: Sequence[Buffer], place: Val
) -> Launch:
    """The one element that a reduction and what follows it give, stored when all is read."""
    *before, update = block.ops[:-1]
    window = update.operands[1]
    value = _unshaped(window)
    inner = Block([v.type for v in block.args], [v.name for v in block.args])
    inner.region = block.region  # where the arguments come from
    mapping = dict(zip(block.args, inner.args, strict=True))
    for op in before:
        if op is not window.op or value is window:
            inner.append(clone_op(op, mapping))
    Builder(inner).emit("yield", [mapping[value]])
    used = [n for n, arg in enumerate(inner.args) if arg.uses]
    inner.args = [inner.args[n] for n in used]  # their numbers stay the fusion's
    target = Source(place, value.tensor.dtype, value.shape, contiguous(value.shape))
    return write_single(host, kernel, inner, [buffers[n] for n in used], target)


@lowers("scatter")
def _scatter(host: Host, op: Op) -> None:
    """Updates go in one after the other: equal indices combine in order, the last one wins."""
    output = _start(host, op, op.operands[0])
    operand, updates, *indices = op.operands
    axes = op.attrs["axes"]
    kernel = host.kernel(f"scatter_{op.attrs['mode']}")
    elements = Elements(kernel, {v: host.source(kernel, v) for v in (updates, *indices)})
    target = host.source(kernel, op.result, output)
    lead = indices[0].shape
    rest = [i for i in range(len(operand.shape)) if i not in axes]
    code = kernel.code
    with code.loop(kernel.begin, kernel.end) as item, elements.scope():
        sizes = [kernel.size(d) for d in lead]
        place = tuple(Index(v) for v in unravel(code, item.i, sizes))
        at, inside = _destination(elements, kernel, operand, axes, indices, place)
        with code.when(inside), elements.scope():
            _store_rows(elements, op, target, place, at, rest)
    host.launch(kernel, Launch(product(lead), 1 << 60), info_of(op, kernel.name, False))


def _destination(
    elements: Elements, kernel: Kernel, operand: Value, axes: Sequence[int],
    indices: Sequence[Value], place: Indices,
) -> tuple[dict[int, Index], Val]:  # fmt: skip
    """Where an update goes along the indexed axes, and whether that is inside the array."""
    code = kernel.code
    at: dict[int, Index] = {}
    inside: Val | None = None
    for axis, array in zip(axes, indices, strict=True):
        dtype = array.tensor.dtype
        raw = convert.cast(code, elements.at(array, place), dtype, i64)
        assert isinstance(raw, Val)
        size, zero = kernel.dim(operand.shape[axis]), code.i64(0)
        if dtype.kind == "i":
            negative = code.compare("arith.cmpi", "slt", raw, zero)
            raw = code.select(negative, code.add(raw, size), raw)
        # unsigned: one comparison tells both ends
        inside = both(code, inside, code.compare("arith.cmpi", "ult", raw, size))
        at[axis] = Index(raw)
    assert inside is not None
    return at, inside


def _store_rows(
    elements: Elements, op: Op, target: Source, place: Indices, at: dict[int, Index],
    rest: Sequence[int],
) -> None:  # fmt: skip
    code, kernel = elements.code, elements.kernel
    operand, updates = op.operands[:2]

    def put(positions: dict[int, Index]) -> None:
        full = {**at, **positions}
        index = tuple(full[i] for i in range(len(operand.shape)))
        value = elements.at(updates, (*place, *(positions[i] for i in rest)))
        if op.attrs["mode"] != "set":
            before = elements.load(target, index)
            dtype = operand.tensor.dtype
            args = [before, value]
            value = scalar.apply(
                code, kernel.target, _COMBINE[op.attrs["mode"]], args, [dtype, dtype], dtype
            )
        elements.store(target, index, value)

    if not rest:
        put({})
        return
    outer = [kernel.size(operand.shape[i]) for i in rest[:-1]]
    count = kernel.dim(product(operand.shape[i] for i in rest[:-1]))
    with code.loop(0, count) as row, elements.scope():
        named = dict(zip(rest, map(Index, unravel(code, row.i, outer)), strict=False))

        def body(position: Index, carried: Sequence[Val]) -> Sequence[Val]:
            put({**named, rest[-1]: position})
            return carried

        sweep(elements, 0, elements.dim(operand.shape[rest[-1]]), body)
