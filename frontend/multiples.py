"""Symbolic sizes that must be multiples of a number: `x.reshape(-1, 4)` of `n` elements.

The first run of a function finds the need; it is run once more with `4*n_div4` in place of `n`, so
that every size it computes is exact, and a call with another size is refused before it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from graphmill.frontend import state
from graphmill.frontend.errors import GraphmillError, error
from graphmill.frontend.locations import site
from graphmill.frontend.spec import Spec
from graphmill.ir.dims import Dim, DimLike, Quotient, substitute
from graphmill.ir.graph import Bounds, Location
from graphmill.records import record


@record
class Multiple:
    """What a dim must be a multiple of, and the user's line that needs it."""

    factor: int
    location: Location | None

    def part(self, name: str) -> str:
        """The name of the dim that counts how many times."""
        return f"{name}_div{self.factor}"


def need(total: DimLike, by: DimLike) -> None:
    """Note that `total` elements must divide by `by`, where one dim's multiples see to that."""
    left, right = Dim.of(total).terms, Dim.of(by).terms
    if len(left) != 1 or len(right) != 1 or not state.tracing():
        return
    (factors, many), (divisors, count) = left[0], right[0]
    rest = list(factors)
    for divisor in divisors:
        if divisor not in rest:
            return
        rest.remove(divisor)
    name = next((f for f in rest if isinstance(f, str)), None)
    if name is not None and count > 0 and count // math.gcd(many, count) > 1:
        _note(name, count // math.gcd(many, count))


def need_exact(dims: Sequence[DimLike]) -> None:
    """Note that each `n // k` in a shape must be exact."""
    for quotient in _quotients(dims):
        if quotient.op == "floordiv" and len(quotient.right.names) == 0:
            need(quotient.left.substitute({}), quotient.right.substitute({}))


def _quotients(dims: Sequence[DimLike]) -> Iterator[Quotient]:
    for dim in dims:
        for monomial, _ in dim.terms if isinstance(dim, Dim) else ():
            yield from (f for f in monomial if isinstance(f, Quotient))


def _note(name: str, factor: int) -> None:
    found = state.current().trace.multiples
    place = site()
    known = found.get(name)
    both = math.lcm(factor, known.factor) if known is not None else factor
    found[name] = Multiple(both, place.location if place else None)


def merged(needed: Mapping[str, Multiple], more: Mapping[str, Multiple]) -> dict[str, Multiple]:
    """The needs of the runs before and of the last one, which saw `n_div2` in place of `n`."""
    parts = {m.part(name): (name, m) for name, m in needed.items()}
    found = dict(needed)
    for name, m in more.items():
        whole, known = parts.get(name, (name, Multiple(1, None)))
        found[whole] = Multiple(known.factor * m.factor, m.location)
    return found


def applied(specs: Sequence[Spec], needed: Mapping[str, Multiple]) -> tuple[Spec, ...]:
    """The specs with `4*n_div4` for each `n` that must be a multiple of 4."""
    dims = {name: m.factor * Dim.of(m.part(name)) for name, m in needed.items()}
    made = []
    for one in specs:
        bounds = []
        for name, limits in one.bounds:
            m = needed.get(name)
            if m is not None:
                high = None if limits.high is None else limits.high // m.factor
                name, limits = m.part(name), Bounds(-(-limits.low // m.factor), high)
            bounds.append((name, limits))
        shape = tuple(substitute(d, dims) for d in one.shape)
        type = replace(one.type, shape=shape)
        made.append(replace(one, type=type, bounds=tuple(bounds)))
    return tuple(made)


def misfit(
    specs: Sequence[Spec], shapes: Sequence[Sequence[int]], needed: Mapping[str, Multiple]
) -> GraphmillError | None:
    """GM017 for the first axis whose size is no multiple of what the function needs."""
    for one, shape in zip(specs, shapes, strict=True):
        for axis, (dim, size) in enumerate(zip(one.shape, shape, strict=True)):
            for name, m in needed.items():
                if dim == m.factor * Dim.of(m.part(name)) and size % m.factor:
                    return error(
                        "GM017", f"{name} is {size}, no multiple of {m.factor}",
                        location=m.location,
                        why=f"this line takes the {name} elements of axis {axis} in groups of "
                        f"{m.factor}.",
                        hint=f"pad the array to a multiple of {m.factor}, or cut it to one.",
                    )  # fmt: skip
    return None
