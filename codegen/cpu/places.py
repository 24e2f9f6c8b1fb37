"""Places: which op, and so which of the user's lines, every emitted instruction comes from.

Only dumps ask. Then each line of the MLIR that is written ends in `loc(#pN)`, where N counts the
ops. A second copy of the module, with these as real locations, goes through MLIR and LLVM as debug
info and comes back as comments (`# mlp.py:12 %h`) on LLVM IR and assembly. The code that runs is
made from the text without them. A location's line is the user's; its column is our number for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from graphmill.codegen.cpu.literals import MARK, plain
from graphmill.ir.graph import Function, Location, Op
from graphmill.ir.printer import Names

FIRST = 1 << 14  # columns from here on are ours: what MLIR's parser makes up is below
LAST = (1 << 16) - 1  # the largest column that LLVM keeps
MOST_NAMES = 12  # values that a comment names for one line

_MARK = re.compile(MARK)
_FUNCTION = re.compile(r"\s*llvm\.func (?:internal )?@([\w.$]+)\(")
_NOWHERE = Location("<graphmill>", 0)


class Places:
    """The ops of a planned function by number, and what is written for which of them."""

    def __init__(self, function: Function) -> None:
        self._names = Names(function)
        self._here = function.loc or _NOWHERE
        self._ops: list[Op | None] = [None]
        self._numbers: dict[Op, int] = {}
        for op in function.walk():
            self._numbers[op] = len(self._ops)
            self._ops.append(op)
        self._current = 0
        self._kernel: Op | None = None  # the op of a block that is being lowered
        self._users: dict[str, dict[Op | None, None]] = {}  # by the symbol of an emitted function
        self.used: list[str] = []  # every symbol written or asked for again, in order
        self._columns: dict[tuple[str, int], int] = {}

    # ---- while the module is written

    @contextmanager
    def lowering(self, op: Op) -> Iterator[None]:
        """What is written inside belongs to `op` of a block, as far as nothing else is said."""
        before, self._kernel = self._kernel, op
        with self.at(op):
            yield
        self._kernel = before

    @contextmanager
    def at(self, op: Op) -> Iterator[None]:
        """What is written inside computes `op`, which may be a copy of one of the function's."""
        before, self._current = self._current, self._number(op)
        yield
        self._current = before

    def _number(self, op: Op) -> int:
        if op not in self._numbers and self._kernel is not None and op.block is not None:
            inside = [o for region in self._kernel.regions for o in region.block.ops]
            for copy, original in zip(op.block.ops, inside or [self._kernel], strict=False):
                if copy.name == original.name:  # copies keep the order of a region's ops
                    self._numbers.setdefault(copy, self._numbers[original])
        return self._numbers.get(op, self._current)

    def mark(self, text: str) -> str:
        """A line of MLIR with its place; one that opens a region has it where that closes."""
        opens = text.endswith("{") or text.startswith("^")
        return text if opens else f"{text} loc(#p{self._current})"

    def use(self, symbol: str) -> None:
        """The function `symbol` is written, or wanted again, for the op being lowered."""
        self._users.setdefault(symbol, {})[self._kernel] = None
        self.used.append(symbol)

    def merge(self, kept: str, dropped: str) -> None:
        """The function `dropped` is equal to `kept` and not written after all."""
        self._users[kept] |= self._users.pop(dropped, {})

    # ---- the module with locations

    def located(self, parts: Sequence[str]) -> str:
        """The module of `parts` as MLIR text with debug locations."""
        scopes = _Scopes(self._here)
        body, ends = [], []
        for part in parts:
            match = _FUNCTION.match(part)
            if match is None or not part.endswith("}"):
                body.append(plain(part))
                continue
            symbol, numbers = match[1], {int(n) for n in _MARK.findall(part)}
            scope = scopes.function(symbol, self._loc(symbol))
            for number in sorted(numbers):
                op = self._ops[number]
                loc = op.loc if op is not None and op.loc else _NOWHERE
                column = self._column(symbol, number)
                ends.append(f"#p{column} = {scopes.place(scope, loc, column)}")
            body.append(
                _MARK.sub(lambda m, s=symbol: f" loc(#p{self._column(s, int(m[1]))})", part)  # type: ignore[misc]
                + f" loc({scope})"
            )
        ends += scopes.functions
        return "\n".join([*scopes.attributes, "module {", *body, "}", *ends, ""])

    def _loc(self, symbol: str) -> Location:
        op = next((op for op in self._users.get(symbol, ()) if op is not None), None)
        return op.loc if op is not None and op.loc else self._here

    def _column(self, symbol: str, number: int) -> int:
        return self._columns.setdefault((symbol, number), min(FIRST + len(self._columns), LAST))

    # ---- comments

    def mlir(self, parts: Sequence[str]) -> str:
        """The module of `parts` with a comment on each line that computes an op."""
        texts = ["module {"]
        for part in parts:
            match = _FUNCTION.match(part)
            symbol = match[1] if match else ""
            for line in part.split("\n"):
                mark = _MARK.search(line)
                said = self._said(symbol, int(mark[1])) if mark else ""
                texts.append(plain(line) + (f"  // {said}" if said else ""))
        return "\n".join([*texts, "}", ""])

    def llvm(self, text: str) -> str:
        """LLVM IR with debug locations as comments instead."""
        return _Metadata(text, self._comments()).text()

    def assembly(self, text: str, mark: str) -> str:
        """Assembly with comments, which start with `mark`, instead of debug and unwind tables."""
        return _assembly(text, self._comments(), mark)

    def _comments(self) -> dict[int, str]:
        return {column: self._said(*key) for key, column in self._columns.items() if column < LAST}

    def _said(self, symbol: str, number: int) -> str:
        """`mlp.py:12 %h` for the op; `mlp.py:12 %h %h1, mlp.py:20 %y` where more share the code."""
        op = self._ops[number]
        if op is None or op.name == "fusion":
            return ""
        writer, *others = self._users.get(symbol, {None: None})
        found = [op, *(like for other in others for like in _counterparts(op, writer, other))]
        lines: dict[str, dict[str, None]] = {}
        for like in found:
            if like.loc:
                names = lines.setdefault(str(like.loc), {})
                names |= dict.fromkeys(self._names[result] for result in like.results[:1])
        return ", ".join(" ".join([line, *_few(names)]) for line, names in lines.items())


def _few(names: Iterable[str]) -> list[str]:
    found = list(names)
    return found if len(found) <= MOST_NAMES else [*found[:MOST_NAMES], "…"]


def _counterparts(op: Op, writer: Op | None, other: Op | None) -> list[Op]:
    """What `op`, a part of the lowering of `writer`, is in the lowering of `other`."""
    if writer is None or other is None or op is writer:
        return [] if other is None else [other]
    ops, others = (
        [o for region in outer.regions for o in region.block.ops] for outer in (writer, other)
    )
    if op in ops and [o.name for o in ops] == [o.name for o in others]:
        return [others[ops.index(op)]]
    return [o for o in others or [other] if o.name == op.name]


class _Scopes:
    """MLIR's attributes for files and functions, each written once."""

    def __init__(self, loc: Location) -> None:
        self._files: dict[str, str] = {}
        self._blocks: dict[tuple[str, str], str] = {}
        self._home: dict[str, str] = {}
        self.attributes: list[str] = []
        self.functions: list[str] = []
        self.attributes.append(
            f"#unit = #llvm.di_compile_unit<id = distinct[0]<>, sourceLanguage = DW_LANG_Python, "
            f'file = {self._file(loc)}, producer = "Graphmill", isOptimized = true, '
            "emissionKind = LineTablesOnly>"
        )
        self.attributes.append("#type = #llvm.di_subroutine_type<>")

    def _file(self, loc: Location) -> str:
        if loc.file not in self._files:
            name = self._files[loc.file] = f"#file{len(self._files)}"
            folder, _, base = loc.file.rpartition("/")
            self.attributes.append(f"{name} = #llvm.di_file<{_quoted(base)} in {_quoted(folder)}>")
        return self._files[loc.file]

    def function(self, symbol: str, loc: Location) -> str:
        """The alias of the location of the function `symbol`, which lines may have as scope."""
        number, file = len(self.functions), self._file(loc)
        self.attributes.append(
            f"#scope{number} = #llvm.di_subprogram<id = distinct[{number + 1}]<>, "
            f"compileUnit = #unit, scope = {file}, name = {_quoted(symbol)}, "
            f"linkageName = {_quoted(symbol)}, file = {file}, line = {loc.line}, "
            f'scopeLine = {loc.line}, subprogramFlags = "Definition|Optimized", type = #type>'
        )
        self.functions.append(f"#f{number} = loc(fused<#scope{number}>[{_at(loc, 0)}])")
        self._home[f"#f{number}"] = loc.file
        return f"#f{number}"

    def place(self, function: str, loc: Location, column: int) -> str:
        """The location of a line of the function, from the same file or another."""
        scope = function.replace("#f", "#scope")
        if loc is not _NOWHERE and loc.file != self._home[function]:
            if (function, loc.file) not in self._blocks:
                name = self._blocks[function, loc.file] = f"#block{len(self._blocks)}"
                self.attributes.append(
                    f"{name} = #llvm.di_lexical_block_file<scope = {scope}, "
                    f"file = {self._file(loc)}, discriminator = 0>"
                )
            scope = self._blocks[function, loc.file]
        return f"loc(fused<{scope}>[{_at(loc, column)}])"


def _at(loc: Location, column: int) -> str:
    return f"{_quoted(loc.file)}:{loc.line}:{column}"


def _quoted(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}"
                         for b in data) + '"'  # fmt: skip


_MADE_UP = re.compile(r"^(!\d+ = !DILocation\(line: )\d+, column: (\d+)", re.MULTILINE)


def without_made_up(text: str) -> str:
    """LLVM IR without the locations that MLIR's parser gives to what has none: places in the text
    it reads."""

    def fix(match: re.Match[str]) -> str:
        return match[0] if int(match[2]) >= FIRST else f"{match[1]}0, column: 0"

    return _MADE_UP.sub(fix, text)


_LOCATION = re.compile(r"!(\d+) = (?:distinct )?!DILocation\(line: (\d+), column: (\d+)")
_DEBUG = re.compile(r"!(\d+) = (?:distinct )?!(?:DI|\{i32 2, !\"Debug Info Version\"|\{\}$)")
_USE = re.compile(r",? !dbg !(\d+)")


class _Metadata:
    """LLVM IR text whose debug metadata becomes comments."""

    def __init__(self, text: str, comments: dict[int, str]) -> None:
        self._lines = text.splitlines()
        self._said: dict[str, str] = {}
        self._dropped: set[str] = set()
        for line in self._lines:
            if match := _LOCATION.match(line):
                self._said[match[1]] = comments.get(int(match[3]), "") if match[2] != "0" else ""
            if match := _DEBUG.match(line):
                self._dropped.add(match[1])

    def text(self) -> str:
        return "\n".join(self._kept()) + "\n"

    def _kept(self) -> Iterator[str]:
        for line in self._lines:
            if line.startswith("!"):
                if not _DEBUG.match(line) and (kept := self._without_debug(line)):
                    yield kept
                continue
            match = _USE.search(line)
            said = self._said.get(match[1], "") if match else ""
            yield _USE.sub("", line) + (f"  ; {said}" if said else "")

    def _without_debug(self, line: str) -> str:
        """A metadata tuple without its debug nodes; nothing where no other was in it."""
        head, brace, inside = line.partition("!{")
        nodes = inside.removesuffix("}").split(", ")
        kept = [node for node in nodes if node[1:] not in self._dropped]
        return f"{head}{brace}{', '.join(kept)}}}" if kept else ""


_LOC = re.compile(r"\s+\.loc\s+\d+ (\d+) (\d+)")
_SECTION = re.compile(r"\s+\.(?:section\s+(\S+)|text|data|bss)")
_NUMBERED_FILE = re.compile(r"\s+\.file\s+\d")
_LOCAL = re.compile(r"(\.L(?:tmp|func_begin)\d+):")


def _assembly(text: str, comments: dict[int, str], mark: str) -> str:
    lines: list[str] = []
    said, debug = "", False
    for line in text.splitlines():
        if match := _SECTION.match(line):
            debug = (match[1] or "").startswith(".debug_")
        if match := _LOC.match(line):
            said = comments.get(int(match[2]), "") if match[1] != "0" else ""
        elif debug or _NUMBERED_FILE.match(line) or line.startswith("\t.cfi_"):
            continue
        elif said and line.startswith("\t") and line[1:2] not in (".", "#", ""):
            lines.append(f"{line}  {mark} {said}")
        else:
            said = "" if line[:1] not in ("\t", ".", "") else said  # another function
            lines.append(line)
    whole = "\n".join(lines)
    used = set(re.findall(r"[^\n](\.L(?:tmp|func_begin)\d+)\b", whole))
    kept = [ln for ln in lines if not (m := _LOCAL.match(ln)) or m[1] in used]
    return "\n".join(kept) + "\n"
