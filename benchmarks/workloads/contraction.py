"""Contraction: square matmul, matrix × vector, a small network forward."""

import itertools
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, normal

GEMV = 4096


def matmul(xp: Any, x: Any, y: Any) -> Any:
    return x @ y


def square(n: int) -> Workload:
    shape = f"float[{n},{n}]"
    return Workload(
        f"matmul_{n}",
        f"matmul {n} × {n} × {n}",
        lambda rng: {"x": normal(rng, n, n), "y": normal(rng, n, n)},
        {
            "array": matmul,
            "torch": matmul,
            "onnx": f"f ({shape} x, {shape} y) => ({shape} out) {{ out = MatMul(x, y) }}",
        },
        flops=2.0 * n**3,
        bytes=12.0 * n * n,
        tags=frozenset({"cold"} if n == 512 else ()),
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
    square(256),
    square(512),
    square(1024),
    Workload(
        "gemv",
        f"matrix × vector, {GEMV} × {GEMV}",
        lambda rng: {"x": normal(rng, GEMV, GEMV), "y": normal(rng, GEMV)},
        {
            "array": matmul,
            "torch": matmul,
            "onnx": f"f (float[{GEMV},{GEMV}] x, float[{GEMV}] y) => (float[{GEMV}] out)"
            "{ out = MatMul(x, y) }",
        },
        flops=2.0 * GEMV * GEMV,
        bytes=4.0 * GEMV * GEMV,
    ),
    network("mlp", 128, 784, 512, 512, 10),
    network("digits_mlp", 64, 64, 64, 10, tags=frozenset({"cold"})),
)
