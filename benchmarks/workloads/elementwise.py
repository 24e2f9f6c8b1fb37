"""Elementwise chains: large, small, tiny, and one that is only compiled."""

from typing import Any

from benchmarks.workload import Workload, normal

A, B, C = 1.25, 0.5, 0.75
K0, K1 = 0.7978845608, 0.044715


def gelu(xp: Any, x: Any) -> Any:
    y = x * A + B
    return 0.5 * y * (1 + xp.tanh(K0 * (y + K1 * y * y * y))) * C


def gelu_numba(numba: Any) -> Any:
    import numpy as np

    prange = numba.prange

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any) -> Any:
        out = np.empty_like(x)
        for i in prange(x.size):
            y = x[i] * np.float32(A) + np.float32(B)
            t = np.tanh(np.float32(K0) * (y + np.float32(K1) * y * y * y))
            out[i] = np.float32(0.5 * C) * y * (np.float32(1) + t)
        return out

    return run


# numexpr widens Python floats unless it is told to hold them as floats; the adapter tells it.
GELU_NUMEXPR = (
    f"0.5 * (x * {A} + {B}) * (1 + tanh({K0} * ((x * {A} + {B}) "
    f"+ {K1} * (x * {A} + {B}) * (x * {A} + {B}) * (x * {A} + {B})))) * {C}"
)
GELU_ONNX = """
f (float[{n}] x) => (float[{n}] out) <float a = {{{A}}}, float b = {{{B}}}, float c = {{{C}}}> {{
  m = Mul(x, a)
  y = Add(m, b)
  g = Gelu <approximate = "tanh"> (y)
  out = Mul(g, c)
}}
"""


def sizes(name: str, n: int, tags: frozenset[str] = frozenset()) -> Workload:
    return Workload(
        name,
        f"gelu(x·a+b)·c, {n:,} elements",
        lambda rng: {"x": normal(rng, n)},
        {
            "array": gelu,
            "torch": gelu,
            "numba": gelu_numba,
            "numexpr": GELU_NUMEXPR,
            "onnx": GELU_ONNX.format(n=n, A=A, B=B, C=C),
        },
        flops=20.0 * n,
        bytes=8.0 * n,
        tags=tags,
    )


def add(xp: Any, x: Any, y: Any) -> Any:
    return x + y


def add_numba(numba: Any) -> Any:
    @numba.njit
    def run(x: Any, y: Any) -> Any:
        return x + y

    return run


def ten(xp: Any, x: Any, y: Any) -> Any:
    a = xp.exp(-x * x) + y
    b = xp.sqrt(a * a + 1.0) - xp.tanh(y)
    return b / (1.0 + xp.abs(x)) * xp.sin(a)


def ten_numba(numba: Any) -> Any:
    import numpy as np

    @numba.njit(fastmath=True)
    def run(x: Any, y: Any) -> Any:
        a = np.exp(-x * x) + y
        b = np.sqrt(a * a + np.float32(1)) - np.tanh(y)
        return b / (np.float32(1) + np.abs(x)) * np.sin(a)

    return run


TEN_ONNX = """
f (float[4096] x, float[4096] y) => (float[4096] out) <float one = {1.0}> {
  nx = Neg(x)
  x2 = Mul(nx, x)
  e = Exp(x2)
  a = Add(e, y)
  aa = Mul(a, a)
  a1 = Add(aa, one)
  s = Sqrt(a1)
  t = Tanh(y)
  b = Sub(s, t)
  ax = Abs(x)
  d = Add(one, ax)
  q = Div(b, d)
  sa = Sin(a)
  out = Mul(q, sa)
}
"""
ADD_ONNX = "f (float[4] x, float[4] y) => (float[4] out) { out = Add(x, y) }"

WORKLOADS = (
    sizes("gelu_16m", 1 << 24, frozenset({"memory"})),
    sizes("gelu_4k", 1 << 12),
    Workload(
        "add_4",
        "x + y, 4 elements: the cost of a call",
        lambda rng: {"x": normal(rng, 4), "y": normal(rng, 4)},
        {
            "array": add,
            "torch": add,
            "numba": add_numba,
            "numexpr": "x + y",
            "onnx": ADD_ONNX,
        },
        tags=frozenset({"cold"}),
    ),
    Workload(
        "ten_ops",
        "ten elementwise ops, 4,096 elements",
        lambda rng: {"x": normal(rng, 4096), "y": normal(rng, 4096)},
        {
            "array": ten,
            "torch": ten,
            "numba": ten_numba,
            "numexpr": (
                "(sqrt((exp(-x * x) + y) * (exp(-x * x) + y) + 1.0) - tanh(y))"
                " / (1.0 + abs(x)) * sin(exp(-x * x) + y)"
            ),
            "onnx": TEN_ONNX,
        },
        flops=60.0 * 4096,
        bytes=12.0 * 4096,
        tags=frozenset({"cold"}),
    ),
)
