"""Loops that go along the last axis of what they carry: lines that do not meet."""

from __future__ import annotations

from graphmill.ir.graph import Op, Value
from graphmill.records import record


@record
class Line:
    """What a turn writes to a carried array: one element of each line, and where."""

    new: Value
    place: Value
    update: Value  # the new elements as `dynamic_update_slice` takes them


def line_of(arg: Value, given: Value) -> Line | None:
    """How a scan's body makes the carried `given` of `arg` if it only writes one element of each
    line of it and, besides, reads elements of the same line as `arg` was; else None."""
    op = given.op
    shape = tuple(arg.shape)
    if op is None or op.name != "dynamic_update_slice" or op.operands[0] is not arg:
        return None
    update, *starts = op.operands[1:]
    made = update.op
    if len(shape) < 2 or tuple(update.shape) != (*shape[:-1], 1) or made is None:
        return None
    if made.name != "reshape" or tuple(made.operands[0].shape) != shape[:-1]:
        return None
    if len(given.uses) != 1 or len(update.uses) != 1 or not all(map(_is_zero, starts[:-1])):
        return None
    if any(user is not op and not reads_a_line(user, arg) for user in arg.users):
        return None
    return None if arg in op.operands[1:] else Line(made.operands[0], starts[-1], update)


def reads_a_line(op: Op, array: Value) -> bool:
    """Whether an op takes the element of each line of `array` at a place that is one number."""
    return (
        op.name == "gather"
        and op.operands[0] is array
        and tuple(op.attrs["axes"]) == (len(array.shape) - 1,)
        and not op.operands[1].shape
    )


def _is_zero(value: Value) -> bool:
    return (
        value.op is not None and value.op.name == "constant" and not value.op.attrs["value"].any()
    )


def lines_of(scan: Op) -> dict[int, Line]:
    """The carried arrays of a scan that are lines, by number."""
    body = scan.regions[0].block
    pairs = zip(body.args, body.yielded[: scan.attrs["carry"]], strict=False)
    found = {n: line_of(arg, given) for n, (arg, given) in enumerate(pairs)}
    return {n: line for n, line in found.items() if line is not None}
