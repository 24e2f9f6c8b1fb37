"""Plain loops for complex convolutions, one result at a time."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.elements import store_as
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.simple import as_complex, at_element, complex_multiply_add
from graphmill.codegen.cpu.contract.spec import Epilogue, Place
from graphmill.codegen.cpu.convolve.patches import decode
from graphmill.codegen.cpu.convolve.spec import ConvSlots
from graphmill.codegen.cpu.convolve.window import Window
from graphmill.codegen.cpu.elem import Complex, register_type


def emit_plain(slots: ConvSlots, epilogue: Epilogue | None) -> None:
    """Write the kernel of a complex convolution; items are filters of a group."""
    code, conv = slots.code, slots.conv
    extra = extra_slots(code, slots.data, epilogue, slots.first_extra)
    kind = register_type(conv.acc)
    window = Window(slots, code, kind, 0)
    width = slots.out[-1]
    zero = code.const(0, kind)
    for batch, low, high in slots.matrices(slots.sizes.m):
        image, group = slots.image_and_group(batch)
        channel = code.mul(group, conv.channels // conv.groups)
        start = code.add(code.mul(image, slots["x_image"]), code.mul(channel, slots["x_channel"]))
        x = at_element(code, slots["x"], start, conv.x)
        y = at_element(code, slots["y"], code.mul(batch, slots["c_batch"]), conv.out)
        with code.loop(low, high) as item, code.loop(0, slots.sizes.n) as pixel:
            number = code.add(code.mul(group, slots.sizes.m), item.i)
            w = at_element(code, slots["w"], code.mul(number, slots.sizes.k), conv.w)
            row = code.binary("arith.divui", pixel.i, width)
            column = code.binary("arith.remui", pixel.i, width)
            with code.loop(0, slots.sizes.k, 1, [zero, zero]) as k:
                source, taps = decode(code, conv, k.i)
                index, inside = window.line_index(row, taps)
                at, good = window.position(conv.rank - 1, column, taps[-1])
                index = code.add(index, code.mul(at, slots.step[-1]))
                index = code.add(index, code.mul(source, slots["x_channel"]))
                with code.choose(code.binary("arith.andi", inside, good), k.carried) as chosen:
                    seen = as_complex(code, memory.load(code, x, index, conv.x, 0), kind)
                    weight = as_complex(code, memory.load(code, w, k.i, conv.w, 0), kind)
                    chosen.next = complex_multiply_add(code, seen, weight, k.carried)
                k.next = chosen.results
            shown_row, shown_batch = slots.place(item.i, batch)
            place = Place(shown_row, pixel.i, shown_batch, 0, None, extra)
            done = apply(code, epilogue, Complex(*k.results), conv.acc, place)
            index = code.add(code.mul(item.i, slots.sizes.n), pixel.i)
            store_as(code, done, y, index, conv.out)
