"""Types of values: tensors and effect tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from graphmill.ir.dims import DimLike, evaluate, parse_dim, product, substitute
from graphmill.ir.dtypes import DType, dtype
from graphmill.records import record


@record
class TensorType:
    """`f32[batch, 784]`: a dtype and dims; later a layout (`@ strided`) and a device.

    `layout` None means C-contiguous; `strided` means run-time strides (parameters only); other
    names are given by the layout pass. `device` None means where the function runs.
    """

    dtype: DType
    shape: tuple[DimLike, ...] = ()
    layout: str | None = None
    device: str | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> DimLike:
        """The number of elements."""
        return product(self.shape)

    @property
    def nbytes(self) -> DimLike:
        """Bytes of the contiguous array."""
        return self.size * self.dtype.itemsize

    @property
    def is_static(self) -> bool:
        """Whether every dim is a number."""
        return all(isinstance(dim, int) for dim in self.shape)

    @property
    def names(self) -> frozenset[str]:
        """The named dims in the shape."""
        return frozenset().union(*(d.names for d in self.shape if not isinstance(d, int)))

    def with_shape(self, shape: tuple[DimLike, ...]) -> TensorType:
        """The contiguous type with another shape; the same object when that changes nothing."""
        if self.layout is None and shape == self.shape:
            return self
        return TensorType(self.dtype, shape, None, self.device)

    def with_dtype(self, to: DType) -> TensorType:
        """The contiguous type with another dtype; the same object when that changes nothing."""
        if self.layout is None and to is self.dtype:
            return self
        return TensorType(to, self.shape, None, self.device)

    def substitute(self, dims: Mapping[str, DimLike]) -> TensorType:
        """The type with named dims replaced."""
        return replace(self, shape=tuple(substitute(d, dims) for d in self.shape))

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape when every named dim has the given size."""
        return tuple(evaluate(d, sizes) for d in self.shape)

    def __str__(self) -> str:
        text = f"{self.dtype}[{', '.join(map(str, self.shape))}]"
        text += f" @ {self.layout}" if self.layout else ""
        return text + (f" on {self.device}" if self.device else "")

    __repr__ = __str__


@record
class TokenType:
    """The order of effects: reads and writes of variables take one and give one."""

    def __str__(self) -> str:
        return "token"

    __repr__ = __str__


Type = TensorType | TokenType
TOKEN = TokenType()


class TypeSyntaxError(ValueError):
    """Text that is no type."""


_TYPE = r"(\w+)\s*\[([^\]]*)\](?:\s*@\s*(\w+))?(?:\s*on\s+([\w:]+))?"


def tensor(of: object, *shape: DimLike | str) -> TensorType:
    """`tensor("f32", "batch", 784)`."""
    dims = tuple(parse_dim(d) if isinstance(d, str) else d for d in shape)
    return TensorType(dtype(of), dims)


def parse_type(text: str) -> Type:
    """Parse `f32[batch, 784]`, `f32[8] @ strided`, `f32[] on cuda:0` or `token`."""
    text = text.strip()
    if text == "token":
        return TOKEN
    match = re.fullmatch(_TYPE, text)
    if not match:
        raise TypeSyntaxError(f"{text!r} is no type; write for example f32[batch, 784]")
    try:
        dims = tuple(parse_dim(part) for part in split_dims(match[2]))
        return TensorType(dtype(match[1]), dims, match[3], match[4])
    except (TypeError, ValueError) as error:
        raise TypeSyntaxError(f"{text!r} is no type: {error}") from None


def split_dims(text: str) -> list[str]:
    """Split at the commas outside parentheses."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    last = text[start:]
    return [*parts, last] if last.strip() or parts else []
