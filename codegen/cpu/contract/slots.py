"""A kernel's view of its `data`: slots by name, sizes, its own scratch, its range of items."""

from __future__ import annotations

from collections.abc import Iterator

from graphmill.codegen.cpu.contract.elements import least, minus, most
from graphmill.codegen.cpu.contract.spec import SLOTS, GemmSpec, Sizes
from graphmill.codegen.cpu.emit import Code, Val

BODY = (("data", "!llvm.ptr"), ("begin", "i64"), ("end", "i64"), ("worker", "i64"))
POINTERS = ("a", "b", "c", "shared", "scratch")
GRID_SHIFT = 16  # a grid is one i64: its columns from this bit on, its rows below


def decoded(code: Code, grid: Val) -> tuple[Val, Val]:
    """Rows and columns of a grid of blocks of C."""
    rows = code.binary("arith.andi", grid, code.i64((1 << GRID_SHIFT) - 1))
    return rows, code.binary("arith.shrui", grid, code.i64(GRID_SHIFT))


class Slots:
    """The slots of a product's kernel; what the spec knows is a constant, the rest is loaded."""

    def __init__(self, code: Code, spec: GemmSpec) -> None:
        self.code, self.spec = code, spec
        self.data, self.begin, self.end, worker = code.args[:4]
        self._values = {name: self._load(name) for name in SLOTS}
        self._finish_loading(worker)

    @property
    def first_extra(self) -> int:
        """The slot where the epilogue's own begin."""
        return len(SLOTS)

    def _finish_loading(self, worker: Val) -> None:
        code = self.code
        self.sizes = Sizes(*(self[name] for name in ("m", "n", "k", "batch")))
        offset = code.mul(worker, self["scratch_bytes"])
        self.memory = code.at(self["scratch"], offset, "i8")

    def __getitem__(self, name: str) -> Val:
        return self._values[name]

    def _load(self, name: str) -> Val:
        code, spec = self.code, self.spec
        known = {
            "m": spec.m, "n": spec.n, "k": spec.k, "batch": spec.batch,
            "a_k": 1 if spec.a_order == "row" else None,
            "a_m": 1 if spec.a_order == "col" else None,
            "b_n": 1 if spec.b_order == "row" else None,
            "b_k": 1 if spec.b_order == "col" else None,
        }.get(name)  # fmt: skip
        if known is not None:
            return code.i64(known)
        kind = "!llvm.ptr" if name in POINTERS else "i64"
        return code.load(code.at(self.data, SLOTS.index(name), "i64"), kind, 8)

    def place(self, row: Val, batch: Val) -> tuple[Val, Val]:
        """Row and batch index as the epilogue knows them."""
        return row, batch

    def grid(self, tiles: Val, panels: Val) -> tuple[Val, Val]:
        """Into how many rows and columns of blocks `tiles` × `panels` are cut for the threads."""
        return decoded(self.code, self["grid"])

    def part(self, batch: Val, depth: Val) -> tuple[Val, Val, Val]:
        """The matrix that a batch index stands for, and what of its `depth` units of k it sums."""
        return batch, self.code.i64(0), depth

    def matrices(self, items: Val) -> Iterator[tuple[Val, Val, Val]]:
        """For each matrix this call touches: its batch index and its range of `items` items.

        A generator of one turn: its body is written once, inside the loop over the batch.
        """
        code = self.code
        if self.spec.batch == 1:
            yield code.i64(0), self.begin, self.end
            return
        per = most(code, items, 1)
        first = code.binary("arith.divui", self.begin, per)
        past = code.add(code.add(self.end, per), -1)
        with code.loop(first, code.binary("arith.divui", past, per)) as batch:
            offset = code.mul(batch.i, per)
            low = most(code, minus(code, self.begin, offset), 0)
            yield batch.i, low, least(code, minus(code, self.end, offset), per)
