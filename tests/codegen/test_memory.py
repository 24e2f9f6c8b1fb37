"""Loads, stores and casts of every dtype: contiguous, strided, gathered, scattered, masked."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.convert import cast
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.ir.dtypes import ALL, DType, dtype
from tests.codegen.harness import Kernels

pytestmark = pytest.mark.sampled(3)

LANES = (0, 8)
NAMES = [d.name for d in ALL]
STRIDES = (-3, -1, 0, 1, 2, 5)
Move = Callable[[Code, DType, int, list[Val]], None]


def copy_masked(code: Code, kind: DType, lanes: int, args: list[Val]) -> None:
    source, target, count = args
    mask = memory.tail_mask(code, count, lanes)
    value = memory.load(code, source, 0, kind, lanes, mask=mask, other=1)
    memory.store(code, value, target, 0, kind)
    memory.store(code, value, target, 2 * max(lanes, 1), kind, mask=mask)


def copy_by_index(code: Code, kind: DType, lanes: int, args: list[Val]) -> None:
    source, target, count = args
    twice = code.mul(memory.lane_numbers(code, lanes), 2)
    mask = memory.tail_mask(code, count, lanes)
    value = memory.gather(code, source, twice, kind, mask=mask)
    memory.scatter_store(code, value, target, twice, kind)
    memory.scatter_store(code, value, target, code.add(twice, 17), kind, mask=mask)


def strided(stride: int) -> Move:
    def move(code: Code, kind: DType, lanes: int, args: list[Val]) -> None:
        source, target, count = args
        value = memory.load_strided(code, source, count, stride, kind, lanes)
        memory.store_strided(code, value, target, 0, 2, kind)

    return move


MOVES: dict[str, Move] = {"masked": copy_masked, "indexed": copy_by_index}
MOVES |= {f"strided_{i}": strided(stride) for i, stride in enumerate(STRIDES)}


@cache
def kernels() -> Kernels:
    batch = Kernels()
    for name in NAMES:
        for lanes in LANES:
            for move in MOVES:
                _add(batch.unit, f"gm_{move}_{name}_{lanes}", MOVES[move], dtype(name), lanes)
    for a in ALL:
        for b in ALL:
            batch.add(f"cast_{a}_{b}", [a], b, _caster(a, b))
    return batch


def _caster(a: DType, b: DType) -> Callable[..., object]:
    return lambda code, args: cast(code, args[0], a, b)


def _add(unit: Unit, symbol: str, move: Move, kind: DType, lanes: int) -> None:
    args = [("s", "!llvm.ptr"), ("t", "!llvm.ptr"), ("n", "i64")]
    code = Code(unit, symbol, args, internal=False)
    move(code, kind, lanes, code.args)
    code.finish()


def run(move: str, kind: DType, lanes: int, source: np.ndarray, count: int) -> np.ndarray:
    batch = kernels()
    if batch.engine is None:
        batch.compile()
    target = np.zeros(64, kind.numpy)
    address = batch.engine.get_function_address(f"gm_{move}_{kind}_{lanes}")
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)
    function(source.ctypes.data, target.ctypes.data, count)
    return target


def numbers(kind: DType) -> np.ndarray:
    values = np.arange(1, 65)
    if kind.kind == "b":
        return values % 3 == 0
    return (values + 1j * (values + 7)).astype(kind.numpy) if kind.kind == "c" else values.astype(
        kind.numpy
    )  # fmt: skip


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", NAMES)
def test_masked_lanes_are_left_alone(name: str, lanes: int) -> None:
    kind, n = dtype(name), max(lanes, 1)
    source = numbers(kind)
    for count in (0, 1, 5, 8):
        inside = np.arange(n) < count
        got = run("masked", kind, lanes, source, count)
        one = np.array(1, kind.numpy)
        np.testing.assert_array_equal(got[:n], np.where(inside, source[:n], one))
        np.testing.assert_array_equal(
            got[2 * n : 3 * n], np.where(inside, source[:n], kind.numpy.type(0))
        )


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", NAMES)
def test_gather_and_scatter(name: str, lanes: int) -> None:
    kind, n = dtype(name), max(lanes, 1)
    source = numbers(kind)
    for count in (0, 3, 8):
        want = np.zeros(64, kind.numpy)
        at = 2 * np.arange(n)
        want[at] = np.where(np.arange(n) < count, source[at], kind.numpy.type(0))
        want[17 + at[:count]] = source[at[:count]]
        np.testing.assert_array_equal(run("indexed", kind, lanes, source, count), want)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("name", NAMES)
def test_strides(name: str, stride: int, lanes: int) -> None:
    kind, n = dtype(name), max(lanes, 1)
    source, start = numbers(kind), 24
    want = np.zeros(64, kind.numpy)
    want[2 * np.arange(n)] = source[start + stride * np.arange(n)]
    got = run(f"strided_{STRIDES.index(stride)}", kind, lanes, source, start)
    np.testing.assert_array_equal(got, want)


def castable(a: DType, b: DType) -> np.ndarray:
    """Values of `a` that the cast to `b` defines in NumPy."""
    rng = np.random.default_rng(5)
    if a.kind == "b":
        return rng.integers(0, 2, 50).astype(bool)
    if a.kind in "iu":
        info = np.iinfo(a.numpy)
        edges = [0, 1, 2, info.max, info.max - 1, info.min, info.max // 2 + 1]
        return np.array([*edges, *rng.integers(info.min, info.max, 90, dtype=a.numpy)], a.numpy)
    if b.kind in "iu":
        top = min(float(2 ** (b.bits - 1)), 3e4)
        values = rng.uniform(0 if b.kind == "u" else -0.99 * top, 0.99 * top, 90)
        return values.astype(a.numpy)
    words = rng.integers(0, 256, 200 * a.itemsize, dtype=np.uint8)
    values = np.concatenate([words.view(a.real.numpy).astype(np.float64), [0.0, -0.0, np.inf]])
    near = rng.normal(0, 1, 300) * 10.0 ** rng.integers(-9, 5, 300)
    values = np.concatenate([values, near, 1 + rng.integers(-9, 9, 60) / 4096, [np.nan]])
    return values.astype(a.numpy)


@pytest.mark.parametrize("b", NAMES)
@pytest.mark.parametrize("a", NAMES)
def test_cast_is_numpys(a: str, b: str) -> None:
    source, target = dtype(a), dtype(b)
    with np.errstate(all="ignore"):
        values = castable(source, target)
        plain = values.real if source.kind == "c" and target.kind not in "cb" else values
        want = plain.astype(target.numpy)
    got = kernels()(f"cast_{a}_{b}", values)
    if b == "bf16":
        got, want = got.astype(np.float32), want.astype(np.float32)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("b", [n for n in NAMES if dtype(n).kind in "iu"])
@pytest.mark.parametrize("a", ["f16", "bf16", "f32", "f64"])
def test_float_to_integer_saturates(a: str, b: str) -> None:
    info = np.iinfo(dtype(b).numpy)
    edges = [2.0**31, 2.0**31 - 128, -(2.0**31), 2.0**32, 2.0**32 - 256, 127.9, 255.9, -0.9]
    edges += [2.0**63, 2.0**63 - 1024, -(2.0**63), 2.0**64, 2.0**64 - 2048, 2.0**62 + 512]
    with np.errstate(over="ignore"):
        values = np.array([np.inf, -np.inf, np.nan, *edges] * 7).astype(dtype(a).numpy)
    clipped = [0 if x != x else min(max(x, info.min), info.max) for x in map(float, values)]
    want = np.array([int(x) for x in clipped], dtype(b).numpy)
    np.testing.assert_array_equal(kernels()(f"cast_{a}_{b}", values), want)
