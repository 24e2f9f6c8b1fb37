"""Activation functions, elementwise: any shape, the dtype of x.

Smooth ones take floats; `relu`, `relu6`, `leaky_relu` and `hardswish` are piecewise linear.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphmill.frontend.core import apply, as_tracer, emit
from graphmill.frontend.elementwise import select
from graphmill.frontend.nn.layer import Array, floating, layer
from graphmill.frontend.tracer import Tracer
from graphmill.frontend.ufuncs import constant_like


@layer
def relu(x: Array) -> Array:
    """max(x, 0); integers too."""
    return apply("max", as_tracer(x), 0)


@layer
def relu6(x: Array) -> Array:
    """min(max(x, 0), 6); integers too (Krizhevsky 2010)."""
    return apply("min", apply("max", as_tracer(x), 0), 6)


@layer
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x where x >= 0, else negative_slope * x (Maas et al. 2013)."""
    x = floating("leaky_relu", x)
    return select(x >= 0, x, x * negative_slope)


@layer
def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016)."""
    x = floating("elu", x)
    below: Any = emit("expm1", apply("min", x, 0))
    return select(x > 0, x, below * alpha)


@layer
def gelu(x: Array, approximate: bool = False) -> Array:
    """x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016).

    By erf, or `approximate` by 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))).
    """
    x = floating("gelu", x)
    if approximate:
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
        return 0.5 * x * (1 + np.tanh(inner))
    return 0.5 * x * (1 + emit("erf", x * math.sqrt(0.5)))


@layer
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    return emit("logistic", floating("sigmoid", x))


@layer
def silu(x: Array) -> Array:
    """x * sigmoid(x), also called swish (Elfwing et al. 2017)."""
    x = floating("silu", x)
    return x * emit("logistic", x)


swish = silu


@layer
def softplus(x: Array) -> Array:
    """log(1 + exp(x)) without overflow."""
    return _softplus(floating("softplus", x))


def _softplus(x: Tracer) -> Tracer:
    return emit("logaddexp", x, constant_like(x, 0))


@layer
def mish(x: Array) -> Array:
    """x * tanh(softplus(x)) (Misra 2019)."""
    x = floating("mish", x)
    return x * np.tanh(_softplus(x))


@layer
def hardswish(x: Array) -> Array:
    """x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)."""
    x = floating("hardswish", x)
    return x * apply("min", apply("max", x + 3, 0), 6) * (1 / 6)
