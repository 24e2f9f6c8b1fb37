"""Contraction: products of matrices, a layer, small networks forward."""

import itertools
import math
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, normal


def matmul(xp: Any, x: Any, y: Any) -> Any:
    return x @ y


def text(*sizes: int) -> str:
    return f"float[{','.join(map(str, sizes))}]"


def product(
    name: str, x: tuple[int, ...], y: tuple[int, ...], tags: frozenset[str] = frozenset()
) -> Workload:
    """The product of two inputs."""
    out = (*x[:-1], *y[len(x) - 1 :])
    return Workload(
        name,
        f"matmul {' × '.join(map(str, x))} by {' × '.join(map(str, y))}",
        lambda rng: {"x": normal(rng, *x), "y": normal(rng, *y)},
        {
            "array": matmul,
            "torch": matmul,
            "onnx": f"f ({text(*x)} x, {text(*y)} y) => ({text(*out)} out){{ out = MatMul(x, y) }}",
        },
        flops=2.0 * math.prod(out) * x[-1],
        bytes=4.0 * (math.prod(x) + math.prod(y) + math.prod(out)),
        tags=tags,
    )


def square(n: int) -> Workload:
    return product(f"matmul_{n}", (n, n), (n, n), frozenset({"cold"} if n == 512 else ()))


def linear(name: str, rows: int, inputs: int, outputs: int) -> Workload:
    """A layer: the matrix is a constant, so that a compiler may pack it once."""
    return Workload(
        name,
        f"linear layer, {rows} rows, {inputs} to {outputs}",
        lambda rng: {"x": normal(rng, rows, inputs)},
        {"layers": lambda xp, nn, x, *w: nn.linear(x, *w)},
        constants=lambda rng: (
            normal(rng, inputs, outputs) * np.float32(inputs**-0.5),
            normal(rng, outputs),
        ),
        flops=2.0 * rows * inputs * outputs,
        bytes=4.0 * (rows * inputs + inputs * outputs + rows * outputs),
    )


def exact(xp: Any, x: Any, y: Any) -> Any:
    """In float64, which holds the sums of 8-bit products."""
    return x.astype(np.float64) @ y.astype(np.float64)


def matmul_int8(xp: Any, x: Any, y: Any) -> Any:
    return x.astype(np.int32) @ y.astype(np.int32)


def matmul_int8_jax(xp: Any, x: Any, y: Any) -> Any:
    return xp.matmul(x, y, preferred_element_type=np.int32)


def matmul_int8_torch(torch: Any, x: Any, y: Any) -> Any:
    return torch._int_mm(x, y)


def bytes_of(rng: np.random.Generator) -> Any:
    return rng.integers(-128, 128, (SMALL, SMALL), dtype=np.int8)


def bfloats(rng: np.random.Generator) -> Any:
    import ml_dtypes

    return normal(rng, SMALL, SMALL).astype(ml_dtypes.bfloat16)


def dequantised(xp: Any, q: Any, zero: Any, scale: Any, w: Any) -> Any:
    """Quantised activations, with a zero point and a scale for each row, by weights."""
    return ((q.astype(np.float32) - zero) * scale) @ w


def dequantised_torch(torch: Any, q: Any, zero: Any, scale: Any, w: Any) -> Any:
    return ((q.float() - zero) * scale) @ w


def quantised_rows(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "q": rng.integers(-128, 128, (SMALL, SMALL), dtype=np.int8),
        "zero": rng.integers(-9, 9, (SMALL, 1)).astype(np.float32),
        "scale": np.abs(normal(rng, SMALL, 1)) + np.float32(0.1),
        "w": normal(rng, SMALL, NARROWER),
    }


SMALL = 1024
NARROWER = 256
NARROW = (
    Workload(
        "matmul_dequantised_left",
        f"(int8 - zero) * scale of each row, {SMALL} × {SMALL}, by {SMALL} × {NARROWER} of f32",
        quantised_rows,
        {
            "array": dequantised,
            "torch": dequantised_torch,
            "onnx": f"f (int8[{SMALL},{SMALL}] q, float[{SMALL},1] zero, float[{SMALL},1] scale,"
            f" float[{SMALL},{NARROWER}] w) => (float[{SMALL},{NARROWER}] out)"
            f" {{ c = Cast<to = 1>(q) d = Sub(c, zero) e = Mul(d, scale) out = MatMul(e, w) }}",
        },
        flops=2.0 * SMALL**2 * NARROWER,
        bytes=1.0 * SMALL**2 + 8.0 * SMALL * NARROWER,
    ),
    Workload(
        "matmul_int8",
        f"matmul of int8 to int32, {SMALL} × {SMALL}",
        lambda rng: {"x": bytes_of(rng), "y": bytes_of(rng)},
        {
            "reference": exact,
            "graphmill": matmul_int8,
            "jax": matmul_int8_jax,
            "torch": matmul_int8_torch,
            "onnx": f"f (int8[{SMALL},{SMALL}] x, int8[{SMALL},{SMALL}] y)"
            f" => (int32[{SMALL},{SMALL}] out) {{ out = MatMulInteger(x, y) }}",
        },
        flops=2.0 * SMALL**3,
        bytes=6.0 * SMALL**2,
        tolerance=0.0,
    ),
    Workload(
        "matmul_bf16",
        f"matmul of bf16, {SMALL} × {SMALL}",
        lambda rng: {"x": bfloats(rng), "y": bfloats(rng)},
        {"reference": exact, "graphmill": matmul, "jax": matmul, "torch": matmul},
        flops=2.0 * SMALL**3,
        bytes=6.0 * SMALL**2,
        tolerance=4e-3,
    ),
)


def mlp(xp: Any, x: Any, *weights: Any) -> Any:
    for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = xp.maximum(x @ w + b, 0)
    return x @ weights[-2] + weights[-1]


def mlp_torch(torch: Any, x: Any, *weights: Any) -> Any:
    for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = torch.relu(torch.addmm(b, x, w))
    return torch.addmm(weights[-1], x, weights[-2])


def mlp_onnx(batch: int, *widths: int) -> str:
    inputs, body, last = [f"float[{batch},{widths[0]}] x"], [], "x"
    for i, (m, n) in enumerate(itertools.pairwise(widths)):
        inputs += [f"float[{m},{n}] w{i}", f"float[{n}] b{i}"]
        end = i == len(widths) - 2
        body.append(f"h{i} = Gemm({last}, w{i}, b{i})")
        if not end:
            body.append(f"r{i} = Relu(h{i})")
        last = f"r{i}"
    body.append(f"out = Identity(h{len(widths) - 2})")
    result = f"float[{batch},{widths[-1]}] out"
    return f"f ({', '.join(inputs)}) => ({result}) {{ {chr(10).join(body)} }}"


def network(name: str, batch: int, *widths: int, tags: frozenset[str] = frozenset()) -> Workload:
    pairs = list(itertools.pairwise(widths))

    def weights(rng: np.random.Generator) -> Arrays:
        layers = [(normal(rng, m, n) * np.float32(m**-0.5), normal(rng, n) / 8) for m, n in pairs]
        return tuple(array for layer in layers for array in layer)

    return Workload(
        name,
        f"MLP {'-'.join(map(str, widths))}, batch {batch}",
        lambda rng: {"x": normal(rng, batch, widths[0])},
        {"array": mlp, "torch": mlp_torch, "onnx": mlp_onnx(batch, *widths)},
        constants=weights,
        flops=2.0 * batch * sum(m * n for m, n in pairs),
        bytes=4.0 * (sum(m * n for m, n in pairs) + batch * (widths[0] + widths[-1])),
        tags=tags,
    )


WORKLOADS = (
    *(square(n) for n in (64, 128, 256, 512, 1024, 2048)),
    product("matmul_odd", (7, 511), (511, 333)),
    product("matmul_tall", (16_384, 64), (64, 64)),
    product("matmul_deep", (64, 16_384), (16_384, 64)),
    product("matmul_batched", (16, 128, 64), (16, 64, 128)),
    product("gemv", (4096, 4096), (4096,)),
    *NARROW,
    linear("linear", 32, 768, 3072),
    network("mlp", 128, 784, 512, 512, 10, tags=frozenset({"memory"})),
    network("digits_mlp", 64, 64, 64, 10, tags=frozenset({"cold"})),
)
