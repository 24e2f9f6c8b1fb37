"""Products with at most four rows or columns, bound by the bandwidth of the one large operand.

`emit_dots`: the large operand is contiguous along k; a few of its rows at a time, as dot products.
`emit_sums`: it is contiguous across k; several of its rows at a time are added into a chunk of the
result that stays in L1.
"""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.blocking import Tile
from graphmill.codegen.cpu.contract.elements import (
    ceil_div,
    is_plain,
    least,
    load_wide,
    memory_element,
    minus,
    store_as,
)
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.microkernel import add, multiply_add
from graphmill.codegen.cpu.contract.reading import Reader
from graphmill.codegen.cpu.contract.slots import BODY, Slots
from graphmill.codegen.cpu.contract.spec import (
    AS_THEY_LIE,
    SLOTS,
    Epilogue,
    GemmSpec,
    Place,
    Prologue,
    Prologues,
    Sizes,
    Spot,
)
from graphmill.codegen.cpu.emit import Code, Loop, Unit, Val
from graphmill.codegen.cpu.schedule import Choices
from graphmill.ir.dtypes import DType
from graphmill.records import record

FEW = 4  # rows or columns that count as skinny
MOST = 8  # that may run so: more sums than registers hold
COLUMNS = 64  # columns of one work item of `emit_sums`
PAGE = 4096  # bytes, after which addresses look alike to a core that compares loads and stores
CHUNK = 4096  # columns summed together: long streams through the large operand


@record
class Skinny:
    """Which operand is the large one: B (`m` is small) or A (`n` is small)."""

    kind: str  # "dots" or "sums"
    few: int
    large_b: bool
    computed: bool = False  # whether a prologue computes the small one

    def count(self, sizes: Sizes) -> Val:
        """Rows of results along the large operand."""
        return sizes.n if self.large_b else sizes.m

    @property
    def unit(self) -> int:
        """Results along the large operand in one work item."""
        return COLUMNS if self.kind == "sums" else group(self.few)


def group(few: int) -> int:
    """Rows of the large operand in flight: eight to twelve sums in registers."""
    return 4 if few < 4 else 2


def is_few(size: object, few: int = FEW) -> bool:
    """Whether so few rows read B once, in place, rather than in packed panels."""
    return isinstance(size, int) and 0 < size <= few


def chosen(spec: GemmSpec, choices: Choices) -> Skinny | None:
    """How `spec` runs as a skinny product, by the model or as measured; None for a tiled one."""
    model = skinny(spec)
    shape = model or skinny(spec, MOST)
    few = model is not None
    if shape is not None and not spec.acc.is_complex:
        few = choices.pick("skinny", few, (True, False))
    return shape if few else None


def skinny(spec: GemmSpec, few: int = FEW) -> Skinny | None:
    """How `spec` runs as a skinny product of up to `few` rows or columns; None if it is none."""
    if spec.b_packed:
        return None
    a_computed, b_computed = bool(spec.a_computed), bool(spec.b_computed)
    if spec.n is not None and is_few(spec.n, few) and spec.a_order == "row":
        return Skinny("dots", spec.n, False, b_computed)
    if spec.m is not None and is_few(spec.m, few) and spec.b_order in ("row", "col"):
        return Skinny("sums" if spec.b_order == "row" else "dots", spec.m, True, a_computed)
    if spec.n == 1 and spec.a_order == "col":
        return Skinny("sums", 1, False, b_computed)
    return None


def scratch_elements(code: Code, shape: Skinny, sizes: Sizes) -> Val:
    """Elements of a worker's scratch: a chunk of sums, then the small operand packed."""
    small = code.mul(sizes.k, shape.few)
    if shape.kind == "dots":
        return small
    chunk = _chunk_elements(shape)
    return code.add(small, chunk) if shape.computed else code.i64(chunk)


def _chunk_elements(shape: Skinny) -> int:
    return CHUNK * shape.few + PAGE


def emit_skinny(
    unit: Unit, symbol: str, spec: GemmSpec, tile: Tile, shape: Skinny, epilogue: Epilogue | None,
    prologues: Prologues = AS_THEY_LIE,
) -> None:  # fmt: skip
    """Write the kernel that computes the items `begin`..`end`."""
    code = Code(unit, symbol, BODY, internal=False)
    _Skinny(code, spec, tile, shape, epilogue, prologues).body()
    code.finish()


@record
class _Small:
    """Where the small operand is, with its strides."""

    base: Val
    along: Val
    k: Val
    dtype: DType


class _Skinny:
    sums: Val  # where a chunk of results is summed

    def __init__(
        self, code: Code, spec: GemmSpec, tile: Tile, shape: Skinny, epilogue: Epilogue | None,
        prologues: Prologues,
    ) -> None:  # fmt: skip
        self.code, self.spec, self.tile, self.shape = code, spec, tile, shape
        self.epilogue = epilogue
        self.slots = Slots(code, spec)
        slot = self.slots
        self.sizes = slot.sizes
        self.extra = extra_slots(code, slot.data, epilogue, len(SLOTS))
        self.count = shape.count(self.sizes)
        if shape.large_b:
            self.x_type, self.y_type = spec.b, spec.a
            self.x, self.x_along, self.x_k = slot["b"], slot["b_n"], slot["b_k"]
            self.y, self.y_along, self.y_k = slot["a"], slot["a_m"], slot["a_k"]
            self.x_batch, self.y_batch = slot["b_batch"], slot["a_batch"]
        else:
            self.x_type, self.y_type = spec.a, spec.b
            self.x, self.x_along, self.x_k = slot["a"], slot["a_m"], slot["a_k"]
            self.y, self.y_along, self.y_k = slot["b"], slot["b_n"], slot["b_k"]
            self.x_batch, self.y_batch = slot["a_batch"], slot["b_batch"]
        large, small = prologues.a, prologues.b
        if shape.large_b:
            large, small = small, large
        self.reader = self._reader(self.x_type, large)
        self.small_reader = self._reader(self.y_type, small)

    def _reader(self, dtype: DType, prologue: Prologue | None) -> Reader:
        first = prologue.first if prologue else 0
        extra = extra_slots(self.code, self.slots.data, prologue, first)
        return Reader(self.tile, dtype, False, prologue, extra)

    def body(self) -> None:
        """The range of items of every matrix of the batch."""
        per = ceil_div(self.code, self.count, self.shape.unit)
        for batch, low, high in self.slots.matrices(per):
            code = self.code
            x = code.at(self.x, code.mul(batch, self.x_batch), memory_element(self.x_type))
            y = code.at(self.y, code.mul(batch, self.y_batch), memory_element(self.y_type))
            c_batch = code.mul(batch, self.slots["c_batch"])
            c = code.at(self.slots["c"], c_batch, memory_element(self.spec.out))
            if self.shape.kind == "dots":
                self._dots(batch, x, self._pack_y(batch, y), c, low, high)
            else:
                small = _Small(y, self.y_along, self.y_k, self.y_type)
                if self.shape.computed:
                    small = self._pack_y(batch, y)
                self._sums(batch, x, small, c, low, high)

    def finish(
        self, c: Val, batch: Val, along: Val, few: Val | int, value: Val, mask: Val | None
    ) -> None:
        """Epilogue and store of the results `along`… of small row or column `few`."""
        code = self.code
        other = code.i64(few) if isinstance(few, int) else few
        row, col = (other, along) if self.shape.large_b else (along, other)
        place = Place(row, col, batch, value.lanes, mask, self.extra)
        done = apply(code, self.epilogue, value, self.spec.acc, place)
        index = code.add(code.mul(row, self.slots["c_m"]), col)
        store_as(code, done, c, index, self.spec.out, mask)

    # ---- contiguous along k

    def _pack_y(self, batch: Val, y: Val) -> _Small:
        """The small operand with k contiguous, as sums' type."""
        code, tile, k = self.code, self.tile, self.sizes.k
        order = self.spec.a_order if self.shape.large_b else self.spec.b_order
        along_k = order == ("row" if self.shape.large_b else "col")
        one = code.i64(1)
        if along_k and is_plain(self.y_type, tile.element) and not self.shape.computed:
            return _Small(y, self.y_along, one, self.y_type)
        out = self.slots.memory
        if self.shape.kind == "sums":
            out = code.at(out, _chunk_elements(self.shape), tile.element)

        def pack(few: Val, start: Val | int, stop: Val, lanes: int) -> None:
            with code.loop(start, stop, lanes or 1) as at:
                index = code.add(code.mul(few, self.y_along), code.mul(at.i, self.y_k))
                spot = Spot(at.i, few, batch, lanes, along_k=True)
                value = self.small_reader.computed(code, y, index, spot)
                to = code.add(code.mul(few, k), at.i)
                code.store(value, code.at(out, to, tile.element), tile.bytes)

        bulk = code.i64(0)
        if along_k:
            bulk = code.op(f"arith.andi {k}, {code.i64(-tile.lanes)} : i64", "i64")
        with code.loop(0, self.shape.few) as row:
            if along_k:
                pack(row.i, 0, bulk, tile.lanes)
            pack(row.i, bulk, k, 0)
        return _Small(out, k, one, self.spec.acc)

    def _dots(self, batch: Val, x: Val, small: _Small, c: Val, low: Val, high: Val) -> None:
        code, tile, few, rows = self.code, self.tile, self.shape.few, group(self.shape.few)
        y, pitch = small.base, small.along
        deep = 2 if few * rows <= 4 else 1  # vectors along k: enough sums to hide latency
        ys = [code.at(y, code.mul(pitch, r), tile.element) for r in range(few)]
        step = tile.lanes * deep
        bulk = code.op(f"arith.andi {self.sizes.k}, {code.i64(-step)} : i64", "i64")
        with code.loop(low, high) as item:
            first = code.mul(item.i, rows)
            xs, places = [], []
            for i in range(rows):  # rows that do not exist repeat the last one
                row = least(code, code.add(first, i), code.add(self.count, -1))
                places.append(row)
                xs.append(code.at(x, code.mul(row, self.x_along), memory_element(self.x_type)))
            zero = code.const(0, tile.vector)
            with code.loop(0, bulk, step, [zero] * (rows * few * deep)) as loop:
                loop.next = self._products(batch, xs, places, ys, loop, tile.lanes, deep)
            totals = [
                self._total(loop.results[at * deep : (at + 1) * deep]) for at in range(rows * few)
            ]
            with code.loop(bulk, self.sizes.k, 1, totals) as rest:
                rest.next = self._products(batch, xs, places, ys, rest, 0, 1)
            for i in range(rows):
                along = code.add(first, i)
                with code.when(code.compare("arith.cmpi", "slt", along, self.count)):
                    for r in range(few):
                        self.finish(c, batch, along, r, rest.results[i * few + r], None)

    def _products(
        self, batch: Val, xs: list[Val], places: list[Val], ys: list[Val], loop: Loop, lanes: int,
        deep: int,
    ) -> list[Val]:  # fmt: skip
        code, tile, sums = self.code, self.tile, list(loop.carried)
        few = len(ys)
        for d in range(deep):
            at = code.add(loop.i, d * lanes)
            right = [
                code.load(code.at(y, at, tile.element), tile.vector if lanes else tile.element,
                          tile.bytes) for y in ys
            ]  # fmt: skip
            for i, x in enumerate(xs):
                spot = Spot(at, places[i], batch, lanes, along_k=True)
                left = self.reader.computed(code, x, at, spot)
                for r in range(few):
                    to = (i * few + r) * deep + d
                    sums[to] = multiply_add(code, tile, left, right[r], sums[to])
        return sums

    def _total(self, parts: list[Val]) -> Val:
        """The sum over vectors and lanes, as a tree."""
        code, tile = self.code, self.tile
        value = parts[0]
        for part in parts[1:]:
            value = add(code, tile, value, part)
        while value.lanes > 1:
            half = value.lanes // 2
            kind = f"vector<{half}x{tile.element}>"
            low, high = list(range(half)), list(range(half, 2 * half))
            a, b = (
                code.op(f"vector.shuffle {value}, {value} {at} : {value.type}, {value.type}", kind)
                for at in (low, high)
            )
            value = add(code, tile, a, b)
        return code.op(f"vector.extract {value}[0] : {tile.element} from {value.type}",
                       tile.element)  # fmt: skip

    # ---- contiguous across k

    def _sums(self, batch: Val, x: Val, small: _Small, c: Val, low: Val, high: Val) -> None:
        code, tile, few = self.code, self.tile, self.shape.few
        start, stop = code.mul(low, COLUMNS), least(code, code.mul(high, COLUMNS), self.count)
        deep = max(1, 8 // few)
        bulk = minus(code, self.sizes.k, code.binary("arith.remui", self.sizes.k, code.i64(deep)))
        with code.loop(start, stop, CHUNK) as chunk:
            width = least(code, minus(code, stop, chunk.i), code.i64(CHUNK))
            source = code.at(x, code.mul(chunk.i, self.x_along), memory_element(self.x_type))
            self.sums = self._apart_from(source)
            with code.loop(0, few * CHUNK, tile.lanes) as at:
                address = code.at(self.sums, at.i, tile.element)
                code.store(code.const(0, tile.vector), address, tile.bytes)
            with code.loop(0, bulk, deep) as k:
                self._add_rows(source, batch, small, k.i, (chunk.i, width), deep)
            with code.loop(bulk, self.sizes.k) as k:
                self._add_rows(source, batch, small, k.i, (chunk.i, width), 1)
            with code.loop(0, few) as row:
                self._finish_chunk(c, batch, chunk.i, row.i, width)

    def _apart_from(self, rows: Val) -> Val:
        """Scratch memory half a page from where rows lie in theirs: else loads wait for stores."""
        code = self.code
        here, there = (
            code.op(f"llvm.ptrtoint {p} : !llvm.ptr to i64", "i64")
            for p in (self.slots.memory, rows)
        )
        away = minus(code, code.add(there, PAGE // 2), here)
        away = code.op(f"arith.andi {away}, {code.i64(PAGE - 64)} : i64", "i64")
        return code.at(self.slots.memory, away, "i8")

    def _add_rows(
        self, x: Val, batch: Val, small: _Small, k: Val, chunk: tuple[Val, Val], deep: int
    ) -> None:
        """Add `deep` rows of the large operand, weighted, to each of the sums."""
        code, tile, few = self.code, self.tile, self.shape.few
        width = chunk[1]
        element = memory_element(self.x_type)
        rows = [code.at(x, code.mul(code.add(k, d), self.x_k), element) for d in range(deep)]
        weights = []
        for r in range(few):
            for d in range(deep):
                index = code.add(code.mul(small.along, r), code.mul(code.add(k, d), small.k))
                weights.append(load_wide(code, small.base, index, small.dtype, tile.element))
        bulk = code.op(f"arith.andi {width}, {code.i64(-tile.lanes)} : i64", "i64")
        self._add_span(rows, weights, (k, chunk[0], batch), (code.i64(0), bulk), tile.lanes)
        self._add_span(rows, weights, (k, chunk[0], batch), (bulk, width), 0)

    def _add_span(
        self,
        rows: list[Val],
        weights: list[Val],
        corner: tuple[Val, Val, Val],
        span: tuple[Val, Val],
        lanes: int,
    ) -> None:
        code, tile, deep = self.code, self.tile, len(rows)
        first, column, batch = corner
        kind = tile.vector if lanes else tile.element
        scale = [code.splat(weight, lanes) for weight in weights]
        with code.loop(*span, lanes or 1) as at:
            values = []
            for d, row in enumerate(rows):
                along = code.add(column, at.i)
                spot = Spot(code.add(first, d), along, batch, lanes, along_k=False)
                values.append(self.reader.computed(code, row, at.i, spot))
            for r in range(self.shape.few):
                address = code.at(self.sums, code.add(at.i, r * CHUNK), tile.element)
                total = code.load(address, kind, tile.bytes)
                for d, value in enumerate(values):
                    total = multiply_add(code, tile, scale[r * deep + d], value, total)
                code.store(total, address, tile.bytes)

    def _finish_chunk(self, c: Val, batch: Val, chunk: Val, row: Val, width: Val) -> None:
        code, tile = self.code, self.tile
        base = code.at(self.sums, code.mul(row, CHUNK), tile.element)
        bulk = code.i64(0)
        if self.shape.large_b:  # results of one row lie side by side: whole vectors, then masked
            bulk = code.op(f"arith.andi {width}, {code.i64(-tile.lanes)} : i64", "i64")
            with code.loop(0, bulk, tile.lanes) as at:
                value = code.load(code.at(base, at.i, tile.element), tile.vector, tile.bytes)
                self.finish(c, batch, code.add(chunk, at.i), row, value, None)
            with code.when(code.compare("arith.cmpi", "slt", bulk, width)):
                value = code.load(code.at(base, bulk, tile.element), tile.vector, tile.bytes)
                mask = memory.tail_mask(code, minus(code, width, bulk), tile.lanes)
                self.finish(c, batch, code.add(chunk, bulk), row, value, mask)
            return
        with code.loop(0, width) as at:
            value = code.load(code.at(base, at.i, tile.element), tile.element, tile.bytes)
            self.finish(c, batch, code.add(chunk, at.i), row, value, None)
