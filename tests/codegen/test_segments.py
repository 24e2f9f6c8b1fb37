"""Joins, rolls and borders along the last axis, which loops are cut at, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu.segments import OUTSIDE, segments
from graphmill.ir.parser import parse

pytestmark = pytest.mark.sampled(2)


def programs(x, y):
    """Each reads a concat or a pad in another way; some at shifted positions as well."""
    joined, rolled, bordered = np.concatenate([x, y], -1), np.roll(x, 3, -1), np.pad(x, 1)
    return (
        joined, np.concatenate([x, y, x], 0), rolled, np.roll(x, -2, -1) * np.roll(y, 5, -1),
        np.pad(x, 2), np.pad(x, [(0, 0)] * (x.ndim - 1) + [(3, 1)], constant_values=1),
        np.concatenate([x[..., :2], y[..., 1:], x], -1) * x.dtype.type(2), np.pad(joined, 1),
        np.roll(np.roll(x, 1, 0), 2, -1) + y, joined[..., 1:-1], joined + joined[..., ::-1],
        rolled + np.roll(rolled, 1, -1), bordered[..., 1:] * bordered[..., :-1],
        np.where(bordered > 0, np.pad(y, 1), x.dtype.type(1)),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["f4", "u1", "c8"])
@pytest.mark.parametrize("shape", [(2,), (17,), (20000,), (7, 129), (2, 3, 33), (0, 5)])
def test_programs(shape, dtype):
    rng = np.random.default_rng(0)
    x, y = ((rng.random(shape) * 200).astype(dtype) for _ in range(2))
    for got, want in zip(gm.jit(programs, threads=2)(x, y), programs(x, y), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["f4", "?", "c8"])
@pytest.mark.parametrize("shape", [(5, 7), (64, 96), (3, 4, 33), (0, 4), (4, 0, 3), (300, 3)])
def test_joins_along_every_axis(shape, dtype):
    def joins(x, y):
        one, found = np.ones((), dtype), []
        for axis in range(x.ndim):
            some = x[(slice(None),) * axis + (slice(1, 3),)]
            found += [
                np.concatenate([x, y], axis), np.concatenate([x, y, x], axis) + one,
                np.roll(x, 2, axis), np.roll(x, -1, axis) * y, np.concatenate([some, y], axis),
                np.stack([x, y, x + y], axis), np.concatenate([x] * 8, axis),
                np.concatenate([np.ones_like(x), x], axis),
            ]  # fmt: skip
        return found

    rng = np.random.default_rng(0)
    x, y = ((rng.random(shape) * 100).astype(dtype) for _ in range(2))
    for got, want in zip(gm.jit(joins, threads=2)(x, y), joins(x, y), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["f4", "i8", "u1", "c8"])
@pytest.mark.parametrize("shape", [(3,), (64,), (5, 7), (2, 3, 33), (0, 4), (40003,)])
def test_stacks_along_the_last_axis(shape, dtype):
    def stacks(x):
        return [np.stack([x * x.dtype.type(k) for k in range(n)], -1) for n in (2, 3, 5, 6, 7)] + [
            np.stack([x, x + x], -1) * np.stack([x, -x], -1)
        ]

    x = (np.random.default_rng(0).random(shape) * 20).astype(dtype)
    for got, want in zip(gm.jit(stacks, threads=2)(x), stacks(x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_symbolic_sizes():
    f = gm.jit(lambda x, y: (np.concatenate([x, y]), np.pad(x, 1)), dynamic={"x": ("n",)})
    y = np.arange(40, dtype=np.float32)
    for n in (0, 1, 15, 16, 33000):
        x = np.arange(n, dtype=np.float32) + 100
        for got, want in zip(f(x, y), (np.concatenate([x, y]), np.pad(x, 1)), strict=True):
            np.testing.assert_array_equal(got, want)


def test_symbolic_stack():
    f = gm.jit(lambda x: np.stack([x, x * 2], -1), dynamic={"x": ("n",)})
    for n in (0, 1, 15, 16, 33000):
        x = np.arange(n, dtype=np.float32)
        np.testing.assert_array_equal(f(x), np.stack([x, x * 2], -1))


def test_what_is_cut():
    text = """
    func @f(%x: f32[4, 8], %y: f32[4, 2]) -> (f32[4, 12]) {
      %c: f32[4, 10] = concat %x, %y {axis=1}
      %z: f32[] = constant {value=0.0}
      %p: f32[4, 12] = pad %c, %z {high=[0, 1], interior=[0, 0], low=[0, 1]}
      %e: f32[4, 12] = neg %p
      return %e
    }
    """
    block = parse(text).entry.block
    cut = segments(block, (4, 12))
    assert [(s.low, s.high, *s.parts.values()) for s in cut] == [
        (0, 1, OUTSIDE), (1, 11, 0), (11, 12, OUTSIDE),
    ]  # fmt: skip
