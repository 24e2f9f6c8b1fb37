# ruff: noqa: E501
"""Windows computed where they go: text before and after, and whole programs in NumPy style."""

import numpy as np
import pytest

import graphmill as gm
from graphmill import driver
from graphmill.driver import Options
from graphmill.runtime.executable import Executable
from tests.passes.pairs import check_pair

PAIRS = [
    (
        "a window and what computes it are one kernel",
        "fuse,memory",
        """
        func @f(%a: f32[9], %b: f32[9]) -> (f32[9]) {
          %c: f32[9] = exp %b
          %l: f32[7] = slice %a {start=[0], step=[1], stop=[7]}
          %r: f32[7] = slice %a {start=[2], step=[1], stop=[9]}
          %s: f32[7] = add %l, %r
          %i: i64[] = constant {value=1}
          %u: f32[9] = dynamic_update_slice %c, %s, %i
          return %u
        }
        """,
        """
        func @f(%a: f32[9], %b: f32[9]) -> (f32[9]) attrs={arena_bytes=0} {
          %c: f32[9] = exp %b {buffers=["out:0"]}
          %u: f32[9] = fusion %a, %c {buffers=["alias:1"], kind="update", reason="computes the window where it goes"} {
            (%a1: f32[9], %c1: f32[9]):
            %l: f32[7] = slice %a1 {start=[0], step=[1], stop=[7]}
            %r: f32[7] = slice %a1 {start=[2], step=[1], stop=[9]}
            %s: f32[7] = add %l, %r
            %i: i64[] = constant {value=1}
            %u1: f32[9] = dynamic_update_slice %c1, %s, %i
            yield %u1
          }
          return %u
        }
        """,
    ),
]


@pytest.mark.parametrize("name, pipeline, before, after", PAIRS, ids=[p[0] for p in PAIRS])
def test_pairs(name, pipeline, before, after):
    check_pair(pipeline, before, after)


def inner_five(a, b):
    b[1:-1, 1:-1] = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
    return b


def same_window(a, b):
    b[1:, :-1] = b[1:, :-1] - 0.5 * (a[1:, 1:] - a[:-1, 1:])
    return b


def neighbours(a, b):
    b[1:-1] = b[:-2] + b[2:]
    return b


def crossed(a, b):
    b[1:-1, 1:-1] = b[1:-1, 1:-1].T * 2 if b.shape[0] == b.shape[1] else b[1:-1, 1:-1] * 2
    return b


def twice(a, b):
    s = np.sin(a[1:])
    b[1:] = s
    b[:-1] = s * 2
    return b


def old_value_wanted(a, b):
    c = b * 1
    b[2:, 3:] = a[:-2, :-3] * b[2:, 3:]
    return c + b


def read_before_overwritten(a, b):
    s = b[1:] * 2
    b[:1] = a[:1]
    a = a + 0
    a[:-1] = s
    return a + b


def reduced(a, b):
    b[0] = a.sum(0)
    b[:, 1] = np.exp(a[:, 0])
    return b


def one_element(a, b):
    b[1, 2] = a[2, 1] * 3 + b[1, 2]
    return b


def one_element_of_several(a, b):
    b[1, 2] = b[0, 1] + b[1, 1] * b[1, 2]
    return b


def one_element_of_a_sum(a, b):
    b[1, 2] = np.sqrt(abs((a[1, :] * b[1, :]).sum() - b[0, 0]))
    return b


def one_element_of_a_sum_wanted_elsewhere(a, b):
    s = (a[1, :] * b[1, :]).sum()
    b[1, 2] = s
    return b + s


PROGRAMS = {  # the program, and whether it has an `update` kernel
    inner_five: True, same_window: True, neighbours: False, crossed: True, twice: False,
    old_value_wanted: True, read_before_overwritten: True, reduced: False, one_element: True,
    one_element_of_several: True, one_element_of_a_sum: True,
    one_element_of_a_sum_wanted_elsewhere: False,
}  # fmt: skip
SHAPES = [(3, 4), (5, 17), (33, 34), (70, 131)]


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_programs(program, target):
    def copied(a, b):
        return program(a + 0, b + 0)

    options = Options(target=target)
    for shape in SHAPES if target == "native" else SHAPES[1:2]:
        rng = np.random.default_rng(3)
        a, b = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        traced = gm.jit(copied).trace(a, b).function
        planned = driver.optimise(traced, options)
        for threads in (1, 2):
            (got,) = Executable(driver.emit(planned, options), threads=threads).run(a, b)
            np.testing.assert_allclose(got, copied(a, b), rtol=1e-5, atol=1e-6)
        assert PROGRAMS[program] == any(
            op.name == "fusion" and op.attrs["kind"] == "update" for op in planned.walk()
        )


def test_a_stencil_in_a_loop_has_no_array_of_its_own():
    a = np.random.default_rng(0).standard_normal((40, 50))
    b = a * 2

    @gm.jit
    def run(a, b):
        def step(i, state):
            a, b = state
            b = inner_five(a, b)
            return inner_five(b, a), b

        return gm.fori_loop(0, 5, step, (a, b))

    x, y = a.copy(), b.copy()
    for _ in range(5):
        inner_five(x, y)
        inner_five(y, x)
    for got, want in zip(run(a, b), (x, y), strict=True):
        np.testing.assert_allclose(got, want)
    memory = run.lower(a, b).ir("memory")
    assert memory.count('buffers=["alias:1"], kind="update"') == 2 and "arena_bytes=0" in memory
