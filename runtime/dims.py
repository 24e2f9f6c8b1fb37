"""Dim expressions at run time: `2*batch + 1` compiled once to a closure and to stack code.

The grammar is what the IR prints: integers, names, `+ - *`, unary minus, parentheses, and the
calls `floordiv(a, b)`, `mod(a, b)`, `max(a, b)`, `min(a, b)`. The text is parsed as a Python
expression tree and walked; nothing is evaluated as code.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence

MAX_TEXT = 4096

# stack code: (PUSH, constant), (DIM, position) or (operation, 0)
PUSH, DIM, ADD, SUB, MUL, FLOORDIV, MOD, MAX, MIN = range(9)

Code = tuple[tuple[int, int], ...]

_BINARY: dict[type[ast.operator], int] = {
    ast.Add: ADD, ast.Sub: SUB, ast.Mult: MUL, ast.FloorDiv: FLOORDIV, ast.Mod: MOD,
}  # fmt: skip
_CALLS = {"floordiv": FLOORDIV, "mod": MOD, "max": MAX, "min": MIN}
_APPLY: dict[int, Callable[[int, int], int]] = {
    ADD: lambda a, b: a + b,
    SUB: lambda a, b: a - b,
    MUL: lambda a, b: a * b,
    FLOORDIV: lambda a, b: a // b,
    MOD: lambda a, b: a % b,
    MAX: max,
    MIN: min,
}


class DimError(ValueError):
    """A dim expression that is not in the grammar or names an unknown dim."""


def compile_dim(expression: int | str, dims: Mapping[str, int]) -> Code:
    """Stack code of an expression, `dims` giving the position of each name."""
    if isinstance(expression, int):
        return ((PUSH, expression),)
    if len(expression) > MAX_TEXT:
        raise DimError(f"dim expression of {len(expression)} characters is too long")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        return tuple(_code(tree, dims))
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise DimError(f"cannot read dim expression {expression!r}: {error}") from None


def _code(node: ast.expr, dims: Mapping[str, int]) -> list[tuple[int, int]]:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return [(PUSH, value)]
        case ast.Name(id=name) if name in dims:
            return [(DIM, dims[name])]
        case ast.Name(id=name):
            raise DimError(f"unknown dim {name!r}")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return [(PUSH, 0), *_code(operand, dims), (SUB, 0)]
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
            return [*_code(left, dims), *_code(right, dims), (_BINARY[type(op)], 0)]
        case ast.Call(func=ast.Name(id=name), args=[left, right], keywords=[]) if name in _CALLS:
            return [*_code(left, dims), *_code(right, dims), (_CALLS[name], 0)]
    raise DimError(f"{ast.unparse(node)!r} is not in the grammar of dims")


def run(code: Code, dims: Sequence[int]) -> int:
    """Value of stack code for given dim values."""
    stack: list[int] = []
    for operation, value in code:
        if operation == PUSH:
            stack.append(value)
        elif operation == DIM:
            stack.append(dims[value])
        else:
            right = stack.pop()
            stack.append(_APPLY[operation](stack.pop(), right))
    return stack[0]


def evaluate(expression: int | str, values: Mapping[str, int]) -> int:
    """Value of one expression with named dim values, for reports and tests."""
    names = list(values)
    return run(compile_dim(expression, {n: i for i, n in enumerate(names)}), list(values.values()))


def solve(code: Code, position: int, target: int) -> int | None:
    """The `d >= 0` with code(d) == target, for an expression affine in that one dim, else None."""
    if any(op not in (PUSH, DIM, ADD, SUB, MUL) for op, _ in code):
        return None
    size = 1 + max((i for op, i in code if op == DIM), default=0)
    values = [0] * max(size, position + 1)
    at = []
    for probe in (0, 1, 2):
        values[position] = probe
        at.append(run(code, values))
    step = at[1] - at[0]
    if step == 0 or at[2] - at[1] != step or (target - at[0]) % step:
        return None
    value = (target - at[0]) // step
    return value if value >= 0 else None
