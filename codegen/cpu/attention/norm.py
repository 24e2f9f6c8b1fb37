"""What a query's weighted sums are divided by, from its largest score and its sum.

Kernels weigh values by exp(score - largest). The user may have subtracted something else and
divide by any function of the largest score, of sums of exponentials and of what else a row has.
"""

from __future__ import annotations

from graphmill.codegen.cpu import convert
from graphmill.codegen.cpu.attention.problem import At, Problem
from graphmill.codegen.cpu.contract.elements import resize
from graphmill.codegen.cpu.elem import splat
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.expr import Num, Scope
from graphmill.codegen.cpu.index import Index, Indices, zero
from graphmill.codegen.cpu.math_exp import exp
from graphmill.ir.graph import Value
from graphmill.records import record


def divisor(
    problem: Problem, at: At, row: Index, largest: Val, total: Val, tail: Val | None = None
) -> Val:
    """The divisor of one query's sums, or those of a vector of queries.

    `largest` is that of the scores and `total` the sum of exp(score - largest); where nothing is
    subtracted, the sum of exp(score).
    """
    if problem.found.softmax.plain:
        return total
    with problem.elements.scope(tail):
        return _Row(problem, problem.index(at, row, zero(problem.code)), largest).divisor(total)


@record(frozen=False)
class _Row:
    """What the kernel knows of a row stands in for the reductions that computed it."""

    problem: Problem
    index: Indices
    largest: Val

    def divisor(self, total: Val) -> Val:
        """exp(shifts - largest) * the user's divisor."""
        softmax = self.problem.found.softmax
        extra = [self._value(part, (*self.index[: softmax.axis], Index(self.problem.code.i64(i)),
                                    *self.index[softmax.axis + 1 :]))
                 for part in softmax.extra for i in range(part.shape[softmax.axis])]  # fmt: skip
        top = self._num(self.largest)
        for score in extra:
            top = score.max(top)
        for op in softmax.largest:
            self._know(op.result, top)
        for sum_ in softmax.totals:
            whole = self._num(total) * exp(self._less(self._num(self.largest), sum_.shifts))
            for score in extra:
                whole = whole + exp(self._less(score, sum_.shifts))
            self._know(sum_.op.result, whole)
        by = exp(-self._less(self._num(self.largest), softmax.shifts))
        if softmax.divisor is None:
            return by.val
        return (by * self._value(softmax.divisor, self._place())).val

    def _place(self) -> Indices:
        """Where the user's divisor has its value for the row."""
        found = self.problem.found
        if not found.late:
            return self.index
        place = [zero(self.problem.code)] * found.result.tensor.rank
        for axis, own in enumerate(found.out_axes):
            if own >= 0:
                place[own] = self.index[axis]
        return tuple(place)

    def _less(self, x: Num, shifts: tuple[Value, ...]) -> Num:
        """x with the shifts subtracted, in the user's order."""
        if not self.problem.found.softmax.shifted:
            return x.const(0)
        for shift in shifts:
            x = x - self._value(shift, self.index)
        return x

    def _value(self, value: Value, index: Indices) -> Num:
        code, tile = self.problem.code, self.problem.tile
        found = self.problem.elements.at(value, index)
        assert isinstance(found, Val), "scores are real"
        wide = splat(code, resize(code, found, tile.element), self.largest.lanes)
        assert isinstance(wide, Val)
        return self._num(wide)

    def _know(self, value: Value, number: Num) -> None:
        made = convert.cast(self.problem.code, number.val, self.problem.acc, value.tensor.dtype)
        self.problem.elements.overrides[value] = lambda at, guard: made

    def _num(self, value: Val) -> Num:
        return Num(Scope.of(self.problem.code, self.problem.kernel.target), value)
