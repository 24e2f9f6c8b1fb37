"""Loops whose slices grow or shrink from turn to turn become loops whose sizes are dims."""

import numpy as np
import pytest

import graphmill as gm
from graphmill.passes.manager import run_pipeline
from graphmill.runtime import knobs

N = 14


def some(*shape):
    return np.random.default_rng(len(shape)).random(shape)


def definite(n):
    x = some(n, n)
    return x @ x.T + n * np.eye(n)


def trisolv(low, x, b):
    for i in range(x.shape[0]):
        x[i] = (b[i] - low[i, :i] @ x[:i]) / low[i, i]
    return x


def backwards(up, x, b):
    for i in range(x.shape[0] - 1, -1, -1):
        x[i] = (b[i] - up[i, i + 1 :] @ x[i + 1 :]) / up[i, i]
    return x


def cholesky(a):
    a[0, 0] = np.sqrt(a[0, 0])
    for i in range(1, a.shape[0]):
        for j in range(i):
            a[i, j] -= np.dot(a[i, :j], a[j, :j])
            a[i, j] /= a[j, j]
        a[i, i] -= np.dot(a[i, :i], a[i, :i])
        a[i, i] = np.sqrt(a[i, i])
    return a


def lu(a):
    for i in range(a.shape[0]):
        for j in range(i):
            a[i, j] -= a[i, :j] @ a[:j, j]
            a[i, j] /= a[j, j]
        for j in range(i, a.shape[0]):
            a[i, j] -= a[i, :i] @ a[:i, j]
    return a


def durbin(r):
    y = np.empty_like(r)
    alpha, beta = -r[0], 1.0
    y[0] = -r[0]
    for k in range(1, r.shape[0]):
        beta *= 1.0 - alpha * alpha
        alpha = -(r[k] + np.dot(np.flip(r[:k]), y[:k])) / beta
        y[:k] += alpha * np.flip(y[:k])
        y[k] = alpha
    return y


def gramschmidt(a):
    q, r = np.zeros_like(a), np.zeros((a.shape[1], a.shape[1]))
    for k in range(a.shape[1]):
        r[k, k] = np.sqrt(np.dot(a[:, k], a[:, k]))
        q[:, k] = a[:, k] / r[k, k]
        for j in range(k + 1, a.shape[1]):
            r[k, j] = np.dot(q[:, k], a[:, j])
            a[:, j] -= q[:, k] * r[k, j]
    return q, r


def trmm(a, b):
    for i in range(b.shape[0]):
        for j in range(b.shape[1]):
            b[i, j] += np.dot(a[i + 1 :, i], b[i + 1 :, j])
    return b * 1.5


def syrk(c, a):
    for i in range(a.shape[0]):
        c[i, : i + 1] *= 1.2
        for k in range(a.shape[1]):
            c[i, : i + 1] += 1.5 * a[i, k] * a[: i + 1, k]
    return c


def blocks(a):
    """Products of matrices that grow, and shapes that grow along two axes."""
    for i in range(1, a.shape[0]):
        a[:i, :i] = np.tanh(a[:i, :i] @ a[:i, :i].T) + np.sum(a[i:, :i], 0)
        a[i:, i] = a[i:, :i].max(axis=1)
    return a


def outer_parts(x):
    """Sizes of middle turns are largest."""
    for i in range(1, 24):
        part = np.outer(x[:i], x[i:])
        x = x * 0.9 + np.tanh(part).sum() * 1e-3
    return x


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (trisolv, (definite(24), some(24), some(24))),
        (backwards, (definite(24), some(24), some(24))),
        (cholesky, (definite(N),)),
        (lu, (definite(N),)),
        (durbin, (some(24),)),
        (gramschmidt, (some(20, 18),)),
        (trmm, (some(18, 18), some(18, 12))),
        (syrk, (some(N, N), some(N, 9))),
        (blocks, (some(24, 24) * 0.1,)),
        (outer_parts, (some(24),)),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_triangles(f, args):
    """The loops are found, and what they compute is what NumPy does, also when interpreted."""
    own = lambda: [a.copy() for a in args]  # noqa: E731
    graph = gm.jit(f).trace(*own())
    made = run_pipeline(graph.function, "inline,state,roll")
    scans = [op for op in made.walk() if op.name == "scan"]
    assert scans and all("turn" in op.attrs for op in scans)
    assert 3 * len(list(made.walk())) < len(graph.function.ops)
    with knobs.scope(cache=False):
        got = gm.jit(f)(*own())
    want = f(*own())

    got, want = (x if isinstance(x, tuple) else (x,) for x in (got, want))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_more_turns_than_those_that_agree():
    """A loop ends where its sizes stop growing evenly."""

    def run(x):
        for i in [*range(1, 30), *range(29, 0, -1)]:
            x[:i] = np.cumsum(x[:i]) * 0.5 + x[i]
            x = x / x.max()
        return x

    made = run_pipeline(gm.jit(run).trace(some(30)).function, "inline,state,roll")
    assert sum(op.name == "scan" for op in made.ops) == 2
    np.testing.assert_allclose(gm.jit(run)(some(30)), run(some(30)), rtol=1e-11)


def test_the_text_of_loops_with_dims_reads_back():
    from graphmill.ir.parser import parse_function
    from graphmill.ir.reference import interpret
    from graphmill.ir.verifier import verify

    made = run_pipeline(gm.jit(cholesky).trace(definite(N)).function, "inline,state,roll")
    again = parse_function(str(made))
    verify(again)
    assert str(again) == str(made)
    np.testing.assert_allclose(interpret(again, definite(N))[0], cholesky(definite(N)), rtol=1e-11)


def test_dots_of_parts_read_them_where_they_lie():
    """One kernel a turn computes an unknown, without copies of what it reads."""
    planned = gm.jit(trisolv).lower(definite(24), some(24), some(24)).planned
    (scan,) = (op for op in planned.ops if op.name == "scan")
    names = [op.name for op in scan.regions[0].block.ops]
    assert names.count("fusion") == 1 and "slice" not in names, scan


def test_small_parts_take_one_kernel():
    """No turn is long enough to be shared among threads, so none is split in two."""
    kernels = gm.jit(cholesky).compile(definite(N)).kernels
    assert not any("partial" in kernel.name for kernel in kernels)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "c16"])
@pytest.mark.parametrize("turns", [1, 2, 3, 5, 20, 70, 150])
def test_sums_of_what_was_just_stored(dtype, turns):
    """The last elements of a sum are those that the turns before stored."""
    rng = np.random.default_rng(turns)
    w = rng.uniform(-1, 1, (turns, turns)).astype(dtype)
    x = rng.uniform(-3, 3, turns).astype(dtype)

    def run(w, x):
        def body(i, x):
            total = (w[i, :i] * x[:i]).sum()
            x[i] -= total // 2 if dtype == "i4" else total
            return x

        return gm.fori_loop(0, turns, body, x)

    want = x.copy()
    for i in range(turns):
        total = (w[i, :i] * want[:i]).sum()
        want[i] -= total // 2 if dtype == "i4" else total
    got = gm.jit(run)(w, x)
    bound = 0 if dtype == "i4" else 1e3 * np.finfo(dtype).eps * np.abs(want).max()
    assert np.abs(got - want).max() <= bound
