"""Decomposition of ops that have no kernel of their own into ops that have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike
from graphmill.ir.dims import product as dim_product
from graphmill.ir.dtypes import f32
from graphmill.ir.graph import Function, Op, Value
from graphmill.passes.manager import register_pass
from graphmill.passes.phases import by_phases, has_phases
from graphmill.passes.rewrite import Replacement, rewrite
from graphmill.passes.statistics import count

# Input channels per group below which one row of the window is gathered for a single product.
FEW_CHANNELS = 16


@register_pass("decompose")
def decompose(function: Function, *, ops: str = "rare_conv+phases+thin_dot") -> Function:
    """Rewrites composite ops (joined with `+`) into primitives that have kernels.

    `rare_conv` are the convolutions without a kernel of their own, those of a symbolic number of
    channels; `conv` are all. `phases` makes a transposed one several plain ones. `thin_dot` are
    products of a matrix that is computed elementwise, for them alone, and a vector: as a
    multiplication and a sum the matrix is never stored.

    A `conv` becomes one product per window tap over strided slices of the padded input, summed
    in the products' epilogues; a depthwise one becomes elementwise sums of slices.
    """
    wanted = {name: DECOMPOSITIONS[name] for name in ops.split("+") if name in DECOMPOSITIONS}

    def found(op: Op) -> Callable[[Op, Builder], Value] | None:
        if op.name in wanted:
            return wanted[op.name]
        special = [name for name, applies in SPECIAL.get(op.name, {}).items() if applies(op)]
        return next((wanted[name] for name in special if name in wanted), None)

    def visit(op: Op, builder: Builder) -> Replacement:
        rule = found(op)
        if rule is None:
            return None
        count(op.name)
        return rule(op, builder)

    if not any(found(op) for op in function.walk()):
        return function
    function = function.clone()
    rewrite(function.block, visit)
    return function


def _rare(op: Op) -> bool:
    """Whether a convolution has no kernel of its own."""
    w = op.operands[1].tensor
    return not all(isinstance(dim, int) for dim in w.shape)


def _thin(op: Op) -> bool:
    """Whether a product is of a computed matrix, contracted along its last axis, and a vector."""
    (x, y), attrs = op.operands, op.attrs
    maker, contract = x.op, tuple(attrs["x_contract"])
    free = [d for i, d in enumerate(y.shape) if i not in attrs["y_contract"]]
    return (
        contract == (len(x.shape) - 1,) and not attrs["x_batch"] and all(d == 1 for d in free)
        and maker is not None and maker.definition.fusion == "elementwise"
        and len(x.uses) == 1 and len(x.shape) > 1
        and x.tensor.dtype.is_float and x.tensor.dtype.bits >= 32
        and x.tensor.dtype is y.tensor.dtype is op.result.tensor.dtype
    )  # fmt: skip


def _thin_dot(op: Op, b: Builder) -> Value:
    x, y = op.operands
    last = len(x.shape) - 1
    vector = b.reshape(y, x.shape[last:])
    product_ = b.op("mul", x, b.broadcast(vector, x.shape, [last]))
    return b.reshape(b.reduce(product_, [last], "sum"), op.result.shape)


def _conv(op: Op, b: Builder) -> Value:
    x, w = op.operands
    narrow = x.tensor.dtype
    if narrow.is_float and narrow.bits == 16:
        x, w = b.cast(x, f32), b.cast(w, f32)  # sums of 16-bit floats are formed in f32
    x = _padded(x, op.attrs, b)
    groups = op.attrs["groups"]
    tap = partial(_tap, op, x, b)
    if w.shape[1] == 1 and groups > 1:
        result = _depthwise(op, w, tap, b)
    else:
        result = _by_products(op, w, tap, b)
    return b.cast(result, narrow)


def _padded(x: Value, attrs: Any, b: Builder) -> Value:
    spread = [by - 1 for by in attrs["input_dilation"]]
    if not any((*spread, *attrs["low"], *attrs["high"])):
        return x
    zero = b.constant(0, x.tensor.dtype)
    low, high = (0, 0, *attrs["low"]), (0, 0, *attrs["high"])
    return b.op("pad", x, zero, low=low, high=high, interior=(0, 0, *spread))


def _tap(op: Op, x: Value, b: Builder, at: tuple[int, ...]) -> Value:
    """What the window's element `at` sees: [n, c, *places]."""
    places = op.result.shape[2:]
    strides, dilation = op.attrs["strides"], op.attrs["dilation"]
    start = [i * by for i, by in zip(at, dilation, strict=True)]
    stop = [s + (n - 1) * by + 1 for s, n, by in zip(start, places, strides, strict=True)]
    return b.op("slice", x, start=(0, 0, *start), stop=(*x.shape[:2], *stop), step=(1, 1, *strides))


def _weights(w: Value, at: tuple[int, ...], b: Builder) -> Value:
    """The window's element `at` of all weights: [o, c / groups]."""
    start, stop = (0, 0, *at), (*w.shape[:2], *(i + 1 for i in at))
    picked = b.op("slice", w, start=start, stop=stop, step=(1,) * len(start))
    return b.reshape(picked, w.shape[:2])


def _depthwise(op: Op, w: Value, tap: Callable[[tuple[int, ...]], Value], b: Builder) -> Value:
    """Each output channel sees one input channel: sum over taps of slice times weight."""
    n, out, *places = op.result.shape
    groups = op.attrs["groups"]
    several = out != groups  # output channels that see one input channel have an axis
    each = (groups, out // groups) if several else (groups,)
    shape = (n, *each, *places)
    axes = [i for i in range(len(shape)) if i != 2 or not several]
    total: Value | None = None
    window = w.shape[2:]
    for at in product(*(range(k) for k in window)):
        weight = b.reshape(_weights(w, at, b), each)
        seen = b.broadcast(tap(at), shape, axes)
        term = b.op("mul", seen, b.broadcast(weight, shape, range(1, 1 + len(each))))
        total = term if total is None else b.op("add", total, term)
    assert total is not None
    return b.reshape(total, op.result.shape)


def _by_products(op: Op, w: Value, tap: Callable[[tuple[int, ...]], Value], b: Builder) -> Value:
    """One product per tap (per row of the window when channels are few)."""
    window = w.shape[2:]
    few = w.shape[1] < FEW_CHANNELS and op.attrs["groups"] == 1
    together = few and window[-1] > 1
    total: Value | None = None
    for at in product(*(range(k) for k in (window[:-1] if together else window))):
        if together:
            ends = [(*at, i) for i in range(window[-1])]
            x = b.op("concat", *(tap(end) for end in ends), axis=1)
            k = b.op("concat", *(_weights(w, end, b) for end in ends), axis=1)
        else:
            x, k = tap(at), _weights(w, at, b)
        x, k = _grouped(op, x, b), _grouped_weights(op, k, b)
        term = _product(op, k, x, b)
        total = term if total is None else b.op("add", total, term)
    assert total is not None
    return _ungrouped(op, total, b)


def _grouped(op: Op, x: Value, b: Builder) -> Value:
    """[n, c, *places] as [n, groups, c / groups, places]."""
    groups = op.attrs["groups"]
    n, c, *places = x.shape
    return b.reshape(x, (n, groups, c // groups, dim_product(places)))


def _grouped_weights(op: Op, w: Value, b: Builder) -> Value:
    groups = op.attrs["groups"]
    out, c = w.shape
    return b.reshape(w, (groups, out // groups, c))


def _product(op: Op, w: Value, x: Value, b: Builder) -> Value:
    """[groups, o, n, places], or without the axes of size 1."""
    groups, out, depth = w.shape
    n, _, _, places = x.shape
    batched = groups != 1
    if not batched:
        w = b.reshape(w, (out, depth))
        x = b.reshape(x, (n, depth, places))
    if n == 1:
        x = b.reshape(x, tuple(x.shape[1:]))
    lead = int(n != 1)
    return b.op(
        "dot_general", w, x, x_batch=(0,) if batched else (), y_batch=(lead,) if batched else (),
        x_contract=(len(w.shape) - 1,), y_contract=(lead + int(batched),), dtype=w.tensor.dtype,
    )  # fmt: skip


def _ungrouped(op: Op, total: Value, b: Builder) -> Value:
    """[groups, o, n, places] to the result's [n, groups * o, *places]."""
    n, out, *sizes = op.result.shape
    groups, places = op.attrs["groups"], dim_product(sizes)
    shape: tuple[DimLike, ...] = (groups, out // groups, n, places)
    total = b.reshape(total, shape)
    return b.reshape(b.transpose(total, (2, 0, 1, 3)), op.result.shape)


DECOMPOSITIONS: dict[str, Callable[[Op, Builder], Value]] = {
    "conv": _conv, "rare_conv": _conv, "phases": by_phases, "thin_dot": _thin_dot,
}  # fmt: skip
# those of some ops of a name only
SPECIAL: dict[str, dict[str, Callable[[Op], bool]]] = {
    "conv": {"rare_conv": _rare, "phases": has_phases}, "dot_general": {"thin_dot": _thin},
}  # fmt: skip
