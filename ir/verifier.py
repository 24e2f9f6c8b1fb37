"""Checking IR: definitions before uses, use lists, types, attributes, regions, tokens, dims.

Every error names the op, its values and the user's line, and shows the op among its neighbours.
"""

from __future__ import annotations

from graphmill.ir.dims import Dim
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Block, Function, Module, Op, Value
from graphmill.ir.literals import RESERVED, attribute_error, dim_names
from graphmill.ir.ops.base import TypeRuleError
from graphmill.ir.printer import Names, print_op
from graphmill.ir.types import TensorType, TokenType, Type

# How many neighbours an error shows on either side.
NEIGHBOURS = 3


class VerifyError(ValueError):
    """IR that breaks a rule. `op` is the op at fault (None for the function itself)."""

    def __init__(self, reason: str, function: Function, op: Op | None = None) -> None:
        self.reason, self.function, self.op = reason, function, op
        super().__init__(_message(reason, function, op))


def verify(program: Function | Module) -> None:
    """Check a function or every function of a module; raises `VerifyError`."""
    if isinstance(program, Function):
        _Verifier(program, None).run()
        return
    for name, function in program.functions.items():
        if name != function.name:
            raise VerifyError(f"the module has it under the name {name!r}", function)
        _Verifier(function, program).run()


def _message(reason: str, function: Function, op: Op | None) -> str:
    if op is None:
        return f"@{function.name}: {reason}"
    names = Names(function)
    place = f" at {op.loc}" if op.loc else ""
    place += f" in {op.scope}" if op.scope else ""
    results = ", ".join(names[r] for r in op.results)
    what = f"{results} = {op.name}" if results else op.name
    lines = [f"@{function.name}: {what}{place}: {reason}"]
    ops = op.block.ops if op.block is not None and op in op.block.ops else [op]
    at = ops.index(op)
    for other in ops[max(at - NEIGHBOURS, 0) : at + NEIGHBOURS + 1]:
        text = print_op(other, names, locations=True).split("\n", 1)
        marker = "  > " if other is op else "    "
        lines.append(marker + text[0] + (" … }" if len(text) > 1 else ""))
    return "\n".join(lines)


# Typing rules that held, by the identities of types and attributes, which the entry keeps alive:
# passes copy functions but share both, so that later checks of the same ops are one look-up.
_held: dict[tuple[object, ...], tuple[object, ...]] = {}
_HELD_LIMIT = 100_000
_DIM_KINDS = {"dim": True, "dims": True, "pairs": True}
_IMMUTABLE = (int, str, float, tuple, DType, Dim)


def _rule_key(op: Op) -> tuple[object, ...] | None:
    """What the op's typing rule depends on; None where that cannot be told by identity."""
    if op.regions:
        return None
    types = [id(v.type) for v in op.operands]
    results = [id(v.type) for v in op.results]
    attrs = op.attrs
    if not attrs:
        return (op.definition.name, *types, -1, *results)
    for value in attrs.values():
        if not isinstance(value, _IMMUTABLE):
            return None
    return (op.definition.name, *types, -1, *results, -1, *attrs, *map(id, attrs.values()))


def _remember(key: tuple[object, ...], op: Op) -> None:
    if len(_held) >= _HELD_LIMIT:
        _held.clear()
    kept = [v.type for v in (*op.operands, *op.results)]
    _held[key] = (*kept, *op.attrs.values())


class _Verifier:
    def __init__(self, function: Function, module: Module | None) -> None:
        self.function = function
        self.module = module
        self.declared: set[int] = set()  # types whose dims are the function's own
        self.turns: set[str] = set()  # dims that number the turns of the loops around

    def fail(self, reason: str, op: Op | None = None) -> VerifyError:
        return VerifyError(reason, self.function, op)

    def run(self) -> None:
        for name, bounds in self.function.dims.items():
            if name in RESERVED or not name.isidentifier():
                raise self.fail(f"{name!r} cannot name a dim")
            if bounds.low < 0 or (bounds.high is not None and bounds.high < bounds.low):
                raise self.fail(f"dim {name} has no size in {bounds.low}..{bounds.high}")
        self.block(self.function.block, "return", None)

    def block(self, block: Block, terminator: str, owner: Op | None) -> None:
        defined: set[Value] = set()
        for index, arg in enumerate(block.args):
            if arg.owner is not block or arg.index != index:
                raise self.fail(f"block argument {index} says it is another's", owner)
            self.dims(arg.type, owner)
            self.linear(arg, owner)
            defined.add(arg)
        ops = block.ops
        if not ops or ops[-1].name != terminator:
            raise self.fail(f"the block does not end in {terminator}", ops[-1] if ops else owner)
        operands = 0
        for op in ops:
            self.op(op, block, defined)
            operands += len(op.operands)
        if ops[-1].results:
            raise self.fail("a terminator has no results", ops[-1])
        # each value is used in its own block only, so the sums agree or a use list is stale
        if operands != sum([len(value.uses) for value in defined]):
            self.stale_uses(block, defined)

    def op(self, op: Op, block: Block, defined: set[Value]) -> None:
        if op.block is not block:
            raise self.fail("the op says it is in another block", op)
        if op.definition.terminator and op is not block.ops[-1]:
            raise self.fail("a terminator before the end of the block", op)
        for index, operand in enumerate(op.operands):
            if operand not in defined:
                raise self.fail(self.undefined(operand, index, op), op)
            if (op, index) not in operand.uses:
                raise self.fail(f"operand {index} does not list this op as its user", op)
        self.types(op)
        if op.regions:
            for region in op.regions:
                if region.owner is not op or region.block.region is not region:
                    raise self.fail("a region says it belongs to another op", op)
        for index, result in enumerate(op.results):
            if result.owner is not op or result.index != index:
                raise self.fail(f"result {index} says it is another op's", op)
            defined.add(result)
            if len(result.uses) > 1:
                self.linear(result, op)

    def linear(self, value: Value, op: Op | None) -> None:
        """A token is used once: effects have one order."""
        if isinstance(value.type, TokenType) and len(value.uses) > 1:
            users = ", ".join(user.name for user in value.users)
            raise self.fail(f"a token is used {len(value.uses)} times: {users}", op)

    def types(self, op: Op) -> None:
        """The types that the op's rule gives must be those it has."""
        for result in op.results:
            if id(result.type) not in self.declared:
                self.dims(result.type, op)
        key = _rule_key(op)
        if key is None or key not in _held:
            self.attributes(op)
            if op.regions:
                self.regions(op)
            self.inferred(op)
            if key is not None:
                _remember(key, op)
        for name in op.definition.attrs:
            if type(op.attrs[name]) is not int and _DIM_KINDS.get(op.definition.attrs[name]):
                self.named(dim_names(op.attrs[name]), op)
        check = _MODULE_RULES.get(op.definition.name) if self.module is not None else None
        reason = check(op, self.module) if check and self.module is not None else None
        if reason:
            raise self.fail(reason, op)

    def regions(self, op: Op) -> None:
        """Check regions, in which a scan's dim of turns has a value."""
        turn = op.attrs.get("turn") if op.name == "scan" else None
        if turn is not None:
            if not isinstance(turn, str) or turn in RESERVED or not turn.isidentifier():
                raise self.fail(f"{turn!r} cannot name a dim", op)
            if turn in self.turns or turn in self.function.dims:
                raise self.fail(f"dim {turn} has a value already", op)
            self.turns.add(turn)
        for region in op.regions:
            self.block(region.block, "yield", op)
        self.turns.discard(turn or "")

    def attributes(self, op: Op) -> None:
        for name, kind in op.definition.attrs.items():
            if name not in op.attrs:
                raise self.fail(f"attribute {name} is missing", op)
            wrong = attribute_error(kind, op.attrs[name])
            if wrong:
                raise self.fail(f"attribute {name} {wrong}", op)

    def inferred(self, op: Op) -> None:
        operands = [v.type for v in op.operands]
        try:
            wanted = op.definition.infer(operands, op.attrs, op.regions)
        except TypeRuleError as error:
            raise self.fail(str(error), op) from error
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise self.fail(f"operands or attributes do not fit: {error}", op) from error
        got = [v.type for v in op.results]
        if len(wanted) != len(got) or not all(map(agree, got, wanted)):
            has, rule = (", ".join(map(str, types)) or "nothing" for types in (got, wanted))
            raise self.fail(f"the results are {has}; the op's rule gives {rule}", op)

    def dims(self, type: Type, op: Op | None) -> None:
        if isinstance(type, TensorType):
            self.named(type.names, op)
            if self.turns and not self.turns.isdisjoint(type.names):
                return  # only known in this loop
        self.declared.add(id(type))

    def named(self, names: frozenset[str], op: Op | None) -> None:
        if not names <= self.function.dims.keys() | self.turns:
            unknown = ", ".join(sorted(names - self.function.dims.keys() - self.turns))
            raise self.fail(f"dim {unknown} is not declared by the function", op)

    def undefined(self, operand: Value, index: int, op: Op) -> str:
        """Why an operand cannot be used here."""
        name = Names(self.function)[operand]
        home = operand.owner if isinstance(operand.owner, Block) else operand.owner.block
        if home is op.block:
            return f"operand {index}, {name}, is defined later"
        if home is None:
            return f"operand {index}, {name}, belongs to an op that was removed"
        if op.block is not None and home is not op.block:
            return (
                f"operand {index}, {name}, is defined outside of this region; "
                "regions see only their arguments"
            )
        return f"operand {index}, {name}, is not defined"

    def stale_uses(self, block: Block, defined: set[Value]) -> None:
        members = set(block.ops)
        for value in defined:
            for user, index in value.uses:
                listed = user in members and index < len(user.operands)
                if not listed or user.operands[index] is not value:
                    owner = value.op
                    name = Names(self.function)[value]
                    raise self.fail(f"{name} lists a use by {user.name} that is not there", owner)


def agree(got: Type, wanted: Type) -> bool:
    """Whether types are equal but for layout and device, which passes choose."""
    if got is wanted or got == wanted:
        return True
    both = isinstance(got, TensorType) and isinstance(wanted, TensorType)
    return both and got.dtype is wanted.dtype and got.shape == wanted.shape  # type: ignore[union-attr]


def _check_call(op: Op, module: Module) -> str | None:
    callee = module.functions.get(op.attrs["callee"])
    if callee is None:
        return f"the module has no function {op.attrs['callee']!r}"
    if len(callee.params) != len(op.operands):
        return f"@{callee.name} takes {len(callee.params)} operands"
    if len(callee.results) != len(op.results):
        return f"@{callee.name} gives {len(callee.results)} results"
    return None


def _check_read(op: Op, module: Module) -> str | None:
    variable = module.variables.get(op.attrs["name"])
    if variable is None:
        return f"the module has no variable {op.attrs['name']!r}"
    if not agree(op.results[0].type, variable.type):
        return f"the variable is {variable.type}"
    return None


def _check_assign(op: Op, module: Module) -> str | None:
    variable = module.variables.get(op.attrs["name"])
    if variable is None:
        return f"the module has no variable {op.attrs['name']!r}"
    if not agree(op.operands[0].type, variable.type):
        return f"the variable is {variable.type}, the value {op.operands[0].type}"
    return None


_MODULE_RULES = {
    "call": _check_call,
    "variable.read": _check_read,
    "variable.assign": _check_assign,
}

__all__ = ["VerifyError", "agree", "verify"]
