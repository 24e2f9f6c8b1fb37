"""Symbolic dims: one trace is right at every size, and Python code that needs a number is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphmill as gm
from graphmill.frontend.sizes import Size, interval
from graphmill.frontend.spec import Spec, spec
from graphmill.frontend.trace import trace
from graphmill.ir.dims import parse_dim
from graphmill.ir.graph import Bounds
from graphmill.ir.verifier import verify
from tests.frontend.comparing import failure, run, same

SIZES = (0, 1, 2, 7)

FUNCTIONS: dict[str, Any] = {
    "elementwise": lambda x: np.exp(x) * 2 + x[:, :1],
    "softmax": lambda x: (lambda e: e / e.sum(-1, keepdims=True))(
        np.exp(x - x.max(-1, keepdims=True))
    ),
    "sums": lambda x: (x.sum(), x.sum(0), x.sum(1), x.prod(axis=1), (x > 0).any(1)),
    "norm": lambda x: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5),
    "product": lambda x: (x @ np.ones((3, 4)), x @ x.T, x.T @ x, np.einsum("ij,kj->ik", x, x)),
    "slices": lambda x: (x[1:], x[:-1], x[::2], x[::-1], x[-3:], x[2:5], x[1:][1:]),
    "neighbours": lambda x: x[1:-1] + x[2:] + x[:-2],
    "writes": lambda x: written(x),
    "shapes": lambda x: (x.reshape(-1), x.T.reshape(-1), x[None], x[:, None, :], x.ravel()),
    "size": lambda x: x * x.shape[0] + x.size / (x.shape[0] + 1),
    "joined": lambda x: (np.concatenate([x, x]), np.stack([x, x]), np.tile(x, (2, 1))),
    "rejoined": lambda x: (
        np.concatenate([x[1:], x[:1]]) + x, np.concatenate([x[-3:], x[:-3]]) * x,
    ),
    "repeated": lambda x: (np.repeat(x, 2, axis=0), np.roll(x, 1, axis=0), np.flip(x, 0)),
    "padded": lambda x: (np.pad(x, 1), np.pad(x, ((0, 2), (1, 0)), constant_values=3)),
    "differences": lambda x: (np.diff(x, axis=0), np.cumsum(x, axis=0)),
    "like": lambda x: (np.zeros_like(x), np.full_like(x, 2), np.ones_like(x[:, 0])),
    "triangles": lambda x: (np.tril(x @ x.T), np.triu(x), np.diagonal(x @ x.T), np.trace(x @ x.T)),
    "sorted": lambda x: (np.sort(x, axis=0), np.argsort(x, axis=0), np.sort(x)),
    "broadcast": lambda x: (np.broadcast_to(x[:, :1], x.shape), x - x[:, None].sum(1)),
    "meshed": lambda x: np.meshgrid(x[:, 0], x[:, 1]),
    "searched": lambda x: np.searchsorted(np.array([-1.0, 0.0, 1.0]), x),
    "made like": lambda x: (
        np.ones(x.shape[0], like=x),
        np.arange(x.shape[0], like=x),
        np.full(x.shape[::-1], 2, like=x),
        np.eye(x.shape[0], like=x),
        np.array([1, 2], like=x),
        np.tri(x.shape[0], 3, like=x),
        np.arange(1, x.shape[0] + 2, 2, like=x),
    ),
    "split": lambda x: (np.split(np.concatenate([x, x]), 2), np.array_split(x, 3)),
    "made": lambda x: (
        np.zeros(x.shape[0]) + np.ones(x.shape)[:, 1], np.full((x.shape[0], 2), 2.5),
        np.eye(x.shape[0]) @ x, np.arange(x.shape[0]) % 2 == 0, np.empty_like(x) * 0,
        np.arange(1, x.shape[0] + 1), np.tri(x.shape[0]) @ x, np.identity(x.shape[0]),
    ),
    "filled": lambda x: filled(x),
    "length": lambda x: (x / (len(x) + 1), np.arange(len(x)) * x[:, 0], np.zeros((len(x), 2))),
    "halves": lambda x: (x[: x.shape[0] // 2], x[x.shape[0] // 2 :], x[: x.shape[0] - 5],
                         x[x.shape[0] - 2 :], x[1 : x.shape[0] - 1], x[x.shape[0] - 4 : -1]),
    "cut": lambda x: x[: x.shape[0] // 4 * 4].reshape(-1, 4, 3).sum(1),
    "flat": lambda x: (x.flatten(), x.reshape(1, -1), x.reshape(x.size), x.reshape(-1, 3)),
    "means": lambda x: (x.mean(axis=1), x.sum(axis=0) / (x.shape[0] + 1), x.std(axis=1)),
    "appended": lambda x: (np.append(x[:, 0], 1.0), np.hstack([x, x]), np.vstack([x, x[:1]])),
}  # fmt: skip


def filled(x: Any) -> Any:
    out = np.zeros(x.shape[0])
    out[1:] = x[:-1, 0]
    out[0:1] = 7
    return out


def written(x: Any) -> Any:
    y = x * 1
    y[1:] += y[:-1]
    y[::2] = 0
    y[:, 1] *= 3
    y[y > 2] = 2
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_trace_serves_all_sizes(name: str) -> None:
    function = FUNCTIONS[name]
    traced = trace(function, ("f64[n, 3]",))
    verify(traced.function)
    for n in SIZES:
        x = np.random.default_rng(n).normal(size=(n, 3))
        with np.errstate(all="ignore"):
            same(run(traced, x), function(x), rtol=1e-12)


def test_two_dims() -> None:
    def f(x: Any, y: Any) -> Any:
        return x @ y, x.shape[0] * y.shape[1] + np.zeros(()), np.outer(x[:, 0], y[0])

    traced = trace(f, ("f64[a, 3]", "f64[3, b]"))
    for a, b in ((0, 2), (1, 1), (3, 5)):
        x, y = np.ones((a, 3)), np.full((3, b), 2.0)
        same(run(traced, x, y), f(x, y), rtol=1e-12)


def test_sizes_are_weak_integers() -> None:
    def f(x: Any) -> Any:
        n = x.shape[0]
        return x / n, x * n, np.sqrt(n) * x, 1 / n + x, n**2 * x, 2**n + x, (n + 1) // 2 * x, -n * x

    traced = trace(f, ("f32[n]",))
    for n in (1, 2, 7):
        x = np.ones(n, "f4")
        got, wanted = run(traced, x), f(x)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
            assert a.dtype == np.float32 or b.dtype == a.dtype


def test_expressions_of_dims_in_specs() -> None:
    traced = trace(lambda x, y: x[: y.shape[0] - 1] * 2, ("f64[n]", "f64[n + 1]"))
    assert run(traced, np.ones(3), np.ones(4)).shape == (3,)


def test_bounds_decide_comparisons() -> None:
    def f(x: Any) -> Any:
        return x if x.shape[0] > 2 and x.shape[0] != 99 and x.shape[0] <= 64 else -x

    traced = trace(f, (spec("f32[n]", n=(3, 64)),))
    assert traced.function.dims == {"n": Bounds(3, 64)}
    assert failure(f, "f32[n]").code == "GM005"


def test_bounds_simplify_slices() -> None:
    traced = trace(lambda x: x[1:-1] + x[2:], (spec("f64[n]", n=2),))
    assert str(traced.function.results[0].type) == "f64[n - 2]"


def test_an_index_beyond_some_sizes_is_read_safely() -> None:
    traced = trace(lambda x: x[2], ("f64[n]",))
    assert run(traced, np.arange(5.0)) == 2
    assert [op.name for op in traced.function.ops if op.name == "gather"]
    known = trace(lambda x: x[2], (spec("f64[n]", n=3),))
    assert not [op.name for op in known.function.ops if op.name == "gather"]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: range(x.shape[0]), lambda x: int(x.shape[0]),
        lambda x: x if x.shape[0] else -x, lambda x: x if x.shape[0] == 1 else -x,
        lambda x: float(x.size), lambda x: x if x.shape[0] > 3 else -x,
        lambda x: [0][x.shape[0]],
    ],
)  # fmt: skip
def test_needing_the_number_is_an_error(f: Any) -> None:
    assert failure(f, "f64[n]").code == "GM005"


@pytest.mark.parametrize("f", [lambda x: len(list(x)), lambda x: list(x), lambda x: np.stack(x)])
def test_symbolic_axes_are_not_iterated(f: Any) -> None:
    assert failure(f, "f64[n]").code == "GM003"


def test_a_loop_over_a_symbolic_size_names_fori_loop() -> None:
    assert "gm.fori_loop(0, n" in failure(lambda x: range(x.shape[0]), "f64[n]").hint


MULTIPLES: dict[str, Any] = {
    "reshape": lambda x: (x.reshape(-1, 4).sum(1), x * 2),
    "explicit": lambda x: x.reshape(x.shape[0] // 4, 4),
    "three axes": lambda x: (x.reshape(2, -1, 2), np.zeros(x.shape[0]) + x),
    "split": lambda x: np.split(x, 4),
    "two needs": lambda x: (x.reshape(-1, 2)[:, 0], np.split(x, 4)),
}


@pytest.mark.parametrize("name", MULTIPLES)
def test_sizes_that_must_be_multiples(name: str) -> None:
    function = MULTIPLES[name]
    traced = trace(function, (spec("f64[n]", n=(0, 64)),))
    assert str(traced.specs[0]) == "f64[4*n_div4]"
    assert traced.function.dims == {"n_div4": Bounds(0, 16)}
    compiled = gm.jit(function, dynamic={"x": ("n",)})
    for n in (4, 0, 12):
        x = np.arange(float(n))
        same(run(traced, x), function(x))
        same(compiled(x), function(x))
    assert len(compiled.executables) == 1
    with pytest.raises(gm.GraphmillError, match="n is 6, no multiple of 4") as caught:
        compiled(np.ones(6))
    assert caught.value.code == "GM017" and caught.value.location is not None


def test_sizes_that_cannot_be_multiples() -> None:
    for f in (lambda x: x[1:].reshape(-1, 4), lambda x: x.reshape(3, 3), lambda x: np.split(x, 0)):
        assert failure(f, "f64[n]").code in ("GM017", "GM025")


def test_built_library_takes_sizes_that_are_multiples(tmp_path: Any) -> None:
    function = MULTIPLES["reshape"]
    gm.build(function, ["f64[n]"], tmp_path / "libf.so")
    loaded = gm.load(tmp_path / "libf.so")
    assert "4*" in next(tmp_path.glob("*.h")).read_text()
    (name,) = loaded.functions
    for n in (8, 0):
        same(tuple(getattr(loaded, name)(np.arange(float(n)))), function(np.arange(float(n))))


def test_different_names_are_different_sizes() -> None:
    error = failure(lambda x, y: x + y, "f64[a]", "f64[b]")
    assert error.code == "GM014" and "one dim name" in error.hint


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("n", 2, 8), ("n + 1", 3, 9), ("2*n - m", 4, 16), ("n*m", 0, None), ("-n", -8, -2),
        ("max(n, 5)", 5, 8), ("min(n, 5)", 2, 5), ("min(n, m)", 0, 8), ("max(n, m)", 2, None),
        ("mod(m, 4)", 0, 3), ("floordiv(m + 1, 2)", 0, None), ("7", 7, 7), ("m - n", -8, None),
        ("floordiv(n, 3)", 0, 2),
    ],
)  # fmt: skip
def test_intervals(text: str, low: int, high: int | None) -> None:
    if text == "2*n - m":
        low, high = None, 16  # type: ignore[assignment]
    assert interval(parse_dim(text), {"n": Bounds(2, 8), "m": Bounds()}) == (low, high)


def test_sizes_compute_like_integers() -> None:
    n = Size(parse_dim("n"))  # type: ignore[arg-type]
    shown = [n + 1, 1 + n, n - 1, 1 - n, 2 * n, n * n, n // 2, n % 2, -n, n - n, n // n, 7 % n]
    assert [str(s) for s in shown] == [
        "n + 1", "n + 1", "n - 1", "-n + 1", "2*n", "n*n", "floordiv(n, 2)", "mod(n, 2)", "-n",
        "0", "1", "mod(7, n)",
    ]  # fmt: skip
    assert n + 1 == 1 + n and hash(n + 1) == hash(1 + n) and n != "n"
    assert isinstance(n - n, int)


# ---- specs


def test_spec_from_text_arrays_and_numbers() -> None:
    assert str(spec("f32[batch, 784]")) == "f32[batch, 784]"
    assert str(spec(np.ones((2, 3), "f4"))) == "f32[2, 3]"
    assert spec(2.5).weak and str(spec(3).type) == "i64[]" and not spec(np.float64(1)).weak
    assert spec(spec("f32[n]")) == spec("f32[n]")
    assert dict(spec("f32[n]", n=(1, 4)).bounds) == {"n": Bounds(1, 4)}


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: spec("float32(3)"), "GM043"), (lambda: spec("f32[3"), "GM043"),
        (lambda: spec("f99[3]"), "GM043"), (lambda: spec("token"), "GM043"),
        (lambda: spec("f32[n]", m=1), "GM043"), (lambda: spec("f32[n]", n=(3, 2)), "GM043"),
        (lambda: spec(object()), "GM040"), (lambda: spec(np.array(["a"])), "GM040"),
        (lambda: spec(np.ones(2, "M8[s]")), "GM019"), (lambda: spec("f32[2+]"), "GM043"),
    ],
)  # fmt: skip
def test_wrong_specs(make: Any, code: str) -> None:
    from graphmill.frontend.errors import GraphmillError

    with pytest.raises(GraphmillError) as caught:
        make()
    assert caught.value.code == code


def test_dynamic_entries() -> None:
    from graphmill.frontend.errors import GraphmillError
    from graphmill.frontend.spec import with_dynamic

    base = spec("f32[8, 784]")
    for entry in (("batch", None), ("batch", 784), "f32[batch, 784]", spec("f32[batch, 784]")):
        made = with_dynamic(base, entry, "x")
        assert isinstance(made, Spec) and str(made) == "f32[batch, 784]"
    bounded = with_dynamic(base, spec("f32[batch, 784]", batch=(1, 64)), "x")
    assert dict(bounded.bounds) == {"batch": Bounds(1, 64)}
    for wrong in (("batch",), ("batch", 10), "f64[batch, 784]", ("batch", 1.5), ("2+", None)):
        with pytest.raises(GraphmillError) as caught:
            with_dynamic(base, wrong, "x")
        assert caught.value.code == "GM045"


def test_a_dim_that_no_call_can_read_off_is_an_error() -> None:
    assert failure(lambda x: x, "f64[2*n + 1]").code == "GM045"


def test_bounds_of_one_dim_must_overlap() -> None:
    error = failure(lambda x, y: x, spec("f64[n]", n=(5, 9)), spec("f64[n]", n=(1, 3)))
    assert error.code == "GM045"
