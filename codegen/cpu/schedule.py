"""What measuring may choose in place of the machine model, kernel by kernel.

A generator that has a choice says so where it makes it: `choices.pick(name, model, values)` is the
model's value unless another was measured to be better for this kernel. While a search is on
(`graphmill.tuning`), the questions are noted, and they are the space that is searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar

from graphmill.records import record

Value = int | str | tuple[int, ...]  # a bool is an int
T = TypeVar("T", bound=Value)


@record
class Schedule:
    """The choices of one kernel by name, in order; the others are left to the machine model."""

    chosen: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{name}={shown(value)}" for name, value in self.chosen) or "default"

    def get(self, name: str) -> Value | None:
        """The value of a choice, None if it is the model's."""
        return next((value for own, value in self.chosen if own == name), None)

    def with_choice(self, name: str, value: Value | None) -> Schedule:
        """The schedule with another value of one choice; None leaves it to the model."""
        others = tuple((own, kept) for own, kept in self.chosen if own != name)
        return Schedule(others if value is None else tuple(sorted((*others, (name, value)))))

    def as_dict(self) -> dict[str, Any]:
        """The choices, as JSON has them."""
        return {n: list(v) if isinstance(v, tuple) else v for n, v in self.chosen}

    @staticmethod
    def from_dict(chosen: Mapping[str, Any]) -> Schedule:
        """The schedule that `as_dict` describes; ValueError for anything else."""
        return Schedule(tuple(sorted((str(n), _value(n, v)) for n, v in chosen.items())))


def shown(value: Value) -> str:
    """A value as people read it: 6x4 for a tile."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value(name: str, value: object) -> Value:
    if isinstance(value, list) and value and all(type(v) is int for v in value):
        return tuple(value)
    if isinstance(value, int | str):
        return value
    raise ValueError(f"{name}={value!r} is no choice of a schedule")


@record
class Choice:
    """One choice as a generator made it: what the model says, what else is legal, what it took."""

    kernel: str
    name: str
    model: Value
    others: tuple[Value, ...]
    taken: Value


@record(frozen=False)
class Notes:
    """The choices made while code was written, and the user's lines whose kernels asked."""

    choices: dict[tuple[str, str], Choice] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    place: str = ""  # of the kernel being written

    def add(self, choice: Choice) -> None:
        """Note a choice; the one that is made last stands."""
        self.choices[choice.kernel, choice.name] = choice
        self.places.setdefault(choice.kernel, self.place)


@record
class Choices:
    """The choices of one kernel, named by its content, while its code is written."""

    kernel: str = ""
    schedule: Schedule = Schedule()
    notes: Notes | None = None

    def pick(self, name: str, model: T, values: Iterable[T]) -> T:
        """What was measured, if it is one of the legal `values`, else the model's value."""
        if not self.kernel:
            return model
        legal, wanted = tuple(values), self.schedule.get(name)
        taken = next((v for v in legal if v == wanted and type(v) is type(wanted)), model)
        if self.notes is not None:
            others = tuple(v for v in legal if v != model)
            self.notes.add(Choice(self.kernel, name, model, others, taken))
        return taken


UNMEASURED = Choices()  # all are the model's


def described(spec: object) -> str:
    """The fields of a spec, a dataclass, as the text that names its kernel."""
    assert is_dataclass(spec)
    values = (getattr(spec, f.name) for f in fields(spec))
    return " ".join("?" if value is None else shown(value) for value in values)
