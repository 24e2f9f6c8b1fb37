"""Dim expressions such as `2*batch + 1`, written again in another language."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from graphmill.codegen.aot.signature import BuildError

_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
_DIVISIONS: dict[type[ast.operator], str] = {ast.FloorDiv: "floordiv", ast.Mod: "mod"}

# how each call is written: {0} and {1} are its arguments
WORDS = {
    "floordiv": "floordiv({0}, {1})", "mod": "floormod({0}, {1})",
    "max": "max({0}, {1})", "min": "min({0}, {1})",
}  # fmt: skip
# for sizes that are not negative
C = {
    "floordiv": "({0} / {1})", "mod": "({0} % {1})",
    "max": "({0} > {1} ? {0} : {1})", "min": "({0} < {1} ? {0} : {1})",
}  # fmt: skip


def translate(dim: int | str, names: Mapping[str, str], calls: Mapping[str, str]) -> str:
    """The expression with each named dim's variable, and its calls as `calls` says."""
    if isinstance(dim, int):
        return str(dim)
    try:
        return _term(ast.parse(dim.strip(), mode="eval").body, names, calls)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise BuildError(f"cannot read dim expression {dim!r}: {error}") from None


def _term(node: ast.expr, names: Mapping[str, str], calls: Mapping[str, str]) -> str:
    def call(name: str, left: ast.expr, right: ast.expr) -> str:
        return calls[name].format(_term(left, names, calls), _term(right, names, calls))

    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return str(value)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"(0 - {_term(operand, names, calls)})"
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _SIGNS:
            pair = _term(left, names, calls), _term(right, names, calls)
            return f"({pair[0]} {_SIGNS[type(op)]} {pair[1]})"
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _DIVISIONS:
            return call(_DIVISIONS[type(op)], left, right)
        case ast.Call(func=ast.Name(id=name), args=[left, right], keywords=[]) if name in calls:
            return call(name, left, right)
    raise BuildError(f"{ast.unparse(node)!r} is not in the grammar of dims")
