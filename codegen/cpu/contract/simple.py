"""Plain loops for types without a micro-kernel: complex products."""

from __future__ import annotations

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.contract.elements import resize, store_as
from graphmill.codegen.cpu.contract.finish import apply, extra_slots
from graphmill.codegen.cpu.contract.slots import BODY, Slots
from graphmill.codegen.cpu.contract.spec import SLOTS, Epilogue, GemmSpec, Place
from graphmill.codegen.cpu.elem import Complex, Elem, register_type
from graphmill.codegen.cpu.emit import Code, Unit, Val
from graphmill.ir.dtypes import DType


def emit_simple(unit: Unit, symbol: str, spec: GemmSpec, epilogue: Epilogue | None) -> None:
    """Write the kernel that computes the rows `begin`..`end` of a complex product."""
    code = Code(unit, symbol, BODY, internal=False)
    slots = Slots(code, spec)
    extra = extra_slots(code, slots.data, epilogue, len(SLOTS))
    kind = register_type(spec.acc)
    zero = code.const(0, kind)
    for batch, low, high in slots.matrices(slots.sizes.m):
        a = at_element(code, slots["a"], code.mul(batch, slots["a_batch"]), spec.a)
        b = at_element(code, slots["b"], code.mul(batch, slots["b_batch"]), spec.b)
        c = at_element(code, slots["c"], code.mul(batch, slots["c_batch"]), spec.out)
        with code.loop(low, high) as row, code.loop(0, slots.sizes.n) as col:
            with code.loop(0, slots.sizes.k, 1, [zero, zero]) as k:
                left = code.add(code.mul(row.i, slots["a_m"]), code.mul(k.i, slots["a_k"]))
                right = code.add(code.mul(k.i, slots["b_k"]), code.mul(col.i, slots["b_n"]))
                x = as_complex(code, memory.load(code, a, left, spec.a, 0), kind)
                y = as_complex(code, memory.load(code, b, right, spec.b, 0), kind)
                k.next = complex_multiply_add(code, x, y, k.carried)
            place = Place(row.i, col.i, batch, 0, None, extra)
            total = Complex(k.results[0], k.results[1])
            done = apply(code, epilogue, total, spec.acc, place)
            store_as(code, done, c, code.add(code.mul(row.i, slots["c_m"]), col.i), spec.out)
    code.finish()


def at_element(code: Code, base: Val, index: Val, dtype: DType) -> Val:
    """The address of element `index`, of a complex or real array."""
    return code.at(base, code.mul(index, dtype.itemsize), "i8")


def as_complex(code: Code, value: Elem, kind: str) -> Complex:
    """A real or complex scalar as a complex one with parts of type `kind`."""
    if isinstance(value, Complex):
        return Complex(resize(code, value.re, kind), resize(code, value.im, kind))
    return Complex(resize(code, value, kind), code.const(0, kind))


def complex_multiply_add(code: Code, x: Complex, y: Complex, sums: list[Val]) -> list[Val]:
    """`sums + x * y`, in real and imaginary parts."""

    def product(a: Val, b: Val) -> Val:
        return code.binary("arith.mulf", a, b)

    re = code.binary("arith.subf", product(x.re, y.re), product(x.im, y.im))
    im = code.binary("arith.addf", product(x.re, y.im), product(x.im, y.re))
    return [code.binary("arith.addf", sums[0], re), code.binary("arith.addf", sums[1], im)]
