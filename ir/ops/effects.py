"""State: variables read and assigned in the order of effect tokens; run-time checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphmill.ir.graph import Region
from graphmill.ir.ops.base import OpDef, TypeRuleError, check_count, register, tensors
from graphmill.ir.types import TOKEN, TensorType, TokenType, Type

Attrs = Mapping[str, Any]
Types = Sequence[Type]
Regions = Sequence[Region]


def _infer_token(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    return [TOKEN]


register(OpDef("token", "effects", (), "A fresh token: no effect came before", _infer_token, None))


def _infer_join(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    if any(not isinstance(type, TokenType) for type in types):
        raise TypeRuleError("join: takes tokens only")
    return [TOKEN]


register(
    OpDef("join", "effects", ("*tokens",), "A token after all the given ones", _infer_join, None)
)


def _infer_read(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(READ, types)
    if not isinstance(types[0], TokenType):
        raise TypeRuleError(f"variable.read: takes a token, not {types[0]}")
    return [attrs["type"], TOKEN]


READ = register(
    OpDef(
        "variable.read", "effects", ("token",), "The value of a variable, and the token after",
        _infer_read, None, attrs={"name": "str", "type": "type"}, effect="reads",
    )
)  # fmt: skip


def _infer_assign(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(ASSIGN, types)
    if not isinstance(types[0], TensorType) or not isinstance(types[1], TokenType):
        raise TypeRuleError("variable.assign: takes a tensor and a token")
    return [TOKEN]


ASSIGN = register(
    OpDef(
        "variable.assign", "effects", ("value", "token"), "Stores into a variable",
        _infer_assign, None, attrs={"name": "str"}, effect="writes",
    )
)  # fmt: skip


def _infer_check(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    type, *bound = tensors("check", types)
    if attrs["kind"] not in ("nan", "bounds") or bound:
        raise TypeRuleError(f"check: kind {attrs['kind']!r} is neither 'nan' nor 'bounds'")
    if attrs["kind"] == "bounds" and not type.dtype.is_integer:
        raise TypeRuleError(f"check: indices are {type.dtype}, not integers")
    return [type.with_shape(type.shape)]


CHECK = register(
    OpDef(
        "check", "effects", ("x",),
        "x itself; at run time the first NaN or infinity (kind nan), or the first index outside "
        "-size … size-1 (kind bounds), is reported with the op's location and stops the call",
        _infer_check, None, attrs={"kind": "str", "size": "dim", "axis": "int"}, effect="checks",
    )
)  # fmt: skip


def _infer_require(types: Types, attrs: Attrs, regions: Regions) -> list[Type]:
    check_count(REQUIRE, types)
    return []


REQUIRE = register(
    OpDef(
        "require", "effects", (),
        "At run time `size` must be `least` or more: a choice among too few elements, such as "
        "argmax along an empty axis, is reported with the op's location and stops the call",
        _infer_require, None, attrs={"size": "dim", "least": "dim"}, effect="checks",
    )
)  # fmt: skip
