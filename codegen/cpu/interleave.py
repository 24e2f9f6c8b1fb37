"""Arrays whose last axis is short and unrolled: rows of few elements, read and written whole.

The elements of as many rows as there are lanes are contiguous. They are loaded as they lie and
sorted by shuffles into one vector for each position of the axis, or sorted back and stored: a
fraction of the work of gathering each vector with its stride.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphmill.codegen.cpu import memory
from graphmill.codegen.cpu.element import Elements, Override
from graphmill.codegen.cpu.emit import Code, Val
from graphmill.codegen.cpu.index import Index, Indices
from graphmill.codegen.cpu.kernel import Source
from graphmill.ir.graph import Value


def is_woven(source: Source, count: int) -> bool:
    """Whether an array's last axis has `count` positions and its rows follow one another."""
    plain = source.dtype.kind in "iuf"
    shape, strides = source.shape, source.strides
    if not plain or count == 1 or len(shape) < 2 or shape[-1] != count:
        return False
    return strides[-1] == 1 and strides[-2] == count


def woven(elements: Elements, value: Value, source: Source) -> Override:
    """How to read the woven array `value`: all positions of the last axis at once."""
    code, count = elements.code, source.shape[-1]
    assert isinstance(count, int)
    numbers = {Index(code.i64(n)): n for n in range(count)}

    def load(index: Indices, guard: Val | None) -> Val:
        number, rows = numbers.get(index[-1]), index[-2]
        others = all(i.uniform for i in index[:-2])
        if guard is not None or number is None or rows.step != 1 or not others:
            return elements.load(source, index, guard)  # type: ignore[return-value]
        parts = _load(elements, source, (*index[:-1], Index(code.i64(0))), count)
        for n, part in zip(numbers, parts, strict=True):
            elements.remember(value, (*index[:-1], n), part)
        return parts[number]

    return load


def store(elements: Elements, target: Source, index: Indices, values: Sequence[Val]) -> None:
    """Store the vectors of all positions of a woven array's last axis; `index` is of the first."""
    lanes, dtype = elements.lanes, target.dtype
    start = elements.offset(target, index)
    splats = [elements.code.splat(value, lanes) for value in values]
    parts = _weave(elements.code, splats)
    for number, (part, mask) in enumerate(zip(parts, _masks(elements, len(parts)), strict=True)):
        at = elements.code.add(start, number * lanes)
        memory.store(elements.code, part, target.pointer, at, dtype, mask=mask)


def _load(elements: Elements, source: Source, index: Indices, count: int) -> list[Val]:
    code, lanes = elements.code, elements.lanes
    start = elements.offset(source, index)
    loaded = []
    for number, mask in enumerate(_masks(elements, count)):
        at = code.add(start, number * lanes)
        value = memory.load(code, source.pointer, at, source.dtype, lanes, mask=mask)
        assert isinstance(value, Val)
        loaded.append(value)
    return _sort(code, loaded)


def _masks(elements: Elements, count: int) -> list[Val | None]:
    """The masks of the contiguous vectors for `elements.tail`, a mask of rows."""
    tail, lanes, code = elements.tail, elements.lanes, elements.code
    if tail is None:
        return [None] * count
    row = [lane // count for lane in range(count * lanes)]
    parts = [row[n * lanes : (n + 1) * lanes] for n in range(count)]
    return [_shuffled(code, tail, tail, part) for part in parts]


def _factor(count: int) -> int:
    return next(p for p in range(2, count + 1) if count % p == 0)


def _sort(code: Code, vectors: Sequence[Val]) -> list[Val]:
    """Vectors of every n-th element of what n vectors hold together."""
    count, lanes = len(vectors), vectors[0].lanes
    if count == 1:
        return list(vectors)
    p = _factor(count)
    found: list[list[Val]] = []
    for first in range(p):
        stream = []
        for group in range(count // p):
            places = [lane * p + first for lane in range(lanes)]
            stream.append(_picked(code, vectors[group * p : (group + 1) * p], places))
        found.append(_sort(code, stream))
    return [found[n % p][n // p] for n in range(count)]


def _weave(code: Code, vectors: Sequence[Val]) -> list[Val]:
    """The inverse: n vectors that hold one element of each of `vectors` after the other."""
    count, lanes = len(vectors), vectors[0].lanes
    if count == 1:
        return list(vectors)
    p = _factor(count)
    streams = [_weave(code, vectors[first::p]) for first in range(p)]
    found = []
    for group in range(count // p):
        together = [stream[group] for stream in streams]
        for part in range(p):
            places = [
                (place % p) * lanes + place // p
                for place in range(part * lanes, (part + 1) * lanes)
            ]
            found.append(_picked(code, together, places))
    return found


def _picked(code: Code, vectors: Sequence[Val], places: Sequence[int]) -> Val:
    """The elements at `places` of what the vectors hold together, by shuffles of two."""
    lanes = vectors[0].lanes
    result = vectors[0]
    for number, other in enumerate(vectors[1:], 1):
        order = []
        for lane, place in enumerate(places):
            known = place if number == 1 else lane  # where what came before put it
            order.append(lanes + place % lanes if place // lanes == number else known % lanes)
        result = _shuffled(code, result, other, order)
    return result


def _shuffled(code: Code, a: Val, b: Val, order: Sequence[int]) -> Val:
    return code.op(f"vector.shuffle {a}, {b} {list(order)} : {a.type}, {b.type}", a.type)
