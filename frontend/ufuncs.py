"""NumPy's ufuncs on traced arrays: type resolution as NumPy does it, then IR ops.

NumPy itself is asked which loop it would choose (`ufunc.resolve_dtypes`), so promotion is NumPy's
by construction; `RULES` says what each loop is in the IR.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.frontend import views
from graphmill.frontend.core import (
    as_dtype,
    as_tracer,
    astype,
    broadcast_shapes,
    broadcast_to,
    dims_of,
    emit,
)
from graphmill.frontend.describe import failure, here, name_of
from graphmill.frontend.errors import source_text
from graphmill.frontend.sizes import Size
from graphmill.frontend.state import current, refused
from graphmill.frontend.tracer import Tracer
from graphmill.ir.dtypes import DType, DTypeError, bf16, bool_, dtype, f32, of_scalar, promote

Result = Any
Kind = DType | type

_WEAK_TYPES: dict[str, type] = {"i": int, "u": int, "f": float, "c": complex}
_COMPARISONS = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
_SEQUENCES = (list, tuple)


def call(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> Result:
    """What `__array_ufunc__` does: a call, or one of the ufunc's methods."""
    if method != "__call__":
        from graphmill.frontend import ufunc_methods

        return ufunc_methods.call(ufunc, method, inputs, kwargs)
    options = dict(kwargs)
    out = options.pop("out", None)
    where = options.pop("where", True)
    of = options.pop("dtype", None)
    options.pop("casting", None)
    order = options.pop("order", "K")
    options.pop("subok", None)
    special = None
    if ufunc.signature is not None:
        import graphmill.frontend.linear as linear

        special = linear.GUFUNCS.get(ufunc)
    axis = {"axis": options.pop("axis")} if ufunc is np.vecdot and "axis" in options else {}
    if options or order not in ("K", "C", "A"):
        name = next(iter(options), "order")
        raise failure(
            "GM011", f"np.{ufunc.__name__}({name}=…)", inputs, hint="leave the argument out."
        )
    if special and of is not None:
        inputs = _in_dtype(ufunc, inputs, as_dtype(of))
    result = special(*inputs, **axis) if special else evaluate(ufunc, *inputs, of=of)
    if out is None and where is True:
        return result
    return _into(ufunc, result, out, where, inputs)


def _in_dtype(ufunc: np.ufunc, inputs: Sequence[Any], to: DType) -> tuple[Tracer, ...]:
    """Operands cast to the dtype that `dtype=` names: what the loop computes in."""
    operands = [as_tracer(x) for x in inputs]
    for x in operands:
        if not np.can_cast(x.dtype, to.numpy, "same_kind"):
            raise failure(
                "GM015", f"np.{ufunc.__name__}(dtype={to}) of {x.element}", inputs,
                why=f"{x.element} is no {to} without loss.", hint="cast the operand with .astype.",
            )  # fmt: skip
    return tuple(astype(x, to) for x in operands)


def _into(ufunc: np.ufunc, result: Result, out: Any, where: Any, inputs: Sequence[Any]) -> Result:
    """Store results into `out`, where the mask holds."""
    many = isinstance(result, tuple)
    results = result if many else (result,)
    outs = out if out is not None else (None,) * len(results)
    if where is not True and any(o is None for o in outs):
        raise failure(
            "GM011",
            f"np.{ufunc.__name__}(where=…) without out=",
            inputs,
            why="NumPy leaves the other elements undefined.",
            hint=f"np.where(mask, np.{ufunc.__name__}(...), other) names them.",
        )
    final = []
    for value, target in zip(results, outs, strict=True):
        if target is None:
            final.append(value)
            continue
        if not isinstance(target, Tracer):
            raise refused(failure(
                "GM011", f"the result of np.{ufunc.__name__} goes to a NumPy array",
                [target, *inputs],
                why="a traced value cannot be stored in a NumPy array from outside of the "
                "function, which lives only while tracing.",
                hint=f"write {name_of(target)} = {name_of(target)} + …, or make it traced first: "
                "np.array(a).",
            ))  # fmt: skip
        if where is not True:
            mask = broadcast_to(astype(where, bool_), target.dims)
            kept = as_tracer(target)
            value = emit("select", mask, broadcast_to(astype(value, kept.element), kept.dims), kept)
        store(target, value, ufunc)
        final.append(target)
    return tuple(final) if many else final[0]


def store(target: Tracer, value: Tracer, ufunc: np.ufunc | None = None) -> None:
    """`target[...] = value` as out= takes it: same-kind cast, no broadcast of target."""
    if not np.can_cast(value.dtype, target.dtype, "same_kind"):
        raise failure(
            "GM018",
            f"{value.element} does not go into {target.element} in place",
            [target],
            why=f"the result of {'the operation' if ufunc is None else 'np.' + ufunc.__name__} is "
            f"{value.element}; storing it as {target.element} would lose its "
            f"{'imaginary' if value.element.is_complex else 'fractional'} part or range.",
            hint=f"make a new array, {_spelled_out(target)}, or cast the operand with .astype.",
        )
    if broadcast_shapes(value.dims, target.dims, args=[target, value]) != target.dims:
        raise failure(
            "GM014",
            "the result is larger than the array written in place",
            [target],
            why=f"the result has shape {list(value.dims)}.",
            hint="write x = x + y instead of x += y.",
        )
    views.write(target, broadcast_to(astype(value, target.element), target.dims))


def _spelled_out(target: Tracer) -> str:
    """`x = x + y` for the user's `x += y`."""
    place = here()
    match = re.match(r"(\S+) *([-+*/%&|^@<>]+)= *(.+)", source_text(place)) if place else None
    if match is None:
        return f"{name_of(target)} = {name_of(target)} + …"
    return f"{match[1]} = {match[1]} {match[2]} {match[3]}"


# ---- Python's operators


def operator(ufunc: np.ufunc, a: Any, b: Any) -> Result:
    """`a + b` and the like with at least one traced operand."""
    if not (_computes(a) and _computes(b)):
        return NotImplemented
    squares = ufunc is np.power and type(b) is int and b == 2
    if squares and isinstance(a, Tracer) and a.element is bool_:
        return evaluate(np.square, a)  # i8 by NumPy's operator, unlike np.power
    result = call(ufunc, "__call__", (a, b), {})
    if _is_weak(a) and _is_weak(b):
        for each in result if isinstance(result, tuple) else (result,):
            each._weak = each.element is not bool_
    return result


def unary_operator(ufunc: np.ufunc, x: Tracer) -> Result:
    """`-x`, `+x`, `abs(x)`, `~x`."""
    result = evaluate(ufunc, x)
    result._weak = x.weak
    return result


def inplace(ufunc: np.ufunc, x: Tracer, other: Any) -> Result:
    """`x += other`: in place for arrays, a new value for scalars (which NumPy cannot change)."""
    result = operator(ufunc, x, other)
    if result is NotImplemented or not x.dims:
        return result
    if ufunc is np.matmul and result.dims != x.dims:
        raise failure(
            "GM014",
            "x @= w changes the shape of x",
            [x, other],
            hint=f"write {name_of(x)} = {name_of(x)} @ …",
        )
    store(x, result, ufunc)
    return x


def _computes(x: Any) -> bool:
    if isinstance(x, Tracer | np.ndarray | np.generic | bool | int | float | complex | Size):
        return True
    return isinstance(x, _SEQUENCES) or hasattr(x, "__array__") or hasattr(x, "__dlpack__")


def _is_weak(x: Any) -> bool:
    if isinstance(x, Tracer):
        return x.weak
    return isinstance(x, bool | int | float | complex | Size) and not isinstance(x, np.generic)


# ---- evaluation


def evaluate(ufunc: np.ufunc, *inputs: Any, of: Any = None) -> Result:
    """The ufunc's result(s) as new traced arrays; `of` is NumPy's `dtype=` argument."""
    rule = RULES.get(ufunc)
    if rule is None:
        from graphmill.frontend import array_functions

        raise array_functions.unsupported(ufunc, inputs)
    if ufunc in _COMPARISONS:
        decided = _out_of_range(ufunc, *inputs)
        if decided is not None:
            return decided
    args = [x if _is_plain(x) else as_tracer(x) for x in inputs]
    loop = resolve(ufunc, args, of)
    shape = broadcast_shapes(*(dims_of(a) for a in args), args=inputs)
    if ufunc is np.power:
        from graphmill.frontend import powers

        short = powers.by_constant(args[0], args[1], loop[0][0], shape)
        if short is not None:
            return short
    operands = [
        broadcast_to(_as_loop(a, to), shape)
        for a, to in zip(args, loop[0], strict=True)
    ]  # fmt: skip
    if ufunc in _COMPARISONS and operands[0].element is not operands[1].element:
        return _compared_across(ufunc, *operands)
    result = rule(*operands)
    if isinstance(result, tuple):
        return tuple(astype(r, to) for r, to in zip(result, loop[1], strict=True))
    return astype(result, loop[1][0])


def _compared_across(ufunc: np.ufunc, x: Tracer, y: Tracer) -> Tracer:
    """i64 against u64, which NumPy compares by value: a negative one is less than any u64."""
    signed, unsigned, swapped = (x, y, False) if x.element.kind == "i" else (y, x, True)
    negative = emit("lt", signed, constant_like(signed, 0))
    pair = astype(signed, unsigned.element), unsigned
    close = RULES[ufunc](*(reversed(pair) if swapped else pair))
    below = bool(ufunc(0, 1) if not swapped else ufunc(1, 0))
    return emit("select", negative, constant_like(close, below), close)


def _is_plain(x: Any) -> bool:
    return isinstance(x, bool | int | float | complex) and not isinstance(x, np.generic)


def _as_loop(x: Any, to: DType) -> Tracer:
    """An operand in the loop's dtype; a Python scalar becomes a constant of it."""
    return as_tracer(x, to) if _is_plain(x) else astype(x, to)


def resolve(
    ufunc: np.ufunc, args: Sequence[Any], of: Any = None
) -> tuple[tuple[DType, ...], tuple[DType, ...]]:
    """The dtypes of the operands and results of the loop that NumPy would choose."""
    kinds = tuple(_kind(a) for a in args)
    found = _resolve(ufunc, kinds, None if of is None else as_dtype(of))
    if found is None:
        given = ", ".join(k.__name__ if isinstance(k, type) else str(k) for k in kinds)
        raise failure(
            "GM015",
            f"np.{ufunc.__name__} of {given}",
            args,
            why="NumPy has no loop for these dtypes (or Graphmill not its dtype).",
            hint=_dtype_hint(ufunc),
        )
    return found


def _dtype_hint(ufunc: np.ufunc) -> str:
    hints = {
        "subtract": "for bool arrays use ^ (exclusive or) or np.logical_xor.",
        "negative": "for bool arrays use ~ or np.logical_not.",
        "bitwise_and": "for floats use np.logical_and, or cast to integers.",
        "bitwise_or": "for floats use np.logical_or, or cast to integers.",
    }
    return hints.get(ufunc.__name__, "cast first, for example x.astype(np.float32).")


def _kind(arg: Any) -> Kind:
    if isinstance(arg, Tracer):
        weak = arg.weak and arg.element.kind != "b"
        return _WEAK_TYPES[arg.element.kind] if weak else arg.element
    if isinstance(arg, bool):
        return bool_
    return next(t for t in (int, float, complex) if isinstance(arg, t))


@functools.lru_cache(maxsize=4096)
def _resolve(
    ufunc: np.ufunc, kinds: tuple[Kind, ...], of: DType | None
) -> tuple[tuple[DType, ...], tuple[DType, ...]] | None:
    strong = [k for k in kinds if isinstance(k, DType)]
    if not strong:
        kinds = tuple(of_scalar(k()) for k in kinds if isinstance(k, type))
    common = functools.reduce(promote, strong) if bf16 in strong else None
    asked: list[Any] = [
        k if isinstance(k, type) else (f32.numpy if k is bf16 else k.numpy) for k in kinds
    ]
    asked += [None] * ufunc.nout
    options: dict[str, Any] = {}
    if of is not None:
        wanted = f32.numpy if of is bf16 else of.numpy
        options["signature"] = (None,) * ufunc.nin + (wanted,) * ufunc.nout
        common = of if of is bf16 else common
    try:
        loop = ufunc.resolve_dtypes(tuple(asked), **options)
        found = [dtype(d) for d in loop]
    except (TypeError, DTypeError):
        return None
    if common is not None and common.is_float:
        found = [common if d.is_float else d for d in found]
    return tuple(found[: ufunc.nin]), tuple(found[ufunc.nin :])


def _out_of_range(ufunc: np.ufunc, a: Any, b: Any) -> Tracer | None:
    """A comparison with a Python int that the other's dtype cannot hold has a fixed answer."""
    plain, other, flipped = (b, a, False) if _is_plain(b) else (a, b, True)
    if type(plain) is not int or not isinstance(other, Tracer) or not other.element.is_integer:
        return None
    info = np.iinfo(other.dtype)
    if info.min <= plain <= info.max or other.weak:
        return None
    sign = 1 if plain > info.max else -1
    pair = (sign, 0) if flipped else (0, sign)
    return broadcast_to(as_tracer(np.asarray(ufunc(*pair))), other.dims)


# ---- what each loop is in the IR


def _op(name: str) -> Callable[..., Tracer]:
    return functools.partial(emit, name)


def constant_like(x: Tracer, value: Any) -> Tracer:
    """A constant of x's dtype and shape."""
    return broadcast_to(as_tracer(value, x.element), x.dims)


def copied(x: Tracer) -> Tracer:
    """A new traced array with the same value."""
    return Tracer(x.value(), current())


def truth(x: Tracer) -> Tracer:
    """x != 0 as bool."""
    return astype(x, bool_)


def _float_only(name: str) -> Callable[[Tracer], Tracer]:
    """Rounding leaves integers as they are."""
    return lambda x: emit(name, x) if x.element.is_float else copied(x)


def _test(name: str, of_integer: bool) -> Callable[[Tracer], Tracer]:
    """A test for special floats, which integers answer alike."""

    def rule(x: Tracer) -> Tracer:
        if x.element.is_inexact:
            return emit(name, x)
        return broadcast_to(as_tracer(np.bool_(of_integer)), x.dims)

    return rule


def _logical(name: str) -> Callable[..., Tracer]:
    return lambda *xs: emit(name, *map(truth, xs))


def _build_rules() -> dict[np.ufunc, Callable[..., Any]]:
    from graphmill.frontend import elementwise as e

    names = {
        "add": "add", "subtract": "sub", "multiply": "mul", "true_divide": "div",
        "floor_divide": "floordiv", "remainder": "mod", "fmod": "rem", "power": "pow",
        "float_power": "pow", "negative": "neg", "exp": "exp",
        "log": "log",
        "sqrt": "sqrt", "cbrt": "cbrt", "square": "square", "sin": "sin", "cos": "cos",
        "tan": "tan", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "sinh": "sinh",
        "cosh": "cosh", "tanh": "tanh", "arcsinh": "asinh", "arccosh": "acosh",
        "arctanh": "atanh", "arctan2": "atan2", "hypot": "hypot", "copysign": "copysign",
        "nextafter": "nextafter", "logaddexp": "logaddexp", "maximum": "max", "minimum": "min",
        "equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt",
        "greater_equal": "ge", "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
        "invert": "not", "left_shift": "shl", "right_shift": "shr", "signbit": "signbit",
        "rint": "round",
    }  # fmt: skip
    rules: dict[np.ufunc, Callable[..., Any]] = {
        getattr(np, numpy): _op(ours) for numpy, ours in names.items()
    }
    return rules | {
        np.positive: copied,
        np.absolute: e.absolute, np.fabs: _op("abs"), np.sign: e.sign,
        np.conjugate: e.conjugate, np.reciprocal: e.reciprocal,
        np.floor: _float_only("floor"), np.ceil: _float_only("ceil"),
        np.trunc: _float_only("trunc"), np.isnan: _test("isnan", False),
        np.isinf: _test("isinf", False), np.isfinite: _test("isfinite", True),
        np.logical_and: _logical("and"), np.logical_or: _logical("or"),
        np.logical_xor: _logical("xor"), np.logical_not: _logical("not"),
        np.fmax: e.fmax, np.fmin: e.fmin, np.degrees: e.degrees, np.rad2deg: e.degrees,
        np.radians: e.radians, np.deg2rad: e.radians, np.heaviside: e.heaviside,
        np.logaddexp2: e.logaddexp2, np.ldexp: e.ldexp, np.modf: e.modf, np.spacing: e.spacing,
        np.divmod: lambda x, y: (emit("floordiv", x, y), emit("mod", x, y)),
        np.bitwise_count: e.bit_count,
        np.exp2: e.exp2, np.expm1: e.expm1, np.log2: e.log2, np.log10: e.log10, np.log1p: e.log1p,
        np.gcd: e.gcd, np.lcm: e.lcm, np.frexp: e.frexp,
    }  # fmt: skip


class _Rules(dict[np.ufunc, Callable[..., Any]]):
    """The table, filled at first use: its composites import this module."""

    def get(self, ufunc: np.ufunc, default: Any = None) -> Any:
        if not self:
            self.update(_build_rules())
        return super().get(ufunc, default)


RULES = _Rules()
