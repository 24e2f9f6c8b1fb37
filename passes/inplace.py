"""Which operands an op may overwrite with its result."""

from __future__ import annotations

from collections.abc import Iterator

from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.lines import lines_of


def reusable_operand(op: Op) -> Iterator[int]:
    """Operands whose memory the result may take: none is read after it is overwritten."""
    result = op.result.tensor
    if op.name in ("scatter", "dynamic_update_slice"):
        if op.operands[0] not in op.operands[1:]:
            yield 0
        return
    if op.name == "fusion" and op.attrs["kind"] == "update":
        block = op.regions[0].block
        k = written(block).operands[0].index
        if op.operands.count(op.operands[k]) == 1 and writes_in_place(block):
            yield k
    elif op.name == "fusion" and op.attrs["kind"] in ("loop", "iterate"):
        block = op.regions[0].block
        for k, arg in enumerate(block.args):
            type = arg.tensor
            same = type.shape == result.shape and type.dtype.itemsize == result.dtype.itemsize
            once = op.operands.count(op.operands[k]) == 1
            if same and once and type.layout is None and _read_in_place(arg):
                yield k
    elif op.definition.fusion == "elementwise":
        for k, operand in enumerate(op.operands):
            type = operand.tensor
            if type.dtype.itemsize == result.dtype.itemsize and type.layout is None:
                yield k


def written_lines(op: Op) -> Iterator[tuple[int, int]]:
    """The results of an `iterate` fusion that are lines, each beside the operand it begins as, if
    nothing else is done with that."""
    block = op.regions[0].block
    (scan,) = (inner for inner in block.ops if inner.name == "scan")
    for n in lines_of(scan):
        start = scan.operands[n]
        if start.op is None and len(start.uses) == 1 and scan.results[n] in block.yielded:
            yield block.yielded.index(scan.results[n]), start.index


def _read_in_place(value: Value) -> bool:
    """Whether element i of the results needs only element i of `value`."""
    return all(
        user.name == "yield"
        or (
            user.name == "dynamic_update_slice"
            and value not in (user.operands[0], *user.operands[2:])
        )
        or (user.definition.fusion == "elementwise" and _read_in_place(user.result))
        or (user.name == "scan" and _turned_in_place(user, value))
        for user in value.users
    )


def _turned_in_place(scan: Op, value: Value) -> bool:
    """The same of a scan inside a kernel, which keeps what it carries in registers."""
    first, body = scan.attrs["carry"], scan.regions[0].block
    if value in scan.operands[first : first + scan.attrs["xs"]]:
        return False
    taken = [arg for arg, v in zip(body.args, scan.operands, strict=True) if v is value]
    return all(arg.index < first or _read_in_place(arg) for arg in taken)


def written(block: Block) -> Op:
    """The `dynamic_update_slice` that an `update` fusion ends with."""
    op = block.yielded[0].op
    assert op is not None and op.name == "dynamic_update_slice"
    return op


def writes_in_place(block: Block) -> bool:
    """Whether an `update` fusion needs no other element of what it writes into than the one
    it overwrites: it reads nothing of that array, or the same window of it, or it writes one
    element, before which all is read."""
    update = written(block)
    array = update.operands[0]
    if array.op is not None or array in update.operands[1:]:
        return False
    if is_single(update):
        return True
    return all(
        user is update
        or (user.name == "slice" and _is_window(user, update) and _read_in_place(user.result))
        for user in array.users
    )


def is_single(update: Op) -> bool:
    """Whether an update writes one element."""
    return all(size == 1 for size in update.operands[1].shape)


def _is_window(part: Op, update: Op) -> bool:
    """Whether a slice is of what the update overwrites."""
    if tuple(part.result.shape) != tuple(update.operands[1].shape):
        return False
    starts = [_known(start) for start in update.operands[2:]]
    return (
        all(step == 1 for step in part.attrs["step"])
        and list(part.attrs["start"]) == starts
        and all(start is not None and start >= 0 for start in starts)
    )


def _known(value: Value) -> int | None:
    op = value.op
    return int(op.attrs["value"]) if op is not None and op.name == "constant" else None
