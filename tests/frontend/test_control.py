"""Branches and loops: the traced ones give what the same calls give in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphmill.frontend.control import cond, fori_loop, scan, switch, while_loop
from graphmill.frontend.core import as_tracer, tracing
from graphmill.frontend.spec import Spec
from graphmill.frontend.trace import trace
from graphmill.ir.dtypes import f32
from graphmill.ir.types import TensorType
from graphmill.ir.verifier import verify
from tests.frontend.comparing import agree, failure, run, same

X = np.arange(6.0, dtype="f4")
W = np.random.default_rng(1).normal(size=(6, 6)).astype("f4") * np.float32(0.3)
TABLE = np.arange(100.0, dtype="f4")


def table() -> Any:
    """The table as something that traced values index."""
    return as_tracer(TABLE) if tracing() else TABLE


def ops(function: Any, *args: Any) -> list[str]:
    return [op.name for op in trace(function, args).function.walk()]


def test_cond_runs_one_branch() -> None:
    def f(x: Any) -> Any:
        return cond(x.sum() > 3, lambda: x * 2, lambda: (x @ W)[::-1])

    agree(f, X, rtol=1e-5)
    agree(f, X * 0, rtol=1e-5)
    agree(lambda x: cond(x[0] > 1, lambda a, b: a - b, lambda a, b: b, x, x * 2), X)


def test_cond_promotes_and_takes_structures() -> None:
    def f(x: Any) -> Any:
        return cond(
            np.any(x > 4), lambda: {"a": x, "b": (1, None)}, lambda: {"a": x * 1.0, "b": (2, None)}
        )

    got = run(trace(f, (X,)), X)
    assert got["a"].dtype == np.float32 and got["b"] == (1, None)


def test_a_known_predicate_chooses_while_tracing() -> None:
    assert "cond" not in ops(lambda x: cond(True, lambda: x, lambda: -x), X)


def test_switch_clamps() -> None:
    for i in (-3, 0, 1, 2, 9):
        branches = [lambda x: x, lambda x: x * 2, lambda x: x + 1]
        agree(lambda x, i, b=branches: switch(i, b, x), X, np.int64(i))


def test_while_loop() -> None:
    def f(x: Any) -> Any:
        def body(state: Any) -> Any:
            i, total = state
            return i + 1, total + x[i] * table()[i + 1]

        return while_loop(lambda s: s[0] < 6, body, (0, np.float32(0)))

    agree(f, X)


def test_a_number_takes_the_dtype_that_the_body_gives() -> None:
    traced = trace(lambda x: while_loop(lambda s: s < 10, lambda s: s + x[1], 0.0), (X,))
    assert traced.function.results[0].tensor == TensorType(f32)
    assert run(traced, X) == 10


def test_fori_loop_writes_and_counts() -> None:
    def f(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            y = y.copy()
            y[i] = y[i] * 2 + i
            y[1:] += y[:-1]
            return y

        return fori_loop(1, 5, body, x)

    agree(f, X)
    assert ops(f, X).count("scan") == 1


@pytest.mark.parametrize("bounds", [(0, 0), (2, 2), (5, 1), (-3, 2), (0, 4)])
def test_fori_loop_bounds(bounds: tuple[int, int]) -> None:
    def body(i: Any, s: Any) -> Any:
        return s * 2 + i

    agree(lambda x: fori_loop(*bounds, body, x), X)
    agree(lambda x, n: fori_loop(bounds[0], n, body, x), X, bounds[1])


def test_an_unused_counter_costs_nothing() -> None:
    traced = trace(lambda x: fori_loop(0, 3, lambda i, y: y @ W, x), (X,))
    (loop,) = [op for op in traced.function.ops if op.name == "scan"]
    assert loop.attrs["xs"] == 0


def test_scan() -> None:
    def f(x: Any) -> Any:
        def body(s: Any, v: Any) -> Any:
            return s * np.float32(0.5) + v, (s, v * W[0, 0])

        return scan(body, np.float32(0), x)

    agree(f, X)
    agree(lambda x: scan(lambda s, v: (s + v, s), x[0], x[::-1], reverse=True), X)
    agree(lambda x: scan(lambda s, v: (s + v["a"] * v["b"], None), x[0], {"a": x, "b": x}), X)
    agree(lambda x: scan(lambda s, _: (s + 1, s * 2), x, length=4), X)


def test_nested_loops_capture_through_both() -> None:
    def f(x: Any) -> Any:
        def outer(i: Any, s: Any) -> Any:
            return fori_loop(0, i, lambda j, t: t + x[j] * table()[5] + table().sum(), s)

        return fori_loop(0, 4, outer, x * 0)

    agree(f, X, rtol=1e-6)


def test_cond_inside_a_loop() -> None:
    def f(x: Any) -> Any:
        def body(i: Any, s: Any) -> Any:
            return cond(s.sum() > 20, lambda: s - x, lambda: s + x[i])

        return fori_loop(0, 6, body, x)

    agree(f, X)


def test_loops_over_a_symbolic_length() -> None:
    def f(x: Any) -> Any:
        total, parts = scan(lambda s, v: (s + v, s * v), x.dtype.type(0), x)
        n = x.shape[0]
        return total, parts, fori_loop(0, n, lambda i, s: s + x[i], 0.0 * total)

    traced = trace(f, ("f32[n]",))
    assert run(traced, X[:0])[1].shape == (0,)
    for n in (1, 2, 7):
        x = np.arange(n, dtype="f4")
        same(run(traced, x), f(x))


def test_strided_arguments_enter_loops_as_copies() -> None:
    given = Spec(TensorType(f32, (6, 6), "strided"))
    traced = trace(lambda x: (fori_loop(0, 3, lambda i, y: y @ x, x), scan(
        lambda a, b: (a + b, b), x[0], x)), (given,))  # fmt: skip
    verify(traced.function)


def test_shared_captures_are_one_argument() -> None:
    def f(x: Any) -> Any:
        return while_loop(
            lambda s: (s * TABLE).sum() < 10, lambda s: s + (x * TABLE[:6]).sum(), 0.0
        )

    traced = trace(f, (X,))
    (loop,) = [op for op in traced.function.ops if op.name == "while"]
    assert len(loop.operands) == len(set(loop.operands))


@pytest.mark.parametrize(
    ("f", "code"),
    [
        (lambda x: cond(x > 0, lambda: x, lambda: x), "GM052"),
        (lambda x: cond(x.sum() > 0, lambda: x, lambda: x[1:]), "GM050"),
        (lambda x: cond(x.sum() > 0, lambda: x, lambda: (x, x)), "GM046"),
        (lambda x: while_loop(lambda s: s, lambda s: s, x), "GM052"),
        (lambda x: while_loop(lambda s: (s[0] > 0, 1), lambda s: s, x), "GM052"),
        (lambda x: while_loop(lambda s: s > 0, lambda s: s.astype("f8"), x.sum()), "GM051"),
        (lambda x: fori_loop(0, 3, lambda i, s: s[1:], x), "GM051"),
        (lambda x: fori_loop(0, 3, lambda i, s: (s, s), x), "GM046"),
        (lambda x: fori_loop(0, x, lambda i, s: s, x), "GM052"),
        (lambda x: scan(lambda s, v: s, x, x), "GM046"),
        (lambda x: scan(lambda s, v: (s, v), x, (x, x[1:])), "GM053"),
        (lambda x: scan(lambda s, v: (s, v), x, x[0]), "GM053"),
        (lambda x: scan(lambda s, v: (s, v), x), "GM053"),
        (lambda x: switch(x, [lambda: x]), "GM052"),
        (lambda x: switch(0, []), "GM025"),
    ],
)
def test_wrong_uses(f: Any, code: str) -> None:
    assert failure(f, X).code == code


def test_a_value_of_a_body_does_not_leave_it() -> None:
    def f(x: Any) -> Any:
        kept: list[Any] = []
        fori_loop(0, 3, lambda i, y: (kept.append(y), y)[1], x)
        return kept[0] + 1

    assert failure(f, X).code == "GM030"


def test_a_captured_array_is_not_written() -> None:
    def f(x: Any) -> Any:
        y = x * 1

        def body(i: Any, s: Any) -> Any:
            y[0] = 1
            return s

        return fori_loop(0, 3, body, x)

    assert failure(f, X).code == "GM024"


def definite(n: int) -> Any:
    x = np.random.default_rng(0).random((n, n))
    return x @ x.T + n * np.eye(n)


def cholesky(a: Any) -> Any:
    a = a.copy()

    def row(i: Any, a: Any) -> Any:
        def column(j: Any, a: Any) -> Any:
            a[i, j] = (a[i, j] - a[i, :j] @ a[j, :j]) / a[j, j]
            return a

        a = fori_loop(0, i, column, a)
        a[i, i] = np.sqrt(a[i, i] - a[i, :i] @ a[i, :i])
        return a

    return fori_loop(0, a.shape[0], row, a)


def test_the_counter_bounds_slices() -> None:
    agree(cholesky, definite(13), rtol=1e-10)

    def parts(x: Any) -> Any:
        def body(i: Any, total: Any) -> Any:
            window = x[i : 2 * i]
            ramp = np.arange(i) * 1.0
            return total + window.sum() + (ramp * x[-i:]).sum() + np.ones((i, 3)).sum()

        return fori_loop(1, 4, body, 0.0)

    agree(parts, np.arange(9.0))

    def shrinking(x: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            x[i + 1 :] -= x[i] * x[: x.shape[0] - 1 - i]
            return x

        return fori_loop(0, x.shape[0] - 1, body, x.copy())

    agree(shrinking, np.random.default_rng(3).random(12), rtol=1e-10)


def test_the_counter_is_a_size_for_symbolic_sizes() -> None:
    import graphmill as gm

    compiled = gm.jit(cholesky, dynamic={"a": ("n", "n")})
    for n in (1, 2, 5, 24):
        a = definite(n)
        np.testing.assert_allclose(np.tril(compiled(a)), np.linalg.cholesky(a), rtol=1e-10)


def test_what_a_loop_carries_keeps_its_size() -> None:
    def grows(x: Any) -> Any:
        return fori_loop(0, 4, lambda i, y: x[:i], x)

    assert failure(grows, X).code == "GM051"


def test_a_bound_from_data_is_no_size() -> None:
    def picks(x: Any, ends: Any) -> Any:
        return fori_loop(0, 3, lambda i, total: total + x[: ends[i]].sum(), 0.0)

    assert failure(picks, X, np.arange(3)).code == "GM022"


def test_a_narrow_integer_is_no_size() -> None:
    def picks(x: Any) -> Any:
        back = (-as_tracer(np.uint8(1))).astype(np.int64)  # 255
        return fori_loop(0, 3, lambda i, total: total + x[i + back :].sum(), 0.0)

    assert failure(picks, X).code == "GM022"
