"""Variables become parameters and results: state in, state out."""

from __future__ import annotations

from graphmill.ir.graph import Function, Op, Value
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count

OPS = frozenset({"variable.read", "variable.assign"})


class StateError(ValueError):
    """A variable used where its value cannot be followed."""


@register_pass("state")
def state(function: Function) -> Function:
    """Afterwards no op reads or assigns a variable.

    A variable that is read first becomes a parameter after the others; its last assigned value
    becomes a result after the others. `attrs["reads"]` and `attrs["writes"]` name them in order.
    Raises `StateError` for a variable inside a loop or branch: carry its value there instead.
    """
    used = [op for op in function.walk() if op.name in OPS]
    if not used:
        return function
    function = function.clone()
    for op in function.walk():
        if op.name in OPS and op.block is not function.block:
            place = f" at {op.loc}" if op.loc else ""
            raise StateError(
                f"{op.name} of {op.attrs['name']!r} inside a loop or branch{place}: read the "
                "variable before, carry its value, and assign it after"
            )
    current: dict[str, Value] = {}
    reads: list[str] = []
    writes: list[str] = []
    for op in [op for op in function.block.ops if op.name in OPS]:
        name = op.attrs["name"]
        if op.name == "variable.assign":
            current[name] = op.operands[0]
            if name not in writes:
                writes.append(name)
            _pass_token(op, op.operands[1], 0)
        else:
            if name not in current:
                reads.append(name)
                current[name] = function.block.add_arg(op.attrs["type"], name)
            op.results[0].replace_uses(current[name])
            _pass_token(op, op.operands[0], 1)
        op.erase()
        count("variables")
    terminator = function.block.terminator
    terminator.set_operands([*terminator.operands, *(current[name] for name in writes)])
    function.attrs |= {"reads": tuple(reads), "writes": tuple(writes)}
    return function


def _pass_token(op: Op, token: Value, index: int) -> None:
    """Let what came after the op come after what was before it."""
    op.results[index].replace_uses(token)
