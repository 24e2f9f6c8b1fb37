"""What measuring may choose in place of the machine model, per kernel (`graphmill.tuning`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from graphmill.records import record


@record
class Schedule:
    """The choices of one kernel; None leaves one to the machine model.

    Of a matrix product: the register tile (`rows` × `vectors`), the cache blocks (`depth` of k,
    `block` rows of A), whether A is packed (`pack_a`) and how B is read (`b_mode`, see
    `contract.plan.Plan`).
    """

    rows: int | None = None
    vectors: int | None = None
    depth: int | None = None
    block: int | None = None
    pack_a: bool | None = None
    b_mode: str | None = None

    def __str__(self) -> str:
        chosen = {name: value for name, value in asdict(self).items() if value is not None}
        return ", ".join(f"{name}={value}" for name, value in chosen.items()) or "default"

    def as_dict(self) -> dict[str, Any]:
        """The choices that were made, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @staticmethod
    def from_dict(chosen: Mapping[str, Any]) -> Schedule:
        """The schedule that `as_dict` describes; ValueError for anything else."""
        kinds = {"pack_a": bool, "b_mode": str}
        known = {f.name for f in fields(Schedule)}
        for name, value in chosen.items():
            if name not in known or type(value) is not kinds.get(name, int):
                raise ValueError(f"{name}={value!r} is no choice of a schedule")
        return Schedule(**chosen)
