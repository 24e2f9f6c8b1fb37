"""Sizes and places that grow or shrink evenly from turn to turn of a loop: `a[:i]`, `b[i:, j]`.

They become dims of the loop's body, expressions of the number of its turn.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.ir.types import TensorType, Type
from graphmill.records import record

PREFIX = "t"


def prefix_of(function: Function) -> str:
    """What names of turns start with, so that they are nobody else's."""
    taken = {*function.dims, *(str(op.attrs.get("turn")) for op in function.walk())}
    prefix = PREFIX
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    return prefix


def turn_name(ops: Sequence[Op], prefix: str) -> str:
    """The name for the turns of a loop around these ops: numbered by how deep loops lie in it."""
    inner = (name for op in ops for name in _turns(op) if name.startswith(prefix))
    return f"{prefix}{1 + max((int(name.removeprefix(prefix)) for name in inner), default=0)}"


def _turns(op: Op) -> Iterator[str]:
    if "turn" in op.attrs:
        yield op.attrs["turn"]
    for region in op.regions:
        for inner in region.block.ops:
            yield from _turns(inner)


@record
class Sizes:
    """The sizes in an op's attributes and types: of what `form`, and the integers in them."""

    form: Hashable
    numbers: tuple[int, ...]

    @staticmethod
    def of(op: Op) -> Sizes:
        """Those of an op, with all inside its regions."""
        forms: list[Hashable] = [_outline(op)]
        numbers: list[int] = []
        for size in _sizes(op):
            terms = {(): 0} | dict(Dim.of(size).terms)
            forms.append(tuple(terms))
            numbers += terms.values()
        return Sizes(tuple(forms), tuple(numbers))

    def evenly(self, second: Sizes, turn: str) -> Iterator[DimLike]:
        """Each size as it is in turn 0, here, and in turn 1, as a dim of the number of the turn."""
        pairs = zip(self.numbers, second.numbers, strict=True)
        for monomials in self.form[1:]:  # type: ignore[index]
            total: DimLike = 0
            for monomial in monomials:
                total = total + Dim(((monomial, 1),)) * even(*next(pairs), turn)
            yield total


def even(first: int, second: int, turn: str) -> DimLike:
    """The dim that is `first` in turn 0 and grows evenly."""
    return first + (second - first) * Dim.of(turn)


def on_line(first: Sequence[int], second: Sequence[int], later: Sequence[int], turn: int) -> bool:
    """Whether integers of a later turn go on evenly from those of turns 0 and 1."""
    if first == second:
        return later == first
    return all(
        c == a + turn * (b - a) for a, b, c in zip(first, second, later, strict=True)
    )  # fmt: skip


def _outline(op: Op) -> Hashable:
    found = []
    for name in sized(op):
        value = op.attrs[name]
        found.append((name, len(value) if isinstance(value, tuple | list) else -1))
    return tuple(found)


def sized(op: Op) -> list[str]:
    """The attributes of an op that are sizes."""
    return sorted(n for n, kind in op.definition.attrs.items() if kind in ("dim", "dims"))


def _sizes(op: Op) -> list[DimLike]:
    found: list[DimLike] = []
    for name in sized(op):
        value = op.attrs[name]
        found += value if isinstance(value, tuple | list) else [value]
    for result in op.results:
        found += _shape(result.type)
    for region in op.regions:
        found += _inside(region.block)
    return found


def _inside(block: Block) -> list[DimLike]:
    found = [size for arg in block.args for size in _shape(arg.type)]
    for op in block.ops:
        found += _sizes(op)
    return found


def _shape(type: Type) -> tuple[DimLike, ...]:
    return type.shape if isinstance(type, TensorType) else ()


def resize(op: Op, sizes: Iterator[DimLike]) -> None:
    """Put other sizes in the places where `Sizes.of` finds them."""
    for name in sized(op):
        value = op.attrs[name]
        several = isinstance(value, tuple | list)
        op.attrs[name] = tuple(next(sizes) for _ in value) if several else next(sizes)
    for result in op.results:
        _retype(result, sizes)
    for region in op.regions:
        for arg in region.block.args:
            _retype(arg, sizes)
        for inner in region.block.ops:
            resize(inner, sizes)


def _retype(value: Value, sizes: Iterator[DimLike]) -> None:
    if isinstance(value.type, TensorType) and value.type.shape:
        value.type = value.type.with_shape(tuple(next(sizes) for _ in value.type.shape))
