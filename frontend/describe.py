"""Naming values in messages: the user's variable, the type, and the line a value comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphmill.frontend.errors import GraphmillError, Operand, error, source_text
from graphmill.frontend.locations import site, user_frame
from graphmill.frontend.sizes import Size
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dtypes import DTypeError, dtype
from graphmill.ir.graph import Location


def here() -> Location | None:
    """The user's line that is being executed."""
    found = site()
    return found.location if found else None


def variable_of(thing: Any) -> str:
    """The user's local or global variable that holds `thing`, or ""."""
    frame = user_frame()
    for scope in (frame.f_locals, frame.f_globals) if frame is not None else ():
        for name, held in scope.items():
            if held is thing and not name.startswith("__"):
                return name
    return ""


def name_of(thing: Any) -> str:
    """The user's variable that holds `thing`, else the expression that made it."""
    if isinstance(thing, bool | int | float | complex | str | Size) and not isinstance(
        thing, np.generic
    ):
        return str(thing) if isinstance(thing, Size) else repr(thing)
    found = variable_of(thing)
    if found:
        return found
    if not isinstance(thing, Tracer):
        return "array" if isinstance(thing, np.ndarray) else type(thing).__name__
    made = thing._value.op
    text = source_text(made.loc) if made is not None and made.loc is not None else ""
    return text if 0 < len(text) <= 40 else (thing._value.name or "value")


def describe(thing: Any) -> Operand:
    """The line of a message for one operand."""
    name = name_of(thing)
    if isinstance(thing, Tracer):
        return Operand(name, str(thing.type), origin(thing).removesuffix(f": {name}"))
    if isinstance(thing, np.ndarray | np.generic):
        try:
            text = f"{dtype(thing.dtype)}[{', '.join(map(str, thing.shape))}]"
        except DTypeError:
            text = f"{thing.dtype}{list(thing.shape)}"
        return Operand(name, text, "a NumPy array" if thing.ndim else "a NumPy scalar")
    return Operand(name, type(thing).__name__)


def origin(tracer: Tracer) -> str:
    """Where a traced value comes from."""
    value = tracer._value
    if value.op is None:
        frame = tracer._frame
        if value in frame.trace.params:
            return frame.trace.params[value]
        return "an argument of this branch or loop body"
    place = value.op.loc
    if place is None:
        return ""
    text = source_text(place)
    return f"from {place}" + (f": {text}" if text else "")


def failure(
    code: str, detail: str = "", operands: Iterable[Any] = (), *, why: str = "", hint: str = ""
) -> GraphmillError:
    """An error at the user's current line about these operands."""
    return error(
        code,
        detail,
        why=why,
        hint=hint,
        location=here(),
        operands=[describe(o) for o in operands if not _is_literal(o)],
    )


def _is_literal(thing: Any) -> bool:
    scalar = isinstance(thing, bool | int | float | complex | str | None.__class__)
    return scalar and not isinstance(thing, np.generic)
