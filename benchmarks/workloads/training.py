"""A training step of an MLP: forward, backward and the update, parameters in one flat vector.

NumPy and Graphmill get the gradient written out, JAX and torch derive it.
"""

import itertools
from typing import Any

import numpy as np

from benchmarks.workload import Workload, normal

WIDTHS = (784, 512, 512, 10)
SHAPES = tuple(shape for m, n in itertools.pairwise(WIDTHS) for shape in ((m, n), (n,)))
ENDS = tuple(itertools.accumulate(int(np.prod(shape)) for shape in SHAPES))
BATCH = 128
RATE = 0.1


def layers(parameters: Any) -> list[Any]:
    """Weights and biases as views of the flat vector."""
    starts = (0, *ENDS[:-1])
    return [
        parameters[a:b].reshape(shape) for a, b, shape in zip(starts, ENDS, SHAPES, strict=True)
    ]


def step(xp: Any, x: Any, target: Any, parameters: Any) -> Any:
    """One step of gradient descent on the mean cross entropy; the new parameters, flat."""
    w1, b1, w2, b2, w3, b3 = layers(parameters)
    h1 = xp.maximum(x @ w1 + b1, 0)
    h2 = xp.maximum(h1 @ w2 + b2, 0)
    scores = h2 @ w3 + b3
    e = xp.exp(scores - scores.max(axis=1, keepdims=True))
    d3 = (e / e.sum(axis=1, keepdims=True) - target) / BATCH
    d2 = (d3 @ w3.T) * (h2 > 0)
    d1 = (d2 @ w2.T) * (h1 > 0)
    gradients = [x.T @ d1, d1.sum(axis=0), h1.T @ d2, d2.sum(axis=0), h2.T @ d3, d3.sum(axis=0)]
    return parameters - RATE * xp.concatenate([g.reshape(-1) for g in gradients])


def step_jax(jnp: Any, x: Any, target: Any, parameters: Any) -> Any:
    import jax

    def loss(parameters: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = layers(parameters)
        h = jax.nn.relu(jax.nn.relu(x @ w1 + b1) @ w2 + b2)
        return -(jax.nn.log_softmax(h @ w3 + b3) * target).sum() / BATCH

    return parameters - RATE * jax.grad(loss)(parameters)


def step_torch(torch: Any, x: Any, target: Any, parameters: Any) -> Any:
    with torch.enable_grad():
        leaf = parameters.detach().requires_grad_()
        w1, b1, w2, b2, w3, b3 = layers(leaf)
        h = torch.relu(torch.addmm(b1, x, w1))
        h = torch.relu(torch.addmm(b2, h, w2))
        loss = torch.nn.functional.cross_entropy(torch.addmm(b3, h, w3), target)
        (gradient,) = torch.autograd.grad(loss, leaf)
    return parameters - RATE * gradient


def data(rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    labels = rng.integers(0, WIDTHS[-1], BATCH)
    scales = (shape[0] ** -0.5 if len(shape) == 2 else 0.1 for shape in SHAPES)
    flat = [
        normal(rng, *shape).ravel() * np.float32(k) for shape, k in zip(SHAPES, scales, strict=True)
    ]
    return {
        "x": normal(rng, BATCH, WIDTHS[0]),
        "target": np.eye(WIDTHS[-1], dtype=np.float32)[labels],
        "parameters": np.concatenate(flat),
    }


# three products a layer, but for the first layer's gradient of its input
PRODUCTS = 3 * sum(m * n for m, n in itertools.pairwise(WIDTHS)) - WIDTHS[0] * WIDTHS[1]

WORKLOADS = (
    Workload(
        "mlp_train",
        "training step of an MLP 784-512-512-10, batch 128",
        data,
        {"array": step, "jax": step_jax, "torch": step_torch},
        flops=2.0 * BATCH * PRODUCTS,
        bytes=4.0 * (2 * ENDS[-1] + BATCH * (WIDTHS[0] + WIDTHS[-1])),
    ),
)
