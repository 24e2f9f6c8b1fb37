"""Row-wise work on 4096 × 1024: softmax, norms, logsumexp, cumulative sum."""

from typing import Any

from benchmarks.workload import Arrays, Workload, normal

ROWS, COLUMNS = 4096, 1024
SIZE = ROWS * COLUMNS
EPSILON = 1e-5


def softmax(xp: Any, x: Any) -> Any:
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def softmax_torch(torch: Any, x: Any) -> Any:
    return torch.softmax(x, -1)


def softmax_numba(numba: Any) -> Any:
    import numpy as np

    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any) -> Any:
        out = np.empty_like(x)
        for i in prange(x.shape[0]):
            m = x[i].max()
            s = np.float32(0)
            for j in range(x.shape[1]):
                out[i, j] = np.exp(x[i, j] - m)
                s += out[i, j]
            r = np.float32(1) / s
            for j in range(x.shape[1]):
                out[i, j] *= r
        return out

    return run


def layer_norm(xp: Any, x: Any, scale: Any, shift: Any) -> Any:
    mean = xp.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / xp.sqrt(variance + EPSILON) * scale + shift


def layer_norm_torch(torch: Any, x: Any, scale: Any, shift: Any) -> Any:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], scale, shift, EPSILON)


def layer_norm_numba(numba: Any) -> Any:
    import numpy as np

    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any, scale: Any, shift: Any) -> Any:
        out = np.empty_like(x)
        n = x.shape[1]
        for i in prange(x.shape[0]):
            s = np.float32(0)
            for j in range(n):
                s += x[i, j]
            mean = s / np.float32(n)
            v = np.float32(0)
            for j in range(n):
                d = x[i, j] - mean
                v += d * d
            r = np.float32(1) / np.sqrt(v / np.float32(n) + np.float32(EPSILON))
            for j in range(n):
                out[i, j] = (x[i, j] - mean) * r * scale[j] + shift[j]
        return out

    return run


def rms_norm(xp: Any, x: Any, scale: Any) -> Any:
    return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * scale


def rms_norm_torch(torch: Any, x: Any, scale: Any) -> Any:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], scale, EPSILON)


def rms_norm_numba(numba: Any) -> Any:
    import numpy as np

    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any, scale: Any) -> Any:
        out = np.empty_like(x)
        n = x.shape[1]
        for i in prange(x.shape[0]):
            v = np.float32(0)
            for j in range(n):
                v += x[i, j] * x[i, j]
            r = np.float32(1) / np.sqrt(v / np.float32(n) + np.float32(EPSILON))
            for j in range(n):
                out[i, j] = x[i, j] * r * scale[j]
        return out

    return run


def logsumexp(xp: Any, x: Any) -> Any:
    m = xp.max(x, axis=-1, keepdims=True)
    return xp.log(xp.sum(xp.exp(x - m), axis=-1)) + m[:, 0]


def logsumexp_torch(torch: Any, x: Any) -> Any:
    return torch.logsumexp(x, -1)


def logsumexp_numba(numba: Any) -> Any:
    import numpy as np

    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any) -> Any:
        out = np.empty(x.shape[0], x.dtype)
        for i in prange(x.shape[0]):
            m = x[i].max()
            s = np.float32(0)
            for j in range(x.shape[1]):
                s += np.exp(x[i, j] - m)
            out[i] = np.log(s) + m
        return out

    return run


def cumsum(xp: Any, x: Any) -> Any:
    return xp.cumsum(x, axis=1)


def cumsum_torch(torch: Any, x: Any) -> Any:
    return torch.cumsum(x, 1)


def cumsum_numba(numba: Any) -> Any:
    import numpy as np

    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any) -> Any:
        out = np.empty_like(x)
        for i in prange(x.shape[0]):
            s = np.float32(0)
            for j in range(x.shape[1]):
                s += x[i, j]
                out[i, j] = s
        return out

    return run


def one(rng: Any) -> Arrays:
    return (1 + normal(rng, COLUMNS) / 8,)


def two(rng: Any) -> Arrays:
    return 1 + normal(rng, COLUMNS) / 8, normal(rng, COLUMNS) / 8


IN = f"float[{ROWS},{COLUMNS}] x"
OUT = f"float[{ROWS},{COLUMNS}] out"
ROW = f"float[{COLUMNS}]"
ONNX = {
    "softmax": f"f ({IN}) => ({OUT}) {{ out = Softmax <axis = -1> (x) }}",
    "layer_norm": f"f ({IN}, {ROW} g, {ROW} b) => ({OUT}) "
    f"{{ out = LayerNormalization <axis = -1, epsilon = {EPSILON:.8f}> (x, g, b) }}",
    "rms_norm": f"f ({IN}, {ROW} g) => ({OUT})"
    f" <int64[1] axis = {{-1}}, float e = {{{EPSILON:.8f}}}>"
    "{ xx = Mul(x, x)\n m = ReduceMean <keepdims = 1> (xx, axis)\n me = Add(m, e)\n r = Sqrt(me)\n"
    " n = Div(x, r)\n out = Mul(n, g) }",
    "logsumexp": f"f ({IN}) => (float[{ROWS}] out) <int64[1] axis = {{-1}}>"
    "{ out = ReduceLogSumExp <keepdims = 0> (x, axis) }",
    "cumsum": f"f ({IN}) => ({OUT}) <int64 axis = {{1}}> {{ out = CumSum(x, axis) }}",
}


def rows(name: str, title: str, code: dict[str, Any], **more: Any) -> Workload:
    return Workload(
        name,
        f"{title}, {ROWS} × {COLUMNS}",
        lambda rng: {"x": normal(rng, ROWS, COLUMNS)},
        code | {"onnx": ONNX[name]},
        **({"bytes": 8.0 * SIZE} | more),
    )


WORKLOADS = (
    rows(
        "softmax",
        "softmax of rows",
        {"array": softmax, "torch": softmax_torch, "numba": softmax_numba},
        flops=12.0 * SIZE,
        tags=frozenset({"memory", "npbench"}),
    ),
    rows(
        "layer_norm",
        "layer norm of rows",
        {"array": layer_norm, "torch": layer_norm_torch, "numba": layer_norm_numba},
        constants=two,
        flops=8.0 * SIZE,
    ),
    rows(
        "rms_norm",
        "RMS norm of rows",
        {"array": rms_norm, "torch": rms_norm_torch, "numba": rms_norm_numba},
        constants=one,
        flops=4.0 * SIZE,
    ),
    rows(
        "logsumexp",
        "log-sum-exp of rows",
        {"array": logsumexp, "torch": logsumexp_torch, "numba": logsumexp_numba},
        flops=12.0 * SIZE,
        bytes=4.0 * SIZE,
    ),
    rows(
        "cumsum",
        "cumulative sum along rows",
        {"array": cumsum, "torch": cumsum_torch, "numba": cumsum_numba},
        flops=1.0 * SIZE,
        tolerance=1e-4,
    ),
)
