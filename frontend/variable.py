"""Variables: arrays that keep their elements between calls of compiled functions."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from graphmill.frontend.core import Tracer, as_tracer, astype, broadcast_to, emit_op
from graphmill.frontend.describe import failure
from graphmill.frontend.errors import GraphmillError, error
from graphmill.frontend.state import Frame, current, tracing
from graphmill.ir.dtypes import DTypeError, dtype
from graphmill.ir.types import TensorType

Array = np.ndarray[Any, Any]
_KINDS = "bifc"


class Variable(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that compiled functions read and assign, and that keeps its elements between calls.

    `Variable(initial)` has the dtype and shape of `initial` (or `dtype`) for good. In a traced
    function it computes like its value at that moment; `read`, `assign`, `assign_add`, `v += x`
    and `v[key] = x` happen in the order of the program, in loops and branches too. Outside of one
    they act at once. A call that assigns variables holds them until it has finished, so calls from
    several threads happen one after the other; one that fails assigns nothing.

    Raises GM019 for a dtype without a counterpart, GM017 and GM018 for values of another shape or
    kind.
    """

    __array_priority__ = 1001
    __hash__ = object.__hash__

    def __init__(self, initial: Any, name: str = "", dtype: Any = None) -> None:
        array = np.array(initial, dtype=dtype, order="C")
        self._type = TensorType(_element(array), array.shape)
        self.name = name
        self.lock = threading.Lock()
        # native calls read and replace the one item
        self.cell: list[Array] = [_frozen(array.astype(self._type.dtype.numpy, copy=False))]

    # ---- what it is

    @property
    def _array(self) -> Array:
        return self.cell[0]

    @property
    def type(self) -> TensorType:
        """The IR's type: `f32[3, 8]`."""
        return self._type

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._type.dtype.numpy

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def value(self) -> Array:
        """The elements now, read-only; later assignments do not change this array."""
        return self._array

    @value.setter
    def value(self, value: Any) -> None:
        self.assign(value)

    # ---- effects

    def read(self) -> Any:
        """Its value at this point of the program: traced, or a read-only NumPy array."""
        if not tracing():
            return self._array
        frame = current()
        attrs = {"name": frame.trace.name_of(self), "type": self._type}
        op = emit_op("variable.read", [], attrs, values=[_token(frame)])
        frame.token = op.results[1]
        return Tracer(op.results[0], frame)

    def assign(self, value: Any) -> None:
        """Give it a new value, cast and broadcast as by `x[...] = value`."""
        if not tracing():
            with self.lock:
                self.store(self._cast(value))
            return
        new = self._traced(value).value()
        frame = current()
        attrs = {"name": frame.trace.name_of(self)}
        frame.token = emit_op("variable.assign", [], attrs, values=[new, _token(frame)]).result

    def assign_add(self, value: Any) -> None:
        """Add to its value; without a gap between reading and assigning."""
        if tracing():
            self.assign(self.read() + value)
            return
        with self.lock:
            self.store(self._cast(self._array + value))

    def store(self, array: Array) -> None:
        """Take an array of its type as the new value, which must not be written to afterwards.

        The caller holds `lock`.
        """
        self.cell[0] = _frozen(array)

    def _cast(self, value: Any) -> Array:
        array = np.asarray(value)
        if not self._takes(value, array.dtype):
            raise self._kind(str(array.dtype))
        try:
            return np.array(np.broadcast_to(array, self.shape), self.dtype)
        except ValueError:
            raise self._shape(list(array.shape)) from None

    def _traced(self, value: Any) -> Tracer:
        new = as_tracer(value)
        if not self._takes(value, new.dtype, new.weak):
            raise self._kind(str(new.element), new)
        new = astype(new, self._type.dtype)
        if len(new.dims) > self.ndim or any(
            d not in (1, size) for d, size in zip(new.dims[::-1], self.shape[::-1], strict=False)
        ):
            raise self._shape(list(new.dims), new)
        return broadcast_to(new, self.shape)

    def _takes(self, value: Any, of: np.dtype[Any], weak: bool = False) -> bool:
        """Whether a value of a dtype may be stored: Python's numbers where the kind fits."""
        if weak or type(value) in (bool, int, float, complex):
            return _KINDS.index(of.kind) <= _KINDS.index(self._type.dtype.kind.replace("u", "i"))
        return np.can_cast(of, self.dtype, "same_kind")

    def _kind(self, of: str, *operands: Tracer) -> GraphmillError:
        return failure(
            "GM018", f"{of} assigned to {self!r}", operands,
            why="a variable keeps its dtype.", hint="cast the value with .astype first.",
        )  # fmt: skip

    def _shape(self, of: list[Any], *operands: Tracer) -> GraphmillError:
        return failure(
            "GM017", f"{of} assigned to {self!r}", operands,
            why="a variable keeps its shape.", hint="pass a value that broadcasts to that shape.",
        )  # fmt: skip

    # ---- computing with it

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        value = self.read()
        if isinstance(value, Tracer):
            return np.asarray(value, dtype=dtype)  # the error for elements of a traced value
        made: Array = np.array(value, dtype=dtype, copy=copy)
        return made

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(out, Variable) for out in kwargs.get("out", ())):
            raise error(
                "GM011", f"np.{ufunc.__name__}(out=…) with a variable",
                hint="assign the result: v.assign(…).",
            )  # fmt: skip
        return getattr(ufunc, method)(*map(_read, inputs), **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*_read(args), **{name: _read(v) for name, v in kwargs.items()})

    def __iadd__(self, other: Any) -> Variable:
        self.assign_add(other)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self.read()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if tracing():
            whole = self.read()
            whole[key] = value
            self.assign(whole)
            return
        with self.lock:
            array = self._array.copy()
            array[key] = value
            self.store(array)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.read(), name)

    def __bool__(self) -> bool:
        return bool(self.read())

    def __int__(self) -> int:
        return int(self.read())

    def __float__(self) -> float:
        return float(self.read())

    def __len__(self) -> int:
        return len(self._array)

    def __repr__(self) -> str:
        return f"Variable({self.name + ': ' if self.name else ''}{self._type})"


def _inplace(name: str) -> Any:
    def operator(self: Variable, other: Any) -> Variable:
        self.assign(getattr(np, name)(self.read(), other))
        return self

    return operator


for _name, _function in {
    "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "matmul": "matmul", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift",
}.items():  # fmt: skip
    setattr(Variable, f"__i{_name}__", _inplace(_function))


def _element(array: Array) -> Any:
    try:
        return dtype(array.dtype)
    except DTypeError as problem:
        raise error("GM019", str(problem), hint="convert with .astype first.") from None


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _read(value: Any) -> Any:
    """A variable's value; those in lists and tuples too."""
    if isinstance(value, Variable):
        return value.read()
    return type(value)(map(_read, value)) if type(value) in (list, tuple) else value


def _token(frame: Frame) -> Any:
    """What orders the next effect after those before it in this block."""
    if frame.token is None:
        frame.token = frame.builder.op("token")
    return frame.token
