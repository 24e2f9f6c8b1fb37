"""Plain channels into blocks: squares of channels and places are transposed in registers."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.elements import least, minus
from graphmill.codegen.cpu.contract.packing import transpose
from graphmill.codegen.cpu.convolve.blocked_spec import Shape
from graphmill.codegen.cpu.elem import memory_type
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.ir.dtypes import DType

_ARGS = (
    ("x", "!llvm.ptr"), ("x_channel", "i64"), ("channels", "i64"), ("blocks", "i64"),
    ("length", "i64"), ("out", "!llvm.ptr"), ("out_block", "i64"),
)  # fmt: skip


def to_blocks(unit: Unit, of: DType, shape: Shape, block: int) -> str:
    """Symbol of `(x, x_channel, channels, blocks, length, out, out_block)`: copies `length` places
    of so many `blocks` of channels.

    Distances of channels and of blocks are in elements. Lanes without a channel get any of them.
    """
    symbol = f"gm.to_blocks_{of}x{shape.lanes}_b{block}"
    if not unit.once(symbol):
        return symbol
    code = Code(unit, symbol, _ARGS, traits=("noinline",))
    x, x_channel, channels, blocks, length, out, out_block = code.args
    lanes, last = shape.lanes, code.add(channels, -1)
    with code.loop(0, blocks) as number, code.loop(0, block, lanes) as part:
        channel = code.add(code.mul(number.i, block), part.i)
        rows = [
            code.at(
                x, code.mul(least(code, code.add(channel, i), last), x_channel), memory_type(of)
            )
            for i in range(lanes)
        ]
        target = code.at(out, code.add(code.mul(number.i, out_block), part.i), memory_type(of))
        whole = code.op(f"arith.andi {length}, {code.i64(-lanes)} : i64", "i64")
        with code.loop(0, whole, lanes) as place:
            _square(code, of, rows, place.i, target, block, None)
        left = minus(code, length, whole)
        with code.when(code.compare("arith.cmpi", "sgt", left, code.i64(0))):
            _square(code, of, rows, whole, target, block, left)
    code.finish()
    return symbol


def _square(
    code: Code, of: DType, rows: list[Val], place: Val, target: Val, block: int, left: Val | None
) -> None:
    """As many places as channels, the first `left` of them if not all."""
    lanes = len(rows)
    mask = None if left is None else memory.tail_mask(code, left, lanes)
    loaded = [memory.load(code, row, place, of, lanes, mask=mask) for row in rows]
    values = [value for value in loaded if isinstance(value, Val)]
    for i, value in enumerate(transpose(code, values)):
        at = code.mul(code.add(place, i), block)
        if left is None:
            memory.store(code, value, target, at, of)
            continue
        with code.when(code.compare("arith.cmpi", "slt", code.i64(i), left)):
            memory.store(code, value, target, at, of)
