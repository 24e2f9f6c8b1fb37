"""Cutting a module into pieces that are compiled side by side.

A piece is a module of its own with some of the functions, the constants they use, and declarations
of what stands in other pieces, which is hidden instead of internal there.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from graphmill.codegen.cpu.emit import Unit
from graphmill.codegen.cpu.literals import plain

_DEFINED = r"\s*llvm\.(?:func|mlir\.global)[^@]*@([\w.$-]+)"
_NAMED = r"@([\w.$-]+)"

LINES = 600  # of MLIR: below this a piece costs more than it saves
MOST = 8


class Piece(NamedTuple):
    """MLIR text, and whether LLVM's optimiser finds next to nothing to do in it."""

    text: str
    straight: bool


def split(unit: Unit, straight: Collection[str]) -> list[Piece]:
    """The unit's pieces; the first one has the functions called in `straight`.

    So has it the shared functions (`gm.…`): they are written as they shall run. The number of
    pieces depends on the text alone, so that equal functions give equal code everywhere.
    """
    functions = [part for part in unit.parts if part.endswith("\n  }")]
    others = [part for part in unit.parts if not part.endswith("\n  }")]
    lines = sum(part.count("\n") for part in functions)
    if lines < LINES:
        return [Piece(unit.text(), False)]
    groups: list[list[str]] = [[]]
    room = 0
    most = max(LINES, lines // MOST + 1)
    for part in functions:
        name = _name(part)
        if name in straight or name.startswith("gm."):
            groups[0].append(part)
            continue
        # a kernel's wrapper follows its body: LLVM makes one of the two
        if room <= 0 and f"@{name}_body(" not in (groups[-1] or [""])[-1]:
            groups.append([])
            room = most
        groups[-1].append(part)
        room -= part.count("\n")
    return [_piece(unit, g, functions, others, k == 0) for k, g in enumerate(groups) if g]


def _name(part: str) -> str:
    match = re.match(_DEFINED, part)
    assert match is not None, f"no definition: {part[:80]}"
    return match[1]


def _piece(
    unit: Unit, group: list[str], functions: list[str], others: list[str], straight: bool
) -> Piece:
    own = {_name(part) for part in group}
    used = {name for part in group for name in re.findall(_NAMED, part)}
    elsewhere = {
        name for part in functions if _name(part) not in own for name in re.findall(_NAMED, part)
    }
    text = [part for part in others if _name(part) in used]
    text += [unit.declarations[name] for name in sorted(used - own) if name in unit.declarations]
    for part in group:
        if _name(part) in elsewhere:
            part = part.replace("llvm.func internal @", "llvm.func hidden @", 1)
        text.append(part)
    body = "\n".join(text)
    if unit.places is not None:
        body = plain(body)
    return Piece(f"module {{\n{body}\n}}\n", straight)
