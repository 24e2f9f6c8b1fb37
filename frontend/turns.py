"""Counters of loops as sizes: `x[:i]` and `np.zeros(i)` in the body of `gm.fori_loop`.

The number of a loop's turn is a value, and also a named dim of the loop's body. A traced integer
that is computed from it (and from other sizes) by `+ - * min max` is a dim, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphmill.ir.dims import Dim, DimLike, maximum, minimum
from graphmill.ir.dtypes import i64
from graphmill.ir.graph import Op, Value

if TYPE_CHECKING:
    from graphmill.frontend.state import Frame

_ARITHMETIC = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "max": maximum, "min": minimum,
}  # fmt: skip


def dim_of(x: Any) -> DimLike | None:
    """The dim that a traced integer is; None where only run time tells, and for other things."""
    from graphmill.frontend.state import current
    from graphmill.frontend.tracer import Tracer

    if not isinstance(x, Tracer) or x.dims or not x.element.is_integer:
        return None
    frame = current()
    found = _dim(x.value(), frame)
    if isinstance(found, Dim):
        frame.trace.sized.update(found.names & frame.trace.turns.keys())
    return found


def _dim(value: Value, frame: Frame) -> DimLike | None:
    counter = frame.trace.turn_of.get(value)
    if counter is not None:
        return counter
    if value.op is not None:
        return _computed(value.op, frame)
    outer = next((out for out, arg in frame.captures.items() if arg is value), None)
    return None if outer is None or frame.parent is None else _dim(outer, frame.parent)


def _computed(op: Op, frame: Frame) -> DimLike | None:
    if op.name == "constant":
        return int(op.attrs["value"])
    if op.name == "dim":
        return op.attrs["value"]  # type: ignore[no-any-return]
    if op.name == "cast":
        whole = op.operands[0].tensor.dtype.is_integer and op.attrs["dtype"] is i64
        return _dim(op.operands[0], frame) if whole else None
    if op.result.tensor.dtype is not i64:  # narrower ones wrap around
        return None
    if op.name == "neg":
        inner = _dim(op.operands[0], frame)
        return None if inner is None else -inner
    if op.name not in _ARITHMETIC:
        return None
    left = _dim(op.operands[0], frame)
    right = None if left is None else _dim(op.operands[1], frame)
    return None if left is None or right is None else _ARITHMETIC[op.name](left, right)
