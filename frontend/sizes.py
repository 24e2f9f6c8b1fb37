"""Symbolic sizes as users see them: what `x.shape[0]` gives for a dim that a trace keeps open.

A `Size` computes like an int. A comparison is answered where the dim's bounds decide it and is an
error where they do not, for one trace serves all sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from graphmill.frontend import state
from graphmill.frontend.errors import GraphmillError, error, source_text
from graphmill.frontend.locations import site
from graphmill.frontend.turns import dim_of
from graphmill.ir import dims as ir_dims
from graphmill.ir.dims import Dim, DimLike, Quotient
from graphmill.ir.graph import Bounds

if TYPE_CHECKING:
    from graphmill.frontend.tracer import Tracer


class Size:
    """A dim without a number: `batch`, `2*batch + 1`."""

    __slots__ = ("dim",)

    def __init__(self, dim: Dim) -> None:
        self.dim = dim

    def __add__(self, other: Any) -> Any:
        return _arithmetic("__add__", self, other, lambda a, b: a + b)

    def __radd__(self, other: Any) -> Any:
        return _arithmetic("__radd__", self, other, lambda a, b: b + a)

    def __sub__(self, other: Any) -> Any:
        return _arithmetic("__sub__", self, other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return _arithmetic("__rsub__", self, other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Any:
        return _arithmetic("__mul__", self, other, lambda a, b: a * b)

    def __rmul__(self, other: Any) -> Any:
        return _arithmetic("__rmul__", self, other, lambda a, b: b * a)

    def __floordiv__(self, other: Any) -> Any:
        return _arithmetic("__floordiv__", self, other, ir_dims.floordiv)

    def __rfloordiv__(self, other: Any) -> Any:
        return _arithmetic("__rfloordiv__", self, other, lambda a, b: ir_dims.floordiv(b, a))

    def __mod__(self, other: Any) -> Any:
        return _arithmetic("__mod__", self, other, ir_dims.mod)

    def __rmod__(self, other: Any) -> Any:
        return _arithmetic("__rmod__", self, other, lambda a, b: ir_dims.mod(b, a))

    def __neg__(self) -> Any:
        return of(-self.dim)

    def __truediv__(self, other: Any) -> Any:
        return self.traced() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.traced()

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, int) and other >= 1:
            return of(ir_dims.product([self.dim] * other))
        return self.traced() ** other

    def __rpow__(self, other: Any) -> Any:
        return other ** self.traced()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        traced = [i.traced() if isinstance(i, Size) else i for i in inputs]
        return getattr(ufunc, method)(*traced, **kwargs)

    def traced(self) -> Tracer:
        """Its value as a traced Python int."""
        from graphmill.frontend import core

        return core.dim_value(self.dim)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Size | int):
            return False
        return _decide(self, "==", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        return _decide(self, "<", other)

    def __le__(self, other: Any) -> bool:
        return not _decide(self, ">", other)

    def __gt__(self, other: Any) -> bool:
        return _decide(self, ">", other)

    def __ge__(self, other: Any) -> bool:
        return not _decide(self, "<", other)

    def __hash__(self) -> int:
        return hash(self.dim)

    def __bool__(self) -> bool:
        return not _decide(self, "==", 0)

    def __index__(self) -> NoReturn:
        raise no_value(self.dim, "used where Python or NumPy needs a number")

    __int__ = __float__ = __complex__ = __index__

    def __str__(self) -> str:
        return str(self.dim)

    __repr__ = __str__


def of(dim: DimLike) -> Any:
    """An int as it is, a Dim as a `Size`."""
    return Size(dim) if isinstance(dim, Dim) else dim


def as_dim(value: Any) -> DimLike | None:
    """The dim of an int, NumPy integer, `Size`, loop counter or Dim; None for anything else."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | Dim):
        return value
    if isinstance(value, Size):
        return value.dim
    if (counted := dim_of(value)) is not None:
        return counted
    try:
        return int(value.__index__()) if hasattr(value, "dtype") else None
    except TypeError as problem:
        if isinstance(problem, GraphmillError):
            raise
        return None


def no_value(dim: Dim, what: str) -> GraphmillError:
    """The error for a dim that would have to be a number."""
    place = _location()
    loops = place is not None and source_text(place).startswith("range(")
    hint = "use operations that take symbolic sizes (np.zeros(x.shape), np.arange(x.shape[0]), "
    hint += "x.reshape(...)), or make the dim static by leaving it out of dynamic=."
    if loops:
        hint = f"gm.fori_loop(0, {dim}, body, state) counts to a symbolic size, gm.scan goes over "
        hint += "rows; whole-array operations need no loop. Or make the dim static by leaving it "
        hint += "out of dynamic=."
    problem = error(
        "GM005",
        f"{dim} is {what}",
        location=place,
        why=f"one compilation serves all sizes of {dim}, so it has no number while tracing.",
        hint=hint,
    )
    return state.refused(problem)


def _location() -> Any:
    found = site()
    return found.location if found else None


def _arithmetic(name: str, a: Size, b: Any, function: Any) -> Any:
    if isinstance(b, Size):
        return of(function(a.dim, b.dim))
    if isinstance(b, int) and not isinstance(b, bool):
        return of(function(a.dim, b))
    if isinstance(b, float | complex):
        return getattr(a.traced(), name)(b)
    return NotImplemented


def _decide(a: Size, relation: str, b: Any) -> bool:
    other = as_dim(b)
    if other is None:
        raise no_value(a.dim, f"compared with {b!r}")
    answer = compare(a.dim, relation, other, _bounds())
    if answer is None:
        problem = error(
            "GM005",
            f"{a.dim} {relation} {other} is not decided",
            location=_location(),
            why=f"some sizes of {a.dim} within its bounds give True, others False.",
            hint="give the dim bounds, for example gm.spec('f32[batch, 8]', batch=(2, 64)); choose "
            "at run time with np.where or gm.cond; or make the dim static.",
        )
        raise state.refused(problem)
    return answer


def _bounds() -> Mapping[str, Bounds]:
    return state.current().trace.bounds if state.tracing() else {}


def compare(a: DimLike, relation: str, b: DimLike, bounds: Mapping[str, Bounds]) -> bool | None:
    """Whether `a relation b` (`==`, `<`, `>`) for all sizes, for none (False), or None."""
    answer = _sign(interval(a - b, bounds), relation)
    return _sign(interval(_undivided(a - b), bounds), relation) if answer is None else answer


def _sign(limits: tuple[int | None, int | None], relation: str) -> bool | None:
    """Whether a number between the limits is in the relation to 0."""
    low, high = limits
    if relation == ">":
        if low is not None and low > 0:
            return True
        return False if high is not None and high <= 0 else None
    if relation == "<":
        if high is not None and high < 0:
            return True
        return False if low is not None and low >= 0 else None
    if low == high == 0:
        return True
    apart = (low is not None and low > 0) or (high is not None and high < 0)
    return False if apart else None


def _undivided(dim: DimLike) -> DimLike:
    """A positive multiple of the dim in which `n // 4` is `(n - n % 4) / 4`: it has the sign."""
    if isinstance(dim, int):
        return dim
    found = [[f for f in m if isinstance(f, Quotient) and _is_division(f)] for m, _ in dim.terms]
    scale = math.lcm(*(f[0].right.evaluate({}) for f in found if f))
    total: DimLike = 0
    for (monomial, coefficient), divisions in zip(dim.terms, found, strict=True):
        term: DimLike = coefficient * scale
        factors = list(monomial)
        if divisions:
            by = divisions[0].right.evaluate({})
            left = divisions[0].left.substitute({})
            factors.remove(divisions[0])
            term = coefficient * (scale // by) * (left - ir_dims.mod(left, by))
        for factor in factors:
            term = term * Dim((((factor,), 1),))
        total = total + term
    return total


def _is_division(quotient: Quotient) -> bool:
    number = not quotient.right.names
    return quotient.op == "floordiv" and number and quotient.right.evaluate({}) > 0


def interval(dim: DimLike, bounds: Mapping[str, Bounds]) -> tuple[int | None, int | None]:
    """The least and greatest value of a dim; None where there is no limit."""
    if isinstance(dim, int):
        return dim, dim
    low: int | None = 0
    high: int | None = 0
    for monomial, coefficient in dim.terms:
        least: int | None = coefficient
        most: int | None = coefficient
        for factor in monomial:
            least, most = _times((least, most), _factor(factor, bounds))
        low = None if low is None or least is None else low + least
        high = None if high is None or most is None else high + most
    return low, high


def _factor(factor: str | Quotient, bounds: Mapping[str, Bounds]) -> tuple[int | None, int | None]:
    if isinstance(factor, str):
        known = bounds.get(factor, Bounds())
        return known.low, known.high
    a, b = interval(factor.left, bounds), interval(factor.right, bounds)
    if factor.op in ("max", "min"):
        pick = max if factor.op == "max" else min
        either = [x for x in (a[0], b[0]) if x is not None]
        upper = [x for x in (a[1], b[1]) if x is not None]
        low = pick(either) if len(either) == 2 or (either and factor.op == "max") else None
        high = pick(upper) if len(upper) == 2 or (upper and factor.op == "min") else None
        return low, high
    if factor.op == "mod" and b[0] is not None and b[0] > 0:
        return 0, None if b[1] is None else b[1] - 1
    if b[0] is not None and b[0] > 0 and b[0] == b[1]:
        by = b[0]
        return (None if a[0] is None else a[0] // by, None if a[1] is None else a[1] // by)
    return None, None


def _times(
    a: tuple[int | None, int | None], b: tuple[int | None, int | None]
) -> tuple[int | None, int | None]:
    """The interval of products; exact for the signs that sizes have."""
    if None not in (*a, *b):
        corners = [x * y for x in a for y in b]  # type: ignore[operator]
        return min(corners), max(corners)
    if b[0] is not None and b[0] >= 0:
        if a[0] is not None and a[0] >= 0:
            most = None if a[1] is None or b[1] is None else a[1] * b[1]
            return a[0] * b[0], most
        if a[1] is not None and a[1] <= 0:
            least = None if a[0] is None or b[1] is None else a[0] * b[1]
            return least, a[1] * b[0]
    return None, None


def maximum(a: DimLike, b: DimLike) -> DimLike:
    """The larger of two dims, simplified by the dims' bounds and through nested maxima."""
    bounds = _bounds()
    if compare(a, "<", b, bounds) is False:
        return a
    if compare(a, ">", b, bounds) is False:
        return b
    for first, second in ((a, b), (b, a)):
        found = _inner_max(first)
        if found is not None:
            left, right, rest = found
            return maximum(left + rest, maximum(right + rest, second))
    return ir_dims.maximum(a, b)


def _inner_max(dim: DimLike) -> tuple[DimLike, DimLike, int] | None:
    """`(p, q, c)` when the dim is `max(p, q) + c` with one of p and q a number."""
    if isinstance(dim, int):
        return None
    inner = [m for m, c in dim.terms if m]
    rest = sum(c for m, c in dim.terms if not m)
    coefficients = [c for m, c in dim.terms if m]
    if coefficients != [1] or len(inner[0]) != 1 or not isinstance(inner[0][0], Quotient):
        return None
    factor = inner[0][0]
    if factor.op != "max":
        return None
    left, right = factor.left.substitute({}), factor.right.substitute({})
    return (left, right, rest) if isinstance(left, int) or isinstance(right, int) else None


def minimum(a: DimLike, b: DimLike) -> DimLike:
    """The smaller of two dims, simplified by the dims' bounds."""
    bounds = _bounds()
    if compare(a, "<", b, bounds) is False:
        return b
    if compare(a, ">", b, bounds) is False:
        return a
    return ir_dims.minimum(a, b)
