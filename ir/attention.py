"""Attention among ops: what the parts of softmax(f(q kᵀ)) v are, however it is written.

`attention_at` starts at the product with the values and goes back to the product of queries and
keys. It accepts the division before or after the second product, operands of both products in
either order, and axes anywhere; `ir.softmax` says what a softmax may look like.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Block, Op, Value
from graphmill.ir.ops.contract import free_axes
from graphmill.ir.softmax import Softmax, quotients, softmaxes
from graphmill.records import record

FEW = 64  # queries that may be taken together, which keys and values in pieces need
LANES = 16  # of the widest vectors
FILLED = 0.95  # the share of lanes in use from which queries go into the lanes instead
MOST_PIECES = 3


@record
class Product:
    """A `dot_general` seen from its result: which result axis is which axis of an operand."""

    op: Op

    def axes(self, side: int) -> list[int | None]:
        """For each axis of the result the axis of operand `side`, None if it has none."""
        attrs, (x, y) = self.op.attrs, self.op.operands
        batch = [attrs["x_batch"], attrs["y_batch"]]
        free = [
            free_axes(v.tensor.rank, batch[i], attrs[f"{'xy'[i]}_contract"])
            for i, v in enumerate((x, y))
        ]
        found: list[int | None] = list(batch[side])
        for i in (0, 1):
            found += free[i] if i == side else [None] * len(free[i])
        return found

    def contract(self, side: int) -> tuple[int, ...]:
        """The axes of operand `side` that are summed over."""
        axes: tuple[int, ...] = tuple(self.op.attrs[f"{'xy'[side]}_contract"])
        return axes


@record
class Attention:
    """The parts of one attention. Axes of q, k, v and the result are given for each axis of the
    scores (None where an operand has no such axis); `depth` and `width` are the remaining ones.
    """

    first: Op  # the product of queries and keys
    second: Op  # the product with the values
    softmax: Softmax
    result: Value
    q: Value
    k: Value
    v: Value
    keys: int  # the axis of the scores along which the softmax runs
    rows: int | None  # the axis whose positions share keys and values: the queries
    q_axes: tuple[int | None, ...]
    k_axes: tuple[int | None, ...]
    v_axes: tuple[int | None, ...]
    out_axes: tuple[int, ...]  # -1 at `keys`
    q_depth: int
    k_depth: int
    v_width: int
    out_width: int

    @property
    def scores(self) -> Value:
        """What the softmax is taken of."""
        return self.softmax.scores

    @property
    def dtypes(self) -> set[DType]:
        """Those of the parts, of which the kernel takes the widest."""
        parts = (self.q, self.k, self.v, self.scores, self.softmax.power.result, self.result)
        return {value.tensor.dtype for value in parts}

    @property
    def late(self) -> bool:
        """Whether the division comes behind the product with the values."""
        return self.result is not self.second.result

    @property
    def items(self) -> tuple[int, ...]:
        """The axes of the scores that are neither keys nor rows."""
        rank = self.scores.tensor.rank
        return tuple(a for a in range(rank) if a not in (self.keys, self.rows))

    @property
    def queries(self) -> DimLike:
        """How many queries share keys."""
        return 1 if self.rows is None else self.scores.shape[self.rows]


def attention_at(second: Op) -> Attention | None:
    """The attention whose product with the values is `second`, if it is one."""
    if second.name != "dot_general" or not second.result.tensor.dtype.is_float:
        return None
    for side in (0, 1):
        for softmax, result in _softmaxes(second, side):
            first = first_product(softmax.scores)
            made = _assigned(first, second, side, softmax, result) if first is not None else None
            if made is not None:
                return made
    return None


def attention_in(block: Block) -> Attention:
    """The attention that a kernel's block computes."""
    found = [made for op in block.ops if (made := attention_at(op)) is not None]
    assert len(found) == 1, "an attention kernel computes one attention"
    return found[0]


def _softmaxes(second: Op, side: int) -> Iterator[tuple[Softmax, Value]]:
    """What operand `side` of a product may be, and the result, divided before or after it."""
    contract, weights = Product(second).contract(side), second.operands[side]
    if len(contract) != 1:
        return
    for softmax in softmaxes(weights, contract[0]):
        yield softmax, second.result
    widths = [at for at, axis in enumerate(Product(second).axes(side)) if axis is None]
    users = second.result.users
    if len(widths) == 1 and len(second.result.uses) == 1 and len(users[0].results) == 1:
        result = users[0].result
        for product, divisor in quotients(result, widths[0]):
            if product is second.result:
                for softmax in softmaxes(weights, contract[0], divisor):
                    yield softmax, result


# ---- the first product


def first_product(scores: Value) -> Op | None:
    """The product that `scores` are computed from elementwise."""
    for value in elementwise_above(scores):
        op = value.op
        if op is not None and op.name == "dot_general" and value.shape == scores.shape:
            return op
    return None


def elementwise_above(value: Value) -> Iterator[Value]:
    """`value` and what it is computed from by elementwise ops, nearest first."""
    seen = [value]
    for found in seen:
        yield found
        if found.op is not None and found.op.definition.family == "elementwise":
            seen += [v for v in found.op.operands if v not in seen]


# ---- which axis is which


def _assigned(
    first: Op, second: Op, side: int, softmax: Softmax, result: Value
) -> Attention | None:
    one, two = Product(first), Product(second)
    keys, rank = softmax.axis, softmax.scores.tensor.rank
    k_side = next((s for s in (0, 1) if one.axes(1 - s)[keys] is None), None)
    if k_side is None or len(one.contract(0)) != 1 or len(two.contract(0)) != 1:
        return None
    q, k, v = first.operands[1 - k_side], first.operands[k_side], second.operands[1 - side]
    q_axes, k_axes = one.axes(1 - k_side), one.axes(k_side)
    weights = two.axes(side)  # for each result axis the axis of the weights
    values = two.axes(1 - side)
    v_axes: list[int | None] = [None] * rank
    out_axes = [-1] * rank
    for at, (axis, own) in enumerate(zip(weights, values, strict=True)):
        if axis is not None:
            v_axes[axis], out_axes[axis] = own, at
    v_axes[keys] = two.contract(1 - side)[0]
    widths = [at for at, axis in enumerate(weights) if axis is None]
    only_k = [a for a in range(rank) if q_axes[a] is None]
    if only_k != [keys] or len(widths) != 1:
        return None
    width = values[widths[0]]
    assert width is not None
    return Attention(
        first, second, softmax, result, q, k, v, keys,
        _rows(softmax.scores, q_axes, k_axes, v_axes),
        tuple(q_axes), tuple(k_axes), tuple(v_axes), tuple(out_axes),
        one.contract(1 - k_side)[0], one.contract(k_side)[0], width, widths[0],
    )  # fmt: skip


def _rows(
    scores: Value,
    q_axes: list[int | None],
    k_axes: list[int | None],
    v_axes: list[int | None],
) -> int | None:
    """The axis that only the queries have: the last that is not of size 1."""
    own = [
        a for a in range(scores.tensor.rank)
        if q_axes[a] is not None and k_axes[a] is None and v_axes[a] is None
    ]  # fmt: skip
    long = [a for a in own if scores.shape[a] != 1]
    return max(long or own, default=None)


# ---- where the operands lie


def are_few(queries: DimLike) -> bool:
    """Whether a kernel takes all queries of a head together, as they would leave lanes empty."""
    if not isinstance(queries, int) or queries > FEW:
        return False
    return queries < FILLED * (-(-queries // LANES) * LANES)


def joined(found: Attention) -> list[tuple[Value, Value]]:
    """The keys and values in pieces along the keys' axis, where few queries read both so.

    A cache and the new key behind it are two; there is one where nothing is put together.
    """
    k, v = unwidened(found.k), unwidened(found.v)
    k_axis, v_axis = found.k_axes[found.keys], found.v_axes[found.keys]
    assert k_axis is not None and v_axis is not None, "both have the keys' axis"
    keys, values = _pieces(k, k_axis), _pieces(v, v_axis)
    same = [p.shape[k_axis] for p in keys] == [p.shape[v_axis] for p in values]
    few = are_few(found.queries) and len(keys) <= MOST_PIECES
    if not few or not same or found.q in (found.k, found.v):
        return [(k, v)]
    return list(zip(keys, values, strict=True))


def _pieces(value: Value, axis: int) -> list[Value]:
    op = value.op
    return list(op.operands) if op and op.name == "concat" and op.attrs["axis"] == axis else [value]


def unwidened(value: Value) -> Value:
    """The value before a cast from a narrower float."""
    op = value.op
    if op is not None and op.name == "cast" and value.tensor.dtype.is_float:
        source = op.operands[0]
        if source.tensor.dtype.is_float and source.tensor.dtype.bits < value.tensor.dtype.bits:
            return source
    return value
