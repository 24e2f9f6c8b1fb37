"""Elementwise functions: NumPy's ufuncs under the standard's names and signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from graphmill.frontend import core
from graphmill.frontend.numpy.arrays import Array, is_traced
from graphmill.frontend.tracer import Tracer

F = TypeVar("F", bound=Callable[..., Any])
Unary = Callable[[Array], Array]
Binary = Callable[[Array, Array], Array]


def _unary(name: str, function: Callable[..., Any], doc: str) -> Unary:
    def elementwise(x: Array, /) -> Array:
        return function(x)

    return _named(elementwise, name, doc)


def _binary(name: str, function: Callable[..., Any], doc: str) -> Binary:
    def elementwise(x1: Array, x2: Array, /) -> Array:
        return function(x1, x2)

    return _named(elementwise, name, doc)


def _named(function: F, name: str, doc: str) -> F:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc}, elementwise."
    return function


# fmt: off
abs = _unary("abs", np.absolute, "|x|; real for complex x")
acos = _unary("acos", np.arccos, "Arc cosine, in radians")
acosh = _unary("acosh", np.arccosh, "Inverse hyperbolic cosine")
add = _binary("add", np.add, "x1 + x2")
asin = _unary("asin", np.arcsin, "Arc sine, in radians")
asinh = _unary("asinh", np.arcsinh, "Inverse hyperbolic sine")
atan = _unary("atan", np.arctan, "Arc tangent, in radians")
atan2 = _binary("atan2", np.arctan2, "The angle of the point with ordinate x1 and abscissa x2")
atanh = _unary("atanh", np.arctanh, "Inverse hyperbolic tangent")
bitwise_and = _binary("bitwise_and", np.bitwise_and, "x1 & x2")
bitwise_invert = _unary("bitwise_invert", np.invert, "~x")
bitwise_left_shift = _binary("bitwise_left_shift", np.left_shift, "x1 << x2")
bitwise_or = _binary("bitwise_or", np.bitwise_or, "x1 | x2")
bitwise_right_shift = _binary("bitwise_right_shift", np.right_shift, "x1 >> x2")
bitwise_xor = _binary("bitwise_xor", np.bitwise_xor, "x1 ^ x2")
ceil = _unary("ceil", np.ceil, "Rounds up; integers stay")
conj = _unary("conj", np.conjugate, "Complex conjugate")
copysign = _binary("copysign", np.copysign, "|x1| with the sign of x2")
cos = _unary("cos", np.cos, "Cosine of x radians")
cosh = _unary("cosh", np.cosh, "Hyperbolic cosine")
divide = _binary("divide", np.true_divide, "x1 / x2")
equal = _binary("equal", np.equal, "x1 == x2")
exp = _unary("exp", np.exp, "e to the x")
expm1 = _unary("expm1", np.expm1, "exp(x) - 1, accurate near 0")
floor = _unary("floor", np.floor, "Rounds down; integers stay")
floor_divide = _binary("floor_divide", np.floor_divide, "x1 // x2")
greater = _binary("greater", np.greater, "x1 > x2")
greater_equal = _binary("greater_equal", np.greater_equal, "x1 >= x2")
hypot = _binary("hypot", np.hypot, "sqrt(x1*x1 + x2*x2) without overflow")
imag = _unary("imag", np.imag, "Imaginary part")
isfinite = _unary("isfinite", np.isfinite, "Whether neither infinite nor NaN")
isinf = _unary("isinf", np.isinf, "Whether infinite")
isnan = _unary("isnan", np.isnan, "Whether NaN")
less = _binary("less", np.less, "x1 < x2")
less_equal = _binary("less_equal", np.less_equal, "x1 <= x2")
log = _unary("log", np.log, "Natural logarithm")
log1p = _unary("log1p", np.log1p, "log(1 + x), accurate near 0")
log2 = _unary("log2", np.log2, "Base-2 logarithm")
log10 = _unary("log10", np.log10, "Base-10 logarithm")
logaddexp = _binary("logaddexp", np.logaddexp, "log(exp(x1) + exp(x2)) without overflow")
logical_and = _binary("logical_and", np.logical_and, "Whether both hold")
logical_not = _unary("logical_not", np.logical_not, "Whether x does not hold")
logical_or = _binary("logical_or", np.logical_or, "Whether at least one holds")
logical_xor = _binary("logical_xor", np.logical_xor, "Whether exactly one holds")
maximum = _binary("maximum", np.maximum, "The larger; NaN if either is")
minimum = _binary("minimum", np.minimum, "The smaller; NaN if either is")
multiply = _binary("multiply", np.multiply, "x1 * x2")
negative = _unary("negative", np.negative, "-x")
nextafter = _binary("nextafter", np.nextafter, "The next float after x1 towards x2")
not_equal = _binary("not_equal", np.not_equal, "x1 != x2")
positive = _unary("positive", np.positive, "+x, a copy")
pow = _binary("pow", np.power, "x1 to the x2")
real = _unary("real", np.real, "Real part")
reciprocal = _unary("reciprocal", np.reciprocal, "1 / x")
remainder = _binary("remainder", np.remainder, "x1 % x2, with the sign of x2")
round = _unary("round", np.round, "Rounds to nearest, ties to even")
sign = _unary("sign", np.sign, "-1, 0 or 1; x / |x| for complex x")
signbit = _unary("signbit", np.signbit, "Whether the sign bit is set")
sin = _unary("sin", np.sin, "Sine of x radians")
sinh = _unary("sinh", np.sinh, "Hyperbolic sine")
sqrt = _unary("sqrt", np.sqrt, "Square root")
square = _unary("square", np.square, "x * x")
subtract = _binary("subtract", np.subtract, "x1 - x2")
tan = _unary("tan", np.tan, "Tangent of x radians")
tanh = _unary("tanh", np.tanh, "Hyperbolic tangent")
trunc = _unary("trunc", np.trunc, "Rounds towards zero; integers stay")
# fmt: on


def clip(x: Array, /, min: Array = None, max: Array = None) -> Array:
    """x limited to min … max (None: no limit), in x's dtype as the standard has it."""
    result = np.clip(x, min, max)
    if not is_traced(x, min, max):
        return np.asarray(result).astype(np.asarray(x).dtype)[()]
    of = x.element if isinstance(x, Tracer) else core.as_tracer(x).element
    return core.astype(result, of)
