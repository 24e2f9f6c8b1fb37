"""Networks for images, batch 1, with the batch norms' stored statistics: ResNet-50, MobileNetV2."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Workload, normal

SIDE, CLASSES = 224, 1000
Weights = Iterator[Any]

# Width inside of a block, how many blocks, stride of the first (He et al. 2015, table 1).
RESNET_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
# Expansion, channels, how many blocks, stride of the first (Sandler et al. 2018, table 2).
MOBILENET_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def conv_norm(nn: Any, x: Any, w: Weights, stride: int = 1, groups: int = 1) -> Any:
    """A convolution that keeps the size (but for its stride), then its batch norm."""
    kernel = next(w)
    x = nn.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
    return nn.batch_norm(x, *itertools.islice(w, 4))


def conv_norm_weights(
    rng: np.random.Generator, inputs: int, outputs: int, window: int, scale: float = 1.0
) -> Arrays:
    """The kernel, then mean, variance, weight and bias of the norm; `inputs` of a group."""
    fan_in = inputs * window * window
    kernel = normal(rng, outputs, inputs, window, window) * np.float32((2 / fan_in) ** 0.5)
    variance = rng.uniform(0.5, 1.5, outputs).astype(np.float32)
    weight = (scale * (1 + normal(rng, outputs) / 8)).astype(np.float32)
    return kernel, normal(rng, outputs) / 8, variance, weight, normal(rng, outputs) / 8


def classifier_weights(rng: np.random.Generator, width: int) -> Arrays:
    return normal(rng, width, CLASSES) * np.float32(width**-0.5), normal(rng, CLASSES) / 8


def resnet50(xp: Any, nn: Any, image: Any, *weights: Any) -> Any:
    w = iter(weights)
    x = nn.relu(conv_norm(nn, image, w, stride=2))
    x = nn.max_pool2d(x, 3, 2, 1)
    for _, blocks, first_stride in RESNET_STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = nn.relu(conv_norm(nn, x, w))
            y = nn.relu(conv_norm(nn, y, w, stride))
            y = conv_norm(nn, y, w)
            shortcut = conv_norm(nn, x, w, stride) if block == 0 else x
            x = nn.relu(y + shortcut)
    return nn.linear(nn.global_avg_pool(x), next(w), next(w))


def resnet50_weights(rng: np.random.Generator) -> Arrays:
    arrays = [*conv_norm_weights(rng, 3, 64, 7)]
    channels = 64
    for width, blocks, _ in RESNET_STAGES:
        for block in range(blocks):
            arrays += conv_norm_weights(rng, channels, width, 1)
            arrays += conv_norm_weights(rng, width, width, 3)
            arrays += conv_norm_weights(rng, width, 4 * width, 1, scale=0.25)
            if block == 0:
                arrays += conv_norm_weights(rng, channels, 4 * width, 1)
            channels = 4 * width
    return *arrays, *classifier_weights(rng, channels)


def mobilenet(xp: Any, nn: Any, image: Any, *weights: Any) -> Any:
    w = iter(weights)
    x = nn.relu6(conv_norm(nn, image, w, stride=2))
    for expansion, channels, blocks, first_stride in MOBILENET_STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = nn.relu6(conv_norm(nn, x, w)) if expansion > 1 else x
            y = nn.relu6(conv_norm(nn, y, w, stride, groups=y.shape[1]))
            y = conv_norm(nn, y, w)
            x = x + y if stride == 1 and x.shape[1] == channels else y
    x = nn.relu6(conv_norm(nn, x, w))
    return nn.linear(nn.global_avg_pool(x), next(w), next(w))


def mobilenet_weights(rng: np.random.Generator) -> Arrays:
    arrays = [*conv_norm_weights(rng, 3, 32, 3)]
    inputs = 32
    for expansion, channels, blocks, _ in MOBILENET_STAGES:
        for _ in range(blocks):
            inner = expansion * inputs
            if expansion > 1:
                arrays += conv_norm_weights(rng, inputs, inner, 1)
            arrays += conv_norm_weights(rng, 1, inner, 3)
            arrays += conv_norm_weights(rng, inner, channels, 1)
            inputs = channels
    arrays += conv_norm_weights(rng, inputs, 1280, 1)
    return *arrays, *classifier_weights(rng, 1280)


def network(
    name: str,
    title: str,
    model: Callable[..., Any],
    weights: Callable[[np.random.Generator], Arrays],
    flops: float,
    parameters: float,
    **options: Any,
) -> Workload:
    return Workload(
        name,
        f"{title}, batch 1, {SIDE} × {SIDE}",
        lambda rng: {"image": normal(rng, 1, 3, SIDE, SIDE)},
        {"layers": model},
        constants=weights,
        flops=flops,
        bytes=4.0 * (parameters + 3 * SIDE * SIDE + CLASSES),
        tolerance=1e-4,
        tags=frozenset({"cold", "model"}),
        options=options,
    )


# Operations and parameters as the papers count them, two per multiplication with addition.
WORKLOADS = (
    network("resnet50", "ResNet-50", resnet50, resnet50_weights, 8.2e9, 25.6e6),
    network(
        "resnet50_winograd", "ResNet-50, Winograd allowed to Graphmill", resnet50,
        resnet50_weights, 8.2e9, 25.6e6, winograd=4,
    ),
    network("mobilenet_v2", "MobileNetV2", mobilenet, mobilenet_weights, 0.6e9, 3.5e6),
)  # fmt: skip
