"""Launches that are written alike become calls of one function.

A network's layers launch the same kernels for other buffers: the entry's text would grow with the
number of layers, and with it what MLIR and LLVM have to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field

from graphmill.codegen.cpu.emit import Code
from graphmill.records import record

LINES = 600  # of the entry: below this there is too little to gain
LEAST = 8  # lines of a function that is worth a call

_NAME = re.compile(r"%\w+")


@record(frozen=False)
class _Run:
    """The lines of one op: those before `body` stay, as later runs use what they define."""

    lines: list[str]
    names: dict[str, None]  # all that it mentions, in order
    body: int = 0
    outer: list[str] = field(default_factory=list)  # what the body takes from outside
    moved: list[str] = field(default_factory=list)  # stack memory that only the body uses


def share_alike(code: Code, starts: Sequence[int]) -> list[str]:
    """Move what runs of lines have in common to functions of their own; returns their symbols.

    The runs begin at the lines `starts`, the last of which ends them. Runs are alike when nothing
    but the names of values differs: outer values become parameters.
    """
    if not starts or starts[-1] < LINES:
        return []
    head = {line.split(" = ", 1)[0].strip(): line for line in code.head}
    runs = _runs(code, starts, head)
    groups: dict[tuple[str, ...], list[_Run]] = {}
    for run in runs:
        if len(run.lines) - run.body >= LEAST:
            groups.setdefault(_form(code, run, head), []).append(run)
    symbols, gone = list[str](), set[str]()
    for form, alike in groups.items():
        if len(alike) < 2:
            continue
        symbol = f"{code.name}_l{len(symbols)}"
        symbols.append(symbol)
        kinds = [code.kind(name) for name in alike[0].outer]
        shared = Code(code.unit, symbol, [(f"a{n}", kind) for n, kind in enumerate(kinds)])
        shared.head, shared.lines = list(form[1:-1]), [form[0]]
        shared.finish()
        for run in alike:
            call = f"llvm.call @{symbol}({', '.join(run.outer)}) : ({', '.join(kinds)}) -> ()"
            run.lines[run.body :] = [f"    {call}"]
            gone.update(run.moved)
    code.head = [line for name, line in head.items() if name not in gone]
    code.lines = [
        *code.lines[: starts[0]], *(line for run in runs for line in run.lines),
        *code.lines[starts[-1] :],
    ]  # fmt: skip
    return symbols


def _runs(code: Code, starts: Sequence[int], head: Mapping[str, str]) -> list[_Run]:
    """The runs of lines, each with what it keeps to itself."""
    bounds = zip(starts, [*starts[1:], len(code.lines)], strict=True)
    runs, owner = list[_Run](), dict[str, int]()
    escaping: dict[int, set[str]] = {}
    users: dict[str, int] = {}  # of stack memory
    outside = {*head, *map(str, code.args)}
    outside.update(_NAME.findall("\n".join(code.lines[: starts[0]])))
    for number, (start, stop) in enumerate(bounds):
        lines = code.lines[start:stop]
        run = _Run(lines, dict.fromkeys(_NAME.findall("\n".join(lines))))
        for name in run.names:
            if name in outside:
                users[name] = users.get(name, 0) + 1
            elif owner.setdefault(name, number) != number:
                escaping.setdefault(owner[name], set()).add(name)
        runs.append(run)
    runs.pop()  # what comes behind the last op
    for number, run in enumerate(runs):
        run.body = _kept(run.lines, escaping.get(number, set()))
        before = set(_NAME.findall("\n".join(run.lines[: run.body])))
        run.names = dict.fromkeys(_NAME.findall("\n".join(run.lines[run.body :])))
        for name in run.names:
            if name in head and "llvm.alloca" in head[name] and users[name] == 1:
                if name not in before:
                    run.moved.append(name)
                    continue
            elif name in head and " arith.constant " in head[name]:
                continue
            if name in outside or name in before or owner[name] != number:
                run.outer.append(name)
    return runs


def _kept(lines: Sequence[str], escaping: set[str]) -> int:
    """How many lines define all that is used later; all of them where a region does."""
    left = set(escaping)
    for number, line in enumerate(lines):
        if not left:
            return number
        defined = left.intersection(line.split(" = ", 1)[0].strip().split(", "))
        left -= defined
        if defined and line.endswith("{"):
            break
    return len(lines)


def _form(code: Code, run: _Run, head: Mapping[str, str]) -> tuple[str, ...]:
    """What tells alike runs: body, constants and stack memory by uniform names, and types."""
    outer = {name: f"%a{number}" for number, name in enumerate(run.outer)}
    named: dict[str, str] = {}
    start = list[str]()
    for name in run.names:
        _enter(name, named, outer, head, start)

    def uniform(match: re.Match[str]) -> str:
        return outer.get(match[0]) or named[match[0]]

    body = _NAME.sub(uniform, "\n".join(run.lines[run.body :]))
    return body, *start, ",".join(map(code.kind, run.outer))


def _enter(
    name: str, named: dict[str, str], outer: Mapping[str, str], head: Mapping[str, str],
    start: list[str],
) -> None:  # fmt: skip
    """Give a value its uniform name, and to `start` the line of the head that defines it."""
    if name in named or name in outer:
        return
    line = head.get(name)
    if line is not None:
        for part in _NAME.findall(line)[1:]:  # the size of stack memory
            _enter(part, named, outer, head, start)
    named[name] = f"%{len(named)}"
    if line is not None:
        start.append(_NAME.sub(lambda match: named[match[0]], line))
