"""NPBench's products of triangular and symmetric matrices, by rows and columns, in smaller sizes.

NumPy and Graphmill read parts of arrays that grow from turn to turn; JAX, whose sizes may not
change, masks whole ones. Numba's loops have the order of PolyBench's.
"""

from typing import Any

import numpy as np

from benchmarks.workload import Workload
from benchmarks.workloads.styles import STYLES, Style, in_styles
from benchmarks.workloads.sweeps import uniform
from benchmarks.workloads.triangles import definite, lu_jax

ALPHA, BETA = 1.5, 1.2
JAX = STYLES["jax"]

# ---- trmm


def trmm(style: Style, xp: Any, a: Any, b: Any) -> Any:
    """B + AᵀB of a triangular A, element by element in place."""

    def row(i: Any, b: Any) -> Any:
        def column(j: Any, b: Any) -> Any:
            return style.put(b, (i, j), b[i, j] + a[i + 1 :, i] @ b[i + 1 :, j])

        return style.loop(0, b.shape[1], column, b)

    return ALPHA * style.loop(0, b.shape[0], row, b.copy())


def trmm_jax(xp: Any, a: Any, b: Any) -> Any:
    places = xp.arange(a.shape[0])

    def row(i: Any, b: Any) -> Any:
        below = xp.where(places > i, a[:, i], 0)

        def column(j: Any, b: Any) -> Any:
            return b.at[i, j].add(below @ b[:, j])

        return JAX.loop(0, b.shape[1], column, b)

    return ALPHA * JAX.loop(0, b.shape[0], row, b)


def trmm_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(a: Any, b: Any) -> Any:
        b = b.copy()
        for i in range(b.shape[0]):
            for j in range(b.shape[1]):
                for k in range(i + 1, b.shape[0]):
                    b[i, j] += a[k, i] * b[k, j]
        return ALPHA * b

    return run


# ---- symm


def symm(style: Style, xp: Any, c: Any, a: Any, b: Any) -> Any:
    """βC + αAB of a symmetric A of which one half is read."""

    def row(i: Any, c: Any) -> Any:
        def column(j: Any, state: Any) -> Any:
            c, found = state
            found = style.put(found, j, b[:i, j] @ a[i, :i])
            return style.put(c, (slice(0, i), j), c[:i, j] + ALPHA * b[i, j] * a[i, :i]), found

        c, found = style.loop(0, c.shape[1], column, (c, xp.zeros(c.shape[1])))
        return style.put(c, i, c[i] + ALPHA * (b[i] * a[i, i] + found))

    return style.loop(0, c.shape[0], row, BETA * c)


def symm_jax(xp: Any, c: Any, a: Any, b: Any) -> Any:
    places = xp.arange(a.shape[0])

    def row(i: Any, c: Any) -> Any:
        head = xp.where(places < i, a[i], 0)

        def column(j: Any, state: Any) -> Any:
            c, found = state
            return c.at[:, j].add(ALPHA * b[i, j] * head), found.at[j].set(b[:, j] @ head)

        c, found = JAX.loop(0, c.shape[1], column, (c, xp.zeros(c.shape[1])))
        return c.at[i].add(ALPHA * (b[i] * a[i, i] + found))

    return JAX.loop(0, c.shape[0], row, BETA * c)


def symm_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(c: Any, a: Any, b: Any) -> Any:
        c = BETA * c
        for i in range(c.shape[0]):
            for j in range(c.shape[1]):
                found = 0.0
                for k in range(i):
                    c[k, j] += ALPHA * b[i, j] * a[i, k]
                    found += b[k, j] * a[i, k]
                c[i, j] += ALPHA * (b[i, j] * a[i, i] + found)
        return c

    return run


# ---- syr2k


def syr2k(style: Style, xp: Any, c: Any, a: Any, b: Any) -> Any:
    """βC + α(ABᵀ + BAᵀ) below the diagonal, one column at a time."""

    def row(i: Any, c: Any) -> Any:
        here = (i, slice(0, i + 1))
        c = style.put(c, here, BETA * c[here])

        def add(k: Any, c: Any) -> Any:
            more = a[: i + 1, k] * (ALPHA * b[i, k]) + b[: i + 1, k] * (ALPHA * a[i, k])
            return style.put(c, here, c[here] + more)

        return style.loop(0, a.shape[1], add, c)

    return style.loop(0, a.shape[0], row, c.copy())


def syr2k_jax(xp: Any, c: Any, a: Any, b: Any) -> Any:
    places = xp.arange(a.shape[0])

    def row(i: Any, c: Any) -> Any:
        def add(k: Any, row: Any) -> Any:
            return row + a[:, k] * (ALPHA * b[i, k]) + b[:, k] * (ALPHA * a[i, k])

        new = JAX.loop(0, a.shape[1], add, BETA * c[i])
        return c.at[i].set(xp.where(places <= i, new, c[i]))

    return JAX.loop(0, a.shape[0], row, c)


def syr2k_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(c: Any, a: Any, b: Any) -> Any:
        c = c.copy()
        for i in range(a.shape[0]):
            for j in range(i + 1):
                c[i, j] *= BETA
            for k in range(a.shape[1]):
                for j in range(i + 1):
                    c[i, j] += ALPHA * (a[j, k] * b[i, k] + b[j, k] * a[i, k])
        return c

    return run


# ---- ludcmp


def ludcmp(style: Style, xp: Any, a: Any, b: Any) -> Any:
    """A system of equations: LU in place, then forwards and backwards."""
    n = a.shape[0]

    def row(i: Any, a: Any) -> Any:
        def left(j: Any, a: Any) -> Any:
            return style.put(a, (i, j), (a[i, j] - a[i, :j] @ a[:j, j]) / a[j, j])

        def right(j: Any, a: Any) -> Any:
            return style.put(a, (i, j), a[i, j] - a[i, :i] @ a[:i, j])

        return style.loop(i, n, right, style.loop(0, i, left, a))

    a = style.loop(0, n, row, a.copy())

    def down(i: Any, y: Any) -> Any:
        return style.put(y, i, b[i] - a[i, :i] @ y[:i])

    y = style.loop(0, n, down, xp.zeros(n))

    def up(k: Any, x: Any) -> Any:
        i = n - 1 - k
        return style.put(x, i, (y[i] - a[i, i + 1 :] @ x[i + 1 :]) / a[i, i])

    return style.loop(0, n, up, xp.zeros(n))


def ludcmp_jax(xp: Any, a: Any, b: Any) -> Any:
    n, a = a.shape[0], lu_jax(xp, a)
    y = JAX.loop(0, n, lambda i, y: y.at[i].set(b[i] - a[i] @ y), xp.zeros(n))  # zero from i on

    def up(k: Any, x: Any) -> Any:  # x is zero up to i
        i = n - 1 - k
        return x.at[i].set((y[i] - a[i] @ x) / a[i, i])

    return JAX.loop(0, n, up, xp.zeros(n))


def ludcmp_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(a: Any, b: Any) -> Any:
        a, n = a.copy(), a.shape[0]
        x, y = np.zeros(n), np.zeros(n)
        for i in range(n):
            for j in range(n):
                s = 0.0
                for k in range(min(i, j)):
                    s += a[i, k] * a[k, j]
                a[i, j] = (a[i, j] - s) / a[j, j] if j < i else a[i, j] - s
        for i in range(n):
            s = 0.0
            for k in range(i):
                s += a[i, k] * y[k]
            y[i] = b[i] - s
        for i in range(n - 1, -1, -1):
            s = 0.0
            for k in range(i + 1, n):
                s += a[i, k] * x[k]
            x[i] = (y[i] - s) / a[i, i]
        return x

    return run


def by_parts(name: str, title: str, inputs: Any, flops: float) -> Workload:
    here = globals()
    code = in_styles(here[name], "numpy", "graphmill")
    code |= {"jax": here[f"{name}_jax"], "numba": here[f"{name}_numba"]}
    return Workload(f"npb_{name}", title, inputs, code, flops=flops, tolerance=1e-9)


WORKLOADS = (
    by_parts("trmm", "a triangle times a matrix, 160 × 120",
             uniform(a=(160, 160), b=(160, 120)), 160.0 * 160 * 120),
    by_parts("symm", "a symmetric matrix times a matrix, 120 × 140",
             uniform(c=(120, 140), a=(120, 120), b=(120, 140)), 2.0 * 120 * 120 * 140),
    by_parts("syr2k", "C + ABᵀ + BAᵀ, one column at a time, 160 × 120",
             uniform(c=(160, 160), a=(160, 120), b=(160, 120)), 2.0 * 160 * 160 * 120),
    by_parts("ludcmp", "a system of 200 equations",
             lambda rng: {"a": definite(rng, 200), "b": rng.random(200)}, 2 * 200**3 / 3),
)  # fmt: skip
