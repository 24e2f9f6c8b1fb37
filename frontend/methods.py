"""Methods and attributes of traced arrays: those of `np.ndarray`, each a function of this layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from graphmill.frontend import core, misuse, shaping
from graphmill.frontend.array_functions import implementation
from graphmill.frontend.describe import failure, name_of
from graphmill.frontend.known import known
from graphmill.frontend.tracer import Tracer


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is a NumPy function of the array; `out=` is handled as there."""

    def method(x: Tracer, *args: Any, **kwargs: Any) -> Any:
        return x.__array_function__(function, (Tracer,), (x, *args), kwargs)

    return method


def _reshape(x: Tracer, *shape: Any, order: str = "C", copy: Any = None) -> Tracer:
    given = shape[0] if len(shape) == 1 else shape
    return shaping.reshape(x, given, order, copy=copy)


def _transpose(x: Tracer, *axes: Any) -> Tracer:
    given = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else (axes or None)
    return shaping.transpose(x, given)


def _astype(x: Tracer, dtype: Any, order: str = "K", casting: str = "unsafe",
            subok: bool = True, copy: bool = True) -> Tracer:  # fmt: skip
    to = core.as_dtype(dtype)
    if not np.can_cast(x.dtype, to.numpy, casting):  # type: ignore[arg-type]
        raise failure(
            "GM018",
            f"{x.element} to {to} with casting={casting!r}",
            [x],
            hint='leave casting= out or use "unsafe".',
        )
    result = core.astype(x, to)
    from graphmill.frontend.ufuncs import copied

    return copied(result) if result is x and copy else result


def _item(x: Tracer, *args: Any) -> Any:
    elements = known(x)
    if elements is None:
        raise misuse.as_number(x, "item")
    return elements.item(*args)


def _elements(name: str) -> Callable[..., Any]:
    """A method that only an array with known elements has."""

    def method(x: Tracer, *args: Any) -> Any:
        elements = known(x)
        if elements is None:
            raise misuse.as_array(x)
        return getattr(elements, name)(*args)

    return method


def _view(x: Tracer, dtype: Any = None) -> Any:
    """The array seen again; as another dtype of the same size, a copy of its bits."""
    if dtype is None or core.as_dtype(dtype) is x.element:
        return x[...]
    to = core.as_dtype(dtype)
    if (
        to.bits != x.element.bits
        or "c" in (to.kind, x.element.kind)
        or "b" in (to.kind, x.element.kind)
    ):
        raise failure("GM018", f"{x.element} seen as {to}", [x],
                      hint="a view has a dtype of the same size; .astype converts.")  # fmt: skip
    return core.emit("bitcast", x, dtype=to)


def _fill(x: Tracer, value: Any) -> None:
    x[...] = value


def _sort(x: Tracer, axis: Any = -1, kind: Any = None, *, stable: Any = None) -> None:
    x[...] = np.sort(x, axis=axis)


def _partition(x: Tracer, kth: Any, axis: Any = -1, kind: Any = None) -> None:
    x[...] = np.partition(x, kth, axis=axis)


def _conjugate(x: Tracer) -> Any:
    return np.conjugate(x)


def _dot(x: Tracer, other: Any) -> Any:
    ours = implementation(np.dot)
    assert ours is not None
    return ours(x, other)


def _to_device(x: Tracer, device: Any, /, *, stream: Any = None) -> Tracer:
    return x


METHODS: dict[str, Callable[..., Any]] = {
    **{
        name: _same(getattr(np, name))
        for name in (
            "sum", "prod", "mean", "var", "std", "max", "min", "all", "any", "argmax", "argmin",
            "cumsum", "cumprod", "squeeze", "swapaxes", "ravel", "clip", "repeat", "take",
            "diagonal", "trace", "argsort", "searchsorted", "round", "copy", "choose",
            "nonzero", "compress", "argpartition",
        )
    },
    "reshape": _reshape, "transpose": _transpose, "astype": _astype, "flatten": shaping.flatten,
    "item": _item, "tolist": _elements("tolist"), "tobytes": _elements("tobytes"),
    "fill": _fill, "view": _view, "sort": _sort, "partition": _partition,
    "conj": _conjugate, "conjugate": _conjugate, "dot": _dot, "to_device": _to_device,
}  # fmt: skip

PROPERTIES: dict[str, Callable[[Tracer], Any]] = {
    "T": shaping.transpose,
    "mT": shaping.matrix_transpose,
    "real": lambda x: np.real(x),
    "imag": lambda x: np.imag(x),
    "device": lambda x: "cpu",
}


def attribute(x: Tracer, name: str) -> Any:
    """`x.name` for what `np.ndarray` has and `Tracer` does not define itself."""
    if name in PROPERTIES:
        return PROPERTIES[name](x)
    if name in METHODS:
        return functools.partial(METHODS[name], x)
    if name.startswith("__"):
        raise AttributeError(name)
    raise _unknown(x, name)


def set_attribute(x: Tracer, name: str, value: Any) -> None:
    """`x.name = value`: NumPy allows `shape`, `dtype`, `real`, `imag`; traced arrays none."""
    hints = {
        "shape": f"write {name_of(x)} = {name_of(x)}.reshape(...)",
        "dtype": f"write {name_of(x)} = {name_of(x)}.astype(...)",
    }
    raise failure(
        "GM013",
        f"{name_of(x)}.{name} cannot be set",
        [x],
        why="a traced array is a value, not an object with attributes.",
        hint=hints.get(name, "keep the value in a variable of its own."),
    )


def _unknown(x: Tracer, name: str) -> Exception:
    known = [*METHODS, *PROPERTIES, "shape", "dtype", "ndim", "size", "itemsize", "nbytes"]
    import difflib

    close = difflib.get_close_matches(name, known, 2, 0.6)
    hint = f"did you mean {' or '.join('.' + c for c in close)}?" if close else ""
    exists = hasattr(np.ndarray, name)
    why = (
        "NumPy arrays have it, but it needs the elements or the memory of the array."
        if exists
        else "neither NumPy arrays nor traced values have it."
    )
    return failure("GM013", f"{name_of(x)}.{name}", [x], why=why, hint=hint)
