"""Equations between elementwise expressions: tracing them, matching one side, building the other.

A rule's sides are plain Python functions of `Term`s; the parameters are its variables. Variables
called `c` and `d` match constants only; numbers match constants of that value (+0 is not -0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Value
from graphmill.ir.ops.base import lookup
from graphmill.passes.cse import COMMUTATIVE
from graphmill.records import record

Number = bool | int | float
CONSTANTS = ("c", "d")
SPLAT = "#"  # the head of a constant, or of a broadcast of one


@record
class Term:
    """A variable (`op` empty, `name` set), a number, or an op applied to terms."""

    op: str = ""
    args: tuple[Term, ...] = ()
    name: str = ""
    number: Number | None = None

    def __add__(self, other: Operand) -> Term:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Term:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Term:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Term:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Term:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Term:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Term:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Term:
        return apply("div", other, self)

    def __pow__(self, other: Operand) -> Term:
        return apply("pow", self, other)

    def __neg__(self) -> Term:
        return apply("neg", self)

    def __invert__(self) -> Term:
        return apply("not", self)

    def __str__(self) -> str:
        if self.name:
            return self.name
        return f"{self.op}({', '.join(map(str, self.args))})" if self.op else str(self.number)


Operand = Term | Number


def apply(op: str, *args: Operand) -> Term:
    """An op applied to terms and numbers."""
    terms = tuple(a if isinstance(a, Term) else Term(number=a) for a in args)
    assert len(terms) == len(lookup(op).operands), f"{op} takes {lookup(op).operands}"
    return Term(op, terms)


@record
class Rule:
    """`left` may be replaced by `right`, for variables of the given dtype kinds.

    `ulps` 0 means the same bits (whatever the NaN); up to 4, the same special values and finite
    values within that distance. Rules with `fast` change more and are only used on request.
    """

    name: str
    left: Term
    right: Term
    kinds: str = "biufc"
    ulps: int = 0
    fast: bool = False
    variables: tuple[str, ...] = ()
    heads: tuple[str, ...] = field(default=(), repr=False)  # what each operand must be, if anything

    def may_match(self, heads: Sequence[str]) -> bool:
        """Whether the operands of an op look right from outside, in some order."""
        if all(not mine or mine == head for mine, head in zip(self.heads, heads, strict=True)):
            return True
        return self.left.op in COMMUTATIVE and all(
            not mine or mine == head for mine, head in zip(self.heads, reversed(heads), strict=True)
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.left} = {self.right}"


def make_rule(
    name: str,
    left: Callable[..., Term],
    right: Callable[..., Operand],
    kinds: str = "biufc",
    ulps: int = 0,
    fast: bool = False,
) -> Rule:
    """Trace both sides of an equation."""
    code = left.__code__
    names = code.co_varnames[: code.co_argcount]
    variables = [Term(name=n) for n in names]
    result = right(*variables)
    result = result if isinstance(result, Term) else Term(number=result)
    pattern = left(*variables)
    heads = tuple(
        SPLAT if t.number is not None or t.name in CONSTANTS else t.op for t in pattern.args
    )
    return Rule(name, pattern, result, kinds, ulps, fast, names, heads)


Bindings = dict[str, Value]


def head(value: Value) -> str:
    """What a value is at first sight: the name of its op, or `SPLAT`."""
    if value.op is None:
        return "%"
    return SPLAT if splat_of(value) is not None else value.op.name


def match(term: Term, value: Value, bound: Bindings) -> bool:
    """Whether `value` has the form of `term`; extends `bound` (which is spoilt on failure)."""
    if term.name:
        if term.name in bound:
            return bound[term.name] is value
        if term.name in CONSTANTS and splat_of(value) is None:
            return False
        bound[term.name] = value
        return True
    if term.number is not None:
        return _is_number(term.number, value)
    op = value.op
    return op is not None and op.name == term.op and match_operands(term, op.operands, bound)


def match_operands(term: Term, operands: Sequence[Value], bound: Bindings) -> bool:
    """Match the arguments of an applied term, in either order for commutative ops."""
    saved = dict(bound)
    if all(match(t, v, bound) for t, v in zip(term.args, operands, strict=True)):
        return True
    if term.op not in COMMUTATIVE:
        return False
    bound.clear()
    bound.update(saved)
    return all(match(t, v, bound) for t, v in zip(term.args, reversed(operands), strict=True))


def splat_of(value: Value) -> np.ndarray[Any, Any] | None:
    """The scalar (rank 0) that a constant, or a broadcast of one, repeats; else None."""
    op = value.op
    while op is not None and op.name == "broadcast":
        op = op.operands[0].op
    if op is None or op.name != "constant" or op.attrs["value"].size != 1:
        return None
    array: np.ndarray[Any, Any] = op.attrs["value"].reshape(())
    return array


def _is_number(number: Number, value: Value) -> bool:
    scalar = splat_of(value)
    if scalar is None:
        return False
    wanted = np.asarray(number).astype(scalar.dtype)
    return wanted == number and wanted.tobytes() == scalar.tobytes()


def build(term: Term, bound: Bindings, like: Value, builder: Builder) -> Value:
    """The value of a term; numbers take the type of `like`."""
    if term.name:
        return bound[term.name]
    if term.number is not None:
        return builder.full(like.shape, term.number, like.tensor.dtype)
    args: list[Value | None] = [
        None if t.number is not None else build(t, bound, like, builder) for t in term.args
    ]
    model = next((a for a in args if a is not None), like)
    return builder.op(
        term.op,
        *(
            a if a is not None else build(t, bound, model, builder)
            for a, t in zip(args, term.args, strict=True)
        ),
    )
