"""Schedules of products: every choice gives NumPy's result, and none that is illegal is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphmill.codegen.cpu.contract.plan import make_plan
from graphmill.codegen.cpu.contract.space import Product, coordinates, name_of, tiles
from graphmill.codegen.cpu.contract.spec import GemmSpec
from graphmill.codegen.cpu.schedule import Schedule
from graphmill.codegen.cpu.target import Target, target
from graphmill.ir.dtypes import bf16, dtype, f32, i32

Gemm = Callable[..., np.ndarray[Any, Any]]
LARGE = GemmSpec(f32, f32, f32, f32, 1024, 1024, 1024)


def with_schedule(machine: Target, spec: GemmSpec, schedule: Schedule) -> Target:
    return replace(machine, schedules=((name_of(spec), schedule),))


def points(spec: GemmSpec, machine: Target) -> Iterator[Schedule]:
    """Schedules that have every value of every coordinate between them."""
    tile = make_plan(spec, machine, units=True).tile
    axes = list(coordinates(Product(spec), machine, tile))
    for turn in range(max(map(len, axes))):
        chosen: dict[str, Any] = {}
        for axis in axes:
            chosen |= axis[turn % len(axis)].as_dict()
        yield Schedule(**chosen)


CASES = {
    "native": GemmSpec(f32, f32, f32, f32, 29, 101, 300),
    "native bf16": GemmSpec(bf16, bf16, f32, f32, 15, 70, 141),
    "native i8": GemmSpec(dtype("i8"), dtype("i8"), i32, i32, 15, 70, 141, b_order="col"),
    "x86-64-v3": GemmSpec(f32, f32, f32, f32, 14, 37, 260, "col", "strided", batch=3),
    "x86-64-v2": GemmSpec(f32, f32, f32, f32, 9, 23, 140),
}


@pytest.mark.parametrize("case", CASES)
def test_every_choice_gives_the_product(case: str, gemm: Gemm) -> None:
    spec, machine = CASES[case], target(case.split()[0])
    a, b = operands(spec)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    fewer = 1 if spec.a is f32 else 3
    for number, schedule in enumerate([*points(spec, machine)][::fewer]):
        chosen = with_schedule(machine, spec, schedule)
        got = gemm(spec, a, b, workers=1 + number % 2, target=chosen)
        scale = 1e-6 if spec.acc.is_float else 0
        np.testing.assert_allclose(
            got, wanted, rtol=0, atol=scale * abs(wanted).max(), err_msg=str(schedule)
        )


def operands(spec: GemmSpec) -> list[np.ndarray[Any, Any]]:
    assert spec.m and spec.n and spec.k and spec.batch
    rng = np.random.default_rng(0)
    made = []
    for rows, columns, of, order in (
        (spec.m, spec.k, spec.a, spec.a_order), (spec.k, spec.n, spec.b, spec.b_order),
    ):  # fmt: skip
        shape = (spec.batch, rows, columns) if spec.batch > 1 else (rows, columns)
        wide = np.zeros((*shape[:-2], 2 * rows, 2 * columns), of.numpy)
        values = wide[..., ::2, ::2] if order == "strided" else np.zeros(shape, of.numpy)
        if order == "col":
            values = np.zeros((*shape[:-2], columns, rows), of.numpy).swapaxes(-1, -2)
        whole = rng.integers(-128, 128, shape)
        values[...] = whole if of.is_integer else rng.standard_normal(shape)
        made.append(values)
    return made


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_tiles_fit_the_registers(name: str) -> None:
    machine = target(name)
    found = list(tiles(machine))
    model = make_plan(LARGE, machine).tile
    assert (model.rows, model.vectors) in found
    assert all(r * v + v + 1 <= machine.registers for r, v in found)


def test_a_schedule_is_taken_by_its_kernel_only() -> None:
    machine = target("x86-64-v4")
    schedule = Schedule(rows=8, vectors=2, depth=128, block=96, pack_a=True, b_mode="group")
    chosen = with_schedule(machine, LARGE, schedule)
    plan = make_plan(LARGE, chosen)
    assert (plan.tile.rows, plan.tile.vectors, plan.blocks.k, plan.blocks.rows) == (8, 2, 128, 96)
    assert plan.pack_a and plan.b_mode == "group"
    other = replace(LARGE, m=1000)
    assert make_plan(other, chosen) == make_plan(other, machine)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(rows=31, vectors=9), Schedule(rows=8), Schedule(depth=7), Schedule(b_mode="none"),
        Schedule(block=-5),
    ],
)  # fmt: skip
def test_illegal_choices_are_left_to_the_model(schedule: Schedule) -> None:
    machine = target("x86-64-v4")
    plan, model = (make_plan(LARGE, m) for m in (with_schedule(machine, LARGE, schedule), machine))
    assert plan == replace(model, blocks=plan.blocks)
    assert plan.blocks.rows >= plan.tile.rows and plan.blocks.k == model.blocks.k


def test_direct_reading_needs_plain_rows() -> None:
    spec = replace(LARGE, b_order="strided", a_order="strided")
    schedule = Schedule(b_mode="direct", pack_a=False)
    chosen = with_schedule(target("x86-64-v4"), spec, schedule)
    assert make_plan(spec, chosen) == make_plan(spec, target("x86-64-v4"))


def test_text_of_a_schedule() -> None:
    schedule = Schedule(rows=8, vectors=1, pack_a=False)
    assert str(schedule) == "rows=8, vectors=1, pack_a=False" and str(Schedule()) == "default"
    assert Schedule.from_dict(schedule.as_dict()) == schedule
    for wrong in ({"rows": "8"}, {"pack_a": 1}, {"speed": 3}):
        with pytest.raises(ValueError, match="is no choice of a schedule"):
            Schedule.from_dict(wrong)
