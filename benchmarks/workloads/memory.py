"""Work bound by memory: sums, argmax, transpose, gather, a reduction over a volume."""

from typing import Any

import numpy as np

from benchmarks.workload import Workload, normal

N = 4096
SIDE = 128
VOCABULARY, WIDTH, TOKENS = 50_000, 256, 8192


def sum0(xp: Any, x: Any) -> Any:
    return xp.sum(x, axis=0)


def sum0_torch(torch: Any, x: Any) -> Any:
    return torch.sum(x, 0)


def sum0_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any) -> Any:
        out = np.zeros(x.shape[1], x.dtype)
        block = 1024
        for b in prange((x.shape[1] + block - 1) // block):
            end = min(x.shape[1], (b + 1) * block)
            for i in range(x.shape[0]):
                for j in range(b * block, end):
                    out[j] += x[i, j]
        return out

    return run


def sum1(xp: Any, x: Any) -> Any:
    return xp.sum(x, axis=1)


def sum1_torch(torch: Any, x: Any) -> Any:
    return torch.sum(x, 1)


def sum1_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any) -> Any:
        out = np.empty(x.shape[0], x.dtype)
        for i in prange(x.shape[0]):
            total = np.float32(0)
            for j in range(x.shape[1]):
                total += x[i, j]
            out[i] = total
        return out

    return run


def argmax(xp: Any, x: Any) -> Any:
    return xp.argmax(x, axis=1)


def argmax_torch(torch: Any, x: Any) -> Any:
    return torch.argmax(x, 1)


def argmax_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True)
    def run(x: Any) -> Any:
        out = np.empty(x.shape[0], np.int64)
        for i in prange(x.shape[0]):
            best = 0
            for j in range(1, x.shape[1]):
                if x[i, j] > x[i, best]:
                    best = j
            out[i] = best
        return out

    return run


def transpose_add(xp: Any, x: Any, y: Any) -> Any:
    return x + y.T


def transpose_add_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True)
    def run(x: Any, y: Any) -> Any:
        out = np.empty_like(x)
        t = 32
        for bi in prange((x.shape[0] + t - 1) // t):
            for bj in range((x.shape[1] + t - 1) // t):
                for i in range(bi * t, min(x.shape[0], bi * t + t)):
                    for j in range(bj * t, min(x.shape[1], bj * t + t)):
                        out[i, j] = x[i, j] + y[j, i]
        return out

    return run


def embedding(xp: Any, ids: Any, table: Any) -> Any:
    return table[ids]


def embedding_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True)
    def run(ids: Any, table: Any) -> Any:
        out = np.empty((ids.shape[0], table.shape[1]), table.dtype)
        for i in prange(ids.shape[0]):
            out[i] = table[ids[i]]
        return out

    return run


def squared_difference(xp: Any, x: Any, y: Any) -> Any:
    return xp.sum((x - y) ** 2)


def squared_difference_numba(numba: Any) -> Any:
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any, y: Any) -> Any:
        total = np.float32(0)
        for i in prange(x.shape[0]):
            part = np.float32(0)
            for j in range(x.shape[1]):
                for k in range(x.shape[2]):
                    d = x[i, j, k] - y[i, j, k]
                    part += d * d
            total += part
        return total

    return run


SQUARE = f"float[{N},{N}]"
CUBE = f"float[{SIDE},{SIDE},{SIDE}]"

WORKLOADS = (
    Workload(
        "sum_axis0",
        f"sum over axis 0, {N} × {N}",
        lambda rng: {"x": normal(rng, N, N)},
        {
            "array": sum0,
            "torch": sum0_torch,
            "numba": sum0_numba,
            "onnx": f"f ({SQUARE} x) => (float[{N}] out) <int64[1] axis = {{0}}>"
            "{ out = ReduceSum <keepdims = 0> (x, axis) }",
        },
        flops=1.0 * N * N,
        bytes=4.0 * N * N,
    ),
    Workload(
        "sum_axis1",
        f"sum over axis 1, {N} × {N}",
        lambda rng: {"x": normal(rng, N, N)},
        {
            "array": sum1,
            "torch": sum1_torch,
            "numba": sum1_numba,
            "onnx": f"f ({SQUARE} x) => (float[{N}] out) <int64[1] axis = {{1}}>"
            "{ out = ReduceSum <keepdims = 0> (x, axis) }",
        },
        flops=1.0 * N * N,
        bytes=4.0 * N * N,
    ),
    Workload(
        "argmax",
        f"argmax over axis 1, {N} × {N}",
        lambda rng: {"x": normal(rng, N, N)},
        {
            "array": argmax,
            "torch": argmax_torch,
            "numba": argmax_numba,
            "onnx": f"f ({SQUARE} x) => (int64[{N}] out)"
            "{ out = ArgMax <axis = 1, keepdims = 0> (x) }",
        },
        flops=1.0 * N * N,
        bytes=4.0 * N * N,
        tolerance=0.0,
    ),
    Workload(
        "transpose_add",
        f"x + y.T, {N} × {N}",
        lambda rng: {"x": normal(rng, N, N), "y": normal(rng, N, N)},
        {
            "array": transpose_add,
            "torch": transpose_add,
            "numba": transpose_add_numba,
            "onnx": f"f ({SQUARE} x, {SQUARE} y) => ({SQUARE} out)"
            "{ t = Transpose <perm = [1, 0]> (y)\n out = Add(x, t) }",
        },
        flops=1.0 * N * N,
        bytes=12.0 * N * N,
    ),
    Workload(
        "embedding",
        f"{TOKENS:,} rows of a {VOCABULARY:,} × {WIDTH} table",
        lambda rng: {
            "ids": rng.integers(0, VOCABULARY, TOKENS),
            "table": normal(rng, VOCABULARY, WIDTH),
        },
        {
            "array": embedding,
            "torch": embedding,
            "numba": embedding_numba,
            "onnx": f"f (int64[{TOKENS}] ids, float[{VOCABULARY},{WIDTH}] table)"
            f" => (float[{TOKENS},{WIDTH}] out) {{ out = Gather(table, ids) }}",
        },
        bytes=8.0 * TOKENS * WIDTH,
    ),
    Workload(
        "squared_difference",
        f"sum of (x - y)², {SIDE}³",
        lambda rng: {"x": normal(rng, SIDE, SIDE, SIDE), "y": normal(rng, SIDE, SIDE, SIDE)},
        {
            "array": squared_difference,
            "torch": squared_difference,
            "numba": squared_difference_numba,
            "numexpr": "sum((x - y) * (x - y))",
            "onnx": f"f ({CUBE} x, {CUBE} y) => (float out)"
            "{ d = Sub(x, y)\n out = ReduceSumSquare <keepdims = 0> (d) }",
        },
        flops=3.0 * SIDE**3,
        bytes=8.0 * SIDE**3,
        tolerance=1e-4,
    ),
)
