"""`x[mask]` with a traced mask: the selected elements, as long as their number does not matter.

A `Selection` keeps the whole array and the mask. Elementwise functions work on the whole array,
reductions use the mask, and storing under the same mask is a select; anything that would need the
number of elements raises GM021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from graphmill.frontend.core import Tracer, as_tracer, broadcast_to
from graphmill.frontend.describe import failure, name_of
from graphmill.frontend.shaping import reshaped
from graphmill.ir.dims import DimLike
from graphmill.ir.ops.reduce import identity


def _operator(ufunc: np.ufunc, reflected: bool = False) -> Callable[[Any, Any], Any]:
    def operator(self: Selection, other: Any) -> Any:
        return self.applied(ufunc, (other, self) if reflected else (self, other), {})

    return operator


def _reduction(name: str) -> Callable[..., Any]:
    def method(self: Selection, axis: Any = None, **options: Any) -> Any:
        return self.reduced(name, axis, options)

    return method


class Selection:
    """The elements of `whole` where `mask` holds; `rest` is the shape of each."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, whole: Tracer, mask: Tracer, source: Tracer) -> None:
        self.whole = whole
        self.mask = mask
        self.source = source
        self.rest: tuple[DimLike, ...] = whole.dims[mask.ndim :]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.whole.dtype

    @property
    def size(self) -> Any:
        """How many elements are selected, as a traced value."""
        return np.count_nonzero(self.spread(), axis=None)

    def spread(self) -> Tracer:
        """The mask with the shape of the whole array."""
        shape = (*self.mask.dims, *(1 for _ in self.rest))
        return broadcast_to(reshaped(self.mask, shape), self.whole.dims)

    def with_whole(self, whole: Tracer) -> Selection:
        """The same selection of another array."""
        return Selection(whole, self.mask, self.source)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or "out" in kwargs:
            raise self.refused(f"np.{ufunc.__name__}.{method}")
        return self.applied(ufunc, inputs, kwargs)

    def applied(self, ufunc: np.ufunc, inputs: Any, kwargs: Any) -> Any:
        """An elementwise function of selections under one mask and values that broadcast."""
        found = getattr(ufunc, "signature", None)
        if found is not None:
            raise self.refused(f"np.{ufunc.__name__}")
        result = ufunc(*(self._operand(i) for i in inputs), **kwargs)
        if isinstance(result, tuple):
            return tuple(self.with_whole(r) for r in result)
        return self.with_whole(result)

    def _operand(self, value: Any) -> Any:
        if isinstance(value, Selection):
            if not value.under(self.mask):
                raise self.refused("two selections under different masks")
            return value.whole
        if isinstance(value, Tracer | np.ndarray) and as_tracer(value).ndim > len(self.rest):
            raise self.refused(f"{name_of(value)} beside a selection")
        return value

    def under(self, mask: Tracer) -> bool:
        """Whether it is a selection by this very mask."""
        return self.mask is mask or self.mask._value is mask._value

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(function, "__name__", "")
        known = {"amax": "max", "amin": "min"}.get(name, name)
        if known in REDUCTIONS and args and args[0] is self:
            options = dict(kwargs)
            return self.reduced(known, options.pop("axis", args[1] if len(args) > 1 else None),
                                options)  # fmt: skip
        raise self.refused(f"np.{name}")

    def reduced(self, name: str, axis: Any, options: Any) -> Any:
        """A reduction of the selected elements: all axes, or the first if it is the mask's."""
        first = axis in (0, (0,)) and self.mask.ndim == 1
        if not (axis is None or first) or options.get("keepdims"):
            raise self.refused(f".{name}(axis={axis})")
        if name in ("max", "min"):
            options = {"initial": identity(name, self.whole.element), **options}
        function = getattr(np, name)
        return function(self.whole, axis=0 if first else None, where=self.spread(), **options)

    def refused(self, what: str) -> Exception:
        """GM021."""
        from graphmill.frontend.index_keys import traced_mask

        problem = traced_mask(self.source, self.mask)
        problem.why = f"{what} needs the number of selected elements. {problem.why}"  # type: ignore[attr-defined]
        return problem

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise self.refused("this")

    __array__ = __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = _refuse
    __getitem__ = __setitem__ = __matmul__ = __rmatmul__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.refused(f".{name}")

    def copy(self) -> Selection:
        return self.with_whole(self.whole)

    def astype(self, dtype: Any) -> Selection:
        return self.with_whole(self.whole.astype(dtype))

    sum, prod, mean, std, var = map(_reduction, ("sum", "prod", "mean", "std", "var"))
    max, min, any, all = map(_reduction, ("max", "min", "any", "all"))

    __add__, __radd__ = _operator(np.add), _operator(np.add, True)
    __sub__, __rsub__ = _operator(np.subtract), _operator(np.subtract, True)
    __mul__, __rmul__ = _operator(np.multiply), _operator(np.multiply, True)
    __truediv__, __rtruediv__ = _operator(np.true_divide), _operator(np.true_divide, True)
    __floordiv__, __rfloordiv__ = _operator(np.floor_divide), _operator(np.floor_divide, True)
    __mod__, __rmod__ = _operator(np.remainder), _operator(np.remainder, True)
    __pow__, __rpow__ = _operator(np.power), _operator(np.power, True)
    __and__, __rand__ = _operator(np.bitwise_and), _operator(np.bitwise_and, True)
    __or__, __ror__ = _operator(np.bitwise_or), _operator(np.bitwise_or, True)
    __xor__, __rxor__ = _operator(np.bitwise_xor), _operator(np.bitwise_xor, True)
    __lt__, __le__ = _operator(np.less), _operator(np.less_equal)
    __gt__, __ge__ = _operator(np.greater), _operator(np.greater_equal)
    __eq__ = _operator(np.equal)
    __ne__ = _operator(np.not_equal)

    def __neg__(self) -> Any:
        return self.applied(np.negative, (self,), {})

    def __abs__(self) -> Any:
        return self.applied(np.absolute, (self,), {})

    def __invert__(self) -> Any:
        return self.applied(np.invert, (self,), {})


REDUCTIONS = {"sum", "prod", "mean", "std", "var", "max", "min", "any", "all"}


def select(x: Tracer, mask: Tracer) -> Selection:
    """`x[mask]` for a mask of x's leading axes; the elements are those of now."""
    if x.dims[: mask.ndim] != mask.dims or not mask.dims:
        raise failure(
            "GM014", f"{name_of(x)}[{name_of(mask)}]", [x, mask],
            why="a mask has the shape of the axes that it indexes.",
            hint="reshape or broadcast the mask.",
        )  # fmt: skip
    from graphmill.frontend.ufuncs import copied

    return Selection(copied(x), copied(mask), x)
