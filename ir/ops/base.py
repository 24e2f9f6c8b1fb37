"""The record every op is: one `OpDef` holds typing rule, NumPy meaning, cost and lowering data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphmill.ir.dims import DimLike
from graphmill.ir.types import TensorType, Type
from graphmill.records import record
from graphmill.tables import Table

if TYPE_CHECKING:
    from graphmill.ir.graph import Op, Region


class TypeRuleError(TypeError):
    """Operands or attributes an op does not take; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownOpError(KeyError):
    """An op name that no record has."""

    def __str__(self) -> str:
        return str(self.args[0])


@record
class Cost:
    """Work of one op: floating-point (or integer) operations, and bytes read and written."""

    flops: DimLike
    bytes: DimLike


@record
class Domain:
    """Where sample operands for generated tests come from: an interval of real numbers."""

    low: float = -4.0
    high: float = 4.0


Infer = Callable[[Sequence[Type], Mapping[str, Any], Sequence["Region"]], Sequence[Type]]


@record
class OpDef:
    """One op.

    `operands` names them (`*xs` is variadic). `attrs` maps each attribute to its kind: `int`,
    `ints`, `dim`, `dims`, `bool`, `bools`, `str`, `float`, `dtype`, `array`, `pairs` (pairs of
    dims), `value` (a number). `kinds` are the dtype kinds operands may have. `fusion` tells the
    fusion pass what the op is inside a kernel: `elementwise`, `index` (each result element is
    one operand element), `reduce`, `contract`, `view` (no data moves) or `none`. `mlir` gives
    the scalar lowering by dtype kind where it is one MLIR op.
    """

    name: str
    family: str
    operands: tuple[str, ...]
    doc: str
    infer: Infer
    reference: Callable[..., Any] | None
    attrs: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    kinds: str = "biufc"
    effect: str = "pure"
    fusion: str = "none"
    mlir: Mapping[str, str] = field(default_factory=dict)
    flops: float = 0.0
    cost: Callable[[Op], Cost] | None = None
    domain: Domain = Domain()
    terminator: bool = False

    @property
    def variadic(self) -> bool:
        return any(name.startswith("*") for name in self.operands)

    @property
    def pure(self) -> bool:
        """Whether the op may be removed, merged and moved."""
        return self.effect == "pure" and not self.terminator


# modules of this folder that register their ops; one with an op that is asked for is loaded then,
# and those before it: what most functions use comes first
FAMILIES = (
    "elementwise", "shape", "control", "reduce", "contract", "indexing", "order", "random",
    "effects", "blocked", "devices", "factor",
)  # fmt: skip
_REGISTRY = Table[str, OpDef]()


def register(definition: OpDef) -> OpDef:
    """Add an op to the table; a name is taken once."""
    _REGISTRY.enter(definition.name, definition, sys._getframe(1).f_globals["__name__"])
    return definition


def lookup(name: str) -> OpDef:
    """The record of the op called `name`."""
    found = _REGISTRY.find(name)
    if found is not None:
        return found
    for family in FAMILIES:
        import_module(f"graphmill.ir.ops.{family}")
        found = _REGISTRY.find(name)
        if found is not None:
            return found
    raise UnknownOpError(f"there is no op {name!r}")


def all_ops() -> Mapping[str, OpDef]:
    """Every op by name."""
    for family in FAMILIES:
        import_module(f"graphmill.ir.ops.{family}")
    return _REGISTRY


# ---- what typing rules share


def tensors(name: str, types: Sequence[Type]) -> list[TensorType]:
    """The operand types, which must all be tensors."""
    for i, type in enumerate(types):
        if not isinstance(type, TensorType):
            raise TypeRuleError(f"{name}: operand {i} is a {type}, not a tensor")
    return list(types)  # type: ignore[arg-type]


def check_count(definition: OpDef, types: Sequence[Type]) -> None:
    """The number of operands must be the record's."""
    if len(types) != len(definition.operands) and not definition.variadic:
        wanted = len(definition.operands)
        raise TypeRuleError(f"{definition.name} takes {wanted} operands, got {len(types)}")


def check_kinds(definition: OpDef, types: Sequence[Type]) -> None:
    """Every tensor operand's dtype kind must be one of the record's."""
    for type in types:
        if isinstance(type, TensorType) and type.dtype.kind not in definition.kinds:
            raise TypeRuleError(
                f"{definition.name} is not defined for {type.dtype}",
                f"cast first, for example x.astype(np.{_suggest(definition.kinds)})",
            )


def _suggest(kinds: str) -> str:
    choices = {"f": "float32", "i": "int32", "c": "complex64", "b": "bool_", "u": "uint32"}
    return next(name for kind, name in choices.items() if kind in kinds)


def same_type(name: str, types: Sequence[TensorType]) -> TensorType:
    """All operands must have one shape and dtype; returns that type, contiguous."""
    first = types[0]
    for other in types[1:]:
        if other.shape != first.shape:
            raise TypeRuleError(
                f"{name}: shapes {list(first.shape)} and {list(other.shape)} differ",
                "broadcast one operand to the other's shape",
            )
        if other.dtype is not first.dtype:
            raise TypeRuleError(
                f"{name}: dtypes {first.dtype} and {other.dtype} differ", "cast one operand"
            )
    return first.with_shape(first.shape)


def check_axes(name: str, axes: Sequence[int], rank: int) -> None:
    """Axes must be distinct and in range (already non-negative)."""
    for axis in axes:
        if not 0 <= axis < rank:
            raise TypeRuleError(f"{name}: axis {axis} is out of range for rank {rank}")
    if len(set(axes)) != len(axes):
        raise TypeRuleError(f"{name}: axes {list(axes)} repeat")


def is_known(*dims: DimLike) -> bool:
    """Whether all dims are numbers."""
    return all(isinstance(d, int) for d in dims)
