"""Loops over whole arrays, as in NPBench: stencils in place, bodies in space, a fractal."""

from typing import Any

import numpy as np

from benchmarks.workload import Workload, normal

SIDE, STEPS = 500, 100
PIXELS, LIMIT = 400, 100
EDGE, HEAT_STEPS = 60, 50
BODIES, LEAPS, TIME_STEP, SOFTENING = 256, 50, 0.01, 0.01


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


def heat_step(a: Any, b: Any) -> Any:
    centre = a[1:-1, 1:-1, 1:-1]
    b[1:-1, 1:-1, 1:-1] = (
        0.125 * (a[2:, 1:-1, 1:-1] - 2.0 * centre + a[:-2, 1:-1, 1:-1])
        + 0.125 * (a[1:-1, 2:, 1:-1] - 2.0 * centre + a[1:-1, :-2, 1:-1])
        + 0.125 * (a[1:-1, 1:-1, 2:] - 2.0 * centre + a[1:-1, 1:-1, :-2])
        + centre
    )
    return b


def heat_numpy(xp: Any, a: Any, b: Any) -> Any:
    a, b = a.copy(), b.copy()
    for _ in range(HEAT_STEPS):
        b = heat_step(a, b)
        a = heat_step(b, a)
    return a


def heat_graphmill(xp: Any, a: Any, b: Any) -> Any:
    import graphmill as gm

    def body(i: Any, state: Any) -> Any:
        a, b = state
        b = heat_step(a, b)
        a = heat_step(b, a)
        return a, b

    return gm.fori_loop(0, HEAT_STEPS, body, (a, b))[0]


def heat_jax(xp: Any, a: Any, b: Any) -> Any:
    from jax import lax

    def step(a: Any, b: Any) -> Any:
        inner = slice(1, -1)
        centre = a[1:-1, 1:-1, 1:-1]
        sums = (
            0.125 * (a[2:, 1:-1, 1:-1] - 2.0 * centre + a[:-2, 1:-1, 1:-1])
            + 0.125 * (a[1:-1, 2:, 1:-1] - 2.0 * centre + a[1:-1, :-2, 1:-1])
            + 0.125 * (a[1:-1, 1:-1, 2:] - 2.0 * centre + a[1:-1, 1:-1, :-2])
            + centre
        )
        return b.at[inner, inner, inner].set(sums)

    def body(i: Any, state: Any) -> Any:
        a, b = state
        b = step(a, b)
        return step(b, a), b

    return lax.fori_loop(0, HEAT_STEPS, body, (a, b))[0]


def heat_torch(torch: Any, a: Any, b: Any) -> Any:
    a, b = a.clone(), b.clone()
    for _ in range(HEAT_STEPS):
        b = heat_step(a, b)
        a = heat_step(b, a)
    return a


def heat_inductor(torch: Any) -> Any:
    step = torch.compile(heat_step, dynamic=False)

    def run(a: Any, b: Any) -> Any:
        a, b = a.clone(), b.clone()
        for _ in range(HEAT_STEPS):
            step(a, b)
            step(b, a)
        return a

    return run


def heat_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def step(a: Any, b: Any) -> None:
        e, two = np.float32(0.125), np.float32(2)
        for i in prange(1, a.shape[0] - 1):
            for j in range(1, a.shape[1] - 1):
                for k in range(1, a.shape[2] - 1):
                    c = a[i, j, k]
                    b[i, j, k] = (
                        e * (a[i + 1, j, k] - two * c + a[i - 1, j, k])
                        + e * (a[i, j + 1, k] - two * c + a[i, j - 1, k])
                        + e * (a[i, j, k + 1] - two * c + a[i, j, k - 1])
                        + c
                    )

    @numba.njit
    def run(a: Any, b: Any) -> Any:
        a, b = a.copy(), b.copy()
        for _ in range(HEAT_STEPS):
            step(a, b)
            step(b, a)
        return a

    return run


def acceleration(p: Any, mass: Any) -> Any:
    """[3, bodies] of what all others pull at each."""
    d = p[:, None, :] - p[:, :, None]
    squares = (d * d).sum(0) + SOFTENING
    return (d * squares**-1.5) @ mass


def leap(p: Any, v: Any, a: Any, mass: Any) -> Any:
    v = v + a * (TIME_STEP / 2)
    p = p + v * TIME_STEP
    a = acceleration(p, mass)
    return p, v + a * (TIME_STEP / 2), a


def nbody(xp: Any, p: Any, v: Any, mass: Any) -> Any:
    a = acceleration(p, mass)
    for _ in range(LEAPS):
        p, v, a = leap(p, v, a, mass)
    return p


def nbody_graphmill(xp: Any, p: Any, v: Any, mass: Any) -> Any:
    import graphmill as gm

    start = (p, v, acceleration(p, mass))
    return gm.fori_loop(0, LEAPS, lambda i, state: leap(*state, mass), start)[0]


def nbody_jax(xp: Any, p: Any, v: Any, mass: Any) -> Any:
    from jax import lax

    start = (p, v, acceleration(p, mass))
    return lax.fori_loop(0, LEAPS, lambda i, state: leap(*state, mass), start)[0]


def nbody_inductor(torch: Any) -> Any:
    first = torch.compile(acceleration, dynamic=False)
    step = torch.compile(leap, dynamic=False)

    def run(p: Any, v: Any, mass: Any) -> Any:
        a = first(p, mass)
        for _ in range(LEAPS):
            p, v, a = step(p, v, a, mass)
        return p

    return run


def nbody_numba(numba: Any) -> Any:
    prange = numba.prange
    soft, step, half = (np.float32(x) for x in (SOFTENING, TIME_STEP, TIME_STEP / 2))

    @numba.njit(parallel=True, fastmath=True)
    def pulls(p: Any, mass: Any) -> Any:
        out = np.zeros_like(p)
        for i in prange(p.shape[1]):
            x, y, z = np.float32(0), np.float32(0), np.float32(0)
            for j in range(p.shape[1]):
                dx, dy, dz = p[0, j] - p[0, i], p[1, j] - p[1, i], p[2, j] - p[2, i]
                r = np.float32(1) / np.sqrt(dx * dx + dy * dy + dz * dz + soft)
                w = mass[j] * r * r * r
                x, y, z = x + w * dx, y + w * dy, z + w * dz
            out[0, i], out[1, i], out[2, i] = x, y, z
        return out

    @numba.njit(fastmath=True)
    def run(p: Any, v: Any, mass: Any) -> Any:
        p, v = p.copy(), v.copy()
        a = pulls(p, mass)
        for _ in range(LEAPS):
            v += a * half
            p += v * step
            a = pulls(p, mass)
            v += a * half
        return p

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


def bodies(rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    mass = rng.uniform(0.5, 1.5, BODIES).astype(np.float32) / np.float32(BODIES)
    return {"p": normal(rng, 3, BODIES), "v": normal(rng, 3, BODIES), "mass": mass}


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
        tags=frozenset({"npbench"}),
    ),
    Workload(
        "heat_3d",
        f"heat_3d in place, {EDGE}³, {HEAT_STEPS} steps",
        lambda rng: {"a": normal(rng, EDGE, EDGE, EDGE), "b": normal(rng, EDGE, EDGE, EDGE)},
        {
            "numpy": heat_numpy,
            "graphmill": heat_graphmill,
            "jax": heat_jax,
            "torch": heat_torch,
            "inductor": heat_inductor,
            "numba": heat_numba,
        },
        flops=30.0 * EDGE**3 * HEAT_STEPS,
        bytes=16.0 * EDGE**3 * HEAT_STEPS,
        tolerance=1e-4,
        tags=frozenset({"npbench"}),
    ),
    Workload(
        "nbody",
        f"{BODIES} bodies pull at each other, {LEAPS} steps",
        bodies,
        {
            "numpy": nbody,
            "graphmill": nbody_graphmill,
            "jax": nbody_jax,
            "torch": nbody,
            "inductor": nbody_inductor,
            "numba": nbody_numba,
        },
        flops=20.0 * BODIES**2 * LEAPS,
        bytes=28.0 * BODIES,
        tolerance=1e-4,
        tags=frozenset({"npbench"}),
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
        tags=frozenset({"npbench"}),
        mean_error=True,
    ),
)
