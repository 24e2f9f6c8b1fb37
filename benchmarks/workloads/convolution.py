"""Convolutions and pools of images, at batch 1 and 8; kernels are constants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.workload import Workload, normal

BATCHES = (1, 8)


@dataclass(frozen=True)
class Conv:
    """`inputs` channels of `side` × `side` to `outputs`, by a square window."""

    name: str
    title: str
    inputs: int
    side: int
    outputs: int
    window: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def call(self, xp: Any, nn: Any, x: Any, kernel: Any) -> Any:
        return nn.conv2d(
            x,
            kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def workload(self, batch: int) -> Workload:
        kernel = (self.outputs, self.inputs // self.groups, self.window, self.window)
        fan_in = int(np.prod(kernel[1:]))
        out_side = self.side + 2 * self.padding - (self.window - 1) * self.dilation - 1
        places = batch * (out_side // self.stride + 1) ** 2
        elements = batch * self.inputs * self.side**2 + self.outputs * (places + fan_in)
        return Workload(
            f"{self.name}_b{batch}",
            f"{self.title}, batch {batch}, {self.inputs} × {self.side}² to {self.outputs}",
            lambda rng: {"x": normal(rng, batch, self.inputs, self.side, self.side)},
            {"layers": self.call},
            constants=lambda rng: (normal(rng, *kernel) * np.float32(fan_in**-0.5),),
            flops=2.0 * places * self.outputs * fan_in,
            bytes=4.0 * elements,
            options=self.options,
        )


@dataclass(frozen=True)
class Pool:
    name: str
    title: str
    function: str
    channels: int
    side: int
    window: int
    stride: int
    padding: int = 0

    def call(self, xp: Any, nn: Any, x: Any) -> Any:
        return getattr(nn, self.function)(x, self.window, self.stride, self.padding)

    def workload(self, batch: int) -> Workload:
        out_side = (self.side + 2 * self.padding - self.window) // self.stride + 1
        places = batch * self.channels * out_side**2
        return Workload(
            f"{self.name}_b{batch}",
            f"{self.title}, batch {batch}, {self.channels} × {self.side}²",
            lambda rng: {"x": normal(rng, batch, self.channels, self.side, self.side)},
            {"layers": partial(self.call)},
            flops=1.0 * places * self.window**2,
            bytes=4.0 * (batch * self.channels * self.side**2 + places),
        )


KINDS = (
    Conv("conv3x3", "3 × 3 convolution", 64, 56, 64, 3, padding=1),
    Conv(
        "conv3x3_winograd", "3 × 3 convolution, Winograd allowed to Graphmill", 64, 56, 64, 3,
        padding=1, options={"winograd": 4},
    ),
    Conv("conv1x1", "1 × 1 convolution", 256, 56, 64, 1),
    Conv("conv7x7s2", "7 × 7 convolution, stride 2", 3, 224, 64, 7, stride=2, padding=3),
    Conv("depthwise3x3", "3 × 3 depthwise", 144, 56, 144, 3, padding=1, groups=144),
    Conv("dilated3x3", "3 × 3 convolution, dilated by 2", 64, 56, 64, 3, padding=2, dilation=2),
    Conv("grouped3x3", "3 × 3 convolution, 32 groups", 128, 56, 128, 3, padding=1, groups=32),
    Pool("max_pool", "3 × 3 maxima, stride 2", "max_pool2d", 64, 112, 3, 2, 1),
    Pool("avg_pool", "2 × 2 means, stride 2", "avg_pool2d", 256, 56, 2, 2),
)  # fmt: skip
WORKLOADS = tuple(kind.workload(batch) for kind in KINDS for batch in BATCHES)
