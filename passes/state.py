"""Variables become parameters and results: state in, state out; through loops as what they carry.

Effects happen in the order of the ops: a token orders those of one block, and an op with regions
stands for the effects inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphmill.ir.builder import Builder
from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.ir.types import Type
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count

READ, ASSIGN = "variable.read", "variable.assign"
Current = dict[str, Value]  # each variable's value at some point of a block


class StateError(ValueError):
    """A variable used where its value cannot be followed."""


@register_pass("state")
def state(function: Function) -> Function:
    """Afterwards no op reads or assigns a variable.

    A variable that is read first becomes a parameter after the others; its last assigned value
    becomes a result after the others. `attrs["reads"]` and `attrs["writes"]` name them in order.
    Branches take and give the variables they use, loops carry them. Raises `StateError` for an
    assignment in a loop's test.
    """
    if not any(op.name in (READ, ASSIGN) for op in function.walk()):
        return function
    function = function.clone()
    reads: list[str] = []
    current: Current = {}

    def first(name: str, type: Type) -> Value:
        reads.append(name)
        return function.block.add_arg(type, name)

    writes = list(dict.fromkeys(name for name, op in _used(function.block) if op.name == ASSIGN))
    for op in function.block.ops[:]:
        if op.regions:
            for name, type in _variables(op).items():
                if name not in current:
                    current[name] = first(name, type)
        elif op.name == READ and op.attrs["name"] not in current:
            current[op.attrs["name"]] = first(op.attrs["name"], op.attrs["type"])
        _follow(op, current)
    terminator = function.block.terminator
    terminator.set_operands([*terminator.operands, *(current[name] for name in writes)])
    function.attrs |= {"reads": tuple(reads), "writes": tuple(writes)}
    return function


def _used(block: Block) -> Iterator[tuple[str, Op]]:
    """The reads and assignments in a block and its regions, with their variables' names."""
    for op in block.ops:
        if op.name in (READ, ASSIGN):
            yield op.attrs["name"], op
        for region in op.regions:
            yield from _used(region.block)


def _variables(op: Op) -> dict[str, Type]:
    """The variables that an op's regions use, with their types."""
    found: dict[str, Type] = {}
    for region in op.regions:
        for name, use in _used(region.block):
            found.setdefault(name, use.attrs["type"] if use.name == READ else use.operands[0].type)
    return found


def _assigned(block: Block) -> set[str]:
    return {name for name, op in _used(block) if op.name == ASSIGN}


def _follow(op: Op, current: Current) -> None:
    """Replace a read, assignment or op with regions, and note what it leaves in variables."""
    if op.name == READ:
        op.results[0].replace_uses(current[op.attrs["name"]])
        op.results[1].replace_uses(op.operands[0])
        op.erase()
        count("variables")
    elif op.name == ASSIGN:
        current[op.attrs["name"]] = op.operands[0]
        op.results[0].replace_uses(op.operands[1])
        op.erase()
        count("variables")
    elif op.regions and (names := _variables(op)):
        _carry(op, list(names), current)


def _carry(op: Op, names: Sequence[str], current: Current) -> None:
    """Let an op with regions take the variables and give those that it assigns."""
    assigned = set().union(*(_assigned(region.block) for region in op.regions))
    changed = [name for name in names if name in assigned]
    fixed = [name for name in names if name not in assigned]
    if op.name == "while" and (bad := _assigned(op.regions[0].block)):
        place = f" at {op.loc}" if op.loc else ""
        raise StateError(
            f"{ASSIGN} of {sorted(bad)[0]!r} inside the test of a loop{place}: assign it in the "
            "body"
        )
    # what changes stands behind what the op carries (a branch carries nothing), the rest at the end
    at = 0 if op.name == "cond" else op.attrs["carry"]
    first = at + (op.name == "cond")
    operands = [*op.operands[:first], *(current[name] for name in changed), *op.operands[first:]]
    operands += [current[name] for name in fixed]
    for number, region in enumerate(op.regions):
        block, inside = region.block, Current()
        for index, name in enumerate(changed):
            inside[name] = _insert_arg(block, at + index, current[name].type, name)
        for name in fixed:
            inside[name] = block.add_arg(current[name].type, name)
        for inner in block.ops[:]:
            _follow(inner, inside)
        if op.name != "while" or number == 1:
            ends, given = block.terminator, [inside[name] for name in changed]
            ends.set_operands([*ends.operands[:at], *given, *ends.operands[at:]])
    attrs = dict(op.attrs)
    if op.name != "cond":
        attrs["carry"] += len(changed)
    _replace(op, operands, attrs, at, changed, current)


def _insert_arg(block: Block, at: int, type: Type, name: str) -> Value:
    made = block.add_arg(type, name)
    block.args.insert(at, block.args.pop())
    for index, arg in enumerate(block.args):
        arg.index = index
    return made


def _replace(
    op: Op, operands: Sequence[Value], attrs: dict[str, object], at: int, changed: Sequence[str],
    current: Current,
) -> None:  # fmt: skip
    """Put an op with more operands and results in the op's place."""
    assert op.block is not None
    builder = Builder(op.block, op)
    builder.loc, builder.scope = op.loc, op.scope
    made = builder.emit(op.name, operands, attrs, op.regions)
    given = made.results[at : at + len(changed)]
    for old, new in zip(
        op.results, [*made.results[:at], *made.results[at + len(changed) :]], strict=True
    ):
        new.name = old.name
        old.replace_uses(new)
    op.regions = []
    op.erase()
    current |= zip(changed, given, strict=True)
