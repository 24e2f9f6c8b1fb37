"""Binding named dims to numbers."""

from __future__ import annotations

from typing import Any

from graphmill.ir.dims import Dim, DimLike
from graphmill.ir.graph import Block, Function, Value
from graphmill.ir.types import TensorType
from graphmill.passes.manager import register_pass
from graphmill.passes.statistics import count


class DimBindingError(ValueError):
    """A binding that names no dim of the function, or a size outside its bounds."""


@register_pass("specialise")
def specialise(function: Function, *, dims: str = "") -> Function:
    """Gives named dims fixed sizes (`dims=batch:8+n:3`), so that shapes are numbers.

    Raises `DimBindingError` for a dim the function has not, or a size outside its bounds.
    """
    sizes: dict[str, DimLike] = {}
    for part in filter(None, dims.split("+")):
        name, _, size = part.partition(":")
        bounds = function.dims.get(name)
        if bounds is None or not size.isdigit():
            known = ", ".join(function.dims) or "none"
            raise DimBindingError(f"{part!r} is no size of a dim; the dims are {known}")
        if int(size) < bounds.low or (bounds.high is not None and int(size) > bounds.high):
            raise DimBindingError(f"{name} = {size} is outside {bounds.low}..{bounds.high}")
        sizes[name] = int(size)
    function = function.clone()
    function.dims = {name: b for name, b in function.dims.items() if name not in sizes}
    _bind(function.block, sizes)
    count("dims", len(sizes))
    return function


def _bind(block: Block, sizes: dict[str, DimLike]) -> None:
    for arg in block.args:
        _retype(arg, sizes)
    for op in block.ops:
        op.attrs = {key: _attribute(value, sizes) for key, value in op.attrs.items()}
        for result in op.results:
            _retype(result, sizes)
        for region in op.regions:
            _bind(region.block, sizes)


def _retype(value: Value, sizes: dict[str, DimLike]) -> None:
    if isinstance(value.type, TensorType):
        value.type = value.type.substitute(sizes)


def _attribute(value: Any, sizes: dict[str, DimLike]) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_attribute(item, sizes) for item in value)
    return value.substitute(sizes) if isinstance(value, Dim | TensorType) else value
