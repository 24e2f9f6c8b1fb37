"""Where the first element of a line is true (or false), with an end to the search where it is."""

from __future__ import annotations

from collections.abc import Callable

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.host import Buffer, Host
from graphmill.codegen.cpu.index import Index
from graphmill.codegen.cpu.launch import Launch, grain
from graphmill.codegen.cpu.loops import outer_positions
from graphmill.codegen.cpu.lowering import info_of, label
from graphmill.codegen.cpu.small_sort import bits_of
from graphmill.ir.dims import product
from graphmill.ir.graph import Op

Found = Callable[[Val], Val]  # the bits at a position

TOGETHER = 4  # vectors between two looks at whether one was found


def searches(op: Op) -> bool:
    """Whether an `argreduce` looks for a truth value along the last axis."""
    operand = op.operands[0]
    return operand.tensor.dtype.kind == "b" and op.attrs["axis"] == len(operand.shape) - 1


def search(host: Host, op: Op, output: Buffer) -> None:
    """Write the kernel, a line for a work item; the place is 0 where none is found."""
    operand = op.operands[0]
    kernel, shape = host.kernel(label(op)), operand.shape
    source, target = host.source(kernel, operand), host.source(kernel, op.result, output)
    elements = Elements(kernel, {}, kernel.target.lanes(8))
    code, length = kernel.code, kernel.dim(shape[-1])
    with code.loop(kernel.begin, kernel.end) as item, elements.scope():
        outer = outer_positions(kernel, item.i, shape[:-1])

        def found(at: Val) -> Val:
            """The lanes at a position that hold what is wanted, as bits."""
            value = elements.load(source, (*outer, Index(at, 1)))
            assert isinstance(value, Val)
            if op.attrs["kind"] == "min":
                value = code.binary("arith.xori", value, code.const(True, value.type))
            if elements.tail is not None:
                value = code.binary("arith.andi", value, elements.tail)
            return bits_of(code, value)

        elements.store(target, outer, _first(elements, length, found))
    known = shape[-1] if isinstance(shape[-1], int) else 4096
    launch = Launch(product(shape[:-1]), grain(known / 8))
    host.launch(kernel, launch, info_of(op, kernel.name, True))


def _first(elements: Elements, length: Val, found: Found) -> Val:
    code, lanes = elements.code, elements.lanes
    start, bits = code.i64(0), code.const(0, f"i{lanes}")
    for count in (TOGETHER, 1):
        start, bits = _scan(elements, start, length, count, found)
    left = code.binary("arith.subi", length, start)
    more = code.compare("arith.cmpi", "sgt", left, code.i64(0))
    more = code.binary("arith.andi", more, _none(code, bits))
    mask = memory.tail_mask(code, left, lanes)
    with code.choose(more, [bits]) as rest, elements.scope(mask):
        rest.next = [found(start)]
    (bits,) = rest.results
    lane = code.unary("math.cttz", bits)
    if lanes < 64:
        lane = code.convert("arith.extui", lane, "i64")
    return code.select(_none(code, bits), code.i64(0), code.add(start, lane))


def _scan(elements: Elements, start: Val, length: Val, count: int, found: Found) -> tuple[Val, Val]:
    """Go on by `count` whole vectors until one has it: their place, and all their bits."""
    code, lanes = elements.code, elements.lanes
    with code.while_loop([start, code.const(0, f"i{lanes}")]) as loop:
        at, bits = loop.carried
        fits = code.compare("arith.cmpi", "sle", code.add(at, count * lanes), length)
        code.test(loop, code.binary("arith.andi", fits, _none(code, bits)))
        at, _ = loop.carried
        with elements.scope():
            bits = found(at)
            for number in range(1, count):
                bits = code.binary("arith.ori", bits, found(code.add(at, number * lanes)))
        after = code.add(at, count * lanes)
        loop.next = [code.select(_none(code, bits), after, at), bits]
    return loop.results[0], loop.results[1]


def _none(code: Code, bits: Val) -> Val:
    return code.compare("arith.cmpi", "eq", bits, code.const(0, bits.type))
