"""Random well-typed functions, for comparing any two ways to run them.

`functions()` is a hypothesis strategy; `random_function(seed)` gives the same kind of function
from a seed. `arrays_for(function, seed)` draws arguments, `assert_same(got, want)` compares.

Rounding may differ between two ways to run a function, so each value carries what is known of
it: `exact` values come out bit for bit the same everywhere, and only those go into comparisons,
sorts and casts to integers; `bound` is the largest magnitude, and where it grows too large a
`tanh` follows, so that no step magnifies an error.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from graphmill.ir.builder import Builder, function, region
from graphmill.ir.dims import Dim, DimLike, evaluate, product
from graphmill.ir.dtypes import DType, bf16, bool_, f16, f32, f64, i8, i32, i64, u8
from graphmill.ir.graph import Bounds, Function, Value
from graphmill.ir.types import TensorType, tensor
from tests.differential.random_steps import STEPS
from tests.differential.ranked import LAYOUTS

Pick = Callable[[int], int]  # a choice among 0 … n-1

LARGEST = 16.0
MOST_ELEMENTS = 4096
SIZES = {"n": 3, "m": 5}


@dataclass(frozen=True)
class Options:
    """What a random function may hold."""

    dtypes: tuple[DType, ...] = (f32, f32, f32, f64, i32, i64, u8, i8, bool_)
    ops: int = 12
    symbolic: bool = True
    control: bool = True
    half: bool = False
    strided: bool = True


@dataclass(frozen=True)
class Known:
    """A value and what is known of its elements."""

    value: Value
    exact: bool
    bound: float

    @property
    def type(self) -> TensorType:
        return self.value.tensor

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[DimLike, ...]:
        return self.type.shape


@st.composite
def functions(draw: Any, options: Options | None = None) -> Function:
    """Random functions; they shrink towards few ops of the first kinds."""
    return build(lambda n: draw(st.integers(0, n - 1)) if n > 1 else 0, options or Options())


def random_function(seed: int, options: Options | None = None) -> Function:
    """The random function of a seed."""
    rng = np.random.default_rng(seed)
    return build(lambda n: int(rng.integers(n)), options or Options())


def build(pick: Pick, options: Options) -> Function:
    """A function whose every decision is `pick`ed."""
    dims: list[DimLike] = [3, 4, 1, 2, 7]
    if options.symbolic:
        dims += [Dim.of("n"), Dim.of("n"), Dim.of("m")]
    kinds = options.dtypes + ((bf16, f16) if options.half else ())
    params: dict[str, TensorType] = {}
    for i in range(1 + pick(3)):
        shape = [dims[pick(len(dims))] for _ in range(pick(4))]
        type = tensor(kinds[pick(len(kinds))], *shape)
        strided = options.strided and shape and not pick(3)
        params[f"x{i}"] = replace(type, layout="strided") if strided else type
    if options.symbolic:
        params["s"] = tensor(f32, "n", "m")  # gives each dim a size

    def body(b: Builder, *args: Value) -> list[Value]:
        maker = Maker(b, pick, [given(arg) for arg in args], options.control)
        maker.grow(1 + pick(options.ops))
        count = 1 + pick(3)
        return [known.value for known in maker.pool[-count:]]

    bounds = {name: Bounds(1) for name in SIZES} if options.symbolic else {}
    made = function("random", params, body, bounds)
    return made


def given(arg: Value) -> Known:
    """What is known of an argument drawn by `arrays_for`."""
    return Known(arg, True, 2.0 if arg.tensor.dtype.is_inexact else 100.0)


class Maker:
    def __init__(self, b: Builder, pick: Pick, pool: list[Known], control: bool) -> None:
        self.b, self.pick, self.pool = b, pick, pool
        self.steps: list[Callable[[Known], Known | None]] = [
            self.binary, self.unary, self.broadcast, self.reduce, self.move, self.binary, self.dot,
            self.compare, self.cast, self.select, self.gather, self.cumulative, self.concat,
            self.sort, self.window, self.constant, self.dynamic,
            *(functools.partial(step, self) for step in STEPS),
        ]  # fmt: skip
        if control:
            self.steps += [self.cond, self.loop, self.scan]

    def grow(self, count: int) -> None:
        """Add up to `count` values to the pool."""
        for _ in range(count):
            x = self.pool[-1 - self.pick(min(len(self.pool), 6))]
            made = self.steps[self.pick(len(self.steps))](x)
            if made is not None:
                self.pool.append(self.tame(made))

    sizes = SIZES

    @staticmethod
    def small(shape: Sequence[DimLike]) -> bool:
        return small(shape)

    @staticmethod
    def known(value: Value, exact: bool, bound: float) -> Known:
        return Known(value, exact, bound)

    def plain(self, x: Known) -> Known:
        """x, copied where it is a strided parameter: regions take plain arrays."""
        if x.type.layout is None:
            return x
        return Known(self.b.op("copy", x.value), x.exact, x.bound)

    def op(self, name: str, *operands: Known, **attrs: Any) -> Value:
        return self.b.op(name, *(k.value for k in operands), **attrs)

    def tame(self, x: Known) -> Known:
        """x, through tanh where it may be large."""
        if not x.dtype.is_float or x.bound <= LARGEST:
            return x
        return Known(self.b.op("tanh", x.value), False, 1.0)

    def partner(self, x: Known) -> Known:
        """A value of x's type: another one, x itself, or a scalar broadcast."""
        same = [k for k in self.pool if k.type == x.type]
        if same and self.pick(4):
            return same[self.pick(len(same))]
        return self.scalar(x, 1 + self.pick(3))

    def scalar(self, x: Known, value: int) -> Known:
        constant = self.b.constant(value, x.dtype)
        return Known(self.b.broadcast(constant, x.shape, ()), True, float(value))

    # ---- one step each: None where the op does not take x

    def unary(self, x: Known) -> Known | None:
        if x.dtype is bool_:
            return Known(self.op("not", x), True, 1)
        if x.dtype.is_integer:
            name = ("neg", "abs", "not", "square", "popcount", "sign")[self.pick(6)]
            return Known(self.op(name, x), True, 100)
        name, exact, bound = _UNARY[self.pick(len(_UNARY))]
        if name in ("floor", "round", "sign") and not x.exact:
            return None
        if name == "sqrt":
            x = Known(self.op("abs", x), x.exact, x.bound)
        if name == "log1p":
            x = Known(self.op("abs", x), x.exact, x.bound)
        if name == "exp":
            x = Known(self.op("min", x, self.scalar(x, 2)), x.exact, x.bound)
        return Known(self.op(name, x), x.exact and exact, bound(x.bound))

    def binary(self, x: Known) -> Known | None:
        y = self.partner(x)
        both = x.exact and y.exact
        if x.dtype is bool_:
            return Known(self.op(("and", "or", "xor")[self.pick(3)], x, y), True, 1)
        if x.dtype.is_integer:
            names = ("add", "sub", "mul", "max", "min", "and", "floordiv", "mod", "rem", "xor")
            return Known(self.op(names[self.pick(len(names))], x, y), True, 100)
        name = ("add", "mul", "sub", "max", "min", "div")[self.pick(6)]
        if name == "div":
            y = Known(
                self.op("add", Known(self.op("abs", y), False, 0), self.scalar(y, 1)), False, 1
            )
        bound = {"mul": x.bound * y.bound, "max": max(x.bound, y.bound), "div": x.bound}
        bound["min"] = bound["max"]
        exact = both and name in ("max", "min")
        return Known(self.op(name, x, y), exact, bound.get(name, x.bound + y.bound))

    def compare(self, x: Known) -> Known | None:
        y = self.partner(x)
        if not (x.exact and y.exact):
            return None
        return Known(self.op(("lt", "ge", "eq", "ne", "le", "gt")[self.pick(6)], x, y), True, 1)

    def select(self, x: Known) -> Known | None:
        conditions = [k for k in self.pool if k.dtype is bool_ and k.shape == x.shape]
        y = self.partner(x)
        if conditions:
            condition = conditions[self.pick(len(conditions))]
        else:
            flag = self.b.constant(bool(self.pick(2)), bool_)
            condition = Known(self.b.broadcast(flag, x.shape, ()), True, 1)
        made = self.op("select", condition, x, y)
        return Known(made, x.exact and y.exact, max(x.bound, y.bound))

    def cast(self, x: Known) -> Known | None:
        to = (f32, f64, i32, i64, bool_)[self.pick(5)]
        if to is x.dtype or (not x.exact and not to.is_float):
            return None
        # an integer may be rounded to a float, alike everywhere; a narrower float is not exact
        exact = x.exact and not (x.dtype.is_float and to.is_float and to.bits < x.dtype.bits)
        bound = x.bound if x.dtype.is_float or x.dtype is bool_ else math.inf
        return Known(self.b.cast(x.value, to), exact, bound)

    def broadcast(self, x: Known) -> Known | None:
        if not small(x.shape, 3) or len(x.shape) > 3:
            return None
        axis, size = self.pick(len(x.shape) + 1), 1 + self.pick(3)
        shape = [*x.shape[:axis], size, *x.shape[axis:]]
        axes = [i for i in range(len(shape)) if i != axis]
        return Known(self.b.broadcast(x.value, shape, axes), x.exact, x.bound)

    def reduce(self, x: Known) -> Known | None:
        if not x.shape:
            return None
        axes = [i for i in range(len(x.shape)) if self.pick(2)] or [len(x.shape) - 1]
        if x.dtype is bool_:
            monoid = ("all", "any", "max", "min")[self.pick(4)]
        else:
            monoid = ("sum", "max", "min")[self.pick(3)]
        count = math.prod(evaluate(x.shape[i], SIZES) for i in axes)
        exact = monoid != "sum" or not x.dtype.is_float
        value = self.b.reduce(x.value, axes, monoid, keepdims=bool(self.pick(2)))
        return Known(value, x.exact and exact, x.bound * (max(count, 1) if monoid == "sum" else 1))

    def move(self, x: Known) -> Known | None:
        rank = len(x.shape)
        if not rank:
            return None
        which, axis = self.pick(5), self.pick(rank)
        if which == 0:
            value = self.b.transpose(x.value, [*range(axis, rank), *range(axis)])
        elif which == 1:
            value = self.b.reshape(x.value, (product(x.shape),))
        elif which == 2:
            value = self.op("reverse", x, axes=(axis,))
        elif which == 3:
            step = tuple(1 + self.pick(2) for _ in x.shape)
            start = tuple(self.pick(2) if evaluate(d, SIZES) > 1 and isinstance(d, int) else 0
                          for d in x.shape)  # fmt: skip
            value = self.op("slice", x, start=start, stop=x.shape, step=step)
        else:
            low, high = (tuple(self.pick(3) for _ in x.shape) for _ in "lh")
            zero = self.b.constant(0, x.dtype)
            value = self.b.op("pad", x.value, zero, low=low, high=high, interior=(0,) * rank)
        return Known(value, x.exact, x.bound) if small(value.shape) else None

    def dot(self, x: Known) -> Known | None:
        if not x.shape or not (x.dtype.is_float or x.dtype.is_integer):
            return None
        depth = x.shape[-1]
        others = [k for k in self.pool if k.dtype is x.dtype and k.shape[:1] == (depth,)]
        if others and self.pick(2):
            y = others[self.pick(len(others))]
        else:
            y = Known(self.b.full((depth, 1 + self.pick(3)), 1, x.dtype), True, 1)
        if not small((*x.shape, *y.shape[1:])):
            return None
        attrs = {"x_batch": (), "y_batch": (), "x_contract": (len(x.shape) - 1,),
                 "y_contract": (0,), "dtype": x.dtype}  # fmt: skip
        bound = x.bound * y.bound * max(evaluate(depth, SIZES), 1)
        return Known(self.op("dot_general", x, y, **attrs), x.dtype.is_integer, bound)

    def gather(self, x: Known) -> Known | None:
        if not x.shape:
            return None
        axis, count = self.pick(len(x.shape)), self.pick(5)
        index = self.b.constant([self.pick(9) - 4 for _ in range(count)], i64)
        value = self.b.op("gather", x.value, index, axes=(axis,))
        return Known(value, x.exact, x.bound)

    def cumulative(self, x: Known) -> Known | None:
        if not x.shape or x.dtype is bool_:
            return None
        axis, monoid = self.pick(len(x.shape)), ("sum", "max", "min")[self.pick(3)]
        value = self.op("cumulative", x, axis=axis, monoid=monoid, reverse=bool(self.pick(2)))
        count = evaluate(x.shape[axis], SIZES)
        exact = x.exact and (monoid != "sum" or not x.dtype.is_float)
        return Known(value, exact, x.bound * (max(count, 1) if monoid == "sum" else 1))

    def concat(self, x: Known) -> Known | None:
        if not x.shape or not small(x.shape, 2):
            return None
        y, axis = self.partner(x), self.pick(len(x.shape))
        value = self.op("concat", x, y, axis=axis)
        return Known(value, x.exact and y.exact, max(x.bound, y.bound))

    def sort(self, x: Known) -> Known | None:
        if not x.shape or not x.exact:
            return None
        axis = self.pick(len(x.shape))
        if self.pick(2) and isinstance(x.shape[axis], int) and x.shape[axis] > 0:
            kind = ("max", "min")[self.pick(2)]
            return Known(self.op("argreduce", x, axis=axis, kind=kind), True, 100)
        return Known(self.op("sort", x, axis=axis, descending=bool(self.pick(2))), True, x.bound)

    def window(self, x: Known) -> Known | None:
        if not x.shape or x.dtype is bool_ or 0 in x.shape:
            return None
        rank = len(x.shape)
        window = tuple(1 + self.pick(2) for _ in x.shape)
        low = tuple(w - 1 for w in window)
        monoid = ("max", "sum", "min")[self.pick(3)]
        value = self.op(
            "window_reduce", x, window=window, strides=tuple(1 + self.pick(2) for _ in x.shape),
            low=low, high=(0,) * rank, dilation=(1,) * rank, monoid=monoid,
        )  # fmt: skip
        exact = x.exact and (monoid != "sum" or not x.dtype.is_float)
        return Known(value, exact, x.bound * 2**rank)

    def constant(self, x: Known) -> Known | None:
        if self.pick(2) and x.shape and not x.dtype.is_inexact and x.dtype is not bool_:
            axis = self.pick(len(x.shape))
            return Known(self.b.op("iota", shape=x.shape, axis=axis, dtype=x.dtype), True, 100)
        values = [[self.pick(3) for _ in range(3)] for _ in range(2)]
        return Known(self.b.constant(values, x.dtype), True, 2)

    def dynamic(self, x: Known) -> Known | None:
        starts = [self.b.constant(self.pick(5) - 2, i32) for _ in x.shape]
        if self.pick(2) or not all(isinstance(d, int) for d in x.shape):
            one = tuple(1 for _ in x.shape)
            if any(evaluate(d, SIZES) < 1 for d in x.shape):
                return None
            value = self.b.op("dynamic_slice", x.value, *starts, sizes=one)
            return Known(value, x.exact, x.bound)
        update = self.b.full(tuple(min(evaluate(d, SIZES), 2) for d in x.shape), 1, x.dtype)
        value = self.b.op("dynamic_update_slice", x.value, update, *starts)
        return Known(value, x.exact, max(x.bound, 1))

    # ---- control flow; the bodies are random too

    def inner(self, args: Sequence[Value], like: Known, exact: bool) -> Callable[[Builder], Value]:
        """Something of like's type computed from args."""

        def build_body(b: Builder) -> Value:
            pool = [Known(a, exact, like.bound) for a in args]
            maker = Maker(b, self.pick, pool, control=False)
            maker.grow(1 + self.pick(3))
            fitting = [k for k in maker.pool if k.type == like.type]
            last = fitting[-1].value
            return b.op("tanh", last) if like.dtype.is_float else last

        return build_body

    def cond(self, x: Known) -> Known | None:
        x = self.plain(x)
        flags = [k for k in self.pool if k.dtype is bool_]
        if flags:
            flag = flags[self.pick(len(flags))].value
            flag = self.b.reduce(flag, range(len(flag.shape)), "any")
        else:
            flag = self.b.constant(bool(self.pick(2)), bool_)
        branches = [region([x.type], lambda b, a: self.inner([a], x, False)(b)) for _ in range(2)]
        made = self.b.emit("cond", [flag, x.value], {}, branches).result
        return Known(made, False, 1.0)

    def loop(self, x: Known) -> Known | None:
        x, counter, trips = self.plain(x), tensor(i32), self.pick(4)
        types = [counter, x.type]
        test = region(types, lambda b, i, a: b.op("lt", i, b.constant(trips, i32)))
        body = region(
            types,
            lambda b, i, a: [b.op("add", i, b.constant(1, i32)), self.inner([a], x, False)(b)],
        )
        start = self.b.constant(0, i32)
        made = self.b.emit("while", [start, x.value], {"carry": 2}, [test, body])
        return Known(made.results[1], False, max(x.bound, 1.0))

    def scan(self, x: Known) -> Known | None:
        if not x.shape:
            return None
        x = self.plain(x)
        row = x.type.with_shape(x.shape[1:])
        like = Known(x.value, False, x.bound)

        def body(b: Builder, carry: Value, a: Value) -> list[Value]:
            wanted = Known(a, False, like.bound)
            return [self.inner([carry, a], wanted, False)(b), a]

        start = self.b.full(row.shape, 1, row.dtype)
        attrs = {"carry": 1, "xs": 1, "length": x.shape[0], "reverse": bool(self.pick(2))}
        made = self.b.emit("scan", [start, x.value], attrs, [region([row, row], body)])
        return Known(made.results[self.pick(2)], False, max(x.bound, 1.0))


def small(shape: Sequence[DimLike], factor: int = 1) -> bool:
    """Whether an array of this shape stays small."""
    return math.prod(evaluate(d, SIZES) for d in shape) * factor <= MOST_ELEMENTS


_UNARY: list[tuple[str, bool, Callable[[float], float]]] = [
    ("neg", True, lambda b: b), ("abs", True, lambda b: b), ("tanh", False, lambda b: 1.0),
    ("exp", False, lambda b: 7.4), ("sin", False, lambda b: 1.0), ("cos", False, lambda b: 1.0),
    ("sqrt", False, lambda b: b + 1), ("log1p", False, lambda b: b), ("erf", False, lambda b: 1.0),
    ("logistic", False, lambda b: 1.0), ("floor", True, lambda b: b + 1),
    ("round", True, lambda b: b + 1), ("sign", True, lambda b: 1.0),
    ("square", False, lambda b: b * b), ("atan", False, lambda b: 2.0),
]  # fmt: skip


def arrays_for(
    made: Function, seed: int = 0, sizes: dict[str, int] | None = None
) -> list[np.ndarray[Any, Any]]:
    """Arguments for a function: floats in -2 … 2, small integers; named dims as in `sizes`."""
    rng = np.random.default_rng(seed)
    arrays = []
    for param in made.params:
        type = param.tensor
        shape = type.concrete({**SIZES, **(sizes or {})})
        if type.dtype is bool_:
            array = rng.integers(0, 2, shape)
        elif type.dtype.is_integer:
            array = rng.integers(0 if type.dtype.kind == "u" else -9, 10, shape)
        else:
            array = rng.uniform(-2, 2, shape)
        array = np.asarray(array).astype(type.dtype.numpy)
        if type.layout == "strided":
            array = LAYOUTS[int(rng.integers(len(LAYOUTS)))](array)
        arrays.append(array)
    return arrays


def assert_same(got: Sequence[Any], want: Sequence[Any]) -> None:
    """Equal dtypes and shapes; equal integers and bools; floats within rounding.

    An f64 may come from an f32 by a cast, so it is held to f32's precision (ops are compared
    in their own precision one by one in `test_ops_compiled.py`).
    """
    assert len(got) == len(want)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"result {i}"
        if b.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b, err_msg=f"result {i}")
            continue
        half = b.dtype.itemsize == 2
        wide = np.float64 if b.dtype.kind != "c" else np.complex128
        tolerance = 5e-2 if half else 5e-4
        np.testing.assert_allclose(
            a.astype(wide), b.astype(wide), rtol=tolerance, atol=tolerance, err_msg=f"result {i}"
        )
