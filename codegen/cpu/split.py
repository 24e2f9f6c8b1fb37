"""Cutting a module into pieces that are compiled side by side.

A piece is a module of its own with some of the functions, the constants they use, and declarations
of what stands in other pieces, which is hidden instead of internal there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from graphmill.codegen.cpu.emit import Code, Unit
from graphmill.codegen.cpu.literals import plain as without_places
from graphmill.codegen.cpu.llvm import Kind
from graphmill.records import record

_NAMED = re.compile(r"(addressof )?@([\w.$-]+)")

LONG = 800  # lines of entries: from here on their code generation is worth less than it takes
LINES = 600  # of MLIR: below this a piece costs more than it saves
MOST = 8


@record
class Piece:
    """MLIR text, how it is to be optimised, and the effort that code generation is worth."""

    text: str
    kind: Kind
    effort: int = 2


Start = Callable[[Piece], object]


def split(unit: Unit, entries: Collection[str]) -> list[Piece]:
    """The pieces of a unit that is written; the first one has the functions called in `entries`."""
    pieces: list[Piece] = []
    Cutter(unit, pieces.append).finish(entries)
    return pieces


class Cutter:
    """Cuts a unit into pieces and has them compiled, from the time on that they are written.

    The pieces depend on the text alone, so that equal functions give equal code everywhere.
    """

    def __init__(self, unit: Unit, start: Start) -> None:
        self._unit, self._start = unit, start
        self._seen = 0  # parts of the unit
        self._whole: Kind = "plain"  # if all is one piece
        self._lines = 0
        self._hosts: list[str] = []
        self._others: dict[str, str] = {}  # what is no function, by name
        self._waiting: dict[Kind, list[str]] = {"straight": [], "plain": [], "any": []}
        self._users: dict[str, set[str]] = {}
        self._looked_at = 0  # lines of the entry
        self._private: dict[str, str] = {}  # functions of pieces that no other one can call

    def look(self, entry: Code, entries: Collection[str]) -> None:
        """Start what has been written since and is worth a piece; `entry` is not finished yet."""
        self._take(entries)
        for line in entry.lines[self._looked_at :]:
            if "@" in line:
                self._use(line, "")
        self._looked_at = len(entry.lines)
        if self._lines < LINES:
            return
        most = self._most()
        for kind, waiting in self._waiting.items():
            if _lines(waiting) >= most:
                *full, rest = _groups(waiting, most)
                if _lines(rest) >= most:
                    full, rest = [*full, rest], []
                self._waiting[kind] = rest
                for group in full:
                    self._cut(group, kind, last=False)

    def finish(self, entries: Collection[str]) -> None:
        """Start what is left: the functions called in `entries`, those that run long, others.

        With the entries go shared functions (`gm.…`), which are written as they shall run, but
        where the entries are long and run from top to bottom: there the least effort is enough.
        """
        self._take(entries)
        waiting = self._waiting
        if self._lines < LINES:
            self._start(Piece(self._unit.text(), self._whole))
            return
        most, shared = self._most(), waiting.pop("straight")
        groups: list[tuple[list[str], Kind]] = []
        if _lines(self._hosts) > LONG and not any(map(_has_loop, self._hosts)):
            self._cut(self._hosts, "straight", effort=0)
            groups += [(group, "straight") for group in _groups(shared, most)]
        else:
            self._cut(self._hosts + shared, "straight")
        for kind, parts in waiting.items():
            groups += [(group, kind) for group in _groups(parts, most)]
        groups.sort(key=lambda group: -_lines(group[0]))  # long ones last would be waited for
        for group, kind in groups:
            self._cut(group, kind)

    def _most(self) -> int:
        return max(LINES, self._lines // MOST + 1)

    def _take(self, entries: Collection[str]) -> None:
        """Sort what has been written since."""
        parts = self._unit.parts[self._seen :]
        self._seen += len(parts)
        for part in parts:
            name = _name(part)
            if not part.endswith("\n  }"):
                self._others[name] = part
                continue
            self._lines += part.count("\n")
            if name in entries:
                self._hosts.append(part)
                self._use(part, name)
            else:
                self._wait(part, name)

    def _wait(self, part: str, name: str) -> None:
        kind: Kind = "straight"
        if not name.startswith("gm."):
            kind = "plain" if part in self._unit.plain else "any"
            if kind == "any":
                self._whole = kind
            kind = self._unit.apart.get(part, kind)
        self._waiting[kind].append(part)
        self._use(part, name)

    def _use(self, text: str, user: str) -> None:
        for addressed, name in set(_NAMED.findall(text)):
            # whoever knows an address may hand it on
            self._users.setdefault(name, set()).add("" if addressed else user)
            part = self._private.pop(name, None)
            if part is not None:  # one more, which others can call
                self._wait(part, name)

    def _cut(self, group: list[str], kind: Kind, effort: int = 2, *, last: bool = True) -> None:
        """Start a piece; unless it is one of the `last`, shared functions may be called later."""
        unit, own = self._unit, {_name(part) for part in group}
        used = {name for part in group for _, name in _NAMED.findall(part)}
        text = [part for name, part in self._others.items() if name in used]
        names = sorted(used - own)
        text += [unit.declarations[name] for name in names if name in unit.declarations]
        for part in group:
            name = _name(part)
            if self._users.get(name, own) - own or (name.startswith("gm.") and not last):
                part = part.replace("llvm.func internal @", "llvm.func hidden @", 1)
            else:
                self._private[name] = part
            text.append(part)
        body = "\n".join(text)
        if unit.places is not None:
            body = without_places(body)
        self._start(Piece(f"module {{\n{body}\n}}\n", kind, effort))


def _lines(parts: Iterable[str]) -> int:
    return sum(part.count("\n") for part in parts)


def _groups(kernels: Iterable[str], most: int) -> list[list[str]]:
    """Neighbours, of about `most` lines in all; a little more where little would be left."""
    groups: list[list[str]] = []
    room = 0
    for part in kernels:
        # a kernel's wrapper follows its body: LLVM makes one of the two
        if room <= 0 and f"@{_name(part)}_body(" not in (groups[-1] if groups else [""])[-1]:
            groups.append([])
            room = most
        groups[-1].append(part)
        room -= part.count("\n")
    if len(groups) > 1 and _lines(groups[-1]) < most // 8:
        rest = groups.pop()
        groups[-1] += rest
    return groups


def _has_loop(part: str) -> bool:
    return "scf.for" in part or "scf.while" in part


def _name(part: str) -> str:
    """The name of the function that a part defines."""
    head, _, name = part.partition("(")[0].partition("@")
    assert head.lstrip().startswith("llvm."), f"no definition: {part[:80]}"
    return name
