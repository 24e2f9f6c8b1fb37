"""`gm.nn` and a little of NumPy as ONNX: calling a model on values writes its graph."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.layers.with_numpy import each

OPSET = 21


class Graph:
    """Nodes and constants in the order they were asked for."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names = map("v{}".format, itertools.count())

    def constant(self, array: Any) -> "Value":
        array = np.asarray(array)
        name = next(self.names)
        self.constants.append(numpy_helper.from_array(array, name))
        return Value(self, name, array.shape)

    def node(self, op: str, shape: tuple[int, ...], *inputs: Any, **attributes: Any) -> "Value":
        """A node with one result of that shape; arrays and numbers become constants."""
        values = [i if isinstance(i, Value) else self.constant(i) for i in inputs]
        name = next(self.names)
        self.nodes.append(helper.make_node(op, [v.name for v in values], [name], **attributes))
        return Value(self, name, shape)

    def model(self, inputs: Mapping[str, Any], result: "Value") -> bytes:
        given = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in inputs.items()
        ]
        out = helper.make_tensor_value_info(result.name, TensorProto.FLOAT, result.shape)
        graph = helper.make_graph(self.nodes, "model", given, [out], self.constants)
        imports = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, ir_version=10, opset_imports=imports)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


class Value:
    """A named tensor of a graph; operators and methods as an array's, on floats."""

    __array_ufunc__ = None  # NumPy leaves `array + value` to the value

    def __init__(self, graph: Graph, name: str, shape: tuple[int, ...]) -> None:
        self.graph, self.name, self.shape = graph, name, tuple(shape)

    def with_other(self, op: str, other: Any, turned: bool = False) -> "Value":
        other = np.float32(other) if isinstance(other, float | int) else other
        shape = np.broadcast_shapes(self.shape, getattr(other, "shape", ()))
        pair = (other, self) if turned else (self, other)
        return self.graph.node(op, shape, *pair)

    def __add__(self, other: Any) -> "Value":
        return self.with_other("Add", other)

    def __radd__(self, other: Any) -> "Value":
        return self.with_other("Add", other, True)

    def __mul__(self, other: Any) -> "Value":
        return self.with_other("Mul", other)

    def __matmul__(self, other: Any) -> "Value":
        return self.graph.node("MatMul", (*self.shape[:-1], other.shape[-1]), self, other)

    def __getitem__(self, key: Any) -> "Value":
        """Integers, and slices of step 1; an ellipsis may stand at the front."""
        key = key if isinstance(key, tuple) else (key,)
        if key[0] is Ellipsis:
            key = (slice(None),) * (len(self.shape) - len(key) + 1) + key[1:]
        whole = key + (slice(None),) * (len(self.shape) - len(key))
        kept = [isinstance(part, slice) for part in whole]
        spans = [
            part.indices(size)[:2] if isinstance(part, slice) else (part % size, part % size + 1)
            for part, size in zip(whole, self.shape, strict=True)
        ]
        starts, ends = np.array(spans, np.int64).T
        shape = tuple(end - start for start, end in spans)
        cut = self.graph.node("Slice", shape, self, starts, ends)
        return cut if all(kept) else cut.reshape(*itertools.compress(shape, kept))

    def reshape(self, *shape: int) -> "Value":
        size = int(np.prod(self.shape))
        known = int(np.prod([s for s in shape if s != -1]))
        full = tuple(size // known if s == -1 else s for s in shape)
        return self.graph.node("Reshape", full, self, np.array(full, np.int64))

    def swapaxes(self, a: int, b: int) -> "Value":
        order = list(range(len(self.shape)))
        order[a], order[b] = order[b], order[a]
        shape = tuple(self.shape[axis] for axis in order)
        return self.graph.node("Transpose", shape, self, perm=order)


def concatenate(values: list[Value], axis: int) -> Value:
    shape = list(values[0].shape)
    shape[axis] = sum(v.shape[axis] for v in values)
    return values[0].graph.node("Concat", tuple(shape), *values, axis=axis)


def slid(x: Value, window: Any, stride: Any, padding: Any, dilation: Any = 1) -> tuple[Any, ...]:
    """The spatial sizes of the result, and the attributes of a window in ONNX's words."""
    window, stride, padding, dilation = map(each, (window, stride, padding, dilation))
    sizes = tuple(
        (n + 2 * p - (w - 1) * d - 1) // s + 1
        for n, w, s, p, d in zip(x.shape[2:], window, stride, padding, dilation, strict=True)
    )
    named = {"kernel_shape": window, "strides": stride, "dilations": dilation, "pads": padding * 2}
    return sizes, named


def conv2d(
    x: Value,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    sizes, named = slid(x, weight.shape[2:], stride, padding, dilation)
    operands = (x, weight) if bias is None else (x, weight, bias)
    shape = (x.shape[0], weight.shape[0], *sizes)
    return x.graph.node("Conv", shape, *operands, group=groups, **named)


def batch_norm(x: Value, mean: Any, var: Any, weight: Any, bias: Any) -> Value:
    return x.graph.node("BatchNormalization", x.shape, x, weight, bias, mean, var, epsilon=1e-5)


def max_pool2d(x: Value, window: Any, stride: Any, padding: Any = 0) -> Value:
    sizes, named = slid(x, window, stride, padding)
    return x.graph.node("MaxPool", (*x.shape[:2], *sizes), x, **named)


def avg_pool2d(x: Value, window: Any, stride: Any, padding: Any = 0) -> Value:
    sizes, named = slid(x, window, stride, padding)
    shape = (*x.shape[:2], *sizes)
    return x.graph.node("AveragePool", shape, x, count_include_pad=1, **named)


def global_avg_pool(x: Value) -> Value:
    pooled = x.graph.node("GlobalAveragePool", (*x.shape[:2], 1, 1), x)
    return x.graph.node("Flatten", x.shape[:2], pooled)


def relu(x: Value) -> Value:
    return x.graph.node("Relu", x.shape, x)


def relu6(x: Value) -> Value:
    return x.graph.node("Clip", x.shape, x, np.float32(0), np.float32(6))


def gelu(x: Value, approximate: bool = False) -> Value:
    return x.graph.node("Gelu", x.shape, x, approximate="tanh" if approximate else "none")


def linear(x: Value, weight: Any, bias: Any = None) -> Value:
    if len(x.shape) == 2 and bias is not None:
        return x.graph.node("Gemm", (x.shape[0], weight.shape[1]), x, weight, bias)
    return x @ weight if bias is None else x @ weight + bias


def embedding(indices: Value, table: Any) -> Value:
    return indices.graph.node("Gather", (*indices.shape, table.shape[1]), table, indices)


def layer_norm(x: Value, weight: Any, bias: Any) -> Value:
    return x.graph.node("LayerNormalization", x.shape, x, weight, bias, epsilon=1e-5)


def attention(q: Value, k: Value, v: Value, *, causal: bool = False) -> Value:
    """As exporters write it: two products and a softmax, the causal mask added."""
    scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5
    queries, keys = scores.shape[2:]
    if causal and queries > 1:
        seen = np.tri(queries, keys, keys - queries, dtype=bool)
        scores = scores + np.where(seen, np.float32(0), np.float32(-np.inf))
    return q.graph.node("Softmax", scores.shape, scores, axis=-1) @ v


def traced(function: Callable[..., Value], inputs: Mapping[str, Any], constants: Any) -> bytes:
    """The model, one float tensor its result, that `function` writes when called on values."""
    graph = Graph()
    values = [Value(graph, name, array.shape) for name, array in inputs.items()]
    return graph.model(inputs, function(*values, *constants))
