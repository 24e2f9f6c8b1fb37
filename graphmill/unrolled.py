"""Tells which Python loops stay unrolled where that makes compiling slow."""

from __future__ import annotations

import warnings
from collections import Counter

from graphmill.driver import MANY
from graphmill.ir.graph import Function, Location

SHARE = 0.2  # of them from one line: a loop, not a large program


class UnrolledWarning(UserWarning):
    """A Python loop was traced turn by turn, which compiles slowly."""


def warn_of_unrolled(rolled: Function) -> None:
    """Warn where a function, its loops rolled as far as they can be, has very many ops."""
    ops = list(rolled.walk())
    if len(ops) < MANY:
        return
    lines: Counter[tuple[str, int]] = Counter()
    places: dict[tuple[str, int], Location] = {}
    for op in ops:
        if op.loc is not None:
            lines[op.loc.file, op.loc.line] += 1
            places.setdefault((op.loc.file, op.loc.line), op.loc)
    for line, count in lines.most_common(1):
        if count >= SHARE * len(ops):
            warnings.warn(
                f"{rolled.name} has {len(ops)} ops, {count} of them from {places[line]}: a Python "
                "loop is traced turn by turn and compiles slowly. gm.fori_loop and gm.scan stay "
                "loops; turns that are alike but for numbers, and sizes that grow evenly, become "
                "one by themselves",
                UnrolledWarning,
                stacklevel=2,
            )
