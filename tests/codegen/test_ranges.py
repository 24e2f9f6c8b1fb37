"""Places with known bounds are not looked at; others count from the end and are clamped."""

import numpy as np
import pytest

import graphmill as gm
from graphmill.codegen.cpu.ranges import is_inside, range_of
from graphmill.ir.dims import Dim
from graphmill.ir.parser import parse_function

TEXT = """
func @f(%x: f64[9, 9], %p: i64[], %s: i32[3]) -> (f64[9, 9]) {
  %t: i64[8] = iota {axis=0, dtype=i64, shape=[8]}
  %r: f64[9, 9] = scan %x, %t, %p {carry=1, length=8, reverse=false, turn="i", xs=1} {
    (%x1: f64[9, 9], %i: i64[], %p1: i64[]):
    %one: i64[] = constant {value=1}
    %next: i64[] = add %i, %one
    %back: i64[] = sub %i, %one
    %size: i64[] = dim {dtype=i64, value=8 - i}
    %row: i64[i] = iota {axis=0, dtype=i64, shape=[i]}
    %wide: i64[i] = broadcast %size {axes=[], shape=[i]}
    %both: i64[i] = add %row, %wide
    %far: i64[] = mul %next, %next
    %unknown: i64[] = add %p1, %one
    yield %x1
  }
  return %r
}
"""


def test_ranges_of_counters_and_sizes():
    i, turns = Dim.of("i"), {"i": 7}
    scan = next(op for op in parse_function(TEXT).ops if op.name == "scan")
    values = {v.name: v for op in scan.regions[0].block.ops for v in op.results}
    values |= {v.name: v for v in scan.regions[0].block.args}
    assert range_of(values["i"]) == (0, 7)
    assert range_of(values["next"]) == (1, 8)
    assert range_of(values["size"]) == (8 - i, 8 - i)
    assert range_of(values["both"]) == (8 - i, 7)
    assert range_of(values["p1"]) is range_of(values["unknown"]) is range_of(values["far"]) is None
    assert range_of(values["x1"]) is None
    assert is_inside(values["next"], 8, turns) and not is_inside(values["next"], 7, turns)
    assert not is_inside(values["back"], 8, turns)
    assert is_inside(values["both"], 7, turns) and not is_inside(values["both"], 6, turns)
    assert is_inside(values["row"], i - 1, turns)
    assert not is_inside(values["p1"], 8, turns)


def test_narrow_counts_wrap_around():
    text = """func @f() -> (i8[300]) {
      %i: i8[300] = iota {axis=0, dtype=i8, shape=[300]}
      return %i
    }"""
    (op, _) = parse_function(text).ops
    assert range_of(op.result) is None


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_clamps_stay_where_places_are_beyond_the_end(size):
    """A counter that is one too large or too small: clamped as an index of a tracer is."""

    def run(x, shift):
        def body(i, total):
            return total + x[i + shift] + 2 * x[i - 1]

        return gm.fori_loop(0, x.shape[0], body, np.float64(0))

    x = np.random.default_rng(size).random(size)
    for shift in range(-2, 3):
        places = np.arange(size) + shift
        places = np.clip(np.where(places < 0, places + size, places), 0, size - 1)
        want = x[places].sum() + 2 * x[np.arange(size) - 1].sum()
        got = gm.jit(run)(x, np.int64(shift))
        np.testing.assert_allclose(got, want, rtol=1e-12)
