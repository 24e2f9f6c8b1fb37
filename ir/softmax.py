"""Softmax among ops: weights exp(scores - shift) / divisor along an axis, however they are spelled.

Shift and divisor are any functions of a row's largest score, of the row's sum of exponentials and
of what else the row has: log-sum-exp, a guard for hidden rows, an epsilon, a learned sink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from graphmill.ir.graph import Op, Value
from graphmill.records import record


@record
class Total:
    """A sum of exp(scores - shifts) along the axis."""

    op: Op
    shifts: tuple[Value, ...]


@record
class Softmax:
    """Shifts have the scores' shape (sizes along the axis aside) and repeat one value along it.

    The divisor does, too, or has the shape of the product that it divides. `extra` are further
    scores of each row, which count in the largest and in the sums alone.
    """

    power: Op
    scores: Value
    axis: int
    shifts: tuple[Value, ...]
    divisor: Value | None
    largest: tuple[Op, ...]
    totals: tuple[Total, ...]
    extra: tuple[Value, ...] = ()

    @property
    def shifted(self) -> bool:
        """Whether something is subtracted from the scores, so that they may be large."""
        return bool(self.shifts) or any(total.shifts for total in self.totals)

    @property
    def plain(self) -> bool:
        """Whether weights are exp(x - max) / sum(exp(x - max)) or exp(x) / sum(exp(x))."""
        largest, totals = ([op.result for op in self.largest], [t.op.result for t in self.totals])
        shifts = [s for s in (self.shifts, *(t.shifts for t in self.totals)) if self.shifted]
        return (
            not self.extra
            and self.divisor is not None
            and _row(self.divisor) in totals
            and all(len(s) == 1 and _row(s[0]) in largest for s in shifts)
        )


def softmaxes(weights: Value, axis: int, later: Value | None = None) -> Iterator[Softmax]:
    """The ways to see `weights` as a softmax along `axis`, or as one but for a `later` divisor."""
    weights, piece = _piece(uncast(weights), axis)
    if later is not None:
        yield from _powers(weights, later, axis, piece)
        return
    for power, divisor in (*quotients(weights, axis), (weights, None)):
        yield from _powers(uncast(power), divisor, axis, piece)


def quotients(value: Value, axis: int) -> Iterator[tuple[Value, Value]]:
    """x and y where `value` is x / y or x * (1 / y), y the same along `axis`."""
    op = value.op
    if op is not None and op.name == "div" and is_row(op.operands[1], axis):
        yield op.operands[0], op.operands[1]
    if op is not None and op.name == "mul":
        for x, y in (op.operands, op.operands[::-1]):
            inverse = _row(y) if is_row(y, axis) else None
            made = inverse.op if inverse is not None else None
            if made is not None and made.name == "div" and is_splat(made.operands[0], 1.0):
                yield x, made.operands[1]


def _powers(
    power: Value, divisor: Value | None, axis: int, piece: tuple[int, int] | None
) -> Iterator[Softmax]:
    """The softmaxes with this exponential and this divisor, of all scores or a piece of them."""
    op = power.op
    if op is None or op.name != "exp":
        return
    for base, shifts in _peeled(op.operands[0], axis):
        rows = _Rows(base, axis)
        for value in (*shifts, *([divisor] if divisor is not None else [])):
            rows.visit(value)
        scores, extra = _pieces(base, axis, piece)
        if rows.totals and not rows.others and scores is not None:
            yield Softmax(op, scores, axis, shifts, divisor, tuple(rows.largest),
                          tuple(rows.totals), extra)  # fmt: skip


def _peeled(value: Value, axis: int) -> Iterator[tuple[Value, tuple[Value, ...]]]:
    """x and what is subtracted from it, the same along `axis`: the most things first."""
    found: list[tuple[Value, tuple[Value, ...]]] = [(uncast(value), ())]
    while (op := found[0][0].op) is not None and op.name == "sub" and is_row(op.operands[1], axis):
        found.insert(0, (uncast(op.operands[0]), (op.operands[1], *found[0][1])))
    yield from found


class _Rows:
    """What the reductions along the axis are that shifts and divisor are computed from."""

    def __init__(self, base: Value, axis: int) -> None:
        self.base, self.axis = base, axis
        self.largest: list[Op] = []
        self.totals: list[Total] = []
        self.others = False  # whether there are reductions of another kind
        self.seen: set[Value] = set()

    def visit(self, value: Value) -> None:
        """Go back to the reductions; what is no function of them is a value like any other."""
        op = value.op
        if op is None or value in self.seen:
            return
        self.seen.add(value)
        if op.name == "reduce":
            self._reduction(op)
        elif op.definition.family == "elementwise" or op.name in ("broadcast", "reshape"):
            for operand in op.operands:
                self.visit(operand)

    def _reduction(self, op: Op) -> None:
        source, monoid = uncast(op.operands[0]), op.attrs["monoid"]
        if tuple(op.attrs["axes"]) == (self.axis,):
            if monoid == "max" and source is self.base:
                self.largest.append(op)
                return
            if monoid == "sum" and source.op is not None and source.op.name == "exp":
                for base, shifts in _peeled(source.op.operands[0], self.axis):
                    if base is self.base:
                        self.totals.append(Total(op, shifts))
                        for shift in shifts:
                            self.visit(shift)
                        return
        self.others = True


def _piece(value: Value, axis: int) -> tuple[Value, tuple[int, int] | None]:
    """What `value` is a slice of along `axis` alone, and the slice."""
    op = value.op
    if op is None or op.name != "slice":
        return value, None
    whole, start, stop = op.operands[0], op.attrs["start"], op.attrs["stop"]
    plain = all(step == 1 for step in op.attrs["step"]) and all(
        (start[i], stop[i]) == (0, n) for i, n in enumerate(whole.shape) if i != axis
    )
    return (uncast(whole), (start[axis], stop[axis])) if plain else (value, None)


def _pieces(
    base: Value, axis: int, piece: tuple[int, int] | None
) -> tuple[Value | None, tuple[Value, ...]]:
    """The scores that are weighed, and those that only count in the sum."""
    if piece is None:
        return base, ()
    op = base.op
    if op is None or op.name != "concat" or op.attrs["axis"] != axis:
        return None, ()
    at, found, others = 0, None, []
    for part in op.operands:
        size = part.shape[axis]
        if (at, at + size) == piece:
            found = part
        else:
            others.append(part)
        at = at + size
    few = all(isinstance(part.shape[axis], int) for part in others)
    return (found, tuple(others)) if few else (None, ())


def is_row(value: Value, axis: int) -> bool:
    """Whether `value` is the same along `axis`, being repeated along it."""
    op = uncast(value).op
    return op is not None and op.name == "broadcast" and _misses(op, axis)


def _misses(op: Op, axis: int) -> bool:
    axes: Sequence[int] = op.attrs["axes"]
    return axis not in axes or op.operands[0].shape[list(axes).index(axis)] == 1


def _row(value: Value) -> Value:
    """What is repeated, without the casts around."""
    value = uncast(value)
    if value.op is not None and value.op.name == "broadcast":
        return uncast(value.op.operands[0])
    return value


def uncast(value: Value) -> Value:
    """The value before casts between float dtypes."""
    while value.op is not None and value.op.name == "cast" and value.tensor.dtype.is_float:
        if not value.op.operands[0].tensor.dtype.is_float:
            break
        value = value.op.operands[0]
    return value


def is_splat(value: Value, number: float) -> bool:
    """Whether every element of `value` is the constant `number`."""
    op = value.op
    if op is not None and op.name == "broadcast":
        op = op.operands[0].op
    if op is None or op.name != "constant" or not op.attrs["value"].size:
        return False
    return bool((np.asarray(op.attrs["value"]).astype(np.float64) == number).all())
