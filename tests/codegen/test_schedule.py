"""Choices: what is measured is taken where it is legal, and what is asked is noted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from graphmill.codegen.cpu.schedule import UNMEASURED, Choices, Notes, Schedule, described
from graphmill.codegen.cpu.target import target

TARGET = target("x86-64-v4")


def test_the_model_decides_where_nothing_was_measured() -> None:
    assert TARGET.choices(lambda: pytest.fail("a name that nobody needs")) is UNMEASURED
    assert UNMEASURED.pick("tile", (6, 4), [(8, 2)]) == (6, 4)


@pytest.mark.parametrize(
    ("measured", "taken"),
    [((8, 2), (8, 2)), ((9, 9), (6, 4)), (8, (6, 4)), (None, (6, 4)), ("8x2", (6, 4))],
)
def test_what_was_measured_is_taken_if_it_is_legal(measured: Any, taken: tuple[int, int]) -> None:
    schedule = Schedule().with_choice("tile", measured)
    machine = replace(TARGET, schedules=(("other", Schedule()), ("k", schedule)))
    assert machine.choices(lambda: "k").pick("tile", (6, 4), [(6, 4), (8, 2)]) == taken
    assert machine.choices(lambda: "third").pick("tile", (6, 4), [(8, 2)]) == (6, 4)


def test_a_truth_value_is_no_number() -> None:
    choices = Choices("k", Schedule((("keep", 1),)))
    assert choices.pick("keep", False, (True, False)) is False


def test_choices_are_noted() -> None:
    notes = Notes(place="f.py:3")
    machine = replace(TARGET, notes=notes, schedules=(("k", Schedule((("depth", 256),))),))
    machine.choices(lambda: "k").pick("depth", 512, (128, 256, 512))
    (choice,) = notes.choices.values()
    assert (choice.model, choice.others, choice.taken) == (512, (128, 256), 256)
    assert notes.places == {"k": "f.py:3"}
    assert machine == replace(machine, notes=None) and hash(machine) == hash(replace(machine))


def test_text_of_a_schedule() -> None:
    schedule = Schedule().with_choice("tile", (8, 1)).with_choice("pack_a", False)
    assert str(schedule) == "pack_a=False, tile=8x1" and str(Schedule()) == "default"
    assert Schedule.from_dict(schedule.as_dict()) == schedule
    assert schedule.with_choice("tile", None).chosen == (("pack_a", False),)


@pytest.mark.parametrize("wrong", [{"tile": []}, {"tile": [1, "2"]}, {"depth": 1.5}, {"x": None}])
def test_what_is_no_schedule(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no choice of a schedule"):
        Schedule.from_dict(wrong)


def test_every_field_names_a_kernel() -> None:
    assert described(Choices("k", Schedule())) == "k default ?"
