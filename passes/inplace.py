"""Which operands an op may overwrite with its result."""

from __future__ import annotations

from collections.abc import Iterator

from graphmill.ir.graph import Op, Value


def reusable_operand(op: Op) -> Iterator[int]:
    """Operands whose memory the result may take: none is read after it is overwritten."""
    result = op.result.tensor
    if op.name in ("scatter", "dynamic_update_slice"):
        if op.operands[0] not in op.operands[1:]:
            yield 0
        return
    if op.name == "fusion" and op.attrs["kind"] == "loop":
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


def _read_in_place(value: Value) -> bool:
    """Whether element i of the results needs only element i of `value`."""
    return all(
        user.name == "yield"
        or (user.definition.fusion == "elementwise" and _read_in_place(user.result))
        for user in value.users
    )
