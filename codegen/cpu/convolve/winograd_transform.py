"""Winograd's transforms as code: one vector holds a place's channels, so that lanes never meet.

A two-dimensional transform is the one-dimensional one along columns, then along rows. Points come
in pairs ±p, whose rows share their even and odd parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from graphmill.codegen.cpu.contract.microkernel import multiply_add
from graphmill.codegen.cpu.convolve.blocked_spec import Shape
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.toom_cook import SQUARES, even_polynomial, filter_matrix, size

_ARGS = (
    ("from", "!llvm.ptr"), ("from_row", "i64"), ("from_column", "i64"), ("to", "!llvm.ptr"),
    ("to_row", "i64"), ("to_column", "i64"),
)  # fmt: skip
Line = Callable[[Code, Shape, int, Sequence[Val]], list[Val]]


def transform(unit: Unit, kind: str, shape: Shape, tile: int) -> str:
    """Symbol of the transform `kind` (`input`, `filter` or `output`) of one vector of channels.

    `(from, from_row, from_column, to, to_row, to_column)`: the addresses of the first vectors and
    the distances of rows and columns, in elements. It reads and writes whole squares.
    """
    symbol = f"gm.winograd{tile}_{kind}_{shape.element}x{shape.lanes}"
    if not unit.once(symbol):
        return symbol
    line, given = _LINES[kind], _given(kind, tile)
    code = Code(unit, symbol, _ARGS, traits=("noinline",))
    source, source_row, source_column, target, target_row, target_column = code.args
    columns = []
    for j in range(given):
        at = code.at(source, code.mul(source_column, j), shape.element) if j else source
        values = [
            code.load(_row(code, at, source_row, i, shape), shape.vector, shape.bytes)
            for i in range(given)
        ]
        columns.append(line(code, shape, tile, values))
    for i, row in enumerate(zip(*columns, strict=True)):
        at = _row(code, target, target_row, i, shape)
        for j, value in enumerate(line(code, shape, tile, row)):
            code.store(value, _row(code, at, target_column, j, shape), shape.bytes)
    code.finish()
    return symbol


def _given(kind: str, tile: int) -> int:
    """Rows and columns of what a transform reads."""
    return 3 if kind == "filter" else size(tile)


def _row(code: Code, base: Val, step: Val, number: int, shape: Shape) -> Val:
    return code.at(base, code.mul(step, number), shape.element) if number else base


def _input(code: Code, shape: Shape, tile: int, x: Sequence[Val]) -> list[Val]:
    """B.T @ x: each row has the coefficients of the product of (t - point) over all others."""
    whole = even_polynomial(SQUARES[tile])
    rows = [_sum(code, shape, zip(whole, x[::2], strict=True))]
    for square in SQUARES[tile]:
        rest = even_polynomial([s for s in SQUARES[tile] if s != square])
        even = _sum(code, shape, zip(rest, x[2::2], strict=True))
        odd = _sum(code, shape, zip(rest, x[1:-1:2], strict=True))
        rows += [
            _sum(code, shape, [(1.0, even), (sign * square**0.5, odd)]) for sign in (1.0, -1.0)
        ]
    return [*rows, _sum(code, shape, zip(whole, x[1::2], strict=True))]


def _output(code: Code, shape: Shape, tile: int, products: Sequence[Val]) -> list[Val]:
    """A.T @ products: result j has the points' powers j."""
    first, *pairs, last = products
    ahead, behind = pairs[::2], pairs[1::2]
    sums = [code.binary("arith.addf", a, b) for a, b in zip(ahead, behind, strict=True)]
    gaps = [code.binary("arith.subf", a, b) for a, b in zip(ahead, behind, strict=True)]
    found = []
    for j in range(tile):
        values = gaps if j % 2 else sums
        terms = [(s ** (j / 2), v) for s, v in zip(SQUARES[tile], values, strict=True)]
        ends = [(1.0, first)] * (j == 0) + [(1.0, last)] * (j == tile - 1)
        found.append(_sum(code, shape, [*ends, *terms]))
    return found


def _filter(code: Code, shape: Shape, tile: int, taps: Sequence[Val]) -> list[Val]:
    """G @ taps."""
    matrix = filter_matrix(tile).tolist()
    return [_sum(code, shape, zip(row, taps, strict=True)) for row in matrix]


_LINES: dict[str, Line] = {"input": _input, "output": _output, "filter": _filter}


def _sum(code: Code, shape: Shape, terms: Iterable[tuple[float, Val]]) -> Val:
    """The sum of factors times values, as few operations as their ones and zeros allow."""
    total: Val | None = None
    for factor, value in sorted(terms, key=lambda term: term[0] != 1.0):
        if factor == 0.0:
            continue
        if total is None:
            total = value if factor == 1.0 else _times(code, shape, factor, value)
        elif abs(factor) == 1.0:
            total = code.binary("arith.addf" if factor > 0 else "arith.subf", total, value)
        else:
            total = multiply_add(code, shape.tile, code.const(factor, shape.vector), value, total)
    assert total is not None, "a row of a transform is not zero"
    return total


def _times(code: Code, shape: Shape, factor: float, value: Val) -> Val:
    return code.binary("arith.mulf", code.const(factor, shape.vector), value)
