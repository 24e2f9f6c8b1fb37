"""Evaluating a fused region element by element: the value of any op at given positions.

Every op inside a loop, reduce or contract kernel is computed on demand at the position its user
asks for, so index ops (transpose, slice, pad, gather, …) only transform positions and never move
data. Equal requests within one scope are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphmill.codegen.cpu import memory, scalar
from graphmill.codegen.cpu.elem import Elem, constant, memory_type, select, splat
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.index import (
    Index,
    Indices,
    at_least,
    below,
    both,
    is_uniform,
    lanes_of,
    mirrored,
    scaled,
    shifted,
    zero,
)
from graphmill.codegen.cpu.kernel import Kernel, Source, contiguous
from graphmill.codegen.cpu.ranges import is_inside
from graphmill.codegen.cpu.segments import OUTSIDE
from graphmill.ir.dims import DimLike
from graphmill.ir.dtypes import i64
from graphmill.ir.graph import Op, Value

Override = Callable[[Indices, "Val | None"], Elem]
Memo = dict[tuple[Value, Indices, "Val | None"], Elem]


def fixed(value: Elem) -> Override:
    """What has been computed already, wherever it is asked for."""
    return lambda index, guard: value


class Elements:
    """The values of one fused region. `tail` masks the lanes beyond the end of the row.

    Stores to the arrays in `bypass` go past the caches where its flag holds. `ahead` says how many
    bytes behind what is loaded from an array the next is wanted, if that is known.
    """

    def __init__(self, kernel: Kernel, sources: dict[Value, Source], lanes: int = 0) -> None:
        self.kernel = kernel
        self.code: Code = kernel.code
        self.sources = sources
        self.overrides: dict[Value, Override] = {}
        self.parts: Mapping[Op, int] = {}  # the part of a concat or pad that the loop is in
        self.lanes = lanes or kernel.lanes
        self.tail: Val | None = None
        self.bypass: Mapping[Source, Val] = {}
        self.ahead: Callable[[Source], Val | None] = lambda source: None
        self._memo: list[Memo] = [{}]
        self._origins: dict[Elem, Op] = {}  # for dumps: which op a register holds

    @contextmanager
    def scope(self, tail: Val | None = None) -> Iterator[None]:
        """Forget at the end what was computed inside (its code is inside a loop or branch)."""
        before, self.tail = self.tail, tail
        self._memo.append({})
        try:
            yield
        finally:
            self._memo.pop()
            self.tail = before

    @contextmanager
    def narrow(self, lanes: int) -> Iterator[None]:
        """Let vectors have `lanes` inside."""
        before, self.lanes = self.lanes, lanes
        try:
            yield
        finally:
            self.lanes = before

    def at(self, value: Value, index: Indices, guard: Val | None = None) -> Elem:
        """The element(s) of `value` at `index`: a scalar when uniform, else one per lane.

        Lanes where `guard` is false may hold anything; nothing outside an array is read there.
        """
        key = (value, index, guard)
        for memo in reversed(self._memo):
            if key in memo:
                return memo[key]
        result = self._compute(value, index, guard)
        self._memo[-1][key] = result
        if self.code.unit.places is not None and value.op is not None:
            self._origins[result] = value.op
        return result

    def remember(self, value: Value, index: Indices, element: Elem) -> None:
        """Take `element` for the element(s) of `value` at `index` until this scope ends."""
        self._memo[-1][value, index, None] = element

    def vector(self, value: Value, index: Indices) -> Elem:
        """`at`, repeated over the lanes when it is uniform."""
        return splat(self.code, self.at(value, index), self.lanes)

    def _compute(self, value: Value, index: Indices, guard: Val | None) -> Elem:
        if value in self.overrides:
            return self.overrides[value](index, guard)
        if value in self.sources:
            return self.load(self.sources[value], index, guard)
        op = value.op
        assert op is not None, f"{value} is bound to nothing"
        with self.code.located(op):
            if op.definition.family == "elementwise":
                return self._elementwise(op, index, guard)
            return _INDEX[op.name](self, op, index, guard)

    def _elementwise(self, op: Op, index: Indices, guard: Val | None) -> Elem:
        code, out = self.code, op.result.tensor.dtype
        if op.name == "cast" and out.kind in "iu" and out.bits <= 16:
            from graphmill.codegen.cpu.quantise import converted, quantised

            nearest = quantised(op, lambda v: v in self.overrides or v in self.sources)
            value = None if nearest is None else self.at(nearest.value, index, guard)
            if nearest is not None and isinstance(value, Val) and value.lanes:
                return converted(code, value, nearest, out.bits)
        args = [self.at(operand, index, guard) for operand in op.operands]
        lanes = max(arg.lanes for arg in args)
        if op.name in ("pow", "div", "floordiv", "mod"):
            from graphmill.codegen.cpu.special import special

            found = special(code, self.kernel.target, op, args)
            if found is not None:
                return found
        args = [splat(code, arg, lanes) for arg in args]
        types = [operand.tensor.dtype for operand in op.operands]
        if op.name == "cast":
            return scalar.cast(code, args[0], types[0], out)
        if op.name == "bitcast":
            assert isinstance(args[0], Val)
            return memory.reinterpreted(code, args[0], types[0], out)
        return scalar.apply(code, self.kernel.target, op.name, args, types, out, op.attrs)

    # ---- memory

    def load(self, source: Source, index: Indices, guard: Val | None = None) -> Elem:
        """Load from an array at `index`, contiguously where the positions are."""
        code = self.code
        if is_uniform(index):
            offset, _ = self._offset(source, index)
            return memory.load(code, source.pointer, offset, source.dtype, 0, mask=self._any(guard))
        offset, step = self._offset(source, index)
        mask = self._mask(guard)
        if step is None:
            return memory.gather(code, source.pointer, offset, source.dtype, mask=mask)
        ahead = self.ahead(source) if step == 1 and mask is None else None
        if ahead is not None:
            code.prefetch(code.at(source.pointer, offset, memory_type(source.dtype)), ahead)
        return memory.load_strided(
            code, source.pointer, offset, step, source.dtype, self.lanes, mask=mask
        )

    def store(self, source: Source, index: Indices, value: Elem) -> None:
        """Store lanes (or a scalar) at `index`."""
        with self.code.located(self._origins.get(value)):
            self._store(source, index, value)

    def _store(self, source: Source, index: Indices, value: Elem) -> None:
        code = self.code
        offset, step = self._offset(source, index)
        if is_uniform(index):
            memory.store(code, value, source.pointer, offset, source.dtype)
            return
        value, mask = splat(code, value, self.lanes), self._mask(None)
        if step is None:
            memory.scatter_store(code, value, source.pointer, offset, source.dtype, mask=mask)
        elif source in self.bypass and step == 1 and mask is None:
            align = min(self.lanes * source.dtype.itemsize, self.kernel.target.vector_bits // 8)
            base, dtype = source.pointer, source.dtype
            with code.when(self.bypass[source]):
                memory.store(code, value, base, offset, dtype, nontemporal=True, align=align)
            with code.otherwise():
                memory.store(code, value, base, offset, dtype)
        else:
            memory.store_strided(code, value, source.pointer, offset, step, source.dtype, mask=mask)

    def offset(self, source: Source, index: Indices) -> Val:
        """The linear offset of the first lane's element."""
        return self._offset(source, index)[0]

    def address(self, source: Source, index: Indices) -> Val:
        """Where the first lane's element lies."""
        offset = self.offset(source, index)
        offset = self.code.mul(offset, 2) if source.dtype.is_complex else offset
        return self.code.at(source.pointer, offset, memory_type(source.dtype))

    def _mask(self, guard: Val | None) -> Val | None:
        mask = both(self.code, self.tail, guard)
        return None if mask is None else self.code.splat(mask, self.lanes)

    def _any(self, guard: Val | None) -> Val | None:
        """A scalar guard for a uniform load: whether any lane wants it."""
        if guard is None or not guard.lanes:
            return guard
        return self.code.op(f"vector.reduction <or>, {guard} : {guard.type} into i1", "i1")

    def _offset(self, source: Source, index: Indices) -> tuple[Val, int | Val | None]:
        """The linear offset in elements and its step per lane (None: a vector of offsets)."""
        code = self.code
        general = any(i.step is None for i in index)
        total: Val | None = None
        step: int | Val = 0
        for i, stride in zip(index, source.strides, strict=True):
            by = stride if isinstance(stride, int | Val) else self.kernel.dim(stride)
            part = lanes_of(code, i, self.lanes) if general else i.base
            factor = code.splat(by, part.lanes) if isinstance(by, Val) else by
            if isinstance(factor, int) and part.lanes:
                factor = code.const(factor, part.type)
            term = code.mul(part, factor)
            total = term if total is None else code.add(total, term)
            if i.step:
                term_step = by * i.step if isinstance(by, int) else code.mul(by, i.step)
                step = term_step if step == 0 else self._sum(step, term_step)
        total = total if total is not None else code.i64(0)
        return total, None if general else step

    def _sum(self, a: int | Val, b: int | Val) -> int | Val:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return self.code.add(b, a) if isinstance(a, int) else self.code.add(a, b)  # type: ignore[arg-type]

    # ---- what index ops share

    def dim(self, dim: DimLike) -> Val | int:
        """A dim's size: an int where it is known."""
        return self.kernel.size(dim)

    def wrapped(
        self, value: Value, index: Indices, size: DimLike, room: DimLike = 1,
        guard: Val | None = None,
    ) -> Index:  # fmt: skip
        """An index made a safe position: negatives count from the end, then clamped.

        `room` is the number of elements that follow from the position on (a window's size).
        """
        code, dtype = self.code, value.tensor.dtype
        found = self.at(value, index, guard)
        assert isinstance(found, Val)
        wide = scalar.cast(code, found, dtype, i64)
        assert isinstance(wide, Val)
        lanes = wide.lanes
        turns = self.kernel.turns
        if turns is not None and is_inside(value, size - room, turns):
            return Index(wide, None if lanes else 0)
        n = self.dim(size)
        extent = code.splat(code.i64(n) if isinstance(n, int) else n, lanes)
        least = code.const(0, wide.type)
        if dtype.kind == "i":
            negative = code.compare("arith.cmpi", "slt", wide, least)
            wide = code.select(negative, code.add(wide, extent), wide)
        span = code.splat(_word(code, self.dim(room)), lanes)
        last = code.binary("arith.subi", extent, span)
        wide = code.binary("arith.minsi", wide, last)
        wide = code.binary("arith.maxsi", wide, least)
        return Index(wide, None if lanes else 0)


def _constant(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    array: np.ndarray[Any, Any] = op.attrs["value"]
    dtype = op.result.tensor.dtype
    flat = array.reshape(-1)
    words = flat.view(f"V{dtype.itemsize}")
    if array.size and bool((words == words[0]).all()):
        return constant(e.code, flat[0], dtype, 0)
    symbol = e.kernel.unit.constant_bytes(array.tobytes())
    pointer = e.code.address_of(symbol)
    return e.load(Source(pointer, dtype, array.shape, contiguous(array.shape)), index, guard)


def _iota(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    position = index[op.attrs["axis"]]
    value = lanes_of(e.code, position, 0 if position.uniform else e.lanes)
    return scalar.cast(e.code, value, i64, op.attrs["dtype"])


def _dim(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    return scalar.cast(e.code, e.kernel.dim(op.attrs["value"]), i64, op.attrs["dtype"])


def _broadcast(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    operand, shape = op.operands[0], op.attrs["shape"]
    at = tuple(
        zero(e.code) if dim == 1 and shape[axis] != 1 else index[axis]
        for dim, axis in zip(operand.shape, op.attrs["axes"], strict=True)
    )
    return e.at(operand, at, guard)


def _transpose(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    at = tuple(index[axis] for axis in np.argsort(op.attrs["perm"]))
    return e.at(op.operands[0], at, guard)


def _slice(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    at = tuple(
        shifted(e.code, scaled(e.code, i, step), e.dim(start))
        for i, start, step in zip(index, op.attrs["start"], op.attrs["step"], strict=True)
    )
    return e.at(op.operands[0], at, guard)


def _reverse(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    at = tuple(
        mirrored(e.code, i, e.dim(size)) if axis in op.attrs["axes"] else i
        for axis, (i, size) in enumerate(zip(index, op.operands[0].shape, strict=True))
    )
    return e.at(op.operands[0], at, guard)


def _pad(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    code = e.code
    operand, padding = op.operands
    inside: Val | None = None
    at: list[Index] = []
    attrs, part = op.attrs, e.parts.get(op)
    if part == OUTSIDE:
        return e.at(padding, ())
    for axis, i in enumerate(index):
        low, high, gap = attrs["low"][axis], attrs["high"][axis], attrs["interior"][axis]
        if part is not None and axis == len(index) - 1:
            at.append(shifted(code, i, _negated(e, low)))
            continue
        if low == 0 and high == 0 and gap == 0:
            at.append(i)
            continue
        i = shifted(code, i, _negated(e, low))
        inside = both(code, inside, at_least(code, i, 0, e.lanes))
        if gap:
            i, on_element = _spread(e, i, gap + 1)
            inside = both(code, inside, on_element)
        inside = both(code, inside, below(code, i, e.dim(operand.shape[axis]), e.lanes))
        at.append(i)
    if inside is None:
        return e.at(operand, tuple(at), guard)
    value = e.at(operand, tuple(at), both(code, guard, inside))
    other = e.at(padding, ())
    lanes = max(value.lanes, inside.lanes)
    return select(
        code, code.splat(inside, lanes), splat(code, value, lanes), splat(code, other, lanes)
    )


def _negated(e: Elements, dim: DimLike) -> Val | int:
    return e.dim(-dim)


def _spread(e: Elements, index: Index, by: int) -> tuple[Index, Val]:
    """Position divided by `by`, and whether it divides evenly (a non-negative position)."""
    code = e.code
    value = lanes_of(code, index, 0 if index.uniform else e.lanes)
    divisor = code.const(by, value.type)
    quotient = code.binary("arith.divsi", value, divisor)
    rest = code.binary("arith.remsi", value, divisor)
    even = code.compare("arith.cmpi", "eq", rest, code.const(0, value.type))
    return Index(quotient, 0 if index.uniform else None), even


def _concat(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    code, axis = e.code, op.attrs["axis"]
    start: DimLike = 0
    result: Elem | None = None
    for number, operand in enumerate(op.operands):
        local = shifted(code, index[axis], _negated(e, start))
        start = start + operand.shape[axis]
        at = (*index[:axis], local, *index[axis + 1 :])
        if e.parts.get(op, number) != number:
            continue
        if op in e.parts:
            return e.at(operand, at, guard)
        inside = below(code, local, e.dim(operand.shape[axis]), e.lanes)
        after = at_least(code, local, 0, e.lanes)
        mask = both(code, inside, after)
        value = e.at(operand, at, both(code, guard, mask))
        if result is None:
            result = value
            continue
        lanes = max(value.lanes, result.lanes, after.lanes)
        result = select(
            code, code.splat(after, lanes), splat(code, value, lanes), splat(code, result, lanes)
        )
    assert result is not None
    return result


def _gather(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    operand, *arrays = op.operands
    axes: Sequence[int] = op.attrs["axes"]
    lead = len(arrays[0].shape)
    rest = iter(index[lead:])
    positions = {
        axis: e.wrapped(array, index[:lead], operand.shape[axis], guard=guard)
        for axis, array in zip(axes, arrays, strict=True)
    }
    at = tuple(
        positions[axis] if axis in positions else next(rest) for axis in range(len(operand.shape))
    )
    return _where_room(e, operand, at, guard, [(operand.shape[axis], 1) for axis in axes])


def _where_room(
    e: Elements, operand: Value, at: Indices, guard: Val | None,
    needs: Sequence[tuple[DimLike, DimLike]],
) -> Elem:  # fmt: skip
    """The operand's element, or 0 where an axis has fewer elements than the position needs."""
    code = e.code
    room: Val | None = None
    for size, need in needs:
        known = isinstance(size, int) and isinstance(need, int) and size >= need
        if not known and size != need:
            position = Index(_word(code, e.dim(size)))
            room = both(code, room, at_least(code, position, e.dim(need), e.lanes))
    value = e.at(operand, at, both(code, guard, room))
    if room is None:
        return value
    nothing = constant(code, 0, operand.tensor.dtype, value.lanes)
    return select(code, code.splat(room, value.lanes), value, nothing)


def _word(code: Code, size: Val | int) -> Val:
    return code.i64(size) if isinstance(size, int) else size


def _dynamic_slice(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    operand, *starts = op.operands
    at = []
    for i, start, size, dim in zip(index, starts, op.attrs["sizes"], operand.shape, strict=True):
        first = e.wrapped(start, (), dim, size)
        at.append(shifted(e.code, i, first.base))
    needs = list(zip(operand.shape, op.attrs["sizes"], strict=True))
    return _where_room(e, operand, tuple(at), guard, needs)


def _rng_bits(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    code, out = e.code, op.result.tensor
    lanes = 0 if is_uniform(index) else e.lanes
    flat = code.splat(code.i64(0), lanes)
    for position, size in zip(index, out.shape, strict=True):
        extent = e.dim(size)
        factor = code.splat(code.i64(extent) if isinstance(extent, int) else extent, lanes)
        flat = code.add(code.mul(flat, factor), lanes_of(code, position, lanes))
    state = op.operands[0]
    key, base = (e.at(state, (Index(code.i64(i)),)) for i in range(2))
    assert isinstance(key, Val) and isinstance(base, Val)
    from graphmill.codegen.cpu.philox import random_bits

    bits = random_bits(code, key, base, flat, out.dtype.bits)
    return bits if out.dtype.bits == 64 else code.convert("arith.trunci", bits, "i32")


def _copy(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    return e.at(op.operands[0], index, guard)


def _reduce(e: Elements, op: Op, index: Indices, guard: Val | None) -> Elem:
    from graphmill.codegen.cpu.accumulate import written_out

    return written_out(e, op, index, guard)


_INDEX: dict[str, Callable[[Elements, Op, Indices, Val | None], Elem]] = {
    "constant": _constant,
    "iota": _iota,
    "dim": _dim,
    "broadcast": _broadcast,
    "transpose": _transpose,
    "slice": _slice,
    "reverse": _reverse,
    "pad": _pad,
    "concat": _concat,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "rng_bits": _rng_bits,
    "copy": _copy,
    "reduce": _reduce,
}


def index_ops() -> frozenset[str]:
    """The names of the index ops that can be evaluated inside a kernel."""
    return frozenset(_INDEX)
