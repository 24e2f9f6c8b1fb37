"""Run-time checks: the first failure goes into the error record with the user's line."""

from __future__ import annotations

from graphmill.codegen.cpu import convert, scalar
from graphmill.codegen.cpu.elem import splat
from graphmill.codegen.cpu.element import Elements
from graphmill.codegen.cpu.emit import Val
from graphmill.codegen.cpu.host import ERROR, Host
from graphmill.codegen.cpu.index import Index, unravel
from graphmill.codegen.cpu.kernel import Kernel, Source, Storage
from graphmill.codegen.cpu.launch import Launch
from graphmill.codegen.cpu.lowering import info_of, lowers
from graphmill.ir.dims import product
from graphmill.ir.dtypes import bool_, f64, i64
from graphmill.ir.graph import Op

BOUNDS, NAN, SHORT = 1, 2, 3  # codes in the error record


@lowers("check")
def _check(host: Host, op: Op) -> None:
    """A serial kernel over all elements; it stops looking once something was found."""
    host.place(op)
    host.checked = True
    (operand,) = op.operands
    kernel = host.kernel(f"check_{op.attrs['kind']}")
    record = Storage(("error record",), True)
    host.lend(record, host.context(ERROR))
    slots = kernel.pointer(record)
    source = host.source(kernel, operand)
    elements = Elements(kernel, {})
    code = kernel.code
    number = host.location(op)
    with code.loop(kernel.begin, kernel.end) as item, elements.scope():
        sizes = [kernel.size(d) for d in operand.shape]
        index = tuple(Index(v) for v in unravel(code, item.i, sizes))
        bad, fields = _bad(kernel, op, elements, source, index)
        clean = code.compare("arith.cmpi", "eq", code.load(slots, "i64", 8), code.i64(0))
        with code.when(code.binary("arith.andi", bad, clean)):
            kind = BOUNDS if op.attrs["kind"] == "bounds" else NAN
            values = [code.i64(kind), code.i64(number), item.i, *fields]
            for slot, value in enumerate(values):
                code.store(value, code.at(slots, slot, "i64"), 8)
    host.launch(kernel, Launch(product(operand.shape), 1 << 60), info_of(op, kernel.name, False))


@lowers("require")
def _require(host: Host, op: Op) -> None:
    """A comparison in the entry function. Kernels stay in bounds all the same, so they run on."""
    host.checked = True
    code = host.code
    slots = host.context(ERROR)
    size, least = (host.dim(op.attrs[name]) for name in ("size", "least"))
    clean = code.compare("arith.cmpi", "eq", code.load(slots, "i64", 8), code.i64(0))
    short, zero = code.compare("arith.cmpi", "slt", size, least), code.i64(0)
    with code.when(code.binary("arith.andi", short, clean)):
        values = [code.i64(SHORT), code.i64(host.location(op)), zero, least, size, zero]
        for slot, value in enumerate(values):
            code.store(value, code.at(slots, slot, "i64"), 8)


def _bad(
    kernel: Kernel, op: Op, elements: Elements, source: Source, index: tuple[Index, ...]
) -> tuple[Val, list[Val]]:
    """Whether the element is bad, and what the record says of it: index, bound, value bits."""
    code, dtype = kernel.code, source.dtype
    value = elements.load(source, index)
    zero = code.i64(0)
    if op.attrs["kind"] == "bounds":
        wide = convert.cast(code, value, dtype, i64)
        assert isinstance(wide, Val)
        size = kernel.dim(op.attrs["size"])
        least = code.binary("arith.subi", zero, size) if dtype.kind == "i" else zero
        low = code.compare("arith.cmpi", "slt", wide, least)
        high = code.compare("arith.cmpi", "sge", wide, size)
        return code.binary("arith.ori", low, high), [wide, size, zero]
    finite = scalar.apply(code, kernel.target, "isfinite", [splat(code, value, 0)], [dtype], bool_)
    assert isinstance(finite, Val)
    part = value if isinstance(value, Val) else value.re
    wide = part if part.type == "f64" else code.convert("arith.extf", part, f64.name)
    bits = code.op(f"arith.bitcast {wide} : f64 to i64", "i64")
    bad = code.binary("arith.xori", finite, code.const(True, "i1"))
    return bad, [zero, zero, bits]
