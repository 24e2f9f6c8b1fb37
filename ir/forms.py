"""The form of a reduce kernel: what it iterates over, which axes it sums up and which it unrolls.

Every value in such a kernel has the full shape, or that without the reduced axes, without the
unrolled ones, or without both. The reduced axes are swept over; the few positions of the unrolled
ones are written out, so that a reduction along them is computed wherever it is needed, like an
elementwise op, and stored nowhere. Distances of points, of three coordinates each, and a sum over
one of the points, make such a kernel: `((x - y) ** 2).sum(0)` and then the sum along a row.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphmill.ir.dims import DimLike, product
from graphmill.ir.graph import Block, Op
from graphmill.records import record

SHORT = 8  # positions that are written out at most
Shape = tuple[DimLike, ...]
Axes = tuple[int, ...]


@record
class Form:
    """The full shape, the reduced axes and the unrolled ones; the latter are none or disjoint."""

    full: Shape
    axes: Axes = ()
    unrolled: Axes = ()

    @property
    def all_axes(self) -> Axes:
        """All axes of the full shape."""
        return tuple(range(len(self.full)))

    @property
    def kept_axes(self) -> Axes:
        """The axes of reduced values."""
        return without(self.all_axes, self.axes)

    @property
    def thin_axes(self) -> Axes:
        """The axes of values that no unrolled axis is part of."""
        return without(self.all_axes, self.unrolled)

    @property
    def kept(self) -> Shape:
        """The shape of reduced values."""
        return self.shape(self.kept_axes)

    def shape(self, axes: Axes) -> Shape:
        """The sizes of some axes."""
        return tuple(self.full[i] for i in axes)

    @property
    def spans(self) -> tuple[Axes, ...]:
        """The sets of axes that values may have."""
        found = {
            without(self.all_axes, (*gone, *more))
            for gone in ((), self.axes)
            for more in ((), self.unrolled)
        }
        return tuple(sorted(found, key=lambda axes: (-len(axes), axes)))

    def span(self, shape: Iterable[DimLike]) -> Axes | None:
        """The axes that a value of `shape` has; None if no value of the kernel has this shape."""
        wanted = tuple(shape)
        return next((axes for axes in self.spans if self.shape(axes) == wanted), None)

    @property
    def is_plain(self) -> bool:
        """Whether a shape tells which axes a value has."""
        return len({self.shape(axes) for axes in self.spans}) == len(self.spans)


def without(axes: Axes, gone: Iterable[int]) -> Axes:
    """`axes` less those in `gone`."""
    left = set(gone)
    return tuple(axis for axis in axes if axis not in left)


def is_short(shape: Shape, axes: Axes) -> bool:
    """Whether axes have so few positions together that these can be written out."""
    count = product(shape[i] for i in axes)
    return bool(axes) and isinstance(count, int) and 1 <= count <= SHORT


def unrolling(first: Form, second: Form) -> Form | None:
    """The form in which what `first` reduces, along a short axis, is computed for `second`.

    Or, where `second` reduces what is left of `first` along a short axis, for its results.
    """
    if first.unrolled or second.unrolled:
        return None
    form = None
    short = is_short(first.full, first.axes)
    if short and second.full == first.full and not set(first.axes) & set(second.axes):
        form = Form(first.full, second.axes, first.axes)
    elif second.full == first.kept:
        axes = tuple(first.kept_axes[i] for i in second.axes)
        if short:
            form = Form(first.full, axes, first.axes)
        elif is_short(second.full, second.axes):
            form = Form(first.full, first.axes, axes)
    return form if form is not None and form.is_plain else None


def form_of(block: Block) -> Form:
    """The form of a reduce kernel's block."""
    reduces = [op for op in block.ops if op.name == "reduce"]
    first = _form(max(reduces, key=lambda op: len(op.operands[0].shape)))
    others = [_form(op) for op in reduces]
    if all(form == first for form in others):
        return first
    for other in others:
        form = unrolling(first, other) or unrolling(other, first)
        if form is not None:
            return form
    raise AssertionError("the reductions of a kernel share no form")


def _form(op: Op) -> Form:
    return Form(tuple(op.operands[0].shape), tuple(sorted(op.attrs["axes"])))
