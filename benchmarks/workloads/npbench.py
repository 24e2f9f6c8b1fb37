"""Scientific kernels in float64, as in NPBench (Ziogas et al., ICS 2021), in smaller sizes.

Each is one function of the array module, which NumPy, JAX, Graphmill and mostly torch run as it is.
Numba gets loops where the work is not a BLAS product.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workload import Workload

Kernel = Callable[..., Any]


def gemm(xp: Any, c: Any, a: Any, b: Any) -> Any:
    return 1.5 * a @ b + 1.2 * c


def k3mm(xp: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return (a @ b) @ (c @ d)


def k2mm(xp: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return 1.5 * a @ b @ c + 1.2 * d


def bicg(xp: Any, a: Any, p: Any, r: Any) -> Any:
    return xp.concatenate((r @ a, a @ p))


def mvt(xp: Any, x1: Any, x2: Any, y1: Any, y2: Any, a: Any) -> Any:
    return xp.stack((x1 + a @ y1, x2 + y2 @ a))


def cholesky2(xp: Any, a: Any) -> Any:
    """Of the matrix with its largest sums of rows on the diagonal, which is definite."""
    a = a + a.T + xp.eye(a.shape[0]) * (2.0 * a.shape[0])
    return xp.linalg.cholesky(a) + xp.triu(a, k=1)


def contour_integral(xp: Any, ham: Any, points: Any, y: Any) -> Any:
    """Sums of solutions of (zH₀ + H₁ + H₂/z) x = y over points of a contour."""
    first = xp.zeros(y.shape, dtype=np.complex128)
    second = xp.zeros(y.shape, dtype=np.complex128)
    for n in range(points.shape[0]):
        z = points[n] + 1j * (1.0 - points[n])
        x = xp.linalg.solve(z * ham[0] + ham[1] + ham[2] / z, y + 0j)
        first = first + x
        second = second + z * x
    return xp.stack((first.real, first.imag, second.real, second.imag))


def stockham_fft(xp: Any, real: Any, imag: Any) -> Any:
    """A Fourier transform of 4⁶ points, six steps of radix 4."""
    radix, steps = 4, 6
    places = np.arange(radix)
    transform = np.exp(-2j * np.pi * places[:, None] * places / radix)
    y = real + 1j * imag
    for i in range(steps):
        done, left = radix**i, radix ** (steps - i - 1)
        turned = xp.transpose(xp.reshape(y, (done, radix, left)), (1, 0, 2))
        twiddles = np.exp(-2j * np.pi * places[:, None] * np.arange(done) / (done * radix))
        y = transform @ xp.reshape(turned * twiddles[:, :, None], (radix, -1))
    y = xp.reshape(y, real.shape)
    return xp.stack((y.real, y.imag))


def atax(xp: Any, a: Any, x: Any) -> Any:
    return (a @ x) @ a


def gesummv(xp: Any, a: Any, b: Any, x: Any) -> Any:
    return 1.5 * (a @ x) + 1.2 * (b @ x)


def gemver(xp: Any, a: Any, u: Any, v: Any, w: Any, z: Any, y: Any) -> Any:
    hat = a + u[:, None] * v + w[:, None] * z
    return 1.5 * (hat @ (1.2 * (y @ hat) + z))


def doitgen(xp: Any, a: Any, c: Any) -> Any:
    return xp.reshape(a.reshape(-1, c.shape[0]) @ c, a.shape)


def covariance(xp: Any, data: Any) -> Any:
    centred = data - xp.mean(data, 0)
    return centred.T @ centred / (data.shape[0] - 1.0)


def correlation(xp: Any, data: Any) -> Any:
    deviation = xp.std(data, axis=0)
    deviation = xp.where(deviation <= 0.1, 1.0, deviation)
    normed = (data - xp.mean(data, axis=0)) / (data.shape[0] ** 0.5 * deviation)
    return normed.T @ normed


def hdiff(xp: Any, x: Any, coefficient: Any) -> Any:
    """Horizontal diffusion of a weather model, with flux limiters."""
    around = x[:, 2:, 1:-1] + x[:, :-2, 1:-1] + x[:, 1:-1, 2:] + x[:, 1:-1, :-2]
    laplace = 4.0 * x[:, 1:-1, 1:-1] - around
    flux = laplace[:, 1:, 1:-1] - laplace[:, :-1, 1:-1]
    rows = xp.where(flux * (x[:, 2:-1, 2:-2] - x[:, 1:-2, 2:-2]) > 0, 0.0, flux)
    flux = laplace[:, 1:-1, 1:] - laplace[:, 1:-1, :-1]
    columns = xp.where(flux * (x[:, 2:-2, 2:-1] - x[:, 2:-2, 1:-2]) > 0, 0.0, flux)
    change = rows[:, 1:] - rows[:, :-1] + columns[:, :, 1:] - columns[:, :, :-1]
    return x[:, 2:-2, 2:-2] - coefficient * change


def arc_distance(xp: Any, theta_1: Any, phi_1: Any, theta_2: Any, phi_2: Any) -> Any:
    half = xp.sin((phi_2 - phi_1) / 2) ** 2
    h = xp.sin((theta_2 - theta_1) / 2) ** 2 + xp.cos(theta_1) * xp.cos(theta_2) * half
    return 2 * xp.arctan2(xp.sqrt(h), xp.sqrt(1 - h))


def go_fast(xp: Any, a: Any) -> Any:
    return a + xp.sum(xp.tanh(xp.diagonal(a)))


def compute(xp: Any, a: Any, b: Any) -> Any:
    return xp.clip(a, 2, 10) * 4 + b * 3 + 9


def azimint(xp: Any, data: Any, radius: Any) -> Any:
    """Means of the data in 64 rings."""
    return xp.histogram(radius, 64, weights=data)[0] / xp.histogram(radius, 64)[0]


def floyd_step(xp: Any, k: Any, path: Any) -> Any:
    return xp.minimum(path, path[:, k][:, None] + path[k, :])


def floyd_warshall_numpy(xp: Any, path: Any) -> Any:
    for k in range(path.shape[0]):
        path = floyd_step(xp, k, path)
    return path


def floyd_warshall_graphmill(xp: Any, path: Any) -> Any:
    import graphmill as gm

    return gm.fori_loop(0, path.shape[0], lambda k, p: floyd_step(xp, k, p), path)


def floyd_jax(xp: Any, path: Any) -> Any:
    from jax import lax

    return lax.fori_loop(0, path.shape[0], lambda k, p: floyd_step(xp, k, p), path)


def floyd_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(path: Any) -> Any:
        path = path.copy()
        for k in range(path.shape[0]):
            for i in prange(path.shape[0]):
                for j in range(path.shape[0]):
                    path[i, j] = min(path[i, j], path[i, k] + path[k, j])
        return path

    return run


def azimint_numba(numba: Any) -> Any:
    @numba.njit(fastmath=True)
    def run(data: Any, radius: Any) -> Any:
        sums, counts = np.zeros(64), np.zeros(64)
        low, high = radius.min(), radius.max()
        scale = 64 / (high - low)
        for i in range(radius.size):
            ring = min(int((radius[i] - low) * scale), 63)
            sums[ring] += data[i]
            counts[ring] += 1
        return sums / counts

    return run


def hdiff_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(inline="always")
    def laplace(x: Any, k: int, i: int, j: int) -> Any:
        return 4.0 * x[k, i, j] - (
            x[k, i + 1, j] + x[k, i - 1, j] + x[k, i, j + 1] + x[k, i, j - 1]
        )

    @numba.njit(inline="always")
    def limited(flux: Any, slope: Any) -> Any:
        return 0.0 if flux * slope > 0 else flux

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any, coefficient: Any) -> Any:
        out = np.empty_like(coefficient)
        for k in prange(x.shape[0]):
            for i in range(2, x.shape[1] - 2):
                for j in range(2, x.shape[2] - 2):
                    here = laplace(x, k, i, j)
                    below = limited(laplace(x, k, i + 1, j) - here, x[k, i + 1, j] - x[k, i, j])
                    above = limited(here - laplace(x, k, i - 1, j), x[k, i, j] - x[k, i - 1, j])
                    right = limited(laplace(x, k, i, j + 1) - here, x[k, i, j + 1] - x[k, i, j])
                    left = limited(here - laplace(x, k, i, j - 1), x[k, i, j] - x[k, i, j - 1])
                    change = below - above + right - left
                    out[k, i - 2, j - 2] = x[k, i, j] - coefficient[k, i - 2, j - 2] * change
        return out

    return run


def gemver_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(a: Any, u: Any, v: Any, w: Any, z: Any, y: Any) -> Any:
        hat = np.empty_like(a)
        for i in prange(a.shape[0]):
            for j in range(a.shape[1]):
                hat[i, j] = a[i, j] + u[i] * v[j] + w[i] * z[j]
        return 1.5 * (hat @ (1.2 * (y @ hat) + z))

    return run


def arc_distance_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(theta_1: Any, phi_1: Any, theta_2: Any, phi_2: Any) -> Any:
        out = np.empty_like(theta_1)
        for i in prange(out.size):
            half = np.sin((phi_2[i] - phi_1[i]) / 2) ** 2
            cosines = np.cos(theta_1[i]) * np.cos(theta_2[i])
            h = np.sin((theta_2[i] - theta_1[i]) / 2) ** 2 + cosines * half
            out[i] = 2 * np.arctan2(np.sqrt(h), np.sqrt(1 - h))
        return out

    return run


def go_fast_numba(numba: Any) -> Any:
    @numba.njit(parallel=True, fastmath=True)
    def run(a: Any) -> Any:
        trace = 0.0
        for i in range(a.shape[0]):
            trace += np.tanh(a[i, i])
        return a + trace

    return run


def compute_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True)
    def run(a: Any, b: Any) -> Any:
        out = np.empty_like(a)
        for i in prange(a.shape[0]):
            for j in range(a.shape[1]):
                out[i, j] = min(max(a[i, j], 2), 10) * 4 + b[i, j] * 3 + 9
        return out

    return run


def workload(
    kernel: Kernel,
    title: str,
    shapes: str,
    flops: float,
    torch: bool = True,
    integers: bool = False,
    **code: Kernel,
) -> Workload:
    """A record whose inputs are uniform random numbers of the named shapes (`a 40,50; x 50`)."""
    parts = [part.split() for part in shapes.split(";")]
    sizes = {name: tuple(map(int, dims.split(","))) for name, dims in parts}

    def inputs(rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
        if integers:
            return {name: rng.integers(0, 1000, size) for name, size in sizes.items()}
        return {name: rng.random(size) for name, size in sizes.items()}

    return Workload(
        f"npb_{kernel.__name__.removesuffix('_numpy')}",
        title,
        inputs,
        {"array": kernel} | ({"torch": kernel} if torch else {}) | code,
        flops=flops,
        bytes=8.0 * sum(int(np.prod(size)) for size in sizes.values()),
        tolerance=1e-10,
    )


WORKLOADS = (
    workload(gemm, "αAB + βC", "c 500,600; a 500,700; b 700,600", 2.0 * 500 * 600 * 700),
    workload(
        k3mm, "(AB)(CD)", "a 320,350; b 350,380; c 380,400; d 400,420",
        2.0 * (320 * 350 * 380 + 380 * 400 * 420 + 320 * 380 * 420),
    ),
    workload(
        k2mm, "αABC + βD", "a 320,350; b 350,380; c 380,400; d 320,400",
        2.0 * (320 * 350 * 380 + 320 * 380 * 400),
    ),
    workload(bicg, "rA and Ap", "a 1200,1400; p 1400; r 1200", 4.0 * 1200 * 1400, torch=False),
    workload(
        mvt, "x₁ + Ay₁ and x₂ + y₂A", "x1 1300; x2 1300; y1 1300; y2 1300; a 1300,1300",
        4.0 * 1300**2, torch=False,
    ),
    workload(cholesky2, "Cholesky by the library, 300²", "a 300,300", 300**3 / 3, torch=False),
    workload(
        contour_integral, "systems of 60 complex equations at 16 points",
        "ham 3,60,60; points 16; y 60,40", 8.0 * 16 * 60**2 * (20 + 2 * 40), torch=False,
    ),
    workload(
        stockham_fft, "a Fourier transform of 4,096 points", "real 4096; imag 4096",
        5.0 * 4096 * 12, torch=False,
    ),
    workload(atax, "(Ax)A", "a 1200,1400; x 1400", 4.0 * 1200 * 1400),
    workload(gesummv, "αAx + βBx", "a 1300,1300; b 1300,1300; x 1300", 4.0 * 1300**2),
    workload(
        gemver, "two updates of rank one, two products",
        "a 1000,1000; u 1000; v 1000; w 1000; z 1000; y 1000", 8e6, numba=gemver_numba,
    ),
    workload(
        doitgen, "a product along the last axis", "a 60,60,128; c 128,128", 2.0 * 3600 * 128**2
    ),
    workload(covariance, "covariances of columns", "data 1000,400", 2.0 * 1000 * 400**2),
    workload(
        correlation, "correlations of columns", "data 1000,400", 2.0 * 1000 * 400**2, torch=False
    ),
    workload(
        hdiff, "diffusion with flux limiters", "x 160,68,68; coefficient 160,64,64",
        25.0 * 160 * 64**2, torch=False, numba=hdiff_numba,
    ),
    workload(
        arc_distance, "distances on a sphere",
        "theta_1 1000000; phi_1 1000000; theta_2 1000000; phi_2 1000000", 1e8,
        numba=arc_distance_numba,
    ),
    workload(go_fast, "tanh of the trace added", "a 2000,2000", 4e6, numba=go_fast_numba),
    workload(
        compute, "clip, scale and add of int64", "a 1000,1000; b 1000,1000", 6e6, torch=True,
        integers=True, numba=compute_numba,
    ),
    workload(
        azimint, "means of 64 rings", "data 400000; radius 400000", 16e5, torch=False,
        numba=azimint_numba,
    ),
    workload(
        floyd_warshall_numpy, "shortest paths, 300 nodes", "path 300,300", 2.0 * 300**3,
        graphmill=floyd_warshall_graphmill, jax=floyd_jax, numba=floyd_numba,
    ),
)  # fmt: skip
