"""Memory planning: where every value lives.

After the pass each op outside fusions has `buffers`, one string per tensor result:
`arena:<byte offset>`, `out:<i>` (the i-th result of the function, written directly), `alias:<k>`
(the memory of operand k) or `const`; the function has `arena_bytes`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from graphmill.ir.builder import Builder
from graphmill.ir.dims import DimLike, at_most, maximum, product
from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.ir.ops.control import SEALED
from graphmill.ir.types import TensorType
from graphmill.passes.arena import Storage, allocate
from graphmill.passes.inplace import reusable_operand, written_lines
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count

VIEWS = frozenset({"reshape", "check"})
CONSTANTS = frozenset({"constant", "prepare"})
LOOPS = frozenset({"while", "scan"})
# ops that take whole arrays in row-major order: their first operand, or every one
FIRST = VIEWS | {
    "scatter", "dynamic_update_slice", "transfer", "all_reduce", "all_gather", "reduce_scatter",
}  # fmt: skip
EVERY = frozenset({"custom_call"})


@register_pass("memory")
def memory(function: Function) -> Function:
    """Plans one arena by liveness; after it every value has a place and results need no copy.

    Values that are returned or yielded get memory of their own: a `copy` is inserted where one
    is a parameter, a constant, a block argument or given twice. A loop's results and what its
    body yields as carries keep their places for the whole loop. A result that takes over a donated
    parameter's memory is made there where the last op that reads the parameter can overwrite it,
    or is only written later; else it is copied there in the end.
    """
    function = function.clone()
    _pack_strided(function.block)
    _own_results(function.block, _in_place(function))
    planner = _Planner(function)
    planner.run()
    while clashing := planner.clashing():
        _copy_last(function.block, clashing)
        planner = _Planner(function)
        planner.run()
    function.attrs["arena_bytes"] = planner.arena
    return function


# ---- copies


def _pack_strided(block: Block) -> None:
    """Copy a strided parameter for ops that take whole arrays in row-major order.

    Regions take plain arrays by their typing rules, so this concerns the outermost block.
    """
    copies: dict[Value, Value] = {}
    for op in block.ops[:]:
        count_of = 1 if op.name in FIRST else len(op.operands) if op.name in EVERY else 0
        for i, value in enumerate(op.operands[:count_of]):
            if not isinstance(value.type, TensorType) or value.type.layout != "strided":
                continue
            if value not in copies:
                builder = Builder(block, op)
                builder.loc, builder.scope = op.loc, op.scope
                copies[value] = builder.op("copy", value)
                count("copies")
            op.set_operand(i, copies[value])


def _in_place(function: Function) -> set[int]:
    """The results that are a parameter donated for them."""
    numbers = enumerate(function.attrs.get("donated", ()))
    results = function.results
    return {i for i, n in numbers if n >= 0 and origin(results[i]) is function.params[n]}


def _own_results(block: Block, there: Set[int] = frozenset()) -> None:
    """Insert copies so that each value the terminator gives has memory of its own.

    Results `there` are where they shall be.
    """
    for op in block.ops[:]:
        if op.regions and op.name not in SEALED:
            for number, region in enumerate(op.regions):
                _own_results_of_region(op, number, region.block)
    if block.terminator.name == "return":
        _copy_shared(block, [i for i in range(len(block.yielded)) if i not in there])


def _own_results_of_region(op: Op, number: int, block: Block) -> None:
    _own_results(block)
    if op.name != "while" or number == 1:
        _copy_shared(block, range(len(block.yielded)))


def _copy_shared(block: Block, positions: Sequence[int]) -> None:
    terminator = block.terminator
    taken: set[Value] = set()
    for i in positions:
        value = terminator.operands[i]
        if not isinstance(value.type, TensorType):
            continue
        source = origin(value)
        if source not in taken and _is_own(source, block):
            taken.add(source)
            continue
        builder = Builder(block, terminator)
        builder.loc, builder.scope = terminator.loc, terminator.scope
        copied = builder.op("copy", value)
        copied.name = value.name
        terminator.set_operand(i, copied)
        taken.add(copied)
        count("copies")


def _copy_last(block: Block, positions: Sequence[int]) -> None:
    """Copy results behind everything else."""
    terminator = block.terminator
    for i in positions:
        builder = Builder(block, terminator)
        builder.loc, builder.scope = terminator.loc, terminator.scope
        copied = builder.op("copy", terminator.operands[i])
        copied.name = terminator.operands[i].name
        terminator.set_operand(i, copied)
        count("copies to donated memory")


def origin(value: Value) -> Value:
    """The value whose memory a view shows."""
    while value.op is not None and value.op.name in VIEWS:
        value = value.op.operands[0]
    return value


def _is_own(value: Value, block: Block) -> bool:
    op = value.op
    return op is not None and op.block is block and op.name not in CONSTANTS | {"variable.read"}


# ---- the plan


class _Planner:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.clock = 0
        self.storage: dict[Value, Storage] = {}
        self.order: list[tuple[int, Op]] = []
        self.alias: dict[Value, int] = {}
        self.arena: DimLike = 0
        self.started: dict[Value, int] = {}
        self.donated: dict[Storage, Storage] = {}  # a result's storage: the parameter's
        self.turns: dict[str, DimLike] = {}  # the last turn of each loop around whose dim has one

    def run(self) -> None:
        for param in self.function.params:
            self.storage[param] = Storage(0, 0, 0, "given")
        forever = 1 << 60
        numbers = self.function.attrs.get("donated", ())
        for i, value in enumerate(self.function.results):
            if isinstance(value.type, TensorType):
                storage = Storage(0, 0, forever, f"out:{i}")
                if i < len(numbers) and numbers[i] >= 0:
                    param = self.function.params[numbers[i]]
                    if origin(value) is param:
                        continue
                    self.donated[storage] = self.storage[param]
                    self.storage[param].size = param.tensor.nbytes
                self.storage[origin(value)] = storage
        self._time(self.function.block)
        for time, op in reversed(self.order):
            if any(self._is_bound(self.storage[r]) for r in op.results if r in self.storage):
                self._reuse(time, op)
        for time, op in self.order:
            self._reuse(time, op)
        self.arena = allocate(self._roots())
        for _, op in self.order:
            self._write(op)

    def _is_bound(self, storage: Storage) -> bool:
        """Whether a value has a place that what it is made of can be made in, too."""
        return storage.find() in self.donated or storage.find().turns is not None

    def clashing(self) -> list[int]:
        """The results that would be written into donated memory before it has been read."""
        first: dict[Storage, tuple[int, Value]] = {}
        for value, start in self.started.items():
            storage = self.storage[value].find()
            if storage in self.donated and value.op is not None and value.op.name not in VIEWS:
                first[storage] = min(first.get(storage, (start, value)), (start, value),
                                     key=lambda pair: pair[0])  # fmt: skip
        return [
            int(storage.fixed.removeprefix("out:"))
            for storage, (start, value) in first.items()
            if start <= self.donated[storage].end and not self._inherits(value, storage)
        ]

    def _inherits(self, value: Value, storage: Storage) -> bool:
        """Whether an op overwrites the donated parameter itself, being the last to read it."""
        op, k = value.op, self.alias.get(value)
        return (
            op is not None
            and k is not None
            and (self.storage[op.operands[k]].find() is self.donated[storage])
        )

    def _roots(self) -> list[Storage]:
        found = {s.find(): None for s in self.storage.values()}
        return [storage for storage in found if not storage.fixed]

    # ---- lifetimes

    def _time(self, block: Block) -> None:
        """Number the ops, and give every value a storage that lives from its op to its last use."""
        for op in block.ops:
            self.clock += 1
            start = self.clock
            self._place(op, start)
            if op.regions and op.name not in SEALED:
                self._enter(op, start)
                self.clock += 1
            for operand in op.operands:
                if operand in self.storage:
                    storage = self.storage[operand]
                    storage.end = max(storage.end, self.clock)
            self.order.append((self.clock, op))

    def _place(self, op: Op, start: int) -> None:
        for result in op.results:
            self.started[result] = start
            if not isinstance(result.type, TensorType) or result in self.storage:
                continue
            if op.name in VIEWS:
                self.storage[result] = self.storage[op.operands[0]]
            elif op.name in CONSTANTS | {"variable.read"}:
                fixed = "const" if op.name in CONSTANTS else "given"
                self.storage[result] = Storage(0, start, start, fixed)
            else:
                self.storage[result] = Storage(
                    result.type.nbytes, start, start, room=self._room(result.type)
                )

    def _room(self, type: TensorType) -> DimLike | None:
        """The bytes of a type in the turn where it is largest; None where its size is fixed."""
        if self.turns.keys().isdisjoint(type.names):
            return None
        return product(at_most(dim, self.turns) for dim in type.shape) * type.dtype.itemsize

    def _enter(self, op: Op, start: int) -> None:
        """Plan the regions of a control-flow op."""
        carried = op.attrs["carry"] if op.name in LOOPS else 0
        held: list[Storage] = []
        for region in op.regions:
            block = region.block
            operands = op.operands[1:] if op.name == "cond" else op.operands
            for arg, operand in zip(block.args, operands, strict=True):
                if isinstance(arg.type, TensorType):
                    self.storage[arg] = self._argument(op, arg, operand, carried)
            if op.name == "cond":
                for value, result in zip(block.yielded, op.results, strict=True):
                    if isinstance(value.type, TensorType):
                        self.storage[result].held = True
                        self.storage[origin(value)] = self.storage[result]
            elif region is op.regions[-1]:
                held += self._carries(op, block, carried, start)
            around = self.turns
            if "turn" in op.attrs:
                last = at_most(op.attrs["length"], around) - 1
                self.turns = {**around, op.attrs["turn"]: maximum(last, 0)}
            self._time(block)
            self.turns = around
        held += [self.storage[result] for result in op.results if result in self.storage]
        for storage in held:
            storage.end = max(storage.end, self.clock + 1)

    def _argument(self, op: Op, arg: Value, operand: Value, carried: int) -> Storage:
        """Captured values are the operand's memory; carried ones move in turn."""
        if op.name not in LOOPS or arg.index >= carried:
            return self.storage[operand]
        if op.name == "while" and arg.owner is op.regions[0].block:
            return Storage(0, 0, 0, "given")
        return Storage(arg.tensor.nbytes, 0, 0, "given", turns=(op, arg.index))

    def _carries(self, op: Op, block: Block, carried: int, start: int) -> list[Storage]:
        """Storages for what the body yields: a carry's spare; stacked values need none."""
        held = []
        for i, value in enumerate(block.yielded):
            if isinstance(value.type, TensorType):
                size = value.type.nbytes if i < carried else 0
                storage = Storage(size, start, start, turns=(op, i))
                self.storage[origin(value)] = storage
                held.append(storage)
        return held

    # ---- in place

    def _reuse(self, time: int, op: Op) -> None:
        """Let results take over the memory of operands that die here."""
        if op.name in LOOPS:
            for i in range(op.attrs["carry"]):
                if op.results[i] in self.storage:
                    self._take_over(op, i, i, time)
            return
        if op.name == "fusion" and op.attrs["kind"] == "iterate":
            for number, k in written_lines(op):
                if op.results[number] in self.storage:
                    self._take_over(op, number, k, time)
        if len(op.results) != 1 or op.result not in self.storage or op.name in VIEWS:
            return
        for k in reusable_operand(op):
            if op.result not in self.alias:
                self._take_over(op, 0, k, time)

    def _take_over(self, op: Op, number: int, k: int, time: int) -> None:
        """Merge a result's storage into operand k's, if that is ours to overwrite."""
        own = self.storage[op.results[number]].find()
        other = self.storage[op.operands[k]].find()
        size = op.results[number].tensor.nbytes
        if own is other or own.held:
            return
        if other.end != time or other.size != size or self._shares(op, other) > 1:
            return
        if own.fixed:
            if self.donated.get(own) is other:
                self.alias[op.results[number]] = k
                count("in place of a parameter")
            else:
                self._start_in_result(op, number, k)
            return
        turning = own.turns is not None and own.turns == other.turns
        if own.turns is not None and not turning:
            self._start_in_result(op, number, k)
            return
        if other.fixed and not turning:
            return
        own.merged, other.end = other, max(other.end, own.end)
        self.alias[op.results[number]] = k
        count("in place")

    def _start_in_result(self, op: Op, number: int, k: int) -> None:
        """Let an operand be made where a result of the function or of a turn of a loop will be,
        which nobody else uses."""
        own = self.storage[op.results[number]].find()
        other = self.storage[op.operands[k]].find()
        ours = own.fixed.startswith("out") or own.turns is not None
        if ours and not (other.fixed or other.held or other.turns):
            other.merged = own
            self.alias[op.results[number]] = k
            count("in place")

    def _shares(self, op: Op, storage: Storage) -> int:
        """How many operands lie in a storage."""
        found = [self.storage[v].find() for v in op.operands if v in self.storage]
        return found.count(storage)

    # ---- the result

    def _write(self, op: Op) -> None:
        if not op.results:
            return
        places = []
        for result in op.results:
            if result not in self.storage:
                continue
            storage = self.storage[result].find()
            if op.name in VIEWS:
                places.append("alias:0")
            elif result in self.alias:
                places.append(f"alias:{self.alias[result]}")
            elif storage.fixed:
                places.append(storage.fixed)
            else:
                places.append(f"arena:{storage.offset}")
        op.attrs["buffers"] = tuple(places)
