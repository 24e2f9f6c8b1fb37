"""Loops over parts of arrays that grow or shrink, in float64: factorisations, triangular systems,
recurrences along an axis. After NPBench (Ziogas et al., ICS 2021), in smaller sizes.
"""

from typing import Any

import numpy as np

from benchmarks.workload import Workload

Rng = np.random.Generator
N = 240


def definite(rng: Rng, n: int) -> np.ndarray[Any, Any]:
    x = rng.random((n, n))
    return x @ x.T + n * np.eye(n)


# ---- trisolv


def trisolv_numpy(xp: Any, low: Any, b: Any) -> Any:
    x = np.zeros_like(b)
    for i in range(b.shape[0]):
        x[i] = (b[i] - low[i, :i] @ x[:i]) / low[i, i]
    return x


def trisolv_graphmill(xp: Any, low: Any, b: Any) -> Any:
    import graphmill as gm

    def body(i: Any, x: Any) -> Any:
        x[i] = (b[i] - low[i, :i] @ x[:i]) / low[i, i]
        return x

    return gm.fori_loop(0, b.shape[0], body, xp.zeros_like(b))


def trisolv_jax(xp: Any, low: Any, b: Any) -> Any:
    from jax import lax

    def body(i: Any, x: Any) -> Any:  # x is zero from i on
        return x.at[i].set((b[i] - low[i] @ x) / low[i, i])

    return lax.fori_loop(0, b.shape[0], body, xp.zeros_like(b))


def trisolv_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(low: Any, b: Any) -> Any:
        x = np.zeros_like(b)
        for i in range(b.shape[0]):
            s = 0.0
            for k in range(i):
                s += low[i, k] * x[k]
            x[i] = (b[i] - s) / low[i, i]
        return x

    return run


# ---- cholesky


def cholesky_numpy(xp: Any, a: Any) -> Any:
    a = a.copy()
    for i in range(a.shape[0]):
        for j in range(i):
            a[i, j] = (a[i, j] - a[i, :j] @ a[j, :j]) / a[j, j]
        a[i, i] = np.sqrt(a[i, i] - a[i, :i] @ a[i, :i])
    return a


def cholesky_graphmill(xp: Any, a: Any) -> Any:
    import graphmill as gm

    def row(i: Any, a: Any) -> Any:
        def column(j: Any, a: Any) -> Any:
            a[i, j] = (a[i, j] - a[i, :j] @ a[j, :j]) / a[j, j]
            return a

        a = gm.fori_loop(0, i, column, a)
        a[i, i] = xp.sqrt(a[i, i] - a[i, :i] @ a[i, :i])
        return a

    return gm.fori_loop(0, a.shape[0], row, a)


def cholesky_jax(xp: Any, a: Any) -> Any:
    from jax import lax

    places = xp.arange(a.shape[0])

    def row(i: Any, a: Any) -> Any:
        def column(j: Any, a: Any) -> Any:
            dot = xp.where(places < j, a[i], 0) @ a[j]
            return a.at[i, j].set((a[i, j] - dot) / a[j, j])

        a = lax.fori_loop(0, i, column, a)
        head = xp.where(places < i, a[i], 0)
        return a.at[i, i].set(xp.sqrt(a[i, i] - head @ head))

    return lax.fori_loop(0, a.shape[0], row, a)


def cholesky_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(a: Any) -> Any:
        a = a.copy()
        for i in range(a.shape[0]):
            for j in range(i + 1):
                s = 0.0
                for k in range(j):
                    s += a[i, k] * a[j, k]
                a[i, j] = (a[i, j] - s) / a[j, j] if j < i else np.sqrt(a[i, i] - s)
        return a

    return run


# ---- lu


def lu_numpy(xp: Any, a: Any) -> Any:
    a = a.copy()
    for i in range(a.shape[0]):
        for j in range(i):
            a[i, j] = (a[i, j] - a[i, :j] @ a[:j, j]) / a[j, j]
        for j in range(i, a.shape[0]):
            a[i, j] -= a[i, :i] @ a[:i, j]
    return a


def lu_graphmill(xp: Any, a: Any) -> Any:
    import graphmill as gm

    def row(i: Any, a: Any) -> Any:
        def left(j: Any, a: Any) -> Any:
            a[i, j] = (a[i, j] - a[i, :j] @ a[:j, j]) / a[j, j]
            return a

        def right(j: Any, a: Any) -> Any:
            a[i, j] -= a[i, :i] @ a[:i, j]
            return a

        return gm.fori_loop(i, a.shape[0], right, gm.fori_loop(0, i, left, a))

    return gm.fori_loop(0, a.shape[0], row, a)


def lu_jax(xp: Any, a: Any) -> Any:
    from jax import lax

    places = xp.arange(a.shape[0])

    def row(i: Any, a: Any) -> Any:
        def left(j: Any, a: Any) -> Any:
            dot = xp.where(places < j, a[i], 0) @ a[:, j]
            return a.at[i, j].set((a[i, j] - dot) / a[j, j])

        def right(j: Any, a: Any) -> Any:
            return a.at[i, j].add(-(xp.where(places < i, a[i], 0) @ a[:, j]))

        return lax.fori_loop(i, a.shape[0], right, lax.fori_loop(0, i, left, a))

    return lax.fori_loop(0, a.shape[0], row, a)


def lu_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(a: Any) -> Any:
        a = a.copy()
        for i in range(a.shape[0]):
            for j in range(a.shape[0]):
                s = 0.0
                for k in range(min(i, j)):
                    s += a[i, k] * a[k, j]
                a[i, j] = (a[i, j] - s) / a[j, j] if j < i else a[i, j] - s
        return a

    return run


# ---- durbin


def durbin_turn(xp: Any, k: Any, state: Any, r: Any) -> Any:
    y, alpha, beta = state
    beta = beta * (1.0 - alpha * alpha)
    alpha = -(r[k] + xp.flip(r[:k]) @ y[:k]) / beta
    y[:k] += alpha * xp.flip(y[:k])
    y[k] = alpha
    return y, alpha, beta


def durbin_numpy(xp: Any, r: Any) -> Any:
    state = np.concatenate((-r[:1], np.zeros(r.size - 1))), -r[0], np.float64(1)
    for k in range(1, r.size):
        state = durbin_turn(np, k, state, r)
    return state[0]


def durbin_graphmill(xp: Any, r: Any) -> Any:
    import graphmill as gm

    start = xp.concatenate((-r[:1], xp.zeros(r.size - 1))), -r[0], np.float64(1)
    return gm.fori_loop(1, r.size, lambda k, state: durbin_turn(xp, k, state, r), start)[0]


def durbin_jax(xp: Any, r: Any) -> Any:
    from jax import lax

    n = r.size
    places = xp.arange(n)
    turned_r = xp.concatenate((xp.flip(r), xp.zeros(n)))

    def body(k: Any, state: Any) -> Any:
        y, alpha, beta = state  # y is zero from k on
        beta = beta * (1.0 - alpha * alpha)
        alpha = -(r[k] + lax.dynamic_slice(turned_r, (n - k,), (n,)) @ y) / beta
        turned = lax.dynamic_slice(xp.concatenate((xp.flip(y), xp.zeros(n))), (n - k,), (n,))
        y = y + xp.where(places < k, alpha * turned, 0)
        return y.at[k].set(alpha), alpha, beta

    start = xp.concatenate((-r[:1], xp.zeros(n - 1))), -r[0], xp.float64(1)
    return lax.fori_loop(1, n, body, start)[0]


def durbin_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(r: Any) -> Any:
        y, z = np.zeros_like(r), np.zeros_like(r)
        alpha, beta = -r[0], 1.0
        y[0] = alpha
        for k in range(1, r.size):
            beta *= 1.0 - alpha * alpha
            s = r[k]
            for i in range(k):
                s += r[k - i - 1] * y[i]
            alpha = -s / beta
            for i in range(k):
                z[i] = y[i] + alpha * y[k - i - 1]
            y[:k] = z[:k]
            y[k] = alpha
        return y

    return run


# ---- gramschmidt


def gramschmidt_numpy(xp: Any, a: Any) -> Any:
    a = a.copy()
    q = np.zeros_like(a)
    for k in range(a.shape[1]):
        q[:, k] = a[:, k] / np.sqrt(a[:, k] @ a[:, k])
        for j in range(k + 1, a.shape[1]):
            a[:, j] -= q[:, k] * (q[:, k] @ a[:, j])
    return q


def gramschmidt_graphmill(xp: Any, a: Any) -> Any:
    import graphmill as gm

    def column(k: Any, state: Any) -> Any:
        a, q = state
        unit = a[:, k] / xp.sqrt(a[:, k] @ a[:, k])
        q[:, k] = unit

        def later(j: Any, a: Any) -> Any:
            a[:, j] -= unit * (unit @ a[:, j])
            return a

        return gm.fori_loop(k + 1, a.shape[1], later, a), q

    return gm.fori_loop(0, a.shape[1], column, (a, xp.zeros_like(a)))[1]


def gramschmidt_jax(xp: Any, a: Any) -> Any:
    from jax import lax

    def column(k: Any, state: Any) -> Any:
        a, q = state
        unit = a[:, k] / xp.sqrt(a[:, k] @ a[:, k])

        def later(j: Any, a: Any) -> Any:
            return a.at[:, j].add(-unit * (unit @ a[:, j]))

        return lax.fori_loop(k + 1, a.shape[1], later, a), q.at[:, k].set(unit)

    return lax.fori_loop(0, a.shape[1], column, (a, xp.zeros_like(a)))[1]


def gramschmidt_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(a: Any) -> Any:
        a = a.copy()
        q = np.zeros_like(a)
        for k in range(a.shape[1]):
            s = 0.0
            for i in range(a.shape[0]):
                s += a[i, k] * a[i, k]
            s = np.sqrt(s)
            for i in range(a.shape[0]):
                q[i, k] = a[i, k] / s
            for j in range(k + 1, a.shape[1]):
                s = 0.0
                for i in range(a.shape[0]):
                    s += q[i, k] * a[i, j]
                for i in range(a.shape[0]):
                    a[i, j] -= q[i, k] * s
        return q

    return run


# ---- syrk


def syrk_numpy(xp: Any, c: Any, a: Any) -> Any:
    c = c.copy()
    for i in range(a.shape[0]):
        c[i, : i + 1] *= 1.2
        for k in range(a.shape[1]):
            c[i, : i + 1] += 1.5 * a[i, k] * a[: i + 1, k]
    return c


def syrk_graphmill(xp: Any, c: Any, a: Any) -> Any:
    import graphmill as gm

    def row(i: Any, c: Any) -> Any:
        c[i, : i + 1] *= 1.2

        def add(k: Any, c: Any) -> Any:
            c[i, : i + 1] += 1.5 * a[i, k] * a[: i + 1, k]
            return c

        return gm.fori_loop(0, a.shape[1], add, c)

    return gm.fori_loop(0, a.shape[0], row, c)


def syrk_jax(xp: Any, c: Any, a: Any) -> Any:
    from jax import lax

    places = xp.arange(a.shape[0])

    def row(i: Any, c: Any) -> Any:
        new = lax.fori_loop(
            0, a.shape[1], lambda k, r: r + 1.5 * a[i, k] * a[:, k], 1.2 * c[i]
        )  # fmt: skip
        return c.at[i].set(xp.where(places <= i, new, c[i]))

    return lax.fori_loop(0, a.shape[0], row, c)


def syrk_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(c: Any, a: Any) -> Any:
        c = c.copy()
        for i in range(a.shape[0]):
            for j in range(i + 1):
                c[i, j] *= 1.2
            for k in range(a.shape[1]):
                for j in range(i + 1):
                    c[i, j] += 1.5 * a[i, k] * a[j, k]
        return c

    return run


# ---- seidel_2d

SWEEPS, SIDE = 10, 120


def seidel_numpy(xp: Any, a: Any) -> Any:
    a = a.copy()
    for _ in range(SWEEPS):
        for i in range(1, a.shape[0] - 1):
            a[i, 1:-1] += seidel_row(i, a)
            for j in range(1, a.shape[1] - 1):
                a[i, j] = (a[i, j] + a[i, j - 1]) / 9.0
    return a


def seidel_row(i: Any, a: Any) -> Any:
    above, here, below = a[i - 1], a[i], a[i + 1]
    around = above[:-2] + above[1:-1] + above[2:] + here[2:]
    return around + below[:-2] + below[1:-1] + below[2:]


def seidel_graphmill(xp: Any, a: Any) -> Any:
    import graphmill as gm

    def element(left: Any, x: Any) -> Any:
        left = (x + left) / 9.0
        return left, left

    def row(i: Any, a: Any) -> Any:
        i = i + 1
        a[i, 1:-1] = gm.scan(element, a[i, 0], a[i, 1:-1] + seidel_row(i, a))[1]
        return a

    def sweep(_: Any, a: Any) -> Any:
        return gm.fori_loop(0, a.shape[0] - 2, row, a)

    return gm.fori_loop(0, SWEEPS, sweep, a)


def seidel_jax(xp: Any, a: Any) -> Any:
    from jax import lax

    def element(left: Any, x: Any) -> Any:
        left = (x + left) / 9.0
        return left, left

    def row(i: Any, a: Any) -> Any:
        new = lax.scan(element, a[i, 0], a[i, 1:-1] + seidel_row(i, a))[1]
        return a.at[i, 1:-1].set(new)

    def sweep(_: Any, a: Any) -> Any:
        return lax.fori_loop(1, a.shape[0] - 1, row, a)

    return lax.fori_loop(0, SWEEPS, sweep, a)


def seidel_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(a: Any) -> Any:
        a = a.copy()
        for _ in range(SWEEPS):
            for i in range(1, a.shape[0] - 1):
                for j in range(1, a.shape[1] - 1):
                    a[i, j] = (
                        a[i - 1, j - 1] + a[i - 1, j] + a[i - 1, j + 1] + a[i, j - 1] + a[i, j]
                        + a[i, j + 1] + a[i + 1, j - 1] + a[i + 1, j] + a[i + 1, j + 1]
                    ) / 9.0  # fmt: skip
        return a

    return run


def triangle(name: str, title: str, inputs: Any, flops: float) -> Workload:
    here = globals()
    code = {
        kind: here[f"{name}_{kind}"] for kind in ("numpy", "graphmill", "jax", "numba")
    }  # fmt: skip
    return Workload(f"npb_{name}", title, inputs, code, flops=flops, tolerance=1e-9)


WORKLOADS = (
    triangle("trisolv", "a triangular system, 1000 unknowns",
             lambda rng: {"low": definite(rng, 1000), "b": rng.random(1000)}, 1e6),
    triangle("cholesky", f"Cholesky, {N}²", lambda rng: {"a": definite(rng, N)}, N**3 / 3),
    triangle("lu", f"LU, {N}²", lambda rng: {"a": definite(rng, N)}, 2 * N**3 / 3),
    triangle("durbin", "a Toeplitz system, 1000 unknowns",
             lambda rng: {"r": 0.001 * rng.random(1000)}, 4e6),
    triangle("gramschmidt", "Gram-Schmidt, 240 × 200",
             lambda rng: {"a": rng.random((240, 200))}, 2 * 240 * 200**2),
    triangle("syrk", "C + AAᵀ, one column at a time, 220 × 180",
             lambda rng: {"c": rng.random((220, 220)), "a": rng.random((220, 180))},
             220**2 * 180),
    triangle("seidel", f"Gauss-Seidel, {SIDE}², {SWEEPS} sweeps",
             lambda rng: {"a": rng.random((SIDE, SIDE))}, 10 * SWEEPS * SIDE**2),
)  # fmt: skip
