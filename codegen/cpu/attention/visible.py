"""Which keys a query can see: bounds on positions, read off the masks in a kernel's block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from graphmill.ir.attention import Attention, elementwise_above
from graphmill.ir.graph import Op, Value
from graphmill.records import record

HIDES = -1e9  # a score that is this, or is lowered by it, is that of a hidden key
_FLIP = {"le": "ge", "ge": "le", "lt": "gt", "gt": "lt"}
_NOT = {"le": "gt", "ge": "lt", "lt": "ge", "gt": "le"}


@record
class Shown:
    """A value that is repeated to the scores' shape: for each axis of the scores its own axis."""

    value: Value
    axes: tuple[int | None, ...]

    def source(self) -> Shown:
        """What a chain of broadcasts repeats."""
        op = self.value.op
        if op is None or op.name != "broadcast":
            return self
        own, source = list(op.attrs["axes"]), op.operands[0]
        below = [own.index(a) if a in own else None for a in self.axes]
        axes = tuple(
            a if a is not None and source.shape[a] != 1 else None for a in below
        )  # a single position is the same for all
        return Shown(source, axes).source()

    def operand(self, number: int) -> Shown:
        """An operand of the elementwise op that computes it."""
        assert self.value.op is not None
        return Shown(self.value.op.operands[number], self.axes).source()


Terms = tuple[tuple[int, Shown], ...]


@record
class Bound:
    """A key is visible only if its position `relation` `slope` * the query's + the terms' sum.

    `test` is the comparison, true (or false, when `negated`) where the key is visible. Terms are
    values, taken at positions 0, with their signs.
    """

    test: Value
    negated: bool
    terms: Terms
    relation: str  # le, lt, ge or gt
    slope: int  # 0 or 1
    fill: float = 0.0  # what a hidden key's score is, or is lowered by


def bounds(found: Attention) -> list[Bound]:
    """The bounds that the scores' masks set; each comparison of positions is one."""
    result: list[Bound] = []
    every = tuple(range(found.scores.tensor.rank))
    for value in elementwise_above(found.scores):
        op = value.op
        if op is None or value.shape != found.scores.shape:
            continue
        if op.name == "select":
            result += _of_select(Shown(value, every), found, scores=True)
        elif op.name == "add":
            for operand in op.operands:
                mask = Shown(operand, every).source()
                if mask.value.op is not None and mask.value.op.name == "select":
                    result += _of_select(mask, found, scores=False)
    return result


def _of_select(shown: Shown, found: Attention, scores: bool) -> Iterator[Bound]:
    """where(visible, x, -inf) or where(hidden, -inf, x); x is scores, or added to them."""
    fills = [_fill(shown.operand(i).value) for i in (1, 2)]
    for visible, fill in ((1, fills[1]), (2, fills[0])):
        assert shown.value.op is not None
        x = shown.value.op.operands[visible]
        kept = _depends(x, found.first) if scores else fills[visible - 1] > HIDES
        if fill <= HIDES and kept:
            for bound in _atoms(shown.operand(0), visible == 2, found):
                yield replace(bound, fill=fill)


def _fill(value: Value) -> float:
    """The least hidden score that a constant stands for; 0 for what is no constant."""
    op = value.op
    if op is None or op.name != "constant" or not op.attrs["value"].size:
        return 0.0
    return float(np.asarray(op.attrs["value"]).astype(np.float64).max())


def _depends(value: Value, on: Op) -> bool:
    return any(v is on.result for v in elementwise_above(value))


def _atoms(shown: Shown, negated: bool, found: Attention) -> Iterator[Bound]:
    """The comparisons that must all hold (none of which may, when negated)."""
    op = shown.value.op
    if op is None:
        return
    if op.name == "not":
        yield from _atoms(shown.operand(0), not negated, found)
    elif op.name == ("or" if negated else "and"):
        yield from _atoms(shown.operand(0), negated, found)
        yield from _atoms(shown.operand(1), negated, found)
    elif op.name in _FLIP:
        yield from _comparison(shown, negated, found)


def _comparison(shown: Shown, negated: bool, found: Attention) -> Iterator[Bound]:
    """A comparison of positions as a bound, or two where an absolute value is below something."""
    op = shown.value.op
    assert op is not None
    relation = _NOT[op.name] if negated else op.name
    a, b = shown.operand(0), shown.operand(1)
    if relation in ("ge", "gt"):
        a, b, relation = b, a, _FLIP[relation]
    sides: list[Terms] = [((1, a), (-1, b))]
    if a.value.op is not None and a.value.op.name == "abs":
        sides = [((sign, a.operand(0)), (-1, b)) for sign in (1, -1)]
    for terms in sides:
        along = _slope(terms, found.keys)
        by = 0 if found.rows is None else _slope(terms, found.rows)
        if along in (1, -1) and by in (0, -along):
            moved = tuple((-along * sign, side) for sign, side in terms)
            turned = relation if along == 1 else _FLIP[relation]
            yield Bound(shown.value, negated, moved, turned, int(by != 0))


def _slope(terms: Terms, axis: int) -> int | None:
    """By how much a sum grows along an axis of the scores; None where that is not known."""
    slopes = [(sign, slope(side, axis)) for sign, side in terms]
    return None if any(by is None for _, by in slopes) else sum(s * (by or 0) for s, by in slopes)


def slope(shown: Shown, axis: int) -> int | None:
    """By how much an integer grows along an axis of the scores; None where that is not known."""
    shown = shown.source()
    op = shown.value.op
    if shown.value.tensor.dtype.kind != "i":
        return None
    if shown.axes[axis] is None:
        return 0
    if op is None:
        return None
    if op.name == "iota":
        return 1 if op.attrs["axis"] == shown.axes[axis] else 0
    if op.name == "cast":
        return slope(shown.operand(0), axis)
    if op.name == "neg":
        by = slope(shown.operand(0), axis)
        return None if by is None else -by
    if op.name in ("add", "sub"):
        a, b = (slope(shown.operand(i), axis) for i in (0, 1))
        if a is None or b is None:
            return None
        return a + b if op.name == "add" else a - b
    return None
