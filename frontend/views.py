"""Reading and writing traced arrays, with the sharing of memory that NumPy's views have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphmill.frontend.errors import GraphmillError, Operand, error
from graphmill.frontend.state import Frame, current
from graphmill.frontend.tracer import Tracer
from graphmill.ir.graph import Value
from graphmill.records import record

Read = Callable[[Tracer], Tracer]
Write = Callable[[Tracer, Tracer], None]


@record(frozen=False)
class View:
    """How a traced array shares memory with `base`.

    `read` takes it anew from the base, `write` stores it back into the base. Both None: NumPy may
    share or copy. `write` alone None: read-only. `key` tells which part of the base it is.
    """

    base: Tracer
    seen: int
    read: Read | None
    write: Write | None
    key: Any = None


def view(
    base: Tracer, result: Tracer, read: Read | None, write: Write | None = None, key: Any = None
) -> Tracer:
    """`result` marked as a view of `base`."""
    if result is base or result._value is base._value:
        result = Tracer(result._value, result._frame, result._weak)
    result._view = View(base, base._version, read, write, key)
    return result


def value(tracer: Tracer, frame: Frame) -> Value:
    """The tracer's value now, as a value of `frame`."""
    owner = tracer._frame
    if owner is not frame and not (owner.open and frame.inside(owner)):
        raise _leaked(tracer)
    if tracer._poison is not None:
        raise _shared(tracer)
    if tracer._view is not None and is_stale(tracer):
        return _refreshed(tracer, frame)
    return frame.lift(tracer._value, owner)


def is_stale(tracer: Tracer) -> bool:
    """Whether the array that the view was taken from has been written since."""
    view = tracer._view
    if view is None:
        return False
    return view.base._version != view.seen or view.base._poison is not None or is_stale(view.base)


def _refreshed(tracer: Tracer, frame: Frame) -> Value:
    view = tracer._view
    assert view is not None
    value(view.base, frame)
    if view.read is None:
        raise _shared(tracer)
    fresh = view.read(view.base)._value
    if tracer._frame is frame:
        tracer._value, view.seen = fresh, view.base._version
        tracer._version += 1
    return fresh


def write(tracer: Tracer, fresh: Tracer) -> None:
    """Give the tracer a new value of the same type, and what it is a view of with it."""
    frame = current()
    if tracer._frame is not frame:
        value(tracer, frame)
        raise _captured(tracer)
    view = tracer._view
    if view is not None and view.read is not None and view.write is None:
        raise _read_only(tracer, view.base)
    tracer._value = fresh.value()  # not `_value`: it may be a view of the tracer itself
    tracer._version += 1
    if view is None:
        return
    if view.write is not None:
        view.write(view.base, fresh)
        view.seen = view.base._version
        return
    tracer._view = None
    from graphmill.frontend.describe import here, name_of

    written = (name_of(tracer), here())
    base: Tracer | None = view.base
    while base is not None:
        base._poison = written
        base = base._view.base if base._view is not None else None


def _leaked(tracer: Tracer) -> GraphmillError:
    from graphmill.frontend.describe import describe, here

    place, operand = here(), describe(tracer)
    return error(
        "GM030",
        location=place,
        operands=[operand],
        why="it belongs to a function, branch or loop body whose tracing has ended; a traced "
        "value must not be kept in a global, an attribute or an outer variable.",
        hint="return it from the function (or carry it through the loop) instead.",
    )


def _shared(tracer: Tracer) -> GraphmillError:
    from graphmill.frontend.describe import describe, here, name_of

    name = name_of(tracer)
    poison, view = tracer._poison, tracer._view
    written = poison[0] if poison else (name_of(view.base) if view else "")
    where = f" at {poison[1]}" if poison and poison[1] else ""
    copied = f"{written} = {name}" if poison else f"{name} = {written}"
    return error(
        "GM023",
        f"{name} is used after {written} was written{where}",
        location=here(),
        operands=[describe(tracer)],
        why=f"NumPy may let the two share memory, so that the write changes {name} too, or may "
        "not: it depends on the layout.",
        hint=f"copy before writing, for example {copied}.reshape(...).copy(), or write first and "
        "reshape after.",
    )


def _read_only(tracer: Tracer, base: Tracer) -> GraphmillError:
    from graphmill.frontend.describe import describe, here, name_of

    return error(
        "GM023",
        f"{name_of(tracer)} is a read-only view of {name_of(base)}",
        location=here(),
        operands=[describe(tracer), describe(base)],
        why="NumPy gives a read-only view here (broadcast_to, diagonal, real, imag).",
        hint=f"write into a copy: {name_of(tracer)} = {name_of(tracer)}.copy()",
    )


def _captured(tracer: Tracer) -> GraphmillError:
    from graphmill.frontend.describe import describe, here, name_of

    name = name_of(tracer)
    operand = describe(tracer)
    return error(
        "GM024",
        f"{name} comes from outside this branch or loop body",
        location=here(),
        operands=[Operand(operand.name, operand.type, operand.origin)],
        why="a branch or loop body is a function of its arguments; a write in it would be lost.",
        hint=f"carry {name} through the loop (or return it from both branches), or write into "
        f"{name}.copy().",
    )
