"""Winograd convolutions against the plain op's reference: forms, targets, threads, errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from graphmill import driver
from graphmill.codegen import toom_cook
from graphmill.codegen.cpu import blocked_convolution
from graphmill.codegen.cpu.convolve import winograd_plan
from graphmill.codegen.cpu.convolve.blocked_spec import BlockedSpec, direct_cost
from graphmill.codegen.cpu.convolve.winograd_plan import (
    cost,
    even_parts,
    fastest,
    obstacle,
    ways_of,
)
from graphmill.codegen.cpu.target import Target, target
from graphmill.ir.builder import Builder, function
from graphmill.ir.dtypes import dtype, f16, f32
from graphmill.ir.graph import Value
from graphmill.ir.ops.blocked import blocked, blocked_weights, unblocked
from graphmill.ir.ops.contract import CONV
from graphmill.ir.types import tensor
from graphmill.passes.manager import run_pipeline
from graphmill.runtime.executable import Executable

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
TILES = (2, 4)


@dataclass(frozen=True)
class Case:
    """A 3 × 3 convolution; `low` and `high` pad, `block` is the result's, `lines` and `parts` cut
    the work (0 and 1: all at once)."""

    channels: int
    filters: int
    sizes: tuple[int, int]
    low: tuple[int, int] = (1, 1)
    high: tuple[int, int] = (1, 1)
    block: int = 16
    of: str = "f32"
    constant: bool = True
    lines: int = 0
    parts: int = 1
    plain: bool = False  # x, not in blocks

    @property
    def width(self) -> int:
        return 64 // dtype(self.of).itemsize

    @property
    def attrs(self) -> dict[str, Any]:
        return {"strides": (1, 1), "low": self.low, "high": self.high, "dilation": (1, 1)}


CASES = {
    "same": Case(32, 32, (12, 12)),
    "odd": Case(20, 24, (9, 11)),
    "odd-blocks": Case(33, 48, (13, 7)),
    "valid": Case(16, 32, (10, 14), low=(0, 0), high=(0, 0)),
    "asymmetric": Case(20, 32, (9, 11), low=(2, 0), high=(0, 3)),
    "one-place": Case(16, 16, (1, 1)),
    "one-line": Case(16, 32, (3, 17), low=(0, 1), high=(0, 1)),
    "wide-padding": Case(5, 16, (2, 3), low=(4, 4), high=(4, 4)),
    "bands": Case(32, 32, (22, 10), lines=8),
    "parts": Case(20, 128, (10, 10), parts=2),
    "bands-and-parts": Case(20, 96, (21, 9), lines=8, parts=2),
    "plain-result": Case(20, 24, (9, 18), block=1),
    "plain-x": Case(20, 24, (21, 19), lines=8, plain=True),
    "plain-x-and-parts": Case(20, 64, (21, 9), block=1, lines=8, parts=2, plain=True),
    "plain-x-wide-padding": Case(20, 24, (3, 5), low=(4, 4), high=(4, 4), lines=4, plain=True),
    "run-time-filters": Case(20, 64, (9, 11), constant=False),
    "f64": Case(20, 24, (9, 11), of="f64", block=8),
    "f64-run-time-filters": Case(10, 24, (9, 11), of="f64", block=8, constant=False),
}


def program(case: Case, batch: int | str, tile: int, w: Array, follow: bool = True) -> Any:
    kind = dtype(case.of)

    def body(b: Builder, x: Value, shift: Value, given: Value | None = None) -> Value:
        y = b.op(
            "blocked_conv", x, b.constant(w) if given is None else given, **case.attrs, groups=1,
            channels=case.channels, filters=case.filters, block=case.block,
        )  # fmt: skip
        if not follow:
            return y
        moved = b.op("add", y, b.broadcast(shift, y.shape, (1,) if case.block == 1 else (1, 4)))
        return b.op("max", moved, b.full(y.shape, 0, kind))

    x = (case.channels, *case.sizes)
    types = {
        "x": tensor(kind, batch, *(x if case.plain else blocked_shape(case))),
        "shift": tensor(kind, *shift_shape(case)),
    }
    if not case.constant:
        types["w"] = tensor(kind, *w.shape)
    return run_pipeline(run_pipeline(function("f", types, body)), f"winograd{{tile={tile}}}")


def blocked_shape(case: Case) -> tuple[int, ...]:
    return (-(-case.channels // case.width), *case.sizes, case.width)


def shift_shape(case: Case) -> tuple[int, ...]:
    """One number a filter, in the result's blocks."""
    plain = case.block == 1
    return (case.filters,) if plain else (-(-case.filters // case.block), case.block)


def operands(case: Case, batch: int) -> tuple[Array, Array, Array]:
    rng, of = np.random.default_rng(0), dtype(case.of).numpy
    w = rng.standard_normal((case.filters, case.channels, 3, 3)) / np.sqrt(9 * case.channels)
    shift = rng.standard_normal(shift_shape(case))
    x = rng.standard_normal((batch, case.channels, *case.sizes))
    return x.astype(of), w.astype(of), shift.astype(of)


def reference(case: Case, x: Array, w: Array) -> Array:
    assert CONV.reference is not None
    wide = (a.astype(np.float64) for a in (x, w))
    return np.asarray(CONV.reference(*wide, **case.attrs, input_dilation=(1, 1), groups=1))


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Winograd's algorithm even where it takes longer, cut as the list `[tile, lines, parts]`
    says."""
    wanted: list[int] = []

    def choose(spec: BlockedSpec, machine: Target, largest: int, in_call: bool = False) -> Any:
        tile, lines, parts = wanted
        way = next(iter(ways_of(spec, machine, tile)))
        whole = -(-spec.out_sizes[0] // tile) * tile
        return replace(way, lines=lines or whole, parts=parts)

    monkeypatch.setattr(blocked_convolution, "fastest", choose)
    monkeypatch.setattr(blocked_convolution, "blocked_schedule", lambda *args: "forced")
    return wanted


def emitted(
    case: Case, tile: int, forced: list[int], batch: int | str = 2, name: str = "native",
    follow: bool = True,
) -> Any:  # fmt: skip
    forced[:] = tile, case.lines, case.parts
    packed = blocked_weights(operands(case, 1)[1], case.width, case.width)
    made = program(case, batch, tile, packed, follow)
    return driver.emit(made, driver.Options(target=name))


def run(artifact: Any, case: Case, batch: int, threads: int = 1) -> Array:
    x, w, shift = operands(case, batch)
    given = [] if case.constant else [blocked_weights(w, case.width, case.width)]
    if not case.plain:
        x = blocked(x, case.width)
        if case.channels % case.width:
            x[:, -1, ..., case.channels % case.width :] = np.nan  # lanes without a channel
    (y,) = Executable(artifact, threads=threads).run(x, shift, *given)
    return y if case.block == 1 else unblocked(y, case.filters)


def check(case: Case, y: Array, batch: int) -> None:
    x, w, shift = operands(case, batch)
    flat = shift.reshape(-1)[: case.filters].astype(np.float64)
    want = np.maximum(reference(case, x, w) + flat[:, None, None], 0)
    tolerance = 1e-13 if case.of == "f64" else 1e-5
    np.testing.assert_allclose(y, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", CASES)
def test_cases(name: str, tile: int, forced: list[int]) -> None:
    case = CASES[name]
    artifact = emitted(case, tile, forced, "n")
    alone = run(artifact, case, 2)
    check(case, alone, 2)
    np.testing.assert_array_equal(run(artifact, case, 2, threads=2), alone)


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("case", ["odd", "run-time-filters", "f64"])
def test_targets(case: str, name: str, forced: list[int]) -> None:
    if name == "x86-64-v4" and target("native").vector_bits < 512:
        pytest.skip("this CPU lacks AVX-512")
    check(CASES[case], run(emitted(CASES[case], 4, forced, name=name), CASES[case], 2), 2)


def test_other_architecture_compiles(forced: list[int]) -> None:
    assert emitted(CASES["odd"], 4, forced, name="aarch64").object


def test_empty_batch(forced: list[int]) -> None:
    assert run(emitted(CASES["odd"], 4, forced, "n"), CASES["odd"], 0).shape == (0, 24, 9, 11)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_all_it_did_and_its_tile_at_most(
    bad: float, tile: int, forced: list[int]
) -> None:
    case = Case(16, 16, (9, 10))
    artifact = emitted(case, tile, forced, 1, follow=False)
    x, _, shift = operands(case, 1)
    executable = Executable(artifact)
    for i, j in np.ndindex(*case.sizes):
        dirty = x.copy()
        dirty[0, 3, i, j] = bad
        (y,) = executable.run(blocked(dirty, 16), shift)
        wrong = ~np.isfinite(unblocked(y, 16))
        rows, columns = (slice(max(0, k - 1), k + 2) for k in (i, j))
        assert wrong[:, :, rows, columns].all(), "lost"
        tiles = [slice(max(0, k - 1) // tile * tile, (k + 1) // tile * tile + tile) for k in (i, j)]
        wrong[:, :, tiles[0], tiles[1]] = False
        assert not wrong.any(), "beyond the tiles that read it"


# Largest errors of results, as shares of the largest result, over channels 64 to 512 (docs).
BOUNDS = {0: 2.5e-6, 2: 1.2e-6, 4: 6e-6}


@pytest.mark.parametrize("channels", [64, 512])
@pytest.mark.parametrize("tile", BOUNDS)
def test_error_bounds(tile: int, channels: int, forced: list[int], monkeypatch: Any) -> None:
    case = Case(channels, 16, (8, 8))
    if not tile:
        monkeypatch.setattr(blocked_convolution, "fastest", lambda *args: None)
    artifact = emitted(case, tile or 2, forced, 1, follow=False)
    x, w, _ = operands(case, 1)
    want = reference(case, x, w)
    assert np.abs(run(artifact, case, 1) - want).max() / np.abs(want).max() < BOUNDS[tile]


# ---- the transforms and the choice


@pytest.mark.parametrize("tile", TILES)
def test_filters_are_evaluated_at_the_points(tile: int) -> None:
    w = np.random.default_rng(0).standard_normal((3, 3, 2))
    u = toom_cook.transformed(w, tile)
    scale = toom_cook.filter_matrix(tile)[:, 0]
    for i, p in enumerate(toom_cook.points(tile)):
        for j, q in enumerate(toom_cook.points(tile)):
            value = np.polynomial.polynomial.polyval2d(p, q, w)
            np.testing.assert_allclose(u[i, j], value * scale[i] * scale[j])
    np.testing.assert_allclose(u[-1, -1], w[2, 2])


def spec_of(channels: int, filters: int, side: int, **other: Any) -> BlockedSpec:
    sizes = (side, side)
    plain = BlockedSpec(
        f32, f32, f32, channels, filters, 1, 16, 16, 16, sizes, sizes, (3, 3), (1, 1), (1, 1),
        (1, 1),
    )  # fmt: skip
    return replace(plain, **other)


AVX512 = target("x86-64-v4")


@pytest.mark.parametrize(
    ("spec", "tile"),
    [((64, 64, 56), 4), ((128, 128, 28), 4), ((256, 256, 14), 4), ((512, 512, 7), 2),
     ((16, 16, 4), 0)],
)  # fmt: skip
def test_the_choice_follows_channels_and_places(spec: tuple[int, int, int], tile: int) -> None:
    way = fastest(spec_of(*spec), AVX512)
    assert (way.tile if way else 0) == tile
    small = fastest(spec_of(*spec), AVX512, 2)
    assert small is None or small.tile == 2


@pytest.mark.parametrize(
    "other",
    [{"window": (5, 5)}, {"strides": (2, 2)}, {"dilation": (2, 2)}, {"groups": 2}, {"x_block": 1},
     {"x": f16}, {"sizes": (0, 9)}, {"flat": True}, {"lanewise": 1}],
)  # fmt: skip
def test_what_it_cannot_compute(other: dict[str, Any]) -> None:
    spec = spec_of(64, 64, 56, **other)
    assert obstacle(spec) and fastest(spec, AVX512) is None


def test_filters_in_the_call_cost_more() -> None:
    spec = spec_of(512, 512, 4)
    (way, *_) = ways_of(spec, AVX512, 4)
    assert cost(spec, AVX512, way, True) > cost(spec, AVX512, way) > 0
    assert fastest(spec, AVX512, 4, True) is None and direct_cost(spec, AVX512) > 0


@pytest.mark.parametrize("tiles", [1, 5, 14, 15, 28, 49])
def test_micro_kernels_cover_the_tiles(tiles: int) -> None:
    assert sum(rows * n for rows, n in even_parts(tiles, 14)) == tiles
    assert all(rows <= 14 for rows, _ in even_parts(tiles, 14))


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_scratch_fits_what_is_written(name: str) -> None:
    machine, spec = target(name), spec_of(40, 96, 13)
    for way in ways_of(spec, machine, 4):
        shape = winograd_plan.shape_of(machine, f32, 16)
        row, position, product, room = winograd_plan.scratch(spec, shape, way)
        tiles = way.lines // 4 * 4
        most = -(-6 // way.unit(shape) // way.parts) * way.unit(shape)
        assert row >= 48 and position >= tiles * row and product >= 36 * most * 16
        assert room == 36 * position + tiles * product
