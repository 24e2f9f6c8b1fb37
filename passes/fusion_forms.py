"""Which form a kernel of two groups has, and what a form forbids."""

from __future__ import annotations

from collections.abc import Iterable

from graphmill.ir.dims import DimLike, product
from graphmill.ir.forms import Form, unrolling, without
from graphmill.ir.graph import Value
from graphmill.passes.fusion_graph import SAME, Node, Path

# A full value computed from a reduced one in the same kernel makes each row serial: with few rows
# of many elements two kernels are faster.
FEW_ROWS = 4
LONG_ROW = 32768
MOST_UNROLLED = 256  # operations written out


def joined(kind: str, form: Form, other_kind: str, other: Form, dependent: bool) -> Form | None:
    """The form of a kernel of both; None when there is none.

    `dependent` tells whether the second reads the first: only then is anything unrolled.
    """
    if kind == other_kind == "map":
        return form if form.full == other.full else None
    candidates = [f for k, f in ((kind, form), (other_kind, other)) if k == "reduce"]
    if kind == other_kind == "reduce" and dependent:
        candidates.append(unrolling(form, other) or form)
    fits = [f for f in candidates if _fits(kind, form, f) and _fits(other_kind, other, f)]
    return fits[0] if fits else None


def _fits(kind: str, form: Form, into: Form) -> bool:
    """Whether what a kernel of `form` computes can be part of one of the form `into`."""
    if form == into:
        return True
    span = into.span(form.full)
    if span is None or form.unrolled:
        return False
    axes = tuple(span[i] for i in form.axes)
    return kind == "map" or axes in (into.axes, into.unrolled)


def is_row_value(path: Path, value: Value, node: Node, form: Form) -> bool:
    """Whether a path leads from a value of some of a kernel's axes to one of more of them."""
    of_value, of_node = form.span(value.shape), form.span(node.loop)
    if of_value is None or of_node is None or of_value == of_node:
        return False
    return set(of_value) <= set(of_node) and path == (
        "broadcast", tuple(of_node.index(axis) for axis in of_value)
    )  # fmt: skip


def reads_itself(path: Path, value: Value, node: Node) -> bool:
    """Whether element i of what a node computes needs element i of a value."""
    return path == SAME and tuple(value.shape) == tuple(node.loop)


def is_serial(form: Form) -> bool:
    """Whether a kernel has so few and so long rows that it needs them shared among threads."""
    rows, length = 1, 1
    for axis, dim in enumerate(form.full):
        if axis in form.unrolled:
            continue
        if not isinstance(dim, int):
            if axis not in form.axes:
                return False
            length *= LONG_ROW
        elif axis in form.axes:
            length *= dim
        else:
            rows *= dim
    return rows < FEW_ROWS and length > LONG_ROW


def unrolled_obstacle(
    form: Form, inputs: Iterable[Value], outputs: Iterable[Value], ops: int
) -> str:
    """Why a kernel that unrolls axes may not have these inputs, outputs and operations."""
    swept = set(form.axes)
    if any(swept <= set(form.span(value.shape) or ()) for value in outputs):
        return "a value from before its reduction is needed elsewhere"
    if ops * _count(form.shape(form.unrolled)) > MOST_UNROLLED:
        return "too many operations to write out"
    if is_serial(form):
        return "few long rows: one kernel would be serial"
    thin = form.thin_axes
    if thin[-1] not in swept and any(
        _count(value.shape) >= _count(form.shape(thin)) for value in inputs
    ):
        return "an array would be read down its columns"
    if not without(thin, form.axes):
        return "all is one row"
    return ""


def _count(shape: Iterable[DimLike]) -> int:
    size = product(tuple(shape))
    return size if isinstance(size, int) else 1 << 20
