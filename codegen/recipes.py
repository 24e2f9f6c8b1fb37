"""How constants get the form that kernels read: the graph's own arrays, and steps on them.

A `prepare` op's region becomes steps, which `codegen.constants` carries out when code is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphmill.codegen.artifact import Step
from graphmill.ir.graph import Op, Value

Array = np.ndarray[Any, Any]


class RecipeError(RuntimeError):
    """An op that cannot stand in a `prepare`."""


class Recipe(NamedTuple):
    """A constant of this shape and dtype: the first array put through steps, which may name the
    others by their numbers."""

    arrays: tuple[Array, ...]
    steps: tuple[Step, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @staticmethod
    def of(array: Array) -> Recipe:
        """An array as it is."""
        return Recipe((array,), (), array.shape, array.dtype)

    def then(self, steps: tuple[Step, ...], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Recipe:
        """The same with more steps."""
        return Recipe(self.arrays, self.steps + steps, shape, dtype)

    def same(self, other: Recipe) -> bool:
        """Whether both make one constant from the same arrays."""
        same = len(self.arrays) == len(other.arrays) and self[1:] == other[1:]
        return same and all(a is b for a, b in zip(self.arrays, other.arrays, strict=True))


def recipe_of(value: Value) -> Recipe:
    """The recipe of a constant, or of what a `prepare` gives; raises `RecipeError`."""
    op = value.op
    if op is not None and op.name == "constant":
        return Recipe.of(op.attrs["value"])
    if op is None or op.name != "prepare":
        raise RecipeError(f"prepare: {value} is no constant")
    block = op.regions[0].block
    chain = block.args[0]
    made = recipe_of(op.operands[0])
    outside = dict(zip(block.args, op.operands, strict=True))
    for inner in block.ops:
        if chain not in inner.operands or inner.definition.terminator:
            continue
        step, others = _STEPS.get(inner.name, _none)(inner, chain, outside)
        arrays = made.arrays
        if others:
            step, arrays = (step[0], (len(arrays),)), arrays + others
        chain = inner.result
        made = Recipe(arrays, (*made.steps, step), _static(chain), chain.tensor.dtype.numpy)
    if block.yielded != [chain]:
        raise RecipeError("prepare: what it yields is no chain of steps on its first operand")
    return made


_Given = tuple[Step, tuple[Array, ...]]


def _none(op: Op, chain: Value, outside: dict[Value, Value]) -> _Given:
    raise RecipeError(f"prepare: there is no step for {op.name}")


def _reshape(op: Op, chain: Value, outside: dict[Value, Value]) -> _Given:
    return ("reshape", _static(op.result)), ()


def _transpose(op: Op, chain: Value, outside: dict[Value, Value]) -> _Given:
    return ("transpose", tuple(op.attrs["perm"])), ()


def _slice(op: Op, chain: Value, outside: dict[Value, Value]) -> _Given:
    return ("slice", (*op.attrs["start"], *op.attrs["stop"], *op.attrs["step"])), ()


def _reverse(op: Op, chain: Value, outside: dict[Value, Value]) -> _Given:
    return ("reverse", tuple(op.attrs["axes"])), ()


def _pad(op: Op, chain: Value, outside: dict[Value, Value]) -> _Given:
    fill = op.operands[1].op
    zero = fill is not None and fill.name == "constant" and not fill.attrs["value"].any()
    if not zero or any((*op.attrs["low"], *op.attrs["interior"])) or min(op.attrs["high"]) < 0:
        raise RecipeError("prepare: pads with zeros behind the end only")
    return ("pad", tuple(op.attrs["high"])), ()


def _multiply(op: Op, chain: Value, outside: dict[Value, Value]) -> _Given:
    other = op.operands[1] if op.operands[0] is chain else op.operands[0]
    repeated = other.op
    if repeated is None or repeated.name != "broadcast" or repeated.operands[0] not in outside:
        raise RecipeError("prepare: multiplies by a broadcast operand only")
    factor = recipe_of(outside[repeated.operands[0]])
    if factor.steps:
        raise RecipeError("prepare: multiplies by a plain constant only")
    shape = [1] * len(other.shape)
    for axis, size in zip(repeated.attrs["axes"], factor.shape, strict=True):
        shape[axis] = size
    return ("multiply", ()), (factor.arrays[0].reshape(shape),)


_STEPS: dict[str, Callable[[Op, Value, dict[Value, Value]], _Given]] = {
    "reshape": _reshape, "transpose": _transpose, "slice": _slice, "reverse": _reverse,
    "pad": _pad, "mul": _multiply,
}  # fmt: skip


def _static(value: Value) -> tuple[int, ...]:
    shape = value.shape
    assert all(isinstance(size, int) for size in shape), "constants have known shapes"
    return shape
