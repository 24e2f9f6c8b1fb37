"""Cutting a module into pieces that are compiled side by side.

A piece is a module of its own with some of the functions, the constants they use, and declarations
of what stands in other pieces, which is hidden instead of internal there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from graphmill.codegen.cpu.emit import Unit
from graphmill.codegen.cpu.literals import plain as without_places
from graphmill.codegen.cpu.llvm import Kind
from graphmill.records import record

_NAMED = r"@([\w.$-]+)"

LONG = 800  # lines of entries: from here on their code generation is worth less than it takes
LINES = 600  # of MLIR: below this a piece costs more than it saves
MOST = 8


@record
class Piece:
    """MLIR text, how it is to be optimised, and the effort that code generation is worth."""

    text: str
    kind: Kind
    effort: int = 2


def split(unit: Unit, entries: Collection[str]) -> list[Piece]:
    """The unit's pieces; the first one has the functions called in `entries`.

    So has it the shared functions (`gm.…`), which are written as they shall run, but where the
    entries are long and run from top to bottom: there the least effort is enough. The number of
    pieces depends on the text alone, so that equal functions give equal code everywhere.
    """
    functions = [part for part in unit.parts if part.endswith("\n  }")]
    others = [part for part in unit.parts if not part.endswith("\n  }")]
    hosts = [part for part in functions if _name(part) in entries]
    shared = [part for part in functions if _name(part).startswith("gm.")]
    kernels = [part for part in functions if part not in hosts and part not in shared]
    plain = [part for part in kernels if part in unit.plain]
    lines = _lines(functions)
    if lines < LINES:
        return [Piece(unit.text(), "plain" if plain == kernels else "any")]
    most = max(LINES, lines // MOST + 1)
    apart = _lines(hosts) > LONG and not any(map(_has_loop, hosts))
    first: tuple[list[str], Kind, int] = (hosts + shared, "straight", 2)
    more: list[tuple[list[str], Kind, int]] = []
    if apart:
        first = hosts, "straight", 0
        more = [(group, "straight", 2) for group in _groups(shared, most)]
    rest = [part for part in kernels if part not in unit.plain]
    more += [(group, "plain", 2) for group in _groups(plain, most)]
    more += [(group, "any", 2) for group in _groups(rest, most)]
    more.sort(key=lambda piece: -_lines(piece[0]))  # long ones last would be waited for
    return [_piece(unit, functions, others, *piece) for piece in (first, *more) if piece[0]]


def _lines(parts: Iterable[str]) -> int:
    return sum(part.count("\n") for part in parts)


def _groups(kernels: Iterable[str], most: int) -> list[list[str]]:
    """Neighbours, of about `most` lines in all."""
    groups: list[list[str]] = []
    room = 0
    for part in kernels:
        # a kernel's wrapper follows its body: LLVM makes one of the two
        if room <= 0 and f"@{_name(part)}_body(" not in (groups[-1] if groups else [""])[-1]:
            groups.append([])
            room = most
        groups[-1].append(part)
        room -= part.count("\n")
    return groups


def _has_loop(part: str) -> bool:
    return "scf.for" in part or "scf.while" in part


def _name(part: str) -> str:
    """The name of the function that a part defines."""
    head, _, name = part.partition("(")[0].partition("@")
    assert head.lstrip().startswith("llvm."), f"no definition: {part[:80]}"
    return name


def _piece(
    unit: Unit,
    functions: list[str],
    others: list[str],
    group: list[str],
    kind: Kind,
    effort: int,
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
        body = without_places(body)
    return Piece(f"module {{\n{body}\n}}\n", kind, effort)
