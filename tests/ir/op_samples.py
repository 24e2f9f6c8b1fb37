"""Small functions of one op each, made from the op table, and arrays to call them with.

`sample_functions(name)` covers dtypes, ranks, empty and symbolic shapes; `arguments(function)`
draws operands from the op's sample domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphmill.ir.builder import Builder, function, region
from graphmill.ir.dims import Dim
from graphmill.ir.dtypes import ALL, DType, bf16, bool_, c64, f16, f32, f64, i8, i32, i64, u32, u64
from graphmill.ir.graph import Function, Region, Value
from graphmill.ir.ops.base import Domain, lookup
from graphmill.ir.ops.reduce import MONOIDS
from graphmill.ir.types import TOKEN, TensorType, Type, tensor

Case = tuple[Sequence[Type], dict[str, Any], Sequence[Region]]

SHAPES = ((), (5,), (2, 3), (0, 4), ("n", 3), (2, 1, 3))
WINDOW = {"strides": (1, 2), "low": (1, 0), "high": (0, 1), "dilation": (1, 2)}


def sample_functions(name: str) -> Iterator[Function]:
    """One function per sample case of the op."""
    for number, (types, attrs, regions) in enumerate(cases(name)):
        yield one_op(name, types, attrs, regions, f"{name.replace('.', '_')}_{number}")


def one_op(
    op: str, types: Sequence[Type], attrs: dict[str, Any], regions: Sequence[Region] = (),
    name: str = "f",
) -> Function:  # fmt: skip
    """A function whose parameters go into one op and whose results are that op's."""

    def body(b: Builder, *args: Value) -> Sequence[Value]:
        operands = args if lookup(op).operands else ()
        return b.emit(op, operands, attrs, regions).results

    return function(name, {f"x{i}": type for i, type in enumerate(types)}, body)


def cases(name: str) -> Iterator[Case]:
    """Operand types, attributes and regions that the op takes."""
    definition = lookup(name)
    if name in CASES:
        yield from CASES[name]()
    elif definition.family == "elementwise":
        count = len(definition.operands)
        for of in dtypes(definition.kinds):
            yield [tensor(of, 3, 2)] * count, {}, ()
        for shape in SHAPES:
            yield [tensor(dtypes(definition.kinds)[-1], *shape)] * count, {}, ()
    else:
        raise AssertionError(f"op {name} has no samples: add them to CASES")


def dtypes(kinds: str) -> list[DType]:
    return [of for of in ALL if of.kind in kinds]


def arguments(made: Function, seed: int = 0, n: int = 4) -> list[np.ndarray[Any, Any]]:
    """Arrays for the parameters, in the domain of the op inside; every named dim is `n`."""
    rng = np.random.default_rng(seed)
    op = made.ops[0]
    indexing = op.definition.family == "indexing"
    return [
        draw(rng, p.tensor, op.definition.domain, n, indexing and i > 0)
        for i, p in enumerate(made.params)
        if isinstance(p.type, TensorType)
    ]


def draw(
    rng: np.random.Generator, type: TensorType, domain: Domain, n: int, index: bool = False
) -> np.ndarray[Any, Any]:
    """An array of a type; indices go somewhat beyond the axis, NumPy's negative ones included."""
    shape = type.concrete(dict.fromkeys(type.names, n))
    of = type.dtype
    if of is bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if of.is_integer:
        low, high = (-7, 7) if index else (int(np.ceil(domain.low)), int(domain.high))
        low = max(low, 0) if of.kind == "u" else low
        return rng.integers(low, max(high, low + 1), shape, endpoint=True).astype(of.numpy)
    real = rng.uniform(domain.low, domain.high, shape)
    if of.is_complex:
        real = real + 1j * rng.uniform(domain.low, domain.high, shape)
    return np.asarray(real).astype(of.numpy)


def _select() -> Iterator[Case]:
    for of in ALL:
        yield [tensor("bool", 3), tensor(of, 3), tensor(of, 3)], {}, ()
    yield [tensor("bool", "n", 2), tensor(f32, "n", 2), tensor(f32, "n", 2)], {}, ()


def _cast() -> Iterator[Case]:
    for a in ALL:
        for b in ALL:
            if b.is_complex or not a.is_complex or b is bool_:
                yield [tensor(a, 2, 3)], {"dtype": b}, ()


def _bitcast() -> Iterator[Case]:
    for a, b in ((f32, i32), (i32, f32), (f64, u64), (u64, f64), (f16, bf16), (i64, u64)):
        yield [tensor(a, 4)], {"dtype": b}, ()


def _constant() -> Iterator[Case]:
    for of in ALL:
        yield [], {"value": np.array([0, 1, 1], of.numpy)}, ()
    for value in (np.float32(np.nan), np.zeros((0, 3)), np.arange(100.0), np.full((9, 9), 2.5)):
        yield [], {"value": np.asarray(value)}, ()


def _iota() -> Iterator[Case]:
    for of in (i64, f32, u32, i8):
        yield [], {"shape": (3, 4), "axis": 1, "dtype": of}, ()


def _shape_ops(name: str) -> Iterator[Case]:
    for of in (f32, bool_, c64, bf16):
        x, s = tensor(of, 2, 3), tensor(of)
        wanted: dict[str, Case] = {
            "broadcast": ([tensor(of, 3, 1)], {"shape": (2, 3, 4), "axes": (1, 2)}, ()),
            "reshape": ([x], {"shape": (3, 1, 2)}, ()),
            "transpose": ([x], {"perm": (1, 0)}, ()),
            "pad": ([x, s], {"low": (1, 0), "high": (0, 2), "interior": (1, 0)}, ()),
            "slice": ([tensor(of, 5, 4)], {"start": (1, 0), "stop": (5, 3), "step": (2, 1)}, ()),
            "reverse": ([x], {"axes": (0, 1)}, ()),
            "concat": ([x, tensor(of, 4, 3), tensor(of, 0, 3)], {"axis": 0}, ()),
            "copy": ([x], {}, ()),
        }
        yield wanted[name]
    n = tensor(f32, "n", 3)
    size = n.shape[0]
    symbolic: dict[str, Case] = {
        "broadcast": ([tensor(f32, "n")], {"shape": (size, 5), "axes": (0,)}, ()),
        "reshape": ([n], {"shape": (3 * size,)}, ()),
        "transpose": ([n], {"perm": (1, 0)}, ()),
        "pad": ([n, tensor(f32)], {"low": (size, 0), "high": (0, 0), "interior": (0, 0)}, ()),
        "slice": ([n], {"start": (1, 0), "stop": (size, 3), "step": (1, 2)}, ()),
        "reverse": ([n], {"axes": (0,)}, ()),
        "concat": ([n, n], {"axis": 0}, ()),
        "copy": ([n], {}, ()),
    }
    yield symbolic[name]


def _dot() -> Iterator[Case]:
    for of in (f32, f64, c64, i32, bf16, f16):
        for x, y, batch, contract in (
            ((3, 4), (4, 5), ((), ()), ((1,), (0,))),
            ((2, 3, 4), (2, 5, 4), ((0,), (0,)), ((2,), (2,))),
            ((4,), (4,), ((), ()), ((0,), (0,))),
            ((3, 0), (0, 2), ((), ()), ((1,), (0,))),
            (("n", 4), (4, "n"), ((), ()), ((1,), (0,))),
            ((3,), (2,), ((), ()), ((), ())),
        ):
            attrs = {"x_batch": batch[0], "y_batch": batch[1], "x_contract": contract[0],
                     "y_contract": contract[1], "dtype": of}  # fmt: skip
            yield [tensor(of, *x), tensor(of, *y)], attrs, ()


def _conv() -> Iterator[Case]:
    plain = {"strides": (1, 1), "low": (0, 0), "high": (0, 0), "dilation": (1, 1),
             "input_dilation": (1, 1), "groups": 1}  # fmt: skip
    for of in (f32, f64, c64, i32):
        yield [tensor(of, 2, 3, 5, 6), tensor(of, 4, 3, 3, 2)], plain, ()
    for change in (
        {"strides": (2, 1), "low": (1, 1), "high": (0, 2)},
        {"dilation": (2, 1)},
        {"input_dilation": (1, 3)},
    ):
        yield [tensor(f32, 1, 3, 7, 6), tensor(f32, 2, 3, 3, 2)], {**plain, **change}, ()
    yield [tensor(f32, "n", 4, 5, 5), tensor(f32, 6, 2, 1, 3)], {**plain, "groups": 2}, ()


def _blocked_conv() -> Iterator[Case]:
    plain = {"strides": (1, 1), "low": (0, 0), "high": (0, 0), "dilation": (1, 1), "groups": 1,
             "channels": 5, "filters": 6, "block": 4}  # fmt: skip
    for of in (f32, f64, f16, bf16):
        yield [tensor(of, 2, 2, 5, 6, 4), tensor(of, 2, 2, 3, 2, 4, 4)], plain, ()
    for change in (
        {"strides": (2, 1), "low": (1, 1), "high": (0, 2), "block": 1},
        {"dilation": (2, 1)},
    ):
        yield [tensor(f32, "n", 2, 7, 6, 4), tensor(f32, 2, 2, 3, 2, 4, 4)], {**plain, **change}, ()
        yield [tensor(f32, "n", 5, 7, 6), tensor(f32, 2, 2, 3, 2, 4, 4)], {**plain, **change}, ()
    one = {key: value[:1] if isinstance(value, tuple) else value for key, value in plain.items()}
    yield [tensor(f32, 1, 5, 9, 1), tensor(f32, 2, 5, 3, 1, 4)], one, ()
    grouped = {**plain, "groups": 2, "channels": 16, "filters": 8}
    yield [tensor(f32, 1, 4, 5, 5, 4), tensor(f32, 2, 2, 3, 3, 4, 4)], grouped, ()
    for each in (1, 2):
        lanes = {**plain, "groups": 6 // each, "channels": 6}
        yield [tensor(f32, 2, 2, 5, 6, 4), tensor(f32, 2, each, 3, 2, 1, 4)], lanes, ()
        lanes = {**plain, "groups": 8 // each, "channels": 8, "filters": 8}
        yield [tensor(f32, 2, 8, 5, 6), tensor(f32, 2, each, 3, 2, 1, 4)], lanes, ()


def _reduce() -> Iterator[Case]:
    for monoid, (_, kinds) in MONOIDS.items():
        for of in dtypes(kinds):
            yield [tensor(of, 3, 2)], {"axes": (0,), "monoid": monoid}, ()
    for shape, axes in (((2, 3, 4), (0, 2)), ((0, 4), (0,)), (("n", 3), (0, 1)), ((), ())):
        yield [tensor(f32, *shape)], {"axes": axes, "monoid": "sum"}, ()


def _argreduce() -> Iterator[Case]:
    for of in dtypes("biuf"):
        for kind in ("max", "min"):
            yield [tensor(of, 3, 4)], {"axis": 1, "kind": kind}, ()
    yield [tensor(f32, 3, "n")], {"axis": 0, "kind": "max"}, ()


def _cumulative() -> Iterator[Case]:
    for monoid in ("sum", "prod", "max", "min"):
        for of in (f32, bf16, i32, u32):
            yield [tensor(of, 3, 4)], {"axis": 1, "monoid": monoid, "reverse": of is f32}, ()


def _window_reduce() -> Iterator[Case]:
    for monoid in ("sum", "max", "min", "prod"):
        for of in (f32, i32):
            yield [tensor(of, 5, 6)], {"window": (2, 3), "monoid": monoid, **WINDOW}, ()


def _gather() -> Iterator[Case]:
    for of in (f32, bool_, c64, f16):
        yield [tensor(of, 4, 5), tensor(i64, 3, 2)], {"axes": (0,)}, ()
    yield [tensor(f32, 4, 3, 5), tensor(i32, 6), tensor(u32, 6)], {"axes": (0, 2)}, ()
    yield [tensor(f32, "n", 3), tensor(i64, 5)], {"axes": (0,)}, ()
    yield [tensor(f32, 4, 3), tensor(i64, 0)], {"axes": (1,)}, ()
    yield [tensor(f32, 0, 3), tensor(i64, 2)], {"axes": (0,)}, ()
    yield [tensor(c64, 3, 0, 2), tensor(i64, 2), tensor(i32, 2)], {"axes": (1, 0)}, ()


def _scatter() -> Iterator[Case]:
    for mode in ("set", "add", "mul", "min", "max"):
        x, u = tensor(f32, 4, 5), tensor(f32, 6, 5)
        yield [x, u, tensor(i64, 6)], {"axes": (0,), "mode": mode}, ()
        y, v = tensor(i32, 4, 3, 5), tensor(i32, 6, 3)
        yield [y, v, tensor(i32, 6), tensor(i32, 6)], {"axes": (0, 2), "mode": mode}, ()


def _dynamic(update: bool) -> Iterator[Case]:
    for of in (f32, bool_, i64):
        if update:
            yield [tensor(of, 4, 5), tensor(of, 2, 5), tensor(i64), tensor(i32)], {}, ()
        else:
            yield [tensor(of, 4, 5), tensor(i64), tensor(i32)], {"sizes": (2, 3)}, ()


def _sort() -> Iterator[Case]:
    for of in dtypes("biuf"):
        yield [tensor(of, 3, 5)], {"axis": 1, "descending": of.bits == 32}, ()
    yield [tensor(f32, 6, 2), tensor(i64, 6, 2)], {"axis": 0, "descending": True}, ()


def _argsort() -> Iterator[Case]:
    for of in dtypes("biufc"):
        yield [tensor(of, 3, 5)], {"axis": 1, "descending": of.bits == 32}, ()
    yield [tensor(f64, 6, 2)], {"axis": 0, "descending": True}, ()


def _partition() -> Iterator[Case]:
    for of in dtypes("biuf"):
        yield [tensor(of, 3, 5), tensor(i64), tensor(i64)], {"axis": 1}, ()
    yield [tensor(f32, 6, 2), tensor(i64), tensor(i64)], {"axis": 0}, ()


def _factor(right: bool) -> Iterator[Case]:
    for of in dtypes("fc"):
        for lead in ((), (2,)) if of.bits >= 32 else ():
            types = [tensor(of, *lead, 3, 3), tensor(of, *lead, 3, 2)]
            yield types if right else types[:1], {}, ()
    types = [tensor(f64, "n", "n"), tensor(f64, "n", 2)]
    yield types if right else types[:1], {}, ()


def _top_k() -> Iterator[Case]:
    for of in (f32, f64, i32, bf16):
        for k in (0, 1, 3):
            yield [tensor(of, 2, 6)], {"k": k}, ()


def _rng() -> Iterator[Case]:
    for of in (u32, u64):
        for shape in ((7,), (2, 3), (), (0,)):
            yield [tensor(u64, 2)], {"shape": shape, "dtype": of}, ()


def _cond() -> Iterator[Case]:
    x = tensor(f32, "n")
    branches = [region([x], lambda b, a, op=op: b.op(op, a)) for op in ("exp", "neg")]
    yield [tensor(bool_), x], {}, branches
    three = [region([x], lambda b, a, op=op: b.op(op, a)) for op in ("exp", "neg", "abs")]
    yield [tensor(i32), x], {}, three


def _while() -> Iterator[Case]:
    types = [tensor(i32), tensor(f32, 3), tensor(f32, 3)]
    test = region(types, lambda b, i, x, y: b.op("lt", i, b.constant(5, i32)))
    body = region(types, lambda b, i, x, y: [b.op("add", i, b.constant(1, i32)), b.op("mul", x, y)])
    yield types, {"carry": 2}, [test, body]


def _scan() -> Iterator[Case]:
    def step(b: Builder, carry: Value, x: Value, w: Value) -> list[Value]:
        made = b.op("add", b.op("mul", carry, w), x)
        return [made, b.op("exp", made)]

    for length in (4, tensor(f32, "n").shape[0]):
        for reverse in (False, True):
            row = tensor(f32, 3)
            xs = TensorType(f32, (length, 3))
            body = region([row, row, row], step)
            attrs = {"carry": 1, "xs": 1, "length": length, "reverse": reverse}
            yield [row, xs, row], attrs, [body]


def _fusion() -> Iterator[Case]:
    x = tensor(f32, "n", 4)
    body = region([x, x], lambda b, a, c: [b.op("exp", b.op("mul", a, c)), b.op("neg", a)])
    yield [x, x], {"kind": "loop", "reason": 'elementwise; "both"\n'}, [body]


def _prepare() -> Iterator[Case]:
    w, scale = tensor(f32, 4, 3), tensor(f32, 4)
    yield (
        [w, scale],
        {},
        [
            region(
                [w, scale],
                lambda b, w, s: b.op("mul", b.transpose(w, (1, 0)), b.broadcast(s, (3, 4), (1,))),
            )
        ],
    )


def _check() -> Iterator[Case]:
    yield [tensor(f32, 3)], {"kind": "nan", "size": 0, "axis": 0}, ()
    yield [tensor(i64, 3)], {"kind": "bounds", "size": 9, "axis": 1}, ()


def _require() -> Iterator[Case]:
    for size in (3, Dim.of("n") + 1):
        yield [tensor(f32, "n")], {"size": size, "least": size - 2}, ()


def _dim_value() -> Iterator[Case]:
    for value in (3, Dim.of("n"), 2 * Dim.of("n") + 1):
        yield [tensor(f32, "n")], {"value": value, "dtype": i64}, ()


def _one(*cases: Case) -> Any:
    return lambda: iter(cases)


X = tensor(f32, 2, 3)
CASES: dict[str, Any] = {
    "select": _select, "cast": _cast, "bitcast": _bitcast, "constant": _constant, "iota": _iota,
    **{name: (lambda name=name: _shape_ops(name)) for name in
       ("broadcast", "reshape", "transpose", "pad", "slice", "reverse", "concat", "copy")},
    "complex": lambda: (([tensor(of, 3)] * 2, {}, ()) for of in (f32, f64)),
    "dot_general": _dot, "conv": _conv, "blocked_conv": _blocked_conv,
    "reduce": _reduce, "argreduce": _argreduce,
    "cumulative": _cumulative, "window_reduce": _window_reduce, "gather": _gather,
    "scatter": _scatter, "dynamic_slice": lambda: _dynamic(False),
    "dynamic_update_slice": lambda: _dynamic(True), "sort": _sort, "top_k": _top_k,
    "argsort": _argsort, "partition": _partition, "argpartition": _partition,
    "solve": lambda: _factor(True), "lu": lambda: _factor(False),
    "cholesky": lambda: _factor(False),
    "rng_bits": _rng, "cond": _cond, "while": _while, "scan": _scan, "fusion": _fusion,
    "prepare": _prepare,
    "check": _check, "require": _require,
    "dim": _dim_value,
    "call": _one(([X], {"callee": "other", "types": (X,)}, ())),
    "token": _one(([], {}, ())),
    "join": _one(([TOKEN, TOKEN], {}, ())),
    "variable.read": _one(([TOKEN], {"name": "w", "type": X}, ())),
    "variable.assign": _one(([X, TOKEN], {"name": "w"}, ())),
    "transfer": _one(([X], {"device": "cuda:0"}, ())),
    "all_reduce": _one(([X], {"monoid": "sum", "size": 1}, ())),
    "all_gather": _one(([X], {"axis": 1, "size": 1}, ())),
    "reduce_scatter": _one(([X], {"monoid": "sum", "axis": 0, "size": 1}, ())),
    "custom_call": _one(([X], {"target": "f", "types": (X, TOKEN)}, ())),
}  # fmt: skip
