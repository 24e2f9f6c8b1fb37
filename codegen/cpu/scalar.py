"""Elementwise ops: one table from op name and dtype kind to what is emitted.

A lowering is the name of an MLIR op (whose operands and result share a type) or a function of a
`Call`. Adding an op is one line in `TABLE`; kinds are those of `DType.kind`: b i u f;
the rows for complex numbers are in `codegen.cpu.complex`.
Every op has NumPy's meaning, works on scalars and vectors alike and gives the same bits on both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Literal

from graphmill.codegen.cpu import shared
from graphmill.codegen.cpu.calls import Call, Lowering, compare, late, of_nums
from graphmill.codegen.cpu.elem import Complex, Elem, register_type, select
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.expr import Num, Scope, fma
from graphmill.codegen.cpu.memory import from_memory, to_memory
from graphmill.codegen.cpu.target import Target
from graphmill.ir.dtypes import DType


class UnsupportedOp(NotImplementedError):
    """An elementwise op that has no CPU lowering for a dtype kind."""


def _same(call: Call) -> Elem:
    return call.args[0]


def _choose(call: Call) -> Elem:
    condition, a, b = call.args
    assert isinstance(condition, Val)
    return select(call.scope.code, condition, a, b)


def _part(name: Literal["re", "im"]) -> Lowering:
    def emit(call: Call) -> Elem:
        (z,) = call.args
        assert isinstance(z, Complex)
        return z.re if name == "re" else z.im

    return emit


def _joined(call: Call) -> Elem:
    re, im = call.args
    assert isinstance(re, Val) and isinstance(im, Val)
    return Complex(re, im)


def cast(code: Code, value: Elem, src: DType, dst: DType) -> Elem:
    """An element of another dtype, with NumPy's meaning."""
    from graphmill.codegen.cpu import convert

    return convert.cast(code, value, src, dst)


def _cast(call: Call) -> Elem:
    return cast(call.scope.code, call.args[0], call.types[0], call.out)


def _bitcast(call: Call) -> Elem:
    code, (value,) = call.scope.code, call.args
    assert isinstance(value, Val)
    bits = to_memory(code, value, call.types[0])
    if bits.element.startswith("f"):
        bits = code.convert("arith.bitcast", bits, f"i{call.out.bits}")
    if call.out.kind == "f" and call.out.bits > 16:
        return code.convert("arith.bitcast", bits, register_type(call.out))
    return from_memory(code, bits, call.out)


def _next_after(call: Call) -> Elem:
    from graphmill.codegen.cpu.reals import next_after

    return next_after(call)


def _always(value: bool) -> Lowering:
    return of_nums(lambda x: x.eq(0) | x.ne(0) if value else x.ne(x))


def _invert(x: Num) -> Num:
    return ~x


def _negate(x: Num) -> Num:
    return -x


def _int_clamp(letter: str) -> Lowering:
    def clamp(x: Num, low: Num, high: Num) -> Num:
        return x.binary(f"arith.max{letter}i", low).binary(f"arith.min{letter}i", high)

    return of_nums(clamp)


def _multiply_add(a: Num, b: Num, c: Num) -> Num:
    return fma(a, b, c) if a.is_float else a * b + c


TABLE: dict[str, dict[str, Lowering]] = {
    # sums and products
    "add": {"f": "arith.addf", "iu": "arith.addi", "b": "arith.ori"},
    "sub": {"f": "arith.subf", "iu": "arith.subi", "b": "arith.xori"},
    "mul": {"f": "arith.mulf", "iu": "arith.muli", "b": "arith.andi"},
    "div": {"f": "arith.divf"},
    "fma": {"fiu": of_nums(_multiply_add)},
    "square": {"fiu": late("reals", "square"), "b": _same},
    "neg": {"fiu": of_nums(_negate)},
    "reciprocal": {
        "f": late("reals", "reciprocal"),
        "i": late("integers", "reciprocal"),
        "u": late("integers", "unsigned_reciprocal"),
    },
    # whole division and remainders
    "floordiv": {
        "f": late("reals", "floordiv"),
        "i": late("integers", "floordiv"),
        "u": late("integers", "unsigned_div"),
    },
    "mod": {
        "f": late("reals", "mod"),
        "i": late("integers", "mod"),
        "u": late("integers", "unsigned_rem"),
    },
    "rem": {
        "f": late("reals", "rem"),
        "i": late("integers", "rem"),
        "u": late("integers", "unsigned_rem"),
    },
    # order
    "max": {
        "f": late("reals", "maximum"), "i": "arith.maxsi", "u": "arith.maxui", "b": "arith.ori",
    },
    "min": {
        "f": late("reals", "minimum"), "i": "arith.minsi", "u": "arith.minui", "b": "arith.andi",
    },
    "clamp": {"f": late("reals", "clamp"), "i": _int_clamp("s"), "u": _int_clamp("u")},
    "eq": {"f": compare("oeq"), "iub": compare("eq")},
    "ne": {"f": compare("une"), "iub": compare("ne")},
    "lt": {"f": compare("olt"), "i": compare("slt"), "ub": compare("ult")},
    "le": {"f": compare("ole"), "i": compare("sle"), "ub": compare("ule")},
    "gt": {"f": compare("ogt"), "i": compare("sgt"), "ub": compare("ugt")},
    "ge": {"f": compare("oge"), "i": compare("sge"), "ub": compare("uge")},
    "select": {"fiubc": _choose},
    # bits
    "and": {"iub": "arith.andi"},
    "or": {"iub": "arith.ori"},
    "xor": {"iub": "arith.xori"},
    "not": {"iub": of_nums(_invert)},
    "shl": {"iu": late("integers", "shl")},
    "shr": {"i": late("integers", "shr"), "u": late("integers", "unsigned_shr")},
    "popcount": {"i": late("integers", "popcount"), "u": "math.ctpop"},
    # signs and classes
    "abs": {"f": "math.absf", "i": late("integers", "absolute"), "ub": _same},
    "sign": {
        "f": late("reals", "sign"),
        "i": late("integers", "sign"),
        "u": late("integers", "unsigned_sign"),
    },
    "copysign": {"f": "math.copysign"},
    "signbit": {"f": late("reals", "signbit"), "i": of_nums(lambda x: x < 0), "ub": _always(False)},
    "isnan": {"f": late("reals", "is_nan"), "iub": _always(False)},
    "isinf": {"f": late("reals", "is_inf"), "iub": _always(False)},
    "isfinite": {"f": late("reals", "is_finite"), "iub": _always(True)},
    "nextafter": {"f": _next_after},
    # rounding
    "floor": {"f": "math.floor", "iub": _same},
    "ceil": {"f": "math.ceil", "iub": _same},
    "trunc": {"f": "math.trunc", "iub": _same},
    "round": {"f": "math.roundeven", "iub": _same},
    # powers
    "sqrt": {"f": "math.sqrt"},
    "cbrt": {"f": late("math_pow", "cbrt")},
    "hypot": {"f": late("math_pow", "hypot")},
    "rsqrt": {"f": late("math_root", "rsqrt")},
    "pow": {
        "f": late("math_pow", "power"),
        "i": late("integers", "power"),
        "u": late("integers", "unsigned_power"),
    },
    # exponentials and logarithms
    "exp": {"f": late("math_exp", "exp")},
    "exp2": {"f": late("math_exp", "exp2")},
    "expm1": {"f": late("math_exp", "expm1")},
    "log": {"f": late("math_log", "log")},
    "log2": {"f": late("math_log", "log2")},
    "log10": {"f": late("math_log", "log10")},
    "log1p": {"f": late("math_log", "log1p")},
    "logaddexp": {"f": late("math_log", "logaddexp")},
    "logistic": {"f": late("math_exp", "logistic")},
    "erf": {"f": late("math_erf", "erf")},
    "erfc": {"f": late("math_erf", "erfc")},
    # circular and hyperbolic functions
    "sin": {"f": late("math_trig", "sin")},
    "cos": {"f": late("math_trig", "cos")},
    "tan": {"f": late("math_trig", "tan")},
    "asin": {"f": late("math_trig", "asin")},
    "acos": {"f": late("math_trig", "acos")},
    "atan": {"f": late("math_trig", "atan")},
    "atan2": {"f": late("math_trig", "atan2")},
    "sinh": {"f": late("math_exp", "sinh")},
    "cosh": {"f": late("math_exp", "cosh")},
    "tanh": {"f": late("math_exp", "tanh")},
    "asinh": {"f": late("math_log", "asinh")},
    "acosh": {"f": late("math_log", "acosh")},
    "atanh": {"f": late("math_log", "atanh")},
    # parts of complex numbers
    "conj": {"fiu": _same},
    "real": {"fiu": _same, "c": _part("re")},
    "imag": {"c": _part("im")},
    "complex": {"f": _joined},
    # between dtypes
    "cast": {"biufc": _cast},
    "bitcast": {"iuf": _bitcast},
}  # fmt: skip


@functools.cache
def _lowerings() -> dict[tuple[str, str], Lowering]:
    return {
        (op, kind): lowering
        for op, cases in TABLE.items()
        for kinds, lowering in cases.items()
        for kind in kinds
    }


@functools.cache
def _complex_lowerings() -> dict[tuple[str, str], Lowering]:
    from graphmill.codegen.cpu import complex as cx

    return {(op, "c"): cx.lowering(function) for op, function in cx.TABLE.items()}


def supported() -> frozenset[tuple[str, str]]:
    """The (op, dtype kind) pairs that `apply` lowers."""
    return frozenset(_lowerings() | _complex_lowerings())


def apply(
    code: Code,
    target: Target,
    op: str,
    args: Sequence[Elem],
    types: Sequence[DType],
    out: DType,
    attrs: Mapping[str, object] | None = None,
) -> Elem:
    """Emit elementwise `op` on `args` of dtypes `types`; raises `UnsupportedOp`.

    All operands have the same lanes. Operands of one dtype, but for `select` (whose condition
    is bool); the result is of dtype `out`.
    """
    kind = types[1 if op == "select" else 0].kind
    lowering = _complex_lowerings().get((op, kind)) if kind == "c" else None
    lowering = lowering or _lowerings().get((op, kind))
    if lowering is None:
        raise UnsupportedOp(f"no CPU lowering of {op} for {types[0]}")
    call = Call(Scope.of(code, target), tuple(args), tuple(types), out, attrs or {})
    return shared.lowered(op, call, lowering)
