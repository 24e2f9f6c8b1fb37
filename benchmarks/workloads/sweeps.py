"""NPBench kernels whose loops are Python's, in smaller sizes: Graphmill runs them as they are.

The time steps and recurrences are `for` loops over slices that are written in place.
"""

from typing import Any

import numpy as np

from benchmarks.workload import Workload

LEAPS = 20
ALPHA = 0.25
RINGS = 40
SIDE, STEPS, SWEEPS = 61, 20, 8
DX, DT, VISCOSITY = 2 / (SIDE - 1), 0.001, 0.1


def fdtd_2d(xp: Any, ex: Any, ey: Any, hz: Any, source: Any) -> Any:
    """A wave in a plane (finite differences, time domain); the magnetic field after some steps."""
    ex, ey, hz = ex.copy(), ey.copy(), hz.copy()
    for t in range(LEAPS):
        ey[0, :] = source[t]
        ey[1:, :] -= 0.5 * (hz[1:, :] - hz[:-1, :])
        ex[:, 1:] -= 0.5 * (hz[:, 1:] - hz[:, :-1])
        hz[:-1, :-1] -= 0.7 * (ex[:-1, 1:] - ex[:-1, :-1] + ey[1:, :-1] - ey[:-1, :-1])
    return hz


def fdtd_2d_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(ex: Any, ey: Any, hz: Any, source: Any) -> Any:
        ex, ey, hz = ex.copy(), ey.copy(), hz.copy()
        rows, columns = hz.shape
        for t in range(LEAPS):
            ey[0, :] = source[t]
            for i in prange(1, rows):
                for j in range(columns):
                    ey[i, j] -= 0.5 * (hz[i, j] - hz[i - 1, j])
            for i in prange(rows):
                for j in range(1, columns):
                    ex[i, j] -= 0.5 * (hz[i, j] - hz[i, j - 1])
            for i in prange(rows - 1):
                for j in range(columns - 1):
                    curl = ex[i, j + 1] - ex[i, j] + ey[i + 1, j] - ey[i, j]
                    hz[i, j] -= 0.7 * curl
        return hz

    return run


def weights() -> tuple[float, ...]:
    """Deriche's filter: four of the input, two of what was computed before."""
    e = float(np.exp(-ALPHA))
    k = (1 - e) * (1 - e) / (1 + ALPHA * e - e * e)
    return (
        k, k * e * (ALPHA - 1), k * e * (ALPHA + 1), -k * e * e, float(2.0**-ALPHA), -e * e,
    )  # fmt: skip


def deriche(xp: Any, image: Any) -> Any:
    """Edges of an image by a recursive filter, forwards and backwards along both axes."""
    a1, a2, a3, a4, b1, b2 = weights()
    rows, columns = image.shape
    y1, y2 = xp.empty_like(image), xp.empty_like(image)
    y1[:, 0] = a1 * image[:, 0]
    y1[:, 1] = a1 * image[:, 1] + a2 * image[:, 0] + b1 * y1[:, 0]
    for j in range(2, columns):
        before = b1 * y1[:, j - 1] + b2 * y1[:, j - 2]
        y1[:, j] = a1 * image[:, j] + a2 * image[:, j - 1] + before
    y2[:, -1] = 0.0
    y2[:, -2] = a3 * image[:, -1]
    for j in range(columns - 3, -1, -1):
        before = b1 * y2[:, j + 1] + b2 * y2[:, j + 2]
        y2[:, j] = a3 * image[:, j + 1] + a4 * image[:, j + 2] + before
    out = y1 + y2
    y1[0, :] = a1 * out[0, :]
    y1[1, :] = a1 * out[1, :] + a2 * out[0, :] + b1 * y1[0, :]
    for i in range(2, rows):
        before = b1 * y1[i - 1, :] + b2 * y1[i - 2, :]
        y1[i, :] = a1 * out[i, :] + a2 * out[i - 1, :] + before
    y2[-1, :] = 0.0
    y2[-2, :] = a3 * out[-1, :]
    for i in range(rows - 3, -1, -1):
        before = b1 * y2[i + 1, :] + b2 * y2[i + 2, :]
        y2[i, :] = a3 * out[i + 1, :] + a4 * out[i + 2, :] + before
    return y1 + y2


def deriche_numba(numba: Any) -> Any:
    inner = numba.njit(fastmath=True)(deriche_of_floats)
    constants = weights()

    @numba.njit(fastmath=True)
    def run(image: Any) -> Any:
        out = inner(image, constants)
        return inner(out.T.copy(), constants).T.copy()

    return run


def deriche_of_floats(image: Any, constants: Any) -> Any:
    """One axis of `deriche`, element by element."""
    a1, a2, a3, a4, b1, b2 = constants
    rows, columns = image.shape
    out = np.empty_like(image)
    for i in range(rows):
        x1, y1, y2 = 0.0, 0.0, 0.0
        for j in range(columns):
            x = image[i, j]
            y = a1 * x + a2 * x1 + b1 * y1 + b2 * y2
            x1, y2, y1 = x, y1, y
            out[i, j] = y
        x1, x2, y1, y2 = 0.0, 0.0, 0.0, 0.0
        for j in range(columns - 1, -1, -1):
            y = a3 * x1 + a4 * x2 + b1 * y1 + b2 * y2
            x2, x1, y2, y1 = x1, image[i, j], y1, y
            out[i, j] += y
    return out


def azimint_naive(xp: Any, data: Any, radius: Any) -> Any:
    """Means of the data in rings, one ring after the other."""
    largest = radius.max()
    out = xp.zeros(RINGS)
    for i in range(RINGS):
        inside = (largest * i / RINGS <= radius) & (radius < largest * (i + 1) / RINGS)
        out[i] = data[inside].mean()
    return out


def azimint_naive_numba(numba: Any) -> Any:
    @numba.njit(fastmath={"reassoc", "nsz", "contract"})
    def run(data: Any, radius: Any) -> Any:
        largest = radius.max()
        out = np.zeros(RINGS)
        for i in range(RINGS):
            low, high = largest * i / RINGS, largest * (i + 1) / RINGS
            total, found = 0.0, 0
            for k in range(radius.size):
                if low <= radius[k] < high:
                    total += data[k]
                    found += 1
            out[i] = total / found
        return out

    return run


def cavity_flow(xp: Any, u: Any, v: Any, p: Any) -> Any:
    """A lid that moves over a cavity (Navier and Stokes, 12 steps of Barba): the pressure."""
    u, v, p = u.copy(), v.copy(), p.copy()
    for _ in range(STEPS):
        x = (u[1:-1, 2:] - u[1:-1, :-2]) / (2 * DX)
        y = (v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * DX)
        across = (u[2:, 1:-1] - u[:-2, 1:-1]) * (v[1:-1, 2:] - v[1:-1, :-2]) / (4 * DX * DX)
        b = (x + y) / DT - x * x - 2 * across - y * y
        for _ in range(SWEEPS):
            around = p[1:-1, 2:] + p[1:-1, :-2] + p[2:, 1:-1] + p[:-2, 1:-1]
            p[1:-1, 1:-1] = (around - DX * DX * b) / 4
            p[:, -1] = p[:, -2]
            p[0, :] = p[1, :]
            p[:, 0] = p[:, 1]
            p[-1, :] = 0.0
        a, c = u.copy(), v.copy()
        for w, slope in ((u, p[1:-1, 2:] - p[1:-1, :-2]), (v, p[2:, 1:-1] - p[:-2, 1:-1])):
            old = a if w is u else c
            here = old[1:-1, 1:-1]
            drift = a[1:-1, 1:-1] * (here - old[1:-1, :-2])
            drift = drift + c[1:-1, 1:-1] * (here - old[:-2, 1:-1])
            around = old[1:-1, 2:] + old[1:-1, :-2] + old[2:, 1:-1] + old[:-2, 1:-1]
            spread = VISCOSITY * DT / DX**2 * (around - 4 * here)
            w[1:-1, 1:-1] = here - DT / DX * drift - DT / (2 * DX) * slope + spread
        u[0, :] = 0.0
        u[:, 0] = 0.0
        u[:, -1] = 0.0
        u[-1, :] = 1.0
        v[0, :] = 0.0
        v[-1, :] = 0.0
        v[:, 0] = 0.0
        v[:, -1] = 0.0
    return p


def uniform(**shapes: tuple[int, ...]) -> Any:
    return lambda rng: {name: rng.random(shape) for name, shape in shapes.items()}


def at_rest(rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.zeros((SIDE, SIDE)) for name in ("u", "v", "p")}


WORKLOADS = (
    Workload(
        "npb_fdtd_2d",
        f"a wave in a plane, {LEAPS} steps",
        uniform(ex=(200, 220), ey=(200, 220), hz=(200, 220), source=(LEAPS,)),
        {"numpy": fdtd_2d, "graphmill": fdtd_2d, "numba": fdtd_2d_numba},
        flops=11.0 * 200 * 220 * LEAPS,
        tolerance=1e-10,
    ),
    Workload(
        "npb_deriche",
        "edges by a recursive filter, 160 × 120",
        uniform(image=(160, 120)),
        {"numpy": deriche, "graphmill": deriche, "numba": deriche_numba},
        flops=32.0 * 160 * 120,
        tolerance=1e-10,
    ),
    Workload(
        "npb_azimint_naive",
        f"means of {RINGS} rings, one after the other",
        uniform(data=(40000,), radius=(40000,)),
        {"numpy": azimint_naive, "graphmill": azimint_naive, "numba": azimint_naive_numba},
        flops=4.0 * 40000 * RINGS,
        tolerance=1e-10,
    ),
    Workload(
        "npb_cavity_flow",
        f"a moving lid, {SIDE}², {STEPS} steps of {SWEEPS} sweeps",
        at_rest,
        {"numpy": cavity_flow, "graphmill": cavity_flow},
        flops=(6.0 * SWEEPS + 50.0) * SIDE * SIDE * STEPS,
        tolerance=1e-9,
    ),
)
