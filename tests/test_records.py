"""Records behave as the dataclasses that they stand for."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, astuple, dataclass, field, fields, replace
from functools import partial
from typing import Any

import pytest

from graphmill.records import record


def point(decorate: Callable[[type], type]) -> Any:
    @decorate
    class Point:
        x: int
        y: int = 2
        tags: list[str] = field(default_factory=list, compare=False)
        size: int = field(init=False, repr=False, default=0)

    return Point


KINDS = {
    "frozen": (record, dataclass(frozen=True, slots=True)),
    "mutable": (record(frozen=False), dataclass(slots=True)),
    "identical": (record(eq=False), dataclass(frozen=True, slots=True, eq=False)),
}


def outcome(of: Callable[[], Any]) -> Any:
    try:
        return of()
    except (AttributeError, TypeError) as error:
        return type(error)


USES: dict[str, Callable[[Any], Any]] = {
    "repr": lambda P: repr(P(1)).rpartition(".")[2],
    "by name": lambda P: astuple(P(y=3, x=1)),
    "by place and name": lambda P: astuple(P(1, tags=["a"])),
    "replace": lambda P: astuple(replace(P(1), y=5)),
    "asdict": lambda P: asdict(P(1, 2, ["a"])),
    "fields": lambda P: [f.name for f in fields(P)],
    "equal": lambda P: P(1, 2, ["a"]) == P(1, 2),
    "unequal": lambda P: P(1) != P(2),
    "equal to its values": lambda P: P(1) == (1, 2),
    "of another class": lambda P: P(1) == point(record)(1),
    "hash": lambda P: len({P(1): 1, P(1, 2, ["a"]): 2}),
    "default of its own": lambda P: P(1).tags is P(1).tags,
    "too few": lambda P: P(),
    "too many": lambda P: P(1, 2, [], 4),
    "twice": lambda P: P(1, x=2),
    "unknown": lambda P: P(1, z=2),
    "no argument": lambda P: P(1, size=2),
    "set": lambda P: setattr(P(1), "x", 2),
    "delete": lambda P: delattr(P(1), "x"),
    "no dict": lambda P: P(1).__dict__,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_does_what_a_dataclass_does(kind: str, use: str) -> None:
    ours, theirs = (outcome(partial(USES[use], point(decorate))) for decorate in KINDS[kind])
    assert ours == theirs


def test_post_init_inheritance_and_own_methods() -> None:
    @record
    class Base:
        x: int
        double: int = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "double", 2 * self.x)

    @record
    class Child(Base):
        y: int

        def __repr__(self) -> str:
            return f"<{self.x} {self.y}>"

    made = Child(3, 4)
    assert (made.double, repr(made), made == Child(3, 4)) == (6, "<3 4>", True)
    with pytest.raises(FrozenInstanceError):
        made.y = 5  # type: ignore[misc]
