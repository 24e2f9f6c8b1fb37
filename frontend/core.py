"""Ops on traced arrays: the functions that everything above (NumPy's face, gm.numpy, gm.nn) calls.

Each takes traced arrays, NumPy arrays or Python scalars, records the user's line, and returns new
traced arrays; no view or in-place meaning is attached here. Python scalars are weak (NEP 50).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec

import numpy as np

from graphmill.frontend.describe import failure, variable_of
from graphmill.frontend.locations import site
from graphmill.frontend.sizes import Size
from graphmill.frontend.state import SMALL, Frame, current, tracing
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.dtypes import (
    DType,
    DTypeError,
    bool_,
    dtype,
    i64,
    of_scalar,
    promote,
    weak,
)
from graphmill.ir.graph import Op, Region, Value
from graphmill.ir.ops.base import TypeRuleError

__all__ = [
    "Tracer", "apply", "as_dtype", "as_tracer", "astype", "broadcast_args", "broadcast_shapes",
    "broadcast_to", "composite", "constant", "dim_value", "emit", "emit_op", "holds_traced",
    "promote_args", "result_type", "scope", "tracing",
]  # fmt: skip

P = ParamSpec("P")
_KIND_SAMPLE: dict[str, Any] = {"b": False, "i": 0, "u": 0, "f": 0.0, "c": 0j}
_KIND_RANK = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}


# ---- values in


def as_tracer(value: Any, of: DType | None = None) -> Tracer:
    """`value` as a traced array: a tracer as it is, anything else as a constant.

    `of` is the dtype a Python scalar (or list of them) takes. Raises GM019 for dtypes without a
    counterpart and GM040 for what is no array.
    """
    if isinstance(value, Tracer):
        return value
    if hasattr(value, "refused"):  # a selection by a traced mask
        raise value.refused("this")
    if isinstance(value, Size):
        return dim_value(value.dim, of)
    if hasattr(value, "assign_add"):  # a variable
        return as_tracer(value.read())
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        return _scalar(value, of)
    if isinstance(value, list | tuple) and holds_traced(value):
        from graphmill.frontend import shaping

        return shaping.stack([as_tracer(v) for v in value])
    if isinstance(value, np.ndarray):
        if type(value) is not np.ndarray:
            from graphmill.frontend.spec import means_more, not_an_array

            if means_more(value):
                raise not_an_array(value, "an array that the function reads")
        current().trace.captured.append(value)
    return constant(_as_array(value))


def holds_traced(value: Any) -> bool:
    """Whether a value is traced or a symbolic size, or a nested structure with such a one."""
    if isinstance(value, list | tuple):
        return any(map(holds_traced, value))
    if isinstance(value, dict):
        return any(map(holds_traced, value.values()))
    return isinstance(value, Tracer | Size)


def _scalar(value: Any, of: DType | None) -> Tracer:
    to = of or of_scalar(value)
    try:
        array = np.array(value, to.numpy) if to.kind != "b" else np.array(bool(value))
    except (OverflowError, TypeError):
        raise failure(
            "GM018",
            f"{value} does not fit into {to}",
            why=f"a Python number is taken as the array's dtype, {to}, as in NumPy.",
            hint=f"cast the array to a wider dtype first, one that holds {value}.",
        ) from None
    made = constant(array)
    made._weak = of is None
    return made


def _as_array(value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as problem:
        if hasattr(problem, "code"):
            raise
        raise _no_array(value) from None
    if array.dtype == object or array.dtype.kind in "USO":
        raise _no_array(value)
    return array


def _no_array(value: Any) -> Exception:
    return failure(
        "GM040",
        f"{type(value).__name__} where an array is needed",
        [value],
        why="arrays, Python numbers and traced values can be computed with; this is none.",
        hint="convert it before the call, or pass it as a static argument.",
    )


def constant(array: Any) -> Tracer:
    """A constant with the array's present elements."""
    array = np.asarray(array)
    try:
        native = dtype(array.dtype).numpy
    except DTypeError as problem:
        raise failure("GM019", str(problem), [array], hint="convert with .astype first.") from None
    frame = current()
    place = site()
    frame.builder.loc = place.location if place else None
    value = frame.constant(array.astype(native, copy=False))
    if array.size > SMALL and not value.name:
        value.name = variable_of(array)
    return Tracer(value, frame)


def dim_value(dim: DimLike, of: DType | None = None) -> Tracer:
    """The value of a dim as a scalar: weak i64 (a Python int), or of the given dtype."""
    if not isinstance(dim, Dim):
        return as_tracer(dim, of)
    result = emit("dim", value=dim, dtype=of or i64)
    result._weak = of is None
    return result


# ---- ops out


def emit_op(
    name: str,
    operands: Sequence[Tracer],
    attrs: Mapping[str, Any],
    regions: Sequence[Region] = (),
    values: Sequence[Value] | None = None,
) -> Op:
    """Add the op `name` at the user's current line; `values` replaces the operands' values."""
    frame = current()
    if values is None:
        values = [x.value() for x in operands]
    place = site()
    frame.builder.loc = place.location if place else None
    try:
        op = frame.builder.emit(name, values, attrs, regions)
    except TypeRuleError as problem:
        code = "GM015" if "defined for" in str(problem) else "GM017"
        raise failure(code, str(problem), operands, hint=problem.hint) from None
    if place is not None and place.name and op.results:
        _name(frame, place, op.results[0])
    return op


def _name(frame: Frame, place: Any, value: Value) -> None:
    """Let the last op of one assignment have the variable's name."""
    if frame.last is not None and frame.last[0] is place:
        frame.last[1].name = ""
    value.name = place.name
    frame.last = (place, value)


def emit(name: str, *operands: Tracer, **attrs: Any) -> Tracer:
    """Add an op with one result."""
    return Tracer(emit_op(name, operands, attrs).result, current())


def emit_many(name: str, *operands: Tracer, **attrs: Any) -> list[Tracer]:
    """Add an op with several results."""
    frame = current()
    return [Tracer(value, frame) for value in emit_op(name, operands, attrs).results]


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Let the ops added inside belong to a named composite (`softmax`)."""
    builder = current().builder
    before = builder.scope
    builder.scope = f"{before}/{name}" if before else name
    try:
        yield
    finally:
        builder.scope = before


def composite(name: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Decorates a function of traced arrays: its ops get `name` as their scope."""

    def decorate(function: Callable[P, Any]) -> Callable[P, Any]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
            with scope(name):
                return function(*args, **kwargs)

        return wrapped

    return decorate


# ---- dtypes


def as_dtype(of: Any) -> DType:
    """The DType for what NumPy takes as one (Python's int, float, bool, complex too)."""
    try:
        # text is NumPy's first: "i8" has 8 bytes there, where a spec's "i8[n]" has 8 bits
        return dtype(np.dtype(of) if isinstance(of, str) and of in ("i8", "u8") else of)
    except DTypeError as problem:
        raise failure("GM019", str(problem), hint="use one of the dtypes named above.") from None


def result_type(*args: Any) -> DType:
    """The common dtype (NumPy 2): strong ones promote, Python scalars only raise the kind."""
    strong: DType | None = None
    weakest: str | None = None
    for arg in args:
        if isinstance(arg, DType):
            kind, of = None, arg
        else:
            kind, of = _weak_kind(arg), None
            of = None if kind else _dtype_of(arg)
        if kind is not None:
            if weakest is None or _KIND_RANK[kind] > _KIND_RANK[weakest]:
                weakest = kind
        elif of is not None:
            strong = of if strong is None else _promote(strong, of, args)
    if strong is None:
        return of_scalar(_KIND_SAMPLE[weakest or "f"])
    return strong if weakest is None else weak(_KIND_SAMPLE[weakest], strong)


def _promote(a: DType, b: DType, args: Sequence[Any]) -> DType:
    try:
        return promote(a, b)
    except (TypeError, KeyError):
        raise failure("GM015", f"{a} and {b} have no common dtype", args) from None


def _weak_kind(arg: Any) -> str | None:
    if isinstance(arg, Tracer):
        return arg.element.kind if arg.weak else None
    if isinstance(arg, Size):
        return "i"
    if isinstance(arg, np.generic):
        return None
    for kind, python in (("b", bool), ("i", int), ("f", float), ("c", complex)):
        if isinstance(arg, python):
            return kind
    return None


def _dtype_of(arg: Any) -> DType:
    if isinstance(arg, Tracer):
        return arg.element
    if isinstance(arg, np.ndarray | np.generic):
        return as_dtype(arg.dtype)
    return as_tracer(arg).element


def astype(x: Any, to: Any) -> Tracer:
    """x with another dtype, strong; complex to real raises GM018."""
    target = as_dtype(to)
    x = as_tracer(x, target if _weak_kind(x) and not isinstance(x, Tracer | Size) else None)
    if x.element is target:
        return Tracer(x.value(), current()) if x.weak else x
    if x.element.is_complex and not target.is_complex and target is not bool_:
        raise failure(
            "GM018",
            f"{x.element} to {target} drops the imaginary part",
            [x],
            why="the cast would lose half of the value without a word.",
            hint="take x.real, np.abs(x) or np.angle(x).",
        )
    return emit("cast", x, dtype=target)


def promote_args(*args: Any) -> list[Tracer]:
    """All arguments as traced arrays of their common dtype."""
    common = result_type(*args)
    return [astype(arg, common) for arg in args]


# ---- shapes


def broadcast_shapes(*shapes: Sequence[DimLike], args: Sequence[Any] = ()) -> tuple[DimLike, ...]:
    """NumPy's broadcast shape; GM014 where dims differ and neither is 1."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[DimLike] = [1] * rank
    for shape in shapes:
        for axis, dim in enumerate(shape, rank - len(shape)):
            if dim == 1:
                continue
            if result[axis] not in (1, dim):
                raise _do_not_broadcast(result[axis], dim, shapes, args)
            result[axis] = dim
    return tuple(result)


def _do_not_broadcast(a: DimLike, b: DimLike, shapes: Any, args: Any) -> Exception:
    texts = " and ".join(f"[{', '.join(map(str, s))}]" for s in shapes)
    symbolic = isinstance(a, Dim) or isinstance(b, Dim)
    hint = "insert an axis with x[:, None] or x[None], transpose one operand, or reshape it."
    if symbolic:
        hint = "use one dim name for both if they are always equal. " + hint
    return failure(
        "GM014",
        f"{texts} do not broadcast",
        args,
        why=f"{a} and {b} stand at the same axis, counted from the end"
        + (", and are not known to be equal." if symbolic else ", and neither is 1."),
        hint=hint,
    )


def broadcast_to(x: Any, shape: Sequence[DimLike]) -> Tracer:
    """x repeated to `shape`, axes aligned at the end."""
    traced, shape = as_tracer(x), tuple(shape)
    if traced.dims == shape:
        return traced
    if broadcast_shapes(traced.dims, shape, args=[x]) != shape:
        raise failure(
            "GM014", f"{list(traced.dims)} does not broadcast to {list(shape)}", [x],
            why="broadcasting adds axes in front and repeats axes of size 1; it cannot shrink.",
        )  # fmt: skip
    lead = len(shape) - traced.ndim
    result = emit("broadcast", traced, shape=shape, axes=tuple(range(lead, len(shape))))
    result._weak = traced.weak
    return result


def broadcast_args(*args: Any) -> list[Tracer]:
    """All arguments as traced arrays of their common shape."""
    tracers = [as_tracer(a) for a in args]
    shape = broadcast_shapes(*(t.dims for t in tracers), args=args)
    return [broadcast_to(t, shape) for t in tracers]


def apply(name: str, *args: Any, **attrs: Any) -> Tracer:
    """An elementwise op on operands promoted to one dtype and broadcast to one shape."""
    shape = broadcast_shapes(*(dims_of(a) for a in args), args=args)
    return emit(name, *(broadcast_to(a, shape) for a in promote_args(*args)), **attrs)


def dims_of(arg: Any) -> tuple[DimLike, ...]:
    """The shape of anything that can become a traced array, in the IR's dims."""
    if isinstance(arg, Tracer):
        return arg.dims
    if isinstance(arg, bool | int | float | complex | Size):
        return ()
    if isinstance(arg, np.ndarray | np.generic):
        return arg.shape
    return as_tracer(arg).dims
