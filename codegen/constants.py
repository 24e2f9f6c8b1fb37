"""Constants in the form that kernels read them: captured arrays, put through a few NumPy steps.

The steps are data. So an artifact in the compile cache holds none of a model's weights: they are
packed again, on several threads, from the arrays that the function captures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from graphmill.codegen.artifact import Artifact, Constant, Step
from graphmill.codegen.toom_cook import transformed
from graphmill.codegen.workers import Workers
from graphmill.ir.dtypes import dtype
from graphmill.ir.graph import Function

Array = np.ndarray[Any, Any]

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


def complete(artifact: Artifact, sources: Sequence[Array], threads: int = 1) -> Artifact:
    """The artifact with the data of all its constants, those with a source made from `sources`."""
    with Workers(threads) as workers:
        constants = fill(artifact.constants, sources, workers)
    return replace(artifact, constants=constants)


def fill(
    constants: Sequence[Constant], sources: Sequence[Array], workers: Workers
) -> tuple[Constant, ...]:
    """The constants with their data, which lies in one block that `workers` are still filling."""
    size = sum(c.nbytes + ALIGN for c in constants if c.data is None)
    # large memory from NumPy is on huge pages where the system gives them
    block = np.empty(size + ALIGN, np.uint8)
    at = -block.__array_interface__["data"][0] % ALIGN
    found = []
    for constant in constants:
        if constant.data is None:
            assert constant.source is not None
            place = block[at : at + constant.nbytes]
            source, others = sources[constant.source], partial(_stored, constants)
            workers.start(partial(_fill_one, constant, source, others, place))
            constant = replace(constant, data=place.data.toreadonly())
            at += -(-constant.nbytes // ALIGN) * ALIGN
        found.append(constant)
    return tuple(found)


def _stored(constants: Sequence[Constant], number: int) -> Array:
    constant = constants[number]
    assert constant.data is not None
    return np.frombuffer(constant.data, dtype(constant.dtype).numpy).reshape(constant.shape)


def _fill_one(
    constant: Constant, source: Array, others: Callable[[int], Array], place: Array
) -> None:
    out = place.view(dtype(constant.dtype).numpy).reshape(constant.shape)
    np.copyto(out, apply(source, constant.steps, others), casting="unsafe")
