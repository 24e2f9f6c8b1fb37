"""Parsing the text that `graphmill.ir.printer` writes; `print(parse(text))` gives it back.

    module   = { variable } { function }
    variable = "variable" symbol ":" type [ "=" elements ]
    function = "func" symbol "(" values ")" "->" "(" types ")" [ "dims=" … ] [ "attrs=" … ] block
    block    = "{" { op } "}"
    op       = [ values "=" ] name [ operands ] [ attributes ] { [ label ] region }
    region   = "{" "(" values "):" { op } "}"

Operands, attributes and `{` stand on the op's line. `// file.py:12 in scope` after an op is its
location; other comments are skipped. Nothing in the text is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.graph import (
    Block,
    Bounds,
    Function,
    Location,
    Module,
    Op,
    Region,
    Value,
    Variable,
)
from graphmill.ir.literals import attribute_error
from graphmill.ir.ops.base import OpDef, TypeRuleError, UnknownOpError, all_ops, lookup
from graphmill.ir.scanner import ParseError, Scanner, suggestion
from graphmill.ir.types import TensorType, Type
from graphmill.ir.verifier import agree, verify

Array = np.ndarray[Any, Any]

_VALUE = re.compile(r"%\w+")
_OP = re.compile(r"[^\W\d][\w.]*")
_SYMBOL = re.compile(r"@[^\W\d][\w.$]*")
_KEY = re.compile(r"[^\W\d]\w*")
_COMMENT = re.compile(r"[ \t]*//[ ]*(?:([^\s:][^\n:]*):(\d+)|\?)(?: in ([^\n]+))?[ \t]*(?=\n|$)")
_REGION_NEXT = re.compile(r"[ \t]*\{\s*(?://[^\n]*\s*)*\(")
_OPENS = re.compile(r"[ \t]*(?:[^\W\d]\w*[ \t]*)?\{")
_TYPED_ARRAY = re.compile(r"\s*dense<\w+\[")
_DEEPEST = 100


def parse(
    text: str,
    constants: Mapping[str, Array] | None = None,
    file: str = "<text>",
    check: bool = True,
) -> Module:
    """Parse a module; `constants` gives the arrays that the text elides, by content hash.

    `file` names the text in errors. With `check` the module is verified too. Raises `ParseError`
    with line, column and caret, or `VerifyError`.
    """
    parser = _Parser(Scanner(text, file, constants or {}))
    try:
        module = parser.module()
    except RecursionError:
        raise parser.scan.error("the text is nested too deeply") from None
    if check:
        verify(module)
    return module


def parse_function(text: str, constants: Mapping[str, Array] | None = None) -> Function:
    """Parse text that holds one function (or return the entry of a module)."""
    return parse(text, constants).entry


class _Parser:
    def __init__(self, scanner: Scanner) -> None:
        self.scan = scanner
        self.outer: list[dict[str, Value]] = []

    def module(self) -> Module:
        module = Module()
        while self.scan.keyword("variable"):
            self.variable(module)
        self.scan.skip()
        while self.scan.at < len(self.scan.text):
            start = self.scan.at
            if not self.scan.keyword("func"):
                raise self.scan.error(f"expected 'func', found {self.scan.found()}")
            function = self.function()
            if function.name in module.functions:
                raise self.scan.error(f"there are two functions @{function.name}", start)
            module.add(function)
            self.scan.skip()
        if not module.functions:
            raise self.scan.error("the text has no function")
        return module

    def variable(self, module: Module) -> None:
        name = self.symbol()
        self.scan.expect(":")
        start = self.scan.at
        type = self.scan.type()
        if not isinstance(type, TensorType):
            raise self.scan.error("a variable is a tensor", start)
        initial = self.scan.elements(type) if self.scan.take("=") else None
        module.variables[name] = Variable(name, type, initial)

    def symbol(self) -> str:
        self.scan.skip()
        if self.scan.looking_at('@"'):
            self.scan.at += 1
            return self.scan.string()
        return self.scan.match(_SYMBOL, "a name such as @f")[1:]

    def function(self) -> Function:
        scan = self.scan
        name = self.symbol()
        function = Function(name)
        scan.expect("(")
        values: dict[str, Value] = {}
        for value_name, type, at in self.values(")"):
            self.define(values, value_name, function.block.add_arg(type), at)
        scan.expect("->")
        scan.expect("(")
        scan.skip()
        start = scan.at
        results = list(scan.many(")", scan.type))
        if scan.keyword("dims"):
            scan.expect("=")
            scan.expect("{")
            function.dims = dict(scan.many("}", self.bounds))
        if scan.keyword("attrs"):
            scan.expect("=")
            function.attrs = self.attributes(None, None)
        scan.expect("{")
        function.loc, _ = self.location()
        self.ops(function.block, values, "return")
        if [v.type for v in function.results] != results:
            given = ", ".join(str(v.type) for v in function.results)
            raise scan.error(f"the function returns ({given})", start)
        return function

    def bounds(self) -> tuple[str, Bounds]:
        name = self.scan.word("a dim's name")
        self.scan.expect(":")
        low = self.scan.integer()
        self.scan.expect("..")
        if self.scan.looking_at(",") or self.scan.looking_at("}"):
            return name, Bounds(low)
        return name, Bounds(low, self.scan.integer())

    def values(self, end: str) -> list[tuple[str, Type, int]]:
        """`%a: type, %b: type` and where each stands."""

        def read() -> tuple[str, Type, int]:
            self.scan.skip()
            at = self.scan.at
            name = self.scan.match(_VALUE, "a value such as %x")
            self.scan.expect(":")
            return name[1:], self.scan.type(), at

        return list(self.scan.many(end, read))

    def define(self, values: dict[str, Value], name: str, value: Value, at: int) -> None:
        if name in values:
            raise self.scan.error(f"%{name} is defined twice", at)
        value.name = "" if name[0].isdigit() else name
        values[name] = value

    def ops(self, block: Block, values: dict[str, Value], terminator: str) -> None:
        """Ops up to the closing brace, which is read."""
        while not self.scan.take("}"):
            self.scan.skip()
            start = self.scan.at
            if block.ops and block.terminator.definition.terminator:
                raise self.scan.error(f"nothing may follow {block.terminator.name}")
            op = block.append(self.op(values))
            if op.definition.terminator and op.name != terminator:
                raise self.scan.error(f"this block ends in {terminator}", start)
        if not block.ops or block.terminator.name != terminator:
            raise self.scan.error(f"the block ends without {terminator}", self.scan.at - 1)

    def op(self, values: dict[str, Value]) -> Op:
        scan = self.scan
        declared = self.values("=") if scan.looking_at("%") else []
        scan.skip()
        start = scan.at
        definition = self.definition(scan.match(_OP, "an op"), start)
        operands = []
        if scan.looking_at("%", inline=True):
            operands.append(self.use(values))
            while scan.take(",", inline=True):
                operands.append(self.use(values))
        types = [type for _, type, _ in declared]
        attrs: dict[str, Any] = {}
        brace = scan.looking_at("{", inline=True)
        if brace and not _REGION_NEXT.match(scan.text, scan.at):
            scan.take("{")
            attrs = self.attributes(definition, types)
        loc, scope = None, ""
        regions: list[Region] = []
        while self.opens_region():
            loc, scope = (loc, scope) if regions else self.location()
            regions.append(self.region(values))
        if not regions:
            loc, scope = self.location()
        self.check(definition, operands, attrs, regions, declared, start)
        op = Op(definition, operands, types, attrs, regions, loc, scope)
        for (name, _, at), result in zip(declared, op.results, strict=True):
            self.define(values, name, result, at)
        return op

    def definition(self, name: str, at: int) -> OpDef:
        try:
            return lookup(name)
        except UnknownOpError:
            hint = suggestion(name, all_ops())
            raise self.scan.error(f"there is no op {name!r}{hint}", at) from None

    def use(self, values: dict[str, Value]) -> Value:
        self.scan.skip()
        start = self.scan.at
        name = self.scan.match(_VALUE, "a value such as %x")[1:]
        if name in values:
            return values[name]
        if any(name in outside for outside in self.outer):
            raise self.scan.error(
                f"%{name} is outside of this region: give it to the op as an operand", start
            )
        raise self.scan.error(f"%{name} is not defined here{suggestion(name, values)}", start)

    def opens_region(self) -> bool:
        """Read `{` or `label {` on this line."""
        match = _OPENS.match(self.scan.text, self.scan.at)
        if match:
            self.scan.at = match.end()
        return match is not None

    def region(self, values: dict[str, Value]) -> Region:
        if len(self.outer) >= _DEEPEST:
            raise self.scan.error("regions are nested too deeply")
        block = Block()
        inner: dict[str, Value] = {}
        self.scan.expect("(")
        for name, type, at in self.values(")"):
            self.define(inner, name, block.add_arg(type), at)
        self.scan.expect(":")
        self.outer.append(values)
        self.ops(block, inner, "yield")
        self.outer.pop()
        return Region(block)

    def location(self) -> tuple[Location | None, str]:
        """The location and scope in the comment at the end of this line."""
        match = _COMMENT.match(self.scan.text, self.scan.at)
        if not match:
            return None, ""
        loc = Location(match[1], int(match[2][:9])) if match[1] else None
        return loc, match[3] or ""

    def attributes(self, definition: OpDef | None, types: Sequence[Type] | None) -> dict[str, Any]:
        """`key=value` pairs; the opening brace has been read where a definition is given."""
        scan = self.scan
        if definition is None:
            scan.expect("{")

        def read() -> tuple[str, Any]:
            scan.skip()
            start = scan.at
            key = scan.match(_KEY, "an attribute's name")
            scan.expect("=")
            kind = definition.attrs.get(key) if definition else None
            bare = kind == "array" and types and not _TYPED_ARRAY.match(scan.text, scan.at)
            value = scan.elements(types[0]) if bare and types else scan.value()  # type: ignore[arg-type]
            wrong = attribute_error(kind, value) if kind else None
            if wrong:
                raise scan.error(f"{key} {wrong}", start)
            return key, value

        start = scan.at
        pairs = list(scan.many("}", read))
        if len(dict(pairs)) != len(pairs):
            raise scan.error("an attribute is given twice", start)
        return dict(pairs)

    def check(
        self,
        definition: OpDef,
        operands: Sequence[Value],
        attrs: Mapping[str, Any],
        regions: Sequence[Region],
        declared: Sequence[tuple[str, Type, int]],
        at: int,
    ) -> None:
        """The op's typing rule must hold and give the types that are written."""
        name = definition.name
        missing = [key for key in definition.attrs if key not in attrs]
        if missing:
            raise self.scan.error(f"{name} needs the attribute {missing[0]}", at)
        try:
            wanted = definition.infer([v.type for v in operands], attrs, regions)
        except TypeRuleError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise self.scan.error(f"{error}{hint}", at) from None
        except (ValueError, IndexError, KeyError, TypeError, AssertionError) as error:
            raise self.scan.error(
                f"{name}: operands or attributes do not fit: {error}", at
            ) from None
        if len(wanted) != len(declared):
            raise self.scan.error(f"{name} gives {len(wanted)} values, not {len(declared)}", at)
        for (value, type, where), rule in zip(declared, wanted, strict=True):
            if not agree(type, rule):
                raise self.scan.error(f"%{value} is {rule}, not {type}", where)


__all__ = ["ParseError", "parse", "parse_function"]
