"""Why products around a softmax stay apart, in the user's terms: the reason and a line."""

from __future__ import annotations

from collections.abc import Iterator

from graphmill.ir.attention import Attention, Product
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import f64
from graphmill.ir.graph import Op, Value

WIDEST = 1024  # the largest head: a block of queries and its results stay in the second level
MOST_OPS = 64  # between two products that are looked at
Reason = tuple[str, Op]

MIXED = (
    "a part is float64 and others are not: in one kernel all would be (np.sqrt(n) is a float64; "
    "math.sqrt(n) keeps the arrays' dtype)"
)

PLACED = {
    "transpose": "the scores are transposed between the products",
    "dynamic_update_slice": "a part of the scores is overwritten (np.where hides keys as well)",
    "scatter": "single scores are overwritten (np.where hides keys as well)",
}


def obstacle(found: Attention, path: set[Op], min_scores: int) -> Reason | None:
    """Why an attention stays apart; None when it does not. `path` are the ops inside."""
    softmax = found.softmax
    reductions = {*softmax.largest, *(total.op for total in softmax.totals)}
    known = {found.first, found.second, *reductions}
    joins = ("concat", "slice") if softmax.extra else ()
    for op in path:
        free = op.definition.family == "elementwise" or op.name in ("broadcast", *joins)
        if not free and op not in known:
            return _placed(op), op
        for user in op.result.users:
            if op.result is not found.result and user not in path:
                what = "scores" if _is_before(op, found) else "weights"
                where = "returned" if user.name == "return" else f"read by another {user.name}"
                return f"the {what} are {where}, too", op if user.loc is None else user
    if any(v.op in path for v in (found.q, found.k, found.v, *softmax.extra)):
        return "queries, keys or values depend on the scores", found.second
    depth, width = found.q.shape[found.q_depth], found.v.shape[found.v_width]
    if not all(isinstance(d, int) and 0 < d <= WIDEST for d in (depth, width)):
        return f"heads of {depth} and {width} elements are not of 1 to {WIDEST}", found.first
    if not all(dtype.is_float for dtype in found.dtypes):
        return "the scores are products of integers", found.first
    if f64 in found.dtypes and len(found.dtypes) > 1:
        wide = [op for op in path if op.name == "cast" and op.result.tensor.dtype is f64]
        return MIXED, wide[0] if wide else found.first
    size = found.scores.tensor.size
    if isinstance(size, int) and size < min_scores:
        return f"{size} scores cost less than a kernel's start", found.first
    return None


def _is_before(op: Op, found: Attention) -> bool:
    """Whether an op computes scores, not weights."""
    return op is not found.softmax.power and found.softmax.power not in _above(op.result)


def missed(second: Op) -> Reason | None:
    """Why a product with what looks like the weights of an attention is none; None for others."""
    if second.name != "dot_general" or not second.result.tensor.dtype.is_float:
        return None
    for side in (0, 1):
        contract, weights = Product(second).contract(side), second.operands[side]
        if len(contract) != 1 or weights.op is None:
            continue
        between = list(_above(weights))
        if _looks_normalised(between, weights.shape[contract[0]]):
            blamed = next((op for op in between if op.name in PLACED), weights.op)
            return _placed(blamed), blamed
    return None


def _above(value: Value) -> Iterator[Op]:
    """The ops that compute `value` from products, nearest first."""
    seen: dict[Op, None] = {}
    waiting = [value.op]
    for op in waiting:
        if op is None or op in seen or len(seen) == MOST_OPS:
            continue
        seen[op] = None
        yield op
        if op.name != "dot_general":
            waiting += [v.op for v in op.operands]


def _looks_normalised(ops: list[Op], keys: DimLike) -> bool:
    """Whether there are exponentials of products and their sums over as many keys."""
    powers = [op for op in ops if op.name in ("exp", "exp2")]
    return any(
        op.name == "reduce"
        and op.attrs["monoid"] == "sum"
        and [op.operands[0].shape[axis] for axis in op.attrs["axes"]] == [keys]
        and any(power in _above(op.result) for power in powers)
        for op in ops
    ) and any(o.name == "dot_general" for power in powers for o in _above(power.result))


def _placed(op: Op) -> str:
    """What an op is that stands where none may."""
    if op.definition.family == "elementwise":
        return "the weights are not exp(scores - shift) / divisor with one shift and divisor a row"
    return PLACED.get(op.name, f"a {op.name} stands between the products")
