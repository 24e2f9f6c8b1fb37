"""What is being traced: the function (`Trace`) and the block that ops go to (`Frame`).

Regions are isolated, so a frame that uses a value of the frame around it takes it as a captured
block argument. The innermost frame is a context variable: threads and tasks trace independently.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from graphmill.frontend.errors import GraphmillError, error
from graphmill.ir.dims import DimLike
from graphmill.ir.graph import Block, Bounds, Value
from graphmill.ir.literals import RESERVED
from graphmill.ir.types import TensorType

if TYPE_CHECKING:
    from graphmill.frontend.multiples import Multiple
    from graphmill.frontend.variable import Variable

# Constants up to this many elements are repeated in each region; larger ones are captured.
SMALL = 64
# Bytes from which an array that stays as it is is read where it lies.
LARGE = 1 << 16

Array = np.ndarray[Any, Any]


class Trace:
    """One function being traced: its name, named dims, captured arrays, elements already known."""

    def __init__(
        self, name: str, dims: dict[str, Bounds], stays: Callable[[Array], bool] | None = None,
        adopts: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.dims = dims
        self.stays = stays
        self.adopts = adopts  # NumPy's creation functions make traced arrays
        self.known: dict[Value, Array | None] = {}
        self.multiples: dict[str, Multiple] = {}  # dims that this run needs to be multiples
        self.refused: GraphmillError | None = None  # the last answer NumPy may have swallowed
        self.variables: dict[str, Variable] = {}
        self.params: dict[Value, str] = {}
        self.turns: dict[str, Bounds] = {}  # dims that number the turns of loops
        self.turn_of: dict[Value, DimLike] = {}  # the counters of loops
        self.sized: set[str] = set()  # the dims of turns that something depends on
        self.captured: list[Array] = []

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        """What is known of every named dim."""
        return {**self.dims, **self.turns} if self.turns else self.dims

    def new_turn(self, name: str, bounds: Bounds) -> str:
        """A dim for the turns of one more loop, called like `name`."""
        base, number = name, 0
        while name in self.bounds or name in RESERVED:
            number += 1
            name = f"{base}{number}"
        self.turns[name] = bounds
        return name

    def name_of(self, variable: Variable) -> str:
        """The IR's name of a variable, given to it when the trace first meets it."""
        for name, known in self.variables.items():
            if known is variable:
                return name
        base = variable.name if variable.name.isidentifier() else "variable"
        name, number = base, 1
        while name in self.variables:
            number += 1
            name = f"{base}_{number}"
        self.variables[name] = variable
        return name


class Frame:
    """A block being filled, inside `parent` where it is a region's."""

    def __init__(self, trace: Trace, block: Block, parent: Frame | None = None) -> None:
        from graphmill.ir.builder import Builder

        self.trace = trace
        self.block = block
        self.parent = parent
        self.builder = Builder(block)
        self.builder.scope = parent.builder.scope if parent else ""
        self.captures: dict[Value, Value] = {}
        self.open = True
        self.last: tuple[object, Value] | None = None
        self.token: Value | None = None  # after the effects so far
        self._copies: dict[Value, Value] = {}
        self._constants: dict[tuple[Any, ...], list[Value]] = {}
        self._borrowed: dict[tuple[Any, ...], Value] = {}

    def inside(self, other: Frame) -> bool:
        """Whether this frame is `other` or a region within it."""
        frame: Frame | None = self
        while frame is not None and frame is not other:
            frame = frame.parent
        return frame is other

    def lift(self, value: Value, owner: Frame) -> Value:
        """A value of this frame or one around it, as a value of this frame."""
        if owner is self:
            return value
        assert self.parent is not None, "a value of no frame around this one"
        outer = self.parent.contiguous(self.parent.lift(value, owner))
        if outer not in self.captures:
            self.captures[outer] = self.block.add_arg(outer.type, outer.name)
        return self.captures[outer]

    def contiguous(self, value: Value) -> Value:
        """The value itself, or a copy of a strided parameter: regions take plain arrays."""
        if not isinstance(value.type, TensorType) or value.type.layout is None:
            return value
        if value not in self._copies:
            self._copies[value] = self.builder.op("copy", value)
        return self._copies[value]

    def constant(self, array: Array) -> Value:
        """A constant with the array's elements as they are now; equal ones are shared."""
        if self.parent is not None and array.size > SMALL:
            root = self.root
            return self.lift(root.constant(array), root)
        stays = self.trace.stays
        if stays and array.nbytes >= LARGE and array.flags.c_contiguous and stays(array):
            return self._borrow(array)
        array = np.ascontiguousarray(array).reshape(array.shape)
        raw = array.reshape(-1).view(np.uint8).data
        key = (array.dtype, array.shape, zlib.crc32(raw))
        known = self._constants.setdefault(key, [])
        for value in known:
            assert value.op is not None
            if _same_bits(value.op.attrs["value"], array):
                return value
        known.append(self.builder.constant(array))
        return known[-1]

    def _borrow(self, array: Array) -> Value:
        """A constant that reads the array's own memory; the same memory gives the same one."""
        key = (array.__array_interface__["data"][0], array.dtype, array.shape)
        if key not in self._borrowed:
            view = array.view(np.ndarray)
            view.flags.writeable = False
            self._borrowed[key] = self.builder.op("constant", value=view)
        return self._borrowed[key]

    @property
    def root(self) -> Frame:
        """The function's own frame."""
        return self if self.parent is None else self.parent.root


def _same_bits(a: Array, b: Array) -> bool:
    word = np.uint64 if a.nbytes % 8 == 0 else np.uint8
    return bool(np.array_equal(a.reshape(-1).view(word), b.reshape(-1).view(word)))


FRAME: ContextVar[Frame | None] = ContextVar("graphmill_frame", default=None)


def tracing() -> bool:
    """Whether a function is being traced in this thread."""
    return FRAME.get() is not None


def refused(problem: GraphmillError) -> GraphmillError:
    """The error, noted in the trace: NumPy's C code may replace it by one of its own."""
    frame = FRAME.get()
    if frame is not None:
        frame.trace.refused = problem
    return problem


def adopting() -> bool:
    """Whether NumPy's creation functions make traced arrays in this thread."""
    frame = FRAME.get()
    return frame is not None and frame.trace.adopts


def current() -> Frame:
    """The innermost frame; an error when nothing is being traced."""
    frame = FRAME.get()
    if frame is None:
        raise error(
            "GM031",
            why="this function adds to the graph of a traced function, and there is none here.",
            hint="call it inside a function decorated with @gm.jit.",
        )
    return frame


@contextmanager
def entered(frame: Frame) -> Iterator[Frame]:
    """Let `frame` be the innermost one; it is closed at the end."""
    token = FRAME.set(frame)
    try:
        yield frame
    finally:
        frame.open = False
        FRAME.reset(token)
