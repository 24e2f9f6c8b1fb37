"""What a function is traced for: the dtype and shape of each argument, with named dims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphmill.frontend.errors import GraphmillError, error
from graphmill.frontend.trees import treat_as_leaf
from graphmill.ir.dims import Dim, DimLike, DimSyntaxError, parse_dim
from graphmill.ir.dtypes import DTypeError, dtype, of_scalar
from graphmill.ir.graph import Bounds
from graphmill.ir.types import TensorType, TypeSyntaxError, parse_type
from graphmill.records import record

Limits = tuple[int, int | None]

_MOST_BYTES = (1 << 63) - 1


@treat_as_leaf
@record
class Spec:
    """A tensor type with the bounds of its named dims; `weak` for a Python scalar."""

    type: TensorType
    bounds: tuple[tuple[str, Bounds], ...] = ()
    weak: bool = False

    @property
    def shape(self) -> tuple[DimLike, ...]:
        return self.type.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.type.dtype.numpy

    def __str__(self) -> str:
        return str(self.type) + (" weak" if self.weak else "")


def spec(of: Any, /, **bounds: int | Limits) -> Spec:
    """The spec for text (`"f32[batch, 784]"`), an array, a Python scalar, a type or a spec.

    Keywords bound named dims: `spec("f32[batch, 8]", batch=(1, 64))`; a lone number is the lower
    bound. A named dim may be any size from 0 otherwise. Raises GM043 for text that is no spec,
    GM040 for what is no array.
    """
    made = _spec(of)
    if not bounds:
        return made
    names = made.type.names
    for name in bounds:
        if name not in names:
            raise error("GM043", f"{made} has no dim {name!r}", hint="name it in the shape.")
    limits = dict(made.bounds) | {name: _bounds(name, b) for name, b in bounds.items()}
    return Spec(made.type, tuple(sorted(limits.items(), key=lambda item: item[0])), made.weak)


def _bounds(name: str, given: int | Limits) -> Bounds:
    low, high = (given, None) if isinstance(given, int) else given
    if low < 0 or (high is not None and high < low):
        raise error(
            "GM043",
            f"the bounds {given} of {name!r} hold no size",
            hint=f"write {name}=(lowest, highest), for example {name}=(1, 64).",
        )
    return Bounds(low, high)


def argument_spec(of: Any, path: str) -> Spec:
    """The spec of an argument of a call, which errors name by its path."""
    try:
        return _spec(of)
    except GraphmillError as problem:
        if problem.code in ("GM019", "GM040"):
            problem.detail = f"{path}: {problem.detail}".replace(": the argument is", " is")
        raise


def _spec(of: Any) -> Spec:
    if isinstance(of, Spec):
        return of
    if isinstance(of, TensorType):
        return Spec(of)
    if isinstance(of, str):
        return Spec(_parse(of))
    if isinstance(of, bool | int | float | complex) and not isinstance(of, np.generic):
        return Spec(TensorType(of_scalar(of)), weak=True)
    found = array_type(of)
    if found is None:
        raise not_an_array(of, "the argument")
    return Spec(found)


def _parse(text: str) -> TensorType:
    try:
        found = parse_type(text)
    except (TypeSyntaxError, DimSyntaxError, DTypeError) as problem:
        detail = str(problem).split("; write")[0]
        raise error("GM043", detail, hint='write for example "f32[batch, 784]".') from None
    if not isinstance(found, TensorType):
        raise error("GM043", f"{text!r} is no array", hint='write for example "f32[batch, 784]".')
    known = [dim for dim in found.shape if isinstance(dim, int)]
    if min(known, default=0) < 0:
        raise error("GM043", f"{text!r} has a negative dim", hint="write a size from 0 on.")
    if math.prod(known) * found.dtype.itemsize > _MOST_BYTES:
        raise error("GM043", f"{text!r} has more bytes than memory", hint="write a smaller one.")
    return found


def means_more(of: Any) -> bool:
    """Whether an array's class gives its elements a meaning that a plain array would lose."""
    kind = type(of)
    # a plain array does not, and to name np.ma would import it
    if kind is np.ndarray or not isinstance(of, np.ndarray):
        return False
    own = ("__array_ufunc__", "__array_function__")
    return isinstance(of, np.ma.MaskedArray | np.matrix) or any(
        getattr(kind, name) is not getattr(np.ndarray, name) for name in own
    )


def array_type(of: Any) -> TensorType | None:
    """The type of an array of any library (by its dtype and shape); None for what is none."""
    if means_more(of) or isinstance(of, np.recarray):
        return None
    shape = getattr(of, "shape", None)
    if not isinstance(shape, tuple | list) and not hasattr(shape, "__iter__"):
        return None
    given = getattr(of, "dtype", None)
    if getattr(given, "kind", "") in tuple("USO"):
        return None
    try:
        element = dtype(given)
    except DTypeError:
        # torch and others print as `torch.float32`
        name = str(given).rsplit(".", 1)[-1]
        try:
            element = dtype(name)
        except DTypeError as problem:
            raise error("GM019", str(problem), hint="convert with .astype first.") from None
    dims = tuple([d if type(d) is int else _dim(d) for d in shape])  # type: ignore[union-attr]
    return TensorType(element, dims)


def _dim(given: Any) -> DimLike:
    from graphmill.frontend.sizes import Size

    return given.dim if isinstance(given, Size) else int(given)


def not_an_array(of: Any, what: str) -> Exception:
    """GM040 for an argument."""
    kind = type(of).__name__
    if isinstance(of, np.ma.MaskedArray | np.matrix | np.recarray):
        kind = {np.matrix: "matrix", np.recarray: "record array"}.get(type(of), "masked array")
    elif isinstance(of, np.ndarray | np.generic) and not means_more(of):
        kind = {"U": "text", "S": "bytes"}.get(of.dtype.kind, "array of objects")
    return error(
        "GM040",
        f"{what} is {'an' if kind[0] in 'aeiou' else 'a'} {kind}".replace("a text", "text"),
        why="arrays, Python numbers and nested tuples, lists, dicts, named tuples and dataclasses "
        "of them are traced; anything else has to be static.",
        hint="name the argument in static=..., or close over the value instead of passing it.",
    )


def with_dynamic(given: Spec, dynamic: Any, what: str) -> Spec:
    """`given` with the dims that `dynamic` names kept symbolic.

    `dynamic` is a spec (or its text), whose fixed dims must agree, or one entry per axis: a dim's
    name or expression, None or the number for a static dim. Raises GM045 where they do not fit.
    """
    if isinstance(dynamic, str | Spec | TensorType):
        wanted = spec(dynamic)
        entries: Sequence[Any] = wanted.shape
        bounds = dict(wanted.bounds)
        if wanted.type.dtype is not given.type.dtype:
            raise _no_fit(f"{what} is {given.type.dtype}, dynamic= says {wanted.type.dtype}")
    else:
        entries, bounds = list(dynamic), {}
    if len(entries) != given.type.rank:
        raise _no_fit(f"{what} has {given.type.rank} axes, dynamic= gives {len(entries)}")
    dims: list[DimLike] = []
    for axis, (entry, dim) in enumerate(zip(entries, given.shape, strict=True)):
        dims.append(_dynamic_dim(entry, dim, f"axis {axis} of {what}"))
    limits = tuple(sorted(bounds.items()))
    return Spec(given.type.with_shape(tuple(dims)), limits, False)


def _dynamic_dim(entry: Any, size: DimLike, what: str) -> DimLike:
    if entry is None:
        return size
    try:
        dim = parse_dim(entry) if isinstance(entry, str) else entry
    except DimSyntaxError as problem:
        raise _no_fit(str(problem)) from None
    if isinstance(dim, int) and isinstance(size, int) and dim != size:
        raise _no_fit(f"{what} has {size} elements, dynamic= says {dim}")
    if not isinstance(dim, int | Dim):
        raise _no_fit(f"{what}: {entry!r} is neither a name, nor a number, nor None")
    return dim


def _no_fit(detail: str) -> Exception:
    return error(
        "GM045", detail,
        hint='give one entry per axis, dynamic={"x": ("batch", None)}, or a spec, '
        'dynamic={"x": "f32[batch, 784]"}.',
    )  # fmt: skip


def merge_bounds(specs: Sequence[Spec]) -> dict[str, Bounds]:
    """The named dims of all specs in order of appearance; bounds given twice must overlap."""
    found: dict[str, Bounds] = {}
    for one in specs:
        given: Mapping[str, Bounds] = dict(one.bounds)
        for dim in one.shape:
            for name in sorted(dim.names) if isinstance(dim, Dim) else ():
                found.setdefault(name, Bounds())
        for name, limits in given.items():
            old = found.get(name, Bounds())
            highs = [h for h in (old.high, limits.high) if h is not None]
            merged = Bounds(max(old.low, limits.low), min(highs) if highs else None)
            if merged.high is not None and merged.high < merged.low:
                raise error(
                    "GM045",
                    f"the bounds of {name!r} exclude each other",
                    hint="give each dim's bounds once.",
                )
            found[name] = merged
    _check_solvable(specs, found)
    return found


def _check_solvable(specs: Sequence[Spec], names: Mapping[str, Bounds]) -> None:
    """Every named dim must stand alone at some axis (or times a number): a call reads it off."""
    dims = [dim for one in specs for dim in one.shape if isinstance(dim, Dim)]
    alone = {str(dim.terms[0][0][0]) for dim in dims if _is_multiple(dim)}
    for name in names:
        if name not in alone:
            raise error(
                "GM045", f"no argument has an axis of exactly {name!r} elements",
                why="a call reads the size of each named dim off an argument's shape.",
                hint=f"use {name} itself as a dim of some argument.",
            )  # fmt: skip


def _is_multiple(dim: Dim) -> bool:
    """Whether a dim is `n` or `4*n`."""
    return len(dim.terms) == 1 and len(dim.terms[0][0]) == 1


def with_layout(made: Spec, leaf: Any) -> Spec:
    """A non-contiguous array is read in place, by its strides."""
    if not isinstance(leaf, np.ndarray) or leaf.flags.c_contiguous:
        return made
    item = leaf.dtype.itemsize
    usable = leaf.flags.aligned and all(s % item == 0 for s in leaf.strides)
    if not usable:
        return made
    type = made.type
    strided = TensorType(type.dtype, type.shape, "strided", type.device)
    return Spec(strided, made.bounds, made.weak)
