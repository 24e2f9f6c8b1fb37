"""Elementwise ops: operands of one shape (and, but for `select` and `cast`, one dtype)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.ir.dtypes import DType, bool_, c64, c128, f32, f64
from graphmill.ir.graph import Region
from graphmill.ir.ops import numpy_meaning as meaning
from graphmill.ir.ops.base import (
    Domain,
    OpDef,
    TypeRuleError,
    check_count,
    check_kinds,
    register,
    same_type,
    tensors,
)
from graphmill.ir.types import TensorType, Type

Attrs = Mapping[str, Any]
Rule = Callable[[TensorType], TensorType]


def _same(type: TensorType) -> TensorType:
    return type


def _bool(type: TensorType) -> TensorType:
    return type.with_dtype(bool_)


def _real(type: TensorType) -> TensorType:
    return type.with_dtype(type.dtype.real)


def _elementwise(
    name: str,
    operands: tuple[str, ...],
    doc: str,
    reference: Callable[..., Any],
    rule: Rule = _same,
    **extra: Any,
) -> OpDef:
    def infer(types: Sequence[Type], attrs: Attrs, regions: Sequence[Region]) -> Sequence[Type]:
        check_count(definition, types)
        check_kinds(definition, types)
        return [rule(same_type(name, tensors(name, types)))]

    extra.setdefault("flops", 1.0)
    definition = OpDef(
        name, "elementwise", operands, doc, infer, meaning.keep_dtype(reference),
        fusion="elementwise", **extra,
    )  # fmt: skip
    return register(definition)


def unary(name: str, doc: str, reference: Callable[..., Any], kinds: str, **extra: Any) -> OpDef:
    """An op of one operand whose result has its shape."""
    return _elementwise(name, ("x",), doc, reference, kinds=kinds, **extra)


def binary(name: str, doc: str, reference: Callable[..., Any], kinds: str, **extra: Any) -> OpDef:
    """An op of two operands of one type."""
    return _elementwise(name, ("x", "y"), doc, reference, kinds=kinds, **extra)


def compare(name: str, doc: str, reference: Callable[..., Any]) -> OpDef:
    """A comparison: two operands of one type, a bool result."""
    return _elementwise(name, ("x", "y"), doc, reference, _bool)


POSITIVE = Domain(0.01, 8.0)
UNIT = Domain(-0.99, 0.99)

# fmt: off
unary("neg", "-x", np.negative, "iufc", mlir={"f": "arith.negf"})
unary("abs", "|x|; real for complex x", np.abs, "iufc", rule=_real, mlir={"f": "math.absf"})
unary("sign", "-1, 0 or 1; x/|x| for complex x", np.sign, "iufc")
unary("floor", "Rounds down", np.floor, "f", mlir={"f": "math.floor"})
unary("ceil", "Rounds up", np.ceil, "f", mlir={"f": "math.ceil"})
unary("round", "Rounds to nearest, ties to even", np.rint, "fc", mlir={"f": "math.roundeven"})
unary("trunc", "Rounds towards zero", np.trunc, "f", mlir={"f": "math.trunc"})
unary("exp", "e to the x", np.exp, "fc", flops=12)
unary("exp2", "2 to the x", np.exp2, "f", flops=12)
unary("expm1", "exp(x) - 1, accurate near 0", np.expm1, "f", flops=16)
unary("log", "Natural logarithm", np.log, "fc", flops=14, domain=POSITIVE)
unary("log2", "Base-2 logarithm", np.log2, "f", flops=14, domain=POSITIVE)
unary("log10", "Base-10 logarithm", np.log10, "f", flops=14, domain=POSITIVE)
unary("log1p", "log(1 + x), accurate near 0", np.log1p, "f", flops=16, domain=POSITIVE)
unary("sqrt", "Square root", np.sqrt, "fc", flops=4, domain=POSITIVE, mlir={"f": "math.sqrt"})
unary("rsqrt", "1 / sqrt(x)", meaning.rsqrt, "f", flops=6, domain=POSITIVE)
unary("cbrt", "Cube root", np.cbrt, "f", flops=16)
unary("reciprocal", "1 / x", np.reciprocal, "fc", flops=4, domain=POSITIVE)
unary("square", "x * x", np.square, "iufc")
unary("sin", "Sine of x radians", np.sin, "fc", flops=16)
unary("cos", "Cosine of x radians", np.cos, "fc", flops=16)
unary("tan", "Tangent of x radians", np.tan, "fc", flops=20)
unary("asin", "Arc sine, in radians", np.arcsin, "fc", flops=20, domain=UNIT)
unary("acos", "Arc cosine, in radians", np.arccos, "fc", flops=20, domain=UNIT)
unary("atan", "Arc tangent, in radians", np.arctan, "fc", flops=20)
unary("sinh", "Hyperbolic sine", np.sinh, "fc", flops=20)
unary("cosh", "Hyperbolic cosine", np.cosh, "fc", flops=20)
unary("tanh", "Hyperbolic tangent", np.tanh, "fc", flops=16)
unary("asinh", "Inverse hyperbolic sine", np.arcsinh, "fc", flops=24)
unary("acosh", "Inverse hyperbolic cosine", np.arccosh, "fc", flops=24, domain=Domain(1.01, 8))
unary("atanh", "Inverse hyperbolic tangent", np.arctanh, "fc", flops=24, domain=UNIT)
unary("erf", "The error function", meaning.erf, "f", flops=24)
unary("erfc", "1 - erf(x), accurate for large x", meaning.erfc, "f", flops=30)
unary("logistic", "1 / (1 + exp(-x))", meaning.logistic, "f", flops=16)
unary("not", "Logical (bool) or bitwise not", np.invert, "biu")
unary("popcount", "The number of one bits of |x|", meaning.popcount, "iu")
unary("isfinite", "Neither infinite nor NaN", np.isfinite, "fc", rule=_bool)
unary("isnan", "Whether NaN", np.isnan, "fc", rule=_bool)
unary("isinf", "Whether infinite", np.isinf, "fc", rule=_bool)
unary("signbit", "Whether the sign bit is set", np.signbit, "f", rule=_bool)
unary("conj", "Complex conjugate", np.conj, "c")
unary("real", "Real part", np.real, "c", rule=_real)
unary("imag", "Imaginary part", np.imag, "c", rule=_real)

binary("add", "x + y (bool: or)", np.add, "biufc", mlir={"f": "arith.addf", "i": "arith.addi"})
binary("sub", "x - y", np.subtract, "iufc", mlir={"f": "arith.subf", "i": "arith.subi"})
binary("mul", "x * y (bool: and)", np.multiply, "biufc", mlir={"f": "arith.mulf",
       "i": "arith.muli"})
binary("div", "x / y", np.divide, "fc", flops=4, mlir={"f": "arith.divf"})
binary("floordiv", "Rounds x / y down; 0 for an integer divided by 0", np.floor_divide, "iuf",
       flops=8)
binary("mod", "x - floordiv(x, y) * y, with the sign of y", np.mod, "iuf", flops=8)
binary("rem", "C's remainder, with the sign of x", np.fmod, "iuf", flops=8)
binary("pow", "x to the y", meaning.power, "iufc", flops=40, domain=POSITIVE)
binary("max", "The larger; NaN if either is", np.maximum, "biufc", mlir={"f": "arith.maximumf"})
binary("min", "The smaller; NaN if either is", np.minimum, "biufc", mlir={"f": "arith.minimumf"})
binary("atan2", "The angle of the point with ordinate x and abscissa y", np.arctan2, "f", flops=28)
binary("hypot", "sqrt(x*x + y*y) without overflow", np.hypot, "f", flops=10)
binary("copysign", "|x| with the sign of y", np.copysign, "f", mlir={"f": "math.copysign"})
binary("nextafter", "The next float after x towards y", meaning.nextafter, "f", flops=6)
binary("logaddexp", "log(exp(x) + exp(y))", np.logaddexp, "f", flops=30)
binary("and", "Logical (bool) or bitwise and", np.bitwise_and, "biu", mlir={"i": "arith.andi"})
binary("or", "Logical (bool) or bitwise or", np.bitwise_or, "biu", mlir={"i": "arith.ori"})
binary("xor", "Logical (bool) or bitwise exclusive or", np.bitwise_xor, "biu",
       mlir={"i": "arith.xori"})
binary("shl", "x shifted left by y bits", np.left_shift, "iu", domain=Domain(0, 7))
binary("shr", "x shifted right by y bits (arithmetic for signed x)", np.right_shift, "iu",
       domain=Domain(0, 7))

compare("eq", "x == y", np.equal)
compare("ne", "x != y", np.not_equal)
compare("lt", "x < y", np.less)
compare("le", "x <= y", np.less_equal)
compare("gt", "x > y", np.greater)
compare("ge", "x >= y", np.greater_equal)
# fmt: on


def _infer_select(types: Sequence[Type], attrs: Attrs, regions: Sequence[Region]) -> list[Type]:
    check_count(SELECT, types)
    condition, *branches = tensors("select", types)
    if condition.dtype is not bool_:
        raise TypeRuleError(f"select: the condition is {condition.dtype}, not bool")
    result = same_type("select", branches)
    if condition.shape != result.shape:
        raise TypeRuleError(
            f"select: the condition has shape {list(condition.shape)}, "
            f"the branches {list(result.shape)}"
        )
    return [result]


SELECT = register(
    OpDef(
        "select", "elementwise", ("condition", "x", "y"), "x where the condition holds, else y",
        _infer_select, np.where, fusion="elementwise", flops=1.0,
    )
)  # fmt: skip


def _infer_cast(types: Sequence[Type], attrs: Attrs, regions: Sequence[Region]) -> list[Type]:
    check_count(CAST, types)
    (type,) = tensors("cast", types)
    to: DType = attrs["dtype"]
    if type.dtype.is_complex and not to.is_complex and to is not bool_:
        raise TypeRuleError(f"cast: {type.dtype} to {to} drops the imaginary part", "use x.real")
    return [type.with_dtype(to)]


CAST = register(
    OpDef(
        "cast", "elementwise", ("x",), "x in another dtype (float to integer truncates)",
        _infer_cast, meaning.cast, attrs={"dtype": "dtype"}, fusion="elementwise", flops=1.0,
    )
)  # fmt: skip


def _infer_bitcast(types: Sequence[Type], attrs: Attrs, regions: Sequence[Region]) -> list[Type]:
    check_count(BITCAST, types)
    (type,) = tensors("bitcast", types)
    to: DType = attrs["dtype"]
    if to.bits != type.dtype.bits:
        raise TypeRuleError(f"bitcast: {type.dtype} and {to} have different sizes")
    return [type.with_dtype(to)]


BITCAST = register(
    OpDef(
        "bitcast", "elementwise", ("x",), "The same bits as another dtype of the same size",
        _infer_bitcast, meaning.bitcast, attrs={"dtype": "dtype"}, kinds="iuf",
        fusion="elementwise",
    )
)  # fmt: skip


def _infer_complex(types: Sequence[Type], attrs: Attrs, regions: Sequence[Region]) -> list[Type]:
    check_count(COMPLEX, types)
    type = same_type("complex", tensors("complex", types))
    if type.dtype not in (f32, f64):
        raise TypeRuleError(f"complex: parts are f32 or f64, not {type.dtype}")
    return [type.with_dtype(c64 if type.dtype is f32 else c128)]


COMPLEX = register(
    OpDef(
        "complex", "elementwise", ("re", "im"), "re + i im", _infer_complex, meaning.make_complex,
        kinds="f", fusion="elementwise",
    )
)  # fmt: skip
