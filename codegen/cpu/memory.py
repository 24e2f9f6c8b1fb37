"""Loads and stores of elements: contiguous, strided, gathered, masked; any dtype."""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu.elem import Complex, Elem, constant, memory_type, select, splat
from graphmill.codegen.cpu.emit import Code, Val, vector
from graphmill.ir.dtypes import DType


def load(
    code: Code,
    base: Val,
    index: Val | int,
    dtype: DType,
    lanes: int,
    *,
    mask: Val | None = None,
    align: int | None = None,
    other: float = 0,
) -> Elem:
    """Elements `index … index+lanes-1` of the array at `base` (one element when `lanes` is 0).

    Where `mask` (i1 per lane) is false nothing is read and the lane is `other`. `align` is the
    address's alignment in bytes, by default that of one element.
    """
    element, size = memory_type(dtype), _align(dtype)
    if dtype.kind != "c":
        address = code.at(base, index, element)
        raw = _load(code, address, vector(element, lanes), align or size, mask)
        return _patched(code, from_memory(code, raw, dtype), dtype, mask, other)
    address = code.at(base, _doubled(code, index), element)
    if not lanes:
        re = _load(code, address, element, size, mask)
        im = _load(code, code.at(address, 1, element), element, size, mask)
        return _patched(code, Complex(re, im), dtype, mask, other)
    wide = None if mask is None else _shuffle(code, mask, mask, _twice(lanes))
    pairs = _load(code, address, vector(element, 2 * lanes), align or size, wide)
    re = _shuffle(code, pairs, pairs, range(0, 2 * lanes, 2))
    im = _shuffle(code, pairs, pairs, range(1, 2 * lanes, 2))
    return _patched(code, Complex(re, im), dtype, mask, other)


def store(
    code: Code,
    value: Elem,
    base: Val,
    index: Val | int,
    dtype: DType,
    *,
    mask: Val | None = None,
    nontemporal: bool = False,
    align: int | None = None,
) -> None:
    """Store elements at `index …`; lanes where `mask` is false are left alone.

    A non-temporal store needs `align`ment to the whole vector.
    """
    element, size = memory_type(dtype), _align(dtype)
    if isinstance(value, Complex):
        address = code.at(base, _doubled(code, index), element)
        if not value.lanes:
            _store(code, value.re, address, size, mask)
            _store(code, value.im, code.at(address, 1, element), size, mask)
            return
        lanes = value.lanes
        order = [lane + part for lane in range(lanes) for part in (0, lanes)]
        pairs = _shuffle(code, value.re, value.im, order)
        wide = None if mask is None else _shuffle(code, mask, mask, _twice(lanes))
        _store(code, pairs, address, align or size, wide, nontemporal)
        return
    raw = to_memory(code, value, dtype)
    _store(code, raw, code.at(base, index, element), align or size, mask, nontemporal)


def gather(
    code: Code, base: Val, indices: Val, dtype: DType, *, mask: Val | None = None, other: float = 0
) -> Elem:
    """The elements at `indices` (i64, scalar or vector); masked lanes are `other`, unread."""
    if not indices.lanes:
        return load(code, base, indices, dtype, 0, mask=mask, other=other)
    element = memory_type(dtype)
    if dtype.kind != "c":
        raw = _gather(code, base, indices, element, _align(dtype), mask)
        return _patched(code, from_memory(code, raw, dtype), dtype, mask, other)
    even = code.binary("arith.addi", indices, indices)
    odd = code.binary("arith.addi", even, code.const(1, indices.type))
    parts = [_gather(code, base, i, element, _align(dtype), mask) for i in (even, odd)]
    return _patched(code, Complex(*parts), dtype, mask, other)


def scatter_store(
    code: Code, value: Elem, base: Val, indices: Val, dtype: DType, *, mask: Val | None = None
) -> None:
    """Store each lane at its index of `indices` (i64); of equal indices the last lane wins."""
    if not indices.lanes:
        store(code, value, base, indices, dtype, mask=mask)
        return
    element, align = memory_type(dtype), _align(dtype)
    if isinstance(value, Complex):
        even = code.binary("arith.addi", indices, indices)
        odd = code.binary("arith.addi", even, code.const(1, indices.type))
        _scatter(code, value.re, base, even, element, align, mask)
        _scatter(code, value.im, base, odd, element, align, mask)
        return
    raw = to_memory(code, value, dtype)
    _scatter(code, raw, base, indices, element, align, mask)


def load_strided(
    code: Code,
    base: Val,
    index: Val | int,
    stride: int | Val,
    dtype: DType,
    lanes: int,
    *,
    mask: Val | None = None,
    other: float = 0,
) -> Elem:
    """Elements `index`, `index + stride`, … (`lanes` many); strides in elements, any sign."""
    if not lanes or stride == 1:
        return load(code, base, index, dtype, lanes, mask=mask, other=other)
    if stride == 0 and mask is None:
        return splat(code, load(code, base, index, dtype, 0), lanes)
    if stride == -1 and mask is None:
        first = code.add(code.i64(index) if isinstance(index, int) else index, 1 - lanes)
        return _reversed(code, load(code, base, first, dtype, lanes))
    return gather(code, base, _steps(code, index, stride, lanes), dtype, mask=mask, other=other)


def store_strided(
    code: Code,
    value: Elem,
    base: Val,
    index: Val | int,
    stride: int | Val,
    dtype: DType,
    *,
    mask: Val | None = None,
) -> None:
    """Store lanes at `index`, `index + stride`, …"""
    if not value.lanes or stride == 1:
        store(code, value, base, index, dtype, mask=mask)
        return
    scatter_store(code, value, base, _steps(code, index, stride, value.lanes), dtype, mask=mask)


def lane_numbers(code: Code, lanes: int) -> Val:
    """`0, 1, … lanes-1` as i64 lanes; the scalar 0 when `lanes` is 0."""
    if not lanes:
        return code.i64(0)
    return code.const_lanes(range(lanes), vector("i64", lanes))


def tail_mask(code: Code, left: Val, lanes: int) -> Val:
    """i1 per lane: whether the lane's number is below `left` (i64)."""
    return code.compare("arith.cmpi", "slt", lane_numbers(code, lanes), code.splat(left, lanes))


def _align(dtype: DType) -> int:
    return dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize


def _doubled(code: Code, index: Val | int) -> Val | int:
    return 2 * index if isinstance(index, int) else code.binary("arith.addi", index, index)


def _twice(lanes: int) -> list[int]:
    return [lane // 2 for lane in range(2 * lanes)]


def _steps(code: Code, index: Val | int, stride: int | Val, lanes: int) -> Val:
    first = code.splat(code.i64(index) if isinstance(index, int) else index, lanes)
    step = code.splat(code.i64(stride) if isinstance(stride, int) else stride, lanes)
    return code.add(first, code.mul(lane_numbers(code, lanes), step))


def _shuffle(code: Code, a: Val, b: Val, order: Sequence[int]) -> Val:
    kind = vector(a.element, len(order))
    return code.op(f"vector.shuffle {a}, {b} {list(order)} : {a.type}, {b.type}", kind)


def _reversed(code: Code, value: Elem) -> Elem:
    if isinstance(value, Complex):
        return Complex(_flip(code, value.re), _flip(code, value.im))
    return _flip(code, value)


def _flip(code: Code, value: Val) -> Val:
    return _shuffle(code, value, value, range(value.lanes - 1, -1, -1))


def from_memory(code: Code, raw: Val, dtype: DType) -> Val:
    """An element in registers from its bits in memory; not for complex dtypes."""
    if dtype.kind == "b":
        return code.compare("arith.cmpi", "ne", raw, code.const(0, raw.type))
    if dtype.kind == "f" and dtype.bits == 16:
        from graphmill.codegen.cpu.half import widen

        return widen(code, raw, dtype)
    return raw


def reinterpreted(code: Code, value: Val, src: DType, dst: DType) -> Val:
    """A real element's bits as another dtype of the same size."""
    raw, element = to_memory(code, value, src), memory_type(dst)
    if raw.element != element:
        kind = vector(element, raw.lanes)
        raw = code.op(f"arith.bitcast {raw} : {raw.type} to {kind}", kind)
    return from_memory(code, raw, dst)


def to_memory(code: Code, value: Val, dtype: DType) -> Val:
    """The bits in memory of an element in registers; not for complex dtypes."""
    """A real element as it is stored: bool as i8, f16 and bf16 as their bits."""
    if dtype.kind == "b":
        return code.convert("arith.extui", value, "i8")
    if dtype.kind == "f" and dtype.bits == 16:
        from graphmill.codegen.cpu.half import narrow

        return narrow(code, value, dtype)
    return value


def _patched(code: Code, value: Elem, dtype: DType, mask: Val | None, other: float) -> Elem:
    """Lanes left out by the mask read as zero; give them `other` when that is not zero."""
    if mask is None or other == 0:
        return value
    return select(code, mask, value, constant(code, other, dtype, value.lanes))


def _load(code: Code, address: Val, kind: str, align: int, mask: Val | None) -> Val:
    if mask is None:
        return code.load(address, kind, align)
    zero = code.const(0, kind)
    if not mask.lanes:
        with code.choose(mask, [zero]) as this:
            this.next = [code.load(address, kind, align)]
        return this.results[0]
    if _too_wide(code, kind):
        parts = [
            _load(code, part, half, align, some)
            for part, half, some in _halves(code, address, kind, mask)
        ]
        return _shuffle(code, parts[0], parts[1], range(mask.lanes))
    return code.op(
        f"llvm.intr.masked.load {address}, {mask}, {zero} {{alignment = {align} : i32}} : "
        f"(!llvm.ptr, {mask.type}, {kind}) -> {kind}",
        kind,
    )


def _too_wide(code: Code, kind: str) -> bool:
    """Whether a masked access takes more than one register.

    LLVM (22) loads without the mask where it splits such an access itself and one half of the
    mask is known to be false, so they are split here.
    """
    value = Val("", kind)
    bits = value.lanes * int(value.element[1:])
    return bool(code.unit.vector_bits) and bits > code.unit.vector_bits


def _halves(code: Code, address: Val, kind: str, mask: Val) -> list[tuple[Val, str, Val]]:
    """Address, type and mask of the two halves of a masked access."""
    element, lanes = Val("", kind).element, mask.lanes // 2
    half = vector(element, lanes)
    return [
        (code.at(address, start, element), half, _part(code, mask, start, lanes))
        for start in (0, lanes)
    ]


def _part(code: Code, value: Val, start: int, lanes: int) -> Val:
    return _shuffle(code, value, value, range(start, start + lanes))


def _store(
    code: Code, value: Val, address: Val, align: int, mask: Val | None, nontemporal: bool = False
) -> None:
    if mask is None:
        code.store(value, address, align, nontemporal=nontemporal)
    elif not mask.lanes:
        with code.when(mask):
            code.store(value, address, align)
    elif _too_wide(code, value.type):
        lanes = mask.lanes // 2
        for start, (part, _, some) in zip(
            (0, lanes), _halves(code, address, value.type, mask), strict=True
        ):
            _store(code, _part(code, value, start, lanes), part, align, some)
    else:
        if code.unit.vector_bits == 512 and int(value.element[1:]) < 32:
            mask = _hidden(code, mask)
        code.line(
            f"llvm.intr.masked.store {value}, {address}, {mask} {{alignment = {align} : i32}} : "
            f"{value.type}, {mask.type} into !llvm.ptr"
        )


def _hidden(code: Code, mask: Val) -> Val:
    """The mask as LLVM cannot know it.

    Of a masked store of narrowed integers whose mask has one lane, known, its AVX-512 code
    (LLVM 22) stores 32 bits.
    """
    word = f"i{mask.lanes}"
    bits = code.op(f"llvm.bitcast {mask} : {mask.type} to {word}", word)
    same = code.op(f'llvm.inline_asm "", "=r,0" {bits} : ({word}) -> {word}', word)
    return code.op(f"llvm.bitcast {same} : {word} to {mask.type}", mask.type)


def _addresses(code: Code, base: Val, indices: Val, element: str) -> Val:
    kind = f"vector<{indices.lanes}x!llvm.ptr>"
    text = (
        f"llvm.getelementptr {base}[{indices}] : (!llvm.ptr, {indices.type}) -> {kind}, {element}"
    )
    return code.op(text, kind)


def _gather(code: Code, base: Val, indices: Val, element: str, align: int, mask: Val | None) -> Val:
    where = code.const(True, vector("i1", indices.lanes)) if mask is None else mask
    kind, pointers = vector(element, indices.lanes), _addresses(code, base, indices, element)
    return code.op(
        f"llvm.intr.masked.gather {pointers}, {where}, {code.const(0, kind)} "
        f"{{alignment = {align} : i32}} : ({pointers.type}, {where.type}, {kind}) -> {kind}",
        kind,
    )


def _scatter(
    code: Code, value: Val, base: Val, indices: Val, element: str, align: int, mask: Val | None
) -> None:
    where = code.const(True, vector("i1", indices.lanes)) if mask is None else mask
    pointers = _addresses(code, base, indices, element)
    code.line(
        f"llvm.intr.masked.scatter {value}, {pointers}, {where} {{alignment = {align} : i32}} : "
        f"{value.type}, {where.type} into {pointers.type}"
    )
