"""Constants in the form that kernels read them: captured arrays, put through a few NumPy steps.

The steps are data. So an artifact in the compile cache holds none of a model's weights: they are
packed again, on several threads, from the arrays that the function captures. Executables share what
is packed from the same content by the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from graphmill.codegen.artifact import Artifact, Constant, Step
from graphmill.codegen.workers import Workers
from graphmill.ir.dtypes import dtype

if TYPE_CHECKING:
    from graphmill.ir.graph import Function

Array = np.ndarray[Any, Any]
Key = tuple[str, tuple[Step, ...], str, tuple[int, ...]]

LARGE = 4096  # bytes beyond which a constant of the graph is an argument of the code
ALIGN = 64


def _pad(array: Array, widths: Sequence[int]) -> Array:
    """Zeros behind the end of each axis."""
    return np.pad(array, [(0, width) for width in widths])


def _slice(array: Array, bounds: Sequence[int]) -> Array:
    """Starts, stops and steps of all axes, one after the other."""
    parts = np.reshape(bounds, (3, array.ndim)).T
    return array[tuple(slice(*map(int, part)) for part in parts)]


def _column_sums(array: Array, factor: Sequence[int]) -> Array:
    """`factor` times the sums over units of bytes `(panel, k, column, 4)`, as i32 before them."""
    sums = array.sum((1, 3), np.int32) * np.int32(factor[0])
    heads = sums.reshape(array.shape[0], 1, array.shape[2], 1).view(np.int8)
    return np.concatenate([heads, array.astype(np.int8)], 1)


def _winograd(array: Array, tile: Sequence[int]) -> Array:
    """Filters `(3, 3, …)`, transformed for tiles of this size."""
    from graphmill.codegen.toom_cook import transformed

    return transformed(array, tile[0])


STEPS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "transpose": np.transpose, "reshape": np.reshape, "slice": _slice, "reverse": np.flip,
    "pad": _pad, "column_sums": _column_sums, "winograd": _winograd,
}  # fmt: skip
# steps with another array, whose number they give
BINARY: dict[str, Callable[[Array, Array], Array]] = {"multiply": np.multiply}


def apply(
    array: Array, steps: Iterable[Step], others: Callable[[int], Array] = ().__getitem__
) -> Array:
    """The array after the steps; a view of it where NumPy has one. `others` by their numbers."""
    for name, numbers in steps:
        if name in BINARY:
            array = BINARY[name](array, others(numbers[0]))
        else:
            array = STEPS[name](array, numbers)
    return array


def renumbered(steps: Iterable[Step], by: int) -> tuple[Step, ...]:
    """The steps with the numbers of other arrays larger by so many."""
    return tuple(
        (name, (numbers[0] + by,) if name in BINARY else numbers) for name, numbers in steps
    )


def sources(function: Function) -> list[Array]:
    """The traced function's large constants in order: what `Constant.source` counts."""
    arrays = [op.attrs["value"] for op in function.walk() if op.name == "constant"]
    return [array for array in arrays if array.nbytes > LARGE]


# what executables in this process read, by content and steps, for as long as one of them lives
_packed: WeakValueDictionary[Key, Array] = WeakValueDictionary()


def complete(
    artifact: Artifact, sources: Sequence[Array], threads: int = 1, contents: Sequence[str] = ()
) -> Artifact:
    """The artifact with the data of all its constants, those with a source made from `sources`.

    `contents` are texts that differ where the sources do; with them data is shared.
    """
    with Workers(threads) as workers:
        constants = fill(artifact.constants, sources, workers, contents)
    return replace(artifact, constants=constants)


def fill(
    constants: Sequence[Constant],
    sources: Sequence[Array],
    workers: Workers,
    contents: Sequence[str] = (),
) -> tuple[Constant, ...]:
    """The constants with their data, which lies in one block that `workers` are still filling."""
    keys = [_key(constant, sources, contents) for constant in constants]
    known = [None if key is None else _packed.get(key) for key in keys]
    size = sum(
        c.nbytes + ALIGN for c, array in zip(constants, known, strict=True) if _lacks(c, array)
    )
    # large memory from NumPy is on huge pages where the system gives them
    block = np.empty(size + ALIGN, np.uint8)
    at = -block.__array_interface__["data"][0] % ALIGN
    found = []
    for constant, key, array in zip(constants, keys, known, strict=True):
        place = array
        if _lacks(constant, place):
            assert constant.source is not None
            place = block[at : at + constant.nbytes]
            source, others = sources[constant.source], partial(_stored, constants)
            workers.start(partial(_fill_one, constant, source, others, place, key))
            at += -(-constant.nbytes // ALIGN) * ALIGN
        if place is not None:
            constant = replace(constant, data=place.data.toreadonly())
        found.append(constant)
    return tuple(found)


def _lacks(constant: Constant, array: Array | None) -> bool:
    return constant.data is None and array is None


def _key(constant: Constant, sources: Sequence[Array], contents: Sequence[str]) -> Key | None:
    """What the bytes of a constant depend on; None where that may change while they are made."""
    if constant.data is not None or constant.source is None or not contents:
        return None
    if any(name in BINARY for name, _ in constant.steps):
        return None
    if not _frozen(sources[constant.source]):
        return None
    return contents[constant.source], constant.steps, constant.dtype, constant.shape


def _frozen(array: Array) -> bool:
    """Whether neither the array nor what it is a view of can be written to."""
    of: Any = array
    while isinstance(of, np.ndarray) and not of.flags.writeable:
        of = of.base
    return of is None or type(of) is bytes


def _stored(constants: Sequence[Constant], number: int) -> Array:
    constant = constants[number]
    assert constant.data is not None
    return np.frombuffer(constant.data, dtype(constant.dtype).numpy).reshape(constant.shape)


def _fill_one(
    constant: Constant,
    source: Array,
    others: Callable[[int], Array],
    place: Array,
    key: Key | None,
) -> None:
    out = place.view(dtype(constant.dtype).numpy).reshape(constant.shape)
    np.copyto(out, apply(source, constant.steps, others), casting="unsafe")
    if key is not None:
        _packed[key] = place
