"""Layers that are alike become calls of one function.

`for layer in layers: x = layer(x)` is traced as a copy of the layer for each. Here the copies
become calls, so that the passes that follow look at one of them; `inline` puts what they make of
it wherever it is called, before memory is planned. The last copy stays as it is, for what follows
may need a part of it only, and so does the first one where it may be one kernel with what it reads.

Layers are cut where little goes from one to the next, and where that is in memory in any case:
before a product or a reduction. What stands around a call is not known inside, so functions with
passes that look further (layouts of convolutions) stay whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from graphmill.ir.graph import Block, Function, Module, Op, Value, clone_op
from graphmill.ir.ops.base import lookup
from graphmill.passes.cse import frozen
from graphmill.passes.dce import remove_dead
from graphmill.passes.fusion_graph import has_effect, node_kind
from graphmill.passes.manager import LEAST_OPS, register_pass
from graphmill.passes.statistics import count
from graphmill.records import record

LEAST_TURNS = 3  # calls
LEAST_LAYER = 16  # ops
PERIODS = 12  # distances that are looked at for each kind of product
SMALL = 4096  # bytes of a constant that each layer may have for itself
AROUND = frozenset({"conv", "blocked_conv"})  # what passes look at as a whole
NO_WORK = frozenset({"broadcast", "constant", "iota", "reshape"})

Key = tuple[int, int]  # an op of a layer and which of its results


@register_pass("outline", on_modules=True)
def outline(module: Module) -> Module:
    """Makes layers that repeat calls of one function; the last one stays.

    Layers hold products, have weights of their own (else they are the turns of a loop), and hand
    on what the next one reads. Nothing else but the function's results reads what is in them.
    Functions of few ops stay as they are.
    """
    entry = module.entry
    if len(entry.ops) < LEAST_OPS["outline"] or any(op.name in AROUND for op in entry.walk()):
        return module
    if sum(op.name == "dot_general" for op in entry.ops) <= LEAST_TURNS:
        return module
    layers = _Finder(entry).layers()
    if layers is None:
        return module
    count("layers", layers.turns)
    name = f"{entry.name}_layer"
    while name in module.functions:
        name += "_"
    made = {entry.name: _with_calls(entry, layers, name), name: _layer(entry, layers, name)}
    return Module(dict(module.functions) | made, dict(module.variables))


@record(frozen=False)
class Layers:
    """`turns` stretches of `period` ops; the second one stands for all.

    `starts` are what the first one reads of those that the others read of the one before
    (`carried`), `given` what is read from outside, a value for each turn (one that is the same in
    all becomes a parameter, or a copy if its op is in `repeated`), `left` what else is read behind.
    """

    ops: list[Op]
    period: int
    turns: int
    carried: dict[Key, Value] = field(default_factory=dict)
    given: dict[Value, list[Value]] = field(default_factory=dict)
    left: dict[Key, None] = field(default_factory=dict)
    repeated: set[Op] = field(default_factory=set)

    @property
    def template(self) -> list[Op]:
        return self.ops[self.period : 2 * self.period]

    @property
    def results(self) -> list[Key]:
        """What a call gives."""
        return list(dict.fromkeys([*self.carried, *self.left]))

    def value(self, key: Key, turn: int) -> Value:
        """A result of an op in a turn."""
        return self.ops[turn * self.period + key[0]].results[key[1]]


# ---- finding


class _Finder:
    """Looks for layers among the ops of a function, constants and what is made of them aside."""

    def __init__(self, function: Function) -> None:
        folded = _of_constants(function.block)
        self.repeated = _without_work(function.block)
        self.ops = [op for op in function.ops if op.name != "constant" and op not in folded]
        self.places = {op: n for n, op in enumerate(self.ops)}
        self.kinds = np.array(_kinds(self.ops))

    def layers(self) -> Layers | None:
        """The layers that save most."""
        for _, less, start, stop in sorted(self._stretches(), reverse=True):
            period = -less
            if (at := self._cut(period, start)) is None:
                continue
            found = self._layers(at, period, (stop - at) // period - 1)
            if found is not None and not all(map(_is_stored_first, found.carried.values())):
                found = self._layers(at + period, period, found.turns - 1)
            if found is not None:
                return found
        return None

    def _stretches(self) -> Iterator[tuple[int, int, int, int]]:
        """Ops saved, period (negative, for short ones win), start and end of what repeats."""
        found: dict[int, list[int]] = {}
        for n, op in enumerate(self.ops):
            if node_kind(op) == "contract":
                found.setdefault(self.kinds[n], []).append(n)
        periods = {
            later - at
            for places in found.values()
            for first in (0, len(places) // 2)
            for at in places[first : first + 1]
            for later in places[first + 1 : first + 1 + PERIODS]
        }
        for period in periods:
            if period >= LEAST_LAYER:
                start, length = _longest(self.kinds[period:] == self.kinds[:-period])
                turns = length // period + 1
                if turns > LEAST_TURNS:
                    yield (turns - 1) * period, -period, start, start + length + period

    def _cut(self, period: int, start: int) -> int | None:
        """Where the first layer begins, so that little goes from one to the next."""
        first = start + period + 1  # the cuts of the second turn, over which values go
        crossing: list[list[Value]] = [[] for _ in range(period)]
        refused: set[int] = set()
        for n in range(start, first + period):
            for value in self.ops[n].results:
                places = [self.places.get(op, 0) for op in value.users if _is_inside(op)]
                last = max(places, default=0)
                for cut in range(max(n + 1, first), min(last + 1, first + period)):
                    crossing[cut - first].append(value)
                    if n < cut - period or last >= cut + period:
                        refused.add(cut - first)
        costs = [
            (len(values), sum(not _is_multiplied(v) for v in values), n)
            for n, values in enumerate(crossing)
            if n not in refused and values and all(map(_is_stored, values))
        ]
        return start + (min(costs)[2] + 1) % period if costs else None

    def _layers(self, at: int, period: int, turns: int) -> Layers | None:
        if turns < LEAST_TURNS:
            return None
        found = Layers(self.ops[at : at + turns * period], period, turns, repeated=self.repeated)
        for n in range(period):
            rows = [found.ops[n + turn * period].operands for turn in range(turns)]
            for values in zip(*rows, strict=True):
                if not self._is_read_alike(found, at, list(values)):
                    return None
        if all(map(_is_rolled, found.given.values())) or not self._leaves(found, at):
            return None
        return None if _is_mixed(found) else found

    def _is_read_alike(self, found: Layers, at: int, values: list[Value]) -> bool:
        """Note how an operand, here in each turn, is read; False where turns differ."""
        places = [self._place(v, at, found.period, turn) for turn, v in enumerate(values)]
        back, key = places[1]
        if any(place != places[1] for place in places[2:]):
            return False
        if back == 0:
            return places[0] == places[1]
        if places[0][0] >= 0:
            return False
        if back == 1:
            same = found.carried.setdefault(key, values[0]) is values[0]
            return same and values[0].type == values[1].type
        known = found.given.setdefault(values[1], values)
        return back < 0 and all(a is b for a, b in zip(known, values, strict=True))

    def _place(self, value: Value, at: int, period: int, turn: int) -> tuple[int, Key]:
        """How many turns back a value is made, and where there; -1 for outside."""
        place = self.places.get(value.op, -1) if value.op is not None else -1
        if place < at:
            return -1, (0, 0)
        made, n = divmod(place - at, period)
        return turn - made, (n, value.index)

    def _leaves(self, found: Layers, at: int) -> bool:
        """Note what is read behind the layers; False where that is what layers keep."""
        end = at + len(found.ops)
        for n, op in enumerate(found.ops):
            turn, place = divmod(n, found.period)
            for value in op.results:
                key = (place, value.index)
                for user in value.users:
                    if user.definition.terminator:
                        found.left[key] = None
                    elif self.places.get(user, end) < end:
                        continue
                    elif turn < found.turns - 1 or key not in found.carried:
                        return False
        return True


def _is_rolled(values: Sequence[Value]) -> bool:
    """Whether all turns read one value, or numbers: those of a loop, no layer's weights."""
    if all(value is values[0] for value in values):
        return True
    made = [value.op for value in values if value.op is not None and value.op.name == "constant"]
    return len(made) == len(values) and made[0].attrs["value"].nbytes <= SMALL


def _is_mixed(found: Layers) -> bool:
    """Whether what all turns read is made from what another operand reads in one turn only."""
    own = {value for value, values in found.given.items() if not _is_one(values)}
    one = [value for value in found.given if value not in own]
    return any(made in own for value in one for made in _sources(value, found.repeated))


def _is_inside(op: Op) -> bool:
    return not op.definition.terminator


def _is_stored_first(start: Value) -> bool:
    """Whether what the first layer reads is in memory however kernels are built."""
    return start.op is None or node_kind(start.op) != "map" or _is_multiplied(start)


def _is_multiplied(value: Value) -> bool:
    return any(node_kind(user) == "contract" for user in value.users)


def _is_stored(value: Value) -> bool:
    """Whether a value lies in memory however kernels are built: products and reductions, of it or
    its squares, read it."""
    return any(
        node_kind(user) in ("contract", "reduce")
        or any(node_kind(other) == "reduce" for result in user.results for other in result.users)
        for user in value.users
    )


def _longest(same: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Start and length of the longest run of what is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same, [0]])))
    if not edges.size:
        return 0, 0
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = int(lengths.argmax())
    return int(starts[longest]), int(lengths[longest])


def _of_constants(block: Block) -> set[Op]:
    """Ops that large constants alone are put through: what folding makes of them is outside."""
    found: set[Op] = set()
    for op in block.ops:
        if op.regions or not op.operands or not op.definition.pure or op.name == "broadcast":
            continue
        large = False
        for value in op.operands:
            if value.op in found:
                large = True
            elif value.op is None or value.op.name != "constant":
                break
            else:
                large |= value.op.attrs["value"].nbytes > SMALL
        else:
            if large and not op.definition.terminator:
                found.add(op)
    return found


def _without_work(block: Block) -> set[Op]:
    """Ops that a layer may have for itself: they take no work, or read nothing but constants."""
    found, known = set[Op](), set[Op]()
    for op in block.ops:
        if op.name in NO_WORK or op.definition.fusion == "elementwise":
            if all(v.op in known for v in op.operands):
                known.add(op)
            if op.name in NO_WORK or op in known:
                found.add(op)
    return found


class _Numbers(dict[Hashable, int]):
    """Numbers for things, equal for equal ones, found without a look at objects seen before."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, int] = {}

    def of(self, thing: Hashable) -> int:
        number = self._seen.get(id(thing))
        if number is None:
            number = self._seen[id(thing)] = self.setdefault(thing, len(self))
        return number


def _kinds(ops: Sequence[Op]) -> list[int]:
    """A number for each op, the same for ops that differ in operands alone."""
    things, kinds = _Numbers(), dict[Hashable, int]()
    found = []
    for n, op in enumerate(ops):
        key: Hashable = n
        if op.definition.pure and not op.regions and op.results and not has_effect(op):
            attrs = [(name, frozen(value)) for name, value in sorted(op.attrs.items())]
            types = [things.of(value.type) for value in (*op.operands, *op.results)]
            key = (op.name, op.scope, things.of(op.loc), *types, *attrs)
        found.append(kinds.setdefault(key, len(kinds)))
    return found


# ---- making


def _layer(entry: Function, layers: Layers, name: str) -> Function:
    """The second turn as a function of what is carried and what is given."""
    made = Function(name, [], [], entry.dims)
    made.loc = layers.template[0].loc
    mapping = {
        layers.value(key, 0): made.block.add_arg(start.type, start.name)
        for key, start in layers.carried.items()
    }
    for value in _parameters(layers):
        mapping[value] = made.block.add_arg(value.type, value.name)
    repeated = {
        source.op
        for value, values in layers.given.items()
        if _is_one(values)
        for source in _sources(value, layers.repeated)
        if source.op in layers.repeated
    }
    for op in (*(op for op in entry.ops if op in repeated), *layers.template):
        made.block.append(clone_op(op, mapping))
    results = [mapping[layers.value(key, 1)] for key in layers.results]
    made.block.append(Op(lookup("return"), results, []))
    return made


def _parameters(layers: Layers) -> list[Value]:
    """What is given to a layer from outside, as the second one reads it."""
    found: dict[Value, None] = {}
    for value, values in layers.given.items():
        if _is_one(values):
            made = _sources(value, layers.repeated)
            found.update(dict.fromkeys(leaf for leaf in made if leaf.op not in layers.repeated))
        else:
            found[value] = None
    return list(found)


def _is_one(values: Sequence[Value]) -> bool:
    """Whether the turns are given the same value, or small constants that are equal."""
    if all(value is values[0] for value in values):
        return True
    if any(value.op is None or value.op.name != "constant" for value in values):
        return False
    arrays = [value.op.attrs["value"] for value in values if value.op is not None]
    return arrays[0].nbytes <= SMALL and len({frozen(array) for array in arrays}) == 1


def _sources(value: Value, repeated: set[Op]) -> list[Value]:
    """A value and all that ops that are repeated inside make it from."""
    found = {value: None}
    for made in (left := [value]):
        if made.op in repeated:
            left += [operand for operand in made.op.operands if operand not in found]
            found.update(dict.fromkeys(made.op.operands))
    return list(found)


def _with_calls(entry: Function, layers: Layers, name: str) -> Function:
    """The function with calls in the place of its layers."""
    made = Function(entry.name, [], [], entry.dims)
    made.attrs, made.loc = dict(entry.attrs), entry.loc
    mapping = {param: made.block.add_arg(param.type, param.name) for param in entry.params}
    places = {op: n for n, op in enumerate(layers.ops)}
    given = _parameters(layers)
    types = tuple(layers.value(key, 0).type for key in layers.results)
    for op in entry.ops:
        place = places.get(op)
        if place is None:
            made.block.append(clone_op(op, mapping))
            continue
        turn, n = divmod(place, layers.period)
        if n < layers.period - 1:
            continue
        carried = [
            layers.value(key, turn - 1) if turn else start for key, start in layers.carried.items()
        ]
        values = [layers.given.get(value, [value] * layers.turns)[turn] for value in given]
        operands = [mapping[value] for value in (*carried, *values)]
        call = Op(
            lookup("call"), operands, types, {"callee": name, "types": types}, [], op.loc, op.scope
        )
        made.block.append(call)
        for key, result in zip(layers.results, call.results, strict=True):
            result.name = layers.value(key, turn).name
            mapping[layers.value(key, turn)] = result
    remove_dead(made.block)
    return made
