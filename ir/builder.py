"""Building IR: a `Builder` appends typed ops to a block; the record's rule gives the types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType, dtype
from graphmill.ir.graph import Block, Bounds, Function, Location, Op, Region, Value
from graphmill.ir.ops.base import lookup
from graphmill.ir.types import TOKEN, TensorType, Type


class Builder:
    """Appends ops to `block` (or before `anchor`), with the current location and scope."""

    def __init__(self, block: Block, anchor: Op | None = None) -> None:
        self.block = block
        self.anchor = anchor
        self.loc: Location | None = None
        self.scope = ""

    def emit(
        self,
        name: str,
        operands: Sequence[Value] = (),
        attrs: Mapping[str, Any] | None = None,
        regions: Sequence[Region] = (),
    ) -> Op:
        """Append the op `name`; raises `TypeRuleError` when its rule refuses the operands."""
        definition = lookup(name)
        attrs = dict(attrs or {})
        types = definition.infer([v.type for v in operands], attrs, regions)
        op = Op(definition, operands, types, attrs, regions, self.loc, self.scope)
        if self.anchor is not None:
            return self.block.insert_before(self.anchor, op)
        return self.block.append(op)

    def op(self, name: str, *operands: Value, **attrs: Any) -> Value:
        """Append an op with one result and return that."""
        return self.emit(name, operands, attrs).result

    @contextmanager
    def at(self, loc: Location | None, scope: str | None = None) -> Iterator[None]:
        """Give the ops appended inside this location (and scope)."""
        before = self.loc, self.scope
        self.loc, self.scope = loc or self.loc, self.scope if scope is None else scope
        try:
            yield
        finally:
            self.loc, self.scope = before

    # ---- common ops with the tedious attributes filled in

    def constant(self, value: Any, of: DType | None = None) -> Value:
        """A constant array; it is copied and made read-only."""
        array = np.array(value, dtype=of.numpy if of else None, order="C")
        array = array.astype(dtype(array.dtype).numpy, copy=False)
        array.flags.writeable = False
        return self.op("constant", value=array)

    def full(self, shape: Sequence[DimLike], value: Any, of: DType) -> Value:
        """`value` repeated over `shape`."""
        return self.broadcast(self.constant(value, of), shape, ())

    def broadcast(self, x: Value, shape: Sequence[DimLike], axes: Sequence[int]) -> Value:
        """Broadcast with explicit axes; x itself when nothing changes."""
        if tuple(x.shape) == tuple(shape):
            return x
        return self.op("broadcast", x, shape=tuple(shape), axes=tuple(axes))

    def broadcast_to(self, x: Value, shape: Sequence[DimLike]) -> Value:
        """Broadcast as NumPy does: axes align at the end."""
        lead = len(shape) - len(x.shape)
        return self.broadcast(x, shape, range(lead, len(shape)))

    def cast(self, x: Value, to: DType) -> Value:
        """x as `to`; x itself when it has that dtype."""
        return x if x.tensor.dtype is to else self.op("cast", x, dtype=to)

    def reshape(self, x: Value, shape: Sequence[DimLike]) -> Value:
        """x in another shape; x itself when it has that shape."""
        return x if tuple(x.shape) == tuple(shape) else self.op("reshape", x, shape=tuple(shape))

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """x with axes permuted; x itself for the identity."""
        perm = tuple(perm)
        return x if perm == tuple(range(len(perm))) else self.op("transpose", x, perm=perm)

    def reduce(self, x: Value, axes: Sequence[int], monoid: str, keepdims: bool = False) -> Value:
        """Reduce along axes, optionally keeping them with size 1."""
        result = self.op("reduce", x, axes=tuple(sorted(axes)), monoid=monoid) if axes else x
        if not keepdims:
            return result
        return self.reshape(result, [1 if i in axes else d for i, d in enumerate(x.shape)])

    def dot(self, x: Value, y: Value, of: DType | None = None) -> Value:
        """The matrix product of the last axis of x and the first axis of y (`y` rank ≤ 2)."""
        return self.op(
            "dot_general", x, y, x_batch=(), y_batch=(), x_contract=(len(x.shape) - 1,),
            y_contract=(0,), dtype=of or x.tensor.dtype,
        )  # fmt: skip

    def token(self) -> Value:
        """A fresh effect token."""
        return self.op("token")

    def end(self, *values: Value) -> Op:
        """Close the block with its terminator: `return` in a function, else `yield`."""
        region = self.block.region
        in_function = region is not None and isinstance(region.owner, Function)
        return self.emit("return" if in_function else "yield", values)


def region(
    types: Sequence[Type],
    body: Callable[..., Value | Sequence[Value]],
    names: Sequence[str] = (),
    loc: Location | None = None,
) -> Region:
    """A region whose block takes `types`; `body(builder, *args)` returns what it yields."""
    made = Region(Block(types, names))
    builder = Builder(made.block)
    builder.loc = loc
    results = body(builder, *made.block.args)
    builder.end(*([results] if isinstance(results, Value) else results))
    return made


def function(
    name: str,
    params: Mapping[str, Type],
    body: Callable[..., Value | Sequence[Value]],
    dims: Mapping[str, Bounds] | None = None,
) -> Function:
    """A function whose `body(builder, *params)` returns its results.

    Named dims that the parameters use are declared with bounds `0 …` unless given in `dims`.
    """
    used = dict(dims or {})
    for type in params.values():
        if isinstance(type, TensorType):
            for dim in sorted(type.names):
                used.setdefault(dim, Bounds())
    made = Function(name, list(params.values()), list(params), used)
    builder = Builder(made.block)
    results = body(builder, *made.params)
    builder.end(*([results] if isinstance(results, Value) else results))
    return made


__all__ = ["TOKEN", "Builder", "function", "region"]
