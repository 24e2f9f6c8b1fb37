"""The meaning of the IR in NumPy: an evaluator for every op, slow and exact, for tests."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dims import Dim, DimLike, evaluate
from graphmill.ir.dtypes import dtype
from graphmill.ir.graph import Block, Function, Module, Op, Value
from graphmill.ir.printer import Names, print_op
from graphmill.ir.types import TensorType, TokenType

Array = np.ndarray[Any, Any]

# What a token is at run time: nothing but an order, which the evaluator follows anyway.
TOKEN_VALUE: Array = np.zeros((), bool)


class InterpretError(ValueError):
    """Inputs that do not fit the function, or an op without a meaning in NumPy."""


class CheckFailed(ArithmeticError):
    """A `check` op found a bad value; `index` and `value` say which, `location` where.

    From a `require` op, `value` is the size that is too small.
    """

    def __init__(self, op: Op, index: tuple[int, ...], value: Any) -> None:
        place = f"{op.loc}: " if op.loc else ""
        if op.name == "require":
            what = f"too few elements to choose from: {value}"
        else:
            kind = "index out of bounds" if op.attrs["kind"] == "bounds" else "not finite"
            what = f"{kind}: element {list(index)} is {value}"
        super().__init__(place + what)
        self.location, self.index, self.value = op.loc, index, value


def interpret(
    program: Function | Module,
    *arrays: Any,
    sizes: Mapping[str, int] | None = None,
    variables: MutableMapping[str, Array] | None = None,
) -> tuple[Array, ...]:
    """Evaluate a function, or a module's entry, on arrays and return its results.

    Named dims get their sizes from the arrays; `sizes` gives those that no parameter shows.
    `variables` holds the state that `variable.read` and `variable.assign` see and is changed in
    place; it starts from the module's initial values.

    Raises `InterpretError` when the arrays' number, dtypes or shapes do not fit, `CheckFailed`
    when a `check` op fires.
    """
    module = program if isinstance(program, Module) else Module({program.name: program})
    state = variables if variables is not None else {}
    for name, variable in module.variables.items():
        if name not in state and variable.initial is not None:
            state[name] = np.array(variable.initial)
    return _Evaluator(module, state).function(module.entry, list(arrays), sizes or {})


def bind_sizes(
    types: Sequence[Any], shapes: Sequence[tuple[int, ...]], given: Mapping[str, int]
) -> dict[str, int]:
    """The size of each named dim, from shapes of arguments of these types.

    A dim alone (`n`) is read off; an affine one (`2*n + 1`) is solved for its only name.
    """
    sizes = dict(given)
    pairs = [
        (dim, size)
        for type, shape in zip(types, shapes, strict=True)
        if isinstance(type, TensorType) and len(shape) == type.rank
        for dim, size in zip(type.shape, shape, strict=True)
        if isinstance(dim, Dim)
    ]
    for dim, size in sorted(pairs, key=lambda pair: len(pair[0].terms)):
        if len(dim.names) != 1 or dim.names <= sizes.keys():
            continue
        (name,) = dim.names
        offset = dim.evaluate({name: 0})
        slope = dim.evaluate({name: 1}) - offset
        if slope and (size - offset) % slope == 0:
            sizes[name] = (size - offset) // slope
    return sizes


class _Evaluator:
    def __init__(self, module: Module, state: MutableMapping[str, Array]) -> None:
        self.module = module
        self.state = state
        self.sizes: Mapping[str, int] = {}

    def function(
        self, function: Function, arrays: list[Any], given: Mapping[str, int]
    ) -> tuple[Array, ...]:
        name, params = function.name, function.params
        if len(arrays) != len(params):
            raise InterpretError(f"{name} takes {len(params)} arrays, got {len(arrays)}")
        values = [np.asarray(a) for a in arrays]
        sizes = bind_sizes([p.type for p in params], [v.shape for v in values], given)
        _check_sizes(function, sizes)
        for param, value in zip(params, values, strict=True):
            _check_argument(name, param, value, sizes)
        before, self.sizes = self.sizes, sizes
        try:
            return tuple(self.block(function.block, values))
        finally:
            self.sizes = before

    def block(self, block: Block, arguments: Sequence[Array]) -> list[Array]:
        """Run a block and return what its terminator takes."""
        env: dict[Value, Array] = dict(zip(block.args, arguments, strict=True))
        for op in block.ops[:-1]:
            results = self.op(op, [env[v] for v in op.operands])
            for value, result in zip(op.results, results, strict=True):
                env[value] = _checked(op, value, np.asarray(result), self.sizes)
        return [env[v] for v in block.yielded]

    def op(self, op: Op, operands: list[Array]) -> Sequence[Any]:
        special = getattr(self, "_" + op.name.replace(".", "_"), None)
        if special is not None:
            return special(op, operands)  # type: ignore[no-any-return]
        reference = op.definition.reference
        if reference is None:
            raise InterpretError(f"{_at(op)}{op.name} has no meaning in NumPy")
        attrs = {key: self.attribute(op.attrs[key]) for key in op.definition.attrs}
        result = reference(*operands, **attrs)
        return result if isinstance(result, tuple) else (result,)

    def attribute(self, value: Any) -> Any:
        """An attribute with the sizes of named dims put in."""
        if isinstance(value, Dim):
            return value.evaluate(self.sizes)
        return tuple(map(self.attribute, value)) if isinstance(value, tuple | list) else value

    # ---- control flow

    def _cond(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        index, *arguments = operands
        if index.dtype == bool:
            chosen = 0 if index else 1
        else:
            chosen = min(max(int(index), 0), len(op.regions) - 1)
        return self.block(op.regions[chosen].block, arguments)

    def _while(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        test, body = (region.block for region in op.regions)
        count = op.attrs["carry"]
        carry, captured = operands[:count], operands[count:]
        while self.block(test, [*carry, *captured])[0]:
            carry = self.block(body, [*carry, *captured])
        return carry

    def _scan(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        carries, count = op.attrs["carry"], op.attrs["xs"]
        length = evaluate(op.attrs["length"], self.sizes)
        carry, xs = operands[:carries], operands[carries : carries + count]
        captured = operands[carries + count :]
        stacked = [
            np.zeros(r.tensor.concrete(self.sizes), r.tensor.dtype.numpy)
            for r in op.results[carries:]
        ]
        around, turn = self.sizes, op.attrs.get("turn")
        for i in reversed(range(length)) if op.attrs["reverse"] else range(length):
            self.sizes = {**around, turn: i} if turn else around
            slices = [np.asarray(x[i]) for x in xs]
            given = self.block(op.regions[0].block, [*carry, *slices, *captured])
            carry = given[:carries]
            for whole, part in zip(stacked, given[carries:], strict=True):
                whole[i] = part
        self.sizes = around
        return [*carry, *stacked]

    def _fusion(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        return self.block(op.regions[0].block, operands)

    _prepare = _fusion

    def _call(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        callee = op.attrs["callee"]
        if callee not in self.module.functions:
            raise InterpretError(f"{_at(op)}call: the module has no function {callee!r}")
        return self.function(self.module.functions[callee], list(operands), {})

    # ---- effects

    def _token(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        return [TOKEN_VALUE]

    _join = _token

    def _variable_read(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        name = op.attrs["name"]
        if name not in self.state:
            raise InterpretError(f"{_at(op)}variable {name!r} has no value yet")
        return [self.state[name], TOKEN_VALUE]

    def _variable_assign(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        self.state[op.attrs["name"]] = np.array(operands[0])
        return [TOKEN_VALUE]

    def _check(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        x = operands[0]
        if op.attrs["kind"] == "nan":
            bad = ~np.isfinite(x.astype(np.float32) if x.dtype.itemsize == 2 else x)
        else:
            size = evaluate(op.attrs["size"], self.sizes)
            wide = x.astype(object)
            bad = np.asarray((wide < -size) | (wide >= size), bool)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            raise CheckFailed(op, index, x[index])
        return [x]

    def _require(self, op: Op, operands: list[Array]) -> Sequence[Array]:
        size, least = (evaluate(op.attrs[name], self.sizes) for name in ("size", "least"))
        if size < least:
            raise CheckFailed(op, (), size)
        return []


def _check_sizes(function: Function, sizes: Mapping[str, int]) -> None:
    for name, bounds in function.dims.items():
        if name not in sizes:
            raise InterpretError(
                f"{function.name}: no argument's shape gives dim {name!r}; pass sizes="
            )
        size, high = sizes[name], bounds.high
        if size < bounds.low or (high is not None and size > high):
            limits = f"{bounds.low}..{'' if high is None else high}"
            raise InterpretError(f"{function.name}: dim {name} = {size} is outside {limits}")


def _check_argument(name: str, param: Value, array: Array, sizes: Mapping[str, int]) -> None:
    if isinstance(param.type, TokenType):
        return
    wanted: tuple[DimLike, ...] = param.type.concrete(sizes)
    if dtype(array.dtype) is not param.type.dtype or array.shape != wanted:
        raise InterpretError(
            f"{name}: argument {param.name or param.index} is {dtype(array.dtype)}"
            f"{list(array.shape)}, not {param.type}"
            + (f" with {dict(sizes)}" if sizes else "")
        )  # fmt: skip


def _checked(op: Op, value: Value, array: Array, sizes: Mapping[str, int]) -> Array:
    """The array, which must have the type that the op's rule promised."""
    if isinstance(value.type, TokenType):
        return array
    wanted = value.type.concrete(sizes)
    if array.dtype != value.type.dtype.numpy or array.shape != wanted:
        raise InterpretError(
            f"{_at(op)}{op.name} gave {array.dtype}{list(array.shape)}, its type is "
            f"{value.type} with {dict(sizes)}\n{print_op(op, Names())}"
        )
    return array


def _at(op: Op) -> str:
    return f"{op.loc}: " if op.loc else ""
