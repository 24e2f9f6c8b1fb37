"""Lowerings of `solve`, `lu` and `cholesky`.

Many matrices or small ones: one kernel has a matrix for a work item. Else the host goes from panel
to panel: one thread eliminates it, all threads work on the other columns. Both take the same steps
in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.elem import constant, select, splat
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.factor import steps
from graphmill.codegen.cpu.factor.panel import factor_panel
from graphmill.codegen.cpu.factor.rows import Numbers, Scaled
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index, lanes_of
from graphmill.codegen.cpu.kernel import Kernel, Storage
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import outer_positions, sweep
from graphmill.codegen.cpu.lowering import info_of, label, lowers
from graphmill.ir.dims import DimLike, maximum, product
from graphmill.ir.graph import Op, Value

LARGE = 192  # rows of a matrix that is worth all threads
FEW = 4  # matrices that do not give all threads enough to do
STRIP = 8  # vectors of columns of one work item

FIRST = "first"  # the key of the value that is a panel's first column, in kernels

Columns = Callable[[Val, Val], None]  # what works on some columns


@lowers("solve")
@lowers("lu")
@lowers("cholesky")
def _factor(host: Host, op: Op) -> None:
    _Factoring(host, op).run()


class _Factoring:
    """One op: the sizes and the places of what it works on."""

    def __init__(self, host: Host, op: Op) -> None:
        self.host, self.op = host, op
        type = op.operands[0].tensor
        self.numbers = numbers = Numbers(type.dtype, host.target)
        self.lead, self.rows = type.shape[:-2], type.shape[-1]
        self.right = op.operands[1].shape[-1] if op.name == "solve" else 0
        self.middle = _up(self.rows, numbers.lanes)  # where right sides begin
        self.columns = self.middle + _up(self.right, numbers.lanes)
        known = isinstance(self.rows, int)
        self.count = product(self.lead)
        few = isinstance(self.count, int) and self.count < FEW
        self.divided = few and not (known and self.rows < LARGE)  # type: ignore[operator]
        self.width = numbers.reals * (4 if self.divided else 1)
        self.tall = _up(self.rows, numbers.reals)
        size, parts = numbers.size, numbers.parts
        panel = self.width * parts * self.tall * size if op.name != "cholesky" else 0
        sizes = (
            self.rows * self.columns * parts * size, panel, Scaled.WORDS * self.rows * size,
            self.rows * 8,
        )  # fmt: skip
        self.sizes = [_up(part, 64) for part in sizes]
        self.storage = Storage(("factor scratch", len(host.kernels)), True)
        self.outputs: list[Buffer] = host.place(op)

    def run(self) -> None:
        each: DimLike = 0
        for size in self.sizes:
            each = each + size
        self.each = each
        if self.divided:
            total = each * self.count
            self.host.lend(self.storage, self.host.scratch(lambda _, dim: (dim(total), dim(0))))
            self._run_divided()
        else:
            self.host.lend(self.storage, self.host.scratch(lambda _, dim: (dim(0), dim(each))))
            self._run_alone()

    def _run_alone(self) -> None:
        kernel = self.host.kernel(label(self.op))
        code = kernel.code
        with code.loop(kernel.begin, kernel.end) as item:
            matrix = _Matrix(self, kernel, item.i, kernel.worker)
            whole = code.i64(0), matrix.columns
            matrix.read(0, matrix.rows)
            with code.loop(0, matrix.rows, self.width) as loop:
                matrix.enter(loop.i)
                matrix.panel()
                matrix.rest(*whole)
                matrix.last(*whole)
            if self.op.name == "solve":
                matrix.substitute(*whole)
            matrix.write(0, matrix.rows)
        self._launch(kernel, self.count, _most(self.rows) ** 2 * _most(self.columns))

    def _run_divided(self) -> None:
        host = self.host
        self._over_rows("_read", _Matrix.read)
        with host.code.loop(0, host.dim(self.rows), self.width) as loop:
            host.provide((FIRST, self.storage), loop.i)
            self._over("_panel", 1, 1, lambda matrix, _: self._entered(matrix).panel())
            self._over_strips("_rest", lambda matrix: self._entered(matrix).rest)
            if self.op.name == "cholesky":
                self._over_strips("", lambda matrix: self._entered(matrix).last)
        if self.op.name == "solve":
            self._over_strips("", lambda matrix: matrix.substitute)
        self._over_rows("_write", _Matrix.write)

    def _entered(self, matrix: _Matrix) -> _Matrix:
        matrix.enter(matrix.kernel.value((FIRST, self.storage)))
        return matrix

    def _over_rows(self, name: str, step: Callable[[_Matrix, Val, Val], None]) -> None:
        def run(matrix: _Matrix, item: Val) -> None:
            step(matrix, item, matrix.code.add(item, 1))

        self._over(name, self.rows, _most(self.rows), run)

    def _over_strips(self, name: str, step: Callable[[_Matrix], Columns]) -> None:
        width = STRIP * self.numbers.lanes

        def run(matrix: _Matrix, item: Val) -> None:
            code = matrix.code
            low = code.mul(item, width)
            high = code.binary("arith.minsi", code.add(low, width), matrix.columns)
            step(matrix)(low, high)

        work = 2 * _most(self.rows) * width * self.width
        self._over(name, _up(self.columns, width) // width, work, run)

    def _over(
        self, name: str, items: DimLike, work: int, step: Callable[[_Matrix, Val], None]
    ) -> None:
        """A kernel with `items` work items for each matrix."""
        kernel = self.host.kernel(label(self.op) + name)
        code = kernel.code
        with code.loop(kernel.begin, kernel.end) as item:
            by = kernel.dim(maximum(items, 1))
            number = code.binary("arith.divui", item.i, by)
            step(_Matrix(self, kernel, number, number), code.binary("arith.remui", item.i, by))
        self._launch(kernel, self.count * items, work)

    def _launch(self, kernel: Kernel, items: DimLike, work: float) -> None:
        info = info_of(self.op, kernel.name, items != 1)
        self.host.launch(kernel, Launch(items, grain(work)), info)


def _up(size: DimLike, to: int) -> DimLike:
    return (size + to - 1) // to * to


def _most(size: DimLike) -> int:
    """A size, or a guess at it."""
    return size if isinstance(size, int) else 256


class _Matrix:
    """A matrix and its right sides in a kernel."""

    def __init__(self, plan: _Factoring, kernel: Kernel, number: Val, slot: Val) -> None:
        self.plan, self.kernel, self.code = plan, kernel, kernel.code
        self.op, self.numbers = plan.op, plan.numbers
        code = kernel.code
        self.outer = outer_positions(kernel, number, plan.lead)
        self.rows, self.columns = kernel.dim(plan.rows), kernel.dim(plan.columns)
        self.stride = code.mul(self.columns, plan.numbers.parts)
        at = code.at(kernel.pointer(plan.storage), code.mul(slot, kernel.dim(plan.each)), "i8")
        places = []
        for size in plan.sizes:
            places.append(at)
            at = code.at(at, kernel.dim(size), "i8")
        self.work, self.columns_of_panel, self.inverse, self.swaps = places
        self.elements = Elements(kernel, {}, plan.numbers.lanes)

    def enter(self, first: Val) -> None:
        """Look at the panel that begins there."""
        code, plan = self.code, self.plan
        left = code.binary("arith.subi", self.rows, first)
        self.first, self.width = first, code.binary("arith.minsi", left, code.i64(plan.width))
        lanes = plan.numbers.lanes
        end = code.add(code.add(first, self.width), lanes - 1)
        self.behind = code.binary("arith.andi", end, code.i64(-lanes))

    def read(self, low: Val | int, high: Val | int) -> None:
        """Copy rows `low … high` to where they are worked on, zeros behind them."""
        self._copy(low, high, self.op.operands[0], self.code.i64(0))
        if self.op.name == "solve":
            self._copy(low, high, self.op.operands[1], self.kernel.dim(self.plan.middle))

    def _copy(self, low: Val | int, high: Val | int, value: Value, start: Val) -> None:
        code, elements, dtype = self.code, self.elements, self.numbers.dtype
        source = self.plan.host.source(self.kernel, value)
        with code.loop(low, high) as row:
            line = code.add(code.mul(row.i, self.columns), start)

            def take(at: Index, carried: Sequence[Val]) -> Sequence[Val]:
                found = splat(code, elements.load(source, (*self.outer, Index(row.i), at)), lanes)
                memory.store(code, found, self.work, code.add(line, at.base), dtype)
                return carried

            lanes = elements.lanes
            with elements.scope():
                sweep(elements, 0, self.kernel.size(value.shape[-1]), take)

    def panel(self) -> None:
        """Eliminate the panel's columns, or factor the block on the diagonal."""
        code, unit, numbers = self.code, self.kernel.unit, self.numbers
        sizes = self.first, self.width
        if self.op.name == "cholesky":
            symbol = steps.root_block(unit, numbers)
            code.call(symbol, [self.work, self.stride, *sizes, self.behind])
            return
        tall, end = self.kernel.dim(self.plan.tall), code.add(self.first, self.width)
        kept = self.rows if self.op.name == "lu" else end
        code.call(
            factor_panel(unit, numbers),
            [self.work, self.stride, self.columns_of_panel, tall, self.swaps, self.inverse, *sizes,
             self.rows, kept],
        )  # fmt: skip

    def rest(self, low: Val, high: Val) -> None:
        """What follows the panel on the columns low … high."""
        code, unit, numbers = self.code, self.kernel.unit, self.numbers
        sizes, right = (self.first, self.width), code.binary("arith.maxsi", low, self.behind)
        matrix = [self.work, self.stride]
        if self.op.name == "cholesky":
            code.call(steps.root_rows(unit, numbers), [*matrix, *sizes, right, high])
            return
        exchange = steps.exchange_rows(unit, numbers)
        if self.op.name == "lu":
            left = code.binary("arith.minsi", high, self.first)
            code.call(exchange, [*matrix, self.swaps, *sizes, low, left])
        code.call(exchange, [*matrix, self.swaps, *sizes, right, high])
        tall = self.kernel.dim(self.plan.tall)
        code.call(
            steps.eliminate(unit, numbers),
            [*matrix, self.columns_of_panel, tall, *sizes, self.rows, right, high],
        )

    def last(self, low: Val, high: Val) -> None:
        """What needs all of the rows that `rest` gave."""
        code, unit, numbers = self.code, self.kernel.unit, self.numbers
        if self.op.name == "cholesky":
            right = code.binary("arith.maxsi", low, self.behind)
            code.call(
                steps.root_rest(unit, numbers),
                [self.work, self.stride, self.first, self.width, self.rows, right, high],
            )

    def substitute(self, low: Val, high: Val) -> None:
        """Solve for the right sides among the columns low … high."""
        code = self.code
        right = code.binary("arith.maxsi", low, self.kernel.dim(self.plan.middle))
        code.call(
            steps.substitute(self.kernel.unit, self.numbers),
            [self.work, self.stride, self.inverse, self.rows, right, high],
        )

    def write(self, low: Val | int, high: Val | int) -> None:
        """Copy rows `low … high` of the results."""
        code, elements, numbers = self.code, self.elements, self.numbers
        targets = [
            self.plan.host.source(self.kernel, result, output)
            for result, output in zip(self.op.results, self.plan.outputs, strict=True)
        ]
        start = self.kernel.dim(self.plan.middle) if self.op.name == "solve" else code.i64(0)
        with code.loop(low, high) as row:
            line = code.add(code.mul(row.i, self.columns), start)

            def give(at: Index, carried: Sequence[Val]) -> Sequence[Val]:
                place = code.add(line, at.base)
                found = memory.load(code, self.work, place, numbers.dtype, lanes)
                if self.op.name == "cholesky":
                    nothing = constant(code, 0, numbers.dtype, found.lanes)
                    column = lanes_of(code, at, found.lanes)
                    below = code.compare(
                        "arith.cmpi", "slt", column, code.splat(row.i, column.lanes)
                    )
                    found = select(code, below, nothing, found)
                elements.store(targets[0], (*self.outer, Index(row.i), at), found)
                return carried

            lanes = elements.lanes
            with elements.scope():
                sweep(elements, 0, self.kernel.size(self.op.results[0].shape[-1]), give)
            if self.op.name == "lu":
                other = code.load(code.at(self.swaps, row.i, "i64"), "i64", 8)
                elements.store(targets[1], (*self.outer, Index(row.i)), other)
