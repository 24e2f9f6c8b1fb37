"""Complex arithmetic and functions on pairs of floats; NumPy's order and special cases.

Products and quotients are NumPy's (Smith's division). The inverse functions follow W. Kahan,
"Branch Cuts for Complex Elementary Functions" (1987). Errors are of the whole number, not of
each part: within a few ulp of its magnitude.
"""

from __future__ import annotations

from collections.abc import Callable

from graphmill.codegen.cpu import math_exp, math_log, math_trig
from graphmill.codegen.cpu.calls import Call, Emit
from graphmill.codegen.cpu.elem import Complex, Elem
from graphmill.codegen.cpu.expr import Num, fma, where
from graphmill.codegen.cpu.math_pow import hypot
from graphmill.records import record

INF, NAN = float("inf"), float("nan")


@record(eq=False)
class Cx:
    """A complex number being computed."""

    re: Num
    im: Num

    def __add__(self, other: Cx) -> Cx:
        return Cx(self.re + other.re, self.im + other.im)

    def __sub__(self, other: Cx) -> Cx:
        return Cx(self.re - other.re, self.im - other.im)

    def __neg__(self) -> Cx:
        return Cx(-self.re, -self.im)

    def __mul__(self, other: Cx) -> Cx:
        return Cx(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)

    def __truediv__(self, other: Cx) -> Cx:
        """Smith's division: the smaller part of the divisor over the larger."""
        wide = other.re.abs() >= other.im.abs()
        large, small = where(wide, other.re, other.im), where(wide, other.im, other.re)
        zero = large.eq(0.0) & small.eq(0.0)
        ratio = where(zero, large.const(0.0), small / large)
        scale = 1.0 / (large + small * ratio)
        a, b = where(wide, self.re, self.im), where(wide, self.im, self.re)
        re = (a + b * ratio) * scale
        im = (b - a * ratio) * scale
        im = where(wide, im, -im)
        return Cx(where(zero, self.re / large.abs(), re), where(zero, self.im / large.abs(), im))

    def conj(self) -> Cx:
        """The conjugate."""
        return Cx(self.re, -self.im)

    def times_i(self) -> Cx:
        """i times this."""
        return Cx(-self.im, self.re)

    def over_i(self) -> Cx:
        """This divided by i."""
        return Cx(self.im, -self.re)

    def real(self, value: float) -> Cx:
        """A real constant of this type."""
        return Cx(self.re.const(value), self.re.const(0.0))


def either(condition: Num, a: Cx, b: Cx) -> Cx:
    """`condition ? a : b`."""
    return Cx(where(condition, a.re, b.re), where(condition, a.im, b.im))


def lowering(function: Callable[..., Cx | Num]) -> Emit:
    """The lowering by a function of complex numbers."""

    def emit(call: Call) -> Elem:
        args = []
        for arg in call.args:
            assert isinstance(arg, Complex)
            args.append(Cx(Num(call.scope, arg.re), Num(call.scope, arg.im)))
        result = function(*args)
        return Complex(result.re.val, result.im.val) if isinstance(result, Cx) else result.val

    return emit


def magnitude(z: Cx) -> Num:
    """|z| without overflow on the way."""
    return hypot(z.re, z.im)


def sign(z: Cx) -> Cx:
    """z / |z|; 0 for 0."""
    size = magnitude(z)
    size = where(size.eq(0.0), 1.0, size)
    return Cx(z.re / size, z.im / size)


def square(z: Cx) -> Cx:
    """z * z."""
    return z * z


def reciprocal(z: Cx) -> Cx:
    """1 / z."""
    return z.real(1.0) / z


def round_parts(z: Cx) -> Cx:
    """Both parts rounded to the nearest integer, halves to even."""
    return Cx(z.re.rint(), z.im.rint())


def is_nan(z: Cx) -> Num:
    """Whether a part is NaN."""
    return z.re.is_nan() | z.im.is_nan()


def is_inf(z: Cx) -> Num:
    """Whether a part is infinite."""
    return z.re.abs().eq(INF) | z.im.abs().eq(INF)


def is_finite(z: Cx) -> Num:
    """Whether both parts are finite."""
    return (z.re.abs() < INF) & (z.im.abs() < INF)


def equal(a: Cx, b: Cx) -> Num:
    """Equal in both parts."""
    return a.re.eq(b.re) & a.im.eq(b.im)


def not_equal(a: Cx, b: Cx) -> Num:
    """Different in a part."""
    return a.re.ne(b.re) | a.im.ne(b.im)


def less(a: Cx, b: Cx) -> Num:
    """By real part, then by imaginary part; false where that meets a NaN."""
    known = ~(a.im.is_nan() | b.im.is_nan())
    return ((a.re < b.re) & known) | (a.re.eq(b.re) & (a.im < b.im))


def less_equal(a: Cx, b: Cx) -> Num:
    """`less` or equal."""
    known = ~(a.im.is_nan() | b.im.is_nan())
    return ((a.re < b.re) & known) | (a.re.eq(b.re) & (a.im <= b.im))


def maximum(a: Cx, b: Cx) -> Cx:
    """The greater by `less`; the one with a NaN, the first of two."""
    return either(less_equal(b, a) | is_nan(a), a, b)


def minimum(a: Cx, b: Cx) -> Cx:
    """The smaller by `less`; the one with a NaN, the first of two."""
    return either(less_equal(a, b) | is_nan(a), a, b)


def sqrt(z: Cx) -> Cx:
    """The root with a non-negative real part; cut along the negative axis."""
    size = z.re.abs()
    large = (size * 0.5 + hypot(z.re * 0.5, z.im * 0.5)).sqrt()
    small = z.im.abs() * 0.5 / where(large.eq(0.0), 1.0, large)
    right = ~(z.re < 0.0)
    re, im = where(right, large, small), where(right, small, large)
    infinite = z.im.abs().eq(INF)
    re, im = where(infinite, INF, re), where(infinite, INF, im)
    at_end = z.re.abs().eq(INF) & (z.im.abs() < INF)  # small is then 0, not NaN
    re, im = where(at_end & ~right, 0.0, re), where(at_end & right, 0.0, im)
    return Cx(re, im.copysign(z.im))


def exp(z: Cx) -> Cx:
    """e^re (cos im + i sin im); the magnitude may overflow later than e^re."""
    late = z.re > (88.0 if z.re.bits == 32 else 709.0)
    size = math_exp.exp(where(late, z.re - 2.0, z.re))
    more = where(late, size.const(7.38905609893065), 1.0)
    cosine, sine = (size * part * more for part in (math_trig.cos(z.im), math_trig.sin(z.im)))
    gone = z.re.eq(-INF)
    cosine, sine = where(gone, 0.0, cosine), where(gone, 0.0, sine)
    flat = z.im.eq(0.0)
    return Cx(where(flat, size * more, cosine), where(flat, z.im, sine))


def log(z: Cx) -> Cx:
    """log|z| + i arg z; accurate for |z| near 1 too."""
    a, b = z.re.abs(), z.im.abs()
    top, low = where(a < b, b, a), where(a < b, a, b)
    huge = top > (1e38 if a.bits == 32 else 1e308)
    scale = where(huge, a.const(0.5), 1.0)
    far = math_log.log(hypot(z.re * scale, z.im * scale))
    far = far + where(huge, far.const(0.6931471805599453), 0.0)
    near = math_log.log1p(fma(top - 1.0, top + 1.0, low * low)) * 0.5
    close = (top > 0.7) & (top < 1.5) & (low < 1.0)
    return Cx(where(close, near, far), math_trig.atan2(z.im, z.re))


def power(x: Cx, y: Cx) -> Cx:
    """e^(y log x); 1 for y = 0, 0 for x = 0 and Re y > 0."""
    result = exp(y * log(x))
    zero, one = equal(x, x.real(0.0)), equal(y, y.real(0.0))
    undefined = Cx(x.re.const(NAN), x.re.const(NAN))
    at_zero = either(y.re > 0.0, x.real(0.0), undefined)
    return either(one, x.real(1.0), either(zero, at_zero, result))


def sinh(z: Cx) -> Cx:
    """Hyperbolic sine."""
    re = math_exp.sinh(z.re) * math_trig.cos(z.im)
    im = math_exp.cosh(z.re) * math_trig.sin(z.im)
    return Cx(where(z.re.eq(0.0), z.re, re), where(z.im.eq(0.0), z.im, im))


def cosh(z: Cx) -> Cx:
    """Hyperbolic cosine."""
    re = math_exp.cosh(z.re) * math_trig.cos(z.im)
    im = math_exp.sinh(z.re) * math_trig.sin(z.im)
    flat = z.re.eq(0.0) | z.im.eq(0.0)
    return Cx(re, where(flat, (z.re * 0.0 + z.im * 0.0) * 0.0, im))


def tanh(z: Cx) -> Cx:
    """Hyperbolic tangent (Kahan): (b r s + i t) / (1 + b s²), t = tan, s = sinh, b = 1 + t²."""
    far = z.re.abs() > (9.0 if z.re.bits == 32 else 20.0)
    x = where(far, 0.0, z.re)
    t, s = math_trig.tan(z.im), math_exp.sinh(x)
    b, r = t * t + 1.0, (s * s + 1.0).sqrt()
    steep = t.abs() > (1e15 if t.bits == 32 else 1e150)  # a pole of tan: divide by b first
    d = s * s + where(steep, 0.0, 1.0 / b)
    re = r * s / d
    im = where(steep, 0.0, t / b) / d
    e = math_exp.exp(z.re.abs() * -2.0) * 4.0
    edge = e * math_trig.sin(z.im) * math_trig.cos(z.im)
    edge = where(e.eq(0.0), e.copysign(z.im), edge)
    return Cx(where(far, re.const(1.0).copysign(z.re), re), where(far, edge, im))


def sin(z: Cx) -> Cx:
    """Sine, as sinh(iz) / i."""
    return sinh(z.times_i()).over_i()


def cos(z: Cx) -> Cx:
    """Cosine, as cosh(iz)."""
    return cosh(z.times_i())


def tan(z: Cx) -> Cx:
    """Tangent, as tanh(iz) / i."""
    return tanh(z.times_i()).over_i()


def _roots(z: Cx) -> tuple[Cx, Cx]:
    """sqrt(1 - z) and sqrt(1 + z)."""
    return sqrt(Cx(1.0 - z.re, -z.im)), sqrt(Cx(z.re + 1.0, z.im))


def asin(z: Cx) -> Cx:
    """Arc sine."""
    minus, plus = _roots(z)
    re = math_trig.atan2(z.re, (minus * plus).re)
    return Cx(re, math_log.asinh((minus.conj() * plus).im))


def acos(z: Cx) -> Cx:
    """Arc cosine."""
    minus, plus = _roots(z)
    re = math_trig.atan2(minus.re, plus.re) * 2.0
    return Cx(re, math_log.asinh((plus.conj() * minus).im))


def acosh(z: Cx) -> Cx:
    """Inverse hyperbolic cosine."""
    minus, plus = sqrt(Cx(z.re - 1.0, z.im)), sqrt(Cx(z.re + 1.0, z.im))
    im = math_trig.atan2(minus.im, plus.re) * 2.0
    return Cx(math_log.asinh((minus.conj() * plus).re), im)


def asinh(z: Cx) -> Cx:
    """Inverse hyperbolic sine, as asin(iz) / i."""
    return asin(z.times_i()).over_i()


def atanh(z: Cx) -> Cx:
    """Inverse hyperbolic tangent: log1p(4x / ((1-x)² + y²)) / 4, atan2(2y, (1-x)(1+x) - y²) / 2."""
    x, y = z.re, z.im
    near, far = 1.0 - x.abs(), x.abs() + 1.0
    square = y * y
    re = math_log.log1p(x.abs() * 4.0 / fma(near, near, square)) * 0.25
    im = math_trig.atan2(y + y, near * far - square) * 0.5
    return Cx(re.copysign(x), im)


def atan(z: Cx) -> Cx:
    """Arc tangent, as atanh(iz) / i."""
    return atanh(z.times_i()).over_i()


TABLE: dict[str, Callable[..., Cx | Num]] = {
    "add": Cx.__add__, "sub": Cx.__sub__, "mul": Cx.__mul__, "div": Cx.__truediv__,
    "neg": Cx.__neg__, "square": square, "reciprocal": reciprocal, "pow": power,
    "abs": magnitude, "sign": sign, "conj": Cx.conj, "round": round_parts,
    "isnan": is_nan, "isinf": is_inf, "isfinite": is_finite,
    "max": maximum, "min": minimum, "eq": equal, "ne": not_equal, "lt": less, "le": less_equal,
    "gt": lambda a, b: less(b, a), "ge": lambda a, b: less_equal(b, a),
    "sqrt": sqrt, "exp": exp, "log": log,
    "sin": sin, "cos": cos, "tan": tan, "asin": asin, "acos": acos, "atan": atan,
    "sinh": sinh, "cosh": cosh, "tanh": tanh, "asinh": asinh, "acosh": acosh, "atanh": atanh,
}  # fmt: skip
