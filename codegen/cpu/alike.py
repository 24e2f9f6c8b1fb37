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

_NAME = re.compile(r"(%\w+)")


@record(frozen=False)
class _Run:
    """The lines of one op: those before `body` stay, as later runs use what they define.

    `text` is the body's text around its `names`; all that is neither given to it from `outer`
    values nor a constant or stack memory of the function's start (`head`) is its own.
    """

    lines: list[str]
    text: list[str]
    names: list[str]
    body: int = 0
    outer: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)


def share_alike(code: Code, starts: Sequence[int]) -> list[str]:
    """Move what runs of lines have in common to functions of their own; returns their symbols.

    The runs begin at the lines `starts`, the last of which ends them. Runs are alike when nothing
    but the names of values differs: outer values become parameters.
    """
    if not starts or starts[-1] < LINES:
        return []
    head = {line.split(" = ", 1)[0].strip(): line for line in code.head}
    runs = _runs(code, starts, head)
    groups: dict[object, list[_Run]] = {}
    for run in runs:
        if len(run.lines) - run.body >= LEAST:
            groups.setdefault(_form(code, run, head), []).append(run)
    symbols, moved = list[str](), set[str]()
    for alike in groups.values():
        if len(alike) > 1:
            symbols.append(f"{code.name}_l{len(symbols)}")
            kinds = _write(code, symbols[-1], alike[0], head)
            for run in alike:
                moved.update(name for name in run.head if _is_memory(head[name]))
                given = f"({', '.join(run.outer)}) : ({', '.join(kinds)})"
                run.lines[run.body :] = [f"    llvm.call @{symbols[-1]}{given} -> ()"]
    code.head = [line for name, line in head.items() if name not in moved]
    between = [line for run in runs for line in run.lines]
    code.lines = [*code.lines[: starts[0]], *between, *code.lines[starts[-1] :]]
    return symbols


def _write(code: Code, symbol: str, run: _Run, head: Mapping[str, str]) -> list[str]:
    """Write the function of runs that are like `run`; returns its parameters' types."""
    kinds = [_kind(code, name) for name in run.outer]
    shared = Code(code.unit, symbol, [(f"a{n}", kind) for n, kind in enumerate(kinds)])
    given = {name: str(arg) for name, arg in zip(run.outer, shared.args, strict=True)}
    needed = {size: None for name in run.head for size in _NAME.findall(head[name])}
    shared.head = [head[name] for name in sorted(needed, key=list(head).index)]
    names = [given.get(name, name) for name in run.names]
    text = [part for pair in zip(run.text, [*names, ""], strict=True) for part in pair]
    shared.lines = ["".join(text)]
    shared.finish()
    return kinds


def _runs(code: Code, starts: Sequence[int], head: Mapping[str, str]) -> list[_Run]:
    """The runs of lines, each with what it keeps to itself."""
    outside = {*head, *map(str, code.args), *_NAME.findall("\n".join(code.lines[: starts[0]]))}
    runs, owner = list[_Run](), dict[str, int]()
    escaping: dict[int, set[str]] = {}
    users: dict[str, int] = {}
    bounds = zip(starts, [*starts[1:], len(code.lines)], strict=True)
    for number, (start, stop) in enumerate(bounds):
        lines = code.lines[start:stop]
        parts = _NAME.split("\n".join(lines))
        runs.append(_Run(lines, parts[::2], parts[1::2]))
        for name in set(runs[-1].names):
            if name in outside:
                users[name] = users.get(name, 0) + 1
            elif owner.setdefault(name, number) != number:
                escaping.setdefault(owner[name], set()).add(name)
    runs.pop()  # what comes behind the last op
    for number, run in enumerate(runs):
        before = set[str]()
        if number in escaping:
            before = _keep(run, escaping[number])
        for name in dict.fromkeys(run.names):
            line = head.get(name, "")
            own = _is_memory(line) and users[name] == 1 and name not in before
            if own or " arith.constant " in line:
                run.head.append(name)
            elif name in outside or name in before or owner[name] != number:
                run.outer.append(name)
    return runs


def _is_memory(line: str) -> bool:
    return " llvm.alloca " in line


def _keep(run: _Run, escaping: set[str]) -> set[str]:
    """Leave the lines up to those that define what is used later; returns the names in them.

    That is the whole run where a region defines it.
    """
    left = set(escaping)
    while left:
        line = run.lines[run.body]
        defined = left.intersection(line.split(" = ", 1)[0].strip().split(", "))
        left -= defined
        run.body = len(run.lines) if defined and line.endswith("{") else run.body + 1
        if run.body == len(run.lines):
            break
    count = len(_NAME.findall("\n".join(run.lines[: run.body])))
    before = set(run.names[:count])
    run.names, run.text = run.names[count:], run.text[count:]
    run.text[0] = run.text[0].partition("\n")[2]  # behind the line of the last name
    return before


def _form(code: Code, run: _Run, head: Mapping[str, str]) -> object:
    """What tells alike runs: text, places of names, and what stands outside."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(run.names))}
    given = [(numbers[name], _kind(code, name)) for name in run.outer]
    known = [(numbers[name], _meaning(head[name], head)) for name in run.head]
    return (*run.text, *map(numbers.__getitem__, run.names), *given, *known)


def _meaning(line: str, head: Mapping[str, str]) -> str:
    """A line of the head without names: its operand, a size, stands for itself."""
    return _NAME.sub(lambda m: _meaning(head[m[0]], head), line.split(" = ", 1)[1])


def _kind(code: Code, name: str) -> str:
    """The type of an argument or of a value that is no constant."""
    if name[1:].isdigit():
        return code.kinds[int(name[1:]) - 1]
    return next(arg.type for arg in code.args if arg.name == name)
