"""Running a planned function in the memory the plan gives it: a check on the plan itself.

Every result is written where `buffers` says, over whatever lies there, and every operand is read
back from there; memory starts out as garbage. Loops take their carries in turn from the result's
place and the yield's, as code generation does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphmill.ir.dims import evaluate, parse_dim
from graphmill.ir.graph import Block, Function, Module, Op, Value
from graphmill.ir.reference import _Evaluator, bind_sizes

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Machine:
    """The memory of one call."""

    def __init__(self, function: Function, arrays: Sequence[Any]) -> None:
        self.function = function
        given = [np.array(a, order="C") for a in arrays]
        types = [p.type for p in function.params]
        self.sizes = bind_sizes(types, [a.shape for a in given], {})
        self.evaluator = _Evaluator(Module(), {})
        self.evaluator.sizes = self.sizes
        self.arena = self.garbage(evaluate(function.attrs["arena_bytes"], self.sizes))
        self.outputs = [self.garbage(self.nbytes(v)) for v in function.results]
        self.inputs = [self.as_bytes(a) for a in given]
        self.place: dict[Value, Bytes] = dict(zip(function.params, self.inputs, strict=True))
        self.redirected: dict[Value, Bytes] = {}

    def run(self) -> list[Any]:
        """The results, after checking that they lie in the outputs and the inputs are intact."""
        before = [i.copy() for i in self.inputs]
        self.block(self.function.block)
        for old, new in zip(before, self.inputs, strict=True):
            assert np.array_equal(old, new), "an input was overwritten"
        for value, memory in zip(self.function.results, self.outputs, strict=True):
            assert np.shares_memory(self.place[value], memory) or not memory.size
        return [self.load(v, m) for v, m in zip(self.function.results, self.outputs, strict=True)]

    # ---- memory

    def garbage(self, size: int) -> Bytes:
        return np.full(size, 0xA5, np.uint8)

    def as_bytes(self, array: Any) -> Bytes:
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def nbytes(self, value: Value) -> int:
        return evaluate(value.tensor.nbytes, self.sizes)

    def load(self, value: Value, memory: Bytes | None = None) -> Any:
        memory = self.place[value] if memory is None else memory
        shape = value.tensor.concrete(self.sizes)
        flat = memory[: self.nbytes(value)].copy().view(value.tensor.dtype.numpy)
        return flat.reshape(shape)

    def store(self, value: Value, array: Any) -> None:
        assert array.shape == value.tensor.concrete(self.sizes)
        data = self.as_bytes(array.astype(value.tensor.dtype.numpy))
        assert self.place[value].size >= data.size, "a place is too small"
        self.place[value][: data.size] = data

    def find(self, op: Op, where: str, value: Value) -> Bytes:
        kind, _, rest = where.partition(":")
        if kind == "alias":
            return self.place[op.operands[int(rest)]]
        if value in self.redirected:
            return self.redirected[value]
        if kind == "out":
            return self.outputs[int(rest)]
        assert kind == "arena", where
        offset = evaluate(parse_dim(rest), self.sizes)
        assert offset % 64 == 0
        assert offset + self.nbytes(value) <= self.arena.size, "beyond the arena"
        return self.arena[offset : offset + self.nbytes(value)]

    # ---- ops

    def block(self, block: Block) -> None:
        for op in block.ops[:-1]:
            if op.name == "constant":
                self.place[op.result] = self.as_bytes(op.attrs["value"])
                continue
            places = [self.find(op, w, r) for w, r in self.plan(op)]
            if op.name in ("while", "scan", "cond"):
                getattr(self, op.name)(op, places)
            else:
                found = self.evaluator.op(op, [self.load(v) for v in op.operands])
                self.place.update(zip(op.results, places, strict=True))
                for result, array in zip(op.results, found, strict=True):
                    self.store(result, np.asarray(array))
            self.place.update(zip(op.results, places, strict=True))

    def plan(self, op: Op) -> list[tuple[str, Value]]:
        return list(zip(op.attrs["buffers"], op.results, strict=True))

    def root(self, value: Value) -> Value:
        while (op := value.op) is not None and op.attrs["buffers"][value.index][:6] == "alias:":
            value = op.operands[int(op.attrs["buffers"][value.index][6:])]
        return value

    def redirect(self, yields: Sequence[Value], places: Sequence[Bytes]) -> None:
        for value, place in zip(yields, places, strict=True):
            assert self.root(value).op is not None
            self.redirected[self.root(value)] = place

    def cond(self, op: Op, places: list[Bytes]) -> None:
        index = self.load(op.operands[0])
        last = len(op.regions) - 1
        chosen = (0 if index else 1) if index.dtype == bool else min(max(int(index), 0), last)
        block = op.regions[chosen].block
        self.place.update(
            (a, self.place[v]) for a, v in zip(block.args, op.operands[1:], strict=True)
        )
        self.redirect(block.yielded, places)
        self.block(block)

    def start(self, op: Op, body: Block, places: list[Bytes]) -> tuple[list[Bytes], list[Bytes]]:
        """Where the carries are and where the body writes the next ones."""
        current, spare = [], []
        for i in range(op.attrs["carry"]):
            home = places[i][: self.nbytes(op.results[i])]
            home[:] = self.as_bytes(self.load(op.operands[i]))
            current.append(home)
            root = self.root(body.yielded[i])
            if root is body.args[i]:
                spare.append(home)
            else:
                assert root.op is not None
                where = root.op.attrs["buffers"][root.index]
                spare.append(self.find(root.op, where, root))
        return current, spare

    def turn(self, body: Block, current: list[Bytes], spare: list[Bytes]) -> None:
        for i, (now, then) in enumerate(zip(current, spare, strict=True)):
            if now is not then:
                self.redirect([body.yielded[i]], [then])

    def end(self, op: Op, places: list[Bytes], current: list[Bytes]) -> None:
        for i, memory in enumerate(current):
            places[i][: memory.size] = memory.copy()

    def bind(self, block: Block, current: list[Bytes], rest: Sequence[Bytes]) -> None:
        self.place.update(zip(block.args, [*current, *rest], strict=True))

    def _while(self, op: Op, places: list[Bytes]) -> None:
        test, body = (region.block for region in op.regions)
        captured = [self.place[v] for v in op.operands[op.attrs["carry"] :]]
        current, spare = self.start(op, body, places)
        while True:
            self.bind(test, current, captured)
            self.block(test)
            if not self.load(test.yielded[0]):
                break
            self.bind(body, current, captured)
            self.turn(body, current, spare)
            self.block(body)
            current, spare = spare, current
        self.end(op, places, current)

    def scan(self, op: Op, places: list[Bytes]) -> None:
        body, carry, count = op.regions[0].block, op.attrs["carry"], op.attrs["xs"]
        length = evaluate(op.attrs["length"], self.sizes)
        captured = [self.place[v] for v in op.operands[carry + count :]]
        current, spare = self.start(op, body, places)
        for i in range(length)[:: -1 if op.attrs["reverse"] else 1]:
            xs = [self.part(v, self.place[v], i, length) for v in op.operands[carry:][:count]]
            ys = [
                self.part(v, place, i, length)
                for v, place in zip(op.results[carry:], places[carry:], strict=True)
            ]
            self.bind(body, current, [*xs, *captured])
            self.turn(body, current, spare)
            self.redirect(body.yielded[carry:], ys)
            self.block(body)
            current, spare = spare, current
        self.end(op, places, current)

    def part(self, value: Value, memory: Bytes, i: int, length: int) -> Bytes:
        size = self.nbytes(value) // length
        return memory[i * size : (i + 1) * size]


setattr(Machine, "while", Machine._while)
