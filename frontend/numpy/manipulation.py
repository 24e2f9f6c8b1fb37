"""Shapes and orders: reshape, join, repeat, flip, roll."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmill.frontend import core
from graphmill.frontend.numpy.arrays import Array, is_traced
from graphmill.frontend.numpy.statistical import Axes


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """All arrays in their common shape."""
    return list(np.broadcast_arrays(*arrays))


def broadcast_to(x: Array, /, shape: Any) -> Array:
    """x repeated to a shape; sizes may be symbolic."""
    return np.broadcast_to(_or_traced(x, shape), shape)


def concat(arrays: Any, /, *, axis: int | None = 0) -> Array:
    """Arrays joined along an axis; None flattens them first."""
    return np.concatenate(arrays, axis=axis)


def expand_dims(x: Array, /, *, axis: int | tuple[int, ...] = 0) -> Array:
    """x with new axes of size 1."""
    return np.expand_dims(x, axis)


def flip(x: Array, /, *, axis: Axes = None) -> Array:
    """x with the order along axes turned round."""
    return np.flip(x, axis=axis)


def matrix_transpose(x: Array, /) -> Array:
    """x with its last two axes exchanged."""
    return np.matrix_transpose(x)


def moveaxis(x: Array, source: Any, destination: Any, /) -> Array:
    """x with some axes at other places."""
    return np.moveaxis(x, source, destination)


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """x with its axes in another order."""
    return np.transpose(x, axes)


def repeat(x: Array, repeats: Any, /, *, axis: int | None = None) -> Array:
    """Each element repeated along an axis; counts that differ are known while tracing."""
    return np.repeat(_or_traced(x, repeats), repeats, axis=axis)


def reshape(x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
    """x in another shape of as many elements; one size may be -1."""
    return np.reshape(_or_traced(x, shape), shape, copy=copy)


def roll(x: Array, /, shift: Any, *, axis: Axes = None) -> Array:
    """x with elements moved along axes, those beyond the end coming in at the start."""
    return np.roll(_or_traced(x, shift), shift, axis=axis)


def squeeze(x: Array, /, axis: int | tuple[int, ...]) -> Array:
    """x without axes of size 1."""
    return np.squeeze(x, axis=axis)


def stack(arrays: Any, /, *, axis: int = 0) -> Array:
    """Arrays of one shape joined along a new axis."""
    return np.stack(arrays, axis=axis)


def tile(x: Array, repetitions: tuple[int, ...], /) -> Array:
    """x repeated as a whole along each axis."""
    return np.tile(_or_traced(x, repetitions), repetitions)


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The slices of x along an axis."""
    return tuple(np.moveaxis(x, axis, 0))


def _or_traced(x: Array, *others: Any) -> Array:
    """x, traced where another argument is, so that NumPy hands the call over."""
    return core.as_tracer(x) if is_traced(*others) else x
