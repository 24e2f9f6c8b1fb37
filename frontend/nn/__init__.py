"""Neural network functions, `gm.nn`: plain functions of arrays, for inference and losses.

Inside of a traced function their ops carry the function's name as scope. Outside they are traced
on their arguments and evaluated by NumPy, so that they can be tried without compiling.
"""

from __future__ import annotations

from graphmill.frontend.nn.activations import (
    elu,
    gelu,
    hardswish,
    leaky_relu,
    mish,
    relu,
    relu6,
    sigmoid,
    silu,
    softplus,
    swish,
)  # fmt: skip
from graphmill.frontend.nn.attention import attention, rotary_embedding
from graphmill.frontend.nn.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)  # fmt: skip
from graphmill.frontend.nn.dense import embedding, linear, one_hot
from graphmill.frontend.nn.losses import cross_entropy, mse
from graphmill.frontend.nn.normalisation import batch_norm, group_norm, layer_norm, rms_norm
from graphmill.frontend.nn.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    global_avg_pool,
    global_max_pool,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)  # fmt: skip
from graphmill.frontend.nn.softmax import log_softmax, logsumexp, softmax

__all__ = [
    "attention", "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cross_entropy", "elu",
    "embedding", "gelu", "global_avg_pool", "global_max_pool", "group_norm", "hardswish",
    "layer_norm", "leaky_relu", "linear", "log_softmax", "logsumexp", "max_pool1d", "max_pool2d",
    "max_pool3d", "mish", "mse", "one_hot", "relu", "relu6", "rms_norm", "rotary_embedding",
    "sigmoid", "silu", "softmax", "softplus", "swish",
]  # fmt: skip
