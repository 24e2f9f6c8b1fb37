"""The traced array: what a user's function computes with while it is being traced.

A `Tracer` stands for a value of the graph. Writing into it (`x[1:] = v`, `x += y`) gives it another
value. Views are followed as in NumPy: a basic slice, a transpose and the like read through to the
array they were taken from and write through to it; where NumPy may give a view or a copy
(`reshape`), using one after writing the other is an error rather than a guess.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphmill.frontend import locations, sizes
from graphmill.frontend.state import Frame, current
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Location, Value
from graphmill.ir.types import TensorType

if TYPE_CHECKING:
    from graphmill.frontend.views import View


def _ufunc(ufunc: np.ufunc) -> Callable[[Tracer, Any], Any]:
    def operator(self: Tracer, other: Any) -> Any:
        import graphmill.frontend.ufuncs as ufuncs

        return ufuncs.operator(ufunc, self, other)

    return operator


def _reflected(ufunc: np.ufunc) -> Callable[[Tracer, Any], Any]:
    def operator(self: Tracer, other: Any) -> Any:
        import graphmill.frontend.ufuncs as ufuncs

        return ufuncs.operator(ufunc, other, self)

    return operator


def _inplace(ufunc: np.ufunc) -> Callable[[Tracer, Any], Any]:
    def operator(self: Tracer, other: Any) -> Any:
        import graphmill.frontend.ufuncs as ufuncs

        return ufuncs.inplace(ufunc, self, other)

    return operator


def _unary(ufunc: np.ufunc) -> Callable[[Tracer], Any]:
    def operator(self: Tracer) -> Any:
        import graphmill.frontend.ufuncs as ufuncs

        return ufuncs.unary_operator(ufunc, self)

    return operator


class Tracer:
    """A traced array of a known dtype and shape.

    `weak` marks a Python scalar: like one, it takes the dtype of what it is combined with.
    """

    __slots__ = ("__weakref__", "_frame", "_poison", "_value", "_version", "_view", "_weak")
    _value: Value
    _frame: Frame
    _weak: bool
    _version: int
    _view: View | None
    _poison: tuple[str, Location | None] | None
    __array_priority__ = 1000
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Value, frame: Frame, weak: bool = False) -> None:
        # past `__setattr__`, which is there for the user's mistakes
        put = object.__setattr__
        put(self, "_value", value)
        put(self, "_frame", frame)
        put(self, "_weak", weak)
        put(self, "_version", 0)
        put(self, "_view", None)
        put(self, "_poison", None)

    # ---- what it is

    @property
    def type(self) -> TensorType:
        """The IR's type: `f32[batch, 8]`."""
        return self._value.tensor

    @property
    def dims(self) -> tuple[DimLike, ...]:
        """The shape in the IR's dims."""
        return self._value.tensor.shape

    @property
    def element(self) -> DType:
        """The IR's dtype."""
        return self._value.tensor.dtype

    @property
    def weak(self) -> bool:
        return self._weak

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(sizes.of(d) for d in self.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.element.numpy

    @property
    def ndim(self) -> int:
        return len(self.dims)

    @property
    def size(self) -> Any:
        return sizes.of(self.type.size)

    @property
    def itemsize(self) -> int:
        return self.element.itemsize

    @property
    def nbytes(self) -> Any:
        return sizes.of(self.type.nbytes)

    def value(self) -> Value:
        """Its value now, in the innermost frame; errors if it may not be used here."""
        import graphmill.frontend.views as views

        return views.value(self, current())

    # ---- NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        import graphmill.frontend.ufuncs as ufuncs

        return ufuncs.call(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from graphmill.frontend import array_functions

        return array_functions.call(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        from graphmill.frontend import known, misuse

        elements = known.known(self)
        if elements is None or locations.operation() == "write":
            raise misuse.as_array(self)
        return elements if dtype is None else elements.astype(dtype)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        from graphmill.frontend import numpy

        return numpy

    # ---- Python's protocols

    def __bool__(self) -> bool:
        from graphmill.frontend import known, misuse

        elements = known.known_scalar(self)
        if elements is None:
            raise misuse.as_bool(self)
        return bool(elements)

    def __int__(self) -> int:
        return int(self._number("int"))

    def __float__(self) -> float:
        return float(self._number("float"))

    def __complex__(self) -> complex:
        return complex(self._number("complex"))

    def __index__(self) -> int:
        return operator.index(self._number("index"))

    def _number(self, what: str) -> Any:
        """Its only element where that is known while tracing; an error where it is not."""
        from graphmill.frontend import known, misuse

        element = known.known_scalar(self) if what != "index" or not self.dims else None
        if element is None:
            raise misuse.as_number(self, what)
        return element

    def __len__(self) -> int:
        from graphmill.frontend import misuse

        if not self.dims or not isinstance(self.dims[0], int):
            raise misuse.as_sequence(self, "len()")
        return self.dims[0]

    def __iter__(self) -> Iterator[Any]:
        from graphmill.frontend import misuse

        if not self.dims or not isinstance(self.dims[0], int):
            raise misuse.as_sequence(self, "iteration")
        return (self[i] for i in range(self.dims[0]))

    def __contains__(self, item: Any) -> NoReturn:
        from graphmill.frontend import misuse

        raise misuse.as_bool(self)

    def __getattr__(self, name: str) -> Any:
        import graphmill.frontend.methods as methods

        return methods.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Tracer.__slots__:
            object.__setattr__(self, name, value)
        else:
            import graphmill.frontend.methods as methods

            methods.set_attribute(self, name, value)

    def __dir__(self) -> list[str]:
        import graphmill.frontend.methods as methods

        return sorted({*object.__dir__(self), *methods.METHODS, *methods.PROPERTIES})

    def __getitem__(self, key: Any) -> Any:
        import graphmill.frontend.indexing as indexing

        return indexing.item(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        import graphmill.frontend.indexing as indexing

        indexing.put(self, key, value)

    def __format__(self, spec: str) -> str:
        from graphmill.frontend import misuse

        if spec:
            raise misuse.as_number(self, "text")
        return repr(self)

    def __copy__(self) -> Tracer:
        return Tracer(self.value(), current(), self._weak)

    def __deepcopy__(self, memo: Any) -> Tracer:
        return self.__copy__()

    def __repr__(self) -> str:
        name = f"{self._value.name}: " if self._value.name else ""
        return f"Traced({name}{self.type})"

    # ---- operators

    __add__, __radd__, __iadd__ = _ufunc(np.add), _reflected(np.add), _inplace(np.add)
    __sub__, __rsub__ = _ufunc(np.subtract), _reflected(np.subtract)
    __isub__ = _inplace(np.subtract)
    __mul__, __rmul__ = _ufunc(np.multiply), _reflected(np.multiply)
    __imul__ = _inplace(np.multiply)
    __truediv__, __rtruediv__ = _ufunc(np.true_divide), _reflected(np.true_divide)
    __itruediv__ = _inplace(np.true_divide)
    __floordiv__, __rfloordiv__ = _ufunc(np.floor_divide), _reflected(np.floor_divide)
    __ifloordiv__ = _inplace(np.floor_divide)
    __mod__, __rmod__ = _ufunc(np.remainder), _reflected(np.remainder)
    __imod__ = _inplace(np.remainder)
    __divmod__, __rdivmod__ = _ufunc(np.divmod), _reflected(np.divmod)
    __pow__, __rpow__, __ipow__ = _ufunc(np.power), _reflected(np.power), _inplace(np.power)
    __matmul__, __rmatmul__ = _ufunc(np.matmul), _reflected(np.matmul)
    __imatmul__ = _inplace(np.matmul)
    __and__, __rand__ = _ufunc(np.bitwise_and), _reflected(np.bitwise_and)
    __iand__ = _inplace(np.bitwise_and)
    __or__, __ror__ = _ufunc(np.bitwise_or), _reflected(np.bitwise_or)
    __ior__ = _inplace(np.bitwise_or)
    __xor__, __rxor__ = _ufunc(np.bitwise_xor), _reflected(np.bitwise_xor)
    __ixor__ = _inplace(np.bitwise_xor)
    __lshift__, __rlshift__ = _ufunc(np.left_shift), _reflected(np.left_shift)
    __ilshift__ = _inplace(np.left_shift)
    __rshift__, __rrshift__ = _ufunc(np.right_shift), _reflected(np.right_shift)
    __irshift__ = _inplace(np.right_shift)
    __lt__, __le__ = _ufunc(np.less), _ufunc(np.less_equal)
    __gt__, __ge__ = _ufunc(np.greater), _ufunc(np.greater_equal)
    __eq__ = _ufunc(np.equal)
    __ne__ = _ufunc(np.not_equal)
    __neg__, __pos__ = _unary(np.negative), _unary(np.positive)
    __abs__, __invert__ = _unary(np.absolute), _unary(np.invert)

    def __round__(self, digits: int = 0) -> Any:
        return np.round(self, digits)
