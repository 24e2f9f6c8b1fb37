"""Loops over whole arrays, as in NPBench: a stencil in place and an escape-time fractal."""

from typing import Any

import numpy as np

from benchmarks.workload import Workload, normal

SIDE, STEPS = 500, 100
PIXELS, LIMIT = 400, 100


def jacobi_step(a: Any, b: Any) -> Any:
    b[1:-1, 1:-1] = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
    return b


def jacobi_numpy(xp: Any, a: Any, b: Any) -> Any:
    a, b = a.copy(), b.copy()
    for _ in range(STEPS):
        b = jacobi_step(a, b)
        a = jacobi_step(b, a)
    return a


def jacobi_graphmill(xp: Any, a: Any, b: Any) -> Any:
    import graphmill as gm

    def body(i: Any, state: Any) -> Any:
        a, b = state
        b = jacobi_step(a, b)
        a = jacobi_step(b, a)
        return a, b

    return gm.fori_loop(0, STEPS, body, (a, b))[0]


def jacobi_jax(xp: Any, a: Any, b: Any) -> Any:
    from jax import lax

    def step(a: Any, b: Any) -> Any:
        inner = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
        return b.at[1:-1, 1:-1].set(inner)

    def body(i: Any, state: Any) -> Any:
        a, b = state
        b = step(a, b)
        return step(b, a), b

    return lax.fori_loop(0, STEPS, body, (a, b))[0]


def jacobi_torch(torch: Any, a: Any, b: Any) -> Any:
    a, b = a.clone(), b.clone()
    for _ in range(STEPS):
        b = jacobi_step(a, b)
        a = jacobi_step(b, a)
    return a


def jacobi_inductor(torch: Any) -> Any:
    """torch.compile unrolls Python's loops for minutes, so its users compile the step."""
    step = torch.compile(jacobi_step, dynamic=False)

    def run(a: Any, b: Any) -> Any:
        a, b = a.clone(), b.clone()
        for _ in range(STEPS):
            step(a, b)
            step(b, a)
        return a

    return run


def jacobi_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(a: Any, b: Any) -> Any:
        a, b = a.copy(), b.copy()
        k = np.float32(0.2)
        for _ in range(STEPS):
            for i in prange(1, a.shape[0] - 1):
                for j in range(1, a.shape[1] - 1):
                    s = a[i, j] + a[i, j - 1] + a[i, j + 1] + a[i + 1, j] + a[i - 1, j]
                    b[i, j] = k * s
            for i in prange(1, a.shape[0] - 1):
                for j in range(1, a.shape[1] - 1):
                    s = b[i, j] + b[i, j - 1] + b[i, j + 1] + b[i + 1, j] + b[i - 1, j]
                    a[i, j] = k * s
        return a

    return run


def escape_step(xp: Any, cr: Any, ci: Any, zr: Any, zi: Any, count: Any) -> Any:
    inside = zr * zr + zi * zi < 4.0
    zr, zi = (
        xp.where(inside, zr * zr - zi * zi + cr, zr),
        xp.where(inside, 2.0 * zr * zi + ci, zi),
    )
    return zr, zi, count + inside


def mandelbrot(xp: Any, cr: Any, ci: Any) -> Any:
    zr, zi, count = cr * 0, ci * 0, cr * 0
    for _ in range(LIMIT):
        zr, zi, count = escape_step(xp, cr, ci, zr, zi, count)
    return count


def mandelbrot_graphmill(xp: Any, cr: Any, ci: Any) -> Any:
    import graphmill as gm

    def body(i: Any, state: Any) -> Any:
        return escape_step(xp, cr, ci, *state)

    return gm.fori_loop(0, LIMIT, body, (cr * 0, ci * 0, cr * 0))[2]


def mandelbrot_jax(xp: Any, cr: Any, ci: Any) -> Any:
    from jax import lax

    def body(i: Any, state: Any) -> Any:
        return escape_step(xp, cr, ci, *state)

    return lax.fori_loop(0, LIMIT, body, (cr * 0, ci * 0, cr * 0))[2]


def mandelbrot_inductor(torch: Any) -> Any:
    @torch.compile(dynamic=False)
    def step(*state: Any) -> Any:
        return escape_step(torch, *state)

    def run(cr: Any, ci: Any) -> Any:
        state = cr * 0, ci * 0, cr * 0
        for _ in range(LIMIT):
            state = step(cr, ci, *state)
        return state[2]

    return run


def mandelbrot_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(cr: Any, ci: Any) -> Any:
        out = np.zeros_like(cr)
        for i in prange(cr.shape[0]):
            for j in range(cr.shape[1]):
                zr, zi = np.float32(0), np.float32(0)
                for _ in range(LIMIT):
                    if zr * zr + zi * zi >= np.float32(4):
                        break
                    zr, zi = (
                        zr * zr - zi * zi + cr[i, j],
                        np.float32(2) * zr * zi + ci[i, j],
                    )
                    out[i, j] += np.float32(1)
        return out

    return run


def plane(rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    real = np.linspace(-2.25, 0.75, PIXELS, dtype=np.float32)
    imaginary = np.linspace(-1.25, 1.25, PIXELS, dtype=np.float32)
    cr, ci = np.meshgrid(real, imaginary)
    return {"cr": cr.copy(), "ci": ci.copy()}


WORKLOADS = (
    Workload(
        "jacobi_2d",
        f"jacobi_2d in place, {SIDE}², {STEPS} steps",
        lambda rng: {"a": normal(rng, SIDE, SIDE), "b": normal(rng, SIDE, SIDE)},
        {
            "numpy": jacobi_numpy,
            "graphmill": jacobi_graphmill,
            "jax": jacobi_jax,
            "torch": jacobi_torch,
            "inductor": jacobi_inductor,
            "numba": jacobi_numba,
        },
        flops=10.0 * SIDE * SIDE * STEPS,
        bytes=16.0 * SIDE * SIDE * STEPS,
        tolerance=1e-4,
    ),
    Workload(
        "mandelbrot",
        f"mandelbrot, {PIXELS}², {LIMIT} iterations",
        plane,
        {
            "numpy": mandelbrot,
            "graphmill": mandelbrot_graphmill,
            "jax": mandelbrot_jax,
            "torch": mandelbrot,
            "inductor": mandelbrot_inductor,
            "numba": mandelbrot_numba,
        },
        flops=10.0 * PIXELS * PIXELS * LIMIT,
        bytes=12.0 * PIXELS * PIXELS,
        tolerance=2e-2,
        mean_error=True,
    ),
)
