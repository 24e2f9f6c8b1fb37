"""Python's loops, unrolled while traced, become loops again; the results stay."""

import random

import numpy as np
import pytest

import graphmill as gm
from graphmill.passes.manager import LEAST_OPS, run_pipeline

pytestmark = pytest.mark.sampled(2)

N = 40


def rolled(f, *args):
    return run_pipeline(gm.jit(f).trace(*args).function, "inline,state,roll")


def check(f, *args, loops=1, ops=200):
    """`f` becomes so many outermost loops in less than `ops` ops, and computes what NumPy does."""
    made = rolled(f, *args)
    assert sum(op.name == "scan" for op in made.ops) == loops, made
    assert len(list(made.walk())) < ops
    got, want = gm.jit(f)(*(a.copy() for a in args)), f(*(a.copy() for a in args))
    got, want = (x if isinstance(x, tuple) else (x,) for x in (got, want))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def some(*shape):
    return np.random.default_rng(0).random(shape)


def stencil(a, b):
    for _ in range(N):
        b[1:-1] = 0.33 * (a[:-2] + a[1:-1] + a[2:])
        a[1:-1] = 0.33 * (b[:-2] + b[1:-1] + b[2:])
    return a, b


def seidel(a):
    for _ in range(3):
        for i in range(1, a.shape[0] - 1):
            a[i, 1:-1] += a[i - 1, :-2] + a[i + 1, 2:]
            for j in range(1, a.shape[1] - 1):
                a[i, j] = (a[i, j] + a[i, j - 1]) / 9.0
    return a


def recurrence(x, w):
    """Matrix products, numbers that depend on the turn, a sum of all states."""
    state, total = np.zeros(w.shape[0]), 0.0
    for t in range(x.shape[0]):
        state = np.tanh(w @ state + x[t] * (0.1 * t))
        total = total + state.sum()
    return state, total


def backwards(x):
    y = np.empty_like(x)
    y[:, -1] = x[:, -1]
    for j in range(x.shape[1] - 2, -1, -1):
        y[:, j] = 0.5 * y[:, j + 1] + x[:, j] * x[:, j + 1]
    return y


def tables_of_rows(x):
    """Both bounds of a slice move; integers that follow no rule."""
    order = np.random.default_rng(1).permutation(N - 2)
    for i in order:
        x[i : i + 2] = x[i : i + 2] * 0.5 + x[i + 1 : i + 3] - 1.0 / (i + 1)
        x = x + x.mean()
    return x


def fixed_inner_loop(x):
    for i in range(N):
        for k in range(3):
            x[i, k] = x[i, k] * 2.0 + k
        x = x * x.max()
        x = x / x.sum()
    return x


def test_stencils_in_place():
    check(stencil, some(30), some(30))


def test_nested_loops():
    check(seidel, some(20, 23))


def test_recurrences():
    check(recurrence, some(60, 8), some(8, 8))


def test_backwards():
    check(backwards, some(9, 80))


def test_numbers_without_a_rule():
    check(tables_of_rows, some(N))


def test_short_inner_loops_stay_in_the_body():
    check(fixed_inner_loop, some(N, 3))


def test_two_loops_one_after_the_other():
    check(lambda a, b, x: (*stencil(a, b), backwards(x)), some(30), some(30), some(9, 80), loops=2)


def test_what_differs_in_the_first_and_last_turn():
    def run(x):
        y = x
        for i in range(60):
            y = np.sin(y) * 0.5 + np.cos(y) if i else np.cos(x)
            y = y - 1.0 if i == 59 else y + 1.0
        return y

    check(run, some(50))


def test_integers_and_flags():
    def run(x):
        crc = np.int64(0xFFFF)
        for byte in range(20):
            current = x[byte]
            for _ in range(8):
                odd = ((crc ^ current) & 1) == 1
                crc = np.where(odd, (crc >> 1) ^ 0x8408, crc >> 1)
                current = current >> 1
        return crc

    check(run, np.random.default_rng(2).integers(0, 256, 20))


def test_a_number_that_is_a_symbolic_size():
    def run(x):
        for i in range(N):
            x = x * (1.0 + i) / x.shape[0] + x.sum() * 0.5
        return x

    compiled = gm.jit(run, dynamic={"x": ("n",)})
    for n in (1, 5, 33):
        np.testing.assert_allclose(compiled(some(n)), run(some(n)), rtol=1e-11)


def unchanged(f, *args):
    before = gm.jit(f).trace(*args).function
    assert len(before.ops) >= LEAST_OPS["roll"]
    assert str(run_pipeline(before, "roll")) == str(before)


def test_every_turns_value_is_kept():
    def run(x):
        states = []
        for _ in range(80):
            x = np.cos(x) + 0.5 * np.sin(x)
            states.append(x)
        return np.stack(states)

    unchanged(run, some(7))
    np.testing.assert_allclose(gm.jit(run)(some(7)), run(some(7)), rtol=1e-11)


def test_two_turns_back():
    def run(a, b):
        for _ in range(90):
            a, b = b, np.cos(a) * 0.5 + b
        return b

    check(run, some(5), some(5), loops=1)  # by turns of two


def test_weights_of_layers_stay_constants():
    weights = np.random.default_rng(3).random((70, 6, 6))

    def run(x):
        for w in weights:
            x = np.tanh(x @ w) + 1.0
            x = x / 2.0
        return x

    unchanged(run, some(4, 6))


def test_parts_of_a_constant_stay_constants():
    weights = np.random.default_rng(3).random((70, 60, 6))

    def run(x, w=weights):
        w = gm.numpy.asarray(w)
        for i in range(70):
            x = np.tanh(x @ w[i, :6]) + 1.0
            x = x / 2.0
        return x

    unchanged(run, some(4, 6))


def test_functions_of_few_ops_stay():
    def run(x):
        for _ in range(20):
            x = x * 0.5 + 1.0
        return x

    assert all(op.name != "scan" for op in rolled(run, some(5)).ops)


def test_effects_keep_their_order():
    total = gm.Variable(np.zeros(3), name="total")

    def run(x):
        for i in range(80):
            total.assign(total * 0.5 + x * i)
        return total * 1.0

    got = gm.jit(run)(np.ones(3))
    want = np.zeros(3)
    for i in range(80):
        want = want * 0.5 + i
    np.testing.assert_allclose(got, want, rtol=1e-12)


OPS = (
    lambda a, b, i: a + b, lambda a, b, i: np.maximum(a, b) * 0.5,
    lambda a, b, i: np.where(a > b, a - 0.25, b + 0.01 * i), lambda a, b, i: a[::-1] - b,
    lambda a, b, i: np.roll(a, 1) * 0.5 + b, lambda a, b, i: a * b.mean(),
    lambda a, b, i: a + b[i % 5], lambda a, b, i: np.cos(a) + i,
)  # fmt: skip


def random_loop(seed):
    """A program of loops over three arrays: in place and not, nested, with numbers of the turn."""
    draw = random.Random(seed)
    steps = [(draw.choice(OPS), [draw.randrange(3) for _ in range(3)], draw.random() < 0.4)
             for _ in range(draw.randrange(2, 7))]  # fmt: skip
    outer, inner = draw.choice([(40, 1), (12, 9), (9, 3)])
    late = draw.randrange(len(steps))

    def run(*start):
        arrays = list(start)
        for i in range(outer):
            for j in range(inner):
                for number, (f, (to, a, b), part) in enumerate(steps):
                    if j and number >= late:
                        continue
                    value = f(arrays[a], arrays[b], i + j)
                    if part:
                        arrays[to][2:9] = value[i % 4 : i % 4 + 7]
                    else:
                        arrays[to] = value * 0.5
        return tuple(arrays)

    return run


@pytest.mark.parametrize("seed", range(40))
def test_random_loops(seed):
    run = random_loop(seed)
    args = [some(13) + k for k in range(3)]
    got = gm.jit(run)(*(a.copy() for a in args))
    for a, b in zip(got, run(*(a.copy() for a in args)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_random_loops_are_loops():
    """Else the test above would test nothing."""
    args = [some(13) + k for k in range(3)]
    found = [rolled(random_loop(seed), *args) for seed in range(0, 40, 4)]
    assert sum(any(op.name == "scan" for op in made.ops) for made in found) > 5
