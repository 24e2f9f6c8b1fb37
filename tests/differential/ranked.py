"""Functions of one op each at a given rank, with parameters that lie in memory in any way.

`ranked(name, rank)` makes them from the op table; `LAYOUTS` are the ways NumPy lays out an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphmill.ir.dims import DimLike, product
from graphmill.ir.dtypes import DType, bf16, bool_, c64, f32, f64, i8, i16, i32, i64, u8, u32, u64
from graphmill.ir.graph import Function
from graphmill.ir.ops.base import lookup
from graphmill.ir.types import TensorType, tensor
from tests.ir.op_samples import Case, cases, dtypes, one_op

Array = np.ndarray[Any, Any]

RANKS = range(6)
SIZES = ("n", 3, 1, 4, 3)

# ops whose operands are contiguous by their typing rule, or that have none
NO_STRIDES = frozenset({"cond", "while", "scan", "fusion", "prepare", "constant", "iota", "dim"})
# ops whose own samples do, at whatever rank they have
SAMPLED = frozenset({"all_reduce", "all_gather", "reduce_scatter"})


def shape(rank: int) -> tuple[DimLike, ...]:
    """`[n, 3, 1, 4, 3]`, as many axes as wanted."""
    return tensor(f32, *SIZES[:rank]).shape


def ranked(name: str, rank: int) -> Iterator[Function]:
    """Functions of the op with operands of this rank; none where it takes no such operand."""
    for number, (types, attrs, regions) in enumerate(_cases(name, rank)):
        laid = [
            replace(t, layout="strided") if isinstance(t, TensorType) and t.shape else t
            for t in types
        ]
        yield one_op(name, laid, attrs, regions, f"{name.replace('.', '_')}_{rank}_{number}")


def _cases(name: str, rank: int) -> Iterator[Case]:
    definition = lookup(name)
    if name in SAMPLED:
        yield from [case for case in cases(name) if case[0][-1].rank == rank]
    elif name in _MAKERS:
        for types, attrs in _MAKERS[name](rank):
            yield types, attrs, ()
    elif definition.family == "elementwise":
        of = dtypes(definition.kinds)
        kind = f32 if f32 in of else of[rank % len(of)]
        yield [TensorType(kind, shape(rank))] * len(definition.operands), {}, ()


Made = Iterator[tuple[Sequence[TensorType], dict[str, Any]]]
_CYCLE: tuple[DType, ...] = (f32, i8, f64, u32, bf16, c64)


def _of(rank: int, *dims: DimLike) -> TensorType:
    """A type of these dims; the dtype goes round with the rank."""
    return TensorType(_CYCLE[rank], dims)


def _select(rank: int) -> Made:
    of = _of(rank, *shape(rank))
    yield [of.with_dtype(bool_), of, of], {}


def _cast(rank: int) -> Made:
    a, b = ((f32, i32), (u8, f64), (bf16, f32), (bool_, i64), (i16, bf16), (f64, c64))[rank]
    yield [TensorType(a, shape(rank))], {"dtype": b}


def _bitcast(rank: int) -> Made:
    a, b = ((f32, i32), (i32, f32), (f64, u64), (u64, f64), (bf16, i16), (i64, u64))[rank]
    yield [TensorType(a, shape(rank))], {"dtype": b}


def _complex(rank: int) -> Made:
    yield [TensorType(f64 if rank % 2 else f32, shape(rank))] * 2, {}


def _moving(name: str, rank: int) -> Made:
    dims = shape(rank)
    x, s = _of(rank, *dims), _of(rank)
    made: dict[str, Callable[[], tuple[list[TensorType], dict[str, Any]] | None]] = {
        "broadcast": lambda: ([x], {
            "shape": (2, *(5 if d == 1 else d for d in dims), 3)[: rank + 2],
            "axes": tuple(range(1, rank + 1))}),
        "reshape": lambda: ([x], {"shape": (product(dims), 1)}),
        "transpose": lambda: ([x], {"perm": (*range(rank // 2, rank), *range(rank // 2))}),
        "pad": lambda: ([x, s], {
            "low": (1, 0, 2, 0, 1)[:rank], "high": (0, 2, 1, 0, 0)[:rank],
            "interior": (0, 1, 0, 2, 0)[:rank]}),
        "slice": lambda: ([x], {
            "start": (0, 1, 0, 1, 2)[:rank], "stop": dims, "step": (2, 2, 1, 1, 1)[:rank]}),
        "reverse": lambda: ([x], {"axes": tuple(range(rank % 2, rank))}),
        "concat": lambda: ([x, x, x], {"axis": rank // 2}) if rank else None,
        "copy": lambda: ([x], {}),
    }  # fmt: skip
    found = made[name]()
    if found is not None:
        yield found


def _dot(rank: int) -> Made:
    """x @ y with rank - 2 batch axes, from plain, transposed and scattered axes."""
    of = _CYCLE[rank]
    dims = [tensor(of, *t).shape for t in (("n",), (3, 2), (4, 1, 2))]
    n, (k, b), (c, one, d) = *dims[0], dims[1], dims[2]
    wanted: list[tuple[Any, ...]] = [
        ((), (), (), (), (), ()),
        ((n,), (n,), (), (), (0,), (0,)),
        ((k, n), (k, c), (), (), (0,), (0,)),
        ((n, k, b), (n, c, b), (0,), (0,), (2,), (2,)),
        ((k, n, b, c), (b, k, d, c), (2,), (0,), (3, 0), (3, 1)),
        ((b, n, one, k, c), (c, k, b, n, d), (0, 1), (2, 3), (3, 4), (1, 0)),
    ]
    x, y, x_batch, y_batch, x_contract, y_contract = wanted[rank]
    attrs = {"x_batch": x_batch, "y_batch": y_batch, "x_contract": x_contract,
             "y_contract": y_contract, "dtype": of}  # fmt: skip
    yield [TensorType(of, x), TensorType(of, y)], attrs
    if rank == 2:  # large enough for the tiled schedules, and one row
        sides = (
            (tensor(f32, "n", 37), tensor(f32, 37, 19)),
            (tensor(f32, 1, 37), tensor(f32, 37, "n")),
        )
        for x, y in sides:
            yield [x, y], {**attrs, "dtype": f32, "x_contract": (1,), "y_contract": (0,)}


def _conv(rank: int) -> Made:
    if rank < 3:
        return
    spatial = rank - 2
    attrs = {"strides": (1, 2, 1)[:spatial], "low": (1, 0, 0)[:spatial],
             "high": (0, 1, 0)[:spatial],
             "dilation": (1,) * spatial, "input_dilation": (1,) * spatial, "groups": 1}  # fmt: skip
    for channels, out, groups in ((3, 5, 1), (4, 4, 4), (16, 16, 1)):
        x = tensor(f32, "n", channels, *(6, 5, 4)[:spatial])
        w = tensor(f32, out, channels // groups, *(3, 2, 2)[:spatial])
        yield [x, w], {**attrs, "groups": groups}


def _reduce(rank: int) -> Made:
    monoids = ("sum", "max", "prod", "min", "sum", "sum")
    subsets = {axes for axes in ((), (0,), (rank - 1,), tuple(range(0, rank, 2)), (rank // 2,),
               tuple(range(rank))) if all(0 <= a < rank for a in axes)}  # fmt: skip
    for axes in sorted(subsets):
        yield [_of(rank, *shape(rank))], {"axes": axes, "monoid": monoids[rank]}


def _real(rank: int) -> TensorType:
    return TensorType((f32, i8, f64, u32, bf16, f32)[rank], shape(rank))


def _argreduce(rank: int) -> Made:
    for axis in range(1, rank):
        yield [_real(rank)], {"axis": axis, "kind": ("max", "min")[axis % 2]}


def _cumulative(rank: int) -> Made:
    for axis in range(rank):
        attrs = {"axis": axis, "monoid": ("sum", "max", "min")[axis % 3], "reverse": axis % 2 == 1}
        yield [_real(rank)], attrs


def _window_reduce(rank: int) -> Made:
    attrs = {"window": (2, 3, 1, 2, 1)[:rank], "strides": (1, 2, 1, 1, 1)[:rank],
             "low": (1, 0, 0, 1, 0)[:rank], "high": (1, 1, 0, 0, 1)[:rank],
             "dilation": (1, 1, 1, 2, 1)[:rank], "monoid": ("sum", "max")[rank % 2]}  # fmt: skip
    yield [TensorType(f32, shape(rank))], attrs


def _gather(rank: int) -> Made:
    for axes in {(0,), (rank - 1,), (0, rank - 1), (rank - 1, rank // 2)}:
        if rank and len(set(axes)) == len(axes):
            index = [tensor((i64, i32, u8)[i], 4, 2) for i in range(len(axes))]
            yield [_of(rank, *shape(rank)), *index], {"axes": axes}


def _scatter(rank: int) -> Made:
    if not rank:
        return
    for axes, mode in (((rank - 1,), "add"), ((0,), "set"), ((rank // 2, 0), "max")):
        if len(set(axes)) == len(axes):
            rest = [d for i, d in enumerate(shape(rank)) if i not in axes]
            x, u = (
                TensorType(f32 if rank % 2 else i32, tuple(d)) for d in (shape(rank), (5, *rest))
            )
            yield [x, u, *[tensor(i64, 5) for _ in axes]], {"axes": axes, "mode": mode}


def _dynamic_slice(rank: int) -> Made:
    attrs = {"sizes": (*shape(1), 2, 1, 3, 2)[:rank]}
    yield [_of(rank, *shape(rank)), *[tensor(i64)] * rank], attrs


def _dynamic_update(rank: int) -> Made:
    update = (*shape(1), 2, 1, 3, 2)[:rank]
    yield [_of(rank, *shape(rank)), _of(rank, *update), *[tensor(i32)] * rank], {}


def _sort(rank: int) -> Made:
    for axis in range(rank):
        yield [_real(rank), _of(rank, *shape(rank))], {"axis": axis, "descending": axis % 2 == 0}


def _top_k(rank: int) -> Made:
    if rank > 1:
        yield (
            [TensorType((f32, i32, f64)[rank % 3], shape(rank))],
            {"k": (1, 2)[shape(rank)[-1] != 1]},
        )


def _rng(rank: int) -> Made:
    yield [tensor(u64, 2)], {"shape": (3, 2, 1, 3, 2)[:rank], "dtype": u32}


def _check(rank: int) -> Made:
    yield [TensorType(f32, shape(rank))], {"kind": "nan", "size": 0, "axis": 0}


_MAKERS: dict[str, Callable[[int], Made]] = {
    "select": _select, "cast": _cast, "bitcast": _bitcast, "complex": _complex,
    **{name: (lambda rank, name=name: _moving(name, rank)) for name in
       ("broadcast", "reshape", "transpose", "pad", "slice", "reverse", "concat", "copy")},
    "dot_general": _dot, "conv": _conv, "reduce": _reduce, "argreduce": _argreduce,
    "cumulative": _cumulative, "window_reduce": _window_reduce, "gather": _gather,
    "scatter": _scatter, "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update,
    "sort": _sort, "top_k": _top_k, "rng_bits": _rng, "check": _check,
}  # fmt: skip


# ---- how an array lies in memory: each gives an array with the same elements (but `repeated`)


def _steps(of: Array, factor: int) -> tuple[int, ...]:
    """The strides of a contiguous array, each times a factor."""
    return tuple(s * factor for s in np.empty(of.shape, of.dtype).strides)


def far(x: Array) -> Array:
    """Neighbours 4097 elements apart."""
    room = np.empty(x.size * 4097 + 1, x.dtype)
    made = as_strided(room[1:], x.shape, _steps(x, 4097))
    made[...] = x
    return made


def backwards(x: Array) -> Array:
    """Every stride negative."""
    turned = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[turned])[turned] if x.ndim else x


def permuted(x: Array) -> Array:
    """The axes rotated: the first one varies fastest but one."""
    if not x.ndim:
        return x
    return np.moveaxis(np.array(np.moveaxis(x, 0, -1), order="C"), -1, 0)


def fortran(x: Array) -> Array:
    """The first axis varies fastest."""
    return np.array(x, order="F")


def stepped(x: Array) -> Array:
    """Every other element of every axis, the last axis backwards."""
    room = np.zeros([2 * d + 1 for d in x.shape], x.dtype)
    made = room[(..., *[slice(1, 2 * d, 2) for d in x.shape])]
    made = made[..., ::-1] if x.ndim else made
    made[...] = x
    return made


def repeated(x: Array) -> Array:
    """One element (or row) seen along every other axis: strides of zero."""
    few = x[tuple(slice(None) if i % 2 else slice(0, 1) for i in range(x.ndim))]
    return np.broadcast_to(np.array(few), x.shape)


def shifted(x: Array) -> Array:
    """Contiguous, but one element after an aligned address."""
    room = np.zeros(x.size + 1, x.dtype)
    made = room[1:].reshape(x.shape)
    made[...] = x
    return made


def odd(x: Array) -> Array:
    """Contiguous, but axes of size 1 have strides that lead nowhere."""
    steps = [s * 1234567 if d == 1 else s for d, s in zip(x.shape, _steps(x, 1), strict=True)]
    return as_strided(np.array(x, order="C"), x.shape, steps)


LAYOUTS: tuple[Callable[[Array], Array], ...] = (
    far, backwards, permuted, fortran, stepped, repeated, shifted, odd,
)  # fmt: skip
