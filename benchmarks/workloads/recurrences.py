"""NPBench kernels (Ziogas et al., ICS 2021) that go step by step along an axis, in smaller sizes.

Each is one function of a style (`benchmarks.workloads.styles`), and loops for Numba.
"""

from typing import Any

import numpy as np

from benchmarks.workload import Workload
from benchmarks.workloads.styles import Style, in_styles
from benchmarks.workloads.sweeps import uniform

INNER = slice(1, -1)

# ---- adi

GRID, ADI_STEPS = 100, 8
MUL = GRID**2 / ADI_STEPS
A, B, D, E = -MUL, 1.0 + 2.0 * MUL, -MUL / 2.0, 1.0 + MUL


def adi(style: Style, xp: Any, u: Any) -> Any:
    """Alternating directions, implicit: a tridiagonal system along each axis in turn."""
    put, n = style.put, u.shape[0]

    def step(_: Any, state: Any) -> Any:
        u, v, p, q = state

        def down(j: Any, state: Any) -> Any:
            p, q = state
            below = A * p[INNER, j - 1] + B
            old = -D * u[j, :-2] + (1.0 + 2.0 * D) * u[j, INNER] - D * u[j, 2:]
            new = (old - A * q[INNER, j - 1]) / below
            return put(p, (INNER, j), -A / below), put(q, (INNER, j), new)

        v = put(put(v, (0, INNER), 1.0), (n - 1, INNER), 1.0)
        p, q = put(p, (INNER, 0), 0.0), put(q, (INNER, 0), 1.0)
        p, q = style.loop(1, n - 1, down, (p, q))

        def up(k: Any, v: Any) -> Any:
            j = n - 2 - k
            return put(v, (j, INNER), p[INNER, j] * v[j + 1, INNER] + q[INNER, j])

        v = style.loop(0, n - 2, up, v)

        def right(j: Any, state: Any) -> Any:
            p, q = state
            below = D * p[INNER, j - 1] + E
            old = -A * v[:-2, j] + (1.0 + 2.0 * A) * v[INNER, j] - A * v[2:, j]
            new = (old - D * q[INNER, j - 1]) / below
            return put(p, (INNER, j), -D / below), put(q, (INNER, j), new)

        u = put(put(u, (INNER, 0), 1.0), (INNER, n - 1), 1.0)
        p, q = put(p, (INNER, 0), 0.0), put(q, (INNER, 0), 1.0)
        p, q = style.loop(1, n - 1, right, (p, q))

        def left(k: Any, u: Any) -> Any:
            j = n - 2 - k
            return put(u, (INNER, j), p[INNER, j] * u[INNER, j + 1] + q[INNER, j])

        return style.loop(0, n - 2, left, u), v, p, q

    start = u.copy(), xp.zeros((n, n)), xp.zeros((n, n)), xp.zeros((n, n))
    return style.loop(0, ADI_STEPS, step, start)[0]


def adi_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(u: Any) -> Any:
        u, n = u.copy(), u.shape[0]
        v, p, q = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
        for _ in range(ADI_STEPS):
            v[0, 1:-1], v[n - 1, 1:-1], p[1:-1, 0], q[1:-1, 0] = 1.0, 1.0, 0.0, 1.0
            for i in range(1, n - 1):
                for j in range(1, n - 1):
                    below = A * p[i, j - 1] + B
                    old = -D * u[j, i - 1] + (1.0 + 2.0 * D) * u[j, i] - D * u[j, i + 1]
                    p[i, j] = -A / below
                    q[i, j] = (old - A * q[i, j - 1]) / below
            for j in range(n - 2, 0, -1):
                for i in range(1, n - 1):
                    v[j, i] = p[i, j] * v[j + 1, i] + q[i, j]
            u[1:-1, 0], u[1:-1, n - 1], p[1:-1, 0], q[1:-1, 0] = 1.0, 1.0, 0.0, 1.0
            for i in range(1, n - 1):
                for j in range(1, n - 1):
                    below = D * p[i, j - 1] + E
                    old = -A * v[i - 1, j] + (1.0 + 2.0 * A) * v[i, j] - A * v[i + 1, j]
                    p[i, j] = -D / below
                    q[i, j] = (old - D * q[i, j - 1]) / below
                for j in range(n - 2, 0, -1):
                    u[i, j] = p[i, j] * u[i, j + 1] + q[i, j]
        return u

    return run


# ---- vadv

POINTS, LEVELS, DTR = 48, 40, 3.0 / 20.0


def vadv(style: Style, xp: Any, stage: Any, u: Any, wind: Any, place: Any, before: Any) -> Any:
    """Vertical advection of a weather model: tridiagonal systems of all columns of air."""
    put, levels = style.put, stage.shape[2]

    def start(k: Any) -> Any:
        return DTR * place[:, :, k] + before[:, :, k] + stage[:, :, k]

    above = 0.125 * (wind[1:, :, 1] + wind[:-1, :, 1])
    c, d = xp.zeros(stage.shape), xp.zeros(stage.shape)
    first = start(0) - above * (u[:, :, 1] - u[:, :, 0])
    c = put(c, (Ellipsis, 0), above / (DTR - above))
    d = put(d, (Ellipsis, 0), first / (DTR - above))

    def down(k: Any, state: Any) -> Any:
        c, d = state
        below = -0.125 * (wind[1:, :, k] + wind[:-1, :, k])
        above = 0.125 * (wind[1:, :, k + 1] + wind[:-1, :, k + 1])
        here = u[:, :, k]
        change = -below * (u[:, :, k - 1] - here) - above * (u[:, :, k + 1] - here)
        scale = 1.0 / (DTR - below - above - c[:, :, k - 1] * below)
        new = (start(k) + change - d[:, :, k - 1] * below) * scale
        return put(c, (Ellipsis, k), above * scale), put(d, (Ellipsis, k), new)

    c, d = style.loop(1, levels - 1, down, (c, d))
    below = -0.125 * (wind[1:, :, levels - 1] + wind[:-1, :, levels - 1])
    last = start(levels - 1) - below * (u[:, :, levels - 2] - u[:, :, levels - 1])
    scale = 1.0 / (DTR - below - c[:, :, levels - 2] * below)
    found = (last - d[:, :, levels - 2] * below) * scale
    out = xp.zeros(stage.shape)
    out = put(out, (Ellipsis, levels - 1), DTR * (found - place[:, :, levels - 1]))

    def up(k: Any, state: Any) -> Any:
        found, out = state
        k = levels - 2 - k
        found = d[:, :, k] - c[:, :, k] * found
        return found, put(out, (Ellipsis, k), DTR * (found - place[:, :, k]))

    return style.loop(0, levels - 1, up, (found, out))[1]


def vadv_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(stage: Any, u: Any, wind: Any, place: Any, before: Any) -> Any:
        out = np.empty_like(stage)
        rows, columns, levels = stage.shape
        c, d = np.empty(levels), np.empty(levels)
        for i in range(rows):
            for j in range(columns):
                for k in range(levels):
                    below, above, change, left, old = 0.0, 0.0, 0.0, 0.0, 0.0
                    if k > 0:
                        below = -0.125 * (wind[i + 1, j, k] + wind[i, j, k])
                        change -= below * (u[i, j, k - 1] - u[i, j, k])
                        left, old = c[k - 1], d[k - 1]
                    if k < levels - 1:
                        above = 0.125 * (wind[i + 1, j, k + 1] + wind[i, j, k + 1])
                        change -= above * (u[i, j, k + 1] - u[i, j, k])
                    start = DTR * place[i, j, k] + before[i, j, k] + stage[i, j, k]
                    scale = 1.0 / (DTR - below - above - left * below)
                    c[k] = above * scale
                    d[k] = (start + change - old * below) * scale
                found = 0.0
                for k in range(levels - 1, -1, -1):
                    found = d[k] - c[k] * found
                    out[i, j, k] = DTR * (found - place[i, j, k])
        return out

    return run


# ---- jacobi_1d

LINE, LINE_STEPS = 4000, 200


def jacobi_1d(style: Style, xp: Any, a: Any, b: Any) -> Any:
    """A stencil along a line, back and forth between two arrays."""

    def step(_: Any, state: Any) -> Any:
        a, b = state
        b = style.put(b, INNER, 0.33333 * (a[:-2] + a[1:-1] + a[2:]))
        return style.put(a, INNER, 0.33333 * (b[:-2] + b[1:-1] + b[2:])), b

    return style.loop(0, LINE_STEPS, step, (a.copy(), b.copy()))[0]


def jacobi_1d_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(a: Any, b: Any) -> Any:
        a, b = a.copy(), b.copy()
        for _ in range(LINE_STEPS):
            for i in range(1, a.size - 1):
                b[i] = 0.33333 * (a[i - 1] + a[i] + a[i + 1])
            for i in range(1, a.size - 1):
                a[i] = 0.33333 * (b[i - 1] + b[i] + b[i + 1])
        return a

    return run


# ---- nussinov


def nussinov(style: Style, xp: Any, seq: Any) -> Any:
    """The most pairs of bases that fold onto each other, for all parts of a strand."""
    n = seq.shape[0]

    def row(step: Any, table: Any) -> Any:
        i = n - 2 - step

        def column(j: Any, table: Any) -> Any:
            pair = xp.where((seq[i] + seq[j] == 3) & (i < j - 1), 1, 0)
            best = xp.maximum(table[i, j - 1], table[i + 1, j])
            best = xp.maximum(best, table[i + 1, j - 1] + pair)

            def cut(k: Any, best: Any) -> Any:
                return xp.maximum(best, table[i, k] + table[k + 1, j])

            return style.put(table, (i, j), style.loop(i + 1, j, cut, best))

        return style.loop(i + 1, n, column, table)

    return style.loop(0, n - 1, row, xp.zeros((n, n), dtype=np.int64))


def nussinov_numba(numba: Any) -> Any:
    @numba.njit
    def run(seq: Any) -> Any:
        n = seq.shape[0]
        table = np.zeros((n, n), np.int64)
        for i in range(n - 2, -1, -1):
            for j in range(i + 1, n):
                pair = 1 if seq[i] + seq[j] == 3 and i < j - 1 else 0
                best = max(table[i, j - 1], table[i + 1, j], table[i + 1, j - 1] + pair)
                for k in range(i + 1, j):
                    best = max(best, table[i, k] + table[k + 1, j])
                table[i, j] = best
        return table

    return run


# ---- crc16

BYTES, POLYNOMIAL = 2000, 0x8408


def crc16(style: Style, xp: Any, data: Any) -> Any:
    """A checksum, bit by bit."""

    def byte(i: Any, crc: Any) -> Any:
        now = data[i]
        for _ in range(8):
            odd = (crc ^ now) & 1
            crc, now = (crc >> 1) ^ odd * POLYNOMIAL, now >> 1
        return crc

    crc = ~style.loop(0, data.shape[0], byte, xp.int64(0xFFFF)) & 0xFFFF
    return (crc << 8 | crc >> 8) & 0xFFFF


def crc16_numba(numba: Any) -> Any:
    @numba.njit
    def run(data: Any) -> Any:
        crc = 0xFFFF
        for byte in data:
            now = byte
            for _ in range(8):
                if (crc ^ now) & 1:
                    crc = crc >> 1 ^ POLYNOMIAL
                else:
                    crc >>= 1
                now >>= 1
        crc = ~crc & 0xFFFF
        return np.int64((crc << 8 | crc >> 8) & 0xFFFF)

    return run


def step_by_step(
    name: str, title: str, inputs: Any, flops: float, *styles: str, tolerance: float = 1e-9
) -> Workload:
    here = globals()
    code = in_styles(here[name], *styles) | {"numba": here[f"{name}_numba"]}
    return Workload(f"npb_{name}", title, inputs, code, flops=flops, tolerance=tolerance)


AIR = (POINTS, POINTS, LEVELS)
WORKLOADS = (
    step_by_step("adi", f"implicit steps in alternating directions, {GRID}²",
                 uniform(u=(GRID, GRID)), 30.0 * GRID**2 * ADI_STEPS),
    step_by_step("vadv", f"tridiagonal systems of {POINTS}² columns of {LEVELS}",
                 uniform(stage=AIR, u=AIR, wind=(POINTS + 1, POINTS, LEVELS), place=AIR,
                         before=AIR),
                 30.0 * POINTS**2 * LEVELS, tolerance=1e-6),
    step_by_step("jacobi_1d", f"a stencil along {LINE} points, {LINE_STEPS} steps",
                 uniform(a=(LINE,), b=(LINE,)), 6.0 * LINE * LINE_STEPS),
    step_by_step("nussinov", "foldings of a strand of 100",
                 lambda rng: {"seq": rng.integers(0, 4, 100)}, 2 * 100**3 / 6),
    step_by_step("crc16", f"a checksum of {BYTES} bytes",
                 lambda rng: {"data": rng.integers(0, 256, BYTES)}, 40.0 * BYTES),
)  # fmt: skip
