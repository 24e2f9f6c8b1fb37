"""Matrices of a few rows, many side by side: a matrix in each lane, all of it in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu import scalar
from graphmill.codegen.cpu.elem import Complex, Elem, constant, select, splat
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.kernel import Kernel, Source
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import item_range, row_blocks, sweep
from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType, bool_
from graphmill.ir.graph import Op

ROWS, RIGHT = 4, 4  # at most
BLOCK = 512  # matrices of the last axis that one work item takes at most

Row = list[Elem]
Matrix = list[Row]


def is_tiny(lead: Sequence[DimLike], rows: DimLike, right: DimLike, lanes: int) -> bool:
    """Whether so small matrices are so many that they fill the lanes."""
    sizes = isinstance(rows, int) and isinstance(right, int)
    if not lead or not sizes or not 0 < rows <= ROWS or right > RIGHT:  # type: ignore[operator]
        return False
    return not isinstance(lead[-1], int) or lead[-1] >= lanes


def emit_tiny(
    op: Op, kernel: Kernel, operands: Sequence[Source], targets: Sequence[Source], lanes: int
) -> Launch:
    """Write the kernel of an op."""
    *lead, rows = operands[0].shape[:-1]
    assert isinstance(rows, int)
    elements = Elements(kernel, {}, lanes)
    work = _Tiny(elements, operands[0].dtype, rows, bool(op.attrs.get("lower")))
    step: Callable[[Sequence[Matrix]], Sequence[Matrix]] = getattr(work, op.name)
    blocks = row_blocks(lead[-1], BLOCK)
    with kernel.code.loop(kernel.begin, kernel.end) as item:
        outer, low, high = item_range(kernel, item.i, lead, blocks, BLOCK)

        def body(at: Index, carried: Sequence[Val]) -> Sequence[Val]:
            def place(*more: int) -> tuple[Index, ...]:
                return (*outer, at, *(Index(kernel.code.i64(n)) for n in more))

            taken = [
                [[elements.load(x, place(i, j)) for j in _known(x.shape[-1])] for i in range(rows)]
                for x in operands
            ]
            for target, found in zip(targets, step(taken), strict=True):
                whole = len(target.shape) == len(lead) + 2
                for i, row in enumerate(found):
                    for j, value in enumerate(row):
                        elements.store(target, place(i, j) if whole else place(i), value)
            return carried

        with elements.scope():
            sweep(elements, low, high, body)
    return Launch(product((*lead[:-1], blocks)), grain(BLOCK * rows**3))


def _known(size: DimLike) -> range:
    assert isinstance(size, int)
    return range(size)


class _Tiny:
    """The ops on one vector of matrices."""

    def __init__(self, elements: Elements, dtype: DType, rows: int, lower: bool) -> None:
        self.elements, self.dtype, self.rows, self.lower = elements, dtype, rows, lower
        self.code, self.target = elements.code, elements.kernel.target

    def solve(self, operands: Sequence[Matrix]) -> Sequence[Matrix]:
        a, b = operands
        both = [[*row, *right] for row, right in zip(a, b, strict=True)]
        both, _ = self._eliminated(both)
        n, found = self.rows, [row[self.rows :] for row in both]
        for k in reversed(range(n)):
            found[k] = [self._op("div", x, both[k][k]) for x in found[k]]
            for i in range(k):
                found[i] = self._less(found[i], both[i][k], found[k])
        return [found]

    def lu(self, operands: Sequence[Matrix]) -> Sequence[Matrix]:
        factors, swaps = self._eliminated(operands[0])
        return factors, [[swap] for swap in swaps]

    def cholesky(self, operands: Sequence[Matrix]) -> Sequence[Matrix]:
        if not self.lower:
            return [self._root(operands[0])]
        return [self._turned(self._root(self._turned(operands[0])))]

    def _turned(self, matrix: Matrix) -> Matrix:
        return [[conjugate(self.code, x) for x in row] for row in zip(*matrix, strict=True)]

    def _root(self, matrix: Matrix) -> Matrix:
        rest, n = [list(row) for row in matrix], self.rows
        nothing = constant(self.code, 0, self.dtype, self.elements.lanes)
        for k in range(n):
            root = self.code.unary("math.sqrt", _real(rest[k][k]))
            rest[k] = [nothing] * k + [self._divided(x, root) for x in rest[k][k:]]
            if isinstance(nothing, Complex):
                rest[k][k] = Complex(root, nothing.im)
            for i in range(k + 1, n):
                factor = conjugate(self.code, rest[k][i])
                rest[i][k + 1 :] = self._less(rest[i][k + 1 :], factor, rest[k][k + 1 :])
        return rest

    def _eliminated(self, matrix: Matrix) -> tuple[Matrix, list[Elem]]:
        """L and U, and the row that each step exchanged with its own."""
        code, rest, swaps = self.code, [list(row) for row in matrix], []
        zero, one = (constant(code, x, self.dtype, self.elements.lanes) for x in (0, 1))
        for k in range(self.rows):
            swaps.append(self._exchange(rest, k))
            pivot = rest[k][k]
            nothing = self._compare("eq", pivot, zero)
            pivot = select(code, nothing, one, pivot)
            for i in range(k + 1, self.rows):
                factor = self._op("div", rest[i][k], pivot)
                rest[i][k + 1 :] = self._less(rest[i][k + 1 :], factor, rest[k][k + 1 :])
                rest[i][k] = factor
        return rest, swaps

    def _exchange(self, rows: Matrix, k: int) -> Elem:
        """Bring the row with the largest number in column k to place k; returns where it was."""
        code, lanes = self.code, self.elements.lanes
        largest, found = self._size(rows[k][k]), code.splat(code.i64(k), lanes)
        for i in range(k + 1, self.rows):
            size = self._size(rows[i][k])
            more = code.compare("arith.cmpf", "ogt", size, largest)
            largest = code.select(more, size, largest)
            found = code.select(more, code.splat(code.i64(i), lanes), found)
        old = rows[k]
        for i in range(k + 1, self.rows):
            here = code.compare("arith.cmpi", "eq", found, code.splat(code.i64(i), lanes))
            pairs = list(zip(rows[i], rows[k], old, strict=True))
            rows[k] = [select(code, here, x, y) for x, y, _ in pairs]
            rows[i] = [select(code, here, z, x) for x, _, z in pairs]
        return found

    def _less(self, row: Row, factor: Elem, other: Row) -> Row:
        return [
            self._op("sub", x, self._op("mul", factor, y)) for x, y in zip(row, other, strict=True)
        ]

    def _op(self, name: str, a: Elem, b: Elem) -> Elem:
        types = [self.dtype] * 2
        a, b = (splat(self.code, x, self.elements.lanes) for x in (a, b))
        return scalar.apply(self.code, self.target, name, [a, b], types, self.dtype)

    def _compare(self, name: str, a: Elem, b: Elem) -> Val:
        found = scalar.apply(self.code, self.target, name, [a, b], [self.dtype] * 2, bool_)
        assert isinstance(found, Val)
        return found

    def _divided(self, value: Elem, real: Val) -> Elem:
        if isinstance(value, Val):
            return self.code.binary("arith.divf", value, real)
        return Complex(*(self.code.binary("arith.divf", v, real) for v in (value.re, value.im)))

    def _size(self, value: Elem) -> Val:
        """|re| + |im|."""
        if isinstance(value, Val):
            return self.code.unary("math.absf", value)
        parts = (self.code.unary("math.absf", v) for v in (value.re, value.im))
        return self.code.binary("arith.addf", *parts)


def conjugate(code: Code, value: Elem) -> Elem:
    """An element's conjugate; a real one itself."""
    if isinstance(value, Val):
        return value
    return Complex(value.re, code.unary("arith.negf", value.im))


def _real(value: Elem) -> Val:
    return value.re if isinstance(value, Complex) else value
