"""Where in the user's code an op comes from, found cheaply from the interpreter's frames.

Frames of Graphmill and NumPy are skipped. Everything about one bytecode position (line, columns,
the variable that the result is stored in) is computed once and kept.
"""

from __future__ import annotations

import opcode
import os.path
import re
import sys
from types import CodeType, FrameType

import numpy as np

from graphmill.ir.graph import Location
from graphmill.records import record

MAX_DEPTH = 8
MAX_CODES = 4096

# The stages stand beside this folder; the face is a folder of its own in a checkout.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOLDERS = [
    os.path.join(_ROOT, name) for name in ("frontend", "ir", "passes", "codegen", "runtime")
]
_FACE = os.path.join(_ROOT, "graphmill")
_FOLDERS += [_FACE if os.path.isdir(_FACE) else _ROOT]
_FOLDERS += [os.path.dirname(os.path.abspath(np.__file__))]
_INTERNAL = tuple(os.path.join(folder, "") for folder in _FOLDERS)

_STORE_FAST, _STORE_DEREF = opcode.opmap["STORE_FAST"], opcode.opmap["STORE_DEREF"]
_STORE_NAMES = {opcode.opmap["STORE_NAME"], opcode.opmap["STORE_GLOBAL"]}
_STORE_FAST_PAIR = opcode.opmap.get("STORE_FAST_LOAD_FAST")
_CACHE, _RETURN = opcode.opmap["CACHE"], opcode.opmap["RETURN_VALUE"]
# What `stored_name` gives for a value that is returned at once: its name is the caller's.
RETURNED = "return"


@record(eq=False)
class Site:
    """A bytecode position in user code: its location, and the variable its value goes to."""

    location: Location
    name: str


class _Code:
    """What is known of a code object; it holds the object so that its id stays taken."""

    __slots__ = ("code", "ends", "internal", "positions", "sites")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.ends = id(code) in _BOUNDARIES
        name = code.co_filename
        self.internal = name.startswith(_INTERNAL) or name.startswith("<__array_function__")
        self.positions: list[tuple[int | None, int | None, int | None, int | None]] | None = None
        self.sites: dict[tuple[int, int], Site] = {}

    def site(self, offset: int, caller: Site | None) -> Site:
        key = (offset, id(caller))
        found = self.sites.get(key)
        if found is None:
            found = self.sites[key] = self._make(offset, caller)
        return found

    def _make(self, offset: int, caller: Site | None) -> Site:
        if self.positions is None:
            self.positions = list(self.code.co_positions())
        line, end_line, column, end_column = self.positions[offset // 2]
        one_line = line == end_line and end_column is not None
        location = Location(
            self.code.co_filename, line or self.code.co_firstlineno, column or 0,
            (end_column or 0) if one_line else 0, self.code.co_qualname.split(".<locals>.")[-1],
            caller.location if caller is not None else None,
        )  # fmt: skip
        name = stored_name(self.code, offset)
        if name == RETURNED:
            name = caller.name if caller is not None else ""
        return Site(location, name)


_CODES: dict[int, _Code] = {}
_BOUNDARIES: set[int] = set()


def _known(code: CodeType) -> _Code:
    found = _CODES.get(id(code))
    if found is None:
        if len(_CODES) > MAX_CODES:
            _CODES.clear()
        found = _CODES[id(code)] = _Code(code)
    return found


def is_internal(code: CodeType) -> bool:
    """Whether the code is Graphmill's or NumPy's."""
    return _known(code).internal


def boundary(code: CodeType) -> None:
    """Let the frames below (and those that called) this function of ours be in no location."""
    _BOUNDARIES.add(id(code))
    _known(code).ends = True


def user_frame() -> FrameType | None:
    """The innermost frame of user code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _known(frame.f_code).internal:
        frame = frame.f_back
    return frame


def calls(frame: FrameType, name: str) -> bool:
    """Whether user code in `frame` calls the function of this name itself.

    Compiled libraries that call it have no frames of their own: the text of the call tells, or,
    without the source, whether the code knows the name at all.
    """
    from graphmill.frontend.errors import source_line, source_text

    code = frame.f_code
    if _known(code).internal:
        return False
    location = _known(code).site(frame.f_lasti, None).location
    if not source_line(location):
        return name in code.co_names
    return re.match(rf"(\w+\s*\.\s*)*{name}\s*[(\[]", source_text(location)) is not None


def site() -> Site | None:
    """The place in the user's code that is being executed, with its callers."""
    frame: FrameType | None = sys._getframe(1)
    chain: list[tuple[_Code, int]] = []
    find = _CODES.get  # a dozen frames for every op: this loop is a good part of a trace
    while frame is not None and len(chain) < MAX_DEPTH:
        code = frame.f_code
        known = find(id(code)) or _known(code)
        if not known.internal:
            chain.append((known, frame.f_lasti))
        elif known.ends:
            break
        frame = frame.f_back
    found: Site | None = None
    for known, offset in reversed(chain):
        found = known.site(offset, found)
    return found


def operation() -> str:
    """Whether the user's code is at a subscript: `read`, `write`, or neither ("")."""
    frame = user_frame()
    if frame is None or frame.f_lasti < 0:
        return ""
    name = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
    if name == "STORE_SUBSCR":
        return "write"
    return "read" if name in ("BINARY_SUBSCR", "BINARY_OP") and _is_subscript(frame) else ""


def _is_subscript(frame: FrameType) -> bool:
    """Since Python 3.14 a subscript is one of the binary operations."""
    from graphmill.frontend.errors import source_text

    found = _known(frame.f_code).site(frame.f_lasti, None)
    return source_text(found.location).endswith("]")


def stored_name(code: CodeType, offset: int) -> str:
    """The variable that the value made at a bytecode offset is stored in right away, or "".

    `RETURNED` for one that is returned.
    """
    raw = code.co_code
    at = offset + 2
    while at < len(raw) and raw[at] == _CACHE:
        at += 2
    if offset < 0 or at >= len(raw):
        return ""
    op, arg = raw[at], raw[at + 1]
    if op == _RETURN:
        return RETURNED
    if op in (_STORE_FAST, _STORE_DEREF):
        names = code.co_varnames
        names += tuple(n for n in code.co_cellvars if n not in names) + code.co_freevars
        return names[arg] if arg < len(names) else ""
    if op in _STORE_NAMES:
        return code.co_names[arg] if arg < len(code.co_names) else ""
    if op == _STORE_FAST_PAIR and arg >> 4 < len(code.co_varnames):
        return code.co_varnames[arg >> 4]
    return ""


def definition(function: object) -> Location | None:
    """Where a function is defined; None for one without Python code."""
    while True:
        inner = getattr(function, "__wrapped__", getattr(function, "func", None))
        if inner is None:
            break
        function = inner
    code = getattr(function, "__code__", getattr(type(function).__call__, "__code__", None))
    if not isinstance(code, CodeType):
        return None
    return Location(code.co_filename, code.co_firstlineno, 0, 0, code.co_qualname)
