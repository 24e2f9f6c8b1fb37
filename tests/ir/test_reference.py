"""The reference evaluator against NumPy written out, where an op's meaning is not one call."""

import ml_dtypes
import numpy as np
import pytest

from graphmill.ir.builder import function, region
from graphmill.ir.dims import Dim
from graphmill.ir.dtypes import bf16, dtype, f32, i8, i32, i64, u8, u32, u64
from graphmill.ir.graph import Bounds, Location, Module, Variable
from graphmill.ir.parser import parse
from graphmill.ir.reference import CheckFailed, InterpretError, bind_sizes, interpret
from graphmill.ir.types import tensor
from tests.ir.op_samples import one_op

RNG = np.random.default_rng(7)


def run(op, *arrays, **attrs):
    arrays = [np.asarray(a) for a in arrays]
    types = [tensor(dtype(a.dtype), *a.shape) for a in arrays]
    results = interpret(one_op(op, types, attrs), *arrays)
    return results[0] if len(results) == 1 else results


X = RNG.normal(size=(4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,)])
def test_gather_one_axis(axes):
    index = np.array([[0, -1], [2, 1]])
    want = np.moveaxis(np.take(X, index, axes[0]), (axes[0], axes[0] + 1), (0, 1))
    np.testing.assert_array_equal(run("gather", X, index, axes=axes), want)


def test_gather_two_axes_in_either_order():
    i, j = np.array([0, 3, 1]), np.array([2, 0, -3])
    np.testing.assert_array_equal(run("gather", X, i, j, axes=(0, 2)), X[i, :, j])
    np.testing.assert_array_equal(run("gather", X, j, i, axes=(2, 0)), X[i, :, j])


def test_gather_outside_reads_the_nearest():
    got = run("gather", np.arange(4), np.array([-99, -4, 3, 99, -5]), axes=(0,))
    assert got.tolist() == [0, 0, 3, 3, 0]


@pytest.mark.parametrize("mode", ["set", "add", "mul", "min", "max"])
def test_scatter_as_a_loop(mode):
    index = np.array([1, 3, 1, -1, 9, -9])
    updates = RNG.normal(size=(6, 5)).astype(np.float32)
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    want = x.copy()
    combine = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}
    for k, row in zip(index, updates, strict=True):
        if -4 <= k < 4:
            want[k] = row if mode == "set" else combine[mode](want[k], row)
    np.testing.assert_array_equal(run("scatter", x, updates, index, axes=(0,), mode=mode), want)


def conv_loops(x, w, strides, low, high, dilation, input_dilation, groups):
    n, c, *size = x.shape
    o, per, *taps = w.shape
    spread = [(s - 1) * d + 1 for s, d in zip(size, input_dilation, strict=True)]
    full = np.zeros((n, c, *(a + s + b for a, s, b in zip(low, spread, high, strict=True))))
    full[:, :, low[0] : low[0] + spread[0] : input_dilation[0],
         low[1] : low[1] + spread[1] : input_dilation[1]] = x  # fmt: skip
    out = [
        (f - ((t - 1) * d + 1)) // s + 1
        for f, t, d, s in zip(full.shape[2:], taps, dilation, strides, strict=True)
    ]
    y = np.zeros((n, o, *out))
    for b, k, i, j in np.ndindex(*y.shape):
        first = k // (o // groups) * per
        for q, u, v in np.ndindex(per, *taps):
            at = i * strides[0] + u * dilation[0], j * strides[1] + v * dilation[1]
            y[b, k, i, j] += full[b, first + q, at[0], at[1]] * w[k, q, u, v]
    return y


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"strides": (2, 1)},
        {"low": (1, 2), "high": (0, 1)},
        {"dilation": (1, 2)},
        {"input_dilation": (2, 1)},
        {"groups": 2},
        {"strides": (2, 2), "low": (1, 1), "high": (1, 1), "dilation": (2, 1), "groups": 4},
    ],
)
def test_conv_as_loops(change):
    attrs = {"strides": (1, 1), "low": (0, 0), "high": (0, 0), "dilation": (1, 1),
             "input_dilation": (1, 1), "groups": 1, **change}  # fmt: skip
    x = RNG.normal(size=(2, 4, 5, 6))
    w = RNG.normal(size=(4, 4 // attrs["groups"], 2, 3))
    np.testing.assert_allclose(run("conv", x, w, **attrs), conv_loops(x, w, **attrs), atol=1e-12)


@pytest.mark.parametrize("monoid, pad", [("max", -np.inf), ("min", np.inf), ("sum", 0)])
def test_window_reduce_as_loops(monoid, pad):
    x = RNG.normal(size=(6, 7))
    got = run("window_reduce", x, window=(2, 3), strides=(2, 1), low=(1, 0), high=(0, 2),
              dilation=(1, 2), monoid=monoid)  # fmt: skip
    full = np.pad(x, ((1, 0), (0, 2)), constant_values=pad)
    combine = {"max": np.max, "min": np.min, "sum": np.sum}[monoid]
    want = [[combine(full[i : i + 2, j : j + 5 : 2]) for j in range(5)] for i in range(0, 6, 2)]
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_sort_is_stable_and_moves_the_rest_along():
    key = np.array([3, 1, 3, 2, 1])
    for descending, order in ((False, [1, 4, 3, 0, 2]), (True, [0, 2, 3, 1, 4])):
        a, b = run("sort", key, np.arange(5), axis=0, descending=descending)
        assert b.tolist() == order and a.tolist() == key[order].tolist()


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("of", [np.float32, ml_dtypes.bfloat16])
def test_sort_puts_nan_last(of, descending):
    got = run("sort", np.array([np.nan, 1, -np.inf, np.nan, 2], of), axis=0, descending=descending)
    want = [-np.inf, 1, 2][:: -1 if descending else 1]
    assert got[:3].astype(float).tolist() == want and np.isnan(got[3:].astype(float)).all()


def test_top_k():
    x = RNG.normal(size=(3, 8)).astype(np.float32)
    values, order = run("top_k", x, k=3)
    np.testing.assert_array_equal(values, -np.sort(-x, -1)[:, :3])
    np.testing.assert_array_equal(np.take_along_axis(x, order, -1), values)


def test_rng_bits_are_philox():
    # Salmon et al.'s known answers: a zero key and counter; all bits set
    first = run("rng_bits", np.zeros(2, np.uint64), shape=(4,), dtype=u32)
    assert [hex(int(v)) for v in first] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    state = np.array([11, 5], np.uint64)
    longer = run("rng_bits", state, shape=(3, 5), dtype=u32)
    np.testing.assert_array_equal(longer.ravel()[:8], run("rng_bits", state, shape=(8,), dtype=u32))
    wide = run("rng_bits", state, shape=(2,), dtype=u64)
    narrow = longer.ravel()[:4].astype(np.uint64)
    np.testing.assert_array_equal(wide, narrow[0::2] | narrow[1::2] << np.uint64(32))
    assert abs(run("rng_bits", state, shape=(40000,), dtype=u32).mean() / 2**31 - 1) < 0.01


@pytest.mark.parametrize(
    "x, to, want",
    [
        ([1.9, -1.9, 300, -300, np.nan, np.inf], i8, [1, -1, 127, -128, 0, 127]),
        ([-1.0, 255.9, 256.0], u8, [0, 255, 255]),
        ([2.0**63, -(2.0**63), 2.0**31], i64, [2**63 - 1, -(2**63), 2**31]),
    ],
)
def test_float_to_integer_saturates(x, to, want):
    assert run("cast", np.array(x), dtype=to).tolist() == want


def test_casts_wrap_integers_and_round_halves():
    assert run("cast", np.array([300, -1], np.int64), dtype=u8).tolist() == [44, 255]
    got = run("cast", np.array([1.00390625], np.float32), dtype=bf16)
    assert float(got[0]) == 1.0


def test_integer_division_by_zero_is_defined():
    zero = np.zeros(2, np.int32)
    assert run("floordiv", np.array([5, -5], np.int32), zero).tolist() == [0, 0]
    assert run("mod", np.array([5, -5], np.int32), zero).tolist() == [0, 0]


def test_half_precision_accumulates_wide():
    ones = np.full(5000, 1, ml_dtypes.bfloat16)
    assert float(run("reduce", ones, axes=(0,), monoid="sum")) == 4992  # 5000 rounded to bf16
    got = run("dot_general", ones, ones, x_batch=(), y_batch=(), x_contract=(0,), y_contract=(0,),
              dtype=bf16)  # fmt: skip
    assert float(got) == 4992


def test_pad_interior_and_slice_undo_each_other():
    x = np.arange(6.0).reshape(2, 3)
    padded = run("pad", x, np.float64(9), low=(1, 0), high=(0, 2), interior=(0, 1))
    assert padded.tolist() == [[9] * 7, [0, 9, 1, 9, 2, 9, 9], [3, 9, 4, 9, 5, 9, 9]]
    back = run("slice", padded, start=(1, 0), stop=(3, 5), step=(1, 2))
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("start, at", [(0, 0), (2, 2), (9, 3), (-1, 3), (-2, 3), (-5, 0), (-9, 0)])
def test_dynamic_slices_stay_inside(start, at):
    x = np.arange(5)
    begin = np.asarray(start)
    np.testing.assert_array_equal(run("dynamic_slice", x, begin, sizes=(2,)), x[at : at + 2])
    want = x.copy()
    want[at : at + 2] = -1
    got = run("dynamic_update_slice", x, np.full(2, -1), begin)
    np.testing.assert_array_equal(got, want)


# ---- control flow, calls, state


def test_while_counts():
    i = tensor(i32)
    test = region([i, i], lambda b, k, n: b.op("lt", k, n))
    body = region([i, i], lambda b, k, n: b.op("add", k, b.constant(3, i32)))
    made = function(
        "f", {"k": i, "n": i},
        lambda b, k, n: b.emit("while", [k, n], {"carry": 1}, [test, body]).result,
    )  # fmt: skip
    assert [int(interpret(made, np.int32(0), np.int32(n))[0]) for n in (-1, 0, 7)] == [0, 0, 9]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_scan_is_a_cumulative_sum(n, reverse):
    row = tensor(f32)
    body = region([row, row], lambda b, c, x: [b.op("add", c, x)] * 2)
    made = function(
        "f", {"c": row, "xs": tensor(f32, "n")},
        lambda b, c, xs: b.emit(
            "scan", [c, xs],
            {"carry": 1, "xs": 1, "length": Dim.of("n"), "reverse": reverse}, [body],
        ).results,
    )  # fmt: skip
    xs = np.arange(1, n + 1, dtype=np.float32)
    last, sums = interpret(made, np.float32(0), xs)
    want = np.cumsum(xs[::-1])[::-1] if reverse else np.cumsum(xs)
    np.testing.assert_array_equal(sums, want)
    assert last == xs.sum()


@pytest.mark.parametrize("index, want", [(0, 10), (1, 20), (2, 30), (-3, 10), (7, 30)])
def test_cond_clamps_the_branch(index, want):
    branches = [region([], lambda b, k=k: b.constant(k, i32)) for k in (10, 20, 30)]
    made = function("f", {"i": tensor(i32)}, lambda b, i: b.emit("cond", [i], {}, branches).result)
    assert int(interpret(made, np.int32(index))[0]) == want


COUNTER = """\
variable @count: i64[] = 5

func @bump(%by: i64[]) -> (i64[], i64[]) {
  %0: token = token
  %old: i64[], %1: token = variable.read %0 {name="count", type=i64[]}
  %new: i64[] = call %old, %by {callee="plus", types=[i64[]]}
  %2: token = variable.assign %new, %1 {name="count"}
  %seen: i64[], %3: token = variable.read %2 {name="count", type=i64[]}
  return %old, %seen
}
func @plus(%a: i64[], %b: i64[]) -> (i64[]) {
  %c: i64[] = add %a, %b
  return %c
}
"""


def test_variables_keep_their_value():
    module, state = parse(COUNTER), {}
    results = [interpret(module, np.int64(2), variables=state) for _ in range(3)]
    assert [(int(a), int(b)) for a, b in results] == [(5, 7), (7, 9), (9, 11)]
    assert int(interpret(module, np.int64(1))[1]) == 6
    assert int(module.variables["count"].initial) == 5


def test_variables_without_a_value():
    module = parse(COUNTER)
    module.variables["count"] = Variable("count", tensor(i64))
    with pytest.raises(InterpretError, match="variable 'count' has no value yet"):
        interpret(module, np.int64(1))


@pytest.mark.parametrize(
    "kind, x, index, value",
    [
        ("nan", np.array([[0, 1], [np.inf, np.nan]], np.float32), (1, 0), np.inf),
        ("bounds", np.array([0, 9, -10, 10]), (3,), 10),
        ("bounds", np.array([-11, 0]), (0,), -11),
    ],
)
def test_checks_fire(kind, x, index, value):
    made = one_op(
        "check", [tensor(dtype(x.dtype), *x.shape)], {"kind": kind, "size": 10, "axis": 0}
    )
    made.ops[0].loc = Location("model.py", 8)
    with pytest.raises(CheckFailed, match=r"model\.py:8") as caught:
        interpret(made, x)
    assert (caught.value.index, caught.value.value) == (index, value)
    fine = np.zeros_like(x)
    np.testing.assert_array_equal(interpret(made, fine)[0], fine)


def test_a_short_axis_fires():
    made = one_op("require", [tensor(f32, "n")], {"size": Dim.of("n"), "least": 2})
    made.ops[0].loc = Location("model.py", 8)
    assert interpret(made, np.ones(2, np.float32)) == ()
    with pytest.raises(CheckFailed, match=r"model\.py:8.*too few elements to choose from: 1"):
        interpret(made, np.ones(1, np.float32))


# ---- arguments and sizes


def make(**params):
    return function("f", params, lambda b, *args: args, {"n": Bounds(1, 8)})


@pytest.mark.parametrize(
    "made, arrays, reason",
    [
        (make(x=tensor(f32, "n")), [], "f takes 1 arrays, got 0"),
        (make(x=tensor(f32, "n")), [np.zeros(3)], r"argument x is f64\[3\], not f32\[n\]"),
        (make(x=tensor(f32, "n")), [np.zeros((3, 1), np.float32)], "gives dim 'n'"),
        (make(x=tensor(f32, "n")), [np.zeros(9, np.float32)], r"dim n = 9 is outside 1\.\.8"),
        (make(x=tensor(f32, "n"), y=tensor(f32, "n")),
         [np.zeros(3, np.float32), np.zeros(4, np.float32)], r"argument y is f32\[4\]"),
        (make(x=tensor(f32, "2*n")), [np.zeros(3, np.float32)], "gives dim 'n'"),
    ],
)  # fmt: skip
def test_arguments_are_checked(made, arrays, reason):
    with pytest.raises(InterpretError, match=reason):
        interpret(made, *arrays)


def test_sizes_are_solved():
    types = [tensor(f32, "2*n + 1", "m"), tensor(f32, "n*m")]
    assert bind_sizes(types, [(7, 4), (12,)], {}) == {"n": 3, "m": 4}


def test_sizes_that_no_argument_shows_are_given():
    made = function(
        "f", {}, lambda b: b.op("iota", shape=(Dim.of("n"),), axis=0, dtype=i32), {"n": Bounds()}
    )
    assert interpret(made, sizes={"n": 3})[0].tolist() == [0, 1, 2]
    with pytest.raises(InterpretError, match="pass sizes="):
        interpret(made)


def test_callees_bind_their_own_dims():
    text = """
    func @f(%x: f32[n, 3]) -> (f32[3, n]) dims={n: 0..} {
      %y: f32[3, n] = transpose %x {perm=[1, 0]}
      %z: f32[3, n] = call %y {callee="g", types=[f32[3, n]]}
      return %z
    }
    func @g(%x: f32[a, b]) -> (f32[a, b]) dims={a: 0.., b: 0..} {
      %y: f32[a, b] = exp %x
      return %y
    }"""
    x = np.ones((2, 3), np.float32)
    assert interpret(parse(text), x)[0].shape == (3, 2)


def test_a_module_runs_its_entry():
    made = make(x=tensor(f32, "n"))
    assert interpret(Module({"f": made}), np.zeros(2, np.float32))[0].shape == (2,)
