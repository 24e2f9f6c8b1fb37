"""The memory plan read back from a planned function: each arena buffer over time, peak, text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphmill.ir.dims import evaluate, parse_dim
from graphmill.ir.graph import Block, Function, Op, Value
from graphmill.ir.ops.control import SEALED
from graphmill.ir.printer import Names
from graphmill.ir.types import TensorType
from graphmill.report.pictures import locations

# The size that a named dim without an upper bound has in pictures.
SAMPLE_SIZE = 64


def memory_report(function: Function) -> str:
    """A line per arena buffer (offset, bytes, first and last op, values, lines), then the peak."""
    plan = memory_of(function)
    if plan is None:
        return "no memory plan: the memory pass has not run"
    rows = [("offset", "bytes", "ops", "values", "type", "from")]
    for b in sorted(plan["buffers"], key=lambda b: (b["offset"], b["start"])):
        values, places = " = ".join(b["names"]), ", ".join(b["locs"])
        span = f"{b['start']}..{b['end']}"
        rows.append((str(b["offset"]), str(b["size"]), span, values, b["type"], places))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    right = (True, True, False, False, False, False)
    lines = [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
    sizes = ", ".join(f"{name} = {size}" for name, size in plan["sizes"].items())
    total = sum(b["size"] for b in plan["buffers"])
    lines.append(f"peak {plan['peak']} bytes" + (f" for {sizes}" if sizes else ""))
    if sizes:
        lines.append(f"arena {plan['expression']} bytes")
    lines.append(f"without reuse {total} bytes in {len(plan['buffers'])} buffers")
    return "\n".join(lines)


def memory_of(function: Function) -> dict[str, Any] | None:
    """The arena's buffers over time: offset, size, first and last op; None without a plan."""
    if "arena_bytes" not in function.attrs:
        return None
    sizes = {name: SAMPLE_SIZE if b.high is None else b.high for name, b in function.dims.items()}
    sizes = {name: max(size, function.dims[name].low) for name, size in sizes.items()}
    plan = _Plan(sizes, Names(function))
    plan.block(function.block)
    return {
        "buffers": plan.buffers,
        "steps": plan.step,
        "peak": evaluate(function.attrs["arena_bytes"], sizes),
        "expression": str(function.attrs["arena_bytes"]),
        "sizes": sizes,
    }


class _Plan:
    """Walks the ops in order, each one step, and notes when each arena buffer is in use."""

    def __init__(self, sizes: Mapping[str, int], names: Names) -> None:
        self.sizes, self.names = sizes, names
        self.buffers: list[dict[str, Any]] = []
        self.of: dict[Value, dict[str, Any]] = {}
        self.step = 0

    def block(self, block: Block) -> None:
        for op in block.ops:
            start = self.step
            self.step += 1
            for operand in op.operands:
                self.use(operand)
            if op.name not in SEALED:
                for region in op.regions:
                    self.enter(region.block, op)
            for operand in op.operands:
                self.use(operand)
            self.define(op, start)

    def enter(self, block: Block, op: Op) -> None:
        """The arguments of a body stand for the op's last operands."""
        outer = op.operands[len(op.operands) - len(block.args) :]
        for arg, operand in zip(block.args, outer, strict=False):
            if operand in self.of:
                self.of[arg] = self.of[operand]
        self.block(block)

    def use(self, value: Value) -> None:
        if value in self.of:
            self.of[value]["end"] = self.step

    def define(self, op: Op, start: int) -> None:
        tensors = [r for r in op.results if isinstance(r.type, TensorType)]
        for result, place in zip(tensors, op.attrs.get("buffers", ()), strict=False):
            where, _, rest = place.partition(":")
            if where == "alias":
                source = op.operands[int(rest)]
                if source in self.of:
                    self.of[result] = self.of[source]
                    self.of[result]["names"].append(self.names[result])
            elif where == "arena":
                buffer = {
                    "offset": evaluate(parse_dim(rest), self.sizes),
                    "size": evaluate(result.tensor.nbytes, self.sizes),
                    "start": start,
                    "end": self.step,
                    "names": [self.names[result]],
                    "type": str(result.type),
                    "op": op.name,
                    "locs": locations(op),
                }
                self.of[result] = buffer
                self.buffers.append(buffer)
