"""Variables: state between calls, in order, through control flow, threads and libraries."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphmill as gm


def test_reads_and_assignments_happen_in_order():
    v = gm.Variable(np.zeros(3, np.float32), "total")

    @gm.jit
    def step(x):
        before = v.read()
        v.assign_add(x)
        middle = v * 10
        v.assign(v - 1)
        return before, middle, v

    total = np.zeros(3, np.float32)
    for k in range(1, 4):
        got = step(np.full(3, k, np.float32))
        wanted = (total, (total + k) * 10, total + k - 1)
        total = total + k - 1
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(v.value, total)
    assert len(step.executables) == 1 and not v.value.flags.writeable


def test_several_functions_share_one():
    v = gm.Variable(1.0)
    double, read = gm.jit(lambda x: v.assign(v * 2) or x), gm.jit(lambda x: v + x)
    double(0.0)
    assert read(1.0) == 3 and v.value == 2
    v.value = 5
    assert read(1.0) == 6
    v.assign_add(1)
    assert read(0.0) == 6 and float(v) == 6


class Layer:
    def __init__(self):
        self.w = gm.Variable(np.ones((2, 2)), "w")
        self.calls = gm.Variable(0, "calls")

    @gm.jit
    def inner(x):
        return x

    def __call__(self, x):
        self.calls += 1
        self.w[0, 1] = x[0]
        return x @ self.w


def test_in_objects_and_with_operators():
    layer = Layer()
    call = gm.jit(lambda x: layer(x))
    x = np.array([2.0, 3.0])
    np.testing.assert_array_equal(call(x), [5, 7])
    np.testing.assert_array_equal(layer.w.value, [[1, 2], [1, 1]])
    call(x)
    assert layer.calls.value == 2 and layer.calls.dtype == np.int64


def test_through_loops_and_branches():
    v, most = gm.Variable(0.0), gm.Variable(-np.inf)

    @gm.jit
    def run(xs):
        def turn(i, s):
            v.assign_add(xs[i])
            return s + v.read()

        def row(carry, x):
            gm.cond(x > most, lambda: most.assign(x) or x, lambda: x)
            return carry, most.read()

        return gm.fori_loop(0, 4, turn, 0.0), gm.scan(row, 0, xs)[1]

    xs = np.array([1.0, 3.0, 2.0, 5.0])
    for _ in range(2):
        start = float(v)
        sums, maxima = run(xs)
        np.testing.assert_allclose(sums, (start + np.cumsum(xs)).sum())
        assert v.value == start + 11 and most.value == 5
    np.testing.assert_array_equal(maxima, [5, 5, 5, 5])


def test_symbolic_sizes_and_stages():
    v = gm.Variable(np.int32(0), "seen")

    def count(x):
        v.assign_add(x.shape[0])
        return x.sum() + v

    f = gm.jit(count, dynamic={"x": ("n",)})
    f(np.ones(2)), f(np.ones(5))
    assert v.value == 7 and len(f.executables) == 1
    graph = f.trace("f64[4]")
    assert "variable.assign" in str(graph) and graph.interpret(np.ones(4)) == (15,)
    assert v.value == 7
    assert f.compile("f64[4]").run(np.ones(4)) == (15,) and v.value == 11


def test_threads_do_not_lose_updates():
    v = gm.Variable(np.zeros(1000))
    step = gm.jit(lambda x: v.assign_add(x) or x)
    step(np.zeros(1000))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: step(np.ones(1000)), range(200)))
    np.testing.assert_array_equal(v.value, 200)


def test_a_failed_call_assigns_nothing():
    v = gm.Variable(1.0)
    f = gm.jit(lambda x: v.assign(x) or np.log(x), check="nan")
    assert f(1.0) == 0
    with pytest.raises(gm.GraphmillError):
        f(-1.0)
    assert v.value == 1


def test_libraries_take_and_give_state(tmp_path):
    v = gm.Variable(np.zeros(2), "state")

    def step(x):
        v.assign_add(x)
        return v * 2

    gm.build(step, ["f64[2]"], tmp_path / "libstep.so")
    run = gm.load(tmp_path / "libstep.so").step
    result, state = run(np.ones(2), np.full(2, 3.0))
    np.testing.assert_array_equal(result, [8, 8])
    np.testing.assert_array_equal(state, [4, 4])
    assert v.value.sum() == 0
    header = next(tmp_path.glob("*.h")).read_text()
    assert "state" in header


@pytest.mark.parametrize(
    ("assign", "code"),
    [
        (lambda v, x: v.assign(x[:1, None, None]), "GM017"), (lambda v, x: v.assign(x), "GM017"),
        (lambda v, x: v.assign(1.5 * x[:2]), "GM018"), (lambda v, x: v.assign(x[0] * 1j), "GM018"),
        (lambda v, x: v.assign(2.5), "GM018"), (lambda v, x: v.assign_add(0.5), "GM018"),
    ],
)  # fmt: skip
def test_dtype_and_shape_stay(assign, code):
    v = gm.Variable(np.zeros(2, np.int32), "v")
    for call in (gm.jit(lambda x: assign(v, x) or x), lambda x: assign(v, x)):
        with pytest.raises(gm.GraphmillError) as caught:
            call(np.arange(3))
        assert caught.value.code == code
    with pytest.raises(gm.GraphmillError, match="GM019"):
        gm.Variable("text")


def test_like_an_array_outside_of_functions():
    v = gm.Variable([[1.0, 2.0]])
    assert v.shape == (1, 2) and len(v) == 1 and repr(v) == "Variable(f64[1, 2])"
    v += 1
    v *= 2
    v[0, 0] = 0
    np.testing.assert_array_equal(np.exp(v - v), [[1, 1]])
    np.testing.assert_array_equal(np.concatenate([v, v]), [[0, 6], [0, 6]])
    assert v.sum() == 6 and np.asarray(v)[0, 1] == 6
    with pytest.raises(gm.GraphmillError, match="GM011"):
        np.add(1, 1, out=v)
