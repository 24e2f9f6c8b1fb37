"""More steps of random functions: batched products, scatters, gathers at values, sorts of several.

Each takes the maker and a value and gives a new one, or None where the op does not take it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphmill.ir.dims import evaluate
from graphmill.ir.dtypes import bool_, i32, i64
from graphmill.ir.graph import Value

if TYPE_CHECKING:
    from tests.differential.random_graphs import Known, Maker


def batched_dot(m: Maker, x: Known) -> Known | None:
    """x and a value of its type: the first axis is the batch, the last one is summed."""
    rank = len(x.shape)
    if rank < 2 or not (x.dtype.is_float or x.dtype.is_integer):
        return None
    y, outer = m.partner(x), m.pick(2) if rank > 2 else 0
    attrs = {"x_batch": (outer,), "y_batch": (outer,), "x_contract": (rank - 1,),
             "y_contract": (rank - 1,), "dtype": x.dtype}  # fmt: skip
    rest = [d for i, d in enumerate(x.shape) if i not in (outer, rank - 1)]
    if not m.small((x.shape[outer], *rest, *rest)):
        return None
    bound = x.bound * y.bound * max(evaluate(x.shape[-1], m.sizes), 1)
    return m.known(m.op("dot_general", x, y, **attrs), x.dtype.is_integer, bound)


def first_axes_dot(m: Maker, x: Known) -> Known | None:
    """x' @ x over as many leading axes as are picked."""
    if not x.shape or not (x.dtype.is_float or x.dtype.is_integer):
        return None
    axes = tuple(range(1 + m.pick(len(x.shape))))
    y, rest = m.partner(x), x.shape[len(axes) :]
    if not m.small((*rest, *rest)):
        return None
    attrs = {"x_batch": (), "y_batch": (), "x_contract": axes, "y_contract": axes[::-1],
             "dtype": x.dtype}  # fmt: skip
    if any(x.shape[a] != x.shape[b] for a, b in zip(axes, axes[::-1], strict=True)):
        attrs["y_contract"] = axes
    depth = math.prod(evaluate(x.shape[a], m.sizes) for a in axes)
    bound = x.bound * y.bound * max(depth, 1)
    return m.known(m.op("dot_general", x, y, **attrs), x.dtype.is_integer, bound)


def index_of(m: Maker, count: int) -> Value:
    """Some indices, a few of them out of range or negative; made of a value where there is one."""
    made = [k for k in m.pool if k.dtype in (i32, i64) and k.shape == (count,) and k.exact]
    if made and m.pick(2):
        return made[m.pick(len(made))].value
    return m.b.constant([m.pick(9) - 4 for _ in range(count)], (i32, i64)[m.pick(2)])


def scatter(m: Maker, x: Known) -> Known | None:
    """Rows of ones and of x itself stored into x, or combined with it."""
    if not x.shape or x.dtype is bool_ or x.dtype.is_complex:
        return None
    axes = tuple(sorted({m.pick(len(x.shape)) for _ in range(2)}))
    count = 1 + m.pick(4)
    rest = [d for i, d in enumerate(x.shape) if i not in axes]
    mode = ("set", "add", "max", "min", "mul")[m.pick(5)]
    updates = m.b.full((count, *rest), 1 + m.pick(2), x.dtype)
    index = [index_of(m, count) for _ in axes]
    index = [m.b.cast(i, i64) if i.tensor.dtype is not i64 else i for i in index]
    value = m.b.op("scatter", x.value, updates, *index, axes=axes, mode=mode)
    exact = x.exact and (mode in ("set", "max", "min") or not x.dtype.is_float)
    grown = {"add": x.bound + 2 * count, "mul": x.bound * 2**count}
    return m.known(value, exact, grown.get(mode, max(x.bound, 2)))


def gather_two(m: Maker, x: Known) -> Known | None:
    """Elements at pairs of indices along two axes in any order."""
    if len(x.shape) < 2:
        return None
    first = m.pick(len(x.shape))
    second = (first + 1 + m.pick(len(x.shape) - 1)) % len(x.shape)
    count = m.pick(5)
    index = [m.b.constant([m.pick(9) - 4 for _ in range(count)], i64) for _ in range(2)]
    return m.known(m.b.op("gather", x.value, *index, axes=(first, second)), x.exact, x.bound)


def gather_at_values(m: Maker, x: Known) -> Known | None:
    """x at the elements of an integer value."""
    found = [k for k in m.pool if k.dtype.is_integer and k.exact and k.dtype.bits <= 32]
    if not x.shape or not found:
        return None
    index, axis = found[m.pick(len(found))], m.pick(len(x.shape))
    rest = [d for i, d in enumerate(x.shape) if i != axis]
    if not m.small((*index.shape, *rest)):
        return None
    return m.known(m.op("gather", x, index, axes=(axis,)), x.exact, x.bound)


def sort_several(m: Maker, x: Known) -> Known | None:
    """x sorted with the positions its elements had; the positions are the result."""
    if not x.shape or not x.exact or x.dtype.is_complex:
        return None
    axis = m.pick(len(x.shape))
    ramp = m.b.op("iota", shape=x.shape, axis=axis, dtype=i32)
    attrs = {"axis": axis, "descending": bool(m.pick(2))}
    made = m.b.emit("sort", [x.value, ramp], attrs)
    return m.known(made.results[m.pick(2)], True, max(x.bound, 100))


def top_k(m: Maker, x: Known) -> Known | None:
    """The largest elements of the last axis, or where they are."""
    last = x.shape[-1] if x.shape else 0
    if not isinstance(last, int) or last < 1 or not x.exact or x.dtype is bool_:
        return None
    made = m.b.emit("top_k", [x.value], {"k": 1 + m.pick(min(last, 3))})
    return m.known(made.results[m.pick(2)], True, max(x.bound, 100))


def dynamic_at_value(m: Maker, x: Known) -> Known | None:
    """A window of x at a position that is computed, read or written."""
    found = [k for k in m.pool if k.dtype in (i32, i64) and k.exact]
    sizes = [evaluate(d, m.sizes) for d in x.shape]
    if not found or not x.shape or min(sizes) < 1:
        return None
    source = found[m.pick(len(found))]
    start = m.b.reduce(source.value, range(len(source.shape)), "max")
    starts = [start] * len(x.shape)
    if m.pick(2):
        value = m.b.op("dynamic_slice", x.value, *starts, sizes=(1,) * len(x.shape))
        return m.known(value, x.exact, x.bound)
    update = m.b.full((1,) * len(x.shape), 1, x.dtype)
    value = m.b.op("dynamic_update_slice", x.value, update, *starts)
    return m.known(value, x.exact, max(x.bound, 1))


STEPS = (
    batched_dot, first_axes_dot, scatter, gather_two, gather_at_values, sort_several, top_k,
    dynamic_at_value,
)  # fmt: skip
