"""Schedules of products: every choice gives NumPy's result, and none that is illegal is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphmill.codegen.cpu.contract.plan import make_plan
from graphmill.codegen.cpu.contract.space import tiles
from graphmill.codegen.cpu.contract.spec import GemmSpec
from graphmill.codegen.cpu.schedule import Notes, Schedule
from graphmill.codegen.cpu.target import Target, target
from graphmill.ir.dtypes import bf16, dtype, f32, i32

Gemm = Callable[..., np.ndarray[Any, Any]]
LARGE = GemmSpec(f32, f32, f32, f32, 1024, 1024, 1024)


def noted(spec: GemmSpec, machine: Target) -> Notes:
    """The choices that a product's plan makes."""
    notes = Notes()
    make_plan(spec, replace(machine, notes=notes), units=True)
    return notes


def with_schedule(machine: Target, spec: GemmSpec, **chosen: Any) -> Target:
    ((kernel, _), *_) = noted(spec, machine).choices
    schedule = Schedule(tuple(sorted(chosen.items())))
    return replace(machine, schedules=((kernel, schedule),))


def points(spec: GemmSpec, machine: Target) -> Iterator[dict[str, Any]]:
    """Schedules that have every value of every choice between them."""
    axes = [
        [(choice.name, value) for value in (choice.model, *choice.others)]
        for choice in noted(spec, machine).choices.values()
    ]
    for turn in range(max(map(len, axes))):
        yield dict(axis[turn % len(axis)] for axis in axes)


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
    fewer = 3 if spec.a is f32 else 5
    for number, schedule in enumerate([*points(spec, machine)][::fewer]):
        chosen = with_schedule(machine, spec, **schedule)
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
    chosen = with_schedule(
        machine, LARGE, tile=(8, 2), depth=128, block=96, pack_a=True, b_mode="group"
    )
    plan = make_plan(LARGE, chosen)
    assert (plan.tile.rows, plan.tile.vectors, plan.blocks.k, plan.blocks.rows) == (8, 2, 128, 96)
    assert plan.pack_a and plan.b_mode == "group"
    other = replace(LARGE, m=1000)
    assert make_plan(other, chosen) == make_plan(other, machine)


@pytest.mark.parametrize(
    "schedule",
    [
        {"tile": (31, 9)}, {"tile": (8, 8)}, {"tile": (8,)}, {"depth": 7}, {"b_mode": "none"},
        {"block": -5}, {"pack_a": 1}, {"speed": 3},
    ],
)  # fmt: skip
def test_illegal_choices_are_left_to_the_model(schedule: dict[str, Any]) -> None:
    machine = target("x86-64-v4")
    chosen = with_schedule(machine, LARGE, **schedule)
    assert make_plan(LARGE, chosen) == make_plan(LARGE, machine)


def test_direct_reading_needs_plain_rows() -> None:
    spec = replace(LARGE, b_order="strided", a_order="strided")
    machine = target("x86-64-v4")
    chosen = with_schedule(machine, spec, b_mode="direct", pack_a=False)
    assert make_plan(spec, chosen) == make_plan(spec, machine)


@pytest.mark.parametrize(
    ("m", "n", "k", "vectors"),
    # one whole panel; two; a part of one; a single tile of rows
    [(64, 64, 4096, 4), (32, 64, 8192, 4), (64, 256, 4096, 3), (64, 32, 4096, 2), (8, 64, 4096, 2)],
)
def test_few_deep_rows_have_narrow_tiles_unless_b_is_one_panel(
    m: int, n: int, k: int, vectors: int, gemm: Gemm
) -> None:
    spec = GemmSpec(f32, f32, f32, f32, m, n, k)
    machine = replace(target("x86-64-v4"), l1=48 << 10, l2=2 << 20)
    assert make_plan(spec, machine).tile.vectors == vectors
    a, b = operands(spec)
    assert np.allclose(gemm(spec, a, b), a @ b, atol=1e-5 * k**0.5)
