"""Symbolic dimensions: integer polynomials over named dims, with floor division and modulo.

A dim is a plain `int` or a `Dim`. Equal dims have equal canonical forms, so `==` and `hash` work;
`8*batch + 4` prints and parses back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Union

from graphmill.records import record

DimLike = Union[int, "Dim"]


@record
class Quotient:
    """An opaque factor: `floordiv`, `mod`, `max` or `min` of two dims that does not simplify."""

    op: str
    left: Dim
    right: Dim

    def __str__(self) -> str:
        return f"{self.op}({self.left}, {self.right})"

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """Its value when every named dim has the given size."""
        a, b = self.left.evaluate(sizes), self.right.evaluate(sizes)
        if self.op in ("max", "min"):
            return max(a, b) if self.op == "max" else min(a, b)
        return a // b if self.op == "floordiv" else a % b


Factor = str | Quotient
Monomial = tuple[Factor, ...]


@dataclass(frozen=True)
class Dim:
    """A polynomial: `terms` maps a sorted product of factors to its integer coefficient."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def of(value: DimLike | str) -> Dim:
        """A dim for an int, a name, or a dim itself."""
        if isinstance(value, Dim):
            return value
        if isinstance(value, str):
            return Dim((((value,), 1),))
        return Dim((((), int(value)),) if value else ())

    @cached_property
    def names(self) -> frozenset[str]:
        """The named dims it depends on."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for factor in monomial:
                if isinstance(factor, str):
                    found.add(factor)
                else:
                    found |= factor.left.names | factor.right.names
        return frozenset(found)

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """Its value when every named dim has the given size."""
        total = 0
        for monomial, coefficient in self.terms:
            product = coefficient
            for factor in monomial:
                product *= sizes[factor] if isinstance(factor, str) else factor.evaluate(sizes)
            total += product
        return total

    def substitute(self, dims: Mapping[str, DimLike]) -> DimLike:
        """The dim with named dims replaced."""
        total: DimLike = 0
        for monomial, coefficient in self.terms:
            product: DimLike = coefficient
            for factor in monomial:
                if isinstance(factor, str):
                    product = product * dims.get(factor, Dim.of(factor))
                else:
                    left, right = factor.left.substitute(dims), factor.right.substitute(dims)
                    product = product * _apply(factor.op, left, right)
            total = total + product
        return total

    def __add__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return _collect([*self.terms, *Dim.of(other).terms])

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return _collect([(monomial, -c) for monomial, c in self.terms])

    def __sub__(self, other: DimLike) -> DimLike:
        return self + (-other)

    def __rsub__(self, other: DimLike) -> DimLike:
        return (-self) + other

    def __mul__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Dim):
            return NotImplemented
        pairs = [
            (tuple(sorted((*a, *b), key=str)), x * y)
            for a, x in self.terms
            for b, y in Dim.of(other).terms
        ]
        return _collect(pairs)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        return floordiv(self, other)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        return floordiv(other, self)

    def __mod__(self, other: DimLike) -> DimLike:
        return mod(self, other)

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = " + ".join(_term(monomial, c) for monomial, c in self.terms)
        return text.replace("+ -", "- ")

    __repr__ = __str__

    def __index__(self) -> int:
        raise TypeError(f"the symbolic dim {self} has no value while tracing")


def _term(monomial: Monomial, coefficient: int) -> str:
    factors = "*".join(map(str, monomial))
    if not factors:
        return str(coefficient)
    if coefficient == 1:
        return factors
    return f"-{factors}" if coefficient == -1 else f"{coefficient}*{factors}"


def _collect(pairs: Iterable[tuple[Monomial, int]]) -> DimLike:
    """Sum equal monomials, sort (constant last), and fall back to an int when constant."""
    sums: dict[Monomial, int] = {}
    for monomial, coefficient in pairs:
        sums[monomial] = sums.get(monomial, 0) + coefficient
    terms = tuple(sorted(((m, c) for m, c in sums.items() if c), key=_order))
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    return Dim(terms)


def _order(term: tuple[Monomial, int]) -> tuple[bool, str]:
    return (not term[0], "*".join(map(str, term[0])))


def _apply(op: str, a: DimLike, b: DimLike) -> DimLike:
    return {"floordiv": floordiv, "mod": mod, "max": maximum, "min": minimum}[op](a, b)


def _opaque(op: str, a: DimLike, b: DimLike) -> Dim:
    return Dim((((Quotient(op, Dim.of(a), Dim.of(b)),), 1),))


def floordiv(a: DimLike, b: DimLike) -> DimLike:
    """`a // b`, exact where `b` divides every term of `a` (or `b` is a factor of each)."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if b == 0:
        raise ZeroDivisionError(f"floordiv({a}, 0)")
    exact = _divide(Dim.of(a), Dim.of(b))
    if exact is not None:
        return exact
    if isinstance(b, int) and b > 0:
        a = Dim.of(a)
        whole = _collect((m, (c // b) * b) for m, c in a.terms)
        if whole != 0:
            rest = _collect((m, c % b) for m, c in a.terms)
            divided = _divide(Dim.of(whole), Dim.of(b))
            assert divided is not None
            return divided + floordiv(rest, b)
    return _opaque("floordiv", a, b)


def mod(a: DimLike, b: DimLike) -> DimLike:
    """`a % b` with the sign of `b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if b == 0:
        raise ZeroDivisionError(f"mod({a}, 0)")
    if _divide(Dim.of(a), Dim.of(b)) is not None:
        return 0
    return _opaque("mod", a, b)


def maximum(a: DimLike, b: DimLike) -> DimLike:
    """The larger of two dims."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if a == b:
        return a
    return _opaque("max", *sorted((a, b), key=str))


def minimum(a: DimLike, b: DimLike) -> DimLike:
    """The smaller of two dims."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    if a == b:
        return a
    return _opaque("min", *sorted((a, b), key=str))


def _divide(a: Dim, b: Dim) -> DimLike | None:
    """`a / b` when `b` is one monomial that divides every term of `a`; else None."""
    if not a.terms:
        return 0
    if a == b:
        return 1
    if len(b.terms) != 1:
        return None
    (divisor, scale), quotient = b.terms[0], []
    for monomial, coefficient in a.terms:
        rest = list(monomial)
        for factor in divisor:
            if factor not in rest:
                return None
            rest.remove(factor)
        if coefficient % scale:
            return None
        quotient.append((tuple(rest), coefficient // scale))
    return _collect(quotient)


def total(dims: Iterable[DimLike]) -> DimLike:
    """The sum of dims, with `max(a, b) + min(a, b)` as `a + b`: parts make up the whole again.

    Parts that overlap nowhere are such, however long the whole is: of `x[1:]` and `x[:1]` are
    `max(0, n - 1)` and `min(1, n)` elements.
    """
    added: DimLike = 0
    for dim in dims:
        added = added + dim
    while isinstance(added, Dim):
        simpler = _complemented(added)
        if simpler is None:
            break
        added = simpler
    return added


def _complemented(added: Dim) -> DimLike | None:
    """A sum with one `max` and the `min` that goes with it replaced by plain dims; None: none."""
    found = [
        (monomial, c, factor, Dim.of(factor.left - factor.right))
        for monomial, c in added.terms
        for factor in monomial
        if isinstance(factor, Quotient) and factor.op in ("max", "min")
    ]
    for m, c, high, apart in found:
        for n, d, low, distance in found:
            if high.op != "max" or low.op != "min" or c * d <= 0 or _less(m, high) != _less(n, low):
                continue
            if distance not in (apart, -apart):
                continue
            # max(a, b) is the shift more than max(a', b') of the min(a', b')
            shift = high.left - (low.left if distance == apart else low.right)
            whole = low.left + low.right + shift
            count = min(abs(c), abs(d)) * (1 if c > 0 else -1)
            pair = Dim(((m, 1),)) + Dim(((n, 1),))
            return added + count * (whole * Dim(((_less(m, high), 1),)) - pair)
    return None


def _less(monomial: Monomial, factor: Factor) -> Monomial:
    """A product without one of its factors."""
    rest = list(monomial)
    rest.remove(factor)
    return tuple(rest)


def product(dims: Iterable[DimLike]) -> DimLike:
    """The product of dims; 1 for none."""
    return math.prod(dims, start=1)


def evaluate(dim: DimLike, sizes: Mapping[str, int]) -> int:
    """The value of an int or symbolic dim."""
    return dim if isinstance(dim, int) else dim.evaluate(sizes)


def substitute(dim: DimLike, dims: Mapping[str, DimLike]) -> DimLike:
    """`dim` with named dims replaced."""
    return dim if isinstance(dim, int) else dim.substitute(dims)


def at_most(dim: DimLike, limits: Mapping[str, DimLike]) -> DimLike:
    """The greatest value of a dim when each named dim in `limits` is from 0 to its limit.

    Other named dims are sizes, 0 or more, as is every factor of a product of several.
    """
    if isinstance(dim, int) or not dim.names & limits.keys():
        return dim
    total: DimLike = 0
    for monomial, coefficient in dim.terms:
        term: DimLike = coefficient
        for factor in monomial:
            low, high = _range_of(factor, limits)
            term = term * (high if coefficient > 0 else low)
        total = total + term
    return total


def _at_least(dim: DimLike, limits: Mapping[str, DimLike]) -> DimLike:
    return -at_most(-dim, limits)


def _range_of(factor: Factor, limits: Mapping[str, DimLike]) -> tuple[DimLike, DimLike]:
    if isinstance(factor, str):
        return (0, limits[factor]) if factor in limits else (Dim.of(factor), Dim.of(factor))
    a, b = factor.left.substitute({}), factor.right.substitute({})
    lows, highs = (
        (_at_least(a, limits), _at_least(b, limits)),
        (at_most(a, limits), at_most(b, limits)),
    )
    if factor.op in ("max", "min"):
        return _apply(factor.op, *lows), _apply(factor.op, *highs)
    if factor.op == "mod":
        return 0, maximum(highs[1] - 1, 0)
    if lows[1] == highs[1]:  # a quotient by what does not change
        return floordiv(lows[0], lows[1]), floordiv(highs[0], lows[1])
    return minimum(lows[0], 0), maximum(highs[0], 0)


_TOKEN = r"\s*(\d+|[A-Za-z_]\w*|[-+*(),])"


class DimSyntaxError(ValueError):
    """Text that is no dim expression."""


def parse_dim(text: str) -> DimLike:
    """Parse `3`, `batch`, `2*batch + 1`, `floordiv(batch + 1, 2)`, `max(a, b)`."""
    tokens, at, token = [], 0, re.compile(_TOKEN)
    while text[at:].strip():
        match = token.match(text, at)
        if not match:
            raise DimSyntaxError(f"{text!r} is no dim: unexpected {text[at:].strip()[:1]!r}")
        tokens.append(match[1])
        at = match.end()
    value, rest = _sum(tokens, text)
    if rest:
        raise DimSyntaxError(f"{text!r} is no dim: unexpected {rest[0]!r}")
    return value


def _sum(tokens: list[str], text: str) -> tuple[DimLike, list[str]]:
    value, rest = _product(tokens, text)
    while rest and rest[0] in "+-":
        sign = 1 if rest[0] == "+" else -1
        right, rest = _product(rest[1:], text)
        value = value + sign * right
    return value, rest


def _product(tokens: list[str], text: str) -> tuple[DimLike, list[str]]:
    value, rest = _atom(tokens, text)
    while rest and rest[0] == "*":
        right, rest = _atom(rest[1:], text)
        value = value * right
    return value, rest


def _atom(tokens: list[str], text: str) -> tuple[DimLike, list[str]]:
    if not tokens:
        raise DimSyntaxError(f"{text!r} is no dim: it ends too early")
    head, rest = tokens[0], tokens[1:]
    if head == "-":
        value, rest = _atom(rest, text)
        return -value, rest
    if head == "(":
        value, rest = _sum(rest, text)
        return value, _expect(")", rest, text)
    if head.isdigit():
        return int(head), rest
    if head in ("floordiv", "mod", "max", "min") and rest[:1] == ["("]:
        left, rest = _sum(rest[1:], text)
        right, rest = _sum(_expect(",", rest, text), text)
        return _apply(head, left, right), _expect(")", rest, text)
    if not head.isidentifier():
        raise DimSyntaxError(f"{text!r} is no dim: unexpected {head!r}")
    return Dim.of(head), rest


def _expect(token: str, tokens: list[str], text: str) -> list[str]:
    if tokens[:1] != [token]:
        raise DimSyntaxError(f"{text!r} is no dim: {token!r} is missing")
    return tokens[1:]
