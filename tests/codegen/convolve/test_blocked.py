"""Convolutions on blocked channels against the plain op's reference: forms, targets, threads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from graphmill import driver
from graphmill.codegen.cpu.convolve.blocked_spec import Tap, runs
from graphmill.ir.builder import Builder, function
from graphmill.ir.dtypes import dtype
from graphmill.ir.graph import Function, Value
from graphmill.ir.ops.blocked import blocked, blocked_weights, lanewise, unblocked
from graphmill.ir.ops.contract import CONV
from graphmill.ir.types import tensor
from graphmill.passes.manager import run_pipeline
from graphmill.runtime.executable import Executable

pytestmark = pytest.mark.sampled(2)

Array = np.ndarray[Any, Any]
TARGETS = ("native", "x86-64-v3", "x86-64-v2")


@dataclass(frozen=True)
class Case:
    """A convolution; `given` and `block` are the blocks of x and of the result."""

    channels: int
    filters: int
    sizes: tuple[int, ...]
    window: int = 3
    stride: int = 1
    pad: int = 1
    dilation: int = 1
    groups: int = 1
    given: int = 16
    block: int = 16
    of: str = "f32"
    width: int = 16  # of the weights' blocks
    plain: bool = False  # x, not in blocks

    @property
    def lanes(self) -> int:
        return lanewise(self.channels, self.filters, self.groups, self.width)

    @property
    def attrs(self) -> dict[str, Any]:
        every = {"strides": self.stride, "low": self.pad, "high": self.pad,
                 "dilation": self.dilation}  # fmt: skip
        return {key: (n,) * len(self.sizes) for key, n in every.items()}


CASES = {
    "3x3": Case(20, 24, (9, 11)),
    "3x3-plain-result": Case(20, 24, (9, 11), block=1),
    "3x3-plain": Case(20, 24, (9, 18), given=1, block=1),
    "3x3-plain-whole-squares": Case(20, 32, (9, 18), given=1, block=1),
    "7x7-stride-2": Case(3, 40, (31, 33), window=7, stride=2, pad=3, given=1),
    "1x1": Case(40, 70, (6, 13), window=1, pad=0),
    "1x1-short-lines": Case(40, 70, (12, 7), window=1, pad=0),
    "1x1-short-lines-plain": Case(40, 70, (7, 7), window=1, pad=0, given=1, block=1),
    "1x1-slices": Case(4096, 50, (3, 3), window=1, pad=0),
    "1x1-parts": Case(130, 600, (28, 15), window=1, pad=0),
    "1x1-stride-2": Case(40, 16, (7, 13), window=1, pad=0, stride=2),
    "dilated": Case(17, 33, (12, 13), pad=2, dilation=2),
    "stride-3": Case(33, 16, (15, 16), stride=3, pad=0),
    "groups": Case(64, 32, (8, 9), groups=2),
    "depthwise": Case(40, 40, (9, 35), groups=40),
    "depthwise-5x5-stride-2": Case(40, 40, (9, 19), window=5, stride=2, pad=2, groups=40),
    "depthwise-plain-result": Case(40, 40, (9, 19), groups=40, block=1),
    "groups-of-4": Case(40, 40, (9, 19), groups=10),
    "groups-of-8-stride-2": Case(40, 40, (9, 19), stride=2, groups=5),
    "groups-of-2-plain-result": Case(40, 40, (9, 19), groups=20, block=1),
    "plain-x": Case(20, 24, (29, 19), plain=True),
    "plain-x-and-result": Case(50, 70, (37, 41), plain=True, block=1),
    "plain-x-narrow": Case(20, 24, (9, 5), window=2, pad=0, plain=True),
    "plain-x-stride-3": Case(33, 16, (35, 16), stride=3, pad=0, plain=True),
    "plain-x-slices": Case(1024, 48, (5, 5), plain=True),
    "plain-x-all-padding": Case(5, 16, (2, 3), pad=4, plain=True),
    "plain-x-groups": Case(64, 32, (28, 9), groups=2, plain=True),
    "plain-x-groups-of-4": Case(40, 40, (29, 19), groups=10, plain=True),
    "plain-x-1d": Case(20, 24, (40,), window=5, pad=2, plain=True),
    "plain-x-f16": Case(20, 24, (9, 11), of="f16", plain=True),
    "plain-x-f64": Case(20, 24, (9, 11), of="f64", given=8, block=8, width=8, plain=True),
    "1d": Case(20, 24, (40,), window=5, pad=2),
    "3d": Case(20, 24, (4, 5, 11)),
    "3d-plain-result": Case(20, 24, (4, 5, 18), block=1),
    "3d-plain-whole-squares": Case(20, 32, (4, 5, 18), block=1),
    "3d-stride-2": Case(40, 24, (5, 7, 9), stride=2),
    "3d-dilated": Case(17, 16, (6, 5, 7), pad=2, dilation=2),
    "3d-1x1": Case(33, 16, (3, 5, 4), window=1, pad=0),
    "3d-few-channels": Case(3, 40, (5, 9, 8), given=1),
    "3d-slices": Case(1024, 16, (2, 3, 4)),
    "3d-groups": Case(64, 32, (3, 4, 5), groups=2),
    "3d-all-padding": Case(16, 16, (2, 3, 3), pad=4),
    "3d-padding-outside-1x1": Case(16, 16, (2, 3, 3), window=1, pad=2),
    "3d-one-plane": Case(16, 24, (3, 6, 5), pad=0),
    "3d-f16": Case(20, 24, (3, 4, 5), of="f16"),
    "slices": Case(1024, 48, (5, 5)),
    "slices-plain-result": Case(1024, 48, (5, 5), block=1),
    "all-padding": Case(5, 16, (2, 3), pad=4),
    "one-place": Case(5, 16, (1, 1)),
    "f64": Case(20, 24, (9, 11), of="f64", given=8, block=8, width=8),
    "f64-plain-whole-squares": Case(20, 24, (9, 11), of="f64", given=8, block=1, width=8),
    "f16": Case(20, 24, (9, 11), of="f16"),
    "f16-plain-whole-squares": Case(20, 32, (9, 33), of="f16", block=1),
    "bf16": Case(20, 24, (9, 11), of="bf16"),
    "bf16-depthwise": Case(40, 40, (9, 19), groups=40, of="bf16"),
}


def program(case: Case, batch: int | str, follow: bool, free: bool = False) -> Function:
    kind, rank = dtype(case.of), len(case.sizes)
    n = batch
    sizes: tuple[int | str, ...] = ("h", "w")[-rank:] if free else case.sizes
    x = (n, -(-case.channels // case.given), *sizes, case.given)
    inner = 1 if case.lanes else case.given
    depth = case.lanes or -(-case.channels // case.groups // case.given)
    if case.plain:
        x = (n, case.channels, *sizes)
    w = (-(-case.filters // case.width), depth, *(case.window,) * rank, inner, case.width)

    def body(b: Builder, x: Value, w: Value, shift: Value) -> Value:
        y = b.op(
            "blocked_conv", x, w, **case.attrs, groups=case.groups, channels=case.channels,
            filters=case.filters, block=case.block,
        )  # fmt: skip
        if not follow:
            return y
        axes = (1,) if case.block == 1 else (1, rank + 2)
        moved = b.op("add", y, b.broadcast(shift, y.shape, axes))
        return b.op("max", moved, b.full(y.shape, 0, kind))

    types = {
        "x": tensor(kind, *x), "w": tensor(kind, *w),
        "shift": tensor(kind, *shift_shape(case)),
    }  # fmt: skip
    return function("f", types, body)


def shift_shape(case: Case) -> tuple[int, ...]:
    """One number a filter, in the result's blocks."""
    plain = case.block == 1
    return (case.filters,) if plain else (-(-case.filters // case.block), case.block)


def operands(case: Case, batch: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, case.channels, *case.sizes))
    taps = (case.channels // case.groups, *(case.window,) * len(case.sizes))
    w = rng.standard_normal((case.filters, *taps)) / np.sqrt(np.prod(taps))
    shift = rng.standard_normal(shift_shape(case))
    of = dtype(case.of).numpy
    return x.astype(of), w.astype(of), shift.astype(of)


def reference(case: Case, x: Array, w: Array, shift: Array, follow: bool) -> Array:
    assert CONV.reference is not None
    one = (1,) * len(case.sizes)
    y = CONV.reference(
        x.astype(np.float64), w.astype(np.float64), **case.attrs, input_dilation=one,
        groups=case.groups,
    )  # fmt: skip
    if follow:
        flat = shift.reshape(-1)[: case.filters].astype(np.float64)
        y = np.maximum(y + flat.reshape(-1, *one), 0)
    return np.asarray(y)


def check(
    case: Case, batch: int, target: str = "native", *, threads: int = 1, symbolic: bool = False,
    follow: bool = True, free: bool = False,
) -> None:  # fmt: skip
    x, w, shift = operands(case, batch)
    made = program(case, "n" if symbolic else batch, follow, free)
    artifact = driver.emit(run_pipeline(made), driver.Options(target=target))
    given = x if case.plain else blocked(x, case.given)
    packed = blocked_weights(w, 1 if case.lanes else case.given, case.width)
    (y,) = Executable(artifact, threads=threads).run(given, packed, shift)
    want = reference(case, x, w, shift, follow)
    tolerance = {"f32": 1e-5, "f64": 1e-13, "f16": 2e-3, "bf16": 2e-2}[case.of]
    if case.block > 1:
        y = unblocked(y, case.filters)
    np.testing.assert_allclose(y, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    check(CASES[name], 2, follow=False)
    check(CASES[name], 3, threads=2, symbolic=True)


@pytest.mark.parametrize("target", TARGETS[1:])
@pytest.mark.parametrize(
    "name",
    [
        "3x3",
        "3x3-plain",
        "plain-x-and-result",
        "7x7-stride-2",
        "1x1",
        "depthwise",
        "groups-of-8-stride-2",
        "f64",
        "3d",
        "3d-all-padding",
    ],
)
def test_targets(name: str, target: str) -> None:
    check(CASES[name], 1, target)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("3d")])
def test_sizes_known_at_run_time(name: str) -> None:
    check(CASES[name], 3, threads=2, symbolic=True, free=True)


@pytest.mark.parametrize("target", TARGETS[1:])
@pytest.mark.parametrize("name", ["3x3", "plain-x-and-result", "7x7-stride-2", "depthwise", "f64"])
def test_sizes_known_at_run_time_on_targets(name: str, target: str) -> None:
    check(CASES[name], 1, target, free=True)


@pytest.mark.parametrize("block", [1, 16])
@pytest.mark.parametrize("groups", [1, 40])
def test_one_kernel_for_all_sizes(groups: int, block: int) -> None:
    """Chunks of 14 × 56 results: below, at and above those sizes, down to a single result."""
    case = Case(40, 40, (1, 1), stride=2, dilation=2, pad=2, groups=groups, block=block)
    artifact = driver.emit(run_pipeline(program(case, "n", True, free=True)), driver.Options())
    run = Executable(artifact, threads=2).run
    for sizes in [(1, 1), (2, 113), (27, 111), (28, 112), (29, 115), (3, 300), (60, 5)]:
        this = replace(case, sizes=sizes)
        x, w, shift = operands(this, 2)
        (y,) = run(blocked(x, 16), blocked_weights(w, 1 if case.lanes else 16, 16), shift)
        want = reference(this, x, w, shift, follow=True)
        got = y if block == 1 else unblocked(y, 40)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["3x3", "1x1-short-lines", "1x1-slices", "3d", "depthwise"])
def test_an_array_read_beside_the_result(name: str) -> None:
    """As a block of a residual network adds its shortcut."""
    case = CASES[name]
    made = program(case, 2, follow=True)
    (plain,) = made.results
    extra = made.block.add_arg(plain.type, "extra")
    end = made.block.terminator
    end.set_operand(0, Builder(made.block, end).op("add", plain, extra))
    artifact = driver.emit(run_pipeline(made), driver.Options())
    x, w, shift = operands(case, 2)
    packed = blocked_weights(w, 1 if case.lanes else 16, 16)
    beside = np.random.default_rng(1).standard_normal(plain.shape).astype(np.float32)
    for threads in (1, 2):
        (y,) = Executable(artifact, threads=threads).run(blocked(x, 16), packed, shift, beside)
        want = reference(case, x, w, shift, follow=True) + unblocked(beside, case.filters)
        np.testing.assert_allclose(unblocked(y, case.filters), want, rtol=1e-5, atol=1e-5)


def test_empty_batch() -> None:
    check(CASES["3x3"], 0, symbolic=True)


def test_other_architecture_compiles() -> None:
    for free in (False, True):
        made = run_pipeline(program(CASES["3x3"], 1, follow=True, free=free))
        assert driver.emit(made, driver.Options(target="aarch64")).object


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_special_values_stay_where_the_window_sees_them(bad: float) -> None:
    case = replace(CASES["3x3"], channels=16, filters=16)
    x, w, shift = operands(case, 1)
    x[0, 3, 4, 5] = bad
    artifact = driver.emit(run_pipeline(program(case, 1, follow=False)), driver.Options())
    (y,) = Executable(artifact).run(blocked(x, 16), blocked_weights(w, 16, 16), shift)
    wrong = ~np.isfinite(unblocked(y, 16))
    seen = np.zeros_like(wrong)
    seen[:, :, 3:6, 4:7] = True
    np.testing.assert_array_equal(wrong, seen)


def test_lanes_without_a_channel_are_not_read() -> None:
    case = CASES["3x3"]
    x, w, shift = operands(case, 1)
    given = blocked(x, 16)
    given[:, 1, :, :, 4:] = np.nan
    artifact = driver.emit(run_pipeline(program(case, 1, follow=True)), driver.Options())
    (y,) = Executable(artifact).run(given, blocked_weights(w, 16, 16), shift)
    want = reference(case, x, w, shift, follow=True)
    np.testing.assert_allclose(unblocked(y, 24), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 2), (1, 3)])
def test_taps_are_those_inside(size: int, stride: int, dilation: int) -> None:
    for low, room, place in np.ndindex(7, 9, 12):
        first, past = Tap(size, stride, dilation, low, room + 1).valid(place)
        columns = [place * stride - low + tap * dilation for tap in range(size)]
        inside = [tap for tap, column in enumerate(columns) if 0 <= column <= room]
        assert list(range(first, past)) == inside


def test_tiles_cover_a_line_once() -> None:
    for width, tiles in [(56, 4), (7, 1), (15, 2), (13, 13)]:
        found = list(runs(width, tiles, Tap(3, 1, 1, 1, width)))
        covered = [p for r in found for p in range(r.first, r.first + r.count * r.places)]
        assert covered == list(range(width))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "shape", [(24, 20, 3, 1), (32, 16, 1, 1), (18, 48, 5, 2), (1024, 32, 3, 1), (17, 16, 3, 1)]
)
def test_constant_bf16_weights(shape: tuple[int, int, int, int], target: str) -> None:
    """In pairs of channels where the target multiplies pairs and channels are even."""
    channels, filters, window, stride = shape
    case = Case(channels, filters, (7, 9), window=window, pad=window // 2, stride=stride, of="bf16")
    x, w, shift = operands(case, 2)
    made = program(case, 2, follow=True)
    packed = blocked_weights(w, 16, 16)
    constant = Builder(made.block, made.ops[0]).constant(packed)
    made.params[1].replace_uses(constant)
    artifact = driver.emit(run_pipeline(made), driver.Options(target=target))
    given = blocked(x, 16)
    tail = given[:, -1, ..., channels % 16 or 16 :]
    tail[...] = np.nan  # lanes without a channel
    for threads in (1, 2):
        (y,) = Executable(artifact, threads=threads).run(given, packed, shift)
        want = reference(case, x, w, shift, follow=True)
        np.testing.assert_allclose(unblocked(y, filters), want, rtol=2e-2, atol=2e-2)
