"""Errors a user meets: one format, one table of codes, tracebacks without internal frames.

Each error shows a code and title, the user's line with carets under the expression, every operand
with its name, type and origin, why it cannot be, and what to write instead. `docs/errors/` has a
page per code.
"""

from __future__ import annotations

import linecache
import textwrap
from collections.abc import Sequence
from types import TracebackType

from graphmill.ir.graph import Location
from graphmill.records import record

# code -> (title, the built-in exception that it also is)
CODES: dict[str, tuple[str, type[Exception]]] = {
    "GM001": ("A traced value has no truth value", TypeError),
    "GM002": ("A traced value is no Python number", TypeError),
    "GM003": ("A traced value cannot be iterated or measured", TypeError),
    "GM004": ("A traced value cannot become a NumPy array", TypeError),
    "GM005": ("A symbolic dim has no value while tracing", TypeError),
    "GM010": ("NumPy function not supported", TypeError),
    "GM011": ("Argument of a NumPy function not supported", TypeError),
    "GM012": ("Ufunc method not supported", TypeError),
    "GM013": ("Arrays have no such attribute", AttributeError),
    "GM014": ("Shapes do not match", ValueError),
    "GM015": ("Not defined for this dtype", TypeError),
    "GM016": ("Axis out of range", ValueError),
    "GM017": ("The shape does not fit", ValueError),
    "GM018": ("The value does not fit the dtype", TypeError),
    "GM019": ("Dtype not supported", TypeError),
    "GM020": ("Invalid index", IndexError),
    "GM021": ("A boolean mask must be known while tracing", TypeError),
    "GM022": ("Slice bounds must be known while tracing", TypeError),
    "GM023": ("A write would be seen through another array", ValueError),
    "GM024": ("A captured array cannot be written here", ValueError),
    "GM025": ("Invalid value of an argument", ValueError),
    "GM030": ("A traced value outlived its trace", RuntimeError),
    "GM031": ("No function is being traced", RuntimeError),
    "GM040": ("An argument is no array", TypeError),
    "GM041": ("A result is no array", TypeError),
    "GM042": ("A static argument is not hashable", TypeError),
    "GM043": ("Text is no spec", ValueError),
    "GM044": ("Arguments do not fit the function", TypeError),
    "GM045": ("Invalid dynamic dims", ValueError),
    "GM046": ("Structures differ", TypeError),
    "GM047": ("A donated argument cannot be reused", ValueError),
    "GM050": ("Branches give different results", TypeError),
    "GM051": ("A loop's state changes its type", TypeError),
    "GM052": ("A predicate must be one bool", TypeError),
    "GM053": ("Scan lengths differ", ValueError),
    "GM060": ("Index out of bounds at run time", IndexError),
    "GM061": ("Not a finite number at run time", FloatingPointError),
    "GM062": ("An axis is too short at run time", ValueError),
}


# Reasons and hints are wrapped at this many columns.
WIDTH = 96


@record
class Operand:
    """One operand in a message: its name, its type, and where it comes from."""

    name: str
    type: str
    origin: str = ""


class GraphmillError(Exception):
    """An error in the user's program.

    `code` (`GM014`) and `title` tell its kind, `location` the user's line, `operands` the values
    involved, `detail` what happened, `why` the reason and `hint` what to write instead. It is
    also a TypeError, ValueError, … as the code's row in `CODES` says.
    """

    code: str
    title: str

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        why: str = "",
        hint: str = "",
        location: Location | None = None,
        operands: Sequence[Operand] = (),
    ) -> None:
        self.code = code
        self.title = CODES[code][0]
        self.detail = detail
        self.why = why
        self.hint = hint
        self.location = location
        self.operands = tuple(operands)
        super().__init__(str(self))

    def __str__(self) -> str:
        return "\n".join(_render(self))


def _class(base: type[Exception]) -> type[GraphmillError]:
    made = type("GraphmillError", (GraphmillError, base), {"__doc__": GraphmillError.__doc__})
    made.__module__ = "graphmill"
    return made


GraphmillError.__module__ = "graphmill"
_CLASSES = {base: _class(base) for base in {row[1] for row in CODES.values()}}


def error(
    code: str,
    detail: str = "",
    *,
    why: str = "",
    hint: str = "",
    location: Location | None = None,
    operands: Sequence[Operand] = (),
) -> GraphmillError:
    """The error of this code, an instance of the code's built-in exception too."""
    made = _CLASSES[CODES[code][1]]
    return made(code, detail, why=why, hint=hint, location=location, operands=operands)


def source_line(location: Location) -> str:
    """The user's line without its line end; empty when the source is not at hand."""
    return linecache.getline(location.file, location.line).rstrip()


def source_text(location: Location) -> str:
    """The expression at a location (its first line)."""
    line = source_line(location)
    start, end = _columns(location, line)
    return line[start:end].strip()


def _columns(location: Location, line: str) -> tuple[int, int]:
    """Character columns from byte columns; an end of 0 means the end of the line."""
    raw = line.encode()
    start = len(raw[: location.column].decode(errors="replace"))
    end = len(raw[: location.end_column].decode(errors="replace"))
    return (start, end) if end > start else (start, len(line))


def _render(error: GraphmillError) -> list[str]:
    head = f"{error.code} {error.title}"
    lines = [f"{head}: {error.detail}" if error.detail else head]
    if error.location is not None:
        lines += ["", *_render_place(error.location)]
    if error.operands:
        wide = max(len(o.name) for o in error.operands)
        deep = max(len(o.type) for o in error.operands)
        lines.append("")
        for o in error.operands:
            lines.append(f"  {o.name:>{wide}}: {o.type:{deep}}  {o.origin}".rstrip())
    lines.append("")
    for label, text in (("Why", error.why), ("Instead", error.hint)):
        if text:
            lines += textwrap.wrap(
                f"{label}: {text}", WIDTH, initial_indent="  ", subsequent_indent="    ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    lines.append(f"  More: docs/errors/{error.code}.md")
    return lines


def _render_place(location: Location) -> list[str]:
    """The line with carets, and the user's calls that led to it."""
    where = f" in {location.function}" if location.function else ""
    lines = [f'  File "{location.file}", line {location.line},{where}'.rstrip(",")]
    text = source_line(location)
    if text:
        start, end = _columns(location, text)
        indent = len(text) - len(text.lstrip())
        lines.append("    " + text[indent:])
        lines.append("    " + " " * (start - indent) + "^" * max(end - start, 1))
    caller = location.caller
    while caller is not None:
        code = source_text(caller)
        lines.append(f"  called from {caller}" + (f": {code}" if code else ""))
        caller = caller.caller
    return lines


def hide_internal_frames(error: BaseException) -> BaseException:
    """Leave only the user's frames in the error's traceback; for use at the API's boundary."""
    from graphmill.frontend.locations import is_internal

    kept: list[TracebackType] = []
    entry = error.__traceback__
    while entry is not None:
        if not is_internal(entry.tb_frame.f_code):
            kept.append(entry)
        entry = entry.tb_next
    for this, following in zip(kept, [*kept[1:], None], strict=False):
        this.tb_next = following
    return error.with_traceback(kept[0] if kept else None)
