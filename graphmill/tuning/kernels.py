"""The kernels of a function whose schedules can be chosen, each as a function of its own."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphmill.codegen.cpu.schedule import Notes
from graphmill.ir.builder import Builder
from graphmill.ir.cost import cost
from graphmill.ir.dims import Dim, evaluate
from graphmill.ir.graph import Block, Function, Op, Value, clone_op
from graphmill.ir.literals import dim_names
from graphmill.ir.ops.control import is_constant
from graphmill.ir.types import TensorType

if TYPE_CHECKING:
    from graphmill.codegen.cpu.target import Target
    from graphmill.driver import Options

CONTROL = ("while", "cond", "scan")
NO_KERNELS = ("constant", "prepare", "reshape")
FLOPS, BYTES = 5e10, 1e10  # of a second, roughly: they order kernels until they are timed


@dataclass(frozen=True)
class Kernel:
    """A kernel of the user's, as a planned function that computes it alone.

    `names` are the keys of its schedules: one, or several where an op takes several kernels.
    `count` says how often the user's function has it, `estimate` its seconds by the cost model.
    """

    function: Function
    names: tuple[str, ...]
    place: str
    count: int
    estimate: float


def kernels(
    function: Function, options: Options, target: Target, sizes: Mapping[str, int]
) -> list[Kernel]:
    """The kernels of a traced function that have choices, each once, the dearest first.

    Named dims have the given `sizes`; what depends on others has no kernel.
    """
    from graphmill import driver

    if "fuse" not in options.passes or "memory" not in options.passes:
        return []
    fused = driver.optimise(function, options, stop="fuse")
    alike: dict[Hashable, list[Op]] = {}
    for op in _candidates(fused.block):
        alike.setdefault(_content(op), []).append(op)
    found: dict[tuple[str, ...], Kernel] = {}
    for ops in alike.values():
        kernel = _kernel(fused, ops, target, sizes)
        if kernel is None:
            continue
        if (same := found.get(kernel.names)) is not None:
            kernel = replace(same, count=same.count + kernel.count)
        found[kernel.names] = kernel
    return sorted(found.values(), key=lambda kernel: -kernel.estimate * kernel.count)


def _candidates(block: Block) -> Iterator[Op]:
    """The ops that are kernels, those in loops and branches too."""
    for op in block.ops:
        if op.name in CONTROL:
            for region in op.regions:
                yield from _candidates(region.block)
        elif op.definition.pure and op.name not in NO_KERNELS and _on_arrays(op):
            yield op


def _on_arrays(op: Op) -> bool:
    return all(isinstance(v.type, TensorType) for v in (*op.operands, *op.results))


def _content(op: Op) -> Hashable:
    """What an op computes, from what: equal ones are one kernel."""
    from graphmill.codegen.cpu.lowering import body_of, structure

    lie = tuple((v.tensor.layout, is_constant(v)) for v in op.operands)
    return op.name, str(op.attrs.get("kind")), structure(body_of(op)), lie


def _kernel(
    function: Function, ops: list[Op], target: Target, sizes: Mapping[str, int]
) -> Kernel | None:
    from graphmill.codegen.cpu.generate import write
    from graphmill.passes.manager import run_pipeline

    op, work = ops[0], cost(ops[0])
    alone = _alone(function, op)
    if alone is None or not alone.dims.keys() <= sizes.keys():
        return None
    planned, notes = run_pipeline(alone, "memory"), Notes()
    write(planned, replace(target, notes=notes), profiled=False)
    names = dict.fromkeys(c.kernel for c in notes.choices.values() if c.others)
    if not names:
        return None
    seconds = max(evaluate(work.flops, sizes) / FLOPS, evaluate(work.bytes, sizes) / BYTES)
    return Kernel(planned, tuple(names), str(op.loc or function.name), len(ops), seconds)


def _alone(function: Function, op: Op) -> Function | None:
    """A function of the op's operands, constants inside; None where that leaves out a dim.

    That is so where it depends on the number of a loop's turn.
    """
    if not _named(op) <= function.dims.keys():
        return None
    operands = list(dict.fromkeys(op.operands))
    given = [v for v in operands if not is_constant(v)]
    shown = _dims(given)
    if not _dims(op.results) <= shown:
        return None
    dims = {name: bounds for name, bounds in function.dims.items() if name in shown}
    made = Function("tuned", [v.type for v in given], [f"x{i}" for i in range(len(given))], dims)
    mapping: dict[Value, Value] = dict(zip(given, made.params, strict=True))
    for value in operands:
        if is_constant(value):
            _add_constant(value, made.block, mapping)
    copy = clone_op(op, mapping)
    made.block.append(copy)
    Builder(made.block).end(*copy.results)
    return made


def _named(op: Op) -> frozenset[str]:
    """The named dims that an op depends on, with all inside its regions."""
    found = _dims(op.results).union(*map(dim_names, op.attrs.values()))
    return found.union(*(_named(inner) for r in op.regions for inner in r.block.ops))


def _dims(values: list[Value] | tuple[Value, ...]) -> frozenset[str]:
    """The named dims in the shapes of values."""
    dims = [d for v in values for d in v.tensor.shape if isinstance(d, Dim)]
    return frozenset(name for dim in dims for name in dim.names)


def _add_constant(value: Value, block: Block, mapping: dict[Value, Value]) -> None:
    """Copy a constant into `block`, with the constants that it is prepared from."""
    if value in mapping:
        return
    assert value.op is not None
    for operand in value.op.operands:
        _add_constant(operand, block, mapping)
    block.append(clone_op(value.op, mapping))
