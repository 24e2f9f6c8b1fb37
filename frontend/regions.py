"""Tracing a function into a region, and giving regions of one op the same captured arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphmill.frontend.core import as_tracer
from graphmill.frontend.state import Frame, current, entered
from graphmill.frontend.tracer import Tracer
from graphmill.frontend.trees import Tree, flatten
from graphmill.ir.dtypes import DType
from graphmill.ir.graph import Block, Region, Value
from graphmill.ir.types import TensorType
from graphmill.records import record


@record(frozen=False)
class Body:
    """A function traced into a block that has no terminator yet."""

    frame: Frame
    results: list[Tracer]
    tree: Tree

    def finish(self, types: Sequence[TensorType]) -> None:
        """Cast the results to `types` where only the dtype differs and end the block."""
        with entered(self.frame) as frame:
            frame.open = True
            frame.builder.loc = None
            values = [_as_type(r, t.dtype) for r, t in zip(self.results, types, strict=True)]
            frame.builder.end(*values)


def _as_type(result: Tracer, to: DType) -> Value:
    from graphmill.frontend.core import astype

    return astype(result, to).value()


def trace_body(
    function: Callable[..., Any],
    types: Sequence[tuple[TensorType, bool]],
    build: Callable[[list[Tracer]], tuple[Any, ...]],
    names: Sequence[str] = (),
) -> Body:
    """Trace `function(*build(args))` in a new block whose arguments have `types` (and weakness)."""
    parent = current()
    block = Block([type for type, _ in types], names)
    Region(block)
    with entered(Frame(parent.trace, block, parent)) as frame:
        args = [Tracer(arg, frame, weak) for arg, (_, weak) in zip(block.args, types, strict=True)]
        results, tree = flatten(function(*build(args)))
        made = [as_tracer(r) for r in results]
        for result in made:
            result.value()
        return Body(frame, made, tree)


def share_captures(bodies: Sequence[Body], lead: int) -> list[Value]:
    """Let every block take the same captured values after its first `lead` arguments.

    Returns those values, which belong to the frame around the bodies.
    """
    union: dict[Value, None] = {}
    for body in bodies:
        union.update(dict.fromkeys(body.frame.captures))
    for body in bodies:
        block, inner = body.frame.block, body.frame.captures
        args = block.args[:lead]
        for outer in union:
            found = inner.get(outer)
            args.append(found or Value(outer.type, block, 0, outer.name))
        for index, arg in enumerate(args):
            arg.index = index
        block.args = args
    return list(union)


def region_of(body: Body) -> Region:
    """The region around a finished body's block."""
    region = body.frame.block.region
    assert region is not None
    return region
