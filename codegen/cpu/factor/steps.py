"""What follows a panel on other columns, back substitution, and the steps of Cholesky's factor."""

from __future__ import annotations

from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.codegen.cpu.factor.rows import Multipliers, Numbers, Rows, Scaled

_MATRIX = (("work", "!llvm.ptr"), ("stride", "i64"))
_COLUMNS = (("low", "i64"), ("high", "i64"))
_PANEL = (("first", "i64"), ("width", "i64"))


def exchange_rows(unit: Unit, numbers: Numbers) -> str:
    """The symbol of `void (work, stride, swaps, first, width, low, high)`: exchange rows first …
    first + width with those they were exchanged with, in columns low … high."""
    symbol = f"gm.lu_exchange_{numbers.name}x{numbers.lanes}"
    if not unit.once(symbol):
        return symbol
    args = (*_MATRIX, ("swaps", "!llvm.ptr"), *_PANEL, *_COLUMNS)
    code = Code(unit, symbol, args, traits=("noinline",))
    work, stride, swaps, first, width, low, high = code.args
    rows = Rows(code, numbers, work, stride)
    with code.loop(first, code.add(first, width)) as row:
        other = code.load(code.at(swaps, row.i, "i64"), "i64", 8)
        with (
            code.when(code.compare("arith.cmpi", "ne", row.i, other)),
            code.loop(low, high, numbers.lanes) as column,
        ):
            places = [rows.at(r, column.i) for r in (row.i, other)]
            one, two = (rows.load(place, 1) for place in places)
            rows.store(one, places[1])
            rows.store(two, places[0])
    code.finish()
    return symbol


def eliminate(unit: Unit, numbers: Numbers) -> str:
    """The symbol of `void (work, stride, panel, tall, first, width, rows, low, high)`: take the
    rows of a panel off those below them, in columns low … high."""
    symbol = f"gm.lu_eliminate_{numbers.name}x{numbers.lanes}"
    if not unit.once(symbol):
        return symbol
    args = (*_MATRIX, ("panel", "!llvm.ptr"), ("tall", "i64"), *_PANEL, ("rows", "i64"), *_COLUMNS)
    code = Code(unit, symbol, args, traits=("noinline",))
    work, stride, panel, tall, first, width, last, low, high = code.args
    rows = Rows(code, numbers, work, stride)

    def multipliers(row: Val, count: int) -> Multipliers:
        def of(k: Val) -> list[list[Val]]:
            line = code.mul(code.binary("arith.subi", k, first), numbers.parts)
            places = []
            for part in range(numbers.parts):
                place = code.add(code.mul(code.add(line, part), tall), row)
                places.append(code.at(panel, place, numbers.element))
            return [
                [
                    code.load(code.at(p, n, numbers.element), numbers.element, numbers.size)
                    for p in places
                ]
                for n in range(count)
            ]

        return of

    end = code.add(first, width)

    def strip(column: Val, vectors: int) -> None:
        def some(row: Val, count: int, until: Val) -> None:
            found = rows.less(count, vectors, row, column, first, until, multipliers(row, count))
            for n, values in enumerate(found):
                rows.store(values, rows.at(code.add(row, n), column))

        with code.loop(code.add(first, 1), end) as row:
            some(row.i, 1, row.i)
        rows.tiles(end, last, lambda row, count: some(row, count, end))

    rows.strips(low, high, strip)
    code.finish()
    return symbol


def substitute(unit: Unit, numbers: Numbers) -> str:
    """The symbol of `void (work, stride, inverse, rows, low, high)`: solve for the columns
    low … high with the upper triangle of the matrix they stand beside."""
    symbol = f"gm.lu_substitute_{numbers.name}x{numbers.lanes}"
    if not unit.once(symbol):
        return symbol
    args = (*_MATRIX, ("inverse", "!llvm.ptr"), ("rows", "i64"), *_COLUMNS)
    code = Code(unit, symbol, args, traits=("noinline",))
    work, stride, inverse, last, low, high = code.args
    rows = Rows(code, numbers, work, stride)

    def divided(values: list[Val], row: Val) -> list[Val]:
        if numbers.parts == 1:
            (pivot,) = rows.number(rows.at(row, row))
            return [rows.divided(v, pivot) for v in values]
        place = code.at(inverse, code.mul(row, Scaled.WORDS), numbers.element)
        *reciprocal, power = (
            code.load(code.at(place, n, numbers.element), numbers.element, numbers.size)
            for n in range(Scaled.WORDS)
        )
        return [rows.times(rows.times(v, reciprocal), [power]) for v in values]

    def some(row: Val, count: int, column: Val, vectors: int) -> None:
        def multipliers(k: Val) -> list[list[Val]]:
            return [rows.number(rows.at(code.add(row, n), k)) for n in range(count)]

        found = rows.less(count, vectors, row, column, code.add(row, count), last, multipliers)
        for n in reversed(range(count)):
            this = code.add(row, n)
            values = divided(found[n], this)
            rows.store(values, rows.at(this, column))
            for other in range(n):
                factor = rows.number(rows.at(code.add(row, other), this))
                off = [code.unary("arith.negf", f) for f in factor]
                found[other] = [
                    code.binary("arith.addf", v, rows.times(x, off))
                    for v, x in zip(found[other], values, strict=True)
                ]

    def strip(column: Val, vectors: int) -> None:
        most = numbers.tile[0]
        for count in (most, 1):
            rest = last if count == most else code.binary("arith.remsi", last, code.i64(most))
            with code.loop(0, code.binary("arith.divsi", rest, code.i64(count))) as turn:
                below = code.mul(code.add(turn.i, 1), count)
                some(code.binary("arith.subi", rest, below), count, column, vectors)

    rows.strips(low, high, strip)
    code.finish()
    return symbol


def root_block(unit: Unit, numbers: Numbers) -> str:
    """The symbol of `void (work, stride, first, width, high)`: Cholesky's factor of a block on the
    diagonal, in columns first … high."""
    symbol = f"gm.cholesky_block_{numbers.name}x{numbers.lanes}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, (*_MATRIX, *_PANEL, ("high", "i64")), traits=("noinline",))
    work, stride, first, width, high = code.args
    rows = Rows(code, numbers, work, stride)
    end = code.add(first, width)
    with code.loop(first, end) as step:
        k = step.i
        place = rows.at(k, k)
        root = code.unary("math.sqrt", rows.number(place)[0])
        with code.loop(first, high, numbers.lanes) as column:
            values = rows.load(rows.at(k, column.i), 1)
            rows.store([rows.divided(v, root) for v in values], rows.at(k, column.i))
        rows.put([root, code.const(0.0, root.type)][: numbers.parts], place)
        with code.loop(code.add(k, 1), end) as row:
            factor = _conjugate(code, rows.number(rows.at(k, row.i)))
            off = [code.unary("arith.negf", f) for f in factor]
            with code.loop(first, high, numbers.lanes) as column:
                (taken,) = rows.load(rows.at(k, column.i), 1)
                target = rows.at(row.i, column.i)
                (old,) = rows.load(target, 1)
                rows.store([code.binary("arith.addf", old, rows.times(taken, off))], target)
    code.finish()
    return symbol


def root_rows(unit: Unit, numbers: Numbers) -> str:
    """The symbol of `void (work, stride, first, width, low, high)`: the columns low … high of the
    rows first … first + width of Cholesky's factor."""
    symbol = f"gm.cholesky_rows_{numbers.name}x{numbers.lanes}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, (*_MATRIX, *_PANEL, *_COLUMNS), traits=("noinline",))
    work, stride, first, width, low, high = code.args
    rows = Rows(code, numbers, work, stride)

    def strip(column: Val, vectors: int) -> None:
        with code.loop(first, code.add(first, width)) as row:
            of = _columns(rows, row.i, 1)
            (values,) = rows.less(1, vectors, row.i, column, first, row.i, of)
            root = rows.number(rows.at(row.i, row.i))[0]
            found = [rows.divided(v, root) for v in values]
            rows.store(found, rows.at(row.i, column))

    rows.strips(low, high, strip)
    code.finish()
    return symbol


def root_rest(unit: Unit, numbers: Numbers) -> str:
    """The symbol of `void (work, stride, first, width, rows, low, high)`: take those rows off what
    is left of the upper half, in columns low … high."""
    symbol = f"gm.cholesky_rest_{numbers.name}x{numbers.lanes}"
    if not unit.once(symbol):
        return symbol
    args = (*_MATRIX, *_PANEL, ("rows", "i64"), *_COLUMNS)
    code = Code(unit, symbol, args, traits=("noinline",))
    work, stride, first, width, last, low, high = code.args
    rows = Rows(code, numbers, work, stride)
    end = code.add(first, width)

    def strip(column: Val, vectors: int) -> None:
        def some(row: Val, count: int) -> None:
            of = _columns(rows, row, count)
            found = rows.less(count, vectors, row, column, first, end, of)
            for n, values in enumerate(found):
                rows.store(values, rows.at(code.add(row, n), column))

        bottom = code.add(column, vectors * numbers.lanes)  # below is the lower half
        rows.tiles(end, code.binary("arith.minsi", bottom, last), some)

    rows.strips(low, high, strip)
    code.finish()
    return symbol


def _columns(rows: Rows, first: Val, count: int) -> Multipliers:
    """The conjugates of what row k has in `count` columns."""

    def of(k: Val) -> list[list[Val]]:
        code = rows.code
        places = [rows.at(k, code.add(first, n)) for n in range(count)]
        return [_conjugate(code, rows.number(place)) for place in places]

    return of


def _conjugate(code: Code, parts: list[Val]) -> list[Val]:
    return [*parts[:1], *(code.unary("arith.negf", part) for part in parts[1:])]
